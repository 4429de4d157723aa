"""The zip walk: what honest writers make is read, and whatever two readers could read differently is refused."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import torch_files
from ww_static import storage
from ww_static.errors import FormatError, LimitError, UnknownFormatError
from ww_static.protocol import Limits
from ww_static_readers import _zip
from ww_static_readers._zip import Member

NUMBERS = bytes(range(256)) * 300


@dataclass(frozen=True)
class Part:
    """One member to write by hand; what is None follows from the content."""

    name: bytes = b"w"
    content: bytes = b"hello"
    method: int = 0
    flags: int = 0
    payload: bytes | None = None
    crc: int | None = None
    size: int | None = None
    local: tuple[object, ...] | None = None  # name, flags, method, crc, stored, size of the local header, when it lies
    extra: bytes = b""
    local_extra: bytes = b""
    directory_sizes: tuple[int, int, int] | None = None  # stored, size, offset as the directory says
    after: bytes = b""


def archive(*parts: Part, before: bytes = b"", comment: bytes = b"", zip64: bool = False, **end: int) -> bytes:
    """A zip file made by hand. `end` overrides fields of the end record: count, here, size, offset, disk, comment_length."""
    body, directory = before, b""
    for part in parts:
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = deflater.compress(part.content) + deflater.flush() if part.method == 8 else part.content
        payload = packed if part.payload is None else part.payload
        crc = zlib.crc32(part.content) if part.crc is None else part.crc
        size = len(part.content) if part.size is None else part.size
        name, flags, method, local_crc, stored, local_size = part.local or (
            part.name, part.flags, part.method, crc, len(payload), size,
        )  # fmt: skip
        assert isinstance(name, bytes)
        numbers = part.directory_sizes or (len(payload), size, len(body))
        directory += struct.pack(
            "<4s6H3I5H2I", b"PK\1\2", 20, 20, part.flags, part.method, 0, 0, crc, *numbers[:2], len(part.name), len(part.extra), 0, 0,
            0, 0, numbers[2],
        ) + part.name + part.extra  # fmt: skip
        header = (b"PK\3\4", 20, flags, method, 0, 0, local_crc, stored, local_size, len(name), len(part.local_extra))
        body += struct.pack("<4s5H3I2H", *header) + name + part.local_extra + payload + part.after
    offset, count = end.get("offset", len(body)), end.get("count", len(parts))
    body += directory
    here, size = end.get("here", count), end.get("size", len(directory))
    if zip64:
        wide = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, here, count, size, offset)
        body += wide + struct.pack("<4sIQI", b"PK\6\7", 0, len(body), 1)
        here = count = end.get("short_count", 0xFFFF)
        size = offset = 0xFFFFFFFF
    fields = (b"PK\5\6", end.get("disk", 0), 0, here, count, size, offset, end.get("comment_length", len(comment)))
    return body + struct.pack("<4s4H2IH", *fields) + comment


def written(members: Mapping[str, bytes], stream: io.BytesIO | Forward, method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file as Python writes it."""
    with zipfile.ZipFile(stream, "w", method) as made:  # type: ignore[call-overload]
        for name, content in members.items():
            made.writestr(name, content)
    return stream.getvalue()


