"""What numpy does not offer, done by its own library: syrk in place, two-stage eigenvalues, Cholesky in place, inertia.

A library is used only after it has given the right numbers.
"""

from __future__ import annotations

from ctypes import byref, c_int64
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral import library
from ww_static.spectral.library import Routines

NUMPY = "numpy"  # the backend that is always there: numpy.matmul and numpy.linalg
BEST = "auto"  # the best that this process has
LARGEST_ONE_STAGE = 1600  # columns; up to here numpy.linalg.eigvalsh is as fast in float64
LARGEST_ONE_STAGE_SINGLE = 511  # and in float32

_ROW_MAJOR, _NO_TRANS, _TRANS, _UPPER = 101, 111, 112, 121  # of CBLAS
_AGREEMENT = 1e-12  # with numpy, in units of the largest number, in the self-test
_AGREEMENT_SINGLE = 1e-5

Real = NDArray[Any]  # float64, or float32


def backend_name() -> str:
    """The best backend of this process: ``openblas-0.3.31 two-stage`` for instance, or ``numpy``."""
    found = _own()
    return NUMPY if found is None else found.name


def routines(backend: str = BEST) -> Routines | None:
    """The routines of a backend; None for ``numpy``, and for a backend that this process does not have."""
    if backend == NUMPY:
        return None
    found = _own()
    return found if found is not None and backend in (BEST, found.name) else None


@cache
def _own() -> Routines | None:
    """The routines of the library that numpy has loaded, when they pass the self-test."""
    found = library.loaded()
    return found if found is not None and agrees_with_numpy(found) else None


