"""Zip archives, walked from their end record: where each member lies, and its content one piece at a time or whole.

`local header | name | extra | payload`, per member; then `directory entry`, per member; then `[zip64 end record |
zip64 locator] | end record | comment`. Where two readers of zip could see two archives, this one refuses: no bytes
before the first member or after the comment, one directory, headers that agree with it, no member twice, no overlaps. Names are data; nothing is extracted. Source: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ww_static import storage
from ww_static.errors import FormatError, LimitError, UnknownFormatError
from ww_static.protocol import Limits

MAGIC = b"PK\x03\x04"
STORED, DEFLATED = 0, 8
PIECE = 32_768  # bytes of compressed input, and of output, that are in memory at once

# signature, version, flags, method, time, date, crc, stored size, size, name length, extra length
_LOCAL = struct.Struct("<4s5H3I2H")
# signature, made by, version, flags, method, time, date, crc, stored size, size, three lengths, disk, attributes, offset
_ENTRY = struct.Struct("<4s6H3I5H2I")
# signature, disk, disk of the directory, entries here, entries, directory size, directory offset, comment length
_END = struct.Struct("<4s4H2IH")
# signature, disk, offset of the zip64 end record, disks
_LOCATOR = struct.Struct("<4sIQI")
# signature, size of the rest, made by, version, disk, disk of the directory, entries here, entries, size, offset
_END64 = struct.Struct("<4sQ2H2I4Q")
_END_MAGIC, _ENTRY_MAGIC, _LOCATOR_MAGIC, _END64_MAGIC = b"PK\x05\x06", b"PK\x01\x02", b"PK\x06\x07", b"PK\x06\x06"
_MOST_COMMENT = 0xFFFF
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF  # "look into the zip64 record"
_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13
_LATER, _PATCHED, _UTF8 = 1 << 3, 1 << 5, 1 << 11


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an archive.

    Attributes:
        name: verbatim; data, never a path.
        method: 0 stored, 8 deflated.
        offset: first byte of its payload in the file.
        stored: bytes of the payload.
        size: bytes of the content, as the archive declares it; equal to `stored` when the method is 0.
        crc: CRC-32 of the content, as the archive declares it; 0 when none was recorded.
    """

    name: str
    method: int
    offset: int
    stored: int
    size: int
    crc: int


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    stored: int
    size: int
    header: int

    @property
    def where(self) -> str:
        return f"member '{self.name:.200}'"


@dataclass(frozen=True, slots=True)
class _Archive:
    """Bytes of a file that are an archive; its own offsets count from `begin`."""

    descriptor: int
    begin: int
    size: int

    def read(self, offset: int, length: int, where: str = "zip") -> bytes:
        return storage.read_at(self.descriptor, self.begin + offset, length, where)


def members(descriptor: int, size: int, limits: Limits, begin: int = 0) -> tuple[Member, ...]:
    """The members of an archive, in the order of its directory.

    Args:
        descriptor: a regular file.
        size: of the archive, in bytes; of the file, when it is nothing else.
        limits: `header_bytes` bounds the directory, `tensors` the members, `inflation_ratio` what they declare.
        begin: first byte of the archive in the file.

    Raises:
        FormatError: ``bad_header`` (no zip), ``truncated``, ``corrupt_archive``, ``duplicate_name``, ``unsupported``.
        LimitError: ``limit``, ``bomb``.
    """
    archive = _Archive(descriptor, begin, size)
    if archive.read(0, min(size, len(MAGIC))) != MAGIC:
        raise FormatError("bad_header", "zip", "the file does not begin with a member")
    count, place, length = _directory(archive)
    if count > limits.tensors:
        raise LimitError("limit", "zip", f"{count} members, limit {limits.tensors}")
    if length > limits.header_bytes:
        raise LimitError("limit", "zip", f"a directory of {length} bytes, limit {limits.header_bytes}")
    entries = _entries(archive.read(place, length), count)
    _check_repeats(entries)
    for entry in entries:
        _check_ratio(entry.where, entry.size, entry.stored, limits)
    _check_ratio("zip", sum(entry.size for entry in entries), sum(entry.stored for entry in entries), limits)
    found = tuple(_located(archive, entry, place) for entry in entries)
    _check_overlaps(entries, found, begin, place)
    return found


