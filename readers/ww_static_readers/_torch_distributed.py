"""Distributed checkpoints: a folder with `.metadata`, an index, and files in which the chunks of each tensor lie.

Each chunk is a small zip archive of torch at a byte range of a `__R_I.distcp` file, and holds one tensor: the part of the whole
at some offsets. Objects that are no tensors are such archives, too. A window is put together from the chunks that it
touches. Source: torch/distributed/checkpoint/filesystem.py of torch 2.13.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ww_static import dtypes
from ww_static.errors import FormatError, LimitError
from ww_static.protocol import Finding, Limits, ModelFile, TensorSpec, Window
from ww_static_readers import _shards
from ww_static_readers._checkpoint import Values
from ww_static_readers._shards import Descriptors
from ww_static_readers._torch_archive import read_archive
from ww_static_readers._torch_distributed_index import Entry, Place, entries
from ww_static_readers._torch_records import TorchPart, checked
from ww_static_readers._torch_stream import read_pickle

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIX = ".distcp"
_INDEX = ".metadata"
_MODULE = b"torch.distributed.checkpoint.metadata"
_FIRST_BYTES = 128  # of the pickle, in which the class of the index is named
_MOST_FINDINGS = 100
_UNREAD = ("unsupported", "absent")


def is_index(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a distributed checkpoint's index."""
    return head[:1] == b"\x80" and _MODULE in head[:_FIRST_BYTES]


def models(names: Sequence[str]) -> list[ModelFile]:
    """The folder is one model when it holds `.metadata`, alone or beside parts."""
    parts = tuple(name for name in names if name.endswith(SUFFIX))
    return [ModelFile(_INDEX, "", parts)] if _INDEX in names and (parts or len(names) == 1) else []


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A part of a tensor, and the archive that holds it under a name of its own."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    file: str
    part: TorchPart
    name: str


class DistributedCheckpoint:
    """An open distributed checkpoint. A window inside one chunk is a view of its file, any other one a copy."""

    def __init__(self, folder: _Folder, findings: Sequence[Finding]) -> None:
        self.tensors: Sequence[TensorSpec] = tuple(folder.tensors)
        self.findings = findings
        self.files = [os.fspath(folder.root / file) for file in folder.references]
        self._chunks = folder.chunks
        self._limits = folder.limits
        self._descriptors: Descriptors | None = Descriptors(folder.root, folder.references)
        self._begun: tuple[str, dict[int, Values]] = ("", {})  # of the tensor that was read last, by number of the chunk

    def read(self, spec: TensorSpec, window: Window = ()) -> NDArray[Any]:
        """``whole[window]``, put together from chunks.

        Raises:
            FormatError: ``unsupported_layout``, ``no_data``, ``crc_mismatch``, ``truncated``, ``missing_part``, ``io_error``.
        """
        import numpy as np

        chunks = self._chunks.get(spec.name)
        if chunks is None or self._descriptors is None:
            raise FormatError("io_error", "", "is not a tensor of an open file")
        if spec.encoding == "unsupported":
            raise FormatError("unsupported_layout", "", "its layout, such as sparse, packed or transformed, is not read")
        if spec.encoding == "absent":
            raise FormatError("no_data", "", "the file holds its shape and no values")
        ranges = [range(*cut.indices(size)) for cut, size in zip(window, spec.shape, strict=False)]
        ranges += [range(size) for size in spec.shape[len(ranges) :]]
        shape = tuple(len(steps) for steps in ranges)
        result: NDArray[Any] | None = None
        for number, chunk in enumerate(chunks if 0 not in shape else ()):
            within = [_within(*one) for one in zip(ranges, chunk.offsets, chunk.sizes, strict=True)]
            target = tuple(place for place, _ in within)
            if any(place.start >= place.stop for place in target):
                continue
            values = self._values(spec.name, number, chunk, tuple(cut for _, cut in within))
            if values.shape == shape:
                return values
            result = np.empty(shape, values.dtype) if result is None else result
            result[target] = values
        stored = np.dtype(np.float32) if spec.encoding == "quantized" else dtypes.numpy_dtype(spec.dtype)
        return np.empty(shape, stored) if result is None else result

    def close(self) -> None:
        """Closes the descriptor; maps that are still in use stay."""
        self._begun = ("", {})
        if self._descriptors is not None:
            self._descriptors.close()
            self._descriptors = None

    def _values(self, tensor: str, number: int, chunk: _Chunk, window: Window) -> NDArray[Any]:
        assert self._descriptors is not None  # checked when the call came in
        if self._begun[0] != tensor:
            self._begun = (tensor, {})
        values = self._begun[1].setdefault(number, Values(chunk.part, self._limits))
        return values.read(self._descriptors.of(chunk.file), chunk.part.held[chunk.name], window)


