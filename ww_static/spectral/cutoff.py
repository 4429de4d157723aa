"""The power law with an exponential cut-off whose xmin is selected near the peak of the ESD: weightwatcher's E_TPL, really fitted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral.families import TRUNCATED, Point, fitted
from ww_static.spectral.missing import Missing

_BINS = 100
_RANGE = (0.95, 1.5)  # of xmin, in units of the peak
_FEWEST = 10
_NODES = 4  # of the integral between two values


@dataclass(frozen=True, slots=True)
class CutoffFit:
    """A fit of x^-alpha exp(-rate x) on [xmin, inf).

    Attributes:
        alpha: exponent, in [0, 20]; above, a power law.
        rate: of the cut-off, in units of 1/x; 0 for none.
        xmin: smallest value of the tail.
        D: two-sided Kolmogorov-Smirnov distance.
    """

    alpha: float
    rate: float
    xmin: float
    D: float


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
    fits: list[CutoffFit] = []
    for i in range(low, min(high, len(x) - _FEWEST + 1)):
        fit = _candidate(x[i:], fits[-1] if fits else None)
        if fit is not None:
            fits.append(fit)
    return min(fits, key=lambda fit: fit.D) if fits else Missing("tail_too_short")


def _candidate(x: NDArray[np.float64], before: CutoffFit | None) -> CutoffFit | None:
    """The fit from x_0 on; the one from the value before is near it, and saves most of the search."""
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
    if point is None:
        return CutoffFit(1 + c, 0.0, float(x[0]), D)
    return CutoffFit(1 + point.a, point.b / float(x[0]), float(x[0]), D)


def distribution(point: Point, u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the law at or below each u: integrals between neighbours, summed; u float64, ascending from 0."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    gaps = np.diff(u)
    at = u[:-1, None] + gaps[:, None] * (0.5 * (nodes + 1))[None, :]
    pieces = np.exp(-point.a * at - point.b * np.expm1(at) - point.log_z) @ (0.5 * weights) * gaps
    return np.concatenate(([0.0], np.cumsum(pieces)))
