"""Which reader opens a file: entry points found lazily by name, the content decides.

Our own readers come in through the same entry-point group as anyone else's.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

from ww_static import storage
from ww_static.errors import ReaderError, UnknownFormatError, UsageError
from ww_static.protocol import SNIFF_BYTES, Reader

GROUP = "ww_static.readers"

_LZ4 = b"\x04\x22\x4d\x18"
# What a file is when no reader wants it: first bytes -> the words of the message.
_KNOWN = (
    (b"PK\x03\x04", "a zip archive (PyTorch, Keras or npz)"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"GGUF", "a GGUF file"),
    (b"\x93NUMPY", "a numpy array"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (_LZ4, "an lz4 frame, perhaps around a joblib pickle; re-save the arrays as safetensors or npz"),
    (b"\x1f\x8b", "a gzip stream"),
)


@dataclass(frozen=True, slots=True)
class ReaderEntry:
    """One installed reader: the format's name, the package that brings it, where its code is."""

    name: str
    package: str
    version: str
    target: str

    def load(self) -> Reader:
        """The reader itself; its module is imported now.

        Raises:
            ReaderError: it does not import, or lacks `sniff` or `open`.
        """
        try:
            loaded = importlib.metadata.EntryPoint(self.name, self.target, GROUP).load()
        except Exception as error:  # a foreign module may raise anything while it is imported
            words = traceback.format_exception_only(error)[-1].strip()
            raise ReaderError("reader_crash", f"reader '{self.name}'", f"does not load: {words:.500}") from error
        if not callable(getattr(loaded, "sniff", None)) or not callable(getattr(loaded, "open", None)):
            raise ReaderError("reader_crash", f"reader '{self.name}'", "lacks sniff(path, head) or open(path, limits)")
        return cast(Reader, loaded)


def installed(allowed: Sequence[str] | None = None) -> tuple[ReaderEntry, ...]:
    """The installed readers, by name; only those in `allowed` when it is given, and nothing else is ever imported.

    Raises:
        UsageError: a name in `allowed` is not installed.
    """
    entries = _entries(tuple(sys.path))
    for name in allowed or ():
        if name not in entries:
            raise UsageError(f"reader '{name}' is not installed; installed are: {', '.join(sorted(entries)) or 'none'}")
    return tuple(entries[name] for name in sorted(entries) if allowed is None or name in allowed)


@cache
def _entries(path: tuple[str, ...]) -> dict[str, ReaderEntry]:
    """What is installed along a path, searched for once per process: that takes as long as a small file."""
    return {
        point.name: ReaderEntry(
            point.name,
            point.dist.metadata["Name"] if point.dist else "",
            point.dist.version if point.dist else "",
            point.value,
        )
        for point in importlib.metadata.entry_points(group=GROUP)
    }


def _sniffs(entry: ReaderEntry, reader: Reader, path: Path, head: bytes) -> bool:
    return reader.sniff(path, head)


def find(
    path: Path,
    allowed: Sequence[str] | None = None,
    recognizes: Callable[[ReaderEntry, Reader, Path, bytes], bool] = _sniffs,
) -> tuple[ReaderEntry, Reader]:
    """The reader that recognizes the file at `path`, by its first 512 bytes.

    Args:
        path: a file.
        allowed: names of the readers that may be asked; all installed ones when None.
        recognizes: asks one reader; the seam puts its guard around the question here.

    Raises:
        UnknownFormatError: ``unsupported``; nobody does.
        ReaderError: ``reader_crash``; nobody does, and one of those asked is broken.
        FormatError: ``lfs_pointer``, ``truncated`` (an empty file), ``io_error``, ``not_regular_file``.
    """
    head = first_bytes(path)
    entries = installed(allowed)
    broken: list[ReaderError] = []
    for entry in entries:
        try:
            reader = entry.load()
            if recognizes(entry, reader, path, head):
                return entry, reader
        except ReaderError as error:  # another reader may know the file
            broken.append(error)
    if broken:
        raise broken[0]
    if head.startswith(_LZ4) and b"joblib" in head:
        problem = "joblib pickle in an lz4 frame is not a supported format; re-save the arrays as safetensors or npz"
        raise UnknownFormatError("unsupported", "", problem)
    kind = next((words for magic, words in _KNOWN if head.startswith(magic)), "not a format that is known here")
    names = ", ".join(entry.name for entry in entries) or "none"
    raise UnknownFormatError("unsupported", "", f"this is {kind}; readers asked: {names}")


def first_bytes(path: Path) -> bytes:
    """The first 512 bytes of a file, after the stand-ins that are commonly saved in place of a model are refused."""
    descriptor = storage.open_file(path)
    try:
        size = os.fstat(descriptor).st_size
        head = storage.read_at(descriptor, 0, min(size, SNIFF_BYTES), "")
    finally:
        os.close(descriptor)
    storage.refuse_stand_in(head)
    return head