def _within(steps: range, offset: int, size: int) -> tuple[slice, slice]:
    """The part of `steps` that falls into [offset, offset + size): where it stands in the result, and in the chunk."""
    near, far = (offset, offset + size - 1) if steps.step > 0 else (offset + size - 1, offset)
    first = max(0, -((steps.start - near) // steps.step))
    last = min(len(steps) - 1, (far - steps.start) // steps.step)
    if first > last:
        return slice(0, 0), slice(0, 0)
    end = steps[last] - offset + (1 if steps.step > 0 else -1)
    return slice(first, last + 1), slice(steps[first] - offset, None if end < 0 else end, steps.step)


def open_folder(path: Path, descriptor: int, limits: Limits) -> DistributedCheckpoint:
    """Reads the index, and directory and pickle of every archive; no payload.

    Args:
        path: of the index.
        descriptor: of the index.
        limits: bound the index, the files and the archives.

    Raises:
        FormatError: ``bad_header``, ``index_mismatch``, ``missing_part``, ``truncated``, ``path_escape``, ``unsafe_pickle``, or what
            is wrong with an archive.
    """
    value, machine, after = read_pickle(descriptor, limits, "distributed")
    folder = _Folder(path, limits)
    try:
        for entry in entries(value, limits):
            if entry.shape is None:
                folder.add_object(entry.name, entry.pieces[0].place)
            else:
                folder.add(entry, entry.shape)
    except FormatError as error:
        raise machine.blamed(error) from error
    finally:
        folder.descriptors.close()
    unnamed = _shards.unread(folder.root, folder.named, lambda name: _is_part(folder.root / name))
    return DistributedCheckpoint(folder, tuple(dict.fromkeys([*machine.findings, *after, *folder.findings, *unnamed])))


def _is_part(path: Path) -> bool:
    """Whether a file could hold chunks: writers leave empty ones where a process had none."""
    try:
        return path.name.endswith(SUFFIX) and os.lstat(path).st_size > 0
    except OSError:
        return True


class _Folder:
    """The tensors of a checkpoint, added one by one, their archives read."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.root = path.parent
        self.limits = limits
        self.tensors: list[TensorSpec] = []
        self.findings: list[Finding] = []
        self.chunks: dict[str, tuple[_Chunk, ...]] = {}
        self.references: dict[str, str | None] = {}
        self.named: set[str] = set()  # files that chunks lie in, whether they are read or not
        self.descriptors = Descriptors(self.root, self.references)
        self._index = path.name

    def add(self, entry: Entry, shape: tuple[int, ...]) -> None:
        """Reads the archives of one more tensor."""
        where = f"tensor '{entry.name}'"
        self.named.update(os.path.normpath(piece.place.file) for piece in entry.pieces)
        promised = entry.element.dtype if entry.element is not None else None
        if entry.element is not None and promised is None:
            words = "its elements have no dtype that is read here"
            self.findings.append(Finding("unsupported_dtype", where, words, entry.name))
            return
        files = {os.path.normpath(piece.place.file) for piece in entry.pieces}
        whole = TensorSpec(entry.name, promised or "U8", shape, files.pop() if len(files) == 1 else self._index, layout="pt")
        if any(piece.place.transformed for piece in entry.pieces):
            self._list(replace(whole, encoding="unsupported"), ())
            return
        chunks: list[_Chunk] = []
        specs: list[TensorSpec] = []
        for piece in entry.pieces:
            part = self._archive(piece.place, where)
            if len(part.tensors) != 1:
                raise FormatError("index_mismatch", where, f"a chunk in '{piece.place.file}' holds {len(part.tensors)} tensors")
            (spec,) = part.tensors
            promised = promised or spec.dtype
            if (spec.dtype, spec.shape) != (promised, piece.sizes):
                held, wanted = f"{spec.dtype} {list(spec.shape)}", f"{promised} {list(piece.sizes)}"
                raise FormatError("index_mismatch", where, f"a chunk in '{piece.place.file}' holds {held}, not {wanted}")
            chunks.append(_Chunk(piece.offsets, piece.sizes, os.path.normpath(piece.place.file), part, spec.name))
            specs.append(spec)
        self._list(_whole(whole, specs), tuple(chunks))

    def add_object(self, name: str, place: Place) -> None:
        """An object that is no tensor: its pickle is looked at, and tensors in it are listed below its name."""
        self.named.add(os.path.normpath(place.file))
        if place.transformed:
            self.findings.append(Finding("unsupported", f"entry '{name:.200}'", "is transformed, and was not read"))
            return
        part = self._archive(place, f"entry '{name:.200}'")
        for spec in part.tensors:
            chunk = _Chunk((0,) * len(spec.shape), spec.shape, spec.file, part, spec.name)
            self._list(replace(spec, name=name if spec.name == "tensor" else f"{name}.{spec.name}"), (chunk,))

    def _list(self, spec: TensorSpec, chunks: tuple[_Chunk, ...]) -> None:
        if spec.name in self.chunks:
            raise FormatError("duplicate_name", f"tensor '{spec.name}'", "is in the checkpoint twice")
        if len(self.tensors) >= self.limits.tensors:
            raise LimitError("limit", "index", f"more than {self.limits.tensors} tensors")
        self.tensors.append(spec)
        self.chunks[spec.name] = chunks

    def _archive(self, place: Place, where: str) -> TorchPart:
        """The archive at a place, after the place has been compared with the size of the file."""
        file = os.path.normpath(place.file) if place.file else ""
        if file not in self.references:
            if len(self.references) >= self.limits.parts:
                raise LimitError("limit", "index", f"more than {self.limits.parts} files")
            self.references[file] = place.file
        descriptor = self.descriptors.of(file)
        size = os.fstat(descriptor).st_size
        if place.offset + place.length > size:
            end = place.offset + place.length
            raise FormatError("truncated", where, f"a chunk ends at byte {end} of '{place.file}', which has {size}")
        try:
            contents = read_archive(descriptor, place.length, self.limits, place.offset)
            part = checked(contents, os.fspath(self.root / file), file, self.limits)
        except FormatError as error:
            at = f"{where}: {file} at byte {place.offset}: {error.where}".rstrip(": ")
            raise type(error)(error.category, at, error.problem) from error
        for one in part.findings:
            if len(self.findings) < _MOST_FINDINGS or one.category not in {known.category for known in self.findings}:
                self.findings.append(Finding(one.category, f"{where}: {one.where}", one.problem, one.tensor))
        return part


def _whole(spec: TensorSpec, parts: Sequence[TensorSpec]) -> TensorSpec:
    """The tensor that chunks make up: it lies flat when it is one that does, and is read as they are."""
    if not parts:
        return spec
    kinds = {part.encoding for part in parts}
    encoding = next((one for one in (*_UNREAD, "quantized", "compressed") if one in kinds), "raw")
    if "quantized" in kinds and len(kinds) > 1:
        encoding = "unsupported"
    extent = parts[0].extent if len(parts) == 1 else None
    return replace(spec, dtype=parts[0].dtype, encoding=encoding, extent=extent)
