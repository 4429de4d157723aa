"""The commands that look at models one by one: the layer table, and what headers alone tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from ww_static.commands.options import (
    BaseOption,
    BlasThreadsOption,
    BootstrapOption,
    Color,
    ColorOption,
    ConvOption,
    CrossCheckOption,
    EsdNormOption,
    EsdOption,
    FitOption,
    Format,
    FormatOption,
    FullReplicasOption,
    GofOption,
    JobsOption,
    KindsOption,
    LayersOption,
    MaxEvalsOption,
    MaxMemoryOption,
    MetricsOption,
    MinEvalsOption,
    OutputOption,
    PathsArgument,
    PrecisionOption,
    Progress,
    ProgressOption,
    QuietOption,
    RandomizeOption,
    ReadersOption,
    SeedOption,
    TimeBudgetOption,
    TimeoutOption,
    TopKOption,
    VectorsOption,
    VerboseOption,
    XmaxOption,
    split,
)
from ww_static.commands.runs import Talk, finish, paths_of, settings_of
from ww_static.workers import starting

if TYPE_CHECKING:
    from ww_static.options import Options
    from ww_static.plan import Settings


def analyze(
    paths: PathsArgument,
    output_format: FormatOption = Format.TABLE,
    output: OutputOption = None,
    metrics: MetricsOption = "default",
    layers: LayersOption = None,
    kinds: KindsOption = None,
    min_evals: MinEvalsOption = None,
    max_evals: MaxEvalsOption = None,
    conv: ConvOption = "pooled",
    esd_norm: EsdNormOption = "none",
    esd: EsdOption = "none",
    fit: FitOption = "PL",
    xmax: XmaxOption = 0,
    top_k: TopKOption = None,
    cross_check: CrossCheckOption = "none",
    base: BaseOption = None,
    precision: PrecisionOption = "exact",
    randomize: RandomizeOption = False,
    full_replicas: FullReplicasOption = False,
    vectors: VectorsOption = False,
    bootstrap: BootstrapOption = False,
    gof: GofOption = False,
    seed: SeedOption = 0,
    jobs: JobsOption = "auto",
    blas_threads: BlasThreadsOption = 1,
    max_memory: MaxMemoryOption = None,
    timeout: TimeoutOption = 30.0,
    time_budget: TimeBudgetOption = None,
    readers: ReadersOption = None,
    progress: ProgressOption = Progress.AUTO,
    color: ColorOption = Color.AUTO,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Analyze the weights of models: one row per layer.

    \b
    ww-static analyze model.safetensors
    ww-static analyze model.safetensors -o layers.parquet
    ww-static analyze models/ --kinds attention --format json | jq .summary
    """  # noqa: D301  (a backslash b keeps the lines apart)
    starting.begin()
    from ww_static.options import Options

    flags = {"randomize": randomize, "vectors": vectors, "bootstrap": bootstrap, "gof": gof}
    options = Options(
        metrics=(*split(metrics), *(group for group, asked in flags.items() if asked)), layers=tuple(layers or ()), kinds=split(kinds),
        min_evals=min_evals, max_evals=max_evals, conv=conv, esd_norm=esd_norm, esd=esd, fit=fit, xmax=xmax, top_k=top_k, cross_check=cross_check, precision=precision, seed=seed,
        full_replicas=full_replicas, blas_threads=blas_threads,
    )  # fmt: skip
    settings = settings_of(jobs, max_memory, readers, timeout, time_budget)
    _analyze(paths, base, options, settings, Talk(output, output_format, progress, color, quiet, verbose))


def _analyze(paths: Sequence[str], base: str | None, options: Options, settings: Settings, talk: Talk) -> NoReturn:
    """What `analyze` does when its options are known."""
    from ww_static import api, engine, planning
    from ww_static.outputs import delivery
    from ww_static.outputs.progress import display
    from ww_static.workers import executors

    delivery.check_outputs(talk.output, talk.output_format.value)
    named = paths_of(paths)
    lines = delivery.Lines() if talk.output_format is Format.JSONL and not talk.output else None
    crew_size = engine.most_workers(settings, options)
    delivery.prepare(talk.output, talk.output_format.value)  # now, while the first worker is being started, a processor is free
    with executors.hired(crew_size, wait=False) as crew, display(talk.progress.value, talk.quiet) as shown:
        sources = planning.locate(named, settings, crew)
        if base is not None:
            sources, options = api.on_base(base, sources, options, settings, crew)
        result = api.analyze_sources(sources, options, settings, crew, progress=shown, on_row=lines, keep_partial=True)
    if lines is not None:
        lines.finish(result)
    finish(result, sources, talk, printed=lines is not None)


def describe(
    paths: PathsArgument,
    output_format: FormatOption = Format.TABLE,
    output: OutputOption = None,
    metrics: MetricsOption = "default",
    layers: LayersOption = None,
    kinds: KindsOption = None,
    min_evals: MinEvalsOption = None,
    max_evals: MaxEvalsOption = None,
    conv: ConvOption = "pooled",
    timeout: TimeoutOption = 30.0,
    readers: ReadersOption = None,
    progress: ProgressOption = Progress.AUTO,
    color: ColorOption = Color.AUTO,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """List the tensors of models from their headers: kinds, shapes, what would be analysed, why not, at which cost.

    \b
    ww-static describe model.safetensors
    ww-static describe model.safetensors.index.json --format csv
    ww-static describe model.safetensors --metrics all --format json | jq .summary.flops
    """  # noqa: D301
    starting.begin()
    from ww_static import api, engine, planning
    from ww_static.options import Options
    from ww_static.outputs import delivery
    from ww_static.outputs.progress import display
    from ww_static.workers import executors

    options = Options(
        metrics=split(metrics), layers=tuple(layers or ()), kinds=split(kinds), min_evals=min_evals, max_evals=max_evals, conv=conv
    )  # fmt: skip
    delivery.check_outputs(output, output_format.value)
    settings = settings_of("auto", None, readers, timeout)
    named = paths_of(paths)
    with executors.hired(engine.most_workers(settings, options), wait=False) as crew, display(progress.value, quiet) as shown:
        sources = planning.locate(named, settings, crew)
        delivery.prepare(output, output_format.value)
        result = api.describe_sources(sources, options, settings, crew, progress=shown)
    finish(result, sources, Talk(output, output_format, progress, color, quiet, verbose))
