"""weightwatcher's fit of a Marchenko-Pastur density to an ESD; the density of the ESD is estimated once, not per candidate.

The eigenvalues are rescaled to mean 1; what is fitted is the standard deviation s of the entries, nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral.missing import Missing

_WIDTH = 0.1  # half-width of the triangular kernel
_POINTS = 1000
_SPARSE = 0.01  # where the estimated density is below, nothing is compared
_REJECTED = 1000.0  # what every point of an inadmissible candidate is off by
_TOLERANCE = 1e-4  # of the simplex, in s and in the sum of squares
_MOST_STEPS = 200


@dataclass(frozen=True, slots=True)
class MPFit:
    """The fitted law.

    Attributes:
        W_scale: factor on W that makes the mean eigenvalue 1.
        sigma_mp: standard deviation of the entries of sqrt(N) W W_scale that fits best.
        bulk_min, bulk_max: edges of the law, in the units of the eigenvalues.
        mp_softrank: bulk_max / lambda_max.
    """

    W_scale: float
    sigma_mp: float
    bulk_min: float
    bulk_max: float
    mp_softrank: float


@dataclass(frozen=True, slots=True)
class _Target:
    """The estimated density: points x, heights y, the point of the largest height; and the aspect ratio of the law."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    mode: float
    Q: float


def mp_fit(eigenvalues: NDArray[np.float64], Q: float) -> MPFit | Missing:
    """argmin over s of the squared residual between the law's density and a triangular-kernel density of the ESD.

    195 values of s, 0.05 to 2 times the one whose upper edge is lambda_max, then a simplex. For Q = 1 singular values are
    compared with a quarter circle, whose radius is not fitted. Points with a density below 0.01 do not count. A candidate whose
    bulk ends below the mode or above the points, or begins above the mode, is rejected.

    Args:
        eigenvalues: float64, shape (m,), ascending, all >= 0.
        Q: aspect ratio N/M, at least 1.

    Returns:
        The fit; or Missing: ``zero_matrix``, ``fit_failed`` (the density is nowhere above 0.01).

    Source: weightwatcher 0.7.7.
    """
    total = float(eigenvalues.sum())
    if not total > 0:
        return Missing("zero_matrix")
    W_scale = math.sqrt(len(eigenvalues) / total)
    t = eigenvalues * (W_scale * W_scale)
    root = math.sqrt(1 / Q)
    first = math.sqrt(float(t[-1])) / (1 + root)
    target = _target(np.sqrt(t) if Q == 1 else t, Q)
    if isinstance(target, Missing):
        return target
    grid = np.arange(0.05 * first, 2.0 * first, 0.01 * first)
    start = float(grid[int(np.argmin(_squares(target, grid)))])
    s = _polished(lambda one: float(_squares(target, np.array([one]))[0]), start)
    low, high = ((s * (1 + sign * root)) ** 2 for sign in (-1, 1))
    return MPFit(W_scale, s, low / W_scale**2, high / W_scale**2, high / float(t[-1]))


def _target(values: NDArray[np.float64], Q: float) -> _Target | Missing:
    x = np.linspace(0, float(values[-1]) + 0.5, _POINTS)
    y = triangular_density(values, x)
    dense = y > _SPARSE
    if not dense.any():
        return Missing("fit_failed")
    return _Target(x[dense], y[dense], float(x[int(np.argmax(y))]), Q)


def triangular_density(values: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the kernels (1 - |u|/h)/h, h = 0.1, at each point, from sums over ranges of the sorted values.

    Args:
        values: float64, shape (m,), ascending.
        points: float64, any shape.
    """
    h = _WIDTH
    sums = np.concatenate([[0.0], np.cumsum(values)])
    low = np.searchsorted(values, points - h, side="right")
    middle = np.searchsorted(values, points, side="right")
    high = np.searchsorted(values, points + h, side="left")
    high = np.maximum(high, middle)
    below = (middle - low) * (1 - points / h) + (sums[middle] - sums[low]) / h
    above = (high - middle) * (1 + points / h) - (sums[high] - sums[middle]) / h
    return np.asarray((below + above) / (len(values) * h))


def _squares(of: _Target, s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of the squared residuals for each s, float64, the same shape."""
    if of.Q == 1:
        circle = np.sqrt(np.maximum(4 - of.x * of.x, 0.0))
        return np.asarray(np.square(circle[None, :] / (np.pi * s * s)[:, None] - of.y).sum(axis=1))
    root = math.sqrt(1 / of.Q)
    high, low = np.square(s * (1 + root)), np.square(s * (1 - root))
    result = np.full(len(s), _REJECTED * _REJECTED * len(of.x))
    admitted = np.flatnonzero((high >= of.mode) & (high <= of.x[-1]) & (low <= of.mode))
    if len(admitted) == 0:
        return result
    # below x = 0.1 there may be points, at 0 there is no density
    factor = np.divide(of.Q / (2 * np.pi), of.x, out=np.zeros_like(of.x), where=of.x > 0)
    law = high[admitted, None] - of.x
    law *= of.x - low[admitted, None]
    np.sqrt(np.maximum(law, 0.0, out=law), out=law)
    law *= factor
    law /= np.square(s[admitted])[:, None]
    law -= of.y
    result[admitted] = np.einsum("ij,ij->i", law, law)
    return result


def _polished(value: Callable[[float], float], start: float) -> float:
    """Minimizer in one dimension by the simplex of Nelder and Mead 1965: two points, the first step 5 %.

    It ends when the points, and the values at them, are within 1e-4; these tolerances are part of weightwatcher's number.
    """
    best, worst = start, 1.05 * start
    f_best, f_worst = value(best), value(worst)
    if f_worst < f_best:
        best, worst, f_best, f_worst = worst, best, f_worst, f_best
    evaluated = 2
    for _ in range(_MOST_STEPS - 1):
        if evaluated >= _MOST_STEPS or (abs(worst - best) <= _TOLERANCE and abs(f_worst - f_best) <= _TOLERANCE):
            break
        tried = 2 * best - worst
        f_tried = value(tried)
        evaluated += 2
        if f_tried < f_best:
            further = 3 * best - 2 * worst
            f_further = value(further)
            worst, f_worst = (further, f_further) if f_further < f_tried else (tried, f_tried)
        else:
            outside = f_tried < f_worst
            nearer = 1.5 * best - 0.5 * worst if outside else 0.5 * (best + worst)
            f_nearer = value(nearer)
            if f_nearer <= f_tried if outside else f_nearer < f_worst:
                worst, f_worst = nearer, f_nearer
            else:
                worst = best + 0.5 * (worst - best)
                f_worst = value(worst)
                evaluated += 1
        if f_worst < f_best:
            best, worst, f_best, f_worst = worst, best, f_worst, f_best
    return best
