"""numpy arrays, bare (.npy) or in a zip (.npz): `147 "NUMPY" | u8 major | u8 minor | u16 or u32 length | literal | values`.

The literal is parsed, never evaluated; an object array is a pickle and stays one. A member of an archive is an array
when its content says so. Source: numpy.lib.format, versions 1.0, 2.0 and 3.0.
"""

from __future__ import annotations

import ast
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ww_static import dtypes, storage
from ww_static.errors import FormatError, LimitError, UnknownFormatError
from ww_static.protocol import Checkpoint, Extent, Finding, Limits, ModelFile, TensorSpec, Window
from ww_static_readers import _inflated, _sparse, _zip
from ww_static_readers._zip import Member

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC = b"\x93NUMPY"
_PREFIX = 12  # magic, version, and the longer of the two forms of the header length
_LENGTHS = {(1, 0): 2, (2, 0): 4, (3, 0): 4}  # version -> bytes of the header length
_KEYS = {"descr", "fortran_order", "shape"}
_NUMBERS = {
    "f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "u8": "U64", "i4": "I32", "u4": "U32", "i2": "I16", "u2": "U16", "i1": "I8",
    "u1": "U8", "b1": "BOOL", "c8": "C64",
}  # fmt: skip
_DESCR = re.compile(r"(?P<order>[<>|])(?P<kind>[a-zA-Z])(?P<size>\d{0,9})(?:\[\w+\])?")
_SUFFIXES = (".npy", ".npz")
_MOST_BYTES = 2**63 - 1
_RETURNS = 4  # of the stream, before a tensor is held: a few odd windows are not worth the memory


def sniff(path: Path, head: bytes) -> bool:
    """An array; or a zip whose first member is called .npy."""
    if head.startswith(_zip.MAGIC) and len(head) >= 30:
        length = int.from_bytes(head[26:28], "little")
        return len(head) >= 30 + length and head[30 : 30 + length].endswith(b".npy")
    return head.startswith(MAGIC)


def models(names: Sequence[str]) -> list[ModelFile]:
    """Every .npz and .npy file is a model of its own."""
    return [ModelFile(name, name[:-4] or name) for name in names if name.lower().endswith(_SUFFIXES)]


def open(path: Path, limits: Limits) -> Checkpoint:  # the reader contract names this function
    """Reads the header of an array, or the directory of an archive and the header of each of its arrays.

    Raises:
        FormatError: the file is malformed, or none of its arrays can be read; see docs/formats.md for the categories.
    """
    descriptor = storage.open_file(path)
    try:
        size = os.fstat(descriptor).st_size
        contents = _bare(path, size) if _begins(descriptor, 0, size) else _packed(descriptor, size, limits)
        if _sparse.is_sparse([content.name for content in contents[0]]):
            return _sparse_matrix(descriptor, path, contents, limits)
        return _listed(descriptor, path, contents, limits)
    except BaseException:
        os.close(descriptor)
        raise


@dataclass(frozen=True, slots=True)
class _Content:
    """What may be an array: the whole file, or a member of it.

    Attributes:
        name: of the array.
        offset: where the content begins in the file, when it lies flat.
        size: bytes of the content.
        member: what to inflate; None when the content lies flat.
        bare: whether it is the whole file.
    """

    name: str
    offset: int
    size: int
    member: Member | None = None
    bare: bool = False

    @property
    def where(self) -> str:
        return f"tensor '{self.name:.200}'"


@dataclass(frozen=True, slots=True)
class _Values:
    """How to read the values of one array: where they begin in its content, elements between neighbours, byte order."""

    content: _Content
    begin: int
    nbytes: int
    strides: tuple[int, ...]
    swapped: bool


