"""The only caller of readers: opens a file through one, and re-checks every promise it makes."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ww_static import dtypes, registry, storage
from ww_static.errors import FormatError, LimitError, ReaderError
from ww_static.protocol import Checkpoint, Extent, Finding, Limits, ModelFile, Reader, TensorSpec, Window
from ww_static.registry import ReaderEntry

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_ELEMENTS = 2**63 - 1
ENCODINGS = ("raw", "compressed", "quantized", "sparse", "unsupported", "absent")


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells whether a file is still the one that was planned."""

    path: str
    device: int
    inode: int
    size: int
    mtime_ns: int


class OpenCheckpoint:
    """A checkpoint whose promises are checked: what `ww_static.open` returns. Use it as a context manager.

    Attributes:
        path: the file as it was named.
        reader: name of the reader that opened it.
        tensors: one `TensorSpec` per tensor, in file order.
        findings: what the file itself gave away.
        identities: the files that it is made of, as they were when it was opened.
        metadata: what the header says beside its tensors, text to text.
    """

    def __init__(self, path: Path, reader: str, checkpoint: Checkpoint, limits: Limits) -> None:
        self.path = path
        self.reader = reader
        self._checkpoint = checkpoint
        with _translated(reader):
            self.tensors: tuple[TensorSpec, ...] = tuple(checkpoint.tensors)
            findings = tuple(checkpoint.findings)
            files = tuple(getattr(checkpoint, "files", ()))  # optional
            self.metadata: dict[str, str] = dict(getattr(checkpoint, "metadata", {}))  # optional
        for finding in findings:
            if not isinstance(finding, Finding):
                raise ReaderError("reader_crash", "header", f"the reader gives a {type(finding).__name__} for a Finding")
        if not all(type(file) is str for file in files):
            raise ReaderError("reader_crash", "header", "the reader gives something else than text for a path of files")
        if not all(type(text) is str for pair in self.metadata.items() for text in pair):
            raise ReaderError("reader_crash", "header", "the reader gives something else than text in the metadata")
        self._by_name = _checked(self.tensors, limits)
        self.findings: tuple[Finding, ...] = findings + _long_names(self.tensors, limits)
        paths = [os.fspath(path), *files, *(spec.extent.path for spec in self.tensors if spec.extent)]
        self.identities = tuple(identify(part) for part in dict.fromkeys(paths))

    def spec(self, name: str) -> TensorSpec:
        """The tensor called `name`; KeyError when there is none."""
        return self._by_name[name]

    def read(self, spec: TensorSpec, window: Window = ()) -> NDArray[Any]:
        """``whole[window]`` of one tensor, in its storage dtype.

        Args:
            spec: one of `tensors`.
            window: a tuple of slices, one per leading axis; missing ones mean the whole axis.

        Returns:
            Array of `dtypes.numpy_dtype(spec.dtype)` (float32 for a quantized weight), shape as numpy slicing gives
            it; for safetensors a read-only view of a memory map.

        Raises:
            FormatError: the values cannot be had: ``truncated``, ``io_error``, or what the reader refuses.
            ReaderError: ``reader_crash``; the reader broke its contract.
            IndexError: the window has more slices than the tensor has axes.
            TypeError: the window is not a tuple of slices.
        """
        import numpy as np

        if not isinstance(window, tuple) or not all(isinstance(cut, slice) for cut in window):
            raise TypeError(f"a window is a tuple of slices, not {window!r}")
        if len(window) > len(spec.shape):
            raise IndexError(f"a window of {len(window)} slices for a tensor of {len(spec.shape)} axes")
        expected = tuple(len(range(*cut.indices(size))) for cut, size in zip(window, spec.shape, strict=False))
        expected += spec.shape[len(window) :]
        where = f"tensor '{spec.name}'"
        with _translated(self.reader, where):
            array = self._checkpoint.read(spec, window)
        stored = np.dtype(np.float32) if spec.encoding == "quantized" else dtypes.numpy_dtype(spec.dtype)
        if not isinstance(array, np.ndarray) or array.shape != expected or array.dtype.newbyteorder("<") != stored:
            got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise ReaderError("reader_crash", where, f"reader gave {got} where {stored} {expected} was promised")
        return array.astype(stored, copy=False)  # little-endian, whatever the reader gave

    def read_rounded(self, spec: TensorSpec, window: Window = ()) -> tuple[NDArray[Any], float | None]:
        """`read`, and the mean squared rounding of the elements; None where the dtype and the values tell it."""
        return self.read(spec, window), None

    def check_unchanged(self) -> None:
        """Raises FormatError ``changed_while_reading`` when a file of the checkpoint is not the one that was opened."""
        for planned in self.identities:
            check_same(planned, identify(planned.path))

    def close(self) -> None:
        """Gives back descriptors; arrays that were read stay valid."""
        with _translated(self.reader):
            self._checkpoint.close()

    def __enter__(self) -> OpenCheckpoint:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self.reader} checkpoint {os.fspath(self.path)!r}, {len(self.tensors)} tensors>"