def add_gram(found: Routines, X: Real, block: Real) -> None:
    """X += B^T B in place, upper triangle; the lower one is not touched.

    Args:
        found: routines.
        X: float64 or float32, shape (m, m), C order.
        block: B, shape (k, m). In C order, in Fortran order, or a part of such an array it is read where it lies, if it
            has the dtype of X.
    """
    m, size = len(X), X.itemsize
    if m == 0 or len(block) == 0:
        return
    down, across = (stride // size for stride in block.strides)
    whole = block.dtype == X.dtype and block.flags.aligned and not any(stride % size for stride in block.strides)
    if whole and block.strides[1] == size and down >= m:
        transposed, lead = _TRANS, down
    elif whole and block.strides[0] == size and across >= len(block):
        transposed, lead = _NO_TRANS, across
    else:
        block, transposed, lead = np.ascontiguousarray(block, dtype=X.dtype), _TRANS, m
    syrk = found.of(X.dtype).syrk
    syrk(_ROW_MAJOR, _UPPER, transposed, m, len(block), 1.0, _at(block), lead, 1.0, _at(X), m)


def is_two_stage(m: int, dtype: type[np.floating[Any]] | np.dtype[Any] = np.float64) -> bool:
    """Whether two stages are faster than one for a matrix of m columns."""
    return m > (LARGEST_ONE_STAGE_SINGLE if dtype == np.float32 else LARGEST_ONE_STAGE)


def band_width(m: int, dtype: type[np.floating[Any]] | np.dtype[Any] = np.float64) -> int:
    """Half-width of the band between the two stages, where it is fastest. A function of the shape and dtype only: bits depend on it."""
    if dtype == np.float32:
        return 32 if m < 1024 else 64 if m < 3072 else 96 if m < 5120 else 128
    return 48 if m < 3072 else 64 if m < 5120 else 96


def two_stage_bytes(m: int, dtype: type[np.floating[Any]] | np.dtype[Any] = np.float64) -> int:
    """Private memory, in bytes, that `two_stage_eigenvalues` needs beside X."""
    band = band_width(m, dtype)
    first = _first_work(m, band) + m
    return np.dtype(dtype).itemsize * (m * (band + 1) + max(first, (2 * band + 8) * m + 128))


def _first_work(m: int, band: int) -> int:
    return m * band + m * max(band, 128) + 2 * band * band + 64


def two_stage_eigenvalues(found: Routines, X: Real, band: int) -> NDArray[np.float64] | None:
    """The eigenvalues of a symmetric matrix: full -> band -> tridiagonal -> values (root-free QL).

    The first stage is rich in matrix products, unlike the direct reduction; only the second one is serial, and small.
    Source: Haidar, Ltaief, Dongarra 2011; LAPACK's dsyev_2stage, which fixes the width of the band at 32.

    Args:
        found: routines.
        X: float64 or float32, shape (m, m), C order, finite; its upper triangle counts and is destroyed, the lower one stays.
        band: half-width of the band, less than m.

    Returns:
        float64, shape (m,), ascending; None when LAPACK gave up.
    """
    banded = _banded(found, X, band)
    return None if banded is None else _values(found, banded)


def _banded(found: Routines, X: Real, band: int) -> Real | None:
    """Row j holds X_jj ... X_(j+band)j of a matrix with the same eigenvalues and nothing beyond; None on failure."""
    m, to_band = len(X), found.of(X.dtype).to_band
    n, kd, lda, info = c_int64(m), c_int64(band), c_int64(band + 1), c_int64(0)
    banded, tau = np.zeros((m, band + 1), X.dtype), np.zeros(m, X.dtype)

    def call(work: Real, size: int) -> bool:
        # C order and the upper triangle are Fortran order and the lower one
        to_band(b"L", byref(n), byref(kd), _at(X), byref(n), _at(banded), byref(lda), _at(tau), _at(work),
                byref(c_int64(size)), byref(info), 1)  # fmt: skip
        return info.value == 0

    query = np.zeros(1, X.dtype)
    if not call(query, -1):
        return None
    work = np.zeros(max(int(query[0]), _first_work(m, band)), X.dtype)
    return banded if call(work, len(work)) else None


def _values(found: Routines, banded: Real) -> NDArray[np.float64] | None:
    """Eigenvalues of what `_banded` gave, which is destroyed; None on failure."""
    (m, width), to_tridiagonal = banded.shape, found.of(banded.dtype).to_tridiagonal
    n, kd, lda, info = c_int64(m), c_int64(width - 1), c_int64(width), c_int64(0)
    diagonal, beside = np.zeros(m, banded.dtype), np.zeros(m, banded.dtype)

    def call(hous: Real, reflectors: int, work: Real, size: int) -> bool:
        to_tridiagonal(b"Y", b"N", b"L", byref(n), byref(kd), _at(banded), byref(lda), _at(diagonal), _at(beside),
                       _at(hous), byref(c_int64(reflectors)), _at(work), byref(c_int64(size)), byref(info), 1, 1, 1)  # fmt: skip
        return info.value == 0

    reflectors, query = np.zeros(1, banded.dtype), np.zeros(1, banded.dtype)
    if not call(reflectors, -1, query, -1):
        return None
    hous = np.zeros(max(int(reflectors[0]), 4 * m) + 64, banded.dtype)  # a query in float32 may be rounded down
    work = np.zeros(max(int(query[0]), 2 * width * m) + 64, banded.dtype)
    if not call(hous, len(hous), work, len(work)):
        return None
    exact, beside = diagonal.astype(np.float64), beside.astype(np.float64)
    found.values(byref(n), _at(exact), _at(beside), byref(info))
    return exact if info.value == 0 else None


def factored(found: Routines, X: Real) -> bool:
    """Cholesky: the upper triangle of X becomes U with X = U^T U. False when X is not positive definite in its precision.

    Args:
        found: routines.
        X: float64 or float32, shape (m, m), C or Fortran order.
    """
    n, info = c_int64(len(X)), c_int64(0)
    found.of(X.dtype).factor(_triangle(X), byref(n), _at(X), byref(n), byref(info), 1)
    return info.value == 0


def solve(found: Routines, U: Real, b: Real) -> Real:
    """x with U^T U x = b, for what `factored` made.

    Args:
        found: routines.
        U: shape (m, m), in the order that X had; its upper triangle counts.
        b: shape (k, m), C order, of the same dtype: one right-hand side per row.

    Returns:
        x, shape (k, m).
    """
    n, count, info, x = c_int64(len(U)), c_int64(len(b)), c_int64(0), b.copy()
    found.of(U.dtype).solve(_triangle(U), byref(n), byref(count), _at(U), byref(n), _at(x), byref(n), byref(info), 1)
    return x


def positive_eigenvalues(found: Routines, X: Real) -> int | None:
    """How many eigenvalues of a symmetric matrix are positive: as many as D of X = L D L^T has (Sylvester's law of inertia).

    Args:
        found: routines.
        X: float64 or float32, shape (m, m), C or Fortran order; its upper triangle counts and is destroyed.

    Returns:
        The count; None when a pivot is exactly zero.
    """
    m, info = c_int64(len(X)), c_int64(0)
    pivots, work = np.zeros(len(X), np.int64), np.zeros(64 * len(X), X.dtype)
    found.of(X.dtype).factor_indefinite(_triangle(X), byref(m), _at(X), byref(m), _at(pivots), _at(work), byref(c_int64(len(work))),
                                        byref(info), 1)  # fmt: skip
    if info.value != 0:
        return None
    if not pivots.all():  # none is 0: a library of 32-bit integers has filled the first half
        pivots = pivots.view(np.int32)[: len(X)].astype(np.int64)
    single = pivots > 0  # the others are in pairs, blocks of D with one positive eigenvalue each
    return int(np.count_nonzero(X.diagonal()[single] > 0)) + int(np.count_nonzero(~single)) // 2


def _triangle(X: Real) -> bytes:
    """Fortran's name of the upper triangle."""
    return b"L" if X.flags.c_contiguous else b"U"


def _at(array: Real) -> int:
    return array.ctypes.data


def agrees_with_numpy(found: Routines) -> bool:
    """Whether the routines do what they should: both precisions and orientations, blocks of uneven heights, two bands."""
    for dtype, close in ((np.float64, _AGREEMENT), (np.float32, _AGREEMENT_SINGLE)):
        for m, band in ((96, 16), (97, 48)):
            W = np.sin(np.arange(150.0 * m) ** 2).reshape(150, m)
            for blocks in ((W[:101], W[101:]), (W[:33], np.asfortranarray(W[33:]))):
                if not _agrees(found, W.T @ W, [block.astype(dtype) for block in blocks], band, close):
                    return False
    return True


def _agrees(found: Routines, expected: NDArray[np.float64], blocks: list[Real], band: int, close: float) -> bool:
    m, upper = len(expected), np.triu_indices(len(expected))
    X = np.tril(np.full((m, m), np.nan, blocks[0].dtype), -1)  # what is below the diagonal must not be read or written
    for block in blocks:
        add_gram(found, X, block)
    if not (np.abs(X - expected)[upper] <= close * np.abs(expected).max()).all():
        return False
    U = X.copy()
    x = solve(found, U, expected.sum(axis=1).astype(X.dtype)[None]) if factored(found, U) else np.zeros(m)
    right = np.linalg.eigvalsh(expected)
    if not (np.abs(x - 1) <= close * right[-1] / right[0]).all():
        return False
    middle = 0.5 * (right[len(right) // 2] + right[len(right) // 2 - 1])
    if positive_eigenvalues(found, X - np.eye(m, dtype=X.dtype) * X.dtype.type(middle)) != m - m // 2:
        return False
    values = two_stage_eigenvalues(found, X, band)
    if values is None or not np.all(np.abs(values - right) <= close * right[-1]):
        return False
    return bool(np.isnan(X[np.tril_indices(m, -1)]).all() and np.isnan(U[np.tril_indices(m, -1)]).all())
