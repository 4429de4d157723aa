"""How localized unit vectors are, and how far their elements are from those of a random direction.

Sources: Martin and Mahoney 2019 (ratios and entropies of weightwatcher); Thamm, Staats, Rosenow 2203.14661 (Porter-Thomas).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
from numpy.typing import NDArray

_BINS = 100
_LIFT = 1e-10
_EQUAL = 1e-12  # relative differences that are rounding, and too small for bins
_TOGETHER = 256  # vectors that are looked at at a time
_GRID, _REACH = 2**-10, 9.0  # points of the normal distribution; between them a straight line is within 3e-8
_CRITICAL = 1.628  # 1 % point of Kolmogorov's distribution (Stephens 1970)

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Localization:
    """Numbers of some unit vectors v of length m, one per vector each: float64, shape (count,).

    Attributes:
        vec_entropy: entropy, in nats, of the histogram of |v| - mean |v| in 100 bins, as weightwatcher has it.
        loc_ratio: L = |v|_1 / |v|_inf: 1 for one element, m for equal ones.
        part_ratio: |v|_2 / |v|_4.
        ipr: inverse participation ratio, sum v^4: 1 for one element, 1/m for equal ones.
        shannon: H = -sum v^2 ln v^2, in nats.
        distance: two-sided Kolmogorov-Smirnov distance of sqrt(m) v from the standard normal distribution.
        rejected: 1 where that distance has a probability below 1 % for m independent values, else 0.
    """

    vec_entropy: Numbers
    loc_ratio: Numbers
    part_ratio: Numbers
    ipr: Numbers
    shannon: Numbers
    distance: Numbers
    rejected: Numbers

    def of(self, chosen: NDArray[np.bool_]) -> Localization:
        """The numbers of some of the vectors."""
        return Localization(*(getattr(self, one.name)[chosen] for one in fields(self)))


def joined(parts: Sequence[Localization]) -> Localization:
    """The numbers of several sets of vectors, one after the other."""
    return Localization(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Localization)))


def localization(V: Numbers) -> Localization:
    """What each column of V is.

    Args:
        V: float64, shape (m, count), columns of length 1.
    """
    count = V.shape[1]
    return joined([_of_rows(np.ascontiguousarray(V[:, start : start + _TOGETHER].T)) for start in range(0, count, _TOGETHER)])


def _of_rows(v: Numbers) -> Localization:
    m = v.shape[1]
    size = np.abs(v)
    squares = v * v
    ipr = np.sum(squares * squares, axis=1)
    distance = _distance_from_normal(np.sort(math.sqrt(m) * v, axis=1))
    root = math.sqrt(m)
    return Localization(
        vec_entropy=np.array([_discrete_entropy(one) for one in size]),
        loc_ratio=size.sum(axis=1) / size.max(axis=1),
        part_ratio=np.sqrt(squares.sum(axis=1)) / ipr**0.25,
        ipr=ipr,
        shannon=-np.sum(squares * np.log(np.where(squares > 0, squares, 1.0)), axis=1),
        distance=distance,
        rejected=((root + 0.12 + 0.11 / root) * distance > _CRITICAL).astype(np.float64),
    )


def _discrete_entropy(size: Numbers) -> float:
    """-sum p ln p of 100 equal bins between the smallest and the largest |v|, p = density + 1e-10, normalized; 0 for equal ones.

    The constant is weightwatcher's. It is added to a density per unit of |v| - mean |v|.
    """
    if size.max() - size.min() <= _EQUAL * size.max():
        return 0.0
    p = np.histogram(size - size.mean(), _BINS, density=True)[0] + _LIFT
    p /= p.sum()
    return float(-np.sum(p * np.log(p)))


def _distance_from_normal(x: Numbers) -> Numbers:
    """max |F(x) - empirical F|, both sides of each step, for ascending rows of x."""
    m = x.shape[1]
    steps = np.arange(m + 1) / m
    F = np.interp(x, *_normal())
    found: Numbers = np.maximum((F - steps[:-1]).max(axis=1), (steps[1:] - F).max(axis=1))
    return found


@cache
def _normal() -> tuple[Numbers, Numbers]:
    """Points, and the standard normal distribution function there."""
    x = np.arange(-_REACH, _REACH + _GRID, _GRID)
    return x, np.array([math.erfc(-one / math.sqrt(2)) / 2 for one in x])
