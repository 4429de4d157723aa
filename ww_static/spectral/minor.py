"""A minor of a large matrix: evenly spaced rows and columns, gathered in passing, whose rank bounds that of the matrix from below."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SIDE = 64  # rows and columns of a minor
LEAST = 512  # sides from which on a matrix has one: below, all its singular values cost little
_ROUNDING = 0.25  # 2-norm of independent roundings to a spacing of eps, over eps times the Frobenius norm, and a margin of 3


class Minor:
    """Rows and columns of a tensor (its first axis, all others), while its values pass by in row-major windows.

    Args:
        shape: of the tensor.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        n, m = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (0, 0)
        side = SIDE if min(n, m) >= LEAST else 0
        self._rows = (np.arange(side) * n) // max(side, 1)
        self._columns = (np.arange(side) * m) // max(side, 1)
        self._width = m
        self._values = np.full((side, side), np.nan)
        self._passed = 0

    def take(self, values: NDArray[np.float64]) -> None:
        """The next values in row-major order, float64, shape (k,)."""
        if len(self._rows) == 0:
            return
        start, self._passed = self._passed, self._passed + len(values)
        first, last = np.searchsorted(self._rows, [start // self._width, (self._passed - 1) // self._width + 1])
        for row in range(first, last):
            places = self._rows[row] * self._width + self._columns - start
            inside = (places >= 0) & (places < len(values))
            self._values[row, inside] = values[places[inside]]

    def rank(self, epsilon: float) -> int | None:
        """Singular values of the minor above what rounding to a spacing of `epsilon` makes; None without a finite one.

        A matrix of a smaller rank has that rank here too, unless its rows or columns repeat in step with those that were taken.
        """
        if len(self._rows) == 0 or not np.isfinite(self._values).all():
            return None
        peak = np.abs(self._values).max()
        if peak == 0:
            return 0
        sigma = np.linalg.svd(self._values / peak, compute_uv=False)
        floor = max(_ROUNDING * epsilon * math.sqrt(float(sigma @ sigma)), SIDE * 2.0**-52 * float(sigma[0]))
        return int(np.count_nonzero(sigma > floor))
