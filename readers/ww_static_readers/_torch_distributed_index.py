"""The index of a distributed checkpoint: from the object that its pickle describes to tensors, their chunks, and places in files.

`Metadata.state_dict_metadata` maps names to `TensorStorageMetadata` (properties, size, chunks with offsets and sizes) or
`BytesStorageMetadata`; `Metadata.storage_data` maps `MetadataIndex` (name, offset) to `_StorageInfo` (file, offset, length).
Source: torch/distributed/checkpoint/{metadata,filesystem}.py of torch 2.13.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ww_static.errors import FormatError, LimitError
from ww_static.protocol import Limits
from ww_static_readers._pickle_nodes import Global, Opaque
from ww_static_readers._tiling import cover_once
from ww_static_readers._torch_values import DTYPES, Element, is_count

_MOST_SIZE = 2**63


@dataclass(frozen=True, slots=True)
class Place:
    """Where an archive lies: `length` bytes at `offset` of a file; transformed when it is no archive as it stands there."""

    file: str
    offset: int
    length: int
    transformed: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk of a tensor: where it begins in the whole, its shape, its place."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of the checkpoint.

    Attributes:
        name: of the tensor or object.
        element: what the tensor is made of; None when the index does not say.
        shape: of the tensor; None for an object that is no tensor.
        pieces: that make it up; one for an object.
    """

    name: str
    element: Element | None
    shape: tuple[int, ...] | None
    pieces: tuple[Piece, ...]


def entries(root: Any, limits: Limits) -> Iterator[Entry]:
    """The names of a checkpoint, in the order of its index.

    Raises:
        FormatError: ``bad_header`` (the object is no index), ``index_mismatch`` (chunks leave gaps, overlap, reach out, or have
            no place), ``duplicate_name``, ``unknown_dtype``, ``overflow``.
        LimitError: ``limit``.
    """
    fields = _fields(root, "Metadata", "index")
    described, stored = fields.get("state_dict_metadata"), fields.get("storage_data")
    if not isinstance(described, dict) or not isinstance(stored, dict):
        raise FormatError("bad_header", "index", "has no state_dict_metadata or storage_data")
    if len(described) > limits.tensors:
        raise LimitError("limit", "index", f"{len(described)} tensors, limit {limits.tensors}")
    places = _places(stored)
    for name, value in described.items():
        if not isinstance(name, str):
            raise FormatError("bad_header", "index", "a name is no text")
        name = name.encode("utf-8", "backslashreplace").decode("utf-8")
        if isinstance(value, Opaque) and value.kind is not None and value.kind.name == "BytesStorageMetadata":
            place = next(iter(places.get(name, {}).values()), None)
            if place is None:
                raise FormatError("index_mismatch", f"entry '{name:.200}'", "has no place in storage_data")
            yield Entry(name, None, None, (Piece((), (), place),))
        else:
            yield _tensor(name, value, places.get(name, {}), limits)


def _tensor(name: str, value: Any, places: Mapping[tuple[int, ...] | None, Place], limits: Limits) -> Entry:
    where = f"tensor '{name}'"
    fields = _fields(value, "TensorStorageMetadata", where)
    shape = _counts(fields.get("size"), "size", where)
    if len(shape) > limits.rank:
        raise LimitError("limit", where, f"{len(shape)} dimensions, limit {limits.rank}")
    element = _element(fields["properties"], where) if "properties" in fields else None
    bound = element.size if element is not None else 1
    for size in shape:
        bound *= max(size, 1)  # a zero axis must not hide a huge one
        if bound >= _MOST_SIZE:
            raise FormatError("overflow", where, "its shape exceeds 2^63 bytes")
    chunks = fields.get("chunks")
    if not isinstance(chunks, list):
        raise FormatError("bad_header", where, "has no chunks")
    pieces = []
    for chunk in chunks:
        parts = _fields(chunk, "ChunkStorageMetadata", where)
        offsets, sizes = _counts(parts.get("offsets"), "offsets", where), _counts(parts.get("sizes"), "sizes", where)
        if len(offsets) != len(shape) or len(sizes) != len(shape):
            raise FormatError("index_mismatch", where, f"a chunk has {len(offsets)} offsets and {len(sizes)} sizes")
        place = places.get(offsets) or (places.get(None) if len(chunks) == 1 else None)
        if place is None:
            raise FormatError("index_mismatch", where, f"its chunk at {list(offsets)} has no place in storage_data")
        pieces.append(Piece(offsets, sizes, place))
    problem = cover_once(shape, [(piece.offsets, piece.sizes) for piece in pieces])
    if problem is not None:
        raise FormatError("index_mismatch", where, problem)
    begun = {piece.offsets for piece in pieces if 0 not in piece.sizes}
    kept = [piece for piece in pieces if 0 not in piece.sizes or piece.offsets not in begun]  # one place for both
    return Entry(name, element, shape, tuple(kept))


def _places(stored: Mapping[Any, Any]) -> dict[str, dict[tuple[int, ...] | None, Place]]:
    """Places by name, then by where the chunk begins."""
    found: dict[str, dict[tuple[int, ...] | None, Place]] = {}
    for key, value in stored.items():
        index, info = _fields(key, "MetadataIndex", "index"), _fields(value, "_StorageInfo", "index")
        name, offset = index.get("fqn"), index.get("offset")
        file, begin, length = info.get("relative_path"), info.get("offset"), info.get("length")
        if not isinstance(name, str) or not isinstance(file, str) or not is_count(begin) or not is_count(length):
            raise FormatError("bad_header", "index", "an entry of storage_data has no name, file, offset or length")
        name = name.encode("utf-8", "backslashreplace").decode("utf-8")
        begins = None if offset is None else _counts(offset, "offset", f"tensor '{name}'")
        held = found.setdefault(name, {})
        if begins in held:
            raise FormatError("duplicate_name", f"tensor '{name}'", "two chunks begin at the same place")
        held[begins] = Place(file, begin, length, bool(info.get("transform_descriptors")))
    return found


def _fields(value: Any, kind: str, where: str) -> dict[str, Any]:
    """Attributes of an object that was not made."""
    if not isinstance(value, Opaque) or value.kind is None or value.kind.name != kind:
        raise FormatError("bad_header", where, f"holds something else than a {kind}")
    found: dict[str, Any] = {}
    for state in value.states:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                found |= {key: one for key, one in part.items() if isinstance(key, str)}
    return found


def _counts(values: Any, field: str, where: str) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or not all(is_count(value) for value in values):
        raise FormatError("bad_header", where, f"{field} is not a list of counts")
    return tuple(values)


def _element(properties: Any, where: str) -> Element:
    """The dtype: first of the five values that are the state of `TensorProperties`, or one of its attributes."""
    state = properties.states[-1] if isinstance(properties, Opaque) and properties.states else None
    dtype = state[0] if isinstance(state, tuple) and state else state.get("dtype") if isinstance(state, dict) else None
    if not isinstance(dtype, Global) or dtype.module != "torch":
        raise FormatError("bad_header", where, "its properties have no dtype")
    if dtype.name not in DTYPES:
        raise FormatError("unknown_dtype", where, f"dtype '{dtype.name:.80}' is not known")
    return DTYPES[dtype.name]
