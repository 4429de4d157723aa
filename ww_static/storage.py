"""Where bytes come from: positional reads of headers, windows of a memory map for values, references kept inside.

The decision that local values are mapped, and headers are read, lives here and nowhere else. A map is made per
window and dropped with the array; a file cut short by somebody else while it is mapped kills the process that reads
it, so maps are for workers.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
import re
import stat
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ww_static import dtypes
from ww_static.errors import FormatError, UnknownFormatError, UnsafeFileError
from ww_static.protocol import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_MOST_LINKS = 8
_MOST_UNPACKED = 2**22  # codes of a packed tensor that are unpacked for a window much smaller than that
_LFS = b"version https://git-lfs.github.com/spec/"
_CHECK = "; check the path: a relative one begins in the current folder"
_BLOB = re.compile(r"(\.\./)+blobs/[0-9A-Za-z]+")


def open_file(path: str | os.PathLike[str]) -> int:
    """A descriptor of the regular file that the user named; the caller closes it.

    Raises:
        UnsafeFileError: ``not_regular_file``; a FIFO or device is never waited for.
        FormatError: ``io_error``.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        raise io_error(error) from error
    except ValueError as error:  # a NUL in the name
        raise FormatError("io_error", "", "the path holds a NUL character") from error
    return _regular(descriptor, "")


def open_inside(root: str | os.PathLike[str], reference: str, where: str) -> int:
    """A descriptor of the regular file that `reference`, a name found inside a model file, means below `root`.

    Every component is opened without following links. A link of the last one is followed when its target has no ``..``
    and stays below `root`; the only way out is the Hugging Face cache, ``models--X/snapshots/REV/f -> ../../blobs/HASH``
    of the same repository.

    Raises:
        FormatError: ``bad_header`` (empty), ``missing_part``, ``io_error``.
        UnsafeFileError: ``path_escape``, ``not_regular_file``.
    """
    return _open_contained(os.fspath(root), _components(reference, where), reference, where)


def open_listed(root: str | os.PathLike[str], path: str) -> int:
    """A descriptor of the regular file that a listing of the folders below `root` gave as `path`, relative to it.

    The rules for links are those of `open_inside`; the names are the file system's own and may hold anything.

    Raises:
        FormatError: ``missing_part``, ``io_error``.
        UnsafeFileError: ``path_escape``, ``not_regular_file``.
    """
    return _open_contained(os.fspath(root), tuple(path.split(os.sep)), path, "")


def _open_contained(root: str, parts: tuple[str, ...], reference: str, where: str) -> int:
    for _ in range(_MOST_LINKS):
        try:
            descriptor = _open_components(root, parts)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise FormatError("missing_part", where, f"'{reference}' is missing") from error
            if error.errno not in (errno.ELOOP, errno.EMLINK, errno.ENOTDIR):
                raise io_error(error, where) from error
        else:
            return _regular(descriptor, where, f"'{reference}' ")
        target = _link_target(Path(root), parts, reference, where)
        blobs = _cache_blobs(Path(root), parts, target)
        if blobs is not None:  # opened by name below the blobs, for a link above could lead the system elsewhere
            root, parts = os.fspath(blobs), (target.rsplit("/", 1)[1],)
        else:
            parts = _components("/".join((*parts[:-1], target)) if not target.startswith("/") else target, where, reference)
    raise UnsafeFileError("path_escape", where, f"'{reference}' is a chain of more than {_MOST_LINKS} links")


def _components(reference: str, where: str, shown: str | None = None) -> tuple[str, ...]:
    if not reference:
        raise FormatError("bad_header", where, "the reference to another file is empty")
    parts = tuple(part for part in reference.split("/") if part not in ("", "."))
    outside = (
        not parts
        or reference.startswith("/")
        or ".." in parts
        or any(mark in reference for mark in ("\0", "\\", "://"))
        or reference[1:2] == ":"
    )
    if outside:
        raise UnsafeFileError("path_escape", where, f"'{shown or reference}' leaves the model directory")
    return parts


