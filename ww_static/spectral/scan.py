"""Kolmogorov-Smirnov distances of the candidates for xmin: all of them, or as few as the smallest one needs.

A distance is a maximum over points, so its value at any one point is a lower bound. The point where one candidate has its
maximum is where its neighbours are nearly as far off: it bounds every candidate that contains it, for one exponential each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DENSE = 128  # up to here all distances in one block cost less than the calls of a search
_BLOCK = 2**15  # numbers of a block: two of them stay in the processor's cache
_ROUNDING = 1e-12  # by how much a bound may exceed the distance that it bounds


@dataclass(frozen=True, slots=True)
class Tails:
    """The tails of ascending positive x, one per candidate xmin = x_i, i = 0..n-2.

    Attributes:
        logs: ln x, float64, shape (n,), ascending.
        alpha: maximum-likelihood exponent of x_i ... x_(n-1), float64, shape (n - 1,); NaN where inadmissible.
        admissible: the indices i whose tail is long enough and has a finite exponent above 1, ascending.
    """

    logs: NDArray[np.float64]
    alpha: NDArray[np.float64]
    admissible: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Nearest:
    """Every candidate whose distance is within a slack of the smallest.

    Attributes:
        index: the candidates, ascending.
        D: their distances, float64, the same shape.
        evaluated: how many distances were computed in full.
    """

    index: NDArray[np.intp]
    D: NDArray[np.float64]
    evaluated: int


def tails(x: NDArray[np.float64], minimum_tail: int) -> Tails:
    """a_i = 1 + k/S_i with k = n - i and S_i = sum_{j>=i} ln(x_j/x_i).

    Args:
        x: float64, shape (n,), n >= 2, ascending, all positive.
        minimum_tail: fewest values of a tail.
    """
    n = len(x)
    logs = np.log(x)
    k = np.arange(n, 1, -1, dtype=np.float64)
    # S_i = sum_{j>=i} (n - 1 - j)(l_{j+1} - l_j): terms >= 0, so nothing cancels
    S = np.cumsum((np.diff(logs) * np.arange(n - 1, 0, -1))[::-1])[::-1]
    with np.errstate(divide="ignore", over="ignore"):
        alpha = 1 + k / S
    live = (S > 0) & np.isfinite(alpha) & (alpha > 1) & (k >= minimum_tail)
    return Tails(logs, np.where(live, alpha, np.nan), np.flatnonzero(live))


def distances(of: Tails, sides: int) -> NDArray[np.float64]:
    """D_i of every admissible candidate, float64, shape of `of.admissible`; memory is linear in n."""
    D = np.empty(len(of.admissible))
    start = 0
    while start < len(D):
        # as many tails as fit into the block, and so more and more of them
        rows = of.admissible[start : start + max(1, _BLOCK // (len(of.logs) - int(of.admissible[start])))]
        D[start : start + len(rows)] = _block(of, rows, sides)
        start += len(rows)
    return D


def nearest(of: Tails, sides: int, slack: float) -> Nearest:
    """The candidates within `slack` of the smallest distance: what `distances` would give, from a few of them.

    The candidate with the smallest bound is evaluated next. When that bound is above the smallest distance found plus the slack,
    so is every distance that was not computed.

    Args:
        of: the tails, at least one of them admissible.
        sides: 1 or 2.
        slack: >= 0, in the units of D.
    """
    if len(of.logs) <= _DENSE:
        D = distances(of, sides)
        close = close_to_smallest(D, slack)
        return Nearest(of.admissible[close], D[close], len(D))
    rows, remaining = _Rows(of, sides), _Remaining(of, sides)
    index: list[int] = []
    found: list[float] = []
    smallest = np.inf
    while (i := remaining.take(smallest + slack + _ROUNDING)) is not None:
        distance, point = rows.distance(i)
        index.append(i)
        found.append(distance)
        smallest = min(smallest, distance)
        remaining.cut(point)
    order = np.argsort(index)
    D = np.array(found)[order]
    close = close_to_smallest(D, slack)
    return Nearest(np.array(index, dtype=np.intp)[order][close], D[close], len(found))


def close_to_smallest(D: NDArray[np.float64], slack: float) -> NDArray[np.intp]:
    """Places of the distances within `slack` of the smallest, ascending."""
    return np.flatnonzero(D.min() + slack >= D)


class _Rows:
    """One candidate at a time, in two buffers of n numbers that stay in the processor's cache."""

    def __init__(self, of: Tails, sides: int) -> None:
        n = len(of.logs)
        self._of = of
        self._sides = sides
        self._count = np.arange(n, 0, -1, dtype=np.float64)  # n - j: how many values are at least x_j
        self._gap = np.empty(n)
        self._share = np.empty(n)

    def distance(self, i: int) -> tuple[float, int]:
        """D_i, and the index of a point where it is reached.

        The gap at x_j is the survival function of the fit less that of the data, (n - j)/k.
        """
        logs, k = self._of.logs, len(self._of.logs) - i
        gap, share = self._gap[:k], self._share[:k]
        np.subtract(logs[i:], logs[i], out=gap)
        np.multiply(gap, 1 - self._of.alpha[i], out=gap)
        np.exp(gap, out=gap)
        np.divide(self._count[i:], k, out=share)
        np.subtract(gap, share, out=gap)
        high, low = int(gap.argmax()), int(gap.argmin())
        above, below = float(gap[high]), -float(gap[low])
        if self._sides == 2:  # just above x_j the data's survival function is 1/k lower
            above += 1 / k
        return (above, i + high) if above >= below else (below, i + low)