def inflate(descriptor: int, member: Member, limits: Limits) -> Iterator[bytes]:
    """The content of a member from its beginning, stored or deflated, in pieces of at most 32 KiB.

    What comes out is counted, and ends where the archive says that it does; size and checksum are compared after the
    last piece, so only who reads to the end knows. A checksum of 0 was not recorded: torch leaves it out on request.

    Raises:
        FormatError: ``corrupt``, ``crc_mismatch``, ``truncated``.
        LimitError: ``bomb``.
    """
    checksum = 0
    for piece in _counted(descriptor, member, limits):
        checksum = zlib.crc32(piece, checksum)
        yield piece
    if member.crc and checksum != member.crc:
        where = f"member '{member.name:.200}'"
        raise FormatError("crc_mismatch", where, f"the checksum is {checksum:08x}, {member.crc:08x} is declared")


def content(descriptor: int, member: Member, limits: Limits) -> bytes:
    """The whole content of a member; its checksum is left to the caller, who may want to look at damaged bytes too.

    Raises:
        FormatError: ``corrupt``, ``truncated``.
        LimitError: ``bomb``.
    """
    if member.method == STORED:
        return storage.read_at(descriptor, member.offset, member.stored, f"member '{member.name:.200}'")
    return b"".join(_counted(descriptor, member, limits))


def leads_out(name: str) -> bool:
    """Whether a program that extracts members by name would write outside its folder."""
    return name.startswith("/") or "\\" in name or ".." in name.split("/") or name[1:2] == ":"


def _counted(descriptor: int, member: Member, limits: Limits) -> Iterator[bytes]:
    where = f"member '{member.name:.200}'"
    produced = 0
    for piece in _inflated(descriptor, member, where) if member.method == DEFLATED else _stored(descriptor, member, where):
        produced += len(piece)
        if produced > member.size:
            raise FormatError("corrupt", where, f"inflates to more than the {member.size} bytes that are declared")
        _check_ratio(where, produced, member.stored, limits)
        yield piece
    if produced != member.size:
        raise FormatError("corrupt", where, f"inflates to {produced} bytes, {member.size} are declared")


def _stored(descriptor: int, member: Member, where: str) -> Iterator[bytes]:
    for start in range(0, member.stored, PIECE):
        yield storage.read_at(descriptor, member.offset + start, min(PIECE, member.stored - start), where)


def _inflated(descriptor: int, member: Member, where: str) -> Iterator[bytes]:
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    consumed = 0
    pending = b""
    while not decoder.eof:
        fresh = min(PIECE, member.stored - consumed) if not pending else 0
        if fresh:
            pending = storage.read_at(descriptor, member.offset + consumed, fresh, where)
            consumed += fresh
        had = len(pending)
        try:
            piece = decoder.decompress(pending, PIECE)
        except zlib.error as error:
            raise FormatError("corrupt", where, f"cannot be inflated near byte {consumed} of {member.stored}") from error
        pending = decoder.unconsumed_tail
        if piece:
            yield piece
        elif not decoder.eof and not had:
            raise FormatError("corrupt", where, f"its {member.stored} bytes end before the compressed stream does")
    after = len(decoder.unused_data) + member.stored - consumed
    if after:
        raise FormatError("corrupt", where, f"{after} bytes follow the compressed stream")


def _check_ratio(where: str, size: int, stored: int, limits: Limits) -> None:
    if size > limits.inflation_bytes and size > limits.inflation_ratio * stored:
        problem = f"{stored} bytes inflate to {size}, beyond {limits.inflation_ratio} times their stored size"
        raise LimitError("bomb", where, problem)


