"""The functions that Python users call: describe and analyze models, open one, take the spectrum of an array."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

from ww_static import engine, findings, models, planning, registry
from ww_static.budget import Need
from ww_static.errors import INTERRUPTED, FormatError, UsageError
from ww_static.layout.layers import LayerView
from ww_static.options import Options, parse_bytes, path_text
from ww_static.plan import Plan, Settings
from ww_static.protocol import Limits
from ww_static.results import Result
from ww_static.rows import DEFINITIONS_VERSION, LayerRow, TensorRow
from ww_static.summary import summarize
from ww_static.workers import executors

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def analyze(
    paths: Paths,
    *,
    metrics: str | Sequence[str] = "default",
    layers: str | Sequence[str] = (),
    kinds: str | Sequence[str] = (),
    min_evals: int | None = None,
    max_evals: int | None = None,
    conv: str = "pooled",
    esd_norm: str = "none",
    esd: str = "none",
    fit: str = "PL",
    xmax: int = 0,
    top_k: int | None = None,
    cross_check: str = "none",
    precision: str = "exact",
    randomize: bool = False,
    full_replicas: bool = False,
    vectors: bool = False,
    bootstrap: bool = False,
    gof: bool = False,
    base: str | os.PathLike[str] | None = None,
    seed: int = 0,
    jobs: int | str = 1,
    blas_threads: int = 1,
    max_memory: int | str | None = None,
    readers: Sequence[str] | None = None,
    limits: Limits | None = None,
    timeout: float = 30.0,
    time_budget: float | None = None,
    executor: Executor | None = None,
    progress: Callable[[engine.Progress], None] | None = None,
) -> Result:
    """The layer table of one or more models.

    Args:
        paths: files, folders or glob patterns.
        metrics: groups of columns: ``default``, ``tail``, ``alternatives``, ``randomize``, ``vectors``, ``bootstrap``, ``gof``, ``esd``, ``all``.
        layers: shell globs on the verbatim tensor name, or regular expressions after ``re:``; any of them selects.
        kinds: kinds of tensors to select, for instance ``attention``.
        min_evals, max_evals: rows outside are skipped with the reason ``size_limit``.
        conv: ``pooled``, ``slices`` or ``flatten``.
        esd_norm: ``none`` (eigenvalues of W^T W) or ``1/N``.
        esd: ``none``, ``f64`` or ``f32``: keep the eigenvalues and their curves.
        fit: law of the tail: ``PL``, or with a cut-off ``TPL`` (from any eigenvalue on) or ``E_TPL`` (from near the peak of the ESD on).
        xmax: -k leaves out the k largest eigenvalues before the tail is fitted.
        top_k: only so many of the largest eigenvalues, of single matrices; by Lanczos where there are more than four times as many columns.
        cross_check: ``powerlaw`` fits every tail once more with that package (the extra ``crosscheck``).
        precision: ``exact``, or ``fast``: spectra in float32, of which metrics of the tail and norms are kept, with their error.
        randomize: adds the group ``randomize``: each matrix is compared with permuted copies of itself.
        full_replicas: all eigenvalues of every copy, not of the first one only.
        vectors: adds the group ``vectors``: how localized the eigenvectors of bulk and tail are.
        bootstrap: adds the group ``bootstrap``: how much alpha varies over samples of the eigenvalues.
        gof: adds the group ``gof``: a test of the tail against samples of the fitted power law.
        base: the model that these were made from: rows of W - W_base, of float64; for an adapter, rows of W_base + s B A beside those of
            s B A. Tensors that it does not have are skipped (``no_pair``, ``shape_mismatch``).
        seed: of everything random.
        jobs: most worker processes, or ``auto``. Files are opened and read by supervised workers only.
        blas_threads: of each worker, for a lone huge matrix; more than one change the last bits, and with `jobs` they must not
            be more than the processors.
        max_memory: private memory of all processes together, for instance ``"1GiB"``.
        readers: names of the readers that may be used.
        limits: what a file may ask for.
        timeout: seconds that a worker may be busy with a file beyond what its size explains; then it is ended.
        time_budget: seconds after which no spectrum is begun that would not end in time; its row says ``time_limit``, and has the
            statistics of its values where they were read.
        executor: any `concurrent.futures.Executor` to run the tasks on, in place of `jobs`; whoever made it supervises it.
        progress: called with a `Progress` whenever something has finished.

    Returns:
        Rows in natural order of the tensor names; `layers` is the Arrow table.

    Raises:
        FormatError: the one file that was named cannot be read. With several, each failure is a row.
        UsageError: an option means nothing.
    """
    flags = {"randomize": randomize, "vectors": vectors, "bootstrap": bootstrap, "gof": gof}
    options = Options(
        metrics=(*texts(metrics), *(group for group, asked in flags.items() if asked)), layers=texts(layers), kinds=texts(kinds),
        min_evals=min_evals, max_evals=max_evals, conv=conv, esd_norm=esd_norm, esd=esd, fit=fit, xmax=xmax, top_k=top_k, cross_check=cross_check, precision=precision, seed=seed,
        full_replicas=full_replicas, blas_threads=blas_threads,
    )  # fmt: skip
    settings = settings_of(jobs, max_memory, readers, limits, timeout, time_budget)
    with executors.hired(engine.most_workers(settings, options), executor) as crew:
        sources = planning.locate(paths_of(paths), settings, crew)
        if base is not None:
            sources, options = on_base(os.fspath(base), sources, options, settings, crew)
        result = analyze_sources(sources, options, settings, crew, progress=progress)
    if len(sources) == 1 and result.errors:
        raise result.errors[0]
    return result


def on_base(
    base: str, sources: Sequence[models.Source], options: Options, settings: Settings, executor: Executor
) -> tuple[list[models.Source], Options]:
    """Models that are read together with the one that they were made from, and options that name it.

    Raises:
        UsageError: the path of the base means several models, or none.
        FormatError: it cannot even be looked for.
    """
    (found,) = planning.locate_each([base], settings, executor)
    if found.error is not None:
        raise found.error
    return [replace(source, base=found.path) for source in sources], replace(options, base=found.model_id)


def analyze_sources(
    sources: Sequence[models.Source],
    options: Options,
    settings: Settings,
    executor: Executor,
    *,
    progress: Callable[[engine.Progress], None] | None = None,
    on_row: Callable[[LayerRow], None] | None = None,
    keep_partial: bool = False,
) -> Result:
    """`analyze` for models that are already located; every failure is a row."""
    return result_of(engine.run(sources, options, settings, executor, progress, on_row, keep_partial), options, sources)


def result_of(run: engine.Run, options: Options, sources: Sequence[models.Source]) -> Result:
    """What callers get of a run of these models with these options."""
    summary = summarize(run.layers) | {"not_selected": run.not_selected}
    unread = any(row.status == "error" for row in run.layers) or any(row.inconclusive for row in run.findings)
    return Result(
        table="layers",
        rows=run.layers,
        finding_rows=run.findings,
        file_rows=run.files,
        summary=summary,
        parameters=json.loads(options.canonical()) | {"params_id": options.params_id(DEFINITIONS_VERSION)},
        exit_code=exit_code(run.errors, run.layers, unread, run.interrupted),
        errors=run.errors,
        interrupted=run.interrupted,
        sources=tuple(sources),
    )


def describe(
    paths: Paths,
    *,
    metrics: str | Sequence[str] = "default",
    layers: str | Sequence[str] = (),
    kinds: str | Sequence[str] = (),
    min_evals: int | None = None,
    max_evals: int | None = None,
    conv: str = "pooled",
    readers: Sequence[str] | None = None,
    limits: Limits | None = None,
    timeout: float = 30.0,
    executor: Executor | None = None,
) -> Result:
    """One row per tensor, from headers only: what is there, and what `analyze` would do with it at which cost.

    Args: as for `analyze`; `metrics` is what the estimates `flops` and `memory_bytes` are for.

    Raises:
        FormatError: the one file that was named cannot be read. With several, each failure is a row.
        UsageError: an option means nothing.
    """
    options = Options(
        metrics=texts(metrics), layers=texts(layers), kinds=texts(kinds), min_evals=min_evals, max_evals=max_evals, conv=conv
    )
    settings = settings_of("auto", None, readers, limits, timeout)
    with executors.hired(engine.most_workers(settings, options), executor) as crew:
        sources = planning.locate(paths_of(paths), settings, crew)
        result = describe_sources(sources, options, settings, crew)
    if len(sources) == 1 and result.errors:
        raise result.errors[0]
    return result


def describe_sources(
    sources: Sequence[models.Source],
    options: Options,
    settings: Settings,
    executor: Executor,
    *,
    progress: Callable[[engine.Progress], None] | None = None,
) -> Result:
    """`describe` for models that are already located; every failure is a row."""
    described = 0

    def advance(source: models.Source) -> None:
        nonlocal described
        described += 1
        if progress is not None:
            progress(engine.Progress(described, len(sources), source.shown))

    plans = planning.plan_models(sources, options, settings, executor, engine.most_workers(settings, options), advance)
    rows = [row for plan in plans for row in _tensor_rows(plan)]
    found = [finding for plan in plans for finding in findings.plan_findings(plan)]
    found += [finding for plan in plans for finding in findings.planned_findings(plan)]
    files = [row for plan in plans for row in findings.file_rows(plan, {})]
    skipped: dict[str, int] = {}
    for row in rows:
        if row.status == "skipped" and row.reason:
            skipped[row.reason] = skipped.get(row.reason, 0) + 1
    unread = any(row.status == "error" for row in rows) or any(finding.inconclusive for finding in found)
    errors = tuple(plan.error for plan in plans if plan.error is not None)
    return Result(
        table="tensors",
        rows=tuple(rows),
        finding_rows=tuple(found),
        file_rows=tuple(files),
        summary={"tensors": len(rows), "skipped": dict(sorted(skipped.items())), "flops": sum(row.flops or 0 for row in rows)},
        parameters=json.loads(options.canonical()),
        exit_code=exit_code(errors, rows, unread),
        errors=errors,
    )


def exit_code(
    errors: Sequence[FormatError], rows: Sequence[LayerRow | TensorRow], unread: bool, interrupted: bool = False
) -> int:
    """130 for a run that was stopped, 4 for a bug of ours, 3 when something is unread or there is nothing at all, else 0."""
    if interrupted:
        return INTERRUPTED
    reasons = {row.reason for row in rows if row.status == "failed"} | {error.category for error in errors}
    if "internal_error" in reasons:
        return 4
    return 3 if unread or not rows else 0


def _tensor_rows(plan: Plan) -> list[TensorRow]:
    if plan.error is not None:
        row = findings.error_row(plan)
        return [TensorRow(model_id=row.model_id, file=row.file, status="error", category=row.category, message=row.message)]
    grouped: dict[str, list[tuple[LayerView, Need]]] = {}
    for view, need in zip(plan.views, plan.needs, strict=True):
        grouped.setdefault(view.spec.name, []).append((view, need))
    placed: dict[tuple[str, int, int], str] = {}
    return [_tensor_row(plan, pairs, placed) for pairs in grouped.values()]


def _tensor_row(plan: Plan, pairs: Sequence[tuple[LayerView, Need]], placed: dict[tuple[str, int, int], str]) -> TensorRow:
    views, needs = [view for view, _ in pairs], [need for _, need in pairs]
    view = views[0]
    spec = view.spec
    first = spec.name
    if spec.extent is not None and spec.extent.nbytes:
        first = placed.setdefault((spec.extent.path, spec.extent.offset, spec.extent.nbytes), spec.name)
    n, m = view.n, view.m
    return TensorRow(
        model_id=plan.source.model_id, file=spec.file, name=spec.name, kind=view.kind, kind_source=view.kind_source,
        confidence=view.confidence, orientation=view.orientation, layer_type=view.layer_type, shape=spec.shape,
        numel=math.prod(spec.shape), nbytes=spec.extent.nbytes if spec.extent else None, offset=spec.extent.offset if spec.extent else None,
        dtype=spec.dtype, quantized=view.quantized, status="skipped" if view.reason else "planned", reason=view.reason,
        parts=tuple(one.part for one in views if one.part and one.part != "whole"), rows=len(views),
        N=n, M=m, Q=n / m if n and m else None, rf=len(view.matrices) or None, num_evals=view.num_evals,
        flops=sum(need.flops + need.further for need in needs), memory_bytes=max(need.plain.least for need in needs) or None,
        tied_to=None if first == spec.name else first, reader=plan.reader,
    )  # fmt: skip


def texts(value: str | Sequence[str]) -> tuple[str, ...]:
    """One text or several, as a tuple."""
    return (value,) if isinstance(value, str) else tuple(value)


def paths_of(paths: Paths) -> list[str]:
    """One path or several, as texts.

    Raises:
        UsageError: no file can be called by one of them.
    """
    several = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    return [path_text(os.fspath(path)) for path in several]


def settings_of(
    jobs: int | str,
    max_memory: int | str | None,
    readers: Sequence[str] | None,
    limits: Limits | None,
    timeout: float,
    time_budget: float | None = None,
) -> Settings:
    """How a run is carried out, from what a caller says.

    Raises:
        UsageError: one of these means nothing.
    """
    return Settings(
        jobs=None if jobs == "auto" else job_count(jobs),
        max_memory=None if max_memory is None else parse_bytes(max_memory),
        limits=limits or Limits(),
        readers=reader_names(readers),
        timeout=seconds(timeout),
        time_budget=None if time_budget is None else seconds(time_budget, "time budget"),
    )


def reader_names(names: Sequence[str] | None) -> tuple[str, ...] | None:
    """The allow-list, refused at once when it names what is not installed."""
    if names is None:
        return None
    return tuple(entry.name for entry in registry.installed(texts(names)))


def seconds(value: Any, name: str = "timeout") -> float:
    """`value` as a time limit of that name."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number <= 10**7:
        raise UsageError(f"{name} is a positive number of seconds, not {value!r}")
    return number


def job_count(value: Any) -> int:
    """`value` as a number of worker processes."""
    if isinstance(value, bool) or not str(value).isdecimal() or int(value) < 1:
        raise UsageError(f"jobs is a positive number or auto, not {value!r}")
    return int(value)