class NpzCheckpoint:
    """An open array or archive. Flat values come as windows of a memory map, big-endian ones as a copy of the window.

    Deflated ones are inflated up to the window; one stream is kept, so that the next window goes on from there. A tensor
    that is read out of order is held in memory, inflated, until another one is read.
    """

    def __init__(
        self,
        descriptor: int,
        tensors: Sequence[TensorSpec],
        findings: Sequence[Finding],
        values: Mapping[str, _Values],
        limits: Limits,
    ) -> None:
        self.tensors = tensors
        self.findings = findings
        self._descriptor: int | None = descriptor
        self._values = values
        self._limits = limits
        self._stream: _inflated.Stream | None = None
        self._member: Member | None = None  # what was inflated last; stream, content and count are of it
        self._held: _inflated.Held | None = None
        self._returns = 0  # to a place inside the tensor that the stream had passed

    def read(self, spec: TensorSpec, window: Window = ()) -> NDArray[Any]:
        """``whole[window]``, little-endian."""
        values = self._values.get(spec.name)
        if values is None or self._descriptor is None:
            problem = "is not a tensor of this file" if values is None else "the file is closed"
            raise FormatError("bad_header", f"tensor '{spec.name:.200}'", problem)
        if values.content.member is None:
            offset = values.content.offset + values.begin
            array = storage.window_of(self._descriptor, offset, spec.dtype, spec.shape, window, values.strides)
            return array.byteswap() if values.swapped else array
        array = self._inflated(self._descriptor, values.content.member, values, spec, window)
        return array.byteswap(inplace=True) if values.swapped else array

    def close(self) -> None:
        """Closes the descriptor; maps that are still in use stay."""
        self._stream = self._held = None
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _inflated(self, descriptor: int, member: Member, values: _Values, spec: TensorSpec, window: Window) -> NDArray[Any]:
        first = _inflated.first_byte(values.begin, spec.dtype, spec.shape, window, values.strides)
        end = values.begin + values.nbytes
        stream, self._stream = self._stream, None  # after an error it is of no use
        if member is not self._member:
            self._member, self._held, self._returns = member, None, 0
            stream = None
        elif stream is not None and stream.start > first:
            stream = None
            self._returns += first > values.begin  # to its first value goes back who reads it in order another time
        if self._held is None and self._returns > _RETURNS and end <= self._limits.inflated_bytes:
            self._held = _inflated.Held(descriptor, member, self._limits, end)
        if self._held is not None:
            return self._held.window_of(values.begin, spec.dtype, spec.shape, window, values.strides)
        stream = stream or _inflated.Stream(descriptor, member, self._limits, end)
        array = _inflated.window_of(stream, values.begin, spec.dtype, spec.shape, window, values.strides)
        self._stream = stream
        return array


def _begins(descriptor: int, offset: int, size: int) -> bool:
    return storage.read_at(descriptor, offset, min(size, len(MAGIC)), "header") == MAGIC


def _stem(path: Path) -> str:
    """The name of a file without its suffix, as a tensor's name, which is text; a file's name need not be."""
    stem = path.name[:-4] if path.name.lower().endswith(".npy") else path.stem
    return os.fsencode(stem).decode("utf-8", "backslashreplace")


def _bare(path: Path, size: int) -> tuple[list[_Content], list[Finding]]:
    return [_Content(_stem(path), 0, size, bare=True)], []


def _sparse_matrix(
    descriptor: int, path: Path, found: tuple[list[_Content], list[Finding]], limits: Limits
) -> _sparse.SparseCheckpoint:
    """The sparse matrix that the arrays of an archive make; `format` is text, which is no tensor."""
    by_name = {content.name: content for content in found[0]}
    word = by_name["format"]
    header = _header(descriptor, word, limits)
    form = _first(descriptor, word, header.nbytes + 64, limits)[header.nbytes :]
    if header.shape != () or not isinstance(header.descr, str) or not re.fullmatch(r"[|<]S3", header.descr):
        raise FormatError("bad_header", "array 'format'", "is not one word of three letters")
    numeric = [content for name, content in by_name.items() if name not in ("format", "_is_array")]
    arrays = _listed(descriptor, path, (numeric, found[1]), limits)
    specs = {spec.name: spec for spec in arrays.tensors}
    if specs.keys() != {content.name for content in numeric}:
        raise FormatError("bad_header", "header", "an array of the sparse matrix holds no numbers")
    shape = specs["shape"]
    if shape.shape != (2,) or shape.dtype not in ("I32", "I64"):
        raise FormatError("bad_header", "array 'shape'", "is not two counts")
    known = _sparse.parts(form, [int(size) for size in arrays.read(shape)], specs, limits)
    return _sparse.SparseCheckpoint(arrays, known, _stem(path), path.name)


