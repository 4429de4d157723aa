"""X = W^T W accumulated over row blocks: memory is M^2 numbers and one block, whatever N is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ww_static.errors import NonFiniteError
from ww_static.spectral import extremes, lapack

# Blocks of a matrix with M columns, shape (rows, M), C or Fortran order; a fresh pass over the matrix at each call. They are
# float64, but for spectra in single precision float32.
Blocks = Callable[[], Iterable[NDArray[Any]]]
Dtype = type[np.float64] | type[np.float32]

_TILE = 512
_MIRRORED = 64  # rows and columns of a tile that is transposed at a time: it stays in the cache
_BLOCK_ELEMENTS = 2**20


def block_rows(m: int) -> int:
    """Rows of W per block: 512 or more, about 8 MiB of float64. A function of the shape only, so that bits repeat."""
    return max(512, _BLOCK_ELEMENTS // max(m, 1))


def gram_bytes(m: int, backend: str = lapack.NUMPY, dtype: Dtype = np.float64) -> int:
    """Most private memory, in bytes, that `gram` and the eigenvalues after it hold at one time, by this backend."""
    size = np.dtype(dtype).itemsize
    blocks = 3 * 8 * m * block_rows(m)  # the block, and what widening it may need beside it
    if backend != lapack.NUMPY and lapack.is_two_stage(m, dtype):
        return size * m * m + max(lapack.two_stage_bytes(m, dtype), blocks) + 2**22
    return size * m * m + max(size * m * m, blocks + size * m * min(m, _TILE)) + 2**22


def blocks_of(W: NDArray[Any], dtype: Dtype = np.float64) -> tuple[Blocks, int, int]:
    """Row blocks of an array, and N >= M: the longer side is streamed, whichever it is, and stays in the order it has.

    Args:
        W: real matrix, shape (rows, columns), any numeric dtype and order.
        dtype: of the blocks.

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
            yield np.asarray(tall[start : start + step], dtype=dtype)  # a copy in another dtype keeps the order

    return blocks, n, m


def safe_exponent(abs_max: float, dtype: Dtype = np.float64) -> int:
    """e such that W 2^-e can be squared in a type of numpy (`extremes.safe_exponent`)."""
    return extremes.safe_exponent(abs_max, "float32" if dtype == np.float32 else "float64")


def scaled(blocks: Blocks, exponent: int) -> Blocks:
    """The blocks of W 2^-exponent: exact, since the factor is a power of two."""
    if exponent == 0:
        return blocks
    return lambda: (np.ldexp(block, -exponent) for block in blocks())


def gram(blocks: Blocks, m: int, backend: str = lapack.BEST, dtype: Dtype = np.float64) -> NDArray[Any]:
    """X = W^T W, upper triangle.

    Args:
        blocks: row blocks of W, float64 or float32, shape (k, m) each, in any order of the axes.
        m: columns of W.
        backend: with what: syrk in place (half the operations of a product, no temporary), or products of tiles by numpy.
        dtype: of the sums.

    Returns:
        Shape (m, m), C order; entries below the diagonal have no meaning.

    Raises:
        NonFiniteError: an element of W is NaN or infinite (column j makes the diagonal entry X_jj non-finite).
    """
    X = np.zeros((m, m), dtype)
    routines = lapack.routines(backend)
    with np.errstate(invalid="ignore", over="ignore"):
        for block in blocks():
            if routines is None:
                _add_tiles(X, block.astype(dtype, copy=False))
            else:
                lapack.add_gram(routines, X, block)
            del block  # else it would be held while the next one is made
    if not np.isfinite(np.diagonal(X)).all():
        raise NonFiniteError("the matrix holds a NaN or an infinity")
    return X


def _add_tiles(X: NDArray[Any], block: NDArray[Any]) -> None:
    """X += B^T B by numpy, tile after tile of the upper triangle."""
    m = len(X)
    for start in range(0, m, _TILE):
        stop = min(start + _TILE, m)
        X[:stop, start:stop] += block[:, :stop].T @ block[:, start:stop]


def mirror(X: NDArray[Any]) -> None:
    """Makes a matrix symmetric in place: its lower triangle becomes that of the upper one."""
    below = np.tri(_MIRRORED, k=-1, dtype=bool)
    for start in range(0, len(X), _MIRRORED):
        stop = min(start + _MIRRORED, len(X))
        for other in range(0, start, _MIRRORED):
            X[start:stop, other : other + _MIRRORED] = X[other : other + _MIRRORED, start:stop].T
        tile, size = X[start:stop, start:stop], stop - start
        np.copyto(tile, tile.T.copy(), where=below[:size, :size])
