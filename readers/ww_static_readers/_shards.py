"""One model in several files: an index `{"metadata": {...}, "weight_map": {tensor: file}}`, or a set of numbered shards.

What a part is made of is the business of the format; here are the names, the references, the order in which parts are read,
and what parts and index must agree on. Every reference goes through `storage.open_inside`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from ww_static import storage
from ww_static.errors import FormatError, LimitError
from ww_static.protocol import SNIFF_BYTES, Finding, Limits, ModelFile, TensorSpec
from ww_static_readers._strict_json import parse_json

_NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)")
_PART = re.compile(rb'"weight_map"\s*:\s*\{.*?:\s*"[^"]*\.(\w+)"', re.DOTALL)
INDEX = ".index.json"
_MOST_FINDINGS = 100


class Part(Protocol):
    """The header of one file."""

    @property
    def tensors(self) -> Sequence[TensorSpec]:
        """In file order."""
        ...

    @property
    def findings(self) -> Sequence[Finding]:
        """What the file gave away."""
        ...


P = TypeVar("P", bound=Part)


def is_index(head: bytes) -> bool:
    """Whether the first bytes of a file are those of an index."""
    return b'"weight_map"' in head


def part_suffix(head: bytes) -> str | None:
    """Suffix of the first part that an index names, in lower case; None when that lies beyond its first bytes."""
    match = _PART.search(head)
    return "." + match[1].decode("ascii", "replace").lower() if match else None


def numbered(name: str, suffixes: Sequence[str]) -> re.Match[str] | None:
    """``STEM-00001-of-00003.SUFFIX`` taken apart, when a file is called like that."""
    match = _NUMBERED.fullmatch(name)
    return match if match and match["suffix"].lower() in suffixes else None


def models(names: Sequence[str], suffixes: Sequence[str], stems: Callable[[str], bool]) -> list[ModelFile]:
    """One entry per index, per set of shards without an index, and per other file, among the names of one folder.

    Args:
        names: of the files.
        suffixes: of parts and single files, in lower case.
        stems: whether a single file without its suffix may be called so.
    """
    endings = tuple(suffix + INDEX for suffix in suffixes)
    indexed = {_set_of(name, endings) for name in names if name.lower().endswith(endings)}
    sets: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        shard = numbered(name, suffixes)
        if shard and (key := (shard["stem"], shard["suffix"].lower())) in indexed:
            sets.setdefault(key, []).append(name)
        elif shard and 1 <= int(shard["number"]) <= int(shard["count"]):
            sets.setdefault((shard["stem"], shard["suffix"], shard["count"]), []).append(name)
        elif shard:
            sets[(name,)] = [name]  # no number of its set: a model of its own, which will not open
    found = [ModelFile(one[0], _taken_apart(one[0])["stem"], tuple(one[1:])) for key, one in sets.items() if key not in indexed]
    for name in names:
        suffix = next((one for one in suffixes if name.lower().endswith(one)), None)
        if name.lower().endswith(endings):
            found.append(ModelFile(name, _stem(name, endings) or name, tuple(sets.get(_set_of(name, endings), ()))))
        elif suffix is not None and not numbered(name, suffixes) and stems(name[: -len(suffix)]):
            found.append(ModelFile(name, name[: -len(suffix)] or name))
    return found


def _taken_apart(name: str) -> re.Match[str]:
    match = _NUMBERED.fullmatch(name)
    assert match is not None
    return match


def _set_of(index: str, endings: Iterable[str]) -> tuple[str, ...]:
    """What the shards of an index are called before their numbers, and behind them."""
    stem = _stem(index, endings)
    return stem, index[len(stem) : -len(INDEX)].lower()


def _stem(name: str, endings: Iterable[str]) -> str:
    return next(name[: -len(ending)] for ending in endings if name.lower().endswith(ending))


class Descriptors:
    """Descriptors of the files of a model, one at a time, however many there are.

    Args:
        root: folder of the model.
        references: file, relative to the folder -> the reference it was found by; None for the file that the user named.
    """

    def __init__(self, root: Path, references: Mapping[str, str | None]) -> None:
        self.root = root
        self._references = references
        self._open: tuple[str, int] | None = None

    def of(self, file: str) -> int:
        """The descriptor of one of the files; that of another is closed.

        Raises:
            FormatError: what `storage.open_file` and `storage.open_inside` refuse.
        """
        if self._open is None or self._open[0] != file:
            self.close()
            reference = self._references[file]
            path = self.root / file
            self._open = (
                file,
                storage.open_file(path) if reference is None else storage.open_inside(self.root, reference, "index"),
            )
        return self._open[1]

    def close(self) -> None:
        """Closes what is open; maps that are still in use stay."""
        if self._open is not None:
            os.close(self._open[1])
            self._open = None


@dataclass(frozen=True, slots=True)
class Model(Generic[P]):
    """The parts of a model.

    Attributes:
        parts: by file, relative to the folder of the model.
        references: file -> the reference that names it.
        findings: about the whole, then those of the parts.
    """

    parts: Mapping[str, P]
    references: Mapping[str, str | None]
    findings: Sequence[Finding]

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """Of all parts, in their order."""
        return tuple(spec for part in self.parts.values() for spec in part.tensors)


Read = Callable[[int, str, str, Limits], P]  # descriptor, path, file, limits


def read_set(path: Path, match: re.Match[str], read: Read[P], limits: Limits) -> Model[P]:
    """All shards of the set that `path` is one of, by the ``-00001-of-0000N`` pattern.

    Raises:
        FormatError: ``missing_part``, ``index_mismatch``, ``duplicate_name``, or what is wrong with a shard.
    """
    count = int(match["count"])
    if count > limits.parts:
        raise LimitError("limit", "shards", f"{count} shards, limit {limits.parts}")
    if not 1 <= int(match["number"]) <= count:
        raise FormatError("index_mismatch", "shards", f"'{path.name}' is not one of {count}")
    shards = _Shards(path.parent, read, limits)
    for number in range(1, count + 1):
        shards.add(f"{match['stem']}-{number:05d}-of-{match['count']}{match['suffix']}", "shards")
    return shards.model([])


def read_index(
    path: Path, descriptor: int, read: Read[P], sizes: Callable[[Sequence[TensorSpec]], set[int]], limits: Limits
) -> Model[P]:
    """The model that an index describes.

    Args:
        path: of the index.
        descriptor: of the index.
        read: reads the header of one part.
        sizes: what ``total_size`` may be for these tensors; empty when it cannot be told.
        limits: `header_bytes`, `tensors` and `parts` bound the index.

    Raises:
        FormatError: ``bad_header``, ``index_mismatch``, ``missing_part``, ``duplicate_name``, or what is wrong with a part.
    """
    size = os.fstat(descriptor).st_size
    if size > limits.header_bytes:
        raise LimitError("limit", "index", f"{size} bytes, limit {limits.header_bytes}")
    document = parse_json(storage.read_at(descriptor, 0, size, "index"), "index")
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise FormatError("bad_header", "index", "weight_map is not a map from tensor names to file names")
    if len(weight_map) > limits.tensors:
        raise LimitError("limit", "index", f"{len(weight_map)} tensors, limit {limits.tensors}")
    files = sorted(set(weight_map.values()))
    if len(files) > limits.parts:
        raise LimitError("limit", "index", f"{len(files)} files, limit {limits.parts}")
    if path.name in files:
        raise FormatError("bad_header", "index", "names itself as a shard")
    shards = _Shards(path.parent, read, limits)
    for name in files:
        shards.add(name, "index")
    findings = _misplaced(weight_map, shards.parts)
    metadata = document.get("metadata")
    claimed = metadata.get("total_size") if isinstance(metadata, dict) else None
    possible = sizes([spec for part in shards.parts.values() for spec in part.tensors])
    if isinstance(claimed, int) and possible and claimed not in possible:
        problem = f"total_size is {claimed}, the tensors have {max(possible)} bytes"
        findings.append(Finding("index_mismatch", "index", problem))
    return shards.model([*findings, *_unnamed(path, files)])


def _misplaced(weight_map: Mapping[str, Any], parts: Mapping[str, Part]) -> list[Finding]:
    """Tensors that an index leaves out; one that it puts where it is not is refused."""
    held = {name: {spec.name for spec in part.tensors} for name, part in parts.items()}
    for tensor, file in weight_map.items():
        if tensor not in held[file]:
            raise FormatError("index_mismatch", "index", f"'{tensor}' is mapped to '{file}', which lacks it")
    return [
        Finding("index_mismatch", file, f"holds '{tensor}', which the index does not place there", tensor)
        for file, names in held.items()
        for tensor in sorted(names)
        if weight_map.get(tensor) != file
    ]


def _unnamed(path: Path, files: Sequence[str]) -> list[Finding]:
    """Shards that lie beside the index and that it does not name: of its own set, or of the sets of those that it names."""
    named = {os.path.normpath(name) for name in files}
    sets = {(match["stem"], match["suffix"].lower()) for name in named if (match := _NUMBERED.fullmatch(name))}
    own, dot, ending = path.name[: -len(INDEX)].rpartition(".")
    if path.name.lower().endswith(INDEX):
        sets.add((own, (dot + ending).lower()))
    return unread(path.parent, named, lambda name: _is_of(name, sets))


def _is_of(name: str, sets: set[tuple[str, str]]) -> bool:
    match = _NUMBERED.fullmatch(name)
    return match is not None and (match["stem"], match["suffix"].lower()) in sets


def unread(folder: Path, named: Collection[str], belongs: Callable[[str], bool]) -> list[Finding]:
    """Files of a folder that belong to a model by their names and that its index does not name.

    Args:
        folder: of the index.
        named: files that the index names, relative to the folder.
        belongs: whether a file of this name is one of the model's.

    Raises:
        FormatError: ``io_error``; the folder cannot be listed.
    """
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise storage.io_error(error) from error
    beside = sorted(name for name in names if belongs(name) and name not in named)
    words = "lies beside the index, which does not name it; it was not read"
    found = [Finding("unread_part", name, words) for name in beside[:_MOST_FINDINGS]]
    if len(beside) > _MOST_FINDINGS:
        found.append(Finding("unread_part", "", f"{len(beside) - _MOST_FINDINGS} more files beside the index were not read"))
    return found


class _Shards(Generic[P]):
    """The shards of a model, put together one by one, so that a set that cannot be one is refused at its first excess."""

    def __init__(self, root: Path, read: Read[P], limits: Limits) -> None:
        self.parts: dict[str, P] = {}  # by the reference that names the shard
        self._root = root
        self._read = read
        self._limits = limits
        self._links: list[Finding] = []
        self._owner: dict[str, str] = {}
        self._files: dict[tuple[int, int], str] = {}

    def add(self, name: str, where: str) -> None:
        """Reads the header of one more shard."""
        try:
            descriptor = storage.open_inside(self._root, name, where)
        except FormatError as error:
            if error.category == "missing_part":
                raise FormatError("missing_part", where, f"shard '{name}' is missing") from error
            raise
        try:
            status = os.fstat(descriptor)
            twin = self._files.setdefault((status.st_dev, status.st_ino), name)
            if twin != name:
                raise FormatError("duplicate_name", "", f"is the same file as '{twin}'")
            storage.refuse_stand_in(storage.read_at(descriptor, 0, min(status.st_size, SNIFF_BYTES), ""))
            file = os.path.normpath(name)
            part = self._read(descriptor, os.fspath(self._root / file), file, self._limits)
        except FormatError as error:
            raise type(error)(error.category, f"{name}: {error.where}" if error.where else name, error.problem) from error
        finally:
            os.close(descriptor)
        for spec in part.tensors:
            if self._owner.setdefault(spec.name, name) != name:
                place = f"tensor '{spec.name}'"
                raise FormatError("duplicate_name", place, f"is in '{self._owner[spec.name]}' and in '{name}'")
        if len(self._owner) > self._limits.tensors:
            raise LimitError("limit", "shards", f"more than {self._limits.tensors} tensors")
        if status.st_nlink > 1:
            self._links.append(Finding("hard_link", name, f"the file has {status.st_nlink} hard links"))
        self.parts[name] = part

    def model(self, findings: Sequence[Finding]) -> Model[P]:
        """The model that the shards make."""
        parts = {os.path.normpath(name): part for name, part in self.parts.items()}
        of_parts = (finding for part in parts.values() for finding in part.findings)
        return Model(parts, {os.path.normpath(name): name for name in self.parts}, (*findings, *of_parts, *self._links))
