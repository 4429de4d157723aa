"""The function that Python users call to compare two models, and the result that the command prints."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace

from ww_static import engine, planning
from ww_static.api import exit_code, settings_of, texts
from ww_static.errors import UsageError
from ww_static.models import Source
from ww_static.options import Options
from ww_static.pairs.comparison import Comparison, Shown, Side, counts, inconclusive, sides
from ww_static.plan import Settings
from ww_static.protocol import Limits
from ww_static.results import Result
from ww_static.rows import DEFINITIONS_VERSION
from ww_static.summary import summarize
from ww_static.workers import executors

Path = str | os.PathLike[str]


def compare(
    old: Path,
    new: Path,
    *,
    metrics: str | Sequence[str] = "default",
    layers: str | Sequence[str] = (),
    kinds: str | Sequence[str] = (),
    conv: str = "pooled",
    esd_norm: str = "none",
    bootstrap: bool = False,
    adapter: bool = False,
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
    """Two checkpoints, paired by the names of their tensors: what changed, layer by layer.

    Args:
        old, new: a file or a folder with one model, each.
        metrics: groups of columns whose changes d_<column> are wanted.
        adapter: the new model is an adapter of the old one: W is compared with W + s B A.
        bootstrap: adds the group ``bootstrap``, which alpha_z needs.
        layers, kinds, conv, esd_norm, seed: as for `analyze`.
        jobs, blas_threads, max_memory, readers, limits, timeout, executor, progress: as for `analyze`.

    Returns:
        One row per pair and per tensor without a counterpart; `summary` holds the counts and the summaries of both models,
        also when nothing pairs.

    Raises:
        FormatError: one of the two cannot be read.
        UsageError: an option means nothing, or a path holds several models.
    """
    options = Options(
        metrics=(*texts(metrics), *(("bootstrap",) if bootstrap else ())), layers=texts(layers), kinds=texts(kinds), conv=conv,
        esd_norm=esd_norm, seed=seed, blas_threads=blas_threads,
    )  # fmt: skip
    settings = settings_of(jobs, max_memory, readers, limits, timeout)
    with executors.hired(engine.most_workers(settings, options), executor) as crew:
        sources = planning.locate_each([os.fspath(old), os.fspath(new)], settings, crew)
        if adapter:
            sources, options = adapted(sources, options)
        result = compare_sources(sources, options, settings, crew, progress=progress)
    if result.errors:
        raise result.errors[0]
    return result


def adapted(sources: Sequence[Source], options: Options) -> tuple[list[Source], Options]:
    """An old model and an adapter that is read together with it, and options that say so."""
    old, new = sources
    return [old, replace(new, base=old.path)], replace(options, base=old.model_id)


def compare_sources(
    sources: Sequence[Source],
    options: Options,
    settings: Settings,
    executor: Executor,
    *,
    progress: Callable[[engine.Progress], None] | None = None,
    keep_partial: bool = False,
) -> Result:
    """`compare` for an old and a new model that are already located; every failure is a row."""
    shown = Shown(progress)
    run = engine.run(sources, options, settings, executor, shown, None, keep_partial)
    shown.step()
    old, new = checked_sides(run)
    comparison = Comparison(old, new, options, settings, run.backend, shown)
    interrupted = run.interrupted or comparison.perform(executor, keep_partial)
    if run.interrupted:
        comparison.interrupt()
    unread = inconclusive(comparison.rows) or any(row.inconclusive for row in run.findings)
    return Result(
        table="pairs",
        rows=tuple(comparison.rows),
        finding_rows=run.findings,
        file_rows=run.files,
        summary=counts(comparison.rows) | {"old": summarize(old.rows), "new": summarize(new.rows)},
        parameters=json.loads(options.canonical()) | {"params_id": options.params_id(DEFINITIONS_VERSION)},
        exit_code=exit_code(run.errors, comparison.rows, unread, interrupted),
        errors=run.errors,
        interrupted=interrupted,
    )


def checked_sides(run: engine.Run, count: int = 2) -> list[Side]:
    """The models of a run, none of which is a part of another.

    Raises:
        UsageError: one is.
    """
    found = sides(run)
    if len(found) != count:
        raise UsageError("one of the models is a shard of another")
    return found
