"""A baseline: an earlier result that the user names; which findings it knows already, and which rows were before which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from ww_static.errors import utf8
from ww_static.options import Options
from ww_static.policies.gate import LEVELS
from ww_static.rows import FileRow, FindingRow, LayerRow
from ww_static.rules.rule import Evidence
from ww_static.version import __version__

# Options on which no number that is compared depends where both rows have it: which rows and columns there are, the last bits.
_HARMLESS = frozenset(("metrics", "layers", "kinds", "max_evals", "max_m", "esd", "blas_threads", "seed", "params_id"))
_UNCOUNTED = ("WW09", "WW3")  # about the audit itself, or about a baseline of its own: nothing to be known from before
_OF_VALUES = ("WW101", "WW103")  # known only of the very same values: else one NaN would hide whatever a tensor becomes
# Metric -> how much farther beyond its limit a value may be, absolute and relative, before the finding has changed.
_TOLERANCES = {"n_nan": (0.0, 0.0), "n_inf": (0.0, 0.0), "alpha": (0.5, 0.0)}
_TOLERANCE = (0.0, 0.05)
Spelled = TypeVar("Spelled", LayerRow, FindingRow)
STATUSES = ("new", "changed", "unchanged", "fixed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """An earlier result.

    Attributes:
        shown: the file as the user named it.
        rows, findings, files: its tables.
        parameters: the options that its numbers depend on.
        version: of the program that wrote it.
        audited: whether the findings are those of an audit; else a policy has yet to judge the rows.
        pairs: rows of `PairRow`: its views beside those of the run, where it is a model and both were read.
        unread: what kept tensors of the run from being compared with it, where it is a model.
    """

    shown: str
    rows: tuple[LayerRow, ...]
    findings: tuple[FindingRow, ...] = ()
    files: tuple[FileRow, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__
    audited: bool = True
    pairs: tuple[Any, ...] = ()
    unread: tuple[FindingRow, ...] = ()

    def differences(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        """What is not as it is in the run: the major version, and each option."""
        found = []
        if _major(self.version) != _major(__version__):
            found.append(f"version {self.version} wrote it, and this is {__version__}")
        for name in sorted({*parameters, *self.parameters} - {"params_id"}):
            before, now = _option(self.parameters, name), _option(parameters, name)
            if before != now:
                found.append(f"{name} was {before}, and is {now}")
        return tuple(found)

    def comparable(self, parameters: Mapping[str, Any]) -> bool:
        """Whether what both have computed was computed in the same way."""
        names = {*parameters, *self.parameters} - _HARMLESS
        same = all(_option(self.parameters, name) == _option(parameters, name) for name in names)
        return same and _major(self.version) == _major(__version__)


def _major(version: str) -> tuple[str, ...]:
    """The part of a version within which numbers do not change: of 0.x both numbers."""
    first, second, *_ = (*version.split("."), "", "")
    return (first, second) if first == "0" else (first,)


def _option(parameters: Mapping[str, Any], name: str) -> Any:
    """An option as JSON has it; one that an earlier release did not have was what it is by default."""
    value = parameters.get(name, getattr(Options(), name, None))
    return list(value) if isinstance(value, tuple) else value


def partners(evidences: Sequence[Evidence], baseline: Baseline) -> dict[str | None, str | None]:
    """The model of the baseline that each model of a run was: of the same file; else of the same name; else the only one of both.

    A name alone may be longer than before when another model of that name has come; its file, relative to what was audited, stays.
    """
    before = {row.model_id: row.file for row in reversed(baseline.rows)}
    now = {one.model_id: one.rows[0].file for one in evidences if one.rows}
    if len(now) == len(before) == 1:
        return dict(zip(now, before, strict=True))
    same = {model for model, file in now.items() if model in before and before[model] == file}
    of_file = {file: model for model, file in before.items() if model not in same}
    files = Counter(now.values()) | Counter(before.values())
    found: dict[str | None, str | None] = {model: model for model in same}
    found |= {model: of_file[file] for model, file in now.items() if model not in same and files[file] == 1 and file in of_file}
    taken = set(found.values())
    return found | {model: model for model in now if model not in found and model in before and model not in taken}


def spelled(baseline: Baseline, evidences: Sequence[Evidence]) -> Baseline:
    """The baseline with the names of the run, where they are not UTF-8: files have such names with escapes."""
    names = {name for one in evidences for row in one.rows for name in (row.model_id, row.file, row.name) if name is not None}
    written = {utf8(name): name for name in names if utf8(name) not in names}
    if not written:
        return baseline

    def respelled(row: Spelled) -> Spelled:
        here = {key: written.get(getattr(row, key), getattr(row, key)) for key in ("model_id", "file", "name")}
        return replace(row, **here)

    rows, findings = tuple(map(respelled, baseline.rows)), tuple(map(respelled, baseline.findings))
    return replace(baseline, rows=rows, findings=findings)


def set_beside(evidences: Sequence[Evidence], baseline: Baseline, parameters: Mapping[str, Any]) -> list[Evidence]:
    """The evidence of a run with the rows of the baseline; whatever cannot be compared is said, and never passed over."""
    pairs = partners(evidences, baseline)
    known: dict[str | None, list[LayerRow]] = {}
    for row in baseline.rows:
        known.setdefault(row.model_id, []).append(row)
    told: list[str] = []
    differences, comparable = baseline.differences(parameters), baseline.comparable(parameters)
    missing = [f"model '{model}' of the baseline was not audited" for model in known if model not in pairs.values()]
    if differences:
        consequence = "" if comparable else "; drift of numbers was not judged"
        told.append(f"the baseline was computed otherwise: {'; '.join(differences)}{consequence}")
    result = []
    for one in evidences:
        disputes, told, uncompared, missing = (
            told,
            [],
            missing,
            [],
        )  # what is about the baseline is said once, with the first model
        before = known.get(pairs[one.model_id], []) if one.model_id in pairs else []
        if not _read(before):
            why = "could not be read when the baseline was written" if before else "is not in the baseline"
            uncompared = [*uncompared, f"the model {why}: nothing was compared"]
        rows = tuple(before) if _read(before) and _read(one.rows) else None
        evidence = replace(one, before=rows, comparable=comparable, disputes=tuple(disputes), uncompared=tuple(uncompared))
        result.append(replace(evidence, pairs=baseline.pairs, unread=baseline.unread))  # of a model, which has one partner
    return result


def _read(rows: Iterable[LayerRow]) -> bool:
    return any(row.name is not None for row in rows)


def marked(
    found: Sequence[FindingRow], earlier: Sequence[FindingRow], evidences: Sequence[Evidence], baseline: Baseline, exact: bool
) -> list[FindingRow]:
    """Findings with their status against those of the baseline, and then those that are gone (``fixed``).

    Args:
        found: of the run.
        earlier: of the baseline, under its own names of the models.
        evidences: of the run.
        baseline: names the models of both.
        exact: the run has looked for all that the baseline has; else nothing is said to be fixed.
    """
    pairs = partners(evidences, baseline)
    stored = _stored(baseline.rows), _stored(row for one in evidences for row in one.rows)
    known: dict[tuple[str | None, ...], list[FindingRow]] = {}
    for one in earlier:
        if one.baseline != "fixed" and not _is_uncounted(one):
            known.setdefault(_key(one, one.model_id), []).append(one)
    result = []
    for one in found:
        before = known.get(_key(one, pairs.get(one.model_id)))
        status = "new" if not before or _is_uncounted(one) else _status(before.pop(0), one)
        if status == "unchanged" and one.code in _OF_VALUES:
            places = (pairs.get(one.model_id), one.name), (one.model_id, one.name)
            status = "unchanged" if stored[0].get(places[0]) == stored[1].get(places[1]) else "changed"
        result.append(one if (one.code or "").startswith("WW09") else replace(one, baseline=status))
    unread = {(one.model_id, one.name) for one in found if one.outcome != "violation"}
    looked = {pairs[one.model_id]: one.model_id for one in evidences if exact and one.before is not None}
    for one in (one for left in known.values() for one in left if one.model_id in looked):
        model = looked[one.model_id]
        if not unread & {(model, None), (model, one.name)}:
            result.append(replace(one, model_id=model, baseline="fixed"))
    return result


def _stored(rows: Iterable[LayerRow]) -> dict[tuple[str | None, str | None], tuple[Any, ...]]:
    """What tells the values of each tensor from others."""
    return {(row.model_id, row.name): (row.n_nan, row.n_inf, row.content_hash) for row in rows}


def _is_uncounted(finding: FindingRow) -> bool:
    return (finding.code or "").startswith(_UNCOUNTED)


def _key(finding: FindingRow, model: str | None) -> tuple[str | None, ...]:
    """What two findings of one defect share: what their fingerprints are made of, under one name of the model."""
    return (model, finding.code, finding.name, finding.part, None if finding.name is not None else finding.where or "")


def _status(before: FindingRow, now: FindingRow) -> str:
    """``unchanged``; or ``changed`` where it is graver, was suppressed and is not, or is farther beyond its limit."""
    graver = LEVELS[now.severity or "info"] > LEVELS[before.severity or "info"] or now.outcome != before.outcome
    if graver or (before.suppressed is not None and now.suppressed is None):
        return "changed"
    if before.value is None or now.value is None:
        return "unchanged"
    absolute, relative = _TOLERANCES.get(now.metric or "", _TOLERANCE)
    limit = now.limit or 0.0
    farther = abs(now.value - limit) - abs(before.value - limit)
    return "changed" if farther > absolute + relative * abs(before.value) else "unchanged"
