"""ONNX: a protobuf of operators whose constants are the weights, in the file itself or in files beside it.

The file is walked, never parsed: opening costs memory in proportion to the names and operators, and there is no limit
of 2 GiB. Source: onnx.proto (IR version 13), and the page on external data of ONNX.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ww_static import dtypes, storage
from ww_static.errors import FormatError, LimitError
from ww_static.protocol import SNIFF_BYTES, Extent, Finding, Limits, ModelFile, TensorSpec, Window
from ww_static_readers import _onnx_codes as onnx_codes
from ww_static_readers import _onnx_graph as onnx_graph
from ww_static_readers import _onnx_wire as wire
from ww_static_readers._onnx_graph import Constant
from ww_static_readers._onnx_values import Typed

if TYPE_CHECKING:
    from numpy.typing import NDArray

# TensorProto.DataType -> storage dtype, and the typed field that holds it: (attribute, bytes of a number, 0 for varints)
_INT32, _INT64, _UINT64 = ("int32", 0), ("int64", 0), ("uint64", 0)
_FLOATS, _DOUBLES = ("floats", 4), ("doubles", 8)
_DTYPES: dict[int, tuple[str, tuple[str, int]]] = {
    1: ("F32", _FLOATS), 2: ("U8", _INT32), 3: ("I8", _INT32), 4: ("U16", _INT32), 5: ("I16", _INT32), 6: ("I32", _INT32),
    7: ("I64", _INT64), 9: ("BOOL", _INT32), 10: ("F16", _INT32), 11: ("F64", _DOUBLES), 12: ("U32", _UINT64),
    13: ("U64", _UINT64), 14: ("C64", _FLOATS), 15: ("C128", _DOUBLES), 16: ("BF16", _INT32), 17: ("F8_E4M3", _INT32),
    18: ("F8_E4M3FNUZ", _INT32), 19: ("F8_E5M2", _INT32), 20: ("F8_E5M2FNUZ", _INT32), 21: ("UINT4", _INT32),
    22: ("INT4", _INT32), 23: ("F4", _INT32), 24: ("F8_E8M0", _INT32),
}  # fmt: skip
_TYPED = ("floats", "doubles", "int32", "int64", "uint64")
_MOST_ELEMENTS = 2**63 - 1
_EXTERNAL = 1
_KEYS = ("location", "offset", "length", "checksum")
_COUNT = re.compile(r"[0-9]{1,20}")
_SUFFIX = ".onnx"
_FOREIGN = (
    b"PK\x03\x04", b"\x89HDF", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"GGUF", b"\x93NUMPY", b"\x04\x22\x4d\x18",
    b"\x1f\x8b\x08",
)  # fmt: skip
# Fields of ModelProto -> wire type: what the first bytes of a model may hold.
_MODEL_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_PRODUCER = (2, 3, 4)  # short texts that come before the graph
_GRAPH = 7
_GRAPH_FIELDS = (1, 2, 5, 10, 11, 12, 13, 14, 15, 16)
_MOST_VERSION = 1000


def sniff(path: Path, head: bytes) -> bool:
    """Fields of a model from the first byte to the graph; or a file that only its suffix calls ONNX, to say what is wrong."""
    if _begins_like_a_model(head):
        return True
    safetensors = head[8:].lstrip()[:1] == b"{" or head.lstrip()[:1] == b"{"
    return path.name.lower().endswith(_SUFFIX) and not safetensors and not head.startswith(_FOREIGN)


def models(names: Sequence[str]) -> list[ModelFile]:
    """One entry per ``.onnx`` file; external data is no model."""
    return [ModelFile(name, name[: -len(_SUFFIX)] or name) for name in names if name.lower().endswith(_SUFFIX)]


def open(path: Path, limits: Limits) -> OnnxCheckpoint:  # the reader contract names this function
    """Walks the file for its operators and the places of its tensors, and checks every place.

    Raises:
        FormatError: the file is malformed; see docs/formats.md for the categories.
    """
    descriptor = storage.open_file(path)
    try:
        size = os.fstat(descriptor).st_size
        storage.refuse_stand_in(storage.read_at(descriptor, 0, min(size, SNIFF_BYTES), ""))
        model = wire.parse(descriptor, size, limits)
    finally:
        os.close(descriptor)
    constants = onnx_graph.constants_of(model, limits)
    files = _Files(path, size, limits)
    held = [_held(constant, files) for constant in constants]
    findings = [
        Finding("unnamed", f"tensor '{one.name}'", "has no name in the file and is listed by its place", one.name)
        for one in constants
        if one.unnamed
    ]
    return OnnxCheckpoint(path, held, [*findings, *files.findings])


def _begins_like_a_model(head: bytes) -> bool:
    position, seen = 0, 0
    while position < len(head):
        tag, position = _varint(head, position)
        field, kind = tag >> 3, tag & 7
        if _MODEL_FIELDS.get(field) != kind or (seen == 0 and field not in (1, _GRAPH)):
            return False
        value, position = _varint(head, position)
        if field == 1 and not 0 < value < _MOST_VERSION:
            return False
        if field == _GRAPH:
            inner, after = _varint(head, position)
            return value > 0 and after <= len(head) and inner & 7 == 2 and inner >> 3 in _GRAPH_FIELDS
        if field in _PRODUCER and (position + value > len(head) or not _is_text(head[position : position + value])):
            return False
        position += value if kind == 2 else 0
        seen += 1
    return seen > 1  # a long description came before the graph


def _varint(head: bytes, position: int) -> tuple[int, int]:
    """A number of the head; past its end, one that means nothing, and a place past the end."""
    value = 0
    for count, byte in enumerate(head[position : position + 10]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, position + count + 1
    return 0, len(head) + 1


def _is_text(raw: bytes) -> bool:
    try:
        return raw.decode("utf-8").isprintable()
    except UnicodeDecodeError:
        return False


@dataclass(frozen=True, slots=True)
class Held:
    """One tensor: its spec, where its stored values are, and how codes become values.

    Attributes:
        stored: dtype and shape as they are stored; those of the spec differ for codes packed in blocks.
        typed: values that do not lie flat; None when the extent has them.
        codes: None when the stored values are the values.
    """

    spec: TensorSpec
    stored: tuple[str, tuple[int, ...]]
    extent: Extent | None = None
    typed: Typed | None = None
    codes: onnx_graph.Codes | None = None


class OnnxCheckpoint:
    """An open model; flat values come as windows of a memory map."""

    def __init__(self, path: Path, held: Sequence[Held], findings: Sequence[Finding]) -> None:
        self.tensors = tuple(one.spec for one in held)
        self.findings = tuple(findings)
        self._path = path
        self._held: Mapping[str, Held] = {one.spec.name: one for one in held}
        self._open: tuple[str, int] | None = None

    def read(self, spec: TensorSpec, window: Window = ()) -> NDArray[Any]:
        """``whole[window]``: stored values as they are, codes of a quantized weight as float32."""
        held = self._held[spec.name]
        if spec.reason == "unsupported_layout":
            raise FormatError("unsupported_layout", f"tensor '{spec.name}'", "is sparse")
        if held.codes is not None:
            return onnx_codes.dequantized(spec, held.codes, held.stored, window, self._stored)
        return self._stored(spec.name, window)

    def close(self) -> None:
        """Closes the descriptor; maps that are still in use stay."""
        if self._open is not None:
            os.close(self._open[1])
            self._open = None

    def _stored(self, name: str, window: Window) -> NDArray[Any]:
        held = self._held[name]
        dtype, shape = held.stored
        descriptor = self._descriptor(held.spec.file)
        if held.typed is not None:
            return held.typed.read(descriptor, shape, window)
        offset = held.extent.offset if held.extent else 0
        return storage.window_of(descriptor, offset, dtype, shape, window)

    def _descriptor(self, file: str) -> int:
        if self._open is None or self._open[0] != file:
            self.close()  # one descriptor at a time, however many files of external data there are
            own = file == self._path.name
            descriptor = storage.open_file(self._path) if own else storage.open_inside(self._path.parent, file, "external data")
            self._open = (file, descriptor)
        return self._open[1]


class _Files:
    """The model's own file and those of external data: sizes, and what was found about them."""

    def __init__(self, path: Path, size: int, limits: Limits) -> None:
        self.path = path
        self.name, self.text = path.name, os.fspath(path)  # made once: there may be a million tensors
        self.size = size
        self.findings: list[Finding] = []
        self._limits = limits
        self._sizes: dict[str, int] = {}

    def external(self, location: str, where: str) -> tuple[str, int]:
        """The name below the model's folder that `location` means, and the size of the file.

        Raises:
            FormatError: ``bad_header``, ``missing_part``, ``path_escape``, ``not_regular_file``, ``limit``.
        """
        if location in self._sizes:
            return _normal(location), self._sizes[location]
        if len(self._sizes) >= self._limits.parts:
            raise LimitError("limit", "external data", f"more than {self._limits.parts} files")
        descriptor = storage.open_inside(self.path.parent, location, where)
        try:
            status = os.fstat(descriptor)
            if status.st_size:
                storage.refuse_stand_in(storage.read_at(descriptor, 0, min(status.st_size, SNIFF_BYTES), where))
        except FormatError as error:
            raise type(error)(error.category, _normal(location), error.problem) from error
        finally:
            os.close(descriptor)
        if status.st_nlink > 1:
            self.findings.append(Finding("hard_link", _normal(location), f"the file has {status.st_nlink} hard links"))
        self._sizes[location] = status.st_size
        return _normal(location), status.st_size


