"""PyTorch checkpoints: zip archives (torch 1.6 and later, TorchScript too), legacy streams, bare pickles; nothing is run.

Zip: `ROOT/data.pkl`, `ROOT/data/KEY` for each storage, `ROOT/byteorder`. Legacy: `pickle of a magic number | pickle of
1001 | pickle of system info | pickle of the object | pickle of storage keys | per key: i64 elements, raw values`.
Source: torch/serialization.py of torch 2.13.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ww_static import storage
from ww_static.errors import FormatError, LimitError, UnknownFormatError
from ww_static.protocol import Finding, Limits, ModelFile
from ww_static_readers import _zip
from ww_static_readers._checkpoint import Contents, PyTorchCheckpoint, Record, checkpoint
from ww_static_readers._pickle import Machine
from ww_static_readers._pickle_nodes import Global, Opaque
from ww_static_readers._source import Source
from ww_static_readers._torch_names import TorchMeaning
from ww_static_readers._torch_values import Storage
from ww_static_readers._tree import named_tensors
from ww_static_readers._zip import Member

_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_LEGACY_VERSION = 1001
_TAR = 257, b"ustar"
_TEXT_PICKLE = re.compile(rb"c[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n|\((?:dp|lp)[0-9]+\n|[\]}](?:q[\x00-\xff]|p0\n)")
# What the first member of an archive of PyTorch is called, below its root.
_FIRST = re.compile(
    r"(?:[^/]+/)?(?:data\.pkl|version|byteorder|\.format_version|\.storage_alignment|constants\.pkl|\.?data/.+|code/.+)"
)
_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
_NO_MODEL = re.compile(r"(?:training_args|optimizer|scheduler|scaler|rng_state)[\w.-]*")
_BYTE_ORDERS = {b"little": False, b"big": True}


def sniff(path: Path, head: bytes) -> bool:
    """An archive whose first member is one of PyTorch's, a pickle that begins like one, a tar archive."""
    if head.startswith(_zip.MAGIC) and len(head) >= 30:
        name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        return _FIRST.fullmatch(name.decode("utf-8", "replace")) is not None
    if head[:1] == b"\x80":
        return len(head) > 2 and head[1] in (2, 3, 4, 5)
    return _TEXT_PICKLE.match(head) is not None or head[_TAR[0] :].startswith(_TAR[1])


def models(names: Sequence[str]) -> list[ModelFile]:
    """Files with the usual suffixes, unless safetensors of the same model lie beside them; no optimizer or arguments."""
    if any(name.lower().endswith((".safetensors", ".safetensors.index.json")) for name in names):
        names = [name for name in names if not name.lower().endswith(".bin")]
    found = []
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in _SUFFIXES and stem and not _NO_MODEL.fullmatch(stem):
            found.append(ModelFile(name, stem))
    return found


def open(path: Path, limits: Limits) -> PyTorchCheckpoint:  # the reader contract names this function
    """Reads the directory and the pickle; no payload.

    Raises:
        FormatError: the file is malformed, or unsafe before it is malformed; see docs/formats.md for the categories.
    """
    descriptor = storage.open_file(path)
    try:
        head = storage.read_at(descriptor, 0, min(os.fstat(descriptor).st_size, 512), "")
        if head.startswith(_zip.MAGIC):
            contents = _open_zip(descriptor, limits)
        elif head[_TAR[0] :].startswith(_TAR[1]):
            raise UnknownFormatError("unsupported", "", "this is a tar archive, as torch 0.1 wrote them; save it again")
        elif head.startswith(_LEGACY):
            contents = _open_legacy(descriptor, limits)
        else:
            contents = _open_bare(descriptor, limits)
        return checkpoint(path, descriptor, contents, limits)
    except BaseException:
        os.close(descriptor)
        raise


# containers


def _open_zip(descriptor: int, limits: Limits) -> Contents:
    members = {one.name: one for one in _zip.members(descriptor, os.fstat(descriptor).st_size, limits)}
    words = "its name leads out of the archive; it is not used"
    findings = [Finding("path_escape", f"member '{name:.200}'", words) for name in members if _zip.leads_out(name)]
    pickles = [name for name in members if name.rsplit("/", 1)[-1].lower() == "data.pkl"]
    if not pickles:
        raise FormatError("missing_part", "zip", "has no member 'data.pkl'")
    if len(pickles) > 1:
        raise FormatError(
            "corrupt_archive", "zip", f"has {len(pickles)} members named 'data.pkl': {pickles[0]:.80}, {pickles[1]:.80}"
        )
    root = pickles[0][: -len("data.pkl")]
    scripted = f"{root}constants.pkl" in members or any(name.startswith(f"{root}code/") for name in members)
    if scripted:
        findings.append(Finding("embedded_code", "zip", "is a TorchScript archive with code, which is not read"))
    big = _is_big(descriptor, members.get(f"{root}byteorder"), limits)
    member = members[pickles[0]]
    if member.size > limits.pickle_bytes:
        raise LimitError("limit", "data.pkl", f"{member.size} bytes, limit {limits.pickle_bytes}")
    data = _zip.content(descriptor, member, limits)
    if member.crc and zlib.crc32(data) != member.crc:
        findings.append(Finding("crc_mismatch", "data.pkl", "its checksum differs, the pickle may be damaged"))
    source = Source("data.pkl", data)
    machine = Machine(source, TorchMeaning(scripted=scripted), limits)
    value = machine.run()
    if source.left:
        findings.append(Finding("trailing_data", "data.pkl", f"{source.left} bytes follow the end of the pickle"))
    prefix = f"{root}data/"
    records = {
        name[len(prefix) :]: Record(one.offset, one.size, one.crc, one if one.method == _zip.DEFLATED else None)
        for name, one in members.items()
        if name.startswith(prefix)
    }
    return Contents(value, machine, records, big, tuple(findings))


