"""The fits of many small samples of one size, side by side: for a hundred values the calls cost more than the numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLOCK = 2**15  # numbers of a block: two of them stay in the processor's cache
_ROWS = 32  # candidates of a block: points below the first of them are left out
_CLOSE = 1e-12  # distances closer than this are told apart by the reference expression


@dataclass(frozen=True, slots=True)
class Fits:
    """The candidate with the smallest distance in each sample.

    Attributes:
        alpha: exponents, float64, shape (samples,); NaN where there is no fit.
        D: their distances, the same shape; NaN where there is no fit.
        close: whether another candidate is as near as rounding, the same shape: then the first one need not be this.
    """

    alpha: NDArray[np.float64]
    D: NDArray[np.float64]
    close: NDArray[np.bool_]


def fits(x: NDArray[np.float64], sides: int, minimum_tail: int) -> Fits:
    """The fit F(x, sides, t) of `powerlaw.tail`, of every row of x.

    Args:
        x: float64, shape (samples, n), n >= 2, each row ascending, all positive.
        sides: 1 or 2.
        minimum_tail: fewest values of a tail.
    """
    samples, n = x.shape
    count = min(n - 1, n - minimum_tail + 1)
    if count < 1 or samples == 0:
        nothing = np.full(samples, np.nan)
        return Fits(nothing, nothing.copy(), np.zeros(samples, dtype=np.bool_))
    logs = np.log(x)
    k = np.arange(n, 1, -1, dtype=np.float64)
    S = np.cumsum((np.diff(logs, axis=1) * np.arange(n - 1, 0, -1))[:, ::-1], axis=1)[:, ::-1]
    with np.errstate(divide="ignore", over="ignore"):
        alpha = (1 + k / S)[:, :count]
    live = (S[:, :count] > 0) & np.isfinite(alpha) & (alpha > 1)
    D = np.minimum(_distances(logs, np.where(live, 1 - alpha, 0.0), sides), 1.0)
    D[~live] = 1.0
    smallest = D.min(axis=1)
    found = smallest < 1
    best = np.take_along_axis(alpha, D.argmin(axis=1)[:, None], axis=1)[:, 0]
    close = found & (np.count_nonzero(smallest[:, None] + _CLOSE >= D, axis=1) > 1)
    return Fits(np.where(found, best, np.nan), np.where(found, smallest, np.nan), close)


def _distances(logs: NDArray[np.float64], slope: NDArray[np.float64], sides: int) -> NDArray[np.float64]:
    """D of candidate i of each sample, shape of `slope` (samples, candidates), which is 1 - alpha."""
    samples, n = logs.shape
    D = np.empty(slope.shape)
    for first in range(0, slope.shape[1], _ROWS):
        rows = slice(first, min(first + _ROWS, slope.shape[1]))
        k = np.arange(n - rows.start, n - rows.stop, -1, dtype=np.float64)[:, None]
        share = np.minimum(np.arange(n - first, 0, -1, dtype=np.float64)[None, :] / k, 1.0)
        together = max(1, _BLOCK // share.size)
        for start in range(0, samples, together):
            some = slice(start, start + together)
            gap = logs[some, None, first:] - logs[some, rows, None]
            np.multiply(gap, slope[some, rows, None], out=gap)
            np.minimum(gap, 0.0, out=gap)  # points below xmin count as xmin, where the gap is 0
            np.exp(gap, out=gap)
            np.subtract(gap, share, out=gap)
            above = gap.max(axis=2)
            if sides == 2:
                above += 1 / k[:, 0]
            D[some, rows] = np.maximum(above, -gap.min(axis=2))
    return D
