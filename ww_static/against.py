"""A model audited against an older one: both analysed in one run, their pairs of views measured, the older one its baseline."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, TypeVar

from ww_static import engine, planning
from ww_static.api import result_of
from ww_static.engine import Run
from ww_static.errors import UsageError, escape
from ww_static.models import Source
from ww_static.options import Options
from ww_static.pairs.comparing import checked_sides
from ww_static.pairs.comparison import Comparison, Shown, Side, inconclusive
from ww_static.plan import Settings
from ww_static.policies.baselines import Baseline
from ww_static.results import Result
from ww_static.rows import FileRow, FindingRow, LayerRow

Row = TypeVar("Row", LayerRow, FindingRow, FileRow)


def analyze_against(
    sources: Sequence[Source],
    path: str,
    options: Options,
    settings: Settings,
    executor: Executor,
    *,
    vectors: bool,
    progress: Callable[[engine.Progress], None] | None = None,
    on_row: Callable[[LayerRow], None] | None = None,
    keep_partial: bool = False,
) -> tuple[Result, Baseline]:
    """The analysis of one model, and an older model as its baseline.

    Args:
        sources: the model; one.
        path: of the older one.
        options, settings, executor: of the run, which analyses both.
        vectors: whether their views are compared pair by pair, which takes the spectra of both once more.
        progress, on_row, keep_partial: as for `engine.run`; only rows of the new model are handed over.

    Raises:
        UsageError: there are several models on either side, or one is a part of the other.
        FormatError: the older one cannot be read.
    """
    if len(sources) != 1:
        raise UsageError(
            f"the baseline '{escape(path)}' is a model, and {len(sources)} models are audited: one model is compared with one; audit each "
            "with its own, or write the old ones as one baseline: ww-static audit OLD --write-baseline FILE.json"
        )
    (new,) = sources
    (old,) = planning.locate_each([path], settings, executor)
    old = replace(old, model_id=f"{new.model_id} (baseline)")  # the new one is called as without a baseline
    deadline = math.inf if settings.time_budget is None else time.monotonic() + settings.time_budget
    shown = Shown(progress)

    def handed(row: LayerRow) -> None:
        if on_row is not None and row.model_id == new.model_id:
            on_row(row)

    run = engine.run([new, old], options, settings, executor, shown, handed, keep_partial)
    shown.step()
    of_new, of_old = checked_sides(run)
    if of_old.plan.error is not None and not run.interrupted:
        raise of_old.plan.error
    now, before = _part(run, of_new, new.model_id), _part(run, of_old, new.model_id)
    pairs: list[Any] = []
    if vectors and not run.interrupted and of_new.plan.error is None:
        comparison = Comparison(of_old, of_new, options, settings, run.backend, shown, deadline)
        now = replace(now, interrupted=comparison.perform(executor, keep_partial))
        pairs = comparison.rows
    result = result_of(now, options, [new])
    return result, Baseline(
        shown=escape(path), rows=before.layers, findings=before.findings, files=before.files, parameters=result.parameters,
        audited=False, pairs=tuple(pairs), unread=tuple(not_compared(now, before, pairs)),
    )  # fmt: skip


def _part(run: Run, side: Side, model: str) -> Run:
    """What a run has of one model, under the name of the new one."""
    name, error = side.plan.source.model_id, side.plan.error
    return Run(
        tuple(_named(run.layers, name, model)), tuple(_named(run.findings, name, model)), tuple(_named(run.files, name, model)),
        () if error is None else (error,), side.plan.not_selected, run.interrupted,
    )  # fmt: skip


def _named(rows: Iterable[Row], name: str, model: str) -> Iterator[Row]:
    yield from (replace(row, model_id=model) for row in rows if row.model_id == name)


def not_compared(now: Run, before: Run, pairs: Sequence[Any]) -> list[FindingRow]:
    """What kept tensors from being compared, in the old model or in the comparison; what the new model says itself is not repeated."""
    said = {_about(one) for one in now.findings if one.inconclusive}
    found = [one for one in before.findings if one.inconclusive and _about(one) not in said]
    names = {name for name, _ in said} | {one.name for one in found}
    for row in pairs:
        if inconclusive([row]) and not {row.name, row.name_old} & names:
            found.append(FindingRow(name=row.name, part=row.part, category=row.reason, message=row.message or row.reason))
    return found


def _about(finding: FindingRow) -> tuple[str | None, str | None]:
    """The tensor of a finding; of one about a file, what kind it is."""
    return finding.name, finding.category if finding.name is None else None
