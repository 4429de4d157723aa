"""One PyTorch file that is open: its storages as records, and every tensor checked against the record that holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ww_static import storage
from ww_static.errors import FormatError, LimitError
from ww_static.protocol import Extent, Finding, Limits, TensorSpec
from ww_static_readers import _zip
from ww_static_readers._pickle import Machine
from ww_static_readers._torch_values import Array, Element, PerChannel, Tensor
from ww_static_readers._tree import Leaf, named_tensors
from ww_static_readers._zip import Member

_MOST_ELEMENTS = 2**63 - 1
_BYTE_ORDERS = {b"little": False, b"big": True}


@dataclass(frozen=True, slots=True)
class Record:
    """Where the bytes of one storage lie: in the file, or in a member that must be inflated first."""

    offset: int
    nbytes: int
    crc: int = 0
    member: Member | None = None


def record_of(member: Member) -> Record:
    """The storage that a member of an archive is."""
    return Record(member.offset, member.size, member.crc, member if member.method == _zip.DEFLATED else None)


def is_big(descriptor: int, member: Member | None, limits: Limits) -> bool:
    """Whether an archive's member ``byteorder`` says big; torch before 2.1 wrote none, and little-endian files.

    Raises:
        FormatError: ``bad_header``.
    """
    if member is None:
        return False
    order = _zip.content(descriptor, member, limits) if member.size < 8 else b""
    if order not in _BYTE_ORDERS:
        raise FormatError("bad_header", "byteorder", f"is {order!r}, not little or big")
    return _BYTE_ORDERS[order]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file says before its tensors are checked.

    Attributes:
        root: the object that holds the tensors.
        where: part of the file that describes them.
        machine: what ran the pickle; None when there is none.
        records: where each storage lies.
        big: whether its bytes are in big-endian order.
        findings: of the container.
        roles: what a graph beside the tensors uses them for, by name.
    """

    root: Any
    where: str
    machine: Machine | None
    records: Mapping[str, Record]
    big: bool
    findings: tuple[Finding, ...]
    roles: Mapping[str, str] = field(default_factory=dict)

    def blamed(self, error: FormatError) -> FormatError:
        """The error to report: what the pickle would have called outranks what is wrong after it."""
        return error if self.machine is None else self.machine.blamed(error)


@dataclass(frozen=True, slots=True)
class TorchPart:
    """One file, or one archive within a file, whose tensors are checked."""

    tensors: tuple[TensorSpec, ...]
    findings: tuple[Finding, ...]
    held: Mapping[str, Tensor | Array]
    records: Mapping[str, Record]
    big: bool


def checked(contents: Contents, path: str, file: str, limits: Limits) -> TorchPart:
    """The tensors of a file, every one checked.

    Args:
        contents: of the file.
        path: of the file.
        file: its name, relative to the folder of the model.
        limits: bound shapes, names and views.

    Raises:
        FormatError: a tensor reaches out of its storage, or its record is missing or too short.
    """
    held: dict[str, Tensor | Array] = {}
    specs: list[TensorSpec] = []
    findings = [*(contents.machine.findings if contents.machine else ()), *contents.findings]
    try:
        for leaf in named_tensors(contents.root, contents.where, limits):
            where = f"tensor '{leaf.name}'"
            value = leaf.value
            if value.encoding != "absent" and (value.element is None or value.element.dtype is None):
                words = "its elements have no dtype that is read here"
                findings.append(Finding("unsupported_dtype", where, words, leaf.name))
                if isinstance(value, Tensor):
                    _elements(value.shape, value.element, where, limits)
                    held[leaf.name] = replace(value, encoding="unsupported")
                    specs.append(_unread(leaf, file))
                continue
            _check(value, contents.records, where, limits, findings)
            held[leaf.name] = value
            specs.append(_spec(leaf, contents, path, file))
    except FormatError as error:
        raise contents.blamed(error) from error
    return TorchPart(tuple(specs), tuple(dict.fromkeys(findings)), held, contents.records, contents.big)


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


def _unread(leaf: Leaf, file: str) -> TensorSpec:
    """A row for a tensor whose elements are no storage dtype; its dtype says bytes."""
    shape = tuple(leaf.value.shape)
    return TensorSpec(leaf.name, "U8", shape, file, layout="pt", encoding="unsupported", reason="unsupported_dtype")


def _spec(leaf: Leaf, contents: Contents, path: str, file: str) -> TensorSpec:
    value, element = leaf.value, leaf.value.element
    assert element is not None  # the caller has checked
    shape = tuple(value.shape)
    layout = None if isinstance(value, Array) else "pt"
    spec = TensorSpec(
        leaf.name, element.dtype or "U8", shape, file, layout=layout, encoding=value.encoding, role=leaf.role or contents.roles.get(leaf.name),
        reason=leaf.reason,
    )  # fmt: skip
    if isinstance(value, Array) or value.encoding != "raw" or value.storage is None:
        return spec
    record = contents.records[value.storage.key]
    if record.member is not None:
        return replace(spec, encoding="compressed")
    flat = all(
        stride == dense or count <= 1
        for count, stride, dense in zip(shape, value.strides, storage.row_major(shape), strict=True)
    )
    if not (flat or 0 in shape) or (contents.big and element.size > 1):
        return spec
    nbytes = math.prod(shape) * element.size
    begin = min(value.storage.begin + value.offset * element.size, record.nbytes - nbytes)
    return replace(spec, extent=Extent(path, record.offset + begin, nbytes))