def _packed(descriptor: int, size: int, limits: Limits) -> tuple[list[_Content], list[Finding]]:
    """The arrays among the members of an archive, by content; and what else there is."""
    contents: list[_Content] = []
    findings: list[Finding] = []
    for member in _zip.members(descriptor, size, limits):
        where = f"member '{member.name:.200}'"
        if _zip.leads_out(member.name):
            findings.append(Finding("path_escape", where, "its name leads out of the folder that it is extracted into"))
        flat = member.method == _zip.STORED
        content = _Content(
            member.name.removesuffix(".npy"), member.offset if flat else 0, member.size, None if flat else member
        )  # fmt: skip
        if member.name.endswith(".npy") or _first(descriptor, content, len(MAGIC), limits) == MAGIC:
            contents.append(content)
        elif member.size or not member.name.endswith("/"):
            findings.append(Finding("unsupported", where, "is no numpy array, and was not read"))
    return contents, findings


def _listed(descriptor: int, path: Path, found: tuple[list[_Content], list[Finding]], limits: Limits) -> NpzCheckpoint:
    contents, findings = found
    if len(contents) > limits.tensors:
        raise LimitError("limit", "header", f"{len(contents)} tensors, limit {limits.tensors}")
    tensors: list[TensorSpec] = []
    values: dict[str, _Values] = {}
    unread: list[Finding] = []
    names: set[str] = set()
    for content in contents:
        if content.name in names:
            raise FormatError("duplicate_name", content.where, "is in the archive with and without its suffix")
        names.add(content.name)
        header = _header(descriptor, content, limits)
        problem = _unread(header.descr, content)
        if problem is not None:
            (findings if problem.category == "non_float" else unread).append(problem)
            continue
        spec, place = _array(content, header, path, limits)
        tensors.append(spec)
        values[content.name] = place
        if after := content.size - place.begin - place.nbytes:
            findings.append(Finding("trailing_data", content.where, f"{after} bytes follow its values", content.name))
    if unread and not tensors:
        first = min(unread, key=lambda one: one.category != "unsafe_pickle")
        raise FormatError(first.category, first.where, first.problem)
    return NpzCheckpoint(descriptor, tuple(tensors), (*findings, *unread), values, limits)


def _first(descriptor: int, content: _Content, length: int, limits: Limits) -> bytes:
    """The first `length` bytes of a content, or all that there are."""
    length = min(length, content.size)
    if content.member is None:
        return storage.read_at(descriptor, content.offset, length, content.where)
    found = b""
    for piece in _zip.inflate(descriptor, content.member, limits):
        found += piece
        if len(found) >= length:
            break
    return found[:length]


@dataclass(frozen=True, slots=True)
class _Header:
    descr: object
    fortran: bool
    shape: tuple[int, ...]
    nbytes: int  # of the header itself, with magic and length


def _header(descriptor: int, content: _Content, limits: Limits) -> _Header:
    where = content.where
    start = _first(descriptor, content, _PREFIX, limits)
    if not start.startswith(MAGIC):
        raise FormatError("bad_header", where, "does not begin with the mark of a numpy array")
    version = (start[6], start[7]) if len(start) >= 8 else None
    width = _LENGTHS.get(version) if version else None
    if version and width is None:
        raise UnknownFormatError("unsupported", where, f"a numpy array of version {version[0]}.{version[1]}")
    if width is None or len(start) < 8 + width:
        raise FormatError("truncated", where, f"its header ends at byte {len(start)}")
    length = int.from_bytes(start[8 : 8 + width], "little")
    if length > limits.npy_header_bytes:
        raise LimitError("limit", where, f"a header of {length} bytes, limit {limits.npy_header_bytes}")
    raw = _first(descriptor, content, 8 + width + length, limits)[8 + width :]
    if len(raw) < length:
        raise FormatError("truncated", where, f"a header of {length} bytes, {len(raw)} are left")
    try:
        text = raw.decode("utf-8" if version == (3, 0) else "latin-1")
    except UnicodeDecodeError as error:
        raise FormatError("bad_header", where, f"its header is not UTF-8 at byte {error.start}") from error
    fields = _literal(text, where)
    descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
    if type(fortran) is not bool:
        raise FormatError("bad_header", where, "fortran_order is neither True nor False")
    if type(shape) is not tuple or not all(type(size) is int and size >= 0 for size in shape):
        raise FormatError("bad_header", where, "shape is not a tuple of counts")
    if len(shape) > limits.rank:
        raise LimitError("limit", where, f"{len(shape)} dimensions, limit {limits.rank}")
    return _Header(descr, fortran, shape, 8 + width + length)


