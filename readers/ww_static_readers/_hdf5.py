"""The datasets of an HDF5 file: hard links only, each object once, what is not read told apart before it is opened.

A reduced surface of libhdf5: the links of groups, and of a dataset its layout, type, extent, filters and place. Never its
attributes, its values, or anything that leads to another file. Groups that are linked twice are listed under the first name; a
dataset under each of its names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from ww_static import dtypes
from ww_static.errors import FormatError, LimitError
from ww_static.protocol import Finding, Limits
from ww_static_readers._hdf5_file import Library, Stretch, Superblock, guarded
from ww_static_readers._unique import UniqueNames

_COMPACT, _CONTIGUOUS, _CHUNKED = 0, 1, 2
_HARD, _SOFT, _EXTERNAL = 0, 1, 64
_MOST_BYTES = 2**63 - 1
_MOST_NAMED = 100  # links that have a finding of their own
_MOST_DEPTH = 40  # of groups whose paths are kept; those of Keras are a dozen deep
DEFLATE, SHUFFLE, FLETCHER32, SZIP, NBIT, SCALEOFFSET, LZF = 1, 2, 3, 4, 5, 6, 32000
_FILTERS = (DEFLATE, SHUFFLE, FLETCHER32, SZIP, NBIT, SCALEOFFSET, LZF)
# (bytes, exponent at, exponent bits, mantissa bits, bias) of the floating types that are read
_FLOATS = {
    (8, 52, 11, 52, 1023): "F64", (4, 23, 8, 23, 127): "F32", (2, 10, 5, 10, 15): "F16", (2, 7, 8, 7, 127): "BF16",
}  # fmt: skip
_OTHERS = {
    2: "times", 3: "text", 4: "bits", 5: "bytes without a meaning", 6: "records", 7: "references", 8: "an enumeration",
    9: "sequences of any length", 10: "arrays", 11: "complex numbers",
}  # fmt: skip
# The names above a link, joined only when something has that name.
_Path: TypeAlias = "tuple[_Path, bytes] | None"


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset that can be listed.

    Attributes:
        name: its path from the root, without a leading slash; data.
        raw: the names of its path as they are stored.
        dtype: storage dtype.
        shape: of the values.
        swapped: whether they are big-endian.
        offset: byte of the stretch where they lie flat; None when they do not.
        chunk: shape of a chunk; empty when there are none.
        filters: code and parameters of each filter, in the order in which they were applied.
        stored: False when the file has no values for it.
        refusal: why its values are not read, as a finding; None when they are.
    """

    name: str
    raw: tuple[bytes, ...]
    dtype: str
    shape: tuple[int, ...]
    swapped: bool = False
    offset: int | None = None
    chunk: tuple[int, ...] = ()
    filters: tuple[tuple[int, tuple[int, ...]], ...] = ()
    stored: bool = True
    refusal: Finding | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that the shape needs."""
        return math.prod(self.shape) * dtypes.DTYPES[self.dtype].bits // 8


@dataclass(slots=True)
class Tree:
    """What a file holds.

    Attributes:
        datasets: in order of their paths, group by group.
        groups: path -> address of the header; without those that lie too deep to be Keras's.
        findings: links that are not followed, datasets that are no tensors.
    """

    datasets: list[Dataset] = field(default_factory=list)
    groups: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


@dataclass(slots=True)
class _Frame:
    """A group whose links are being followed."""

    group: Any
    path: _Path
    depth: int
    links: Iterator[tuple[bytes, int, int]]


def walk(library: Library, stretch: Stretch, block: Superblock, limits: Limits) -> Tree:
    """Follows every hard link of a file and describes its datasets.

    Raises:
        FormatError: ``corrupt``, ``truncated``, ``overflow``.
        LimitError: ``limit``, ``bomb``.
    """
    return _Walk(library, stretch, block, limits).run()


class _Walk:
    def __init__(self, library: Library, stretch: Stretch, block: Superblock, limits: Limits) -> None:
        self._library = library
        self._h5py = library.h5py
        self._stretch = stretch
        self._limits = limits
        self._tree = Tree(groups={"": block.root})
        self._groups = {block.root}
        self._known: dict[int, Dataset | Finding | None] = {}
        self._names = UniqueNames()
        self._links = self._letters = self._unfollowed = self._declared = 0

    def run(self) -> Tree:
        root = self._library.root()
        frames = [_Frame(root, None, 0, self._listed(root))]
        while frames:
            frame = frames[-1]
            link = next(frame.links, None)
            if link is None:
                frames.pop()
                continue
            name, kind, address = link
            path = (frame.path, name)
            if kind != _HARD or b"/" in name or name in (b"", b"."):
                self._not_followed(path, kind)
            elif address in self._known:
                self._again(path, address)
            elif address not in self._groups:
                inner = self._open(frame, path, address)
                if inner is not None:
                    frames.append(inner)
        if self._unfollowed > _MOST_NAMED:
            words = f"{self._unfollowed - _MOST_NAMED} more links are not followed"
            self._tree.findings.append(Finding("unsafe_link", "file", words))
        most = max(self._limits.declared_bytes, self._limits.declared_ratio * self._stretch.size)
        if self._declared > most:
            problem = f"its datasets declare {self._declared} bytes, {self._stretch.size} are stored"
            raise LimitError("bomb", "file", problem)
        return self._tree

    def _listed(self, group: Any) -> Iterator[tuple[bytes, int, int]]:
        links: list[tuple[bytes, int, int]] = []

        def note(name: bytes, info: Any) -> bool | None:
            links.append((name, info.type, info.u))
            return True if self._links + len(links) > self._limits.hdf5_links else None  # ends the iteration

        with guarded("file"):
            group.links.iterate(note, info=True)
        self._links += len(links)
        if self._links > self._limits.hdf5_links:
            raise LimitError("limit", "file", f"more than {self._limits.hdf5_links} links")
        return iter(links)

    def _name(self, path: _Path) -> tuple[str, tuple[bytes, ...]]:
        """The path as text that no other object has, and as it is stored."""
        raw = []
        while path is not None:
            path, part = path
            raw.append(part)
        raw.reverse()
        self._letters += sum(map(len, raw)) + len(raw)
        if self._letters > self._limits.header_bytes:
            raise LimitError("limit", "file", f"paths of more than {self._limits.header_bytes} characters together")
        return self._names.take(b"/".join(raw).decode("utf-8", "backslashreplace")), tuple(raw)

    def _not_followed(self, path: _Path, kind: int) -> None:
        self._unfollowed += 1
        if self._unfollowed > _MOST_NAMED:
            return
        name, _ = self._name(path)
        where = f"link '{name:.200}'"
        if kind == _EXTERNAL:
            finding = Finding("path_escape", where, "external link to another file, not followed", name)
        elif kind == _HARD:
            finding = Finding("corrupt", where, "is a link whose name cannot be one", name)
        else:
            words = "soft link" if kind == _SOFT else f"link of kind {kind}"
            finding = Finding("unsafe_link", where, f"{words}, not followed")
        self._tree.findings.append(finding)

    def _again(self, path: _Path, address: int) -> None:
        """Another name of a dataset."""
        known = self._known[address]
        if isinstance(known, Dataset):
            name, raw = self._name(path)
            self._add(replace(known, name=name, raw=raw))

    def _open(self, frame: _Frame, path: tuple[_Path, bytes], address: int) -> _Frame | None:
        where = f"'{path[1].decode('utf-8', 'backslashreplace'):.200}'"
        with guarded(where):
            one = self._h5py.h5o.open(frame.group, path[1])
        if isinstance(one, self._h5py.h5g.GroupID):
            self._groups.add(address)
            if frame.depth < _MOST_DEPTH:
                self._tree.groups[self._name(path)[0]] = address
            return _Frame(one, path, frame.depth + 1, self._listed(one))
        self._known[address] = None
        if isinstance(one, self._h5py.h5d.DatasetID):
            name, raw = self._name(path)
            with guarded(f"tensor '{name:.200}'"):
                self._known[address] = found = self._described(one, name, raw)
            if isinstance(found, Dataset):
                self._add(found)
            elif found is not None:
                self._tree.findings.append(found)
        return None

    def _add(self, found: Dataset) -> None:
        self._declared += found.nbytes
        if found.refusal is not None:
            self._tree.findings.append(replace(found.refusal, where=f"tensor '{found.name:.200}'", tensor=found.name))
        self._tree.datasets.append(found)
        if len(self._tree.datasets) > self._limits.tensors:
            raise LimitError("limit", "file", f"more than {self._limits.tensors} tensors")

    def _described(self, one: Any, name: str, raw: tuple[bytes, ...]) -> Dataset | Finding:
        """What a dataset is. Its layout comes first: the extent of a virtual one would be looked up in other files."""
        where = f"tensor '{name:.200}'"
        plan = one.get_create_plist()
        layout = plan.get_layout()
        if layout not in (_COMPACT, _CONTIGUOUS, _CHUNKED):
            problem = "virtual dataset, whose values lie in other datasets, not followed"
            return Finding("unsafe_link", where, problem, name)
        kind = _dtype(one.get_type(), self._h5py)
        if isinstance(kind, str):
            return Finding("non_float" if kind == "text" else "unsupported_dtype", where, f"holds {kind}, not weights", name)
        dtype, swapped = kind
        found = Dataset(name, raw, dtype, self._shape(one.get_space(), dtype, where), swapped)
        if plan.get_external_count():
            refusal = Finding("path_escape", where, "its values lie in another file, which is not opened", name)
            return replace(found, refusal=refusal)
        if layout == _CHUNKED:
            found = self._chunked(one, plan, found, where)
        elif layout == _CONTIGUOUS:
            found = replace(found, offset=one.get_offset())
            found = replace(found, stored=found.offset is not None or found.nbytes == 0)
        self._check_stored(one, found, where)
        return found

    def _shape(self, space: Any, dtype: str, where: str) -> tuple[int, ...]:
        if space.get_simple_extent_type() == self._h5py.h5s.NULL:
            return (0,)
        shape = tuple(int(size) for size in space.get_simple_extent_dims())
        if len(shape) > self._limits.rank:
            raise LimitError("limit", where, f"{len(shape)} dimensions, limit {self._limits.rank}")
        if math.prod(max(size, 1) for size in shape) * dtypes.DTYPES[dtype].bits > 8 * _MOST_BYTES:
            raise FormatError("overflow", where, f"shape {list(shape)} of {dtype} exceeds 2^63 bytes")
        return shape

    def _chunked(self, one: Any, plan: Any, found: Dataset, where: str) -> Dataset:
        chunk = tuple(int(size) for size in plan.get_chunk())
        nbytes = math.prod(chunk) * dtypes.DTYPES[found.dtype].bits // 8
        if len(chunk) != len(found.shape) or 0 in chunk:
            raise FormatError("corrupt", where, f"chunks of {list(chunk)} for a shape of {list(found.shape)}")
        if nbytes > self._limits.chunk_bytes:
            raise LimitError("limit", where, f"a chunk of {nbytes} bytes, limit {self._limits.chunk_bytes}")
        filters = tuple(plan.get_filter(number) for number in range(plan.get_nfilters()))
        kept = tuple((code, tuple(values)) for code, _, values, _ in filters)
        for code, values in kept:
            _check_parameters(code, values, math.prod(chunk), nbytes, where)
        unknown = [code for code, _ in kept if code not in _FILTERS]
        problem = f"is compressed by filter {unknown[0]}, which is not read" if unknown else ""
        refusal = Finding("unsupported", where, problem, found.name) if unknown else None
        return replace(found, chunk=chunk, filters=kept, refusal=refusal)

    def _check_stored(self, one: Any, found: Dataset, where: str) -> None:
        if found.offset is not None and found.offset + found.nbytes > self._stretch.size:
            end = found.offset + found.nbytes
            raise FormatError("truncated", where, f"ends at byte {end}, file has {self._stretch.size}")
        if found.nbytes <= self._limits.declared_bytes:
            return
        stored = found.nbytes if found.offset is not None else one.get_storage_size() if found.chunk else 0
        if found.nbytes > self._limits.declared_ratio * stored:
            problem = f"declares {found.nbytes} bytes and stores {stored}, beyond {self._limits.declared_ratio} times"
            raise LimitError("bomb", where, problem)


def _check_parameters(code: int, values: tuple[int, ...], elements: int, nbytes: int, where: str) -> None:
    """Refuses parameters from which a decoder of libhdf5 would take the size of a chunk, when they say another one."""
    if code in (SCALEOFFSET, NBIT):
        agrees = len(values) > 4 and values[2] == elements and values[4] * elements == nbytes
    else:
        agrees = code != LZF or len(values) < 3 or values[2] <= nbytes + 4  # a checksum may have come before
    if not agrees:
        raise FormatError("corrupt", where, f"filter {code} is made for other chunks than those of {nbytes} bytes")


def _dtype(kind: Any, h5py: Any) -> tuple[str, bool] | str:
    """Storage dtype and whether it is big-endian; or what else the dataset holds."""
    code, size = kind.get_class(), kind.get_size()
    if code == h5py.h5t.FLOAT:
        _, exponent, exponent_bits, mantissa, mantissa_bits = kind.get_fields()
        form = (size, exponent, exponent_bits, mantissa_bits, kind.get_ebias())
        plain = mantissa == 0 and kind.get_offset() == 0 and kind.get_precision() == 8 * size
        name = _FLOATS.get(form) if plain and kind.get_norm() == h5py.h5t.NORM_IMPLIED else None
    elif code == h5py.h5t.INTEGER:
        plain = kind.get_offset() == 0 and kind.get_precision() == 8 * size and size in (1, 2, 4, 8)
        name = f"{'I' if kind.get_sign() == h5py.h5t.SGN_2 else 'U'}{8 * size}" if plain else None
    elif code == h5py.h5t.ENUM and size == 1 and kind.get_nmembers() == 2:  # how h5py stores booleans
        members = {kind.get_member_name(number): kind.get_member_value(number) for number in (0, 1)}
        return ("BOOL", False) if members == {b"FALSE": 0, b"TRUE": 1} else _OTHERS[8]
    else:
        return _OTHERS.get(code, f"values of class {code}")
    if name is None or kind.get_order() not in (h5py.h5t.ORDER_LE, h5py.h5t.ORDER_BE):
        return f"numbers of {size} bytes in a form of their own"
    return name, size > 1 and kind.get_order() == h5py.h5t.ORDER_BE
