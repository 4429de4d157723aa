"""The commands smooth and sharpen: they write a new model, and print what they changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from ww_static.commands.options import (
    Color,
    ColorOption,
    Format,
    FormatOption,
    JobsOption,
    KindsOption,
    LayersOption,
    MaxMemoryOption,
    Progress,
    ProgressOption,
    QuietOption,
    ReadersOption,
    SeedOption,
    TimeoutOption,
    VerboseOption,
    split,
)
from ww_static.commands.runs import Talk, finish
from ww_static.workers import starting

if TYPE_CHECKING:
    from ww_static.results import Result

ModelArgument = Annotated[str, typer.Argument(metavar="PATH", help="One model: a file, or a folder that holds one.")]
ModelOption = Annotated[
    str, typer.Option("--output", "-o", metavar="FILE", help="The new .safetensors file; never one of those that are read.")
]
MethodOption = Annotated[
    str,
    typer.Option(
        "--method",
        metavar="detX|svd|rmt|lambda_min",
        help="How many components stay: detX_num, a share, num_spikes or num_pl_spikes of them.",
    ),
]
PercentOption = Annotated[
    float | None,
    typer.Option("--percent", metavar="SHARE", help="The share of --method svd, 0.8 by default; negative: of those that go."),
]


def smooth(
    path: ModelArgument,
    output: ModelOption,
    method: MethodOption = "detX",
    percent: PercentOption = None,
    layers: LayersOption = None,
    kinds: KindsOption = None,
    output_format: FormatOption = Format.TABLE,
    jobs: JobsOption = "auto",
    max_memory: MaxMemoryOption = None,
    timeout: TimeoutOption = 30.0,
    readers: ReadersOption = None,
    progress: ProgressOption = Progress.AUTO,
    color: ColorOption = Color.AUTO,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write a model whose matrices keep their largest singular components only.

    \b
    ww-static smooth model.safetensors -o smooth.safetensors
    ww-static smooth model.safetensors -o smooth.safetensors --method svd --percent 0.5 --kinds dense
    """  # noqa: D301
    starting.begin()
    from ww_static.transforms import transforming

    call = partial(
        transforming.smooth, path, output, method=method, percent=percent, layers=layers or (), kinds=split(kinds), jobs=jobs,
        max_memory=max_memory, readers=split(readers) or None, timeout=timeout,
    )  # fmt: skip
    _run(call, path, Talk(None, output_format, progress, color, quiet, verbose))


def sharpen(
    path: ModelArgument,
    output: ModelOption,
    seed: SeedOption = 0,
    layers: LayersOption = None,
    kinds: KindsOption = None,
    output_format: FormatOption = Format.TABLE,
    jobs: JobsOption = "auto",
    max_memory: MaxMemoryOption = None,
    timeout: TimeoutOption = 30.0,
    readers: ReadersOption = None,
    progress: ProgressOption = Progress.AUTO,
    color: ColorOption = Color.AUTO,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write a model without correlation traps: without what a permuted copy of each matrix shows above its noise.

    \b
    ww-static sharpen model.safetensors -o sharp.safetensors
    """  # noqa: D301
    starting.begin()
    from ww_static.transforms import transforming

    call = partial(
        transforming.sharpen, path, output, seed=seed, layers=layers or (), kinds=split(kinds), jobs=jobs,
        max_memory=max_memory, readers=split(readers) or None, timeout=timeout,
    )  # fmt: skip
    _run(call, path, Talk(None, output_format, progress, color, quiet, verbose))


def _run(call: Callable[..., Result], path: str, talk: Talk) -> NoReturn:
    from ww_static.models import Source
    from ww_static.outputs import delivery
    from ww_static.outputs.progress import display

    delivery.check_outputs(None, talk.output_format.value)
    with display(talk.progress.value, talk.quiet) as shown:
        result = call(progress=shown)
    sources = [Source(path, os.path.basename(path), str(result.rows[0].model_id))]
    finish(result, sources, talk)