def _normal(location: str) -> str:
    return "/".join(part for part in location.split("/") if part not in ("", "."))


def _held(constant: Constant, files: _Files) -> Held:
    where = f"tensor '{constant.name}'"
    tensor = constant.tensor
    if tensor.data_type not in _DTYPES:
        raise FormatError("unknown_dtype", where, f"data type {tensor.data_type} is not known")
    dtype, field = _DTYPES[tensor.data_type]
    shape = tuple(constant.shape)
    elements = _elements(dtype, shape, where)
    own = files.name
    if constant.sparse is not None:
        spec = TensorSpec(constant.name, dtype, shape, own, op_path=constant.operator, reason="unsupported_layout")
        return Held(spec, (dtype, shape))
    _check_fields(tensor, field[0], dtype, where)
    needed = -(-elements * dtypes.DTYPES[dtype].bits // 8)
    typed: Typed | None = None
    extent: Extent | None
    if tensor.location == _EXTERNAL:
        own, extent = _external(tensor, needed, where, files)
    elif tensor.raw is not None:
        extent = _flat(files, tensor.raw.start, tensor.raw.end - tensor.raw.start, needed, where)
    else:
        extent, typed = _typed(tensor, field, dtype, elements, needed, where, files)
    return _described(constant, dtype, shape, own, extent, typed)


def _elements(dtype: str, shape: tuple[int, ...], where: str) -> int:
    bound = elements = 1
    for size in shape:
        if size < 0:
            raise FormatError("bad_header", where, f"dimension {size} is not a count")
        elements *= size
        bound *= size or 1  # a zero axis must not hide a huge one
    if bound > _MOST_ELEMENTS or bound * dtypes.DTYPES[dtype].bits > 8 * _MOST_ELEMENTS:
        raise FormatError("overflow", where, f"shape {list(shape)} of {dtype} exceeds 2^63 bytes")
    return elements


def _check_fields(tensor: wire.Tensor, own: str, dtype: str, where: str) -> None:
    """Values stand in one place, the right one: two readers must not see two tensors."""
    filled = ["raw"] if tensor.raw is not None else []
    if tensor.floats or tensor.doubles or tensor.int32 or tensor.int64 or tensor.uint64:
        filled = [name for name in _TYPED if getattr(tensor, name)] + filled
    if tensor.location == _EXTERNAL:
        filled.append("external")
    elif tensor.location != 0:
        raise FormatError("bad_header", where, f"data location {tensor.location} is not known")
    if len(filled) > 1:
        raise FormatError("bad_header", where, f"has values in two places, {filled[0]} and {filled[1]}")
    if filled and filled[0] not in (own, "raw", "external"):
        raise FormatError("bad_header", where, f"values of {dtype} are in the field for {filled[0]}")


def _flat(files: _Files, offset: int, nbytes: int, needed: int, where: str) -> Extent:
    if nbytes != needed:
        raise FormatError("size_mismatch", where, f"{nbytes} bytes for {needed} needed by its shape")
    return Extent(files.text, offset, nbytes)


def _typed(
    tensor: wire.Tensor, field: tuple[str, int], dtype: str, elements: int, needed: int, where: str, files: _Files
) -> tuple[Extent | None, Typed | None]:
    """Values in a typed field: flat when the numbers are as wide as the elements and packed in one piece."""
    attribute, width = field
    runs = getattr(tensor, attribute)
    if not runs or (width and len(runs) == 1 and not runs[0].tag):
        start, end = (runs[0].start, runs[0].end) if runs else (0, 0)
        return _flat(files, start, end - start, needed, where), None
    if dtypes.DTYPES[dtype].family == "complex":
        raise FormatError("unsupported_layout", where, f"{dtype} numbers in pieces")
    per = 8 // dtypes.DTYPES[dtype].bits if dtypes.DTYPES[dtype].packed else 1
    typed = Typed(runs, width, dtype, -(-elements // per))
    try:
        typed.check()
    except FormatError as error:
        raise FormatError("size_mismatch", where, error.problem) from error
    return None, typed


def _external(tensor: wire.Tensor, needed: int, where: str, files: _Files) -> tuple[str, Extent]:
    """Where the values of external data lie; every number is checked against the file before it is used."""
    given: dict[str, str] = {}
    for entry in tensor.external:
        if entry.key not in _KEYS:
            files.findings.append(
                Finding(
                    "suspicious_reference", where, f"external data has the key '{entry.key:.80}', which means nothing", None
                )
            )
        elif entry.key in given:
            raise FormatError("bad_header", where, f"external data gives '{entry.key}' twice")
        else:
            given[entry.key] = entry.value
    offset = _count(given.get("offset", "0"), "offset", where)
    file, size = files.external(given.get("location", ""), where)
    length = _count(given["length"], "length", where) if "length" in given else max(size - offset, 0)
    if length != needed:
        raise FormatError("size_mismatch", where, f"{length} bytes for {needed} needed by its shape")
    if offset + length > size:
        raise FormatError("truncated", where, f"ends at byte {offset + length} of '{file}', which has {size}")
    return file, Extent(os.fspath(files.path.parent / file), offset, length)


def _count(text: str, key: str, where: str) -> int:
    if not _COUNT.fullmatch(text):
        raise FormatError("bad_header", where, f"external data: {key} '{text:.80}' is not a count")
    return int(text)


def _described(
    constant: Constant, dtype: str, shape: tuple[int, ...], file: str, extent: Extent | None, typed: Typed | None
) -> Held:
    """The spec of a tensor, with what the graph says of it."""
    stored = (dtype, shape)
    reason: str | None = None
    codes = None if constant.undecided else constant.codes
    if constant.auxiliary and constant.role is None and constant.codes is None:
        reason = "quant_aux"
    elif codes is not None and (decoded := onnx_codes.decoded_form(codes, stored)) is not None:
        dtype, shape = decoded
    elif constant.codes is not None or constant.undecided:
        codes, reason = None, "quantized"
    axes = constant.axes if constant.axes is not None and len(constant.axes) == len(shape) else None
    if codes is not None and codes.matrix is not None:
        axes = ("out", "in")
    spec = TensorSpec(
        constant.name, dtype, shape, file, axes=axes, extent=extent, encoding="quantized" if codes else "raw",
        role=constant.role, op_path=constant.operator, reason=reason,
    )  # fmt: skip
    return Held(spec, stored, extent, typed, codes)
