"""A new safetensors file before it has values: its header, and where each tensor goes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ww_static import dtypes
from ww_static.errors import FormatError
from ww_static.protocol import TensorSpec

_METADATA = "__metadata__"
_LAYOUTS = ("pt", "tf", "flax", "mlx")
_FOREIGN = frozenset(("INT4", "UINT4", "C128"))  # storage dtypes that the format has no name for
_ALIGNMENT = 8


@dataclass(frozen=True, slots=True)
class Placement:
    """The layout of a file.

    Attributes:
        head: its first bytes: the length of the header, and the header.
        offsets: first byte of each tensor, by name.
        nbytes: of the whole file.
    """

    head: bytes
    offsets: Mapping[str, int]
    nbytes: int


def placement(specs: Sequence[TensorSpec], metadata: Mapping[str, str]) -> Placement:
    """The layout of a safetensors file with these tensors: widest elements first, else in their order.

    Without metadata the framework that the tensors were made for is noted as ``format``, when it is known.

    Raises:
        FormatError: a tensor cannot be kept in this format: ``unsupported_dtype``, ``unsupported_layout``, ``no_data``,
            ``bad_header``.
    """
    document: dict[str, object] = {}
    layouts = {spec.layout for spec in specs}
    if not metadata and len(layouts) == 1 and layouts <= set(_LAYOUTS):
        metadata = {"format": str(*layouts)}
    if metadata:
        document[_METADATA] = dict(metadata)
    starts: dict[str, int] = {}
    position = 0
    for spec in sorted(specs, key=lambda one: -dtypes.storage_dtype(one.dtype).bits):
        nbytes = _stored_bytes(spec)
        document[spec.name] = {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [position, position + nbytes]}
        starts[spec.name] = position
        position += nbytes
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    head = len(text).to_bytes(8, "little") + text
    return Placement(head, {name: len(head) + start for name, start in starts.items()}, len(head) + position)


def _stored_bytes(spec: TensorSpec) -> int:
    """Bytes of a tensor in the file, when it can be there."""
    where = f"tensor '{spec.name}'"
    if spec.name == _METADATA or any(0xD800 <= ord(letter) <= 0xDFFF for letter in spec.name):
        raise FormatError("bad_header", where, "a safetensors file cannot have a tensor of this name")
    if spec.encoding == "absent":
        raise FormatError("no_data", where, "has no values that could be copied")
    small = dtypes.storage_dtype(spec.dtype).bits <= 8  # bytes that have no order
    if spec.encoding == "unsupported" or (spec.encoding == "quantized" and (spec.extent is None or not small)):
        raise FormatError("unsupported_layout", where, "its stored values cannot be copied into a safetensors file")
    nbytes = None if spec.dtype in _FOREIGN else dtypes.nbytes(spec.dtype, math.prod(spec.shape))
    if nbytes is None or (dtypes.storage_dtype(spec.dtype).packed and spec.extent is None):
        raise FormatError("unsupported_dtype", where, f"{spec.dtype} values cannot be copied into a safetensors file")
    if spec.extent is not None and spec.encoding == "quantized" and spec.extent.nbytes != nbytes:
        raise FormatError("unsupported_layout", where, f"{spec.extent.nbytes} bytes for {nbytes} needed by its shape")
    return nbytes
