"""What a person reads about an audit: a verdict per model, its findings, the counts; in a terminal, as Markdown, as HTML."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set

from ww_static.errors import escape
from ww_static.models import Source
from ww_static.outputs.placing import from_here, sources_of
from ww_static.outputs.texts import Line, counted, inert, shortened
from ww_static.policies.judgement import Judgement
from ww_static.policies.standing import Standing, covered, standings, verdict
from ww_static.rows import FindingRow
from ww_static.rules.catalogue import RULES
from ww_static.tables import Tables

NAME_WIDTH = 52
MESSAGE_WIDTH = 300  # characters of one finding; the other formats have all of it
MOST_SHOWN = 60  # findings, and models that pass, on a page that is not asked for all
MARKDOWN_BYTES = 900_000  # a step summary takes 1 MiB
_NOUNS = {"error": "error", "warn": "warning", "info": "note"}
_WHY = {
    "interrupted": "the run was stopped before its end",
    "internal_error": "a bug of ww-static", "unreadable": "something could not be read", "inconclusive": "something could not be judged",
    "nothing_to_audit": "there was nothing to audit", "violated": "the policy is violated",
}  # fmt: skip
_STYLES = {"failed": "bold red", "unread": "bold yellow", "passed": "green", "error": "red", "warn": "yellow", "info": ""}


def lines(result: Tables, everything: bool) -> list[Line]:
    """The verdicts with their findings; unless `everything` is asked for, no notes, and only the gravest of many."""
    judgement = _judgement(result)
    models = standings(judgement, result.rows, result.file_rows)
    shown = _gravest(models, everything)
    sources = sources_of(result)
    page = [] if len(models) == 1 else [Line(_overall(models, judgement), _STYLES[verdict(judgement.reasons)])]
    passed = 0
    for model in models:
        passed += not model.findings and not model.reasons
        if everything or model.findings or model.reasons or passed <= MOST_SHOWN:
            page.append(Line(_headline(model, sources), _STYLES[model.verdict], 8))
            page += _details(model, shown, everything)
    if passed > MOST_SHOWN and not everything:
        page.append(Line(f"PASSED  {counted(passed - MOST_SHOWN, 'further model')}: no findings", _STYLES["passed"]))
    return page


def _details(model: Standing, shown: Set[int], everything: bool) -> Iterator[Line]:
    """The findings of a model that are shown, and how many are not."""
    for one in model.findings:
        if id(one) in shown:
            yield Line(_sentence(one, model), _STYLES[one.severity or "info"], 16)
    hidden = [one for one in model.findings if id(one) not in shown]
    if hidden:
        noun = "note" if all(one.severity == "info" for one in hidden) else "further finding"
        yield Line(f"  {counted(len(hidden), noun)}: -v shows all, -o writes all")
    for one in model.suppressed if everything else ():
        yield Line(f"{_sentence(one, model)} (suppressed: {_cut(one.suppressed)})", "dim", 16)


def closing(result: Tables) -> list[Line]:
    """What was counted, by which policy it was judged, and what the exit code is."""
    judgement = _judgement(result)
    numbers = ", ".join(counted(judgement.counts.get(severity, 0), noun) for severity, noun in _NOUNS.items())
    policy = judgement.policy
    why = "; ".join(_WHY.get(reason, reason) for reason in judgement.reasons)
    origin = f"policy {escape(policy.source)}" if policy.source is not None else "no policy file"
    said = [f"findings: {numbers}, {judgement.suppressed} suppressed"]
    if judgement.against is not None:
        said.append("against the baseline: " + ", ".join(f"{count} {status}" for status, count in judgement.against.items()))
    share = covered(judgement)
    if share is not None:
        said.append(f"coverage: {math.floor(1000 * share) / 10:.1f} % of the bytes of weights in readable files were judged")
    said.append(
        f"profile {policy.profile}, {origin}, fails on {policy.fail_on}: exit code {judgement.exit_code}"
        + (f" ({why})" if why else "")
    )
    return [Line(line, "", 2) for line in said]


def verdict_lines(result: Tables) -> list[str]:
    """One line per model that does not pass, for the log of a run whose result goes to files."""
    judgement = _judgement(result)
    models = standings(judgement, result.rows, result.file_rows)
    sources = sources_of(result)
    return [_headline(model, sources) for model in models if model.reasons]


def markdown(result: Tables, counts: Sequence[str]) -> str:
    """The page for step summaries and reviews, in at most `MARKDOWN_BYTES`; `counts` are further lines of its end."""
    judgement = _judgement(result)
    models = standings(judgement, result.rows, result.file_rows)
    head = [f"## ww-static audit: {verdict(judgement.reasons)}", ""]
    sources = sources_of(result)
    verdicts = [f"| {model.verdict} | {inert(_label(model, sources))} | {inert(_why(model))} |" for model in models]
    pairs = sorted(((one, model) for model in models for one in model.findings), key=lambda pair: _rank(pair[0]))
    found = [_markdown_row(one, _label(model, sources)) for one, model in pairs]
    end = [*(f"{inert(line)}\n" for line in (*counts, *(one.text for one in closing(result))))]
    room = MARKDOWN_BYTES - sum(len(line.encode()) + 1 for line in (*head, *end)) - 1000  # of headings and what is cut
    body, room = _table("| verdict | model | why |\n|---|---|---|", verdicts, "models", room)
    rows, room = _table(
        "| severity | code | rule | model | tensor | finding |\n|---|---|---|---|---|---|", found, "findings", room
    )
    return "\n".join([*head, *body, *rows, *end]).rstrip() + "\n"


def _table(head: str, rows: Sequence[str], noun: str, room: int) -> tuple[list[str], int]:
    """A table of as many rows as there is room for, with the number of the others, and the room that is left."""
    kept: list[str] = []
    for row in rows:
        room -= len(row.encode()) + 1
        if room < 0:
            break
        kept.append(row)
    cut = len(rows) - len(kept)
    if not rows:
        return [], room
    return [head, *kept, "", *([f"{cut} further {noun} are not shown.", ""] if cut else [])], max(room, 0)


def _markdown_row(one: FindingRow, label: str) -> str:
    cells = (one.severity or "", one.code or "", _rule(one), label, _place(one), _cut(one.message))
    return "| " + " | ".join(inert(text) if text else "" for text in cells) + " |"


def _judgement(result: Tables) -> Judgement:
    assert result.judgement is not None
    return result.judgement


def _rank(one: FindingRow) -> int:
    return list(_NOUNS).index(one.severity or "info")


def _gravest(models: Sequence[Standing], everything: bool) -> set[int]:
    found = sorted((one for model in models for one in model.findings), key=_rank)
    told = [one for one in found if one.severity != "info" or one.outcome != "violation"]
    return {id(one) for one in (found if everything else told[:MOST_SHOWN])}


def _overall(models: Sequence[Standing], judgement: Judgement) -> str:
    found = Counter(model.verdict for model in models if model.model_id is not None)
    words = ", ".join(f"{found[word]} {word}" for word in ("failed", "unread", "passed") if found[word])
    words += ", policy failed" if any(model.model_id is None and model.reasons for model in models) else ""
    total = counted(sum(found.values()), "model")
    return f"{verdict(judgement.reasons).upper()}  {total}" + (f": {words}" if words else "")


def _headline(model: Standing, sources: Mapping[str | None, Source]) -> str:
    return f"{model.verdict.upper()}  {_label(model, sources)}: {_why(model)}"


def _label(model: Standing, sources: Mapping[str | None, Source]) -> str:
    """Where a model lies, after its name where that is not a part of it."""
    if model.model_id is None:
        return "policy"
    source = sources.get(model.model_id)
    place = escape(from_here(source, source.shown) if source is not None else model.file or "")
    name = escape(model.model_id)
    return shortened(place, NAME_WIDTH) if name in place else f"{shortened(name, NAME_WIDTH)} ({shortened(place, NAME_WIDTH)})"


def _why(model: Standing) -> str:
    numbers = [counted(count, _NOUNS[severity]) for severity, count in model.counts.items() if count]
    parts = [_WHY.get(reason, reason) for reason in model.reasons if reason != "violated"] + [
        ", ".join(numbers) or "no findings"
    ]
    codes = sorted({one.code or "" for one in model.findings})
    listed = f" ({', '.join(codes)})" if codes else ""
    return "; ".join(parts) + listed + (f", {len(model.suppressed)} suppressed" if model.suppressed else "")


def _sentence(one: FindingRow, model: Standing) -> str:
    place = _place(one)
    if one.file is not None and one.file != model.file:
        place = ": ".join(part for part in (shortened(escape(one.file), NAME_WIDTH), place) if part)
    state = f" ({one.baseline})" if one.baseline is not None else ""
    parts = (f"  {one.severity or '':5}  {one.code} {_rule(one)}{state}", place, _cut(one.message))
    return ": ".join(part for part in parts if part)


def _rule(one: FindingRow) -> str:
    return RULES[one.code].name if one.code in RULES else escape(one.category or "")


def _place(one: FindingRow) -> str:
    if one.name is None:
        return _cut(one.where)
    return shortened(escape(one.name), NAME_WIDTH) + (f" [{shortened(escape(one.part), NAME_WIDTH)}]" if one.part else "")


def _cut(text: str | None) -> str:
    return shortened(escape(text or ""), MESSAGE_WIDTH)