def _directory(archive: _Archive) -> tuple[int, int, int]:
    """Entries, offset and length of the directory, from the last end record."""
    size = archive.size
    length = min(size, _END.size + _MOST_COMMENT)
    tail = archive.read(size - length, length)
    place = tail.rfind(_END_MAGIC)
    if place < 0 or place + _END.size > length:
        raise FormatError("truncated", "zip", f"no end record in the last {length} bytes of {size}")
    if not _ends_the_file(tail, place):
        raise FormatError(
            "corrupt_archive", "zip", f"the end record at byte {size - length + place} is not the end of the file"
        )
    earlier = tail.rfind(_END_MAGIC, 0, place)
    while earlier >= 0:
        if _ends_the_file(tail, earlier):
            raise FormatError("corrupt_archive", "zip", "two end records: the comment of one holds the other")
        earlier = tail.rfind(_END_MAGIC, 0, earlier)
    _, disk, directory_disk, here, count, directory_size, begin, _ = _END.unpack_from(tail, place)
    end = size - length + place
    plain = (disk, directory_disk, here, count, directory_size, begin)
    fields = _zip64(archive, end, plain)
    if fields is not None:
        end, plain = fields
    disk, directory_disk, here, count, directory_size, begin = plain
    if disk or directory_disk or here != count:
        raise UnknownFormatError("unsupported", "zip", "the archive is split over several files")
    if begin + directory_size != end:
        problem = f"a directory of {directory_size} bytes at byte {begin} does not end at byte {end}, where the end record is"
        raise FormatError("corrupt_archive", "zip", problem)
    if count * _ENTRY.size > directory_size:
        raise FormatError("corrupt_archive", "zip", f"{count} members in a directory of {directory_size} bytes")
    return count, begin, directory_size


def _ends_the_file(tail: bytes, place: int) -> bool:
    if place + _END.size > len(tail):
        return False
    comment = int.from_bytes(tail[place + _END.size - 2 : place + _END.size], "little")
    return place + _END.size + comment == len(tail)


_Fields = tuple[int, int, int, int, int, int]


def _zip64(archive: _Archive, end: int, plain: _Fields) -> tuple[int, _Fields] | None:
    """Where the zip64 end record lies and what it says, when there is one; it must agree with the plain one."""
    full = (_FULL16, _FULL16, _FULL16, _FULL16, _FULL32, _FULL32)
    place = end - _LOCATOR.size
    raw = archive.read(place, _LOCATOR.size) if place >= 0 else b""
    if raw[:4] != _LOCATOR_MAGIC:
        if any(value == most for value, most in zip(plain[2:], full[2:], strict=True)):
            raise FormatError("corrupt_archive", "zip", "the end record refers to a zip64 record that is not there")
        return None
    _, disk, begin, disks = _LOCATOR.unpack(raw)
    if disk or disks > 1:
        raise UnknownFormatError("unsupported", "zip", "the archive is split over several files")
    if begin + _END64.size > place:
        raise FormatError("corrupt_archive", "zip", f"a zip64 end record at byte {begin}, its locator at byte {place}")
    magic, rest, _, _, *values = _END64.unpack(archive.read(begin, _END64.size))
    if magic != _END64_MAGIC or begin + 12 + rest != place:
        raise FormatError("corrupt_archive", "zip", f"no zip64 end record that ends at byte {place}")
    wide: _Fields = (values[0], values[1], values[2], values[3], values[4], values[5])
    for short, long, most in zip(plain, wide, full, strict=True):
        if short not in (long, most):
            raise FormatError("corrupt_archive", "zip", f"the end record says {short} where the zip64 one says {long}")
    return begin, wide


def _entries(raw: bytes, count: int) -> list[_Entry]:
    entries = []
    place = 0
    for number in range(count):
        if place + _ENTRY.size > len(raw):
            raise FormatError("corrupt_archive", "zip", f"the directory ends within member {number} of {count}")
        magic, _, _, flags, method, _, _, crc, stored, size, *rest = _ENTRY.unpack_from(raw, place)
        name_length, extra_length, comment_length, disk, _, _, header = rest
        name_end = place + _ENTRY.size + name_length
        next_place = name_end + extra_length + comment_length
        if magic != _ENTRY_MAGIC or next_place > len(raw):
            raise FormatError("corrupt_archive", "zip", f"no directory entry for member {number} of {count}")
        raw_name = raw[name_end - name_length : name_end]
        name = _decoded(raw_name, flags, number)
        wide = _Wide(raw[name_end : name_end + extra_length], f"member '{name:.200}'")
        size, stored, header = (wide.take(value) for value in (size, stored, header))
        if disk not in (0, _FULL16):
            raise UnknownFormatError("unsupported", wide.where, "lies in another file of a split archive")
        entries.append(_Entry(name, raw_name, flags, method, crc, stored, size, header))
        place = next_place
    if place != len(raw):
        raise FormatError("corrupt_archive", "zip", f"{len(raw) - place} bytes of the directory belong to no member")
    return entries


