"""The ESD of one float32 matrix: against a values-only float64 SVD, and against the speed of matrix products in the same run."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks import calls, measure, models, tables

SHAPES = ((768, 768), (1024, 1024), (2304, 768), (2048, 2048))
FULL_SHAPES = ((4096, 4096), (11008, 4096), (32000, 4096))


def spectra(peers: dict[str, tuple[Path, str]], shapes: Sequence[tuple[int, int]], rounds: int = 3) -> None:
    """One line per shape and way to compute it; all ways and peers in turn, each in a process of its own.

    Args:
        peers: what the table calls another side -> its interpreter and its task in `probe`; ratios are to the first.
        shapes: rows and columns.
        rounds: calls of each, beside one to warm up.
    """
    rates = tables.opening("ESD of one float32 matrix")
    own = ways()
    if "fast" not in own:
        print("no lines of the fast precision: this ww_static.spectrum has none", file=sys.stderr)
    names = [f"CPU s, {name}" for name in peers]
    ratios = [f"CPU ratio to {name}" for name in peers]
    first = next(iter(peers))
    tables.header(
        "N x M", "ours", "CPU s, ours", *names, *ratios, "wall ratio", "ours, x of the gemm bound", f"{first}, x of the gemm bound",
        "peak MiB, ours", f"peak MiB, {first}", "memory ratio", "largest error / lambda_max",
    )  # fmt: skip
    for shape in shapes:
        mine, others = _taken(own, peers, shape, rounds)
        work = operations(*shape)
        for way, one in mine.items():
            bound = work / (rates.single if way == "fast" else rates.double)
            other = others[first]
            error = float(np.max(np.abs(one.values - other.values)) / other.values[-1])
            tables.row(
                f"{shape[0]} x {shape[1]}", way, f"{one.cpu:.3f}", *(f"{peer.cpu:.3f}" for peer in others.values()),
                *(f"**{peer.cpu / one.cpu:.2f}**" for peer in others.values()), f"{other.wall / one.wall:.2f}",
                f"{one.cpu / bound:.2f}", f"{other.cpu / (work / rates.double):.2f}", f"{one.rise / measure.MIB:.0f}",
                f"{other.rise / measure.MIB:.0f}", f"{other.rise / max(one.rise, 1):.1f}", f"{error:.1e}",
            )  # fmt: skip
    print("\nThe bound: N M^2 + 4/3 M^3 operations at the dgemm rate, for `fast` at the sgemm rate.")
    stages([shape for shape in shapes if shape[0] == shape[1]], rates)
    tables.closing()


def ways() -> dict[str, str]:
    """The ways in which ww_static computes an ESD -> task in `probe`; `fast` where it is known."""
    from ww_static.spectral.eigen import spectrum

    known = "precision" in inspect.signature(spectrum).parameters
    return {"exact": "esd_ours", **({"fast": "esd_fast"} if known else {}), "exact, numpy backend": "esd_numpy"}


def _taken(
    own: dict[str, str], peers: dict[str, tuple[Path, str]], shape: tuple[int, int], rounds: int
) -> tuple[dict[str, calls.Timed], dict[str, calls.Timed]]:
    """New processes for every shape: what an allocator keeps from an earlier one would hide a peak."""
    with ExitStack() as stack:
        sides = [(stack.enter_context(calls.own(models.CACHE / "ours.err")), task) for task in own.values()]
        sides += [(stack.enter_context(calls.Side(python, models.CACHE / "peer.err")), task) for python, task in peers.values()]
        found = calls.alternating(sides, shape, rounds)
    return dict(zip(own, found, strict=False)), dict(zip(peers, found[len(own) :], strict=True))


def operations(n: int, m: int) -> float:
    """One triangle of W^T W, and a reduction to tridiagonal form."""
    return n * m * m + 4 / 3 * m**3


def stages(shapes: Sequence[tuple[int, int]], rates: tables.Rates) -> None:
    """The two stages alone: W^T W as a share of the speed of products, eigenvalues as a multiple of their bound."""
    print("\n### the two stages of ours\n")
    tables.header("n", "CPU s, W^T W", "share of dgemm speed (N M^2)", "CPU s, eigenvalues", "x of 4/3 n^3 at dgemm speed")
    for n, m in shapes:
        products, values = stage_seconds(n, m)
        bound = 4 / 3 * m**3 / rates.double
        tables.row(
            str(m), f"{products:.3f}", f"{n * m * m / rates.double / products:.2f}", f"{values:.3f}", f"{values / bound:.2f}"
        )


def stage_seconds(n: int, m: int, rounds: int = 3) -> tuple[float, float]:
    """CPU seconds of X = W^T W of a float32 matrix, and of the eigenvalues of X by the route that its size takes."""
    with calls.own(models.CACHE / "ours.err") as ours:
        products, values = calls.alternating([(ours, "gram_ours"), (ours, "eig_ours")], (n, m), rounds)
    return products.cpu, values.cpu
