"""Zip archives as PyTorch writes them: our own walk, strict where two readers could otherwise see two archives.

`local header | data | ... | directory | [zip64 end record, its locator] | end record`; the directory rules, and each
local header must agree with it. Nothing is extracted by name. Source: APPNOTE 6.3.10, sections 4.3 to 4.5.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from ww_static import storage
from ww_static.errors import FormatError, LimitError
from ww_static.protocol import Finding, Limits

LOCAL = b"PK\x03\x04"
_CENTRAL = b"PK\x01\x02"
_END = b"PK\x05\x06"
_END64 = b"PK\x06\x06"
_LOCATOR64 = b"PK\x06\x07"
_LOCAL_FIELDS = struct.Struct("<4s5H3I2H")
_CENTRAL_FIELDS = struct.Struct("<4s6H3I5H2I")
_END_FIELDS = struct.Struct("<4s4H2IH")
_END64_FIELDS = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_FIELDS = struct.Struct("<4sIQI")
_MOST_COMMENT = 0xFFFF
_FULL = 0xFFFFFFFF  # the real number stands in the zip64 extra field
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_SIZES_FOLLOW = 0x8
_STORED, _DEFLATED = 0, 8
_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class Member:
    """One member: where its bytes lie, and how.

    Attributes:
        name: verbatim; bytes that are not UTF-8 as surrogates.
        offset: first byte of the data.
        stored: bytes in the archive.
        size: bytes when inflated; the same for a stored member.
        crc: CRC-32 of the inflated bytes; 0 may mean that none was recorded.
        deflated: compressed by method 8, else stored.
        begin: first byte of its local header.
    """

    name: str
    offset: int
    stored: int
    size: int
    crc: int
    deflated: bool
    begin: int


def walk(descriptor: int, limits: Limits) -> tuple[dict[str, Member], list[Finding]]:
    """The members of an archive by name, in the order of the directory.

    Raises:
        FormatError: ``truncated``, ``corrupt_archive``, ``duplicate_name``.
        LimitError: ``limit``; the directory is too long.
    """
    size = os.fstat(descriptor).st_size
    begin, length, count, after = _directory(descriptor, size)
    if length > limits.header_bytes:
        raise LimitError("limit", "zip directory", f"{length} bytes, limit {limits.header_bytes}")
    if begin + length != after:
        raise FormatError("corrupt_archive", "zip directory", f"ends at byte {begin + length}, its end record is at {after}")
    raw = storage.read_at(descriptor, begin, length, "zip directory")
    members: dict[str, Member] = {}
    findings: list[Finding] = []
    for fields, name in _entries(raw, count):
        text = name.decode("utf-8", "surrogateescape")
        where = f"member '{text:.200}'"
        if text in members:
            raise FormatError("duplicate_name", "zip", f"two members named '{text:.200}'")
        members[text] = _member(descriptor, fields, name, text, where, begin)
        if text.startswith("/") or "\\" in text or ".." in text.split("/"):
            findings.append(Finding("path_escape", where, "its name leads out of the archive; it is not used"))
    _check_overlaps(members, begin)
    return members, findings


def read(descriptor: int, member: Member, limits: Limits) -> bytes:
    """The inflated bytes of one member; checks its size, not its checksum.

    Raises:
        FormatError: ``bomb``, ``corrupt``, ``truncated``, ``io_error``.
    """
    where = f"member '{member.name:.200}'"
    if not member.deflated:
        return storage.read_at(descriptor, member.offset, member.stored, where)
    _check_ratio(member, member.size, where, limits)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    pieces: list[bytes] = []
    total = position = 0
    pending = b""
    try:
        while not inflater.eof and total <= member.size:
            if not pending and position < member.stored:
                length = min(_CHUNK, member.stored - position)
                pending = storage.read_at(descriptor, member.offset + position, length, where)
                position += length
            piece = inflater.decompress(pending, _CHUNK)
            pending = inflater.unconsumed_tail
            if not piece and not pending and position >= member.stored:
                break
            total += len(piece)
            _check_ratio(member, total, where, limits)
            pieces.append(piece)
    except zlib.error as error:
        raise FormatError("corrupt", where, "its compressed data is damaged") from error
    if total != member.size or not inflater.eof:
        raise FormatError("corrupt", where, f"inflates to {total} bytes, the directory says {member.size}")
    return b"".join(pieces)


def _check_ratio(member: Member, size: int, where: str, limits: Limits) -> None:
    if size > limits.inflation_bytes and size > limits.inflation_ratio * member.stored:
        raise FormatError("bomb", where, f"inflates beyond {limits.inflation_ratio} times its {member.stored} stored bytes")


def _directory(descriptor: int, size: int) -> tuple[int, int, int, int]:
    """First byte, length and entries of the directory, and the first byte of the end records, from the last end record."""
    tail_length = min(size, _END_FIELDS.size + _MOST_COMMENT)
    tail = storage.read_at(descriptor, size - tail_length, tail_length, "zip")
    places = []
    place = tail.find(_END)
    while place >= 0:
        if len(tail) - place >= _END_FIELDS.size:
            comment = int.from_bytes(tail[place + 20 : place + 22], "little")
            if place + _END_FIELDS.size + comment == len(tail):
                places.append(place)
        place = tail.find(_END, place + 1)
    if not places:
        raise FormatError("truncated", "zip", "has no end record, so its directory is missing")
    if len(places) > 1:
        raise FormatError("corrupt_archive", "zip", f"has {len(places)} end records that reach to the end of the file")
    end = size - tail_length + places[0]
    _, disk, start_disk, here, count, length, begin, _ = _END_FIELDS.unpack_from(tail, places[0])
    locator = end - _LOCATOR_FIELDS.size
    if locator >= 0:
        raw = storage.read_at(descriptor, locator, _LOCATOR_FIELDS.size, "zip")
        if raw.startswith(_LOCATOR64):
            return _directory64(descriptor, _LOCATOR_FIELDS.unpack(raw)[2], locator, (begin, length, count))
    if disk or start_disk or here != count:
        raise FormatError("corrupt_archive", "zip", "is one part of several")
    return begin, length, count, end


def _directory64(descriptor: int, place: int, locator: int, narrow: tuple[int, int, int]) -> tuple[int, int, int, int]:
    if place + _END64_FIELDS.size > locator:
        raise FormatError("corrupt_archive", "zip", f"zip64 end record at byte {place} overlaps its locator")
    raw = storage.read_at(descriptor, place, _END64_FIELDS.size, "zip")
    signature, rest, _, _, disk, start_disk, here, count, length, begin = _END64_FIELDS.unpack(raw)
    if signature != _END64 or place + 12 + rest != locator or disk or start_disk or here != count:
        raise FormatError("corrupt_archive", "zip", "its zip64 end record does not fit")
    for wide, short, most in zip((begin, length, count), narrow, (_FULL, _FULL, 0xFFFF), strict=True):
        if short not in (most, wide):
            raise FormatError("corrupt_archive", "zip", f"its end records disagree: {short} and {wide}")
    return begin, length, count, place


@dataclass(frozen=True, slots=True)
class _Entry:
    flags: int
    method: int
    crc: int
    stored: int
    size: int
    begin: int


def _entries(raw: bytes, count: int) -> Iterator[tuple[_Entry, bytes]]:
    position = 0
    for number in range(count):
        where = f"zip directory entry {number}"
        if len(raw) - position < _CENTRAL_FIELDS.size or not raw.startswith(_CENTRAL, position):
            raise FormatError("corrupt_archive", where, "is not there")
        fields = _CENTRAL_FIELDS.unpack_from(raw, position)
        flags, method, crc, stored, size = fields[3], fields[4], fields[7], fields[8], fields[9]
        name_length, extra_length, comment_length, disk, begin = fields[10], fields[11], fields[12], fields[13], fields[16]
        name_begin = position + _CENTRAL_FIELDS.size
        extra_begin = name_begin + name_length
        position = extra_begin + extra_length + comment_length
        if position > len(raw) or disk not in (0, 0xFFFF):
            raise FormatError("corrupt_archive", where, "does not fit into the directory")
        extra = raw[extra_begin : extra_begin + extra_length]
        size, stored, begin = _wide(extra, (size, stored, begin), where)
        yield _Entry(flags, method, crc, stored, size, begin), raw[name_begin:extra_begin]
    if position != len(raw):
        raise FormatError("corrupt_archive", "zip directory", f"has {len(raw) - position} bytes after its last entry")


def _wide(extra: bytes, narrow: tuple[int, int, int], where: str) -> tuple[int, int, int]:
    """`narrow` with the numbers that the zip64 extra field holds instead: each only when its place is full."""
    if _FULL not in narrow:
        return narrow
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == 1:
            body = extra[position + 4 : position + 4 + length]
            wanted = sum(value == _FULL for value in narrow)
            if len(body) < 8 * wanted:
                break
            numbers = iter(struct.unpack_from(f"<{wanted}Q", body))
            first, second, third = (next(numbers) if value == _FULL else value for value in narrow)
            return first, second, third
        position += 4 + length
    raise FormatError("corrupt_archive", where, "lacks its zip64 sizes")


def _member(descriptor: int, entry: _Entry, name: bytes, text: str, where: str, directory: int) -> Member:
    if entry.flags & _ENCRYPTED:
        raise FormatError("corrupt_archive", where, "is marked as encrypted")
    if entry.method not in (_STORED, _DEFLATED):
        raise FormatError("corrupt_archive", where, f"is compressed by method {entry.method}, not 0 or 8")
    if entry.method == _STORED and entry.stored != entry.size:
        raise FormatError("corrupt_archive", where, f"is stored in {entry.stored} bytes but has {entry.size}")
    if entry.begin + _LOCAL_FIELDS.size + len(name) > directory:
        raise FormatError("corrupt_archive", where, f"begins at byte {entry.begin}, after the directory at {directory}")
    raw = storage.read_at(descriptor, entry.begin, _LOCAL_FIELDS.size + len(name), where)
    signature, _, flags, method, _, _, crc, stored, size, name_length, extra_length = _LOCAL_FIELDS.unpack_from(raw)
    same = signature == LOCAL and name_length == len(name) and raw[_LOCAL_FIELDS.size :] == name
    if not same or (flags, method) != (entry.flags, entry.method):
        raise FormatError("corrupt_archive", where, "its local header differs from the directory")
    left_out = (0, _FULL) if flags & _SIZES_FOLLOW else (_FULL,)
    pairs = ((stored, entry.stored), (size, entry.size), (crc, entry.crc if not flags & _SIZES_FOLLOW or crc else crc))
    if any(local != central and local not in left_out for local, central in pairs):
        raise FormatError("corrupt_archive", where, "its local header differs from the directory")
    offset = entry.begin + _LOCAL_FIELDS.size + name_length + extra_length
    if offset + entry.stored > directory:
        raise FormatError("corrupt_archive", where, f"ends at byte {offset + entry.stored}, after the directory at {directory}")
    return Member(text, offset, entry.stored, entry.size, entry.crc, entry.method == _DEFLATED, entry.begin)


def _check_overlaps(members: dict[str, Member], directory: int) -> None:
    position, before = 0, ""
    for member in sorted(members.values(), key=lambda one: one.begin):
        if member.begin < position:
            raise FormatError("corrupt_archive", f"member '{member.name:.200}'", f"overlaps '{before:.200}'")
        position, before = member.offset + member.stored, member.name