def _open_components(root: str, parts: Sequence[str]) -> int:
    folder = os.open(root, _FLAGS | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FLAGS | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(parts[-1], _FLAGS | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)


def _link_target(root: Path, parts: Sequence[str], reference: str, where: str) -> str:
    """Where the last component points, when it and nothing above it is a link."""
    try:
        return os.readlink(root.joinpath(*parts))
    except OSError as error:
        if any(os.path.islink(root.joinpath(*parts[:count])) for count in range(1, len(parts) + 1)):
            raise UnsafeFileError("path_escape", where, f"'{reference}' passes through a link") from error
        raise FormatError("missing_part", where, f"'{reference}' is missing") from error  # a file in place of a folder


def _cache_blobs(root: Path, parts: Sequence[str], target: str) -> Path | None:
    """The blobs folder of a link ``snapshots/REV/... -> ../../blobs/HASH`` of one repository of the Hugging Face cache."""
    if not _BLOB.fullmatch(target):
        return None
    folder = Path(os.path.abspath(root)).joinpath(*parts[:-1])
    repository = folder
    for _ in range(target.count("../")):
        repository = repository.parent
    below = folder.relative_to(repository).parts
    inside = len(below) >= 2 and below[0] == "snapshots" and repository.name.startswith("models--")
    return repository / "blobs" if inside else None


def _regular(descriptor: int, where: str, subject: str = "") -> int:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    kinds = {
        stat.S_IFDIR: "directory"
        if subject
        else "directory that holds no model file; `ww-static readers list` shows what is read",
        stat.S_IFIFO: "FIFO",
        stat.S_IFCHR: "character device",
        stat.S_IFBLK: "block device",
    }
    raise UnsafeFileError("not_regular_file", where, f"{subject}is a {kinds.get(stat.S_IFMT(mode), 'special file')}")


def io_error(error: OSError, where: str = "") -> FormatError:
    """`error` of the operating system as one of ours."""
    remedy = _CHECK if isinstance(error, FileNotFoundError) and not where else ""
    return FormatError("io_error", where, (error.strerror or str(error)).lower() + remedy)


def refuse_stand_in(head: bytes) -> None:
    """Refuses what is commonly saved in place of a model, by the first bytes of the file.

    Raises:
        FormatError: ``truncated`` (an empty file), ``lfs_pointer``.
        UnknownFormatError: ``unsupported`` (an HTML page).
    """
    if not head:
        raise FormatError("truncated", "", "the file is empty")
    if head.startswith(_LFS):
        raise FormatError("lfs_pointer", "", _lfs_message(head))
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        raise UnknownFormatError("unsupported", "", "this is an HTML page saved in place of a model; download the file itself")


def _lfs_message(head: bytes) -> str:
    fields = dict(line.split(" ", 1) for line in head.decode("ascii", "replace").splitlines() if " " in line)
    size, digest = fields.get("size", "unknown"), fields.get("oid", "unknown").removeprefix("sha256:")
    return f"this is a Git LFS pointer to {size:.20} bytes (sha256 {digest:.64}); fetch the object first"


def read_at(descriptor: int, offset: int, length: int, where: str) -> bytes:
    """Exactly `length` bytes at `offset`, by positional reads.

    Raises:
        FormatError: ``truncated``, ``io_error``.
    """
    pieces: list[bytes] = []
    got = 0
    while got < length:
        try:
            piece = os.pread(descriptor, length - got, offset + got)
        except OSError as error:
            raise io_error(error, where) from error
        if not piece:
            raise FormatError("truncated", where, f"{got} bytes of {length} at byte {offset}")
        pieces.append(piece)
        got += len(piece)
    return b"".join(pieces)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Elements between neighbours along each axis, the last axis being the densest."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def window_of(
    source: int | bytes,
    offset: int,
    dtype: str,
    shape: tuple[int, ...],
    window: Window,
    strides: Sequence[int] | None = None,
) -> NDArray[Any]:
    """``whole[window]`` of the tensor at `offset`, mapped: nothing is copied, nothing else is touched.

    Args:
        source: a regular file, which may be closed afterwards; or bytes that were inflated from one.
        offset: first byte of the tensor.
        dtype: storage dtype name. Packed types are unpacked, so they do cost a copy of the window.
        shape: of the whole tensor.
        window: one slice per leading axis; missing ones mean the whole axis.
        strides: elements between neighbours along each axis, none negative; row-major when None.

    Returns:
        Read-only array that keeps its map alive.

    Raises:
        FormatError: ``truncated`` when the file ends before the window does.
    """
    import numpy as np

    ranges = [range(*cut.indices(size)) for cut, size in zip(window, shape, strict=False)]
    ranges += [range(size) for size in shape[len(ranges) :]]
    result_shape = tuple(len(steps) for steps in ranges)
    stored = dtypes.numpy_dtype(dtype)
    if 0 in result_shape:
        return np.empty(result_shape, stored)
    strides = row_major(shape) if strides is None else strides
    start = sum(steps[0] * stride for steps, stride in zip(ranges, strides, strict=True))
    first = sum(min(steps[0], steps[-1]) * stride for steps, stride in zip(ranges, strides, strict=True))
    last = sum(max(steps[0], steps[-1]) * stride for steps, stride in zip(ranges, strides, strict=True))
    if dtypes.storage_dtype(dtype).packed and last - first > max(_MOST_UNPACKED, 8 * math.prod(result_shape)):
        return _by_parts(source, offset, dtype, shape, ranges, strides)
    buffer, zero = _cover(source, offset, dtype, first, last + 1)
    return np.ndarray(
        result_shape,
        stored,
        buffer=buffer,
        offset=zero + start * stored.itemsize,
        strides=tuple(
            (steps.step * stride if len(steps) > 1 else 1) * stored.itemsize  # a lone step may exceed any buffer
            for steps, stride in zip(ranges, strides, strict=True)
        ),
    )


