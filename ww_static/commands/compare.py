"""The commands that look at several checkpoints of one model: parsed, called, printed."""

from __future__ import annotations

from typing import Annotated

import typer

from ww_static.commands.options import (
    BlasThreadsOption,
    BootstrapOption,
    Color,
    ColorOption,
    ConvOption,
    EsdNormOption,
    Format,
    FormatOption,
    JobsOption,
    KindsOption,
    LayersOption,
    MaxMemoryOption,
    MetricsOption,
    OutputOption,
    Progress,
    ProgressOption,
    QuietOption,
    ReadersOption,
    SeedOption,
    TimeoutOption,
    VerboseOption,
    split,
)
from ww_static.commands.runs import Talk, finish, settings_of
from ww_static.workers import starting


def compare(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The model before: a file, or a folder with one model.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The model after.")],
    output_format: FormatOption = Format.TABLE,
    output: OutputOption = None,
    metrics: MetricsOption = "default",
    layers: LayersOption = None,
    kinds: KindsOption = None,
    conv: ConvOption = "pooled",
    esd_norm: EsdNormOption = "none",
    bootstrap: BootstrapOption = False,
    adapter: Annotated[bool, typer.Option("--adapter", help="NEW is an adapter of OLD: W is compared with W + s B A.")] = False,
    seed: SeedOption = 0,
    jobs: JobsOption = "auto",
    blas_threads: BlasThreadsOption = 1,
    max_memory: MaxMemoryOption = None,
    timeout: TimeoutOption = 30.0,
    readers: ReadersOption = None,
    progress: ProgressOption = Progress.AUTO,
    color: ColorOption = Color.AUTO,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Compare two checkpoints, layer by layer; models that do not pair are shown side by side.

    \b
    ww-static compare before.safetensors after.safetensors
    ww-static compare before/ after/ --bootstrap -o pairs.parquet
    """  # noqa: D301  (a backslash b keeps the lines apart)
    starting.begin()
    from ww_static import engine, planning
    from ww_static.options import Options
    from ww_static.outputs import delivery
    from ww_static.outputs.progress import display
    from ww_static.pairs import comparing
    from ww_static.workers import executors

    options = Options(
        metrics=(*split(metrics), *(("bootstrap",) if bootstrap else ())), layers=tuple(layers or ()), kinds=split(kinds),
        conv=conv, esd_norm=esd_norm, seed=seed, blas_threads=blas_threads,
    )  # fmt: skip
    settings = settings_of(jobs, max_memory, readers, timeout)
    delivery.check_outputs(output, output_format.value)
    with executors.hired(engine.most_workers(settings, options), wait=False) as crew, display(progress.value, quiet) as shown:
        sources = planning.locate_each([old, new], settings, crew)
        if adapter:
            sources, options = comparing.adapted(sources, options)
        delivery.prepare(output, output_format.value)
        result = comparing.compare_sources(sources, options, settings, crew, progress=shown, keep_partial=True)
    finish(result, sources, Talk(output, output_format, progress, color, quiet, verbose))


def trend(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...", help="Checkpoints in the order of the series; those of a folder or a glob in natural order."
        ),
    ],
    accuracy: Annotated[
        str | None, typer.Option("--accuracy", metavar="TABLE", help="CSV with checkpoint,accuracy: adds rank correlations.")
    ] = None,
    output_format: FormatOption = Format.TABLE,
    output: OutputOption = None,
    metrics: MetricsOption = "default",
    layers: LayersOption = None,
    kinds: KindsOption = None,
    conv: ConvOption = "pooled",
    esd_norm: EsdNormOption = "none",
    seed: SeedOption = 0,
    jobs: JobsOption = "auto",
    blas_threads: BlasThreadsOption = 1,
    max_memory: MaxMemoryOption = None,
    timeout: TimeoutOption = 30.0,
    readers: ReadersOption = None,
    progress: ProgressOption = Progress.AUTO,
    color: ColorOption = Color.AUTO,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Compare a series of checkpoints, each with the one before; hold their means against accuracies.

    \b
    ww-static trend step-100.safetensors step-200.safetensors step-300.safetensors
    ww-static trend checkpoints/ --accuracy accuracy.csv -o trend.parquet
    """  # noqa: D301
    starting.begin()
    from ww_static import engine
    from ww_static.options import Options
    from ww_static.outputs import delivery
    from ww_static.outputs.progress import display
    from ww_static.pairs import trending
    from ww_static.pairs.accuracies import accuracies
    from ww_static.workers import executors

    options = Options(
        metrics=split(metrics), layers=tuple(layers or ()), kinds=split(kinds), conv=conv, esd_norm=esd_norm, seed=seed,
        blas_threads=blas_threads,
    )  # fmt: skip
    settings = settings_of(jobs, max_memory, readers, timeout)
    delivery.check_outputs(output, output_format.value)
    with executors.hired(engine.most_workers(settings, options), wait=False) as crew, display(progress.value, quiet) as shown:
        sources = trending.series(paths, settings, crew)
        reached = accuracies(accuracy, sources) if accuracy is not None else None
        delivery.prepare(output, output_format.value)
        result = trending.trend_sources(sources, reached, options, settings, crew, progress=shown, keep_partial=True)
    finish(result, sources, Talk(output, output_format, progress, color, quiet, verbose))
