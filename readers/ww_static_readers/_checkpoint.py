"""An open PyTorch file: its tensors, checked against the records that hold them, and their values by window."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ww_static import storage
from ww_static.errors import FormatError, LimitError
from ww_static.protocol import Extent, Finding, Limits, TensorSpec, Window
from ww_static_readers import _inflated, _zip
from ww_static_readers._pickle import Machine
from ww_static_readers._torch_values import Array, Element, PerChannel, PerTensor, Tensor
from ww_static_readers._tree import named_tensors
from ww_static_readers._zip import Member

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_ELEMENTS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Record:
    """Where the bytes of one storage lie: in the file, or in a member that must be inflated first."""

    offset: int
    nbytes: int
    crc: int = 0
    member: Member | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """An open file: what its pickle describes, where its storages lie, which way round their bytes are."""

    root: Any
    machine: Machine
    records: dict[str, Record]
    big: bool
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class _Checked:
    """How far the checksum of a record was followed: it is computed from windows that come in their order."""

    position: int = 0
    crc: int = 0


def checkpoint(path: Path, descriptor: int, contents: Contents, limits: Limits) -> PyTorchCheckpoint:
    """The checkpoint of an open file, every tensor of it checked.

    Raises:
        FormatError: a tensor reaches out of its storage, or its record is missing or too short.
    """
    machine = contents.machine
    held: dict[str, Tensor | Array] = {}
    specs: list[TensorSpec] = []
    findings = list(contents.findings)
    try:
        for name, value in named_tensors(contents.root, machine.where, limits):
            where = f"tensor '{name}'"
            if value.encoding != "absent" and (value.element is None or value.element.dtype is None):
                findings.append(Finding("unsupported_dtype", where, "its elements have no dtype that is read here", name))
                continue
            _check(value, contents.records, where, limits, findings)
            held[name] = value
            specs.append(_spec(name, value, contents, os.fspath(path), path.name))
    except FormatError as error:
        raise machine.blamed(error) from error
    return PyTorchCheckpoint(
        descriptor, contents, limits, held, tuple(specs), tuple(dict.fromkeys([*machine.findings, *findings]))
    )


def _check(value: Tensor | Array, records: Mapping[str, Record], where: str, limits: Limits, findings: list[Finding]) -> None:
    element = value.element
    assert element is not None  # the caller's question
    elements = _elements(value.shape, element, where, limits)
    if isinstance(value, Array):
        if len(value.data) != elements * element.size:
            raise FormatError(
                "size_mismatch", where, f"{len(value.data)} bytes for {elements * element.size} needed by its shape"
            )
    elif value.storage is not None and value.encoding != "unsupported":
        _check_storage(value, records, where, findings)
        _check_view(value, elements, where, limits)
        if isinstance(value.quantizer, PerChannel):
            for part in (value.quantizer.scales, value.quantizer.zero_points):
                _check_plain(part, where)
                _check(part, records, f"{where} scales", limits, findings)


def _check_plain(part: Tensor, where: str) -> None:
    if part.storage is None or part.encoding != "raw" or part.element.dtype not in ("F64", "F32", "I64", "I32"):
        raise FormatError("bad_header", where, "its scales or zero points are no plain numbers")


def _elements(shape: Sequence[Any], element: Element, where: str, limits: Limits) -> int:
    if len(shape) > limits.rank:
        raise LimitError("limit", where, f"{len(shape)} dimensions, limit {limits.rank}")
    elements = bound = 1
    for size in shape:
        if type(size) is not int or size < 0:
            raise FormatError("bad_header", where, f"dimension {size!r:.40} is not a count")
        elements *= size
        bound *= max(size, 1)  # a zero axis must not hide a huge one
    if bound * element.size > _MOST_ELEMENTS:
        raise FormatError("overflow", where, f"its shape of {element.dtype or element.size} exceeds 2^63 bytes")
    return elements


def _check_storage(tensor: Tensor, records: Mapping[str, Record], where: str, findings: list[Finding]) -> None:
    stored = tensor.storage
    assert stored is not None  # the caller's question
    record = records.get(stored.key)
    if record is None:
        raise FormatError("missing_part", where, f"its storage '{stored.key:.200}' is missing")
    needed = stored.numel * stored.element.size
    if record.nbytes < needed:
        raise FormatError("size_mismatch", where, f"its storage '{stored.key:.200}' has {record.nbytes} bytes of {needed}")
    if record.nbytes > needed:
        problem = f"has {record.nbytes} bytes, {needed} are used"
        findings.append(Finding("size_mismatch", f"storage '{stored.key:.200}'", problem))


def _check_view(tensor: Tensor, elements: int, where: str, limits: Limits) -> None:
    stored, size = tensor.storage, tensor.element.size
    assert stored is not None  # the caller's question
    room = stored.elements * stored.element.size
    if len(tensor.strides) != len(tensor.shape):
        raise FormatError("bad_header", where, f"{len(tensor.strides)} strides for {len(tensor.shape)} dimensions")
    if tensor.offset < 0 or any(stride < 0 for stride in tensor.strides):
        raise FormatError("bad_offsets", where, "an offset or stride is negative")
    if elements == 0:
        return
    last = tensor.offset + sum((count - 1) * stride for count, stride in zip(tensor.shape, tensor.strides, strict=True))
    if (last + 1) * size > room:
        raise FormatError("bad_offsets", where, f"reaches byte {(last + 1) * size} of a storage of {room}")
    if elements > limits.view_elements and elements * size > limits.view_ratio * room:
        raise LimitError("limit", where, f"a view of {elements} elements of a storage of {room} bytes")


def _spec(name: str, value: Tensor | Array, contents: Contents, path: str, file: str) -> TensorSpec:
    assert value.element is not None  # the caller has checked
    dtype = value.element.dtype or "U8"
    shape = tuple(value.shape)
    if isinstance(value, Array):
        return TensorSpec(name, dtype, shape, file)
    if value.encoding != "raw" or value.storage is None:
        return TensorSpec(name, dtype, shape, file, layout="pt", encoding=value.encoding)
    record = contents.records[value.storage.key]
    if record.member is not None:
        return TensorSpec(name, dtype, shape, file, layout="pt", encoding="compressed")
    flat = all(
        stride == dense or count <= 1
        for count, stride, dense in zip(shape, value.strides, storage.row_major(shape), strict=True)
    )
    if not (flat or 0 in shape) or (contents.big and value.element.size > 1):
        return TensorSpec(name, dtype, shape, file, layout="pt")
    nbytes = math.prod(shape) * value.element.size
    begin = min(value.storage.begin + value.offset * value.element.size, record.nbytes - nbytes)
    return TensorSpec(name, dtype, shape, file, layout="pt", extent=Extent(path, record.offset + begin, nbytes))


def _ascends(tensor: Tensor) -> bool:
    """Whether the elements can be taken in the order of the storage: no two of them are one, no two axes interlock."""
    reach = 0
    for stride, count in sorted(zip(tensor.strides, tensor.shape, strict=True)):
        if count > 1 and stride <= reach:
            return False
        reach += (count - 1) * stride if count > 1 else 0
    return True


class PyTorchCheckpoint:
    """An open file; values come as windows of a memory map, or of one inflated member at a time."""

    def __init__(
        self,
        descriptor: int,
        contents: Contents,
        limits: Limits,
        held: Mapping[str, Tensor | Array],
        tensors: tuple[TensorSpec, ...],
        findings: tuple[Finding, ...],
    ) -> None:
        self.tensors: Sequence[TensorSpec] = tensors
        self.findings: Sequence[Finding] = findings
        self._descriptor: int | None = descriptor
        self._contents = contents
        self._limits = limits
        self._held = held
        self._inflated: tuple[str, bytes] | None = None
        self._stream: _inflated.Stream | None = None
        self._checked: dict[str, _Checked] = {}

    def read(self, spec: TensorSpec, window: Window = ()) -> NDArray[Any]:
        """``whole[window]``, read-only where it is a view of the file; a quantized weight as float32, dequantized.

        Raises:
            FormatError: ``unsupported_layout``, ``no_data``, ``crc_mismatch``, ``corrupt``, ``bomb``, ``truncated``, ``io_error``.
        """
        value = self._held.get(spec.name)
        if value is None or self._descriptor is None:
            raise FormatError("io_error", "", "is not a tensor of an open file")
        if isinstance(value, Array):
            return self._of_array(value, window)
        if value.encoding == "unsupported":
            raise FormatError("unsupported_layout", "", "its layout, such as sparse or packed, is not read")
        if value.encoding == "absent":
            raise FormatError("no_data", "", "the file holds its shape and no values")
        if value.quantizer is not None:
            return self._dequantized(value, window)
        return self._stored(value, window)

    def close(self) -> None:
        """Closes the descriptor; maps that are still in use stay."""
        self._inflated = self._stream = None
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _of_array(self, value: Array, window: Window) -> NDArray[Any]:
        """Values that stand in the pickle itself."""
        assert value.element is not None  # listed only with a dtype
        assert value.element.dtype is not None
        strides = storage.row_major(value.shape[::-1])[::-1] if value.fortran else None
        found = storage.window_of(value.data, 0, value.element.dtype, value.shape, window, strides)
        return found.byteswap() if value.swapped else found

    def _stored(self, tensor: Tensor, window: Window) -> NDArray[Any]:
        import numpy as np

        stored, dtype = tensor.storage, tensor.element.dtype
        assert stored is not None  # what has no storage was refused
        assert dtype is not None
        record = self._contents.records[stored.key]
        begin = stored.begin + tensor.offset * tensor.element.size
        if record.member is not None and _ascends(tensor):
            found = self._streamed(record.member, begin, dtype, tensor, window)
        else:
            source, origin = self._source(stored.key, record)
            found = storage.window_of(source, origin + begin, dtype, tensor.shape, window, tensor.strides)
        if record.crc and record.member is None:
            self._follow(stored.key, record, tensor, window, found)
        if not self._contents.big or found.dtype.itemsize == 1:
            return found
        if found.dtype.kind == "V" or found.dtype.name == "bfloat16":  # numpy cannot swap what it does not know
            return found.view(np.uint16).byteswap().view(found.dtype)
        return found.byteswap()

    def _streamed(self, member: Member, begin: int, dtype: str, tensor: Tensor, window: Window) -> NDArray[Any]:
        """A window of a deflated record, inflated past; the stream is kept, so that the next window goes on from there."""
        assert self._descriptor is not None  # checked when the call came in
        first = _inflated.first_byte(begin, dtype, tensor.shape, window, tensor.strides)
        stream, self._stream = self._stream, None  # after an error it is of no use
        if stream is None or stream.member is not member or stream.start > first:
            stream = _inflated.Stream(self._descriptor, member, self._limits, member.size)
        found = _inflated.window_of(stream, begin, dtype, tensor.shape, window, tensor.strides)
        self._stream = stream
        return found

    def _source(self, key: str, record: Record) -> tuple[int | bytes, int]:
        """What to read from, and where the record begins in it."""
        assert self._descriptor is not None  # checked when the call came in
        if record.member is None:
            return self._descriptor, record.offset
        if self._inflated is None or self._inflated[0] != key:
            self._inflated = None  # the last one goes before the next one comes
            self._inflated = (key, b"".join(_zip.inflate(self._descriptor, record.member, self._limits)))
        return self._inflated[1], 0

    def _follow(self, key: str, record: Record, tensor: Tensor, window: Window, found: NDArray[Any]) -> None:
        """Carries the checksum of a record on when windows come one after the other; reads nothing for it alone.

        Raises:
            FormatError: ``crc_mismatch``, when the last byte has come and the sum differs.
        """
        if not found.size or not found.flags.c_contiguous:
            return
        stored = tensor.storage
        assert stored is not None  # checked by the caller
        first = sum(
            range(*cut.indices(count))[0] * stride
            for cut, count, stride in zip(window, tensor.shape, tensor.strides, strict=False)
        )
        begin = stored.begin + (tensor.offset + first) * tensor.element.size
        state = self._checked.setdefault(key, _Checked())
        if begin == 0 and state.position < record.nbytes:
            state.position = state.crc = 0
        if begin != state.position:
            return
        state.crc = zlib.crc32(found.reshape(-1).view("u1").data, state.crc)
        state.position += found.nbytes
        if state.position == record.nbytes and state.crc != record.crc:
            state.position = state.crc = 0
            raise FormatError("crc_mismatch", "", f"the checksum of storage '{key:.200}' differs, weights may be damaged")

    def _dequantized(self, tensor: Tensor, window: Window) -> NDArray[Any]:
        import numpy as np

        quantizer = tensor.quantizer
        assert quantizer is not None  # checked by the caller
        codes = self._stored(tensor, window)
        with np.errstate(all="ignore"):  # a scale from a file may be anything
            if isinstance(quantizer, PerTensor):
                values: NDArray[Any] = (codes.astype(np.int64) - quantizer.zero_point).astype(np.float64)
                values *= float(np.float32(quantizer.scale))  # torch multiplies in float32, and so rounds once
            else:
                shape = tuple(-1 if place == quantizer.axis else 1 for place in range(len(tensor.shape)))
                cut = window[quantizer.axis : quantizer.axis + 1]
                zeros = self._stored(quantizer.zero_points, cut).astype(np.float64).reshape(shape)
                scales = self._stored(quantizer.scales, cut).astype(np.float32).astype(np.float64).reshape(shape)
                values = (codes - zeros) * scales
            return values.astype(np.float32)