def _by_parts(
    source: int | bytes, offset: int, dtype: str, shape: tuple[int, ...], ranges: Sequence[range], strides: Sequence[int]
) -> NDArray[Any]:
    """A window of a packed tensor that is thin against what it spans: one index of its sparsest long axis at a time."""
    import numpy as np

    axis = max((axis for axis, steps in enumerate(ranges) if len(steps) > 1), key=lambda axis: strides[axis])
    result = np.empty(tuple(len(steps) for steps in ranges), dtypes.numpy_dtype(dtype))
    for place, index in enumerate(ranges[axis]):
        inner = [slice(steps.start, None if steps.stop < 0 else steps.stop, steps.step) for steps in ranges]
        inner[axis] = slice(index, index + 1)
        part = window_of(source, offset, dtype, shape, tuple(inner), strides)
        result[(slice(None),) * axis + (slice(place, place + 1),)] = part
    return result


_maps: weakref.WeakValueDictionary[tuple[int, ...], mmap.mmap] = weakref.WeakValueDictionary()


def _whole_map(descriptor: int, size: int) -> mmap.mmap:
    """A map of the whole file, shared by all arrays that live: a map keeps a descriptor, and arrays may be thousands.

    It goes with the last array that needs it; only pages that are touched take memory, and that is the system's own.
    """
    now = os.fstat(descriptor)
    key = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns)
    mapped = _maps.get(key)
    if mapped is None:
        try:
            mapped = _maps[key] = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
        except OSError as error:
            raise io_error(error) from error
        except ValueError as error:  # the file has become shorter since it was looked at
            raise FormatError("truncated", "", f"the file is shorter than {size} bytes now") from error
    return mapped


def _cover(source: int | bytes, offset: int, dtype: str, first: int, stop: int) -> tuple[Any, int]:
    """A read-only buffer over elements [first, stop), and the position in it where element 0 would be."""
    import numpy as np

    bits = dtypes.storage_dtype(dtype).bits
    group = 1 if bits % 8 == 0 else 4  # four elements of a packed type always fill whole bytes
    begin, end = first // group * group * bits // 8, -(-stop // group) * group * bits // 8
    if group > 1:
        end = min(end, -(-stop * bits // 8))
    length = end - begin
    size = len(source) if isinstance(source, bytes) else os.fstat(source).st_size
    if offset + end > size:
        raise FormatError("truncated", "", f"values end at byte {offset + end}, file has {size}")
    mapped: bytes | mmap.mmap = source if isinstance(source, bytes) else _whole_map(source, size)
    if group == 1:
        return mapped, offset
    raw = np.frombuffer(mapped, np.uint8, length, offset + begin)
    if bits == 6 and length % 3:
        raw = np.concatenate([raw, np.zeros(-length % 3, np.uint8)])
    return dtypes.unpack(raw, dtype), -(first // group * group)
