"""Routines of numpy's own BLAS and LAPACK that numpy does not offer, found by name in the library that numpy has loaded.

Every integer goes as 64 bits: by reference, or by value in a register. A library of 32-bit integers reads the lower half,
which on a little-endian machine is the same number.
"""

from __future__ import annotations

import ctypes
import importlib
import re
import sys
from ctypes import c_char_p, c_double, c_float, c_int, c_int64, c_size_t, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np

# (prefix, suffix) of names: numpy's wheel, scipy's wheel, a distribution's library with 64-bit integers, one without
_SPELLINGS = (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", ""))
_FORTRAN = {  # arguments of ?name; Fortran wants the lengths of texts at the end
    "sytrd_sy2sb": (c_char_p, *(c_void_p,) * 10, c_size_t),
    "sytrd_sb2st": (c_char_p, c_char_p, c_char_p, *(c_void_p,) * 11, c_size_t, c_size_t, c_size_t),
    "potrf": (c_char_p, *(c_void_p,) * 4, c_size_t),
    "potrs": (c_char_p, *(c_void_p,) * 7, c_size_t),
    "sytrf": (c_char_p, *(c_void_p,) * 7, c_size_t),
}


@dataclass(frozen=True, slots=True)
class Kernels:
    """Foreign functions for one type of numbers.

    Attributes:
        syrk: cblas_?syrk.
        to_band, to_tridiagonal: ?sytrd_sy2sb and ?sytrd_sb2st, the two stages.
        factor, solve: ?potrf and ?potrs, Cholesky.
        factor_indefinite: ?sytrf, L D L^T with pivots (Bunch, Kaufman).
    """

    syrk: Any
    to_band: Any
    to_tridiagonal: Any
    factor: Any
    solve: Any
    factor_indefinite: Any


@dataclass(frozen=True, slots=True)
class Routines:
    """Foreign functions of one library.

    Attributes:
        name: of the backend, for the rows: library, version, method.
        double, single: for float64 and float32.
        values: dsterf, eigenvalues of a tridiagonal matrix in float64.
    """

    name: str
    double: Kernels
    single: Kernels
    values: Any

    def of(self, dtype: np.dtype[Any]) -> Kernels:
        """The functions for float64 or float32."""
        return self.single if dtype == np.float32 else self.double


def loaded() -> Routines | None:
    """The routines of the library that numpy has loaded; None where it has none, or where integers would not fit."""
    if sys.byteorder != "little" or ctypes.sizeof(c_void_p) != 8:
        return None
    try:  # a handle of the extension finds what its dependencies export, wherever they lie
        return find(ctypes.CDLL(importlib.import_module("numpy.linalg._umath_linalg").__file__))
    except (ImportError, OSError):
        return None


def find(library: Any) -> Routines | None:
    """The routines in a library, by the first spelling under which all are there."""
    for prefix, suffix in _SPELLINGS:
        try:
            double, single = (_kernels(library, letter, prefix, suffix) for letter in "ds")
            values = _typed(library, f"{prefix}dsterf_{suffix}", (c_void_p,) * 4)
        except AttributeError:
            continue
        return Routines(_name(library, f"{prefix}openblas_get_config{suffix}"), double, single, values)
    return None


def _kernels(library: Any, letter: str, prefix: str, suffix: str) -> Kernels:
    number = c_float if letter == "s" else c_double
    syrk = (c_int, c_int, c_int, c_int64, c_int64, number, c_void_p, c_int64, number, c_void_p, c_int64)
    fortran = [_typed(library, f"{prefix}{letter}{name}_{suffix}", kinds) for name, kinds in _FORTRAN.items()]
    return Kernels(_typed(library, f"{prefix}cblas_{letter}syrk{suffix}", syrk), *fortran)


def _typed(library: Any, symbol: str, kinds: tuple[Any, ...]) -> Any:
    function = getattr(library, symbol)
    function.restype, function.argtypes = None, kinds
    return function


def _name(library: Any, symbol: str) -> str:
    try:
        describe = getattr(library, symbol)
    except AttributeError:
        return "lapack two-stage"
    describe.restype, describe.argtypes = c_char_p, ()
    version = re.match(rb"OpenBLAS (\d{1,4}\.\d{1,4}\.\d{1,4})", describe() or b"")
    return f"openblas-{version[1].decode()} two-stage" if version else "openblas two-stage"
