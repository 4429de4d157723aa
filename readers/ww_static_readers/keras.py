"""Keras and other HDF5: legacy models and weights (`.h5`), weights of Keras 3 (`.weights.h5`), archives (`.keras`), shards.

Legacy: `/model_weights/LAYER/.../kernel:0` with attributes that name layers, weights and classes. Keras 3:
`/layers/CLASS_N/vars/0`. Archive: a zip of `metadata.json`, `config.json` and `model.weights.h5`. Shards: `x.weights.json`
with a map from groups to `x_00000.weights.h5` and so on. Source: keras/src/saving of Keras 2.0 to 3.15.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ww_static import storage
from ww_static.errors import FormatError, LimitError
from ww_static.protocol import Finding, Limits, ModelFile, TensorSpec, Window
from ww_static_readers import _shards, _zip
from ww_static_readers._hdf5_file import SIGNATURE, Stretch
from ww_static_readers._hdf5_values import Values
from ww_static_readers._keras_file import Contents, read_file
from ww_static_readers._keras_index import checked_index, parse_index
from ww_static_readers._zip import Member

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WEIGHTS, _CONFIG = "model.weights.h5", "config.json"
_MEMBERS = (b"metadata.json", b"model.weights.h5")  # what comes first; a zip of other programs may begin with `config.json`
_INDEX_SUFFIX = ".weights.json"
_SHARD = re.compile(r"(.+)_[0-9]{5}\.weights\.h5")
_HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")
_MODEL_SUFFIXES = (".weights.h5", ".h5", ".hdf5", ".keras")
_FOREIGN = (
    b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"GGUF", b"\x93NUMPY", b"\x04\x22\x4d\x18", b"\x1f\x8b\x08",
)  # fmt: skip


def sniff(path: Path, head: bytes) -> bool:
    """The signature, an archive that begins as Keras writes them, an index of shards; or a file that only its suffix calls HDF5.

    Behind a user block the signature is not in the head, so there the suffix decides whether to look.
    """
    name = path.name.lower()
    if head.startswith(SIGNATURE):
        return True
    if head.startswith(_zip.MAGIC):
        first = head[30 : 30 + int.from_bytes(head[26:28], "little")] if len(head) >= 30 else b""
        return first in _MEMBERS or name.endswith(".keras")
    if head.lstrip()[:1] == b"{":
        return b'"weight_map"' in head and (b'.weights.h5"' in head or name.endswith(_INDEX_SUFFIX))
    safetensors = head[8:].lstrip()[:1] == b"{"
    return name.endswith(_HDF5_SUFFIXES) and not safetensors and not head.startswith(_FOREIGN)


def models(names: Sequence[str]) -> list[ModelFile]:
    """Every archive, HDF5 file and index; the shards of an index belong to it, TensorFlow's copy of other weights is none."""
    shards = [(name, match[1] + _INDEX_SUFFIX) for name in names if (match := _SHARD.fullmatch(name)) is not None]
    present = set(names)
    indexed = {name for name, index in shards if index in present}
    copied = any(name.lower().endswith((".safetensors", ".safetensors.index.json")) for name in names)
    found = []
    for name in names:
        if name.lower().endswith(_INDEX_SUFFIX):
            parts = tuple(shard for shard, index in shards if index == name)
            found.append(ModelFile(name, name[: -len(_INDEX_SUFFIX)] or name, parts))
            continue
        suffix = next((one for one in _MODEL_SUFFIXES if name.lower().endswith(one)), None)
        if suffix is None or (copied and name.startswith("tf_model")):
            continue
        if name not in indexed:
            found.append(ModelFile(name, name[: -len(suffix)] or name))
    return found


def _is_shard(name: str, stem: str) -> bool:
    """Whether a file is called as a shard of `stem`."""
    match = _SHARD.fullmatch(name)
    return match is not None and match[1] == stem


