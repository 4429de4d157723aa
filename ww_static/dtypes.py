"""Storage dtypes and what their bits mean: the only place that knows bits.

A storage dtype carries the name that safetensors gives it, or one in its spelling where it has none (INT4, UINT4, C128). `numpy_dtype` says what an array of it looks like in
memory, `unpack` turns packed bytes into one code per element, `widen` turns either into numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from ww_static.errors import FormatError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Family = Literal["float", "integer", "boolean", "complex", "scale"]


@dataclass(frozen=True, slots=True)
class StorageDtype:
    """How one element is stored.

    Attributes:
        name: safetensors spelling.
        bits: bits per element, in the file.
        family: float (a weight may have it), scale (a power of two that scales other tensors), or a reason why not.
        numpy: name of the array dtype that `read` returns; ``ml_dtypes`` names for what numpy itself lacks; ``uint8``
            (one code per element) for the packed types.
        minifloat: (exponent bits, mantissa bits, exponent bias, specials) of the small types that widen by table.
    """

    name: str
    bits: int
    family: Family
    numpy: str
    minifloat: tuple[int, int, int, str] | None = None

    @property
    def epsilon(self) -> float:
        """Spacing of the values just above 1: 2^-mantissa bits; 1 for what is no floating type."""
        wide = {"F64": 52, "F32": 23, "F16": 10, "BF16": 7}
        return 2.0 ** -(self.minifloat[1] if self.minifloat else wide.get(self.name, 0))

    @property
    def spacing(self) -> float:
        """Distance of neighbouring values over the largest of their size: epsilon, or that of as many equal steps."""
        return 2.0 ** (1 - self.bits) if self.family == "integer" else self.epsilon

    @property
    def packed(self) -> bool:
        """True when elements do not start on byte boundaries."""
        return self.bits % 8 != 0


DTYPES: dict[str, StorageDtype] = {
    dtype.name: dtype
    for dtype in (
        StorageDtype("F64", 64, "float", "<f8"),
        StorageDtype("F32", 32, "float", "<f4"),
        StorageDtype("F16", 16, "float", "<f2"),
        StorageDtype("BF16", 16, "float", "bfloat16"),
        StorageDtype("F8_E4M3", 8, "float", "float8_e4m3fn", (4, 3, 7, "nan")),
        StorageDtype("F8_E5M2", 8, "float", "float8_e5m2", (5, 2, 15, "ieee")),
        StorageDtype("F8_E4M3FNUZ", 8, "float", "float8_e4m3fnuz", (4, 3, 8, "fnuz")),
        StorageDtype("F8_E5M2FNUZ", 8, "float", "float8_e5m2fnuz", (5, 2, 16, "fnuz")),
        StorageDtype("F8_E8M0", 8, "scale", "float8_e8m0fnu", (8, 0, 127, "e8m0")),
        StorageDtype("F6_E2M3", 6, "float", "uint8", (2, 3, 1, "finite")),
        StorageDtype("F6_E3M2", 6, "float", "uint8", (3, 2, 3, "finite")),
        StorageDtype("F4", 4, "float", "uint8", (2, 1, 1, "finite")),
        StorageDtype("I64", 64, "integer", "<i8"),
        StorageDtype("U64", 64, "integer", "<u8"),
        StorageDtype("I32", 32, "integer", "<i4"),
        StorageDtype("U32", 32, "integer", "<u4"),
        StorageDtype("I16", 16, "integer", "<i2"),
        StorageDtype("U16", 16, "integer", "<u2"),
        StorageDtype("I8", 8, "integer", "|i1"),
        StorageDtype("U8", 8, "integer", "|u1"),
        StorageDtype("INT4", 4, "integer", "uint8"),
        StorageDtype("UINT4", 4, "integer", "uint8"),
        StorageDtype("BOOL", 8, "boolean", "|b1"),
        StorageDtype("C64", 64, "complex", "<c8"),
        StorageDtype("C128", 128, "complex", "<c16"),
    )
}


def storage_dtype(name: str) -> StorageDtype:
    """The storage dtype called `name`.

    Raises:
        FormatError: ``unknown_dtype``.
    """
    try:
        return DTYPES[name]
    except (KeyError, TypeError):
        raise FormatError("unknown_dtype", "", f"dtype {name!r:.80} is not known") from None


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The dtype of the array that `read` returns for storage dtype `name` (little-endian)."""
    import numpy as np

    spelling = storage_dtype(name).numpy
    if spelling[0] in "<|" or spelling == "uint8":
        return np.dtype(spelling)
    import ml_dtypes

    stored: np.dtype[Any] = np.dtype(getattr(ml_dtypes, spelling))
    return stored


def nbytes(name: str, elements: int) -> int | None:
    """Bytes that `elements` elements take in the file; None when they do not fill whole bytes."""
    bits = storage_dtype(name).bits * elements
    return bits // 8 if bits % 8 == 0 else None