def _is_big(descriptor: int, member: Member | None, limits: Limits) -> bool:
    if member is None:
        return False  # torch before 2.1 did not say; its files are little-endian
    order = _zip.content(descriptor, member, limits) if member.size < 8 else b""
    if order not in _BYTE_ORDERS:
        raise FormatError("bad_header", "byteorder", f"is {order!r}, not little or big")
    return _BYTE_ORDERS[order]


def _open_legacy(descriptor: int, limits: Limits) -> Contents:
    size = os.fstat(descriptor).st_size
    place = len(_LEGACY)
    version, place, _ = _pickle_at(descriptor, place, size, "protocol version", limits)
    if version != _LEGACY_VERSION:
        raise FormatError("bad_header", "protocol version", f"is not {_LEGACY_VERSION}")
    system, place, _ = _pickle_at(descriptor, place, size, "system info", limits)
    big = isinstance(system, dict) and system.get("little_endian") is False
    meaning = TorchMeaning()
    value, place, machine = _pickle_at(descriptor, place, size, "pickle", limits, meaning)
    try:
        keys, place, _ = _pickle_at(descriptor, place, size, "storage keys", limits)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise FormatError("bad_header", "storage keys", "is not a list of names")
        if len(set(keys)) != len(keys):
            raise FormatError("duplicate_name", "storage keys", "a name appears twice")
        records, end = _legacy_records(descriptor, place, size, keys, meaning.storages, big)
    except FormatError as error:
        raise machine.blamed(error) from error
    findings = [Finding("trailing_data", "file", f"{size - end} bytes follow the last storage")] if end < size else []
    return Contents(value, machine, records, big, tuple(findings))


def _pickle_at(
    descriptor: int, begin: int, size: int, where: str, limits: Limits, meaning: TorchMeaning | None = None
) -> tuple[Any, int, Machine]:
    """The object of the pickle at byte `begin`, and where the next one begins."""
    end = min(size, begin + limits.pickle_bytes)
    source = Source(where, descriptor=descriptor, begin=begin, end=end)
    machine = Machine(source, meaning or TorchMeaning(stored=False), limits)
    try:
        return machine.run(), source.position, machine
    except FormatError as error:
        if error.category == "truncated" and end < size:
            raise LimitError("limit", where, f"more than {limits.pickle_bytes} bytes") from error
        raise


def _legacy_records(
    descriptor: int, place: int, size: int, keys: list[str], widths: dict[str, Storage], big: bool
) -> tuple[dict[str, Record], int]:
    """Where each storage lies; its element size stands in the pickle."""
    records: dict[str, Record] = {}
    for key in keys:
        where = f"storage '{key:.200}'"
        count = int.from_bytes(storage.read_at(descriptor, place, 8, where), "big" if big else "little", signed=True)
        if key not in widths:
            raise FormatError("bad_header", where, "is not mentioned in the pickle, so its element size is unknown")
        if count != widths[key].numel:
            raise FormatError("size_mismatch", where, f"{count} elements for {widths[key].numel} promised by the pickle")
        nbytes = count * widths[key].element.size
        if place + 8 + nbytes > size:
            raise FormatError("truncated", where, f"ends at byte {place + 8 + nbytes}, file has {size}")
        records[key] = Record(place + 8, nbytes)
        place += 8 + nbytes
    return records, place


def _open_bare(descriptor: int, limits: Limits) -> Contents:
    size = os.fstat(descriptor).st_size
    value, end, machine = _pickle_at(descriptor, 0, size, "pickle", limits)
    try:
        if isinstance(value, Opaque) and isinstance(value.kind, Global) and value.kind.module.startswith("torch.distributed."):
            raise UnknownFormatError("unsupported", "", "this is the index of a distributed checkpoint, which is not read")
        if next(named_tensors(value, "pickle", limits), None) is None:
            raise UnknownFormatError("unsupported", "", "this is a pickle without any array, and not a model")
    except FormatError as error:
        raise machine.blamed(error) from error
    findings = [Finding("trailing_data", "pickle", f"{size - end} bytes follow the end of the pickle")] if end < size else []
    return Contents(value, machine, {}, False, tuple(findings))