def _literal(text: str, where: str) -> dict[str, Any]:
    """The dictionary that a header spells, with exactly the keys that it must have, each once."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what the compiler has doubts about is no header
            tree = ast.parse(text, mode="eval")
        value = ast.literal_eval(tree)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError, Warning) as error:
        raise FormatError("bad_header", where, f"its header of {len(text)} characters is no Python literal") from error
    if type(value) is not dict or set(value) != _KEYS:
        raise FormatError("bad_header", where, f"its header is no dictionary of exactly {', '.join(sorted(_KEYS))}")
    if isinstance(tree.body, ast.Dict) and len(tree.body.keys) != len(value):
        raise FormatError("duplicate_name", where, "a key of its header appears twice")
    return value


def _unread(descr: object, content: _Content) -> Finding | None:
    """Why an array of this dtype is not a tensor here; None when it is one."""
    if _holds_objects(descr):
        problem = "is an array of Python objects, which is a pickle; it is never unpickled"
        return Finding("unsafe_pickle", content.where, problem, content.name)
    if not isinstance(descr, str):
        return Finding("unsupported_dtype", content.where, "is an array of records, not of numbers", content.name)
    match = _DESCR.fullmatch(descr)
    if match is None:
        raise FormatError("unknown_dtype", content.where, f"dtype {descr!r:.80} is not known")
    kind, size = match["kind"], match["size"]
    if kind in "USMm":
        return Finding("non_float", content.where, f"dtype {descr!r:.80} holds text or times, not weights", content.name)
    if kind == "V":
        hint = "; V2 is what numpy makes of bfloat16: save it as float32, or as safetensors" if size == "2" else ""
        return Finding(
            "unsupported_dtype", content.where, f"dtype {descr!r:.80} is bytes without a meaning{hint}", content.name
        )
    if kind + size in ("f16", "f12", "c16", "c24", "c32"):
        return Finding("unsupported_dtype", content.where, f"dtype {descr!r:.80} is not read", content.name)
    if kind + size not in _NUMBERS or (match["order"] == "|" and size != "1") or "[" in descr:
        raise FormatError("unknown_dtype", content.where, f"dtype {descr!r:.80} is not known")
    return None


def _holds_objects(descr: object) -> bool:
    """Whether an object dtype stands anywhere in a description: text, (base, shape), or a list of (name, description, ...)."""
    waiting = [descr]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str) and one.lstrip("<>=|")[:1] == "O":
            return True
        if isinstance(one, tuple):
            waiting.extend(one[:1])
        elif isinstance(one, list):
            waiting.extend(field[1] for field in one if isinstance(field, tuple) and len(field) > 1)
    return False


def _array(content: _Content, header: _Header, path: Path, limits: Limits) -> tuple[TensorSpec, _Values]:
    """The tensor of a header whose dtype is read, after its size has been compared with what there is."""
    descr = str(header.descr)
    dtype = _NUMBERS[descr[1:]]
    elements = bound = 1
    for size in header.shape:
        elements *= size
        bound *= max(size, 1)  # a zero axis must not hide a huge one
        if bound * dtypes.DTYPES[dtype].bits > 8 * _MOST_BYTES:
            raise FormatError("overflow", content.where, f"a shape of {len(header.shape)} axes exceeds 2^63 bytes")
    nbytes = elements * dtypes.DTYPES[dtype].bits // 8
    if header.nbytes + nbytes > content.size and content.bare:
        raise FormatError("truncated", content.where, f"ends at byte {header.nbytes + nbytes}, file has {content.size}")
    if header.nbytes + nbytes > content.size:
        left = content.size - header.nbytes
        raise FormatError("size_mismatch", content.where, f"{left} bytes for {nbytes} needed by its shape")
    plain = storage.row_major(header.shape)
    strides = storage.row_major(header.shape[::-1])[::-1] if header.fortran else plain
    swapped = descr[0] == ">" and dtypes.DTYPES[dtype].bits > 8
    # Along an axis of one element, and in an array of none, no step is ever taken.
    alike = all(a == b or size == 1 for a, b, size in zip(strides, plain, header.shape, strict=True)) or elements == 0
    flat = content.member is None and alike and not swapped
    extent = Extent(os.fspath(path), content.offset + header.nbytes, nbytes) if flat else None
    encoding = "raw" if content.member is None else "compressed"
    spec = TensorSpec(content.name, dtype, header.shape, file=path.name, extent=extent, encoding=encoding)
    return spec, _Values(content, header.nbytes, nbytes, strides, swapped)
