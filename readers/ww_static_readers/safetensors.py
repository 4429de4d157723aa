"""safetensors, single and sharded: `u64 little-endian header length | JSON header | payload`.

Stricter than the library where two readers could otherwise see two models: duplicate keys, a byte-order mark, other
encodings than UTF-8 and numbers that are not plain integers are refused. Source: the format's own description
(safetensors 0.4 and later), and the checks of its reference reader.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ww_static import dtypes, storage
from ww_static.errors import FormatError, LimitError
from ww_static.protocol import Extent, Finding, Limits, ModelFile, TensorSpec, Window
from ww_static_readers import _shards
from ww_static_readers._strict_json import parse_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PREFIX = 8
_PLAUSIBLE = 2**40
_LAYOUTS = ("pt", "tf", "flax", "mlx")
_SUFFIX = ".safetensors"
_INDEX_SUFFIX = _SUFFIX + _shards.INDEX
_OTHERS = (".bin", ".pt", ".pth", ".ckpt", ".h5")  # parts of other formats that have an index of the same shape
_FOREIGN = (
    b"PK\x03\x04",
    b"\x89HDF",
    b"\x80\x02",
    b"\x80\x03",
    b"\x80\x04",
    b"\x80\x05",
    b"GGUF",
    b"\x93NUMPY",
    b"\x04\x22\x4d\x18",
    b"\x1f\x8b\x08",
)
_DTYPES = frozenset(
    ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0", "F6_E2M3", "F6_E3M2", "F4",
     "I64", "U64", "I32", "U32", "I16", "U16", "I8", "U8", "BOOL", "C64")
)  # fmt: skip
_MOST_ELEMENTS = 2**63 - 1


def sniff(path: Path, head: bytes) -> bool:
    """A plausible header length before a ``{``; or a file that only its suffix calls safetensors, to say what is wrong."""
    if _is_text(head):
        part = _shards.part_suffix(head)
        return part not in _OTHERS and (_shards.is_index(head) or path.name.lower().endswith(_INDEX_SUFFIX))
    if len(head) > _PREFIX and head[_PREFIX:].lstrip()[:1] == b"{" and _length(head) < _PLAUSIBLE:
        return True
    return path.name.lower().endswith((".safetensors", _INDEX_SUFFIX)) and not head.startswith(_FOREIGN)


def models(names: Sequence[str]) -> list[ModelFile]:
    """One entry per index, per set of shards without an index, and per other ``.safetensors`` file."""
    return _shards.models(names, (_SUFFIX,), lambda stem: True)


def open(path: Path, limits: Limits) -> SafetensorsCheckpoint:  # the reader contract names this function
    """Reads the header of a file, or of every shard of the set that an index or a shard's name describes.

    Raises:
        FormatError: the file is malformed; see docs/formats.md for the categories.
    """
    descriptor = storage.open_file(path)
    try:
        if _is_text(storage.read_at(descriptor, 0, min(os.fstat(descriptor).st_size, 64), "")):
            model = _shards.read_index(path, descriptor, read_part, _total_sizes, limits)
        elif match := _shards.numbered(path.name, (_SUFFIX,)):
            model = _shards.read_set(path, match, read_part, limits)
        else:
            part = read_part(descriptor, os.fspath(path), path.name, limits)
            model = _shards.Model({path.name: part}, {path.name: None}, part.findings)
    finally:
        os.close(descriptor)
    return SafetensorsCheckpoint(path.parent, model)


def _total_sizes(tensors: Sequence[TensorSpec]) -> set[int]:
    return {sum(spec.extent.nbytes for spec in tensors if spec.extent)}


def _length(head: bytes) -> int:
    return int.from_bytes(head[:_PREFIX], "little")


def _is_text(head: bytes) -> bool:
    """JSON from the first byte: an index. A header length can begin with the same byte, but is never that large."""
    return head.lstrip()[:1] == b"{" and (len(head) < _PREFIX or _length(head) >= _PLAUSIBLE)


class SafetensorsCheckpoint:
    """An open model of one or more files; values come as windows of a memory map."""

    def __init__(self, root: Path, model: _shards.Model[Part]) -> None:
        self.tensors: Sequence[TensorSpec] = model.tensors
        self.findings: Sequence[Finding] = model.findings
        self.metadata = {key: text for part in reversed(list(model.parts.values())) for key, text in part.metadata.items()}
        self._descriptors = _shards.Descriptors(root, model.references)

    def read(self, spec: TensorSpec, window: Window = ()) -> NDArray[Any]:
        """``whole[window]`` as a read-only view of a memory map; packed types as one uint8 code per element."""
        if spec.extent is None:  # every tensor of this format lies flat
            raise FormatError("bad_header", f"tensor '{spec.name}'", "is not a tensor of this file")
        return storage.window_of(self._descriptors.of(spec.file), spec.extent.offset, spec.dtype, spec.shape, window)

    def close(self) -> None:
        """Closes the descriptor; maps that are still in use stay."""
        self._descriptors.close()


@dataclass(frozen=True, slots=True)
class Part:
    """The header of one file."""

    tensors: tuple[TensorSpec, ...]
    findings: tuple[Finding, ...]
    metadata: Mapping[str, str]


def read_part(descriptor: int, path: str, file: str, limits: Limits) -> Part:
    """Parses and checks the header of one file.

    Raises:
        FormatError: ``truncated``, ``limit``, ``bad_header``, ``duplicate_name``, ``unknown_dtype``, ``overflow``,
            ``size_mismatch``, ``bad_offsets``.
    """
    size = os.fstat(descriptor).st_size
    if size < _PREFIX:
        raise FormatError("truncated", "header", f"file has {size} bytes, a header length takes {_PREFIX}")
    length = _length(storage.read_at(descriptor, 0, _PREFIX, "header"))
    if length > limits.header_bytes:
        raise LimitError("limit", "header", f"{length} bytes, limit {limits.header_bytes}")
    if _PREFIX + length > size:
        raise FormatError("truncated", "header", f"ends at byte {_PREFIX + length}, file has {size}")
    raw = storage.read_at(descriptor, _PREFIX, length, "header")
    findings: list[Finding] = []
    if raw[:1] != b"{" and raw.lstrip()[:1] == b"{":
        findings.append(Finding("bad_header", "header", "white space before the opening brace"))
    _check_size(raw, limits)
    document = parse_json(raw, "header")
    if not isinstance(document, dict):
        raise FormatError("bad_header", "header", f"is a JSON {type(document).__name__}, not an object")
    metadata = document.pop("__metadata__", None)
    if metadata is not None and not _is_text_map(metadata):
        raise FormatError("bad_header", "__metadata__", "is not a map from text to text")
    if len(document) > limits.tensors:
        raise LimitError("limit", "header", f"{len(document)} tensors, limit {limits.tensors}")
    layout = metadata.get("format") if metadata and metadata.get("format") in _LAYOUTS else None
    begin = _PREFIX + length
    tensors = tuple(_tensor(name, entry, begin, path, file, layout, limits) for name, entry in document.items())
    _check_tiling(tensors, begin, size)
    return Part(tensors, tuple(findings), metadata or {})


def _check_size(raw: bytes, limits: Limits) -> None:
    """Refuses a header that would grow into far more objects than its tensors need, before it is parsed."""
    for mark, most in ((b"{", 2), (b"[", 2), (b",", 8)):  # per tensor: an entry, two lists, their numbers
        count, allowed = raw.count(mark), most * limits.tensors + 10_000
        if count > allowed:
            raise LimitError("limit", "header", f"{count} times '{mark.decode()}', limit {allowed}")


def _is_text_map(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _tensor(name: str, entry: Any, begin: int, path: str, file: str, layout: str | None, limits: Limits) -> TensorSpec:
    where = f"tensor '{name}'"
    if not isinstance(entry, dict):
        raise FormatError("bad_header", where, "its entry is not an object")
    for field in ("dtype", "shape", "data_offsets"):
        if field not in entry:
            raise FormatError("bad_header", where, f"has no {field}")
    shape, offsets = entry["shape"], entry["data_offsets"]
    _check_counts(shape, "shape", where)
    _check_counts(offsets, "data_offsets", where)
    if len(offsets) != 2:
        raise FormatError("bad_header", where, f"data_offsets has {len(offsets)} numbers, not 2")
    if len(shape) > limits.rank:
        raise LimitError("limit", where, f"{len(shape)} dimensions, limit {limits.rank}")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in _DTYPES:
        raise FormatError("unknown_dtype", where, f"dtype {entry['dtype']!r:.80} is not known")
    start, end = offsets
    if end < start:
        raise FormatError("bad_offsets", where, f"ends at {end} before it begins at {start}")
    needed = _needed_bytes(entry["dtype"], shape, where)
    if end - start != needed:
        raise FormatError("size_mismatch", where, f"{end - start} bytes for {needed} needed by its shape")
    extent = Extent(path, begin + start, end - start)
    return TensorSpec(name, entry["dtype"], tuple(shape), file, layout=layout, extent=extent)


def _check_counts(values: Any, field: str, where: str) -> None:
    if not isinstance(values, list) or not all(type(value) is int and 0 <= value < 2**64 for value in values):
        raise FormatError("bad_header", where, f"{field} is not a list of counts below 2^64")


def _needed_bytes(dtype: str, shape: Sequence[int], where: str) -> int:
    bound = elements = 1
    for size in shape:
        elements *= size
        bound *= max(size, 1)  # a zero axis must not hide a huge one
    if bound > _MOST_ELEMENTS or bound * dtypes.DTYPES[dtype].bits > 8 * _MOST_ELEMENTS:
        raise FormatError("overflow", where, f"shape {list(shape)} of {dtype} exceeds 2^63 bytes")
    needed = dtypes.nbytes(dtype, elements)
    if needed is None:
        raise FormatError("size_mismatch", where, f"{elements} elements of {dtype} do not fill whole bytes")
    return needed


def _check_tiling(tensors: Sequence[TensorSpec], begin: int, size: int) -> None:
    """Tensors fill the payload exactly: no hole, no overlap, no tail. Empty tensors tie, so sort by both ends."""
    placed = sorted((spec.extent.offset, spec.extent.offset + spec.extent.nbytes, spec.name) for spec in tensors if spec.extent)
    position, before = begin, "the header"
    for start, end, name in placed:
        where = f"tensor '{name}'"
        if start < position:
            raise FormatError("bad_offsets", where, f"overlaps {before} by {position - start} bytes")
        if start > position:
            raise FormatError("bad_offsets", where, f"leaves a hole of {start - position} bytes after {before}")
        if end > size:
            raise FormatError("truncated", where, f"ends at byte {end}, file has {size}")
        position, before = end, f"'{name}'"
    if position != size:
        raise FormatError("bad_offsets", "payload", f"{size - position} bytes follow the last tensor")
