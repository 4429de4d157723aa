"""WW210: limits on how many layers of a model may be beyond a value, written as data, never as text that is evaluated."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from ww_static.rows import LayerRow
from ww_static.rules.rule import Evidence, Found, Rule, Setting, Share, Warn


class Expression(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many layers may be beyond a value.

    Attributes:
        metric: a column of numbers.
        above: count layers whose metric is greater; or
        below: those whose metric is less.
        max_share: largest share of the layers that have the metric; or
        max_count: the largest number of them.
        kinds: only layers of these kinds; none means all.
    """

    metric: str
    above: float | None = None
    below: float | None = None
    max_share: Share | None = None
    max_count: int | None = None
    kinds: tuple[str, ...] = ()


class Aggregate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A limit over the layers of a model.

    Attributes:
        expr: what is counted, and how many there may be.
        code: that of the rule.
    """

    expr: Expression
    code: Literal["WW210"] = "WW210"


def metrics() -> tuple[str, ...]:
    """The columns that an expression may name: those of numbers."""
    return tuple(name for name, kind in typing.get_type_hints(LayerRow).items() if kind in (float | None, int | None))


def exceeded(evidence: Evidence, aggregates: Sequence[Aggregate]) -> Iterable[Found]:
    """The limits that a model exceeds; layers without the metric do not count, nor do wholes beside their parts and tied copies.

    A metric that no matrix has is inconclusive: the limit was set, and nobody has looked.
    """
    for one in aggregates:
        expr = one.expr
        rows = [row for row in evidence.rows if row.part != "whole" and row.tied_to is None]
        rows = [row for row in rows if not expr.kinds or row.kind in expr.kinds]
        values = [value for row in rows if (value := getattr(row, expr.metric)) is not None]
        if not values and any(row.has_esd or row.reason == "profile" for row in rows):
            words = f"nothing has {expr.metric}, so that nobody knows how many layers are {_side(expr)}: {_source(expr.metric)}"
            yield Found(message=words, where=_where(expr), metric=expr.metric, outcome="inconclusive")
        beyond = sum(value > expr.above if expr.above is not None else value < (expr.below or 0.0) for value in values)
        share = beyond / len(values) if values else 0.0
        value, limit, shown = (
            (share, expr.max_share, f"{100 * expr.max_share:g} %")
            if expr.max_share is not None
            else (beyond, expr.max_count or 0, f"{expr.max_count}")
        )
        if value > limit:
            words = f"{expr.metric} of {beyond} of {len(values)} layers is {_side(expr)}, at most {shown} may be"
            yield Found(message=words, where=_where(expr), metric=expr.metric, value=value, limit=limit)


def _side(expr: Expression) -> str:
    return f"above {expr.above:g}" if expr.above is not None else f"below {expr.below:g}"


def _where(expr: Expression) -> str:
    return f"{expr.metric} {_side(expr)}" + (f" of {', '.join(expr.kinds)}" if expr.kinds else "")


def _source(metric: str) -> str:
    """What would compute a metric."""
    group = next(field.metadata["group"] for field in dataclasses.fields(LayerRow) if field.name == metric)
    if group in ("default", "randomize", "identity"):
        return "--profile full computes it for every layer that has one"
    return f"--metrics {group} computes it"


def _told(_: Evidence, __: Setting) -> Iterable[Found]:
    """Nothing: the limits are in the policy's ``[[aggregate]]`` tables, not in the settings of the rule."""
    return ()


AGGREGATE_RULES = (
    Rule("WW210", "aggregate", "Too many layers of a model are beyond a value", "count or share of the rows whose metric is above or below a value, of those that have it; inconclusive where there are matrices and none has it",
         "A share of few layers says little.", "Look at the layers that are beyond the value.", Warn, _told, "full", "also"),
)  # fmt: skip