class Forward:
    """A stream that cannot go back, so that sizes follow the payload."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def flush(self) -> None: ...

    def getvalue(self) -> bytes:
        return bytes(self._data)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[type[Opened]]:
    Opened.folder = tmp_path
    yield Opened
    while Opened.descriptors:
        os.close(Opened.descriptors.pop())


class Opened:
    """A file with these bytes, and its members."""

    folder: Path
    descriptors: list[int] = []  # noqa: RUF012

    def __init__(self, data: bytes, limits: Limits | None = None) -> None:
        (self.folder / "a.zip").write_bytes(data)
        self.limits = limits or Limits()
        self.descriptor = storage.open_file(self.folder / "a.zip")
        self.descriptors.append(self.descriptor)
        self.members = _zip.members(self.descriptor, len(data), self.limits)

    def content(self, member: Member) -> bytes:
        return b"".join(_zip.inflate(self.descriptor, member, self.limits))


# what honest writers make


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("stream", [io.BytesIO, Forward])
def test_pythons_archives_are_read(opened: type[Opened], method: int, stream: type[io.BytesIO | Forward]) -> None:
    members = {"a": b"", "b/c.npy": NUMBERS, "модель": b"x" * 10, "d": os.urandom(100_000)}
    data = written(members, stream(), method)
    found = opened(data)
    assert [member.name for member in found.members] == list(members)
    for member in found.members:
        assert found.content(member) == members[member.name]
        assert (member.method, member.size, member.crc) == (method, len(members[member.name]), zlib.crc32(members[member.name]))
        if method == zipfile.ZIP_STORED:
            assert data[member.offset : member.offset + member.stored] == members[member.name]


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_torchs_archives_are_read(opened: type[Opened], deflated: bool, wide: bool) -> None:
    members = {"m/data.pkl": b"\x80\x02}.", "m/byteorder": b"little", "m/data/0": NUMBERS, "m/data/1": b"", "m/version": b"3\n"}
    data = torch_files.zipped(members, deflated, wide)
    found = opened(data)
    assert {member.name: found.content(member) for member in found.members} == members
    for member in found.members:
        assert _zip.content(found.descriptor, member, Limits()) == members[member.name]
        assert member.offset % 64 == 0, "torch aligns its records"
        if not deflated:
            assert data[member.offset : member.offset + member.stored] == members[member.name]


def test_the_whole_content_comes_with_damage_and_without_its_checksum(opened: type[Opened]) -> None:
    for method in (0, 8):
        found = opened(archive(Part(content=NUMBERS, method=method, crc=7)))
        assert _zip.content(found.descriptor, found.members[0], Limits()) == NUMBERS
        unsaid = replace(found.members[0], crc=0)
        assert found.content(unsaid) == NUMBERS, "0 says that no checksum was recorded"
    found = opened(archive(Part(content=NUMBERS, method=8, size=10**6)))
    with pytest.raises(FormatError, match="corrupt: member 'w': inflates to 76800 bytes, 1000000 are declared"):
        _zip.content(found.descriptor, found.members[0], Limits())


def test_an_archive_inside_a_file_is_read_where_it_lies(tmp_path: Path) -> None:
    inner = archive(Part(content=NUMBERS), Part(b"v", content=NUMBERS, method=8), zip64=True)
    (tmp_path / "f").write_bytes(b"before" + inner + archive(Part(content=b"other")))
    descriptor = storage.open_file(tmp_path / "f")
    try:
        stored, deflated = _zip.members(descriptor, len(inner), Limits(), 6)
        assert storage.read_at(descriptor, stored.offset, stored.stored, "w") == NUMBERS
        assert _zip.content(descriptor, deflated, Limits()) == NUMBERS
        for size, begin in ((len(inner) - 1, 6), (len(inner), 5), (len(inner) + 1, 6)):
            with pytest.raises(FormatError):
                _zip.members(descriptor, size, Limits(), begin)
    finally:
        os.close(descriptor)


def test_pieces_are_small(opened: type[Opened]) -> None:
    for method in (0, 8):
        found = opened(archive(Part(content=bytes(10**6), method=method)))
        assert max(len(piece) for piece in _zip.inflate(found.descriptor, found.members[0], Limits())) <= _zip.PIECE


def test_zip64_records_are_read(opened: type[Opened]) -> None:
    assert opened(archive(Part(), zip64=True)).content(opened(archive(Part(), zip64=True)).members[0]) == b"hello"
    full = 0xFFFFFFFF
    wide = struct.pack("<2H3Q", 1, 24, 5, 5, 0)
    local = struct.pack("<2H2Q", 1, 16, 5, 5)
    part = Part(
        extra=wide, directory_sizes=(full, full, full), local=(b"w", 0, 0, zlib.crc32(b"hello"), full, full), local_extra=local
    )
    found = opened(archive(part))
    assert found.content(found.members[0]) == b"hello"
    assert found.members[0].offset == 30 + 1 + 20


def test_an_archive_of_many_members_has_zip64_counts(opened: type[Opened]) -> None:
    data = written({str(number): b"" for number in range(0x10001)}, io.BytesIO())
    assert len(opened(data).members) == 0x10001


def test_a_comment_padding_and_gaps_are_read(opened: type[Opened]) -> None:
    padding = struct.pack("<2H", 0x4246, 9) + b"Z" * 9
    found = opened(archive(Part(local_extra=padding), Part(b"v", after=b"\0" * 16), comment=b"trained in May"))
    assert [found.content(member) for member in found.members] == [b"hello"] * 2


def test_names_are_unicode_or_the_old_code_page(opened: type[Opened]) -> None:
    found = opened(archive(Part("é".encode(), flags=1 << 11), Part(b"\x82x")))
    assert [member.name for member in found.members] == ["é", "\u00e9x"]


# ambiguity and damage


_HELLO = zlib.crc32(b"hello")
_LIES = {
    "name": (b"v", 0, 0, _HELLO, 5, 5),
    "flags": (b"w", 1, 0, _HELLO, 5, 5),
    "method": (b"w", 0, 8, _HELLO, 5, 5),
    "checksum": (b"w", 0, 0, 1, 5, 5),
    "stored size": (b"w", 0, 0, _HELLO, 4, 5),
    "size": (b"w", 0, 0, _HELLO, 5, 6),
}


@pytest.mark.parametrize("field", _LIES)
def test_a_local_header_that_differs_from_the_directory_is_refused(opened: type[Opened], field: str) -> None:
    with pytest.raises(FormatError, match=f"corrupt_archive: member 'w': its {field} is not the one in the directory"):
        opened(archive(Part(local=_LIES[field])))


def test_sizes_that_follow_the_payload_are_zero_or_the_same(opened: type[Opened]) -> None:
    assert len(opened(archive(Part(flags=8, local=(b"w", 8, 0, 0, 0, 0)))).members) == 1
    with pytest.raises(FormatError, match="corrupt_archive: member 'w': its size is not"):
        opened(archive(Part(flags=8, local=(b"w", 8, 0, 0, 0, 7))))


_BROKEN: dict[str, tuple[bytes, str]] = {
    "prefix": (b"#!/bin/sh\n" + archive(Part()), "bad_header: zip: the file does not begin with a member"),
    "prefix that the offsets know": (archive(Part(), before=b"#!"), "bad_header: zip: the file does not begin"),
    "empty": (b"", "bad_header: zip"),
    "no end record": (archive(Part())[:-22], "truncated: zip: no end record in the last"),
    "half an end record": (archive(Part())[:-1], "truncated: zip: no end record"),
    "trailing": (archive(Part()) + b"x", "corrupt_archive: zip: the end record at byte .* is not the end of the file"),
    "comment too long": (archive(Part(), comment_length=1), "corrupt_archive: zip: the end record at byte"),
    "comment with an end record": (
        archive(Part(), comment=archive()), "corrupt_archive: zip: two end records",
    ),
    "split": (archive(Part(), disk=1), "unsupported: zip: the archive is split"),
    "split count": (archive(Part(), here=0), "unsupported: zip: the archive is split"),
    "directory offset": (archive(Part(), offset=1), "corrupt_archive: zip: a directory of .* does not end at byte"),
    "directory size": (archive(Part(), size=46), "corrupt_archive: zip: a directory of 46 bytes"),
    "count too high": (archive(Part(), count=2), "corrupt_archive: zip: 2 members in a directory of 47 bytes"),
    "count too low": (archive(Part(), Part(b"v"), count=1), "corrupt_archive: zip: 47 bytes of the directory belong to no member"),
    "two of a name": (archive(Part(), Part()), "duplicate_name: zip: two members named 'w'"),
    "NUL": (archive(Part(b"w\0.txt")), "corrupt_archive: member 0: its name holds a NUL"),
    "name": (archive(Part(b"\xff", flags=1 << 11)), "corrupt_archive: member 0: its name is not UTF-8"),
    "encrypted": (archive(Part(flags=1)), "unsupported: member 'w': is encrypted"),
    "strongly encrypted": (archive(Part(flags=0x41)), "unsupported: member 'w': is encrypted"),
    "hidden headers": (archive(Part(flags=1 << 13)), "unsupported: member 'w': is encrypted"),
    "patched": (archive(Part(flags=1 << 5)), "unsupported: member 'w': is compressed"),
    "lzma": (archive(Part(method=14)), "unsupported: member 'w': is compressed by method 14"),
    "stored of another size": (archive(Part(size=6)), "corrupt_archive: member 'w': is stored in 5 bytes, 6 are declared"),
    "offset beyond": (archive(Part(directory_sizes=(5, 5, 10**6))), "corrupt_archive: member 'w': begins at byte 1000000"),
    "offset elsewhere": (archive(Part(directory_sizes=(5, 5, 1))), "corrupt_archive: member 'w': no local header at byte 1"),
    "payload into the directory": (
        archive(Part(payload=b"", content=b"hello", local=(b"w", 0, 0, _HELLO, 5, 5), directory_sizes=(5, 5, 0))),
        "corrupt_archive: member 'w': ends at byte 36, the directory begins at 31",
    ),
    "shared payload": (
        archive(Part(b"v"), Part(b"w", directory_sizes=(5, 5, 0), local=(b"w", 0, 0, _HELLO, 5, 5))),
        "corrupt_archive: member 'w': its name is not the one",
    ),
    "no zip64 record": (archive(Part(), count=0xFFFF), "corrupt_archive: zip: the end record refers to a zip64 record"),
    "zip64 disagrees": (archive(Part(), zip64=True, short_count=2), "corrupt_archive: zip: the end record says 2 where the zip64"),
    "no zip64 field": (archive(Part(directory_sizes=(0xFFFFFFFF, 5, 0))), "corrupt_archive: member 'w': refers to a zip64 extra"),
    "two zip64 fields": (archive(Part(extra=struct.pack("<2H", 1, 0) * 2)), "corrupt_archive: member 'w': two zip64 extra"),
    "extra too long": (archive(Part(extra=b"\1\0\5\0")), "corrupt_archive: member 'w': an extra field of 5 bytes, 0 are left"),
}  # fmt: skip


@pytest.mark.parametrize("case", _BROKEN)
def test_what_is_ambiguous_or_damaged_is_refused(opened: type[Opened], case: str) -> None:
    data, words = _BROKEN[case]
    with pytest.raises(FormatError, match=words):
        opened(data)


def test_a_member_inside_another_is_refused(opened: type[Opened]) -> None:
    inner = archive(Part(b"in"))[: 30 + 2 + 5]
    outer = archive(Part(b"out", content=inner + b"..."), Part(b"in"))
    entry = outer.rfind(b"PK\1\2")
    moved = outer[: entry + 42] + (30 + 3).to_bytes(4, "little") + outer[entry + 46 :]
    with pytest.raises(FormatError, match="corrupt_archive: member 'in': overlaps 'out' by 40 bytes"):
        opened(moved)


def test_zip64_records_that_do_not_fit_are_refused(opened: type[Opened]) -> None:
    data = archive(Part(), zip64=True)
    locator = data.rfind(b"PK\6\7")
    for place, value in (
        (locator + 8, bytes(8)),
        (locator + 8, b"\xff" * 8),
        (locator - 56, b"XXXX"),
        (locator - 52, bytes(8)),
    ):
        with pytest.raises(FormatError, match=r"corrupt_archive: zip: (no|a) zip64 end record"):
            opened(data[:place] + value + data[place + len(value) :])
    for place in (locator + 4, locator + 16):
        with pytest.raises(UnknownFormatError, match="unsupported: zip: the archive is split"):
            opened(data[:place] + b"\2\0\0\0" + data[place + 4 :])


def test_no_mutation_gives_anything_but_a_format_error(opened: type[Opened]) -> None:
    original = archive(Part(content=NUMBERS, method=8), Part(b"v"), zip64=True)
    generator = np.random.default_rng(4)
    for _ in range(1500):
        data = bytearray(original)
        for _ in range(int(generator.integers(1, 4))):
            data[int(generator.integers(len(data)))] = int(generator.integers(256))
        try:
            found = opened(bytes(data))
            for member in found.members:
                assert found.content(member) in (NUMBERS, b"hello")
        except FormatError:
            pass
        while opened.descriptors:
            os.close(opened.descriptors.pop())


# content


_DEFLATED = zlib.compress(NUMBERS, 9, -15)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (Part(content=NUMBERS, crc=7), "crc_mismatch: member 'w': the checksum is .*, 00000007 is declared"),
        (Part(content=NUMBERS, method=8, crc=7), "crc_mismatch"),
        (Part(content=NUMBERS, method=8, size=9), "corrupt: member 'w': inflates to more than the 9 bytes"),
        (Part(content=NUMBERS, method=8, size=10**6), "corrupt: member 'w': inflates to 76800 bytes, 1000000 are declared"),
        (Part(content=NUMBERS, method=8, payload=_DEFLATED[:-9]), "corrupt: member 'w': its .* bytes end before"),
        (Part(content=NUMBERS, method=8, payload=b""), "corrupt: member 'w': its 0 bytes end before"),
        (Part(content=NUMBERS, method=8, payload=_DEFLATED + b"abc"), "corrupt: member 'w': 3 bytes follow"),
        (Part(content=NUMBERS, method=8, payload=_DEFLATED + bytes(99_999)), "corrupt: member 'w': 99999 bytes follow"),
        (Part(content=NUMBERS, method=8, payload=b"\xff" * 99), "corrupt: member 'w': cannot be inflated"),
    ],
)
def test_content_that_is_not_what_is_declared_is_refused(opened: type[Opened], part: Part, words: str) -> None:
    found = opened(archive(part))
    with pytest.raises(FormatError, match=words):
        found.content(found.members[0])


# limits


def test_limit_inflation_ratio(opened: type[Opened]) -> None:
    part = Part(content=bytes(10**5), method=8)
    stored = opened(archive(part)).members[0].stored
    fits = -(-(10**5) // stored)
    found = opened(archive(part), Limits(inflation_bytes=0, inflation_ratio=fits))
    assert found.content(found.members[0]) == part.content
    tight = Limits(inflation_bytes=0, inflation_ratio=fits - 1)
    problem = f"{stored} bytes inflate to 100000, beyond {fits - 1} times their stored size"
    with pytest.raises(LimitError, match=f"bomb: member 'w': {problem}"):
        opened(archive(part), tight)
    with pytest.raises(LimitError, match="bomb: member 'w': "):  # counted again while it is inflated
        list(_zip.inflate(found.descriptor, found.members[0], tight))


def test_limit_inflation_bytes(opened: type[Opened]) -> None:
    part = Part(content=bytes(10**5), method=8)
    opened(archive(part), Limits(inflation_bytes=10**5))
    with pytest.raises(LimitError, match="bomb: member 'w'"):
        opened(archive(part), Limits(inflation_bytes=10**5 - 1))


def test_limit_inflation_bytes_holds_for_all_members_together(opened: type[Opened]) -> None:
    parts = [Part(str(number).encode(), bytes(10**5), method=8) for number in range(4)]
    opened(archive(*parts), Limits(inflation_bytes=4 * 10**5))
    with pytest.raises(LimitError, match=r"bomb: zip: .* inflate to 400000"):
        opened(archive(*parts), Limits(inflation_bytes=4 * 10**5 - 1))


def test_limit_tensors_and_header_bytes_hold_for_an_archive(opened: type[Opened]) -> None:
    data = archive(Part(), Part(b"v"))
    opened(data, Limits(tensors=2, header_bytes=94))
    with pytest.raises(LimitError, match="limit: zip: 2 members, limit 1"):
        opened(data, Limits(tensors=1))
    with pytest.raises(LimitError, match="limit: zip: a directory of 94 bytes, limit 93"):
        opened(data, Limits(header_bytes=93))


def test_a_declared_size_is_never_allocated(opened: type[Opened]) -> None:
    found = opened(archive(Part(content=NUMBERS, method=8)))
    huge = replace(found.members[0], size=2**62)
    with pytest.raises(FormatError, match="corrupt"):
        list(_zip.inflate(found.descriptor, huge, Limits()))


@pytest.mark.parametrize(
    ("name", "out"), [("a/b", False), ("..a", False), ("a..", False), ("", False), ("..", True), ("a/..", True)]
)
def test_a_name_leads_out_or_not(name: str, out: bool) -> None:
    assert _zip.leads_out(name) is out
