"""A series of checkpoints: each analyzed, each compared with the one before, and their means held against accuracies."""

from __future__ import annotations

import json
import os
import re
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

from ww_static import engine, findings, models, planning
from ww_static.api import exit_code, settings_of, texts
from ww_static.columns.trend import TrendRow
from ww_static.errors import UsageError
from ww_static.models import Source
from ww_static.options import Options
from ww_static.pairs.accuracies import accuracies
from ww_static.pairs.comparing import checked_sides
from ww_static.pairs.comparison import Comparison, Shown, Side, counts, inconclusive
from ww_static.plan import Settings
from ww_static.protocol import Limits
from ww_static.results import Result
from ww_static.rows import DEFINITIONS_VERSION
from ww_static.summary import summarize
from ww_static.workers import executors

Path = str | os.PathLike[str]
_MEANS = ("alpha", "alpha_weighted", "log_norm", "log_alpha_norm", "log_spectral_norm", "stable_rank", "mp_softrank")
_PAIR_MEANS = ("rel_delta", "cosine", "d_alpha", "spectral_l2_rel", "overlap_l", "overlap_r", "cka")


def trend(
    paths: Path | Sequence[Path],
    *,
    accuracy: Path | None = None,
    metrics: str | Sequence[str] = "default",
    layers: str | Sequence[str] = (),
    kinds: str | Sequence[str] = (),
    conv: str = "pooled",
    esd_norm: str = "none",
    seed: int = 0,
    jobs: int | str = 1,
    blas_threads: int = 1,
    max_memory: int | str | None = None,
    readers: Sequence[str] | None = None,
    limits: Limits | None = None,
    timeout: float = 30.0,
    executor: Executor | None = None,
    progress: Callable[[engine.Progress], None] | None = None,
) -> Result:
    """A series of checkpoints of one model: means of each, and what changed since the one before.

    Args:
        paths: checkpoints in the order of the series; those of a folder or glob pattern in natural order of their names.
        accuracy: a CSV table, ``checkpoint,accuracy``; adds rank correlations of the means with it to the summary.
        metrics, layers, kinds, conv, esd_norm, seed: as for `analyze`.
        jobs, blas_threads, max_memory, readers, limits, timeout, executor, progress: as for `analyze`.

    Returns:
        One row per checkpoint; `summary` holds the summary of each, and the correlations.

    Raises:
        UsageError: fewer than two checkpoints, or a table that does not say one number for each of them.
    """
    options = Options(
        metrics=texts(metrics), layers=texts(layers), kinds=texts(kinds), conv=conv, esd_norm=esd_norm, seed=seed,
        blas_threads=blas_threads,
    )  # fmt: skip
    settings = settings_of(jobs, max_memory, readers, limits, timeout)
    named = [os.fspath(paths)] if isinstance(paths, str | os.PathLike) else [os.fspath(path) for path in paths]
    with executors.hired(engine.most_workers(settings, options), executor) as crew:
        sources = series(named, settings, crew)
        reached = accuracies(os.fspath(accuracy), sources) if accuracy is not None else None
        return trend_sources(sources, reached, options, settings, crew, progress=progress)


def series(named: Sequence[str], settings: Settings, executor: Executor) -> list[Source]:
    """The checkpoints that paths mean, in the order of the paths; those of one path in natural order.

    Raises:
        UsageError: there are fewer than two.
    """
    found = [sorted(planning.locate([path], settings, executor), key=lambda source: _natural(source.path)) for path in named]
    sources = models.distinct([source for group in found for source in group])
    if len(sources) < 2:
        raise UsageError(f"a trend needs at least two checkpoints, and {len(sources)} was found")
    return sources