def open_checkpoint(
    path: str | os.PathLike[str], limits: Limits | None = None, readers: Sequence[str] | None = None
) -> OpenCheckpoint:
    """Opens a model file through the reader that recognizes its content; reads the header only.

    It reads in the caller's own process: a file that kills its reader, for instance because somebody cuts it short while
    it is mapped, kills the caller.

    Args:
        path: a file.
        limits: what the file may ask for; the defaults of `Limits` when None.
        readers: names of the readers that may be used; all installed ones when None.

    Raises:
        FormatError: the file cannot be read; its text names the file, the category, the place and the fact.
    """
    limits = limits or Limits()
    shown = os.fspath(path)
    try:
        entry, reader = registry.find(Path(path), readers, _recognizes)
        with _translated(entry.name):
            checkpoint = reader.open(Path(path), limits)
        try:
            return OpenCheckpoint(Path(path), entry.name, checkpoint, limits)
        except BaseException:
            with suppress(FormatError), _translated(entry.name):
                checkpoint.close()
            raise
    except FormatError as error:
        raise error.at(shown) from error


def models_among(names: Sequence[str], entries: Sequence[ReaderEntry]) -> list[ModelFile]:
    """The models among the file names of one folder, as the readers know them, each file once, in order of name.

    A reader that is broken, or does not know its files by name, claims none.
    """
    found: dict[str, ModelFile] = {}
    known = set(names)
    for entry in entries:
        with suppress(FormatError), _translated(entry.name):
            claim: Callable[[Sequence[str]], Sequence[ModelFile]] | None = getattr(entry.load(), "models", None)
            for one in claim(names) if claim else ():
                if one.file in known:
                    found.setdefault(one.file, _owner(one, known))
    return [found[name] for name in sorted(found)]


def _owner(one: ModelFile, known: set[str]) -> ModelFile:
    """A model without parts that are not in its folder. A reader that was made before there were parts gives none."""
    parts = getattr(one, "parts", ())
    if type(parts) is not tuple or not all(type(part) is str for part in parts):
        raise ReaderError("reader_crash", "", "the reader gives something else than file names for the parts of a model")
    return ModelFile(one.file, one.model, tuple(part for part in parts if part in known and part != one.file))


def _recognizes(entry: ReaderEntry, reader: Reader, path: Path, head: bytes) -> bool:
    with _translated(entry.name):
        return bool(reader.sniff(path, head))


def identify(path: str) -> Identity:
    """The identity of the file at `path` as it is now."""
    try:
        now = os.stat(path)
    except OSError as error:
        raise storage.io_error(error) from error
    return Identity(path, now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns)


def check_same(planned: Identity, now: Identity) -> None:
    """Raises FormatError ``changed_while_reading`` naming the first difference."""
    for field, words in (("size", "size"), ("mtime_ns", "modification time"), ("inode", "inode"), ("device", "device")):
        before, after = getattr(planned, field), getattr(now, field)
        if before != after:
            where = os.path.basename(planned.path)
            raise FormatError("changed_while_reading", where, f"{words} was {before}, is {after}")


@contextmanager
def _translated(reader: str, where: str = "") -> Iterator[None]:
    """Whatever a reader raises becomes one of ours. (`registry` guards their import, `cli` and `executors` pass errors on.)"""
    try:
        yield
    except FormatError as error:
        raise (type(error)(error.category, error.where or where, error.problem, error.path)) from error
    except MemoryError:
        raise
    except Exception as error:
        words = traceback.format_exception_only(error)[0].strip()  # unlike str(error), never raises
        raise ReaderError("reader_crash", where, f"reader '{reader}' raised {words:.500}") from error


