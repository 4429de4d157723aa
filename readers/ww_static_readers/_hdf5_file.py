"""An HDF5 file as libhdf5 is shown it: checked superblock, our own positional reads, every error of the library as ours.

`signature | version | sizes of addresses and lengths | base address | ... | end of file | root`, at byte 0, 512, 1024 and so on.
The library never opens a path: it reads through an object that gives it the bytes of one stretch of one file, so that no
link, external storage or virtual dataset can lead it elsewhere by the file's own driver. Source: HDF5 File Format
Specification 3.0, section II.A.
"""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ww_static import storage
from ww_static.errors import FormatError, LimitError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SIZES = (2, 4, 8)
_MOST_VERSION = 3
_FIRST_BLOCK = 512
_INNER = re.compile(r"\(([^()]+)\)\W*$")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Where an HDF5 file lies: `size` bytes from `begin` on of an open file, or bytes that were inflated from one."""

    descriptor: int
    begin: int
    size: int
    data: bytes | None = None

    @property
    def source(self) -> int | bytes:
        """What `storage.window_of` maps."""
        return self.descriptor if self.data is None else self.data

    def read(self, offset: int, length: int, where: str) -> bytes:
        """Exactly `length` bytes at `offset` of the stretch; ``truncated`` when they are not there."""
        if offset < 0 or offset + length > self.size:
            raise FormatError("truncated", where, f"ends at byte {offset + length}, file has {self.size}")
        if self.data is not None:
            return self.data[offset : offset + length]
        return storage.read_at(self.descriptor, self.begin + offset, length, where)


@dataclass(frozen=True, slots=True)
class Superblock:
    """What the first block says.

    Attributes:
        base: byte of the stretch that addresses count from: where the signature is, behind a user block.
        addresses: bytes of an address.
        lengths: bytes of a length.
        root: address of the header of the root group, relative to `base`.
    """

    base: int
    addresses: int
    lengths: int
    root: int


def superblock(stretch: Stretch) -> Superblock:
    """Finds and checks the first block.

    Raises:
        FormatError: ``bad_header``, ``truncated``.
    """
    place = 0
    while stretch.read(place, min(len(SIGNATURE), stretch.size - place), "header") != SIGNATURE:
        place = max(_FIRST_BLOCK, 2 * place)
        if place + len(SIGNATURE) > stretch.size:
            raise FormatError("bad_header", "header", "has no HDF5 signature at byte 0, nor at 512 times a power of two")
    head = stretch.read(place, min(112, stretch.size - place), "header")
    version = head[8] if len(head) > 8 else 0
    if version > _MOST_VERSION:
        raise FormatError("bad_header", "header", f"superblock version {version} is not known")
    sizes, begin = (13, 24 + 4 * version) if version < 2 else (9, 12)
    addresses, lengths = (head[sizes], head[sizes + 1]) if len(head) > sizes + 1 else (8, 8)
    if addresses not in _SIZES or lengths not in _SIZES:
        raise FormatError("bad_header", "header", f"addresses of {addresses} and lengths of {lengths} bytes")
    fields = [head[begin + number * addresses : begin + (number + 1) * addresses] for number in range(6)]
    root_field = 5 if version < 2 else 3  # an entry of a symbol table: name, header address
    if len(fields[root_field]) < addresses:
        raise FormatError("truncated", "header", f"the superblock ends at byte {stretch.size}")
    base, end, root = (int.from_bytes(fields[number], "little") for number in (0, 2, root_field))
    if place + end - base > stretch.size:
        raise FormatError(
            "truncated", "header", f"the file ends at byte {place + end - base} by its header, has {stretch.size}"
        )
    return Superblock(place, addresses, lengths, root)


def library() -> Any:
    """h5py, with the filter plugins that the environment may name switched off."""
    os.environ.pop("HDF5_PLUGIN_PATH", None)
    os.environ["HDF5_PLUGIN_PRELOAD"] = "::"
    import h5py

    return h5py


class _Driver:
    """The file that libhdf5 sees: reads of a stretch, and nothing else."""

    def __init__(self, stretch: Stretch) -> None:
        self._stretch = stretch
        self._place = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = self._stretch.size + offset if whence == 2 else offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        buffer[:] = self._stretch.read(self._place, len(buffer), "file")  # a short read would leave old memory in it
        return len(buffer)

    def write(self, data: object) -> int:
        raise FormatError("io_error", "file", "is opened for reading only")

    def truncate(self, size: int | None = None) -> int:
        raise FormatError("io_error", "file", "is opened for reading only")

    def flush(self) -> None:
        """Nothing is ever written."""


class Library:
    """One file that is open in libhdf5; close it."""

    def __init__(self, stretch: Stretch) -> None:
        h5py = library()
        with guarded("file"):
            access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
            access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
            access.set_fileobj_driver(h5py.h5fd.fileobj_driver, _Driver(stretch))
            self.file: Any = h5py.h5f.open(b"model", h5py.h5f.ACC_RDONLY, fapl=access)
            self.h5py: Any = h5py
        # A file that is still open when Python ends would call back into what is gone.
        self.close = weakref.finalize(self, _close, self.file)

    def root(self) -> Any:
        """The root group."""
        with guarded("file"):
            return self.h5py.h5g.open(self.file, b"/")


def _close(file: Any) -> None:
    with guarded("file"):
        if file.valid:
            file.close()


@contextmanager
def guarded(where: str) -> Iterator[None]:
    """Whatever libhdf5 finds wrong becomes ``corrupt``."""
    try:
        yield
    except FormatError:
        raise
    except MemoryError as error:
        raise LimitError("limit", where, "libhdf5 asks for more memory than there is") from error
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, SystemError) as error:
        text = str(error)
        found = _INNER.search(text)
        words = (found[1] if found else text).strip(" .'\"\n").replace("\n", " ") or type(error).__name__
        raise FormatError("corrupt", where, f"libhdf5: {words[:200].strip(' .')}") from error
