"""What a rule is: a stable code, what it means and how it may be wrong, its settings, and a function of a model's rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from ww_static.rows import FindingRow, LayerRow

Severity = Literal["error", "warn", "info", "off"]
Outcome = Literal["violation", "unreadable", "inconclusive", "internal_error"]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]  # the type of a setting that is a share
Positive = Annotated[float, msgspec.Meta(gt=0)]
FAST_M = 768  # largest M of a matrix whose spectrum the fast profile takes
SEVERITIES: tuple[Severity, ...] = ("error", "warn", "info", "off")  # the gravest first


class Setting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a policy may say about any rule; a rule with limits adds them, and each default is that of the rule.

    Attributes:
        severity: ``error``, ``warn``, ``info``, or ``off``.
        kinds: only tensors of these kinds; none means all.
    """

    severity: Severity = "error"
    kinds: tuple[str, ...] = ()


class Warn(Setting, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a rule that warns unless a policy says otherwise."""

    severity: Severity = "warn"


class Info(Setting, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a rule that informs unless a policy says otherwise."""

    severity: Severity = "info"


@dataclass(frozen=True, slots=True)
class Evidence:
    """All rows about one model: all that a rule may look at.

    Attributes:
        model_id: the model.
        file: as results show it.
        rows: its layer rows, or the one row of a model that could not be read.
        findings: what the readers and the values gave away.
        before: the rows of the model in the baseline; None without a baseline, where it does not have the model, or where one of
            the two could not be read.
        comparable: whether the numbers before were computed with the same options.
        disputes: why the baseline is not one with these options.
        uncompared: models that only the run or only the baseline has, or that one of them could not read.
        pairs: rows of `PairRow`: its views beside those of the baseline, where that is a model.
        unread: what kept its tensors from being compared with those of such a baseline.
    """

    model_id: str | None
    file: str | None
    rows: tuple[LayerRow, ...]
    findings: tuple[FindingRow, ...] = ()
    before: tuple[LayerRow, ...] | None = None
    comparable: bool = True
    disputes: tuple[str, ...] = ()
    uncompared: tuple[str, ...] = ()
    pairs: tuple[Any, ...] = ()
    unread: tuple[FindingRow, ...] = ()

    def tensors(self) -> list[LayerRow]:
        """One row per tensor that was read or skipped, for what holds of the stored values: the first of its views."""
        return list(first_views(self.rows).values())


def first_views(rows: Iterable[LayerRow]) -> dict[str, LayerRow]:
    """The first row of every tensor, by its name."""
    first: dict[str, LayerRow] = {}
    for row in rows:
        if row.name is not None:
            first.setdefault(row.name, row)
    return first


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A defect, before a policy has said what it means.

    Attributes:
        message: the fact, lower case, no full stop.
        name, part, file, where: tensor, view, file and place in it, as far as it is about one.
        metric, value, limit: the column that was judged, what it was, and the limit that it passed.
        category: as readers call it; None takes the name of the rule.
        outcome: ``violation``; or what it leaves unread.
        severity: of this defect, where it is not that of the rule.
    """

    message: str
    name: str | None = None
    part: str | None = None
    file: str | None = None
    where: str | None = None
    metric: str | None = None
    value: float | None = None
    limit: float | None = None
    category: str | None = None
    outcome: Outcome = "violation"
    severity: Severity | None = None


def found_in(row: LayerRow, message: str, **details: Any) -> Found:
    """A defect of a row."""
    return Found(message=message, name=row.name, part=row.part, file=row.file, where=f"tensor '{row.name}'", **details)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        code: stable, never reused.
        name: two or three words with hyphens.
        title: one line.
        formula: what is computed from which columns.
        wrong: how it may be wrong.
        fix: what to do about a finding.
        settings: the class of its settings; an instance without arguments is the default.
        check: evidence and settings to defects; ``kinds`` and ``severity`` are applied by the caller.
        profile: the first profile that computes what it looks at: ``fast`` or ``full``.
        spectrum: whether it looks at the spectrum: ``no``; ``also``, beside the values; or ``only``.
    """

    code: str
    name: str
    title: str
    formula: str
    wrong: str
    fix: str
    settings: type[Setting]
    check: Callable[[Evidence, Any], Iterable[Found]]
    profile: str = "fast"
    spectrum: Literal["no", "also", "only"] = "no"