def unpack(raw: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """One code per element from packed bytes, lowest bits first.

    Args:
        raw: uint8, shape (bytes,), whole groups: 1 byte holds two 4-bit codes, 3 bytes hold four F6 codes.
        name: a packed dtype: F4, INT4, UINT4, F6_E2M3 or F6_E3M2.

    Returns:
        uint8, shape (elements,), each below 2^bits.
    """
    import numpy as np

    if storage_dtype(name).bits == 4:
        codes = np.empty((raw.size, 2), np.uint8)
        np.bitwise_and(raw, 0x0F, out=codes[:, 0])
        np.right_shift(raw, 4, out=codes[:, 1])
        return codes.reshape(-1)
    low, middle, high = raw.reshape(-1, 3).T
    codes = np.empty((raw.size // 3, 4), np.uint8)
    codes[:, 0] = low & 0x3F
    codes[:, 1] = (low >> 6) | ((middle & 0x0F) << 2)
    codes[:, 2] = (middle >> 4) | ((high & 0x03) << 4)
    codes[:, 3] = high >> 2
    return codes.reshape(-1)


def widen(array: NDArray[Any], dtype: str) -> NDArray[np.float64]:
    """The numbers that a stored array stands for.

    Args:
        array: what `read` returned, any shape and strides: the storage dtype itself, or its bits as unsigned integers
            (codes 0..15 for F4, INT4 and UINT4, 0..63 for F6).
        dtype: storage dtype name, for instance ``BF16``.

    Returns:
        float64, C order, same shape; exact for every floating type, rounded to nearest for 64-bit integers.

    Raises:
        FormatError: ``unknown_dtype``, or ``unsupported_dtype`` for complex numbers.
    """
    import numpy as np

    storage = storage_dtype(dtype)
    if storage.family == "complex":
        raise FormatError("unsupported_dtype", "", f"{dtype} holds complex numbers, which have no real spectrum here")
    array = np.asarray(array)
    if storage.minifloat is not None:
        # mode="clip" keeps numpy from buffering the output; a code is never out of range for its own table
        return np.take(_table(dtype), array.view(np.uint8), mode="clip")
    if storage.name == "BF16":
        wide = array.view(np.uint16).astype(np.uint32, order="C")
        wide <<= 16  # a bfloat16 is the upper half of a float32
        return wide.view(np.float32).astype(np.float64)
    stored = numpy_dtype(dtype)
    if storage.name == "INT4":  # two's complement
        return (array.astype(np.float64, order="C") + 8.0) % 16.0 - 8.0
    if array.dtype.newbyteorder("<") != stored:  # big-endian numbers are numbers; anything else is their bits
        array = array.view(stored)
    return array.astype(np.float64, order="C")


def store(values: NDArray[np.float64], dtype: str) -> NDArray[Any]:
    """The stored numbers nearest to some values: what `widen` turns back into numbers.

    Args:
        values: float64, any shape.
        dtype: name of a storage dtype with floating elements of whole bytes.

    Returns:
        An array of `numpy_dtype(dtype)`; what is too large for it is infinite, or NaN where it has no infinity.

    Raises:
        FormatError: ``unsupported_dtype``.
    """
    import numpy as np

    storage = storage_dtype(dtype)
    if storage.family != "float" or storage.packed:
        raise FormatError("unsupported_dtype", "", f"weights are not rounded to {dtype}")
    with np.errstate(over="ignore"):
        return values.astype(numpy_dtype(dtype))


def narrow(array: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """The numbers that a stored array stands for, rounded to nearest float32: for spectra in single precision.

    Args, Returns and Raises are those of `widen`, but float32. What float32 cannot hold becomes infinite, or 0.
    """
    import numpy as np

    array = np.asarray(array)
    if dtype == "BF16":
        wide = array.view(np.uint16).astype(np.uint32, order="C")
        wide <<= 16
        return wide.view(np.float32)
    if dtype in ("F32", "F16"):
        numbers = array if array.dtype.newbyteorder("<") == numpy_dtype(dtype) else array.view(numpy_dtype(dtype))
        return numbers.astype(np.float32, order="C", copy=False)
    with np.errstate(over="ignore"):
        return widen(array, dtype).astype(np.float32)


@cache
def _table(name: str) -> NDArray[np.float64]:
    """Value of every code of a small type: sign | exponent | mantissa, subnormals at exponent 0.

    Sources: OCP Microscaling Formats 1.0 (F4, F6, E8M0), OCP 8-bit Floating Point 1.0 (E4M3 without infinities, E5M2
    as IEEE); the FNUZ forms have one NaN, at the code of negative zero.
    """
    import numpy as np

    storage = storage_dtype(name)
    assert storage.minifloat is not None  # only called for the types that have one
    exponent_bits, mantissa_bits, bias, specials = storage.minifloat
    codes = np.arange(1 << storage.bits)
    if specials == "e8m0":  # no sign, no mantissa: 2^(code - 127), and the last code is NaN
        values: NDArray[np.float64] = np.ldexp(1.0, codes - bias)
        values[-1] = np.nan
        return values
    sign = np.where(codes >> (exponent_bits + mantissa_bits), -1.0, 1.0)
    exponent = (codes >> mantissa_bits) & ((1 << exponent_bits) - 1)
    mantissa = codes & ((1 << mantissa_bits) - 1)
    fraction = np.where(exponent == 0, mantissa, mantissa + (1 << mantissa_bits))
    values = np.asarray(sign * np.ldexp(fraction.astype(np.float64), np.maximum(exponent, 1) - bias - mantissa_bits))
    top = exponent == (1 << exponent_bits) - 1
    if specials == "nan":
        values[top & (mantissa == (1 << mantissa_bits) - 1)] = np.nan
    elif specials == "ieee":
        values[top] = np.where(mantissa[top] == 0, sign[top] * np.inf, np.nan)
    elif specials == "fnuz":
        values[1 << (storage.bits - 1)] = np.nan
    return values
