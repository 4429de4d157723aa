"""alpha, xmin and D of random matrices of seven families against a float64 SVD: how far apart, and which are near-ties.

And float32 spectra of the same matrices against the bounds that are stated for them.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ww_static.measuring.measured import FIT_CUT, measure
from ww_static.options import Options
from ww_static.spectral import lapack
from ww_static.spectral.eigen import EPS, spectrum
from ww_static.spectral.gram import blocks_of, gram
from ww_static.spectral.missing import Missing
from ww_static.spectral.powerlaw import TailFit, tail

Matrix = NDArray[np.float64]
Maker = Callable[[np.random.Generator, int, int], Matrix]
CLOSE = 1e-10
LARGE = 1620  # columns: above the border between one stage and two


def _orthonormal(rng: np.random.Generator, n: int, m: int) -> Matrix:
    return np.linalg.qr(rng.standard_normal((n, m)))[0]


def _heavy(rng: np.random.Generator, n: int, m: int) -> Matrix:
    return rng.standard_t(2.5, (n, m)) * 0.05


def _gaussian(rng: np.random.Generator, n: int, m: int) -> Matrix:
    W: Matrix = rng.standard_normal((n, m)) / np.sqrt(n)
    return W


def _spiked(rng: np.random.Generator, n: int, m: int) -> Matrix:
    strengths = rng.uniform(2, 6, 8)
    return _gaussian(rng, n, m) + _orthonormal(rng, n, 8) * strengths @ _orthonormal(rng, m, 8).T


def _low_rank(rng: np.random.Generator, n: int, m: int) -> Matrix:
    r = m // 3
    return rng.standard_normal((n, r)) @ rng.standard_normal((r, m)) / m


def _graded(rng: np.random.Generator, n: int, m: int) -> Matrix:
    sigma = 10 ** -np.linspace(-0.5, rng.uniform(1, 5), m)
    return _orthonormal(rng, n, m) * sigma @ _orthonormal(rng, m, m).T


def _tap(rng: np.random.Generator, n: int, m: int) -> Matrix:
    """One tap of a 3 x 3 kernel of float32: a strided part of a larger array."""
    kernel = (rng.standard_t(4, (n, m, 3, 3)) * 0.05).astype(np.float32)
    return kernel[:, :, 1, 2].astype(np.float64)


def _tall(rng: np.random.Generator, n: int, m: int) -> Matrix:
    return rng.standard_normal((12 * n, m)) * rng.pareto(2.0, m) * 0.05


FAMILIES: dict[str, Maker] = {
    "heavy": _heavy, "Gaussian": _gaussian, "spiked": _spiked, "low rank": _low_rank, "graded": _graded, "conv tap": _tap,
    "tall": _tall,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One matrix, three fits of the eigenvalues of X = W^T W.

    Attributes:
        family: the kind of matrix.
        label: shape and number.
        route: ``default`` (`spectrum`) or ``two-stage`` (at any size, nothing refined).
        difference: largest relative difference of alpha, xmin and D from the fit of the SVD.
        excuse: why it may be larger than 1e-10: ``near_tie`` (two candidates for xmin whose D are within 1e-9), ``floor``
            (xmin so near the numerical floor that the row carries `spectral_floor`), or empty.
    """

    family: str
    label: str
    route: str
    difference: float
    excuse: str


@dataclass(frozen=True, slots=True)
class FastCase:
    """One matrix in float32, against float64.

    Attributes:
        family: the kind of matrix.
        label: shape and number.
        eigenvalues: largest error, in units of the stated bound.
        alpha, D: their errors in those units; None when the tail is another, or begins below the bound.
        excuse: why they are None: ``near_tie``, ``floor``, or empty.
    """

    family: str
    label: str
    eigenvalues: float
    alpha: float | None
    D: float | None
    excuse: str


