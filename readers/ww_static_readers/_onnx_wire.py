"""ONNX on the wire: `tag varint (field << 3 | wire type) | value`, walked without protobuf, payloads left in the file.

What is kept is the skeleton: names, shapes, operators, and where each tensor's values lie. The walk keeps its own
stack, so nesting costs no Python frames, and counts what it sees, so a small file cannot ask for much.
Source: the encoding page of protocol buffers, and onnx.proto (IR version 13).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ww_static import storage
from ww_static.errors import FormatError, LimitError
from ww_static.protocol import Limits

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WIDTHS = {FIXED64: 8, FIXED32: 4}
_FIRST_READ, _LONGEST_READ = 2**12, 2**16
_LONGEST_VARINT = 10
_PLAIN = 512  # bytes before the values of a tensor that is read in one step
_DIM, _DATA_TYPE, _NAME, _RAW, _FLOATS = 1 << 3, 2 << 3, 8 << 3 | BYTES, 9 << 3 | BYTES, 4 << 3 | BYTES  # tags of its fields


@dataclass(slots=True)
class Run:
    """Values of one repeated field: bytes [start, end) of the file; `tag` bytes stand before each one, 0 when packed."""

    start: int
    end: int
    tag: int = 0


@dataclass(slots=True)
class Entry:
    """StringStringEntryProto: one key and value of external data."""

    key: str = ""
    value: str = ""


@dataclass(slots=True)
class Tensor:
    """TensorProto, without its values."""

    dims: Sequence[int] = ()
    data_type: int = 0
    name: str = ""
    raw: Run | None = None
    location: int = 0
    external: Sequence[Entry] = ()
    floats: Sequence[Run] = ()
    doubles: Sequence[Run] = ()
    int32: Sequence[Run] = ()
    int64: Sequence[Run] = ()
    uint64: Sequence[Run] = ()


@dataclass(slots=True)
class Sparse:
    """SparseTensorProto: values and their places."""

    values: Tensor | None = None
    dims: Sequence[int] = ()


@dataclass(slots=True)
class Attribute:
    """AttributeProto."""

    name: str = ""
    number: int = 0
    single: Run | None = None
    tensor: Tensor | None = None
    graph: Graph | None = None
    sparse: Sparse | None = None
    floats: Sequence[Run] = ()
    numbers: Sequence[int] = ()
    tensors: Sequence[Tensor] = ()
    graphs: Sequence[Graph] = ()


@dataclass(slots=True)
class Node:
    """NodeProto."""

    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()
    name: str = ""
    operator: str = ""
    domain: str = ""
    attributes: Sequence[Attribute] = ()


@dataclass(slots=True)
class Graph:
    """GraphProto."""

    nodes: Sequence[Node] = ()
    initializers: Sequence[Tensor] = ()
    sparse: Sequence[Sparse] = ()


@dataclass(slots=True)
class Function:
    """FunctionProto."""

    name: str = ""
    domain: str = ""
    inputs: Sequence[str] = ()
    nodes: Sequence[Node] = ()


@dataclass(slots=True)
class Model:
    """ModelProto."""

    graph: Graph | None = None
    functions: Sequence[Function] = ()


# message -> field number -> (how it is kept, where, of which message or with which wire type)
_TABLES: dict[type, dict[int, tuple[str, str, Any]]] = {
    Model: {7: ("one", "graph", Graph), 25: ("many", "functions", Function)},
    Graph: {1: ("many", "nodes", Node), 5: ("many", "initializers", Tensor), 15: ("many", "sparse", Sparse)},
    Function: {1: ("text", "name", None), 4: ("texts", "inputs", None), 7: ("many", "nodes", Node), 10: ("text", "domain", None)},
    Node: {
        1: ("texts", "inputs", None), 2: ("texts", "outputs", None), 3: ("text", "name", None),
        4: ("text", "operator", None), 5: ("many", "attributes", Attribute), 7: ("text", "domain", None),
    },
    Attribute: {
        1: ("text", "name", None), 2: ("single", "single", None), 3: ("number", "number", None), 5: ("one", "tensor", Tensor),
        6: ("one", "graph", Graph), 7: ("values", "floats", FIXED32), 8: ("numbers", "numbers", None),
        10: ("many", "tensors", Tensor), 11: ("many", "graphs", Graph), 22: ("one", "sparse", Sparse),
    },
    Tensor: {
        1: ("numbers", "dims", None), 2: ("number", "data_type", None), 4: ("values", "floats", FIXED32),
        5: ("values", "int32", VARINT), 7: ("values", "int64", VARINT), 8: ("text", "name", None), 9: ("span", "raw", None),
        10: ("values", "doubles", FIXED64), 11: ("values", "uint64", VARINT), 13: ("many", "external", Entry),
        14: ("number", "location", None),
    },
    Sparse: {1: ("one", "values", Tensor), 3: ("numbers", "dims", None)},
    Entry: {1: ("text", "key", None), 2: ("text", "value", None)},
}  # fmt: skip


class Source:
    """A file read forward in short pieces: a jump over a payload costs one small read."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._size = size
        self._start = 0
        self._chunk = b""
        self._length = _FIRST_READ

    def varint(self, position: int, end: int) -> tuple[int, int]:
        """An unsigned number of at most 64 bits that begins at `position`, and the position after it."""
        place = position - self._start
        if not 0 <= place <= len(self._chunk) - _LONGEST_VARINT:
            self._fill(position)
            place = 0
        chunk = self._chunk
        if position < end and chunk[place] < 0x80:  # by far the commonest
            return chunk[place], position + 1
        value, most = 0, min(_LONGEST_VARINT, end - position)
        for count in range(most):
            byte = chunk[place + count]
            value |= (byte & 0x7F) << 7 * count
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, position + count + 1
        if most < _LONGEST_VARINT:
            raise FormatError(
                "truncated", f"byte {position}", f"a number does not end before byte {end}, where its message does"
            )
        raise FormatError("bad_header", f"byte {position}", f"a number has more than {_LONGEST_VARINT} bytes")

    def take(self, position: int, length: int) -> bytes:
        """Bytes at `position`."""
        place = position - self._start
        if not 0 <= place <= len(self._chunk) - length:
            if length > _LONGEST_READ:
                return storage.read_at(self._descriptor, position, length, "model")
            self._fill(position, length)
            place = 0
        return self._chunk[place : place + length]

    def near(self, position: int, length: int) -> tuple[bytes, int]:
        """Bytes that hold at least `length` from `position` on, and its place in them; `length` is below 4 KiB."""
        place = position - self._start
        if not 0 <= place <= len(self._chunk) - length:
            self._fill(position)
            place = 0
        return self._chunk, place

    def _fill(self, position: int, least: int = 0) -> None:
        onward = self._start < position <= self._start + len(self._chunk)
        self._length = min(2 * self._length, _LONGEST_READ) if onward else _FIRST_READ
        length = min(max(self._length, least), self._size - position)
        self._chunk = storage.read_at(self._descriptor, position, length, "model")
        self._start = position


