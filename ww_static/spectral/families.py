"""Truncated power law and lognormal above xmin: two exponential families in u = ln(x/xmin), each with one maximum.

The density in u is exp(-a s1(u) - b s2(u))/Z on [0, inf), with s1 = u and s2 = e^u - 1 (truncated power law) or u^2 (lognormal). ln Z is
convex in (a, b), so the log-likelihood is concave, and b = 0 is the power law of exponent 1 + a. Moments are sums over 96
Gauss-Legendre points: the data enter by their means of s1 and s2 alone. Source: Clauset, Shalizi, Newman 2009, table 2.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_NODES = 96
_FALLEN = 42.0  # e^-42 < 1e-18: what is left out of an integral
_STEPS = 60
_CLOSE = 1e-10  # of the moments, in standard deviations of one value
_SLACK = 1e-14
_SHORTEST = 1e-8
_SMALLEST = 1e-100  # b, in units of 1/(mean of s2), that is told from 0
_TINY = 1e-290  # and by itself
_RIDGE = 1e-13  # of a correlation that rounds to 1


@dataclass(frozen=True, slots=True)
class Point:
    """One member of a family.

    Attributes:
        a, b: its parameters, b >= 0.
        unit: of s2 below, so that no square leaves float64.
        log_z: ln Z.
        mean: of (s1, s2/unit), shape (2,).
        covariance: of (s1, s2/unit), shape (2, 2).
    """

    a: float
    b: float
    unit: float
    log_z: float
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Family:
    """s2, where the integrals end, and the range of a.

    Attributes:
        statistic: s2(u).
        limits: (a, b) -> first and last u that count, b > 0.
        scale: value of b to start from, in units of 1/(mean of s2).
        lowest, highest: of a.
    """

    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    limits: Callable[[float, float], tuple[float, float]]
    scale: float
    lowest: float
    highest: float


def _truncated_limits(a: float, b: float) -> tuple[float, float]:
    if a > 0:
        return 0.0, min(_FALLEN / a, math.log1p(_FALLEN / b))
    return 0.0, math.log1p((_FALLEN + 60 * abs(a)) / b)


def _lognormal_limits(a: float, b: float) -> tuple[float, float]:
    if a >= 0:
        return 0.0, 2 * _FALLEN / (a + math.sqrt(a * a + 4 * _FALLEN * b))
    center, width = -a / (2 * b), math.sqrt(_FALLEN / b)
    return max(0.0, center - width), center + width


TRUNCATED = Family(np.expm1, _truncated_limits, 1e-3, -1.0, 19.0)
LOGNORMAL = Family(np.square, _lognormal_limits, 1e-3, -math.inf, math.inf)


def fitted(
    family: Family, mean_u: float, mean_s: float, power_mean: float, start: tuple[float, float] | None = None
) -> Point | None:
    """The member of largest likelihood.

    Args:
        family: which.
        mean_u: mean of ln(x/xmin), > 0.
        mean_s: mean of s2.
        power_mean: mean of s2 under the power law with that mean of u, infinite where it has none.
        start: (a, b) to begin the search with, b > 0; without it near the power law.

    Returns:
        The member; None when it is the power law itself (b = 0).
    """
    if not mean_s < power_mean:  # the likelihood falls with b from b = 0, and is concave
        return None
    data = np.array((mean_u, 1.0))  # in units of mean_s
    a, b = (1 / mean_u, family.scale / mean_s) if start is None else start
    here = _point(family, min(max(a, family.lowest), family.highest), b, mean_s)
    for _ in range(_STEPS):
        gradient = here.mean - data
        free = np.array((not _is_outward(family, here.a, float(gradient[0])), True))
        deviation = np.sqrt(np.diag(here.covariance))
        if np.all((np.abs(gradient) <= _CLOSE * deviation)[free]):
            break
        step = np.zeros(2)
        step[free] = _solved(here.covariance[np.ix_(free, free)], gradient[free])
        moved = _moved(family, here, step, mean_u)
        if moved is None:
            break
        here = moved
        if here.b * mean_s < _SMALLEST or here.b < _TINY:
            return None
    return here


def log_likelihood(point: Point, mean_u: float, mean_s: float) -> float:
    """Mean of ln p(u) over the data."""
    return -point.a * mean_u - point.b * mean_s - point.log_z


def _solved(covariance: NDArray[np.float64], gradient: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cov^-1 gradient, with the statistics scaled to variance 1, which differ by many powers of ten."""
    size = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(size, size) + _RIDGE * np.eye(len(size))
    return np.asarray(np.linalg.solve(correlation, gradient / size) / size)


def _is_outward(family: Family, a: float, slope: float) -> bool:
    return (a <= family.lowest and slope < 0) or (a >= family.highest and slope > 0)


def _moved(family: Family, here: Point, step: NDArray[np.float64], mean_u: float) -> Point | None:
    """The next member along a step, shortened until the likelihood does not fall; None where it cannot rise any more."""
    best = log_likelihood(here, mean_u, here.unit)
    length = 1.0
    while length >= _SHORTEST:
        a = min(max(here.a + length * float(step[0]), family.lowest), family.highest)
        b = max(here.b + length * float(step[1]) / here.unit, 0.1 * here.b)
        found = _point(family, a, b, here.unit)
        if log_likelihood(found, mean_u, here.unit) >= best - _SLACK * max(1.0, abs(best)):
            return found
        length /= 2
    return None


@lru_cache(maxsize=1)
def _rule() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return 0.5 * (nodes + 1), 0.5 * weights


def _point(family: Family, a: float, b: float, unit: float) -> Point:
    nodes, weights = _rule()
    low, high = family.limits(a, b)
    u = low + (high - low) * nodes
    s = family.statistic(u)
    exponent = -a * u - b * s
    top = float(exponent.max())
    w = weights * np.exp(exponent - top)
    total = float(w.sum())
    w /= total
    statistics = np.stack((u, s / unit))
    mean = statistics @ w
    away = statistics - mean[:, None]
    return Point(a, b, unit, math.log(total * (high - low)) + top, mean, (away * w) @ away.T)
