"""Eigenvalues of windows of one aspect ratio, pooled over a matrix: what its shape does to a spectrum is then the same for all.

Source: FARMS, Hu et al. 2025 (2506.06280).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHORTEST = 20  # side of a matrix that has windows
_SIDE = 100  # of a window, at most
_PLACES = 10  # along each side of the matrix


def window_side(n: int, m: int) -> int:
    """Columns of a window of an N x M matrix, N >= M: min(100, M, floor(N/2)); it has twice as many rows."""
    return min(_SIDE, m, n // 2)


def places(length: int, side: int) -> NDArray[np.intp]:
    """Where up to 10 evenly spaced windows of a side begin, ascending, each once."""
    return np.unique(np.rint(np.linspace(0, length - side, _PLACES)).astype(np.intp))


def windowed_eigenvalues(blocks: Iterable[NDArray[Any]], n: int, m: int, exponent: int = 0) -> NDArray[np.float64]:
    """The eigenvalues of V^T V of all windows V, 2 m0 x m0, pooled.

    Args:
        blocks: row blocks of W, shape (k, M), together N rows.
        n: N >= M.
        m: M >= 20.
        exponent: the values are those of W 2^-exponent.

    Returns:
        float64, ascending, >= 0.

    Raises:
        numpy.linalg.LinAlgError: LAPACK gave up.
    """
    side = window_side(n, m)
    columns = places(m, side)
    found = [
        np.linalg.eigvalsh(np.stack([strip[:, at : at + side].T @ strip[:, at : at + side] for at in columns]))
        for strip in _strips(blocks, places(n, 2 * side), 2 * side, exponent)
    ]
    return np.sort(np.maximum(np.concatenate(found), 0.0), axis=None)


def _strips(
    blocks: Iterable[NDArray[Any]], starts: NDArray[np.intp], height: int, exponent: int
) -> Iterator[NDArray[np.float64]]:
    """The rows that begin at each start, from blocks that go by: one block and the rows before it are held."""
    held: NDArray[np.float64] | None = None
    first, following = 0, 0  # row number of the first row held; the next start
    for block in blocks:
        rows = np.ldexp(block, -exponent) if exponent else block
        held = rows if held is None else np.concatenate((held, rows))
        while following < len(starts) and starts[following] + height <= first + len(held):
            begin = int(starts[following]) - first
            yield held[begin : begin + height]
            following += 1
        keep = max(0, len(held) - height)
        held, first = held[keep:].copy(), first + keep
