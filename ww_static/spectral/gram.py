"""X = W^T W accumulated over row blocks: memory is M^2 numbers and one block, whatever N is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ww_static.errors import NonFiniteError
from ww_static.spectral import lapack

# Blocks of a matrix with M columns, float64, shape (rows, M), C or Fortran order; a fresh pass over the matrix at each call.
Blocks = Callable[[], Iterable[NDArray[np.float64]]]

_TILE = 512
_BLOCK_ELEMENTS = 2**20
_SAFE_EXPONENTS = (-400, 480)  # elements in 2^-400 .. 2^480 neither overflow nor vanish when squared and summed


def block_rows(m: int) -> int:
    """Rows of W per block: 512 or more, about 8 MiB of float64. A function of the shape only, so that bits repeat."""
    return max(512, _BLOCK_ELEMENTS // max(m, 1))


def gram_bytes(m: int, backend: str = lapack.NUMPY) -> int:
    """Most private memory, in bytes, that `gram` and the eigenvalues after it hold at one time, by this backend."""
    blocks = 3 * 8 * m * block_rows(m)  # the block, and what widening it may need beside it
    if backend != lapack.NUMPY and m > lapack.LARGEST_ONE_STAGE:
        return 8 * m * m + max(lapack.two_stage_bytes(m), blocks) + 2**22
    return 8 * m * m + max(8 * m * m, blocks + 8 * m * min(m, _TILE)) + 2**22


def blocks_of(W: NDArray[Any]) -> tuple[Blocks, int, int]:
    """Row blocks of an array, and N >= M: the longer side is streamed, whichever it is, and stays in the order it has.

    Args:
        W: real matrix, shape (rows, columns), any numeric dtype and order.

    Returns:
        The blocks, N, M.
    """
    if W.ndim != 2 or 0 in W.shape:
        raise ValueError(f"a matrix has two axes and no empty one, this has shape {W.shape}")
    tall = W if W.shape[0] >= W.shape[1] else W.T
    n, m = tall.shape
    step = block_rows(m)

    def blocks() -> Iterator[NDArray[np.float64]]:
        for start in range(0, n, step):
            yield np.asarray(tall[start : start + step], dtype=np.float64)  # a copy in float64 keeps the order

    return blocks, n, m


def safe_exponent(abs_max: float) -> int:
    """e such that W 2^-e can be squared in float64; 0 for every matrix that is not extreme.

    Args:
        abs_max: largest |element|, finite.
    """
    if abs_max == 0:
        return 0
    exponent = int(np.frexp(abs_max)[1])
    return 0 if _SAFE_EXPONENTS[0] <= exponent <= _SAFE_EXPONENTS[1] else exponent


def scaled(blocks: Blocks, exponent: int) -> Blocks:
    """The blocks of W 2^-exponent: exact, since the factor is a power of two."""
    if exponent == 0:
        return blocks
    return lambda: (np.ldexp(block, -exponent) for block in blocks())


def gram(blocks: Blocks, m: int, backend: str = lapack.BEST) -> NDArray[np.float64]:
    """X = W^T W, upper triangle.

    Args:
        blocks: row blocks of W, float64, shape (k, m) each, in any order of the axes.
        m: columns of W.
        backend: with what: syrk in place (half the operations of a product, no temporary), or products of tiles by numpy.

    Returns:
        float64, shape (m, m), C order; entries below the diagonal have no meaning.

    Raises:
        NonFiniteError: an element of W is NaN or infinite (column j makes the diagonal entry X_jj non-finite).
    """
    X = np.zeros((m, m))
    routines = lapack.routines(backend)
    with np.errstate(invalid="ignore", over="ignore"):
        for block in blocks():
            if routines is None:
                _add_tiles(X, block)
            else:
                lapack.add_gram(routines, X, block)
            del block  # else it would be held while the next one is made
    if not np.isfinite(np.diagonal(X)).all():
        raise NonFiniteError("the matrix holds a NaN or an infinity")
    return X


def _add_tiles(X: NDArray[np.float64], block: NDArray[np.float64]) -> None:
    """X += B^T B by numpy, tile after tile of the upper triangle."""
    m = len(X)
    for start in range(0, m, _TILE):
        stop = min(start + _TILE, m)
        X[:stop, start:stop] += block[:, :stop].T @ block[:, start:stop]


def mirror(X: NDArray[np.float64]) -> None:
    """Makes a matrix symmetric in place: its lower triangle becomes that of the upper one."""
    for start in range(0, len(X), _TILE):
        stop = min(start + _TILE, len(X))
        X[start:stop, :start] = X[:start, start:stop].T
        tile = X[start:stop, start:stop]
        tile[:] = np.triu(tile) + np.triu(tile, 1).T
