"""Routines of numpy's own BLAS and LAPACK that numpy does not offer: syrk in place, and the two-stage eigenvalues.

They are found by name in the library that numpy has loaded, and used only after they have given the right numbers.
"""

from __future__ import annotations

import ctypes
import importlib
import re
import sys
from ctypes import byref, c_char_p, c_double, c_int, c_int64, c_size_t, c_void_p
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUMPY = "numpy"  # the backend that is always there: numpy.matmul and numpy.linalg
BEST = "auto"  # the best that this process has
LARGEST_ONE_STAGE = 1600  # columns; up to here numpy.linalg.eigvalsh is as fast

# (prefix, suffix) of names: numpy's wheel, scipy's wheel, a distribution's library with 64-bit integers, one without
_SPELLINGS = (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", ""))
_ROW_MAJOR, _NO_TRANS, _TRANS, _UPPER = 101, 111, 112, 121  # of CBLAS
_ARGUMENTS = (  # of syrk, sytrd_sy2sb, sytrd_sb2st, sterf; Fortran wants the lengths of texts at the end
    (c_int, c_int, c_int, c_int64, c_int64, c_double, c_void_p, c_int64, c_double, c_void_p, c_int64),
    (c_char_p, *(c_void_p,) * 10, c_size_t),
    (c_char_p, c_char_p, c_char_p, *(c_void_p,) * 11, c_size_t, c_size_t, c_size_t),
    (c_void_p,) * 4,
)
_AGREEMENT = 1e-12  # of eigenvalues with numpy's, in units of the largest, in the self-test


@dataclass(frozen=True, slots=True)
class Routines:
    """Foreign functions of one library.

    Every integer goes as 64 bits: by reference, or by value in a register. A library of 32-bit integers reads the lower
    half, which on a little-endian machine is the same number; so no routine with an array of integers is used.

    Attributes:
        name: of the backend, for the rows: library, version, method.
        syrk: cblas_dsyrk.
        to_band, to_tridiagonal, values: dsytrd_sy2sb, dsytrd_sb2st, dsterf.
    """

    name: str
    syrk: Any
    to_band: Any
    to_tridiagonal: Any
    values: Any


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
    if sys.byteorder != "little" or ctypes.sizeof(c_void_p) != 8:
        return None
    try:  # a handle of the extension finds what its dependencies export, wherever they lie
        library = ctypes.CDLL(importlib.import_module("numpy.linalg._umath_linalg").__file__)
    except (ImportError, OSError):
        return None
    found = find(library)
    return found if found is not None and agrees_with_numpy(found) else None


def find(library: Any) -> Routines | None:
    """The routines in a library, by the first spelling under which all are there."""
    for prefix, suffix in _SPELLINGS:
        names = [f"{prefix}cblas_dsyrk{suffix}"]
        names += [f"{prefix}{name}_{suffix}" for name in ("dsytrd_sy2sb", "dsytrd_sb2st", "dsterf")]
        try:
            functions = [getattr(library, name) for name in names]
        except AttributeError:
            continue
        for function, kinds in zip(functions, _ARGUMENTS, strict=True):
            function.restype, function.argtypes = None, kinds
        return Routines(_name(library, f"{prefix}openblas_get_config{suffix}"), *functions)
    return None


def _name(library: Any, symbol: str) -> str:
    try:
        describe = getattr(library, symbol)
    except AttributeError:
        return "lapack two-stage"
    describe.restype, describe.argtypes = c_char_p, ()
    version = re.match(rb"OpenBLAS (\d{1,4}\.\d{1,4}\.\d{1,4})", describe() or b"")
    return f"openblas-{version[1].decode()} two-stage" if version else "openblas two-stage"


def add_gram(found: Routines, X: NDArray[np.float64], block: NDArray[np.float64]) -> None:
    """X += B^T B in place, upper triangle; the lower one is not touched.

    Args:
        found: routines.
        X: float64, shape (m, m), C order.
        block: B, float64, shape (k, m). In C order, in Fortran order, or a part of such an array it is read where it lies.
    """
    m = len(X)
    if m == 0 or len(block) == 0:
        return
    down, across = (stride // 8 for stride in block.strides)
    whole = block.dtype == np.float64 and block.flags.aligned and not any(stride % 8 for stride in block.strides)
    if whole and block.strides[1] == 8 and down >= m:
        transposed, lead = _TRANS, down
    elif whole and block.strides[0] == 8 and across >= len(block):
        transposed, lead = _NO_TRANS, across
    else:
        block, transposed, lead = np.ascontiguousarray(block, dtype=np.float64), _TRANS, m
    found.syrk(_ROW_MAJOR, _UPPER, transposed, m, len(block), 1.0, block.ctypes.data, lead, 1.0, X.ctypes.data, m)


def band_width(m: int) -> int:
    """Half-width of the band between the two stages, where it is fastest. A function of the shape only: bits depend on it."""
    return 48 if m < 3072 else 64 if m < 5120 else 96


def two_stage_bytes(m: int) -> int:
    """Private memory, in bytes, that `two_stage_eigenvalues` needs beside X."""
    band = band_width(m)
    first = _first_work(m, band) + m
    return 8 * (m * (band + 1) + max(first, (2 * band + 8) * m + 128))


def _first_work(m: int, band: int) -> int:
    return m * band + m * max(band, 128) + 2 * band * band + 64


def two_stage_eigenvalues(found: Routines, X: NDArray[np.float64], band: int) -> NDArray[np.float64] | None:
    """The eigenvalues of a symmetric matrix: full -> band -> tridiagonal -> values (root-free QL).

    The first stage is rich in matrix products, unlike the direct reduction; only the second one is serial, and small.
    Source: Haidar, Ltaief, Dongarra 2011; LAPACK's dsyev_2stage, which fixes the width of the band at 32.

    Args:
        found: routines.
        X: float64, shape (m, m), C order, finite; its upper triangle counts and is destroyed, the lower one stays.
        band: half-width of the band, less than m.

    Returns:
        float64, shape (m,), ascending; None when LAPACK gave up.
    """
    banded = _banded(found, X, band)
    return None if banded is None else _values(found, banded)


def _banded(found: Routines, X: NDArray[np.float64], band: int) -> NDArray[np.float64] | None:
    """Row j holds X_jj ... X_(j+band)j of a matrix with the same eigenvalues and nothing beyond; None on failure."""
    m = len(X)
    n, kd, lda, info = c_int64(m), c_int64(band), c_int64(band + 1), c_int64(0)
    banded, tau = np.zeros((m, band + 1)), np.zeros(m)

    def call(work: NDArray[np.float64], size: int) -> bool:
        # C order and the upper triangle are Fortran order and the lower one
        found.to_band(b"L", byref(n), byref(kd), _at(X), byref(n), _at(banded), byref(lda), _at(tau), _at(work),
                      byref(c_int64(size)), byref(info), 1)  # fmt: skip
        return info.value == 0

    query = np.zeros(1)
    if not call(query, -1):
        return None
    work = np.zeros(max(int(query[0]), _first_work(m, band)))
    return banded if call(work, len(work)) else None


def _values(found: Routines, banded: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Eigenvalues of what `_banded` gave, which is destroyed; None on failure."""
    m, width = banded.shape
    n, kd, lda, info = c_int64(m), c_int64(width - 1), c_int64(width), c_int64(0)
    diagonal, beside = np.zeros(m), np.zeros(m)

    def call(hous: NDArray[np.float64], reflectors: int, work: NDArray[np.float64], size: int) -> bool:
        found.to_tridiagonal(b"Y", b"N", b"L", byref(n), byref(kd), _at(banded), byref(lda), _at(diagonal), _at(beside),
                             _at(hous), byref(c_int64(reflectors)), _at(work), byref(c_int64(size)), byref(info), 1, 1, 1)  # fmt: skip
        return info.value == 0

    reflectors, query = np.zeros(1), np.zeros(1)
    if not call(reflectors, -1, query, -1):
        return None
    hous = np.zeros(max(int(reflectors[0]), 4 * m) + 64)
    work = np.zeros(max(int(query[0]), 2 * width * m) + 64)
    if not call(hous, len(hous), work, len(work)):
        return None
    found.values(byref(n), _at(diagonal), _at(beside), byref(info))
    return diagonal if info.value == 0 else None


def _at(array: NDArray[np.float64]) -> int:
    return array.ctypes.data


def agrees_with_numpy(found: Routines) -> bool:
    """Whether the routines do what they should: both orientations, blocks of uneven heights, two widths of the band."""
    for m, band in ((96, 16), (97, 48)):
        W = np.sin(np.arange(150.0 * m) ** 2).reshape(150, m)
        expected = W.T @ W
        largest = float(np.abs(expected).max())
        for blocks in ((W[:101], W[101:]), (W[:33], np.asfortranarray(W[33:]))):
            X = np.tril(np.full((m, m), np.nan), -1)  # what is below the diagonal must not be read or written
            for block in blocks:
                add_gram(found, X, block)
            close = np.abs(np.triu(X) - np.triu(expected)) <= _AGREEMENT * largest
            if not close[np.triu_indices(m)].all():
                return False
            values = two_stage_eigenvalues(found, X, band)
            right = np.linalg.eigvalsh(expected)
            if values is None or not np.all(np.abs(values - right) <= _AGREEMENT * right[-1]):
                return False
            if not np.isnan(X[np.tril_indices(m, -1)]).all():
                return False
    return True
