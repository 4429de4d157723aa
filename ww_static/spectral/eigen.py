"""Eigenvalues of X = W^T W: from the Gram matrix by default, from the singular values of W where its floor matters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ww_static.errors import NonFiniteError, NotConvergedError
from ww_static.spectral import lapack
from ww_static.spectral.gram import Blocks, Dtype, block_rows, blocks_of, gram, mirror, safe_exponent, scaled
from ww_static.spectral.smallest import smallest_vectors

EPS = 2.0**-52
EPS_SINGLE = 2.0**-23
_SMALLEST_FAST = 512  # columns
# lambda_min / lambda_max above which the Gram matrix gives the smallest singular value to 1e-11, and to 1e-9
_PLAIN, _PASSABLE = 1e-5, 1e-8
_REFINABLE = 1e-11  # and above which one more look at W gives it to 1e-10
LARGEST_SVD = 2048  # columns; above, an SVD costs more than it tells
_DIRECT_SVD = 96  # columns; up to here it costs less than refining the smallest eigenvalue
Method = Literal["auto", "gram", "svd"]


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The ESD of one matrix.

    Attributes:
        eigenvalues: sigma^2 of W 2^-exponent, float64, shape (m,), ascending, all >= 0.
        n: longer side of W.
        method: ``gram``, ``svd``, ``lowrank`` for a product of two factors, or ``lanczos`` for the largest eigenvalues alone.
        floor: eigenvalues at or below it are numerical noise: M eps lambda_max (gram), (N eps sigma_max)^2 (svd; lowrank,
            unless the factors cancel), `single_error` lambda_max (gram in float32).
        exponent: 0 except for matrices whose squares leave the range of float64.
        clipped: eigenvalues that came out negative and were set to 0.
        backend: what computed them: ``numpy``, or the library that was called directly.
        precision: ``exact`` for float64, ``fast`` for float32.
        missing: how many smaller eigenvalues were left out.
        total: the sum of all eigenvalues; None for that of those that are here.
    """

    eigenvalues: NDArray[np.float64]
    n: int
    method: str
    floor: float
    exponent: int = 0
    clipped: int = 0
    backend: str = lapack.NUMPY
    precision: str = "exact"
    missing: int = 0
    total: float | None = None

    @property
    def n_below_floor(self) -> int:
        """Eigenvalues at or below the floor: what the method cannot tell from zero."""
        return int(np.searchsorted(self.eigenvalues, self.floor, side="right"))

    @property
    def unresolved(self) -> bool:
        """Whether the method hides eigenvalues that rounding of W itself would show."""
        if self.method == "svd" or self.floor == 0 or self.n_below_floor == 0:
            return False
        return self.method == "gram" or self.floor > (self.n * EPS) ** 2 * float(self.eigenvalues[-1])


def precision_for(precision: str, m: int) -> str:
    """The precision that a matrix of m columns gets: ``fast`` from 512 columns on, where float32 saves time."""
    if precision not in ("exact", "fast"):
        raise ValueError(f"precision is exact or fast, not '{precision}'")
    return precision if m >= _SMALLEST_FAST else "exact"


def dtype_of(precision: str, m: int) -> Dtype:
    """float64, or float32 where ``fast`` applies to a matrix of m columns."""
    return np.float32 if precision_for(precision, m) == "fast" else np.float64


def exponent_for(abs_max: float | None, precision: str, m: int) -> int:
    """By which power of two a matrix of m columns with such a largest element is divided before it is squared."""
    return 0 if abs_max is None else safe_exponent(abs_max, dtype_of(precision, m))


def single_error(n: int, m: int) -> float:
    """Bound on the error of eigenvalues of a float32 Gram matrix, N x M, in units of the largest one.

    2^-23 (sqrt M + 48 + N/1536): the errors of the reduction, which add up like independent ones; and those of sums of equal
    products, which all go one way: a product of matrices adds 384 of them in a row, and then the sums of N/384 such runs.
    """
    return EPS_SINGLE * (math.sqrt(m) + 48 + n / 1536)


def spectrum(W: NDArray[Any], method: Method = "auto", backend: str = lapack.BEST, precision: str = "exact") -> Spectrum:
    """The eigenvalues of X = W^T W (no 1/N), which are the squared singular values of W.

    Args:
        W: real matrix, shape (rows, columns), any numeric dtype, all finite. The shorter side counts M eigenvalues.
        method: ``gram`` (accurate to M eps lambda_max), ``svd`` (to (N eps sigma_max)^2), or ``auto``: gram, with its
            smallest eigenvalue refined below 1e-5 lambda_max, and svd below 1e-11 lambda_max, both up to M = 2048.
        backend: ``numpy``, or ``auto`` for the fastest that numpy's own LAPACK allows; the last bits depend on it.
        precision: ``exact``, or ``fast``: from 512 columns on all in float32, twice as fast, with errors up to `single_error`
            lambda_max, and always by the Gram matrix.

    Raises:
        NonFiniteError: an element is NaN or infinite.
        NotConvergedError: LAPACK gave up.
        ValueError: W is no matrix, or complex.
    """
    W = np.asarray(W)
    if W.dtype.kind == "c":
        raise ValueError("a complex matrix has no spectrum here")
    precision = precision_for(precision, min(W.shape, default=0))
    dtype = dtype_of(precision, min(W.shape, default=0))
    with np.errstate(invalid="ignore"):
        largest = max(abs(float(W.max())), abs(float(W.min())))
    if not np.isfinite(largest):
        raise NonFiniteError("the matrix holds a NaN or an infinity")
    exponent = safe_exponent(largest, dtype)
    blocks, n, m = blocks_of(W, dtype if exponent == 0 else np.float64)
    return spectrum_of_blocks(blocks, n, m, exponent, method, backend, precision)


