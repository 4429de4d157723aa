"""The commands that read no model: the laws of noise as numbers, and how well the estimators do on known laws."""

from __future__ import annotations

from typing import Annotated

import typer

from ww_static.commands.options import (
    JobsOption,
    ListingFormat,
    ListingFormatOption,
    Progress,
    ProgressOption,
    QuietOption,
    SeedOption,
)
from ww_static.workers import starting

theory_app = typer.Typer(
    help="The laws of noise as numbers: Marchenko-Pastur, Tracy-Widom, spikes (BBP).",
    no_args_is_help=True,
    rich_markup_mode=None,
)
QOption = Annotated[float, typer.Option("--q", help="Aspect ratio N/M, at least 1.")]
SigmaOption = Annotated[float, typer.Option("--sigma", help="Standard deviation of the elements.")]


@theory_app.command("mp")
def marchenko_pastur(
    q: QOption,
    sigma: SigmaOption = 1.0,
    n_points: Annotated[int, typer.Option("--n-points", help="Points from edge to edge.")] = 100,
    output_format: ListingFormatOption = ListingFormat.TABLE,
) -> None:
    """Marchenko-Pastur: edges, density and distribution of the eigenvalues of W^T W / N.

    \b
    ww-static theory mp --q 2
    ww-static theory mp --q 2 --sigma 0.02 --n-points 1000 --format csv
    """  # noqa: D301
    from ww_static import theory

    print(theory.mp(q=q, sigma=sigma, n_points=n_points).text(output_format), end="")


@theory_app.command("tw")
def tracy_widom(
    n: Annotated[int, typer.Option("--n", help="One side of W.")],
    m: Annotated[int, typer.Option("--m", help="The other side.")],
    sigma: SigmaOption = 1.0,
    level: Annotated[
        str, typer.Option("--level", metavar="P,...", help="Probabilities of the upper tail, each at most 0.1.")
    ] = "0.05,0.01,0.001",
    output_format: ListingFormatOption = ListingFormat.TABLE,
) -> None:
    """Tracy-Widom: the largest eigenvalue of W^T W for noise, and what it rarely exceeds.

    \b
    ww-static theory tw --n 1000 --m 500
    ww-static theory tw --n 1000 --m 500 --sigma 0.02 --level 0.01
    """  # noqa: D301
    from ww_static import theory

    print(theory.tw(n=n, m=m, sigma=sigma, level=level).text(output_format), end="")


@theory_app.command("bbp")
def baik_ben_arous_peche(
    q: QOption,
    theta: Annotated[str, typer.Option("--theta", metavar="T,...", help="Singular values added to the noise.")],
    output_format: ListingFormatOption = ListingFormat.TABLE,
) -> None:
    """Baik, Ben Arous, Peche: where G + theta u v^T has an outlier, and how true its vectors are.

    \b
    ww-static theory bbp --q 2 --theta 0.5,1.5,2,3
    """  # noqa: D301
    from ww_static import theory

    print(theory.bbp(q=q, theta=theta).text(output_format), end="")


def calibrate(
    sampler: Annotated[
        str,
        typer.Option("--sampler", metavar="pareto,lomax", help="A power law throughout (Pareto I), or in its far tail only."),
    ] = "pareto,lomax",
    alpha: Annotated[str, typer.Option("--alpha", metavar="A,...", help="True exponents.")] = "1.5,2,2.5,3,3.5,4,5,6,7",
    n: Annotated[int, typer.Option("--n", help="Values of a sample.")] = 1000,
    runs: Annotated[int, typer.Option("--runs", help="Samples of each law.")] = 30,
    seed: SeedOption = 0,
    output_format: ListingFormatOption = ListingFormat.TABLE,
    jobs: JobsOption = "auto",
    progress: ProgressOption = Progress.AUTO,
    quiet: QuietOption = False,
) -> None:
    """Calibration curves of the estimators of alpha: mean, spread and bias over samples of known laws.

    \b
    ww-static calibrate
    ww-static calibrate --sampler pareto --alpha 2,4 --n 200 --runs 100 --format csv
    """  # noqa: D301
    starting.begin()
    from ww_static import calibration
    from ww_static.outputs.progress import display

    with display(progress.value, quiet) as shown:
        found = calibration.calibrate(sampler=sampler, alpha=alpha, n=n, runs=runs, seed=seed, jobs=jobs, progress=shown)
    print(found.text(output_format), end="")