def matrices(count: int, seed: int = 1, least: int = 40, most: int = 260) -> Iterator[tuple[str, str, Matrix]]:
    """Family, label and matrix, each family in its turn, of `least` to `most` columns; the last of each is large when there are 500."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        family = list(FAMILIES)[number % len(FAMILIES)]
        m = int(rng.integers(least, most))
        n = int(m * rng.choice([1.0, 1.5, 3.0]))
        if count >= 500 and number >= count - len(FAMILIES) and family != "tall":
            n, m = LARGE + 40, LARGE
        W = FAMILIES[family](rng, n, m)
        if rng.integers(2):
            W = W.T  # wide
        yield family, f"{W.shape[0]} x {W.shape[1]} #{number}", W


def cases(count: int, seed: int = 1) -> Iterator[Case]:
    """The cases of `matrices`, by both routes."""
    for family, label, W in matrices(count, seed):
        yield from _compared(family, label, W)


def fast_cases(count: int, seed: int = 1) -> Iterator[FastCase]:
    """The cases of `matrices` in float32, which begins at 512 columns."""
    for family, label, W in matrices(count, seed, 512, 640):
        exact, fast = spectrum(W, "gram"), spectrum(W, precision="fast")
        error = float(np.abs(fast.eigenvalues - exact.eigenvalues).max()) / fast.floor
        mine, expected = measure((fast,), 1.0, Options(precision="fast")).fit, _fit(exact.eigenvalues)
        if isinstance(mine, Missing) or mine.k != expected.k:
            excuse = "floor" if isinstance(mine, Missing) else "near_tie" if mine.near_tie else ""
            yield FastCase(family, label, error, None, None, excuse)
            continue
        alpha = abs(mine.alpha - expected.alpha) / mine.alpha_error(fast.floor)
        yield FastCase(family, label, error, alpha, abs(mine.D - expected.D) / mine.distance_error(fast.floor), "")


def _compared(family: str, label: str, W: Matrix) -> Iterator[Case]:
    expected = _fit(np.sort(np.linalg.svd(W, compute_uv=False)) ** 2)
    found = {"default": spectrum(W).eigenvalues}
    routines = lapack.routines()
    if routines is not None:
        blocks, _, m = blocks_of(W)
        values = lapack.two_stage_eigenvalues(routines, gram(blocks, m), min(32, m - 2))
        if values is not None:
            found["two-stage"] = np.maximum(values, 0.0)
    for route, eigenvalues in found.items():
        fit = _fit(eigenvalues)
        pairs = ((fit.alpha, expected.alpha), (fit.xmin, expected.xmin), (fit.D, expected.D))
        difference = max(abs(mine / other - 1) for mine, other in pairs)
        floor = len(eigenvalues) * EPS * float(eigenvalues[-1])
        excuse = "near_tie" if fit.near_tie or expected.near_tie else "floor" if floor > 1e-9 * expected.xmin else ""
        yield Case(family, label, route, difference, excuse)


def _fit(eigenvalues: Matrix) -> TailFit:
    fit = tail(eigenvalues[eigenvalues > FIT_CUT])
    assert isinstance(fit, TailFit)  # every family has a tail
    return fit


def main() -> None:
    """Parses, compares, prints: the worst of each family, and every case that is further apart than 1e-10."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="matrices")
    parser.add_argument("--fast-count", type=int, default=140, help="matrices in float32, of 512 to 640 columns")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    worst: dict[tuple[str, str], float] = {}
    counts: Counter[str] = Counter()
    print(f"backend: {lapack.backend_name()}")
    for case in cases(arguments.count, arguments.seed):
        counts[case.route] += 1
        if case.difference > CLOSE:
            print(f"{case.route}, {case.family} {case.label}: {case.difference:.1e} {case.excuse or 'NO EXCUSE'}")
        else:
            key = (case.family, case.route)
            worst[key] = max(worst.get(key, 0.0), case.difference)
    print(", ".join(f"{count} {route}" for route, count in counts.items()))
    for (family, route), difference in sorted(worst.items()):
        print(f"| {family} | {route} | {difference:.1e} |")
    _print_fast(list(fast_cases(arguments.fast_count, arguments.seed)))


def _print_fast(found: list[FastCase]) -> None:
    print("\nfloat32, largest error over the stated bound:\n")
    print(
        "| family | eigenvalues | alpha | D | no fit: values below the bound could decide it | other tail |\n|---|---|---|---|---|---|"
    )
    for family in FAMILIES:
        of = [case for case in found if case.family == family]
        same = [case for case in of if case.alpha is not None]
        alpha, D = (max((getattr(case, name) for case in same), default=0.0) for name in ("alpha", "D"))
        unknown = sum(case.excuse == "floor" for case in of)
        others = f"{unknown} | {len(of) - len(same) - unknown}"
        print(f"| {family} | {max(case.eigenvalues for case in of):.2f} | {alpha:.3f} | {D:.3f} | {others} |")
    for case in found:
        beyond = max(case.eigenvalues, case.alpha or 0.0, case.D or 0.0) > 1
        if beyond or (case.alpha is None and case.excuse != "floor"):
            print(f"float32, {case.family} {case.label}: {case.excuse or 'NO EXCUSE'}")


if __name__ == "__main__":
    main()