def spectrum_of_blocks(
    blocks: Blocks,
    n: int,
    m: int,
    exponent: int = 0,
    method: Method = "auto",
    backend: str = lapack.BEST,
    precision: str = "exact",
) -> Spectrum:
    """The same for a matrix that comes in row blocks of m columns and is never whole in memory.

    With ``precision="fast"`` the blocks are float32, or float64 where the exponent is not 0.

    Raises:
        NonFiniteError: an element is NaN or infinite; with ``method="svd"`` the caller has looked.
        NotConvergedError: LAPACK gave up.
    """
    blocks = scaled(blocks, exponent)
    if precision == "fast":
        raw, _, used = _of_gram(blocks, m, backend, np.float32)
        floor = single_error(n, m) * max(float(raw[-1]), 0.0)
        return Spectrum(np.maximum(raw, 0.0), n, "gram", floor, exponent, int(np.count_nonzero(raw < 0)), used, precision)
    if method != "svd":
        raw, X, used = _of_gram(blocks, m, backend)
        floor = m * EPS * max(float(raw[-1]), 0.0)
        negative = int(np.count_nonzero(raw < 0))
        result = Spectrum(np.maximum(raw, 0.0), n, "gram", floor, exponent, negative, used)
        if method == "gram" or m > LARGEST_SVD or resolves_smallest(result):
            return result
        share = _share(result)
        if m > _DIRECT_SVD and share > _REFINABLE and result.n_below_floor == 0:
            refined = _refined(result.eigenvalues, X, blocks, backend)
            if refined is not None or share > _PASSABLE:
                return result if refined is None else replace(result, eigenvalues=refined)
    sigma = singular_values(blocks, n, m)
    largest = float(sigma[-1])
    return Spectrum(sigma * sigma, n, "svd", (n * EPS * largest) ** 2, exponent)


def resolves_smallest(found: Spectrum) -> bool:
    """Whether the Gram matrix gives the smallest singular value to 1e-11; it gives that of a zero matrix."""
    return found.floor == 0 or _share(found) > _PLAIN


def _share(found: Spectrum) -> float:
    """lambda_min / lambda_max."""
    return float(found.eigenvalues[0]) / max(float(found.eigenvalues[-1]), 2.0**-1022)


def _of_gram(blocks: Blocks, m: int, backend: str, dtype: Dtype = np.float64) -> tuple[NDArray[np.float64], NDArray[Any], str]:
    """Raw eigenvalues of X, the upper triangle of X again (up to `LARGEST_SVD`), and the backend that computed them."""
    X = gram(blocks, m, backend, dtype)
    routines = lapack.routines(backend)
    if routines is not None and lapack.is_two_stage(m, dtype):
        diagonal = X.diagonal().copy()
        if m <= LARGEST_SVD and dtype == np.float64:
            mirror(X)  # the upper triangle will be destroyed; the lower one stays, for `_refined`
        raw = lapack.two_stage_eigenvalues(routines, X, lapack.band_width(m, dtype))
        if raw is not None:
            np.fill_diagonal(X, diagonal)
            return raw, X.T, routines.name
        del X
        X, routines = gram(blocks, m, lapack.NUMPY, dtype), None
    with _translated():
        found = np.linalg.eigvalsh(X, UPLO="U").astype(np.float64, copy=False)
    return found, X, lapack.NUMPY if routines is None else routines.name


def _refined(
    eigenvalues: NDArray[np.float64], X: NDArray[np.float64], blocks: Blocks, backend: str
) -> NDArray[np.float64] | None:
    """The eigenvalues, the smallest one from W itself: that of its product with vectors that span the smallest ones.

    The Gram matrix holds it to about 0.1 M eps lambda_max only. With V those vectors, the error of the smallest singular
    value of W V is of second order in theirs, which the vectors beyond the kept ones bring, and they lie far away.
    None when there are no such vectors.
    """
    V = smallest_vectors(X, backend)
    if V is None:
        return None
    least = float(sigma_of(triangle(lambda: (block @ V for block in blocks()), V.shape[1]))[0]) ** 2
    return np.concatenate([[min(least, float(eigenvalues[1]))], eigenvalues[1:]]) if len(X) > 1 else np.array([least])


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
    return sigma_of(np.concatenate(list(blocks())) if n < 3 * m else triangle(blocks, m))


def triangle(blocks: Blocks, m: int) -> NDArray[np.float64]:
    """R of W = Q R, from row blocks of W (TSQR): the Gram matrix of W without its loss of accuracy.

    Args:
        blocks: row blocks of W, float64, shape (k, m) each, all finite.
        m: columns of W.

    Returns:
        float64, shape (min(n, m), m), upper trapezoidal.
    """
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
    return R


def sigma_of(W: NDArray[np.float64]) -> NDArray[np.float64]:
    """Singular values of an array, ascending. Raises NotConvergedError when LAPACK gives up."""
    with _translated():
        return np.asarray(np.linalg.svd(W, compute_uv=False)[::-1], np.float64)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except np.linalg.LinAlgError as error:
        raise NotConvergedError(f"LAPACK gave up: {error}") from error


def _absorbed(R: NDArray[np.float64], blocks: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.qr(np.concatenate([R, *blocks]), mode="r"), np.float64)
