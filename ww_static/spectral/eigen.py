"""Eigenvalues of X = W^T W: from the Gram matrix by default, from the singular values of W where its floor matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ww_static.errors import NonFiniteError
from ww_static.spectral.gram import Blocks, block_rows, blocks_of, gram, safe_exponent, scaled

EPS = 2.0**-52
LARGEST_SVD = 2048  # columns; above, an SVD costs more than it tells
Method = Literal["auto", "gram", "svd"]


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The ESD of one matrix.

    Attributes:
        eigenvalues: sigma^2 of W 2^-exponent, float64, shape (m,), ascending, all >= 0.
        n: longer side of W.
        method: ``gram`` or ``svd``.
        floor: eigenvalues at or below it are numerical noise: M eps lambda_max (gram), (N eps sigma_max)^2 (svd).
        exponent: 0 except for matrices whose squares leave the range of float64.
        clipped: eigenvalues that came out negative and were set to 0.
    """

    eigenvalues: NDArray[np.float64]
    n: int
    method: str
    floor: float
    exponent: int = 0
    clipped: int = 0

    @property
    def n_below_floor(self) -> int:
        """Eigenvalues at or below the floor: what the method cannot tell from zero."""
        return int(np.searchsorted(self.eigenvalues, self.floor, side="right"))


def spectrum(W: NDArray[Any], method: Method = "auto") -> Spectrum:
    """The eigenvalues of X = W^T W (no 1/N), which are the squared singular values of W.

    Args:
        W: real matrix, shape (rows, columns), any numeric dtype, all finite. The shorter side counts M eigenvalues.
        method: ``gram`` (accurate to M eps lambda_max), ``svd`` (to (N eps sigma_max)^2), or ``auto``: gram, and svd
            where an eigenvalue falls below gram's floor and M <= 2048.

    Raises:
        NonFiniteError: an element is NaN or infinite.
        ValueError: W is no matrix.
    """
    W = np.asarray(W)
    blocks, n, m = blocks_of(W)
    with np.errstate(invalid="ignore"):
        largest = max(abs(float(W.max())), abs(float(W.min())))
    if not np.isfinite(largest):
        raise NonFiniteError("the matrix holds a NaN or an infinity")
    return spectrum_of_blocks(blocks, n, m, safe_exponent(largest), method)


def spectrum_of_blocks(blocks: Blocks, n: int, m: int, exponent: int = 0, method: Method = "auto") -> Spectrum:
    """The same for a matrix that comes in row blocks of m columns and is never whole in memory.

    Raises:
        NonFiniteError: an element is NaN or infinite.
    """
    blocks = scaled(blocks, exponent)
    if method != "svd":
        result = _from_gram(gram(blocks, m), n, exponent)
        noisy = result.n_below_floor > 0 and result.floor > 0
        if method == "gram" or not noisy or m > LARGEST_SVD:
            return result
    sigma = singular_values(blocks, n, m)
    largest = float(sigma[-1])
    return Spectrum(sigma * sigma, n, "svd", (n * EPS * largest) ** 2, exponent)


def _from_gram(X: NDArray[np.float64], n: int, exponent: int) -> Spectrum:
    raw = np.linalg.eigvalsh(X, UPLO="U")
    floor = len(raw) * EPS * max(float(raw[-1]), 0.0)
    return Spectrum(np.maximum(raw, 0.0), n, "gram", floor, exponent, int(np.count_nonzero(raw < 0)))


def svd_bytes(n: int, m: int) -> int:
    """Most private memory, in bytes, that `singular_values` holds at one time."""
    if n < 3 * m:
        return 24 * n * m + 8 * m * block_rows(m) + 2**22
    return 72 * m * m + 24 * m * block_rows(m) + 2**22


def singular_values(blocks: Blocks, n: int, m: int) -> NDArray[np.float64]:
    """sigma of W, ascending: a direct SVD near the square, the SVD of a streamed R (TSQR) for tall matrices.

    Args:
        blocks: row blocks of W, float64, shape (k, m) each, all finite.
        n, m: shape of W.

    Returns:
        float64, shape (m,), absolute accuracy about eps sigma_max.
    """
    if n < 3 * m:
        W = np.concatenate(list(blocks()))
        return np.linalg.svd(W, compute_uv=False)[::-1]
    R = np.empty((0, m))
    waiting: list[NDArray[np.float64]] = []
    rows = 0
    for block in blocks():
        waiting.append(block)
        rows += len(block)
        if rows >= 2 * m:
            R, waiting, rows = _absorbed(R, waiting), [], 0
    if waiting:
        R = _absorbed(R, waiting)
    return np.asarray(np.linalg.svd(R, compute_uv=False)[::-1], np.float64)


def _absorbed(R: NDArray[np.float64], blocks: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.qr(np.concatenate([R, *blocks]), mode="r"), np.float64)
