"""The findings of an audit as JUnit XML: what test reports of CI services read. No times, no host.

A model is a ``testsuite``, a layer a ``testcase``. What makes the exit code 1 is a ``failure``, what makes it 3 or 4 an
``error``, so the report and the exit code agree; findings below that are written to ``system-out``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape as entities
from xml.sax.saxutils import quoteattr

from ww_static.errors import escape
from ww_static.policies import gate
from ww_static.policies.policy import Policy
from ww_static.policies.standing import Standing, standings
from ww_static.rows import FindingRow, LayerRow
from ww_static.tables import Tables


@dataclass(frozen=True, slots=True)
class _Case:
    """One testcase: where it belongs, what became of it (tag, type, message), and the lines that it says."""

    classname: str
    name: str
    outcome: tuple[str, str, str] | None
    lines: tuple[str, ...]


def document(result: Tables) -> str:
    """A judged result as a JUnit document."""
    judgement = result.judgement
    assert judgement is not None
    rows: dict[str | None, list[LayerRow]] = {}
    for row in result.rows:
        rows.setdefault(row.model_id, []).append(row)
    suites = [
        (one, list(_cases(one, rows.get(one.model_id, []), judgement.policy)))
        for one in standings(judgement, result.rows, result.file_rows)
    ]
    total = _counts(case for _, cases in suites for case in cases)
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<testsuites{_attributes(name='ww-static audit', **total)}>"]
    for standing, cases in suites:
        name = standing.model_id if standing.model_id is not None else "audit"
        lines.append(f" <testsuite{_attributes(name=name, **_counts(cases))}>")
        for case in cases:
            lines += _element(case)
        lines.append(" </testsuite>")
    return "\n".join([*lines, "</testsuites>"]) + "\n"


def _counts(cases: Iterable[_Case]) -> dict[str, str]:
    found = list(cases)
    tags = Counter(case.outcome[0] for case in found if case.outcome is not None)
    numbers = {"tests": len(found), "failures": tags["failure"], "errors": tags["error"], "skipped": tags["skipped"]}
    return {name: str(number) for name, number in numbers.items()}


def _cases(standing: Standing, rows: Sequence[LayerRow], policy: Policy) -> Iterator[_Case]:
    """A testcase per view of a tensor, with what was found about it, then one per finding about no view."""
    waiting: dict[tuple[str | None, str | None], list[FindingRow]] = {}
    for one in (*standing.findings, *standing.suppressed):
        waiting.setdefault((one.name, one.part), []).append(one)
    for row in rows:
        if row.name is not None:
            found = waiting.pop((row.name, row.part), [])
            yield _case(row.file or "", _label(row.name, row.part), found, policy, row)
    left = [one for found in waiting.values() for one in found]
    for row in rows:
        if row.name is None and not any(one.outcome != "violation" for one in left):  # nobody else says that it is unread
            yield _case(row.file or "", "file", [], policy, row)
    for one in left:
        name = one.name if one.name is not None else " ".join(part for part in (one.code, one.category, one.where) if part)
        yield _case(one.file or "", _label(name, one.part), [one], policy)


def _label(name: str, part: str | None) -> str:
    return f"{name} [{part}]" if part else name


def _case(file: str, name: str, found: Sequence[FindingRow], policy: Policy, row: LayerRow | None = None) -> _Case:
    reasons = [(gate.reason(one, policy), one) for one in found]
    counting = [(why, one) for why, one in reasons if why is not None]
    lines = tuple(_line(one) for one in found)
    if counting:
        why, gravest = next(((why, one) for why, one in counting if why != "violated"), counting[0])
        tag = "failure" if why == "violated" else "error"
        return _Case(file, name, (tag, gravest.code or "", gravest.message or ""), lines)
    if row is not None and row.status == "error":
        return _Case(file, name, ("skipped", row.category or "", row.message or ""), lines)
    if row is not None and row.status in ("skipped", "failed"):
        return _Case(file, name, ("skipped", "", row.reason or ""), lines)
    left = next((one for one in found if one.outcome != "violation"), None)
    return _Case(file, name, None if left is None else ("skipped", "", left.category or ""), lines)


def _line(one: FindingRow) -> str:
    accepted = f" (suppressed: {one.suppressed})" if one.suppressed is not None else ""
    return f"{one.severity} {one.code}: {one.message}{accepted}"


def _element(case: _Case) -> list[str]:
    head = f"  <testcase{_attributes(classname=case.classname, name=case.name)}"
    text = "\n".join(entities(escape(line)) for line in case.lines)
    if case.outcome is None:
        return [f"{head}><system-out>{text}</system-out></testcase>" if text else f"{head}/>"]
    tag, kind, message = case.outcome
    if tag == "skipped":
        said = f"<system-out>{text}</system-out>" if text else ""
        return [f"{head}><skipped{_attributes(message=': '.join(part for part in (kind, message) if part))}/>{said}</testcase>"]
    return [f"{head}><{tag}{_attributes(type=kind, message=message)}>{text}</{tag}></testcase>"]


def _attributes(**values: str) -> str:
    """XML has no control characters at all: they are escaped as in every other output."""
    return "".join(f" {name}={quoteattr(escape(value))}" for name, value in values.items())
