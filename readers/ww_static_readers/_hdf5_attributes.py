"""Text attributes of an HDF5 object, read from its header by ourselves: libhdf5 never touches an attribute.

Variable-length text in a damaged file makes the library write past its buffers, or search a heap for ever; here every
length is compared with what there is. Read are attributes that lie in the header of their object, which is where all of Keras
are; those that are shared or kept in a heap of their own are not seen. Source: HDF5 File Format Specification 3.0,
sections III.E (global heap), IV.A.1 (headers), IV.A.2.b, d, m, q (dataspace, datatype, attribute, continuation).
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ww_static.errors import FormatError, LimitError
from ww_static.protocol import Limits
from ww_static_readers._hdf5_file import Stretch, Superblock

_ATTRIBUTE, _CONTINUATION = 0x000C, 0x0010
_SHARED = 0x02
_STRING, _VARIABLE = 3, 9
_MOST_BLOCKS = 10_000  # continuations of one header
_LARGEST_HEADER = 2**24


@dataclass(frozen=True, slots=True)
class _Text:
    """How the elements of a text attribute lie: each of `size` bytes, themselves or as a reference into a heap."""

    size: int
    variable: bool


class Attributes:
    """The text attributes of one file, whose heaps are looked at once."""

    def __init__(self, stretch: Stretch, block: Superblock, limits: Limits) -> None:
        self._stretch = stretch
        self._block = block
        self._limits = limits
        self._heap: tuple[int, dict[int, bytes]] | None = None
        self._left = 4 * stretch.size + limits.attribute_bytes  # bytes that may still be looked at: references may repeat

    def texts(self, address: int, wanted: Collection[str], where: str) -> dict[str, list[bytes]]:
        """The values of those attributes of the object at `address` that are `wanted` and hold text.

        A name in `wanted` also stands for its split form, ``name0``, ``name1`` and so on.

        Raises:
            FormatError: ``corrupt``, ``truncated``.
            LimitError: ``limit``.
        """
        found: dict[str, list[bytes]] = {}
        for body in self._messages(address, where):
            name, value = self._attribute(body, wanted, where)
            if value is not None:
                found[name] = value
        return found

    def _read(self, address: int, length: int, where: str) -> bytes:
        self._left -= length
        if self._left < 0:
            raise LimitError(
                "limit", where, f"the attributes of a file of {self._stretch.size} bytes refer to far more than it has"
            )
        return self._stretch.read(self._block.base + address, length, where)

    def _messages(self, address: int, where: str) -> Iterator[bytes]:
        """The attribute messages of a header, and of the blocks that continue it."""
        head = self._read(address, 16, where)
        if head[:4] == b"OHDR":
            place = address + 6 + (16 if head[5] & 0x20 else 0) + (4 if head[5] & 0x10 else 0)
            width = 1 << (head[5] & 3)
            length = int.from_bytes(self._read(place, width, where), "little")
            blocks, prefix = [(place + width, length)], 6 if head[5] & 0x04 else 4
        elif head[0] == 1:
            blocks, prefix = [(address + 16, int.from_bytes(head[8:12], "little"))], 8
        else:
            raise FormatError("corrupt", where, f"no object header at byte {self._block.base + address}")
        modern = head[:4] == b"OHDR"
        number = total = 0
        while number < len(blocks):
            begin, length = blocks[number]
            number += 1
            total += length
            if total > _LARGEST_HEADER or len(blocks) > _MOST_BLOCKS:
                raise LimitError("limit", where, f"an object header of {len(blocks)} blocks and more than {total - 1} bytes")
            for kind, flags, body in _cut(self._read(begin, length, where), prefix, modern):
                if kind == _CONTINUATION:
                    blocks.append(self._continued(body, modern, where))
                elif kind == _ATTRIBUTE and not flags & _SHARED:
                    yield body

    def _continued(self, body: bytes, modern: bool, where: str) -> tuple[int, int]:
        width = self._block.addresses
        begin = int.from_bytes(body[:width], "little")
        length = int.from_bytes(body[width : width + self._block.lengths], "little")
        if not modern:
            return begin, length
        if self._read(begin, 4, where) != b"OCHK" or length < 8:
            raise FormatError("corrupt", where, f"no continuation of its header at byte {self._block.base + begin}")
        return begin + 4, length - 8  # without signature and checksum

    def _attribute(self, body: bytes, wanted: Collection[str], where: str) -> tuple[str, list[bytes] | None]:
        """`version | flags | three lengths | name | datatype | dataspace | data`, padded to 8 in version 1."""
        if len(body) < 9 or body[0] not in (1, 2, 3) or (body[0] > 1 and body[1]):
            return "", None
        lengths = struct.unpack_from("<3H", body, 2)
        place = 9 if body[0] == 3 else 8
        parts = []
        for length in lengths:
            parts.append(body[place : place + length])
            place += -(-length // 8) * 8 if body[0] == 1 else length
        name = parts[0].split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
        if name not in wanted and name.rstrip("0123456789") not in wanted:
            return name, None
        text, count = _text(parts[1], self._block.addresses), _count(parts[2], self._block.lengths)
        if text is None or count is None:
            return name, None
        where = f"{where}: attribute '{name:.80}'"
        if count * text.size > len(body) - place:
            raise FormatError("corrupt", where, f"{count} elements of {text.size} bytes, {max(0, len(body) - place)} are left")
        raw = [body[place + number * text.size : place + (number + 1) * text.size] for number in range(count)]
        if not text.variable:
            return name, [one.split(b"\0", 1)[0] for one in raw]
        return name, list(self._referred(raw, where))

    def _referred(self, references: list[bytes], where: str) -> Iterator[bytes]:
        """`u32 length | address of a collection | u32 index` -> the text."""
        total = 0
        for reference in references:
            length, address = int.from_bytes(reference[:4], "little"), int.from_bytes(reference[4:-4], "little")
            total += length
            if total > self._limits.attribute_bytes:
                raise LimitError("limit", where, f"more than {self._limits.attribute_bytes} bytes")
            value = self._collection(address, where).get(int.from_bytes(reference[-4:], "little"), b"") if length else b""
            if len(value) < length:
                raise FormatError("corrupt", where, f"{length} bytes of text, {len(value)} in the heap")
            yield value[:length].split(b"\0", 1)[0]

    def _collection(self, address: int, where: str) -> dict[int, bytes]:
        """`GCOL | version | 3 bytes | size`, then per object `u16 index | u16 | u32 | size | data`, padded to 8."""
        if self._heap is not None and self._heap[0] == address:
            return self._heap[1]
        width = self._block.lengths
        head = self._read(address, 8 + width, where)
        size = int.from_bytes(head[8:], "little")
        if head[:5] != b"GCOL\x01":
            raise FormatError("corrupt", where, f"no heap at byte {self._block.base + address}")
        if size > self._limits.attribute_bytes + 2**16:
            raise LimitError("limit", where, f"a heap of {size} bytes, limit {self._limits.attribute_bytes}")
        raw = self._read(address, size, where)
        objects: dict[int, bytes] = {}
        place = 8 + width
        while place + 8 + width <= size:
            index, length = int.from_bytes(raw[place : place + 2], "little"), raw[place + 8 : place + 8 + width]
            end = place + 8 + width + int.from_bytes(length, "little")
            if index == 0:  # free space, to the end
                break
            if end > size:
                raise FormatError("corrupt", where, f"an object of its heap ends at byte {end} of {size}")
            objects[index] = raw[place + 8 + width : end]
            place += -(-(end - place) // 8) * 8
        self._heap = (address, objects)
        return objects


def _cut(raw: bytes, prefix: int, modern: bool) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and content of each message of a block; what is too short for one is padding."""
    place = 0
    while place + prefix <= len(raw):
        kind, length, flags = struct.unpack_from("<BHB" if modern else "<HHB", raw, place)
        yield kind, flags, raw[place + prefix : place + prefix + length]
        place += prefix + length


def _text(datatype: bytes, address: int) -> _Text | None:
    """How text lies; None for what is no text."""
    if len(datatype) < 8:
        return None
    kind, size = datatype[0] & 15, int.from_bytes(datatype[4:8], "little")
    if kind == _STRING:
        return _Text(size, variable=False)
    if kind == _VARIABLE and datatype[1] & 15 == 1 and size == 8 + address:
        return _Text(size, variable=True)
    return None


def _count(dataspace: bytes, width: int) -> int | None:
    """Elements of a dataspace; None when it cannot be one."""
    if len(dataspace) < 4 or dataspace[0] not in (1, 2):
        return None
    if dataspace[0] == 2 and dataspace[3] == 2:
        return 0
    begin, rank = 8 if dataspace[0] == 1 else 4, dataspace[1]
    if len(dataspace) < begin + rank * width:
        return None
    count = 1
    for axis in range(rank):
        count *= int.from_bytes(dataspace[begin + axis * width : begin + (axis + 1) * width], "little")
    return count