class _Remaining:
    """The candidates that may still have the smallest distance, with lower bounds of their distances."""

    def __init__(self, of: Tails, sides: int) -> None:
        self._of = of
        self._sides = sides
        self._index = of.admissible
        self._logs = of.logs[self._index]
        self._slope = 1 - of.alpha[self._index]
        self._k = (len(of.logs) - self._index).astype(np.float64)
        self._bound = 1 / self._k if sides == 2 else np.zeros(len(self._index))  # the gap at xmin itself
        self._gap = np.empty(len(self._index))
        self._share = np.empty(len(self._index))

    def take(self, limit: float) -> int | None:
        """The candidate with the smallest bound, once; None when every bound is above the limit."""
        alive = self._bound <= limit
        count = int(np.count_nonzero(alive))
        if count == 0:
            return None
        if count < 0.7 * len(alive):  # copying costs as much as a cut
            self._index, self._logs, self._slope = self._index[alive], self._logs[alive], self._slope[alive]
            self._k, self._bound = self._k[alive], self._bound[alive]
        place = int(self._bound.argmin())
        self._bound[place] = np.inf
        return int(self._index[place])

    def cut(self, j: int) -> None:
        """Raises the bounds of the candidates whose tail contains x_j to their gap there."""
        c = int(np.searchsorted(self._index, j, side="right"))
        gap, share, k = self._gap[:c], self._share[:c], self._k[:c]
        np.subtract(self._of.logs[j], self._logs[:c], out=gap)
        np.multiply(gap, self._slope[:c], out=gap)
        np.exp(gap, out=gap)
        np.divide(len(self._of.logs) - j, k, out=share)
        np.subtract(gap, share, out=gap)
        if self._sides == 2:
            np.divide(1, k, out=share)
            np.add(share, gap, out=share)
            np.negative(gap, out=gap)
            np.maximum(gap, share, out=gap)
        else:
            np.abs(gap, out=gap)
        np.maximum(self._bound[:c], gap, out=self._bound[:c])


def _block(of: Tails, rows: NDArray[np.intp], sides: int) -> NDArray[np.float64]:
    """The distances of some ascending candidates at once; points below xmin count as xmin, where the gap is 0."""
    n, first = len(of.logs), int(rows[0])
    below = slice(0, int(rows[-1]) - first)  # the only points that are below some xmin of the block
    k = (n - rows).astype(np.float64)[:, None]
    gap = of.logs[None, first:] - of.logs[rows][:, None]
    np.maximum(gap[:, below], 0.0, out=gap[:, below])
    np.multiply(gap, (1 - of.alpha[rows])[:, None], out=gap)
    np.exp(gap, out=gap)
    share = np.arange(n - first, 0, -1, dtype=np.float64)[None, :] / k
    np.minimum(share[:, below], 1.0, out=share[:, below])
    np.subtract(gap, share, out=gap)
    above: NDArray[np.float64] = gap.max(axis=1)
    beneath: NDArray[np.float64] = -gap.min(axis=1)
    if sides == 2:
        above += 1 / k[:, 0]
    return np.maximum(above, beneath)
