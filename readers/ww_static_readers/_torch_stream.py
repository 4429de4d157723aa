"""PyTorch streams without an archive: five pickles and raw storages (torch before 1.6), or one bare pickle.

Legacy: `pickle of a magic number | pickle of 1001 | pickle of system info | pickle of the object | pickle of storage keys |
per key: i64 elements, raw values`. Source: torch/serialization.py of torch 2.13.
"""

from __future__ import annotations

import os
from typing import Any

from ww_static import storage
from ww_static.errors import FormatError, LimitError, UnknownFormatError
from ww_static.protocol import Finding, Limits
from ww_static_readers._pickle import Machine
from ww_static_readers._source import Source
from ww_static_readers._torch_names import Container, TorchMeaning
from ww_static_readers._torch_records import Contents, Record
from ww_static_readers._torch_values import Storage
from ww_static_readers._tree import named_tensors

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_VERSION = 1001


def read_stream(descriptor: int, limits: Limits) -> Contents:
    """What a legacy file says: its pickles and the counts before its storages are read, no payload.

    Raises:
        FormatError: what the pickle machine refuses; ``duplicate_name``, ``size_mismatch``, ``truncated``.
    """
    size = os.fstat(descriptor).st_size
    version, place, _ = _pickle_at(descriptor, len(MAGIC), size, "protocol version", limits)
    if version != _VERSION:
        raise FormatError("bad_header", "protocol version", f"is not {_VERSION}")
    # the system info says what machine wrote it; streams are little-endian all the same
    _, place, _ = _pickle_at(descriptor, place, size, "system info", limits)
    meaning = TorchMeaning("stream")
    value, place, machine = _pickle_at(descriptor, place, size, "pickle", limits, meaning)
    try:
        keys, place, _ = _pickle_at(descriptor, place, size, "storage keys", limits)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise FormatError("bad_header", "storage keys", "is not a list of names")
        if len(set(keys)) != len(keys):
            raise FormatError("duplicate_name", "storage keys", "a name appears twice")
        records, end = _records(descriptor, place, size, keys, meaning.storages)
    except FormatError as error:
        raise machine.blamed(error) from error
    findings = [Finding("trailing_data", "file", f"{size - end} bytes follow the last storage")] if end < size else []
    return Contents(value, machine.where, machine, records, False, tuple(findings))


def read_bare(descriptor: int, limits: Limits) -> Contents:
    """What a pickle without storages says: the numpy arrays in it.

    Raises:
        FormatError: what the pickle machine refuses; ``unsupported``, when there is no array.
    """
    value, machine, findings = read_pickle(descriptor, limits, "bare")
    try:
        if next(named_tensors(value, machine.where, limits), None) is None:
            raise UnknownFormatError("unsupported", "", "this is a pickle without any array, and not a model")
    except FormatError as error:
        raise machine.blamed(error) from error
    return Contents(value, machine.where, machine, {}, False, findings)


def read_pickle(descriptor: int, limits: Limits, container: Container) -> tuple[Any, Machine, tuple[Finding, ...]]:
    """The object of a file that is one pickle, what ran it, and what follows it.

    Raises:
        FormatError: what the pickle machine refuses.
    """
    size = os.fstat(descriptor).st_size
    value, end, machine = _pickle_at(descriptor, 0, size, "pickle", limits, TorchMeaning(container))
    words = f"{size - end} bytes follow the end of the pickle"
    return value, machine, (Finding("trailing_data", "pickle", words),) if end < size else ()


def _pickle_at(
    descriptor: int, begin: int, size: int, where: str, limits: Limits, meaning: TorchMeaning | None = None
) -> tuple[Any, int, Machine]:
    """The object of the pickle at byte `begin`, and where the next one begins."""
    end = min(size, begin + limits.pickle_bytes)
    source = Source(where, descriptor=descriptor, begin=begin, end=end)
    machine = Machine(source, meaning or TorchMeaning("bare"), limits)
    try:
        return machine.run(), source.position, machine
    except FormatError as error:
        if error.category == "truncated" and end < size:
            raise LimitError("limit", where, f"more than {limits.pickle_bytes} bytes") from error
        raise


def _records(
    descriptor: int, place: int, size: int, keys: list[str], widths: dict[str, Storage]
) -> tuple[dict[str, Record], int]:
    """Where each storage lies; its element size stands in the pickle."""
    records: dict[str, Record] = {}
    for key in keys:
        where = f"storage '{key:.200}'"
        count = int.from_bytes(storage.read_at(descriptor, place, 8, where), "little", signed=True)
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