def _decoded(raw: bytes, flags: int, number: int) -> str:
    try:
        name = raw.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise FormatError("corrupt_archive", f"member {number}", "its name is not UTF-8") from error
    if "\0" in name:  # some readers end the name there
        raise FormatError("corrupt_archive", f"member {number}", "its name holds a NUL character")
    return name


class _Wide:
    """The 64-bit numbers of a zip64 extra field, taken in order by the fields that are full."""

    def __init__(self, extra: bytes, where: str) -> None:
        self.where = where
        self._numbers: list[int] | None = None
        place = 0
        while place + 4 <= len(extra):  # fewer bytes are padding
            kind, length = struct.unpack_from("<2H", extra, place)
            body = extra[place + 4 : place + 4 + length]
            if len(body) < length:
                raise FormatError("corrupt_archive", where, f"an extra field of {length} bytes, {len(body)} are left")
            if kind == 1:
                if self._numbers is not None:
                    raise FormatError("corrupt_archive", where, "two zip64 extra fields")
                self._numbers = [number for (number,) in struct.iter_unpack("<Q", body[: length // 8 * 8])]
            place += 4 + length

    def take(self, value: int) -> int:
        if value != _FULL32:
            return value
        if not self._numbers:
            raise FormatError("corrupt_archive", self.where, "refers to a zip64 extra field that is not there")
        return self._numbers.pop(0)


def _located(archive: _Archive, entry: _Entry, directory: int) -> Member:
    """The member of a directory entry, after its local header has said the same."""
    if entry.header + _LOCAL.size > directory:
        raise FormatError("corrupt_archive", entry.where, f"begins at byte {entry.header}, the directory at byte {directory}")
    raw = archive.read(entry.header, _LOCAL.size, entry.where)
    magic, _, flags, method, _, _, crc, stored, size, name_length, extra_length = _LOCAL.unpack(raw)
    if magic != MAGIC:
        raise FormatError("corrupt_archive", entry.where, f"no local header at byte {entry.header}")
    rest = archive.read(entry.header + _LOCAL.size, name_length + extra_length, entry.where)
    wide = _Wide(rest[name_length:], entry.where)
    size, stored = wide.take(size), wide.take(stored)
    later = bool(entry.flags & _LATER)  # sizes and checksum follow the payload; zero here
    same = [
        ("name", rest[:name_length] == entry.raw_name),
        ("flags", flags == entry.flags),
        ("method", method == entry.method),
        ("checksum", crc == entry.crc or (later and crc == 0)),
        ("stored size", stored == entry.stored or (later and stored == 0)),
        ("size", size == entry.size or (later and size == 0)),
    ]
    for field, agrees in same:
        if not agrees:
            raise FormatError("corrupt_archive", entry.where, f"its {field} is not the one in the directory")
    _check_readable(entry)
    offset = archive.begin + entry.header + _LOCAL.size + len(rest)
    return Member(entry.name, entry.method, offset, entry.stored, entry.size, entry.crc)


def _check_readable(entry: _Entry) -> None:
    if entry.flags & _ENCRYPTED:
        raise UnknownFormatError("unsupported", entry.where, "is encrypted")
    if entry.flags & _PATCHED or entry.method not in (STORED, DEFLATED):
        raise UnknownFormatError("unsupported", entry.where, f"is compressed by method {entry.method}, which is not read")
    if entry.method == STORED and entry.stored != entry.size:
        problem = f"is stored in {entry.stored} bytes, {entry.size} are declared"
        raise FormatError("corrupt_archive", entry.where, problem)


def _check_repeats(entries: Sequence[_Entry]) -> None:
    seen: set[str] = set()
    for entry in entries:
        if entry.name in seen:
            raise FormatError("duplicate_name", "zip", f"two members named '{entry.name:.200}'")
        seen.add(entry.name)


def _check_overlaps(entries: Sequence[_Entry], found: Sequence[Member], begin: int, directory: int) -> None:
    """Members lie one after another, and the directory after them."""
    end, before = 0, ""
    for entry, member in sorted(zip(entries, found, strict=True), key=lambda pair: pair[0].header):
        if entry.header < end:
            raise FormatError("corrupt_archive", entry.where, f"overlaps '{before:.200}' by {end - entry.header} bytes")
        end, before = member.offset - begin + member.stored, entry.name
    if end > directory:
        raise FormatError(
            "corrupt_archive", f"member '{before:.200}'", f"ends at byte {end}, the directory begins at {directory}"
        )