def _checked(tensors: Sequence[TensorSpec], limits: Limits) -> dict[str, TensorSpec]:
    if len(tensors) > limits.tensors:
        raise LimitError("limit", "header", f"{len(tensors)} tensors, limit {limits.tensors}")
    by_name: dict[str, TensorSpec] = {}
    sizes: dict[str, int] = {}
    for spec in tensors:
        _check_types(spec)
        where = f"tensor '{spec.name}'"
        _check_spec(spec, where, limits)
        if spec.name in by_name:
            raise FormatError("duplicate_name", where, "the reader gives this name twice")
        by_name[spec.name] = spec
        if spec.extent is not None:
            _check_extent(spec, spec.extent, where, sizes)
    return by_name


def _check_types(spec: object) -> None:
    if not isinstance(spec, TensorSpec):
        raise ReaderError("reader_crash", "header", f"the reader gives a {type(spec).__name__} for a TensorSpec")
    wanted: list[tuple[str, object, type]] = [
        ("name", spec.name, str),
        ("dtype", spec.dtype, str),
        ("shape", spec.shape, tuple),
        ("file", spec.file, str),
        ("encoding", spec.encoding, str),
    ]
    if spec.layout is not None:
        wanted.append(("layout", spec.layout, str))
    if spec.axes is not None:
        wanted.append(("axes", spec.axes, tuple))
        wanted += [("axes", axis, str) for axis in spec.axes if isinstance(spec.axes, tuple)]
    optional: list[tuple[str, object]] = [("role", spec.role), ("op_path", spec.op_path), ("reason", spec.reason)]
    wanted += [(field, value, str) for field, value in optional if value is not None]
    if spec.extent is not None:
        wanted.append(("extent", spec.extent, Extent))
    if isinstance(spec.extent, Extent):
        wanted += [("extent path", spec.extent.path, str)]
        wanted += [("extent offset", spec.extent.offset, int), ("extent nbytes", spec.extent.nbytes, int)]
    for field, value, kind in wanted:
        if type(value) is not kind:
            raise ReaderError(
                "reader_crash", "header", f"the reader gives a {type(value).__name__} for the {field} of a tensor"
            )


def _check_spec(spec: TensorSpec, where: str, limits: Limits) -> None:
    dtypes.storage_dtype(spec.dtype)
    if spec.encoding not in ENCODINGS:
        raise ReaderError("reader_crash", where, f"encoding '{spec.encoding:.80}' is none of: {', '.join(ENCODINGS)}")
    if spec.axes is not None and len(spec.axes) != len(spec.shape):
        raise ReaderError("reader_crash", where, f"{len(spec.axes)} axes are named, the shape has {len(spec.shape)}")
    if len(spec.shape) > limits.rank:
        raise LimitError("limit", where, f"{len(spec.shape)} dimensions, limit {limits.rank}")
    elements = 1
    for size in spec.shape:
        if type(size) is not int or size < 0:
            raise FormatError("bad_header", where, f"dimension {size!r} is not a count")
        elements *= max(size, 1)  # a zero axis must not hide a huge one
    if elements > _MOST_ELEMENTS or elements * dtypes.DTYPES[spec.dtype].bits > 8 * _MOST_ELEMENTS:
        raise FormatError("overflow", where, f"shape {list(spec.shape)} of {spec.dtype} exceeds 2^63 bytes")


def _check_extent(spec: TensorSpec, extent: Extent, where: str, sizes: dict[str, int]) -> None:
    if extent.path not in sizes:
        sizes[extent.path] = identify(extent.path).size
    elements = 1
    for size in spec.shape:
        elements *= size
    needed = -(-elements * dtypes.DTYPES[spec.dtype].bits // 8)  # the last byte of a packed type may be half empty
    if spec.encoding == "raw" and needed != extent.nbytes:
        raise FormatError("size_mismatch", where, f"{extent.nbytes} bytes for {needed} needed by its shape")
    if extent.offset < 0 or extent.nbytes < 0 or extent.offset + extent.nbytes > sizes[extent.path]:
        end = extent.offset + extent.nbytes
        raise FormatError("truncated", where, f"ends at byte {end}, file has {sizes[extent.path]}")


def _long_names(tensors: Sequence[TensorSpec], limits: Limits) -> tuple[Finding, ...]:
    return tuple(
        Finding("limit", "header", f"a tensor name has {length} bytes, more than {limits.name_bytes}", spec.name)
        for spec in tensors
        if (length := len(spec.name.encode("utf-8", "surrogatepass"))) > limits.name_bytes
    )