def parse(descriptor: int, size: int, limits: Limits) -> Model:
    """The skeleton of a model.

    Raises:
        FormatError: ``bad_header``, ``truncated``, ``limit``.
    """
    model = Model()
    _Walk(Source(descriptor, size), limits).run(model, size)
    return model


class _Walk:
    """One pass over a file. Children lie inside their parents, so one position serves the whole stack."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._position = 0
        self._items = 0
        self._text_bytes = 0
        self._stack: list[tuple[Any, dict[int, tuple[str, str, Any]], int]] = []

    def run(self, root: Model, size: int) -> None:
        self._stack.append((root, _TABLES[Model], size))
        while self._stack:
            target, table, end = self._stack[-1]
            if self._position == end:
                self._stack.pop()
            else:
                self._field(target, table, end)

    def _field(self, target: Any, table: dict[int, tuple[str, str, Any]], end: int) -> None:
        begin = self._position
        tag, position = self._source.varint(begin, end)
        field, wire = tag >> 3, tag & 7
        if not 0 < field < 2**29 or wire not in (VARINT, FIXED64, BYTES, FIXED32):
            raise FormatError("bad_header", f"byte {begin}", f"field {field} of wire type {wire} is not allowed")
        self._count(1)
        value = 0
        if wire == VARINT:
            value, after = self._source.varint(position, end)
        elif wire == BYTES:
            length, position = self._source.varint(position, end)
            after = position + length
        else:
            after = position + _WIDTHS[wire]
        if after > end:
            raise FormatError("truncated", f"byte {begin}", f"field {field} ends at byte {after}, what it is part of at {end}")
        self._position = after
        if field in table:
            self._keep(target, table[field], wire, value, (begin, position, after))

    def _keep(self, target: Any, entry: tuple[str, str, Any], wire: int, value: int, places: tuple[int, int, int]) -> None:
        """Keeps a field that is known; one with another wire type than its own is unknown, as in protobuf."""
        how, where, what = entry
        begin, start, end = places
        if how == "values":
            self._values(target, where, what, wire, Run(start, end) if wire == BYTES else Run(begin, end, start - begin))
        elif how == "numbers" and wire in (VARINT, BYTES):
            self._append(target, where, *([_signed(value)] if wire == VARINT else self._unpacked(start, end)))
        elif how == "number" and wire == VARINT:
            setattr(target, where, _signed(value))
        elif (how, wire) in (("single", FIXED32), ("span", BYTES)):
            setattr(target, where, Run(start, end))
        elif wire == BYTES and how == "text":
            setattr(target, where, self._text(start, end))
        elif wire == BYTES and how == "texts":
            self._append(target, where, self._text(start, end))
        elif wire == BYTES and how in ("one", "many"):
            self._message(target, where, what, how == "many", start, end)

    def _message(self, target: Any, where: str, what: type, many: bool, start: int, end: int) -> None:
        if len(self._stack) > self._limits.protobuf_depth:
            raise LimitError(
                "limit", f"byte {start}", f"{len(self._stack)} messages inside each other, limit {self._limits.protobuf_depth}"
            )
        if what is Tensor and many and (plain := self._plain_tensor(start, end)) is not None:
            self._append(target, where, plain)
            return
        child = None if many else getattr(target, where)  # a message that comes twice continues the first
        if child is None:
            child = what()
            if many:
                self._append(target, where, child)
            else:
                setattr(target, where, child)
        self._stack.append((child, _TABLES[what], end))
        self._position = start

    def _plain_tensor(self, start: int, end: int) -> Tensor | None:
        """A tensor as nearly every file holds it, in one step: dimensions, type, name, and values in one piece.

        None for every other one, and for one that is wrong: nothing has been counted then, and the walk looks at it.
        """
        room = min(_PLAIN, end - start)
        chunk, place = self._source.near(start, room)
        stop, offset = place + room, start - place
        dims: list[int] = []
        name, data_type, raw, floats, fields = b"", 0, None, None, 0
        while place < stop:
            tag = chunk[place]
            value, place = _short_varint(chunk, place + 1, stop)
            fields += 1
            if value < 0:
                return None
            if tag == _DIM:
                dims.append(value)
            elif tag == _DATA_TYPE:
                data_type = value
            elif tag == _NAME and not name and place + value <= stop:
                name = chunk[place : place + value]
                place += value
            elif tag in (_RAW, _FLOATS) and not (raw or floats) and value and place + value + offset <= end:
                run = Run(place + offset, place + offset + value)
                raw, floats = (run, None) if tag == _RAW else (None, run)
                place += value
            else:
                return None
        if place + offset != end or not name or not self._has_room(fields, len(name)):
            return None
        try:
            text = name.decode("utf-8")
        except UnicodeDecodeError:
            return None
        self._items += fields
        self._text_bytes += len(name)
        self._position = end
        return Tensor(dims or (), data_type, text, raw, floats=[floats] if floats else ())

    def _has_room(self, fields: int, text: int) -> bool:
        """Whether the limits allow so many more fields and bytes of names."""
        enough = self._items + fields <= self._limits.protobuf_fields
        return enough and self._text_bytes + text <= self._limits.header_bytes

    def _values(self, target: Any, where: str, own: int, wire: int, run: Run) -> None:
        if wire not in (own, BYTES) or (wire == BYTES and run.start == run.end):
            return
        runs = getattr(target, where)
        if run.tag and runs and runs[-1].tag == run.tag and runs[-1].end == run.start:
            runs[-1].end = run.end
        else:
            self._append(target, where, run)

    def _append(self, target: Any, where: str, *values: Any) -> None:
        held = getattr(target, where)
        if isinstance(held, tuple):  # an empty tuple costs nothing, most lists stay empty
            held = []
            setattr(target, where, held)
        held.extend(values)

    def _unpacked(self, start: int, end: int) -> list[int]:
        values = []
        while start < end:
            value, start = self._source.varint(start, end)
            self._count(1)
            values.append(_signed(value))
        return values

    def _text(self, start: int, end: int) -> str:
        self._text_bytes += end - start
        if self._text_bytes > self._limits.header_bytes:
            raise LimitError("limit", "names", f"more than {self._limits.header_bytes} bytes of names")
        try:
            return self._source.take(start, end - start).decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError("bad_header", f"byte {start}", "a name is not UTF-8") from error

    def _count(self, number: int) -> None:
        self._items += number
        if self._items > self._limits.protobuf_fields:
            raise LimitError("limit", "model", f"more than {self._limits.protobuf_fields} fields")


def _short_varint(chunk: bytes, place: int, stop: int) -> tuple[int, int]:
    """A number of at most nine bytes, which has no sign, and the place after it; -1 for a longer one or one that is cut."""
    if place < stop and chunk[place] < 0x80:
        return chunk[place], place + 1
    value = 0
    for count, byte in enumerate(chunk[place : min(place + 9, stop)]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, place + count + 1
    return -1, stop


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