def open(path: Path, limits: Limits) -> KerasCheckpoint:  # the reader contract names this function
    """Lists the datasets of a file, of the weights in an archive, or of every shard of an index or of the one beside a shard.

    Raises:
        FormatError: the file is malformed; see docs/formats.md for the categories.
    """
    descriptor = storage.open_file(path)
    alone: list[Finding] = []
    try:
        size = os.fstat(descriptor).st_size
        head = storage.read_at(descriptor, 0, min(size, 64), "")
        if head.lstrip()[:1] == b"{":
            return _open_index(path, descriptor, size, limits)
        if head.startswith(SIGNATURE) and (match := _SHARD.fullmatch(path.name)) is not None:
            whole = _open_beside(path, match[1] + _INDEX_SUFFIX, limits)
            if isinstance(whole, KerasCheckpoint):
                return whole
            alone.append(whole)
        if head.startswith(_zip.MAGIC):
            contents, stretch = _open_archive(path, descriptor, size, limits)
        else:
            stretch = Stretch(descriptor, 0, size)
            contents = read_file(stretch, os.fspath(path), path.name, limits, {})
    finally:
        os.close(descriptor)
    part = _Part(contents, None, stretch.begin, stretch.size, stretch.data)
    return KerasCheckpoint(path.parent, {path.name: part}, [*alone, *contents.findings], limits)


@dataclass(frozen=True, slots=True)
class _Part:
    """One file of a model.

    Attributes:
        contents: what it holds.
        reference: by what it was found; None for the file that the user named.
        begin, size: where the HDF5 file lies in it.
        data: the HDF5 file itself, when it was inflated.
    """

    contents: Contents
    reference: str | None
    begin: int
    size: int
    data: bytes | None = None


class KerasCheckpoint:
    """An open model; flat values come as windows of a memory map, others chunk by chunk."""

    def __init__(self, root: Path, parts: Mapping[str, _Part], findings: Sequence[Finding], limits: Limits) -> None:
        self.tensors: tuple[TensorSpec, ...] = tuple(spec for part in parts.values() for spec in part.contents.specs)
        self.findings = tuple(findings)
        self.files = tuple(os.fspath(root / file) for file in parts)
        self._root = root
        self._parts = parts
        self._limits = limits
        self._open: tuple[str, int, Values] | None = None

    def read(self, spec: TensorSpec, window: Window = ()) -> NDArray[Any]:
        """``whole[window]``, little-endian; flat ones as a read-only view of a memory map."""
        part = self._parts.get(spec.file)
        found = part.contents.datasets.get(spec.name) if part else None
        where = f"tensor '{spec.name:.200}'"
        if found is None:
            raise FormatError("bad_header", where, "is not a tensor of this file")
        if found.refusal is not None:
            raise FormatError(found.refusal.category, where, found.refusal.problem)
        if not found.stored:
            raise FormatError("no_data", where, "the file holds no values for it")
        return self._values(spec.file).read(found, window)

    def close(self) -> None:
        """Closes the descriptor; maps that are still in use stay."""
        if self._open is not None:
            _, descriptor, values = self._open
            self._open = None
            values.close()
            os.close(descriptor)

    def _values(self, file: str) -> Values:
        if self._open is None or self._open[0] != file:
            self.close()  # one file at a time, however many shards there are
            part, path = self._parts[file], self._root / file
            own = part.reference is None
            descriptor = storage.open_file(path) if own else storage.open_inside(self._root, part.reference or "", "index")
            stretch = Stretch(descriptor, part.begin, part.size, part.data)
            self._open = (file, descriptor, Values(stretch, self._limits))
        return self._open[2]


def _open_archive(path: Path, descriptor: int, size: int, limits: Limits) -> tuple[Contents, Stretch]:
    """The weights in an archive: where they are stored, or inflated."""
    members = {member.name: member for member in _zip.members(descriptor, size, limits)}
    findings = [
        Finding("path_escape", f"member '{name:.200}'", "its name leads out of the folder that it is extracted into")
        for name in members
        if _zip.leads_out(name)
    ]
    weights, config = members.get(_WEIGHTS), members.get(_CONFIG)
    if weights is None:
        raise FormatError("missing_part", "zip", f"has no member '{_WEIGHTS}'")
    raw = None
    if config is not None and config.size > limits.attribute_bytes:
        words = f"{config.size} bytes, limit {limits.attribute_bytes}"
        findings.append(Finding("bad_config", _CONFIG, words))
    elif config is not None:
        raw = b"".join(_zip.inflate(descriptor, config, limits))
    stretch = Stretch(descriptor, weights.offset, weights.size)
    if weights.method != _zip.STORED:
        stretch = Stretch(descriptor, 0, weights.size, _inflated(descriptor, weights, limits))
    contents = read_file(stretch, os.fspath(path), path.name, limits, {}, raw)
    return Contents(contents.specs, contents.datasets, contents.groups, (*findings, *contents.findings)), stretch


