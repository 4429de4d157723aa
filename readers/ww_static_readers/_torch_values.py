"""Tensors as a PyTorch pickle describes them, and the tables of its storage types and dtypes.

Source: torch/storage.py and torch/_utils.py of torch 2.13.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a storage: the storage dtype that it is read as (None: none of ours), and its bytes."""

    dtype: str | None
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """A run of elements: the record `key` from byte `begin` on; `numel` elements were promised for the whole record."""

    element: Element
    key: str
    numel: int
    begin: int = 0
    length: int | None = None

    @property
    def elements(self) -> int:
        """Elements that a view may reach."""
        return self.numel if self.length is None else self.length


@dataclass(frozen=True, slots=True)
class PerTensor:
    """(code - zero point) * scale."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True, eq=False)
class PerChannel:
    """The same with one scale and one zero point for each index of `axis`."""

    scales: Tensor
    zero_points: Tensor
    axis: int


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A view of a storage; offset and strides in elements. `encoding` says why there is none."""

    element: Element
    storage: Storage | None
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    encoding: str = "raw"
    quantizer: PerTensor | PerChannel | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Wrapper:
    """A tensor of a class that is made of other tensors: its outside, and the state in which the others are.

    Attributes:
        outside: without values.
        state: attributes of the object, or a pair of dictionaries of them.
        scheme: whether the inner tensors are codes and scales of a quantized weight.
    """

    outside: Tensor
    state: Any
    scheme: bool


@dataclass(slots=True, eq=False)
class Array:
    """A numpy array; its bytes stand in the pickle itself."""

    element: Element | None = None
    shape: tuple[int, ...] = ()
    fortran: bool = False
    swapped: bool = False
    data: bytes = b""

    @property
    def encoding(self) -> str:
        """Of the bytes in the pickle."""
        return "raw"


@dataclass(slots=True, eq=False)
class Plain:
    """A numpy dtype."""

    code: str
    swapped: bool = False


BYTE = Element("U8", 1)
STORAGES = {
    "Double": Element("F64", 8), "Float": Element("F32", 4), "Half": Element("F16", 2), "BFloat16": Element("BF16", 2),
    "Long": Element("I64", 8), "Int": Element("I32", 4), "Short": Element("I16", 2), "Char": Element("I8", 1), "Byte": BYTE,
    "Bool": Element("BOOL", 1), "ComplexFloat": Element("C64", 8), "ComplexDouble": Element("C128", 16), "QInt8": Element("I8", 1),
    "QUInt8": BYTE, "QInt32": Element("I32", 4), "QUInt4x2": Element(None, 1), "QUInt2x4": Element(None, 1),
}  # fmt: skip
DTYPES = {
    "float64": Element("F64", 8), "double": Element("F64", 8), "float32": Element("F32", 4), "float": Element("F32", 4),
    "float16": Element("F16", 2), "half": Element("F16", 2), "bfloat16": Element("BF16", 2), "int64": Element("I64", 8),
    "long": Element("I64", 8), "int32": Element("I32", 4), "int": Element("I32", 4), "int16": Element("I16", 2),
    "short": Element("I16", 2), "int8": Element("I8", 1), "uint8": BYTE, "uint16": Element("U16", 2), "uint32": Element("U32", 4),
    "uint64": Element("U64", 8), "bool": Element("BOOL", 1), "complex64": Element("C64", 8), "cfloat": Element("C64", 8),
    "complex128": Element("C128", 16), "cdouble": Element("C128", 16), "complex32": Element(None, 4), "chalf": Element(None, 4),
    "float8_e4m3fn": Element("F8_E4M3", 1), "float8_e5m2": Element("F8_E5M2", 1), "float8_e4m3fnuz": Element("F8_E4M3FNUZ", 1),
    "float8_e5m2fnuz": Element("F8_E5M2FNUZ", 1), "float8_e8m0fnu": Element("F8_E8M0", 1), "float4_e2m1fn_x2": Element(None, 1),
    "qint8": Element("I8", 1), "quint8": BYTE, "qint32": Element("I32", 4), "quint4x2": Element(None, 1),
    "quint2x4": Element(None, 1), "bits1x8": Element(None, 1), "bits2x4": Element(None, 1), "bits4x2": Element(None, 1),
    "bits8": Element(None, 1), "bits16": Element(None, 2),
    **{f"{sign}int{bits}": Element(None, 1) for sign in ("", "u") for bits in range(1, 8)},
}  # fmt: skip
NUMPY = {
    "f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8", "u8": "U64", "u4": "U32",
    "u2": "U16", "u1": "U8", "b1": "BOOL", "c8": "C64", "c16": "C128",
}  # fmt: skip


def is_count(value: Any) -> TypeGuard[int]:
    """Whether a value of a pickle is a number of things."""
    return type(value) is int and value >= 0
