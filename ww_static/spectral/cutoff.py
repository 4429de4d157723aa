"""The power law with an exponential cut-off and an xmin of its own: anywhere (TPL), or near the peak of the ESD (E_TPL)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral.families import TRUNCATED, Point, fitted
from ww_static.spectral.missing import Missing
from ww_static.spectral.powerlaw import TailFit

_BINS = 100
_RANGE = (0.95, 1.5)  # of xmin, in units of the peak
_FEWEST = 10
MOST_CANDIDATES = 200  # for xmin anywhere; more of them are thinned out evenly in the logarithm
HIGHEST_ALPHA = 1 + TRUNCATED.highest
_NODES = 4  # of the integral between two values


@dataclass(frozen=True, slots=True)
class CutoffFit(TailFit):
    """A fit of x^-alpha exp(-rate x) on [xmin, inf): alpha in [0, 20], and above a power law; D is the two-sided distance.

    Attributes:
        rate: of the cut-off, in units of 1/x; 0 for none.
        kind: how xmin was selected: ``TPL`` or ``E_TPL``.
    """

    rate: float
    kind: str


def peak(x: NDArray[np.float64]) -> float:
    """Left edge of the fullest of 100 equal bins of log10 x, as a value of x; of equal ones the first."""
    counts, edges = np.histogram(np.log10(x), _BINS)
    return float(10 ** edges[int(counts.argmax())])


def cutoff_fit(x: NDArray[np.float64]) -> CutoffFit | Missing:
    """The candidate for xmin in [0.95, 1.5] times the peak with the smallest distance; of equal ones the first.

    Args:
        x: float64, shape (n,), ascending, positive, not all equal.

    Returns:
        The fit; or Missing ``tail_too_short``: no candidate has 10 values.
    """
    top = peak(x)
    low, high = (int(np.searchsorted(x, bound * top)) for bound in _RANGE)
    return _best("E_TPL", x, range(low, min(high, len(x) - _FEWEST + 1)))


def truncated_fit(x: NDArray[np.float64]) -> CutoffFit | Missing:
    """The candidate for xmin with the smallest distance, of all with 10 values, or of 200 of them; of equal ones the first.

    The 200 are the first values at or above 200 points, evenly spaced in the logarithm.

    Args:
        x: float64, shape (n,), ascending, positive, not all equal.

    Returns:
        The fit; or Missing ``tail_too_short``: no candidate has 10 values.
    """
    last = len(x) - _FEWEST
    if last < MOST_CANDIDATES:
        return _best("TPL", x, range(last + 1))
    points = np.geomspace(x[0], x[last], MOST_CANDIDATES)
    points[0], points[-1] = x[0], x[last]
    return _best("TPL", x, [int(i) for i in np.unique(np.searchsorted(x, points))])


def _best(kind: str, x: NDArray[np.float64], candidates: Iterable[int]) -> CutoffFit | Missing:
    fits: list[CutoffFit] = []
    for i in candidates:
        fit = _candidate(kind, x, i, fits[-1] if fits else None)
        if fit is not None:
            fits.append(fit)
    return min(fits, key=lambda fit: fit.D) if fits else Missing("tail_too_short")


def _candidate(kind: str, values: NDArray[np.float64], i: int, before: CutoffFit | None) -> CutoffFit | None:
    """The fit from value i on; the one from the candidate before is near it, and saves most of the search."""
    x = values[i:]
    u = np.log(x / x[0])
    mean_u = float(u.mean())
    if not mean_u > 0:
        return None
    c = 1 / mean_u
    start = (before.alpha - 1, before.rate * float(x[0])) if before is not None and before.rate > 0 else None
    point = fitted(TRUNCATED, mean_u, float(np.expm1(u).mean()), 1 / (c - 1) if c > 1 else math.inf, start)
    shares = -np.expm1(-c * u) if point is None else distribution(point, u)
    steps = np.arange(len(x) + 1) / len(x)
    D = float(max(np.max(shares - steps[:-1]), np.max(steps[1:] - shares)))
    alpha, rate = (1 + c, 0.0) if point is None else (1 + point.a, point.b / float(x[0]))
    return CutoffFit(alpha, float(x[0]), D, len(values), len(x), near_tie=False, rate=rate, kind=kind)


def distribution(point: Point, u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the law at or below each u: integrals between neighbours, summed; u float64, ascending from 0."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    gaps = np.diff(u)
    at = u[:-1, None] + gaps[:, None] * (0.5 * (nodes + 1))[None, :]
    pieces = np.exp(-point.a * at - point.b * np.expm1(at) - point.log_z) @ (0.5 * weights) * gaps
    return np.concatenate(([0.0], np.cumsum(pieces)))


CUTOFFS: dict[str, Callable[[NDArray[np.float64]], CutoffFit | Missing]] = {"TPL": truncated_fit, "E_TPL": cutoff_fit}