def _natural(text: str) -> list[tuple[int, int, str]]:
    """``step-20`` before ``step-100``."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text[:4096])]


def trend_sources(
    sources: Sequence[Source],
    reached: Sequence[float] | None,
    options: Options,
    settings: Settings,
    executor: Executor,
    *,
    progress: Callable[[engine.Progress], None] | None = None,
    keep_partial: bool = False,
) -> Result:
    """`trend` for checkpoints that are already located; every failure is a row."""
    shown = Shown(progress)
    run = engine.run(sources, options, settings, executor, shown, None, keep_partial)
    found = checked_sides(run, len(sources))
    rows = [_row(step, side, reached[step] if reached else None) for step, side in enumerate(found)]
    interrupted, unread = run.interrupted, any(row.inconclusive for row in run.findings)
    for step in range(1, len(found)):
        if interrupted or run.interrupted:
            break
        if found[step - 1].plan.error is not None or found[step].plan.error is not None:
            continue  # nothing to compare: what changed is not known, which is something else than no pair
        shown.step()
        comparison = Comparison(found[step - 1], found[step], options, settings, run.backend, shown)
        interrupted = comparison.perform(executor, keep_partial)
        unread = unread or inconclusive(comparison.rows)
        rows[step] = replace(rows[step], **_changes(comparison.rows))
    summary: dict[str, Any] = {
        "checkpoints": len(rows),
        "models": {side.plan.source.model_id: summarize(side.rows) for side in found},
        "accuracy": _correlations(rows, options.seed) if reached else None,
    }
    return Result(
        table="trend",
        rows=tuple(rows),
        finding_rows=run.findings,
        file_rows=run.files,
        summary=summary,
        parameters=json.loads(options.canonical()) | {"params_id": options.params_id(DEFINITIONS_VERSION)},
        exit_code=exit_code(run.errors, run.layers, unread or bool(run.errors), interrupted),
        errors=run.errors,
        interrupted=interrupted,
    )


def _row(step: int, side: Side, accuracy: float | None) -> TrendRow:
    """The row of a checkpoint by itself."""
    source = side.plan.source
    if side.plan.error is not None:
        error = findings.error_row(side.plan)
        return TrendRow(
            step=step, model_id=source.model_id, file=source.shown, accuracy=accuracy, status="error", category=error.category,
            message=error.message,
        )  # fmt: skip
    summary = summarize(side.rows)
    of = summary["metrics"]
    means = {name: of[name]["mean"] for name in _MEANS}
    return TrendRow(
        step=step, model_id=source.model_id, file=source.shown, accuracy=accuracy, status="success", analysed=summary["analysed"],
        with_alpha=summary["with_alpha"], alpha_median=of["alpha"]["median"], alpha_sd=of["alpha"]["sd"], **means,
    )  # fmt: skip


def _changes(pairs: Sequence[Any]) -> dict[str, Any]:
    """What the pairs with the checkpoint before say, ``whole`` rows of split tensors left out of means."""
    counted = counts(pairs)
    measured = [row for row in pairs if row.status == "success" and row.part != "whole"]

    def values(name: str) -> list[float]:
        return [value for row in measured if (value := getattr(row, name)) is not None]

    found: dict[str, Any] = {name: statistics.fmean(known) if (known := values(name)) else None for name in _PAIR_MEANS}
    moved, new = values("rel_delta"), values("intruders")
    found |= {"rel_delta_max": max(moved, default=None), "intruders": sum(map(int, new)) if new else None}
    return found | {"paired": counted["paired"], "compared": counted["measured"], "identical": counted["identical"]}


def _correlations(rows: Sequence[TrendRow], seed: int) -> dict[str, Any]:
    """Rank correlations of the means with the accuracies, n stated: over checkpoints that have both."""
    import numpy as np

    from ww_static.spectral import ranking
    from ww_static.spectral.missing import Missing

    found: dict[str, Any] = {}
    for name in (*_MEANS, "alpha_median"):
        pairs = [(value, row.accuracy) for row in rows if (value := getattr(row, name)) is not None]
        x, y = np.array([pair[0] for pair in pairs], np.float64), np.array([pair[1] for pair in pairs], np.float64)
        found[name] = {"n": len(pairs)}
        for word, of in (("spearman", ranking.spearman), ("kendall", ranking.kendall)):
            one = ranking.correlation(x, y, of, np.random.Generator(np.random.PCG64(seed)))
            if isinstance(one, Missing):
                found[name][word] = {"value": None, "low": None, "high": None, "reason": one.reason}
            else:
                found[name][word] = {"value": one.value, "low": one.low, "high": one.high, "reason": None}
    return found