def _inflated(descriptor: int, member: Member, limits: Limits) -> bytes:
    """A deflated file: libhdf5 wants it from any side, so it is held in private memory."""
    if member.size > limits.inflated_bytes:
        problem = f"inflates to {member.size} bytes, limit {limits.inflated_bytes}"
        raise LimitError("limit", f"member '{member.name:.200}'", problem)
    return b"".join(_zip.inflate(descriptor, member, limits))


def _open_beside(path: Path, index: str, limits: Limits) -> KerasCheckpoint | Finding:
    """The model that the file at `path` is a shard of, by the index beside it; or what is missing to say so."""
    try:
        descriptor = storage.open_inside(path.parent, index, "shard")
    except FormatError as error:
        if error.category != "missing_part":
            raise
        return Finding("missing_part", "shard", f"is called as one of several files, and '{index:.200}' is not beside it")
    try:
        whole = _open_index(path.parent / index, descriptor, os.fstat(descriptor).st_size, limits)
    finally:
        os.close(descriptor)
    if os.fspath(path) not in whole.files:
        return Finding("missing_part", "shard", f"is called as one of several files, and '{index:.200}' does not name it")
    whole.files = (os.fspath(path.parent / index), *whole.files)
    return whole


def _open_index(path: Path, descriptor: int, size: int, limits: Limits) -> KerasCheckpoint:
    """The model that `{"metadata": {...}, "weight_map": {group: file or files}}` describes."""
    if size > limits.header_bytes:
        raise LimitError("limit", "index", f"{size} bytes, limit {limits.header_bytes}")
    index = parse_index(storage.read_at(descriptor, 0, size, "index"), path.name, limits)
    parts: dict[str, _Part] = {}
    files: dict[tuple[int, int], str] = {}
    linked: list[Finding] = []
    called: dict[str, str] = {}
    for name in index.files:
        try:
            inner = storage.open_inside(path.parent, name, "index")
        except FormatError as error:
            if error.category == "missing_part":
                raise FormatError("missing_part", "index", f"shard '{name:.200}' is missing") from error
            raise
        try:
            status = os.fstat(inner)
            twin = files.setdefault((status.st_dev, status.st_ino), name)
            if twin != name:
                raise FormatError("duplicate_name", "index", f"'{name:.200}' is the same file as '{twin:.200}'")
            file = os.path.normpath(name)
            stretch = Stretch(inner, 0, status.st_size)
            contents = _shard(stretch, os.fspath(path.parent / file), file, limits, called)
            parts[file] = _Part(contents, name, 0, status.st_size)
        finally:
            os.close(inner)
        if status.st_nlink > 1:
            linked.append(Finding("hard_link", name, f"the file has {status.st_nlink} hard links"))
    findings = checked_index(index, {part.reference or "": part.contents for part in parts.values()}, limits)
    if path.name.lower().endswith(_INDEX_SUFFIX):
        own, named = path.name[: -len(_INDEX_SUFFIX)], {os.path.normpath(name) for name in index.files}
        findings += _shards.unread(path.parent, named, lambda name: _is_shard(name, own))
    inner_findings = [finding for part in parts.values() for finding in part.contents.findings]
    return KerasCheckpoint(path.parent, parts, [*findings, *linked, *inner_findings], limits)


def _shard(stretch: Stretch, path: str, file: str, limits: Limits, called: dict[str, str]) -> Contents:
    try:
        storage.refuse_stand_in(stretch.read(0, min(stretch.size, 512), ""))
        return read_file(stretch, path, file, limits, called)
    except FormatError as error:
        where = f"{file:.200}: {error.where}" if error.where else f"{file:.200}"
        raise type(error)(error.category, where, error.problem) from error
