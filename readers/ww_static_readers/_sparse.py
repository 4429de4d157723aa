"""A sparse matrix among the arrays of an archive, as scipy saves one: `data`, with `indices | indptr` (csr, csc) or `row | col` (coo).

It reads as the dense matrix, by window: entries that are stored twice add up. Every index is checked before it is used. Source:
scipy.sparse.save_npz.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ww_static import dtypes
from ww_static.errors import FormatError, LimitError, UnknownFormatError
from ww_static.protocol import Checkpoint, Finding, Limits, TensorSpec, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ALWAYS = frozenset(("format", "shape", "data"))
_PLACES = {"csr": ("indices", "indptr"), "csc": ("indices", "indptr"), "coo": ("row", "col")}
_UNREAD = ("bsr", "dia")
_INTEGERS = ("I32", "I64", "U32", "U64")
_FLAG = "_is_array"  # whether scipy had an array or a matrix


def is_sparse(names: Sequence[str]) -> bool:
    """Whether the arrays of an archive are the parts of one sparse matrix, of any form."""
    rest = frozenset(names) - {_FLAG}
    return _ALWAYS < rest and rest - _ALWAYS in ({"indices", "indptr"}, {"row", "col"}, {"offsets"}, {"coords"})


@dataclass(frozen=True, slots=True)
class Parts:
    """The arrays of a sparse matrix, by their headers.

    Attributes:
        form: ``csr``, ``csc`` or ``coo``.
        shape: rows and columns.
        specs: of the arrays, by name.
    """

    form: str
    shape: tuple[int, int]
    specs: Mapping[str, TensorSpec]

    @property
    def entries(self) -> int:
        """Stored entries."""
        return self.specs["data"].shape[0]


def parts(form: bytes, shape: Sequence[int], specs: Mapping[str, TensorSpec], limits: Limits) -> Parts:
    """The parts, after everything that headers say has been compared.

    Args:
        form: content of the array `format`.
        shape: content of the array `shape`.
        specs: of the numeric arrays.
        limits: on entries, and on the bytes of the dense matrix.

    Raises:
        FormatError: ``unsupported``, ``bad_header``, ``size_mismatch``, ``limit``.
    """
    word = form.decode("latin-1").strip("\0")
    if word in _UNREAD:
        raise UnknownFormatError("unsupported", "array 'format'", f"a sparse matrix in {word} form; save it as csr, csc or coo")
    if word not in _PLACES or not specs.keys() >= {"data", *_PLACES[word]}:
        raise FormatError("bad_header", "array 'format'", f"{word!r:.40} is no form of a sparse matrix with these arrays")
    if len(shape) != 2 or not all(0 < size < 2**31 for size in shape):
        raise FormatError("bad_header", "array 'shape'", f"{list(shape)!r:.80} is no shape of a matrix")
    found = Parts(word, (shape[0], shape[1]), specs)
    for name in ("data", *_PLACES[word]):
        if len(specs[name].shape) != 1:
            raise FormatError("bad_header", f"array '{name}'", f"has {len(specs[name].shape)} axes, 1 is needed")
        if name != "data" and specs[name].dtype not in _INTEGERS:
            raise FormatError("bad_header", f"array '{name}'", f"dtype {specs[name].dtype} holds no indices")
    if found.entries > limits.sparse_entries:
        raise LimitError("limit", "array 'data'", f"{found.entries} entries, limit {limits.sparse_entries}")
    lengths = {"indices": found.entries, "row": found.entries, "col": found.entries}
    lengths["indptr"] = 1 + shape[0 if word == "csr" else 1]
    for name in _PLACES[word]:
        if specs[name].shape[0] != lengths[name]:
            problem = f"has {specs[name].shape[0]} elements, {lengths[name]} are needed"
            raise FormatError("size_mismatch", f"array '{name}'", problem)
    stored = sum(dtypes.nbytes(spec.dtype, spec.shape[0]) or 0 for spec in specs.values() if spec.shape)
    dense = dtypes.nbytes(specs["data"].dtype, shape[0] * shape[1]) or 0
    if dense > max(limits.declared_bytes, limits.declared_ratio * stored):
        raise LimitError("limit", "array 'shape'", f"{dense} bytes as a dense matrix, for {stored} stored")
    return found


class SparseCheckpoint:
    """One sparse matrix. Its entries are loaded when they are first needed, and held until it is closed."""

    def __init__(self, arrays: Checkpoint, known: Parts, name: str, file: str) -> None:
        self._arrays = arrays
        self._parts = known
        self._loaded: _Entries | None = None
        dtype = known.specs["data"].dtype
        self.tensors = (TensorSpec(name, dtype, known.shape, file=file, encoding="sparse"),)
        self.findings: Sequence[Finding] = arrays.findings

    def read(self, spec: TensorSpec, window: Window = ()) -> NDArray[Any]:
        """``whole[window]`` of the dense matrix."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded.window(window)

    def close(self) -> None:
        """Closes the arrays."""
        self._loaded = None
        self._arrays.close()

    def _array(self, name: str) -> NDArray[Any]:
        return self._arrays.read(self._parts.specs[name])

    def _load(self) -> _Entries:
        import numpy as np

        shape, first, second = self._parts.shape, *_PLACES[self._parts.form]
        if self._parts.form == "coo":
            rows, columns = (_checked(self._array(name), name, size) for name, size in ((first, shape[0]), (second, shape[1])))
        else:
            major = 0 if self._parts.form == "csr" else 1
            minor = _checked(self._array("indices"), "indices", shape[1 - major])
            counts = _counts(self._array("indptr"), len(minor))
            places = np.repeat(np.arange(shape[major], dtype=np.int32), counts)
            rows, columns = (places, minor) if major == 0 else (minor, places)
        values = np.ascontiguousarray(self._array("data"))
        return _Entries(shape, (rows, columns), values, (None, None)).ordered(0)


@dataclass(slots=True)
class _Entries:
    """The entries of a matrix: where each is, what it is, and their order by row and by column, made when it is needed."""

    shape: tuple[int, int]
    places: tuple[NDArray[Any], NDArray[Any]]
    values: NDArray[Any]
    orders: tuple[Any, Any]

    def ordered(self, axis: int) -> _Entries:
        """The entries in the order of one axis."""
        import numpy as np

        order = np.argsort(self.places[axis], kind="stable")
        places = (self.places[0][order], self.places[1][order])
        return replace(self, places=places, values=self.values[order])

    def window(self, window: Window) -> NDArray[Any]:
        """The window, dense."""
        import numpy as np

        whole = (slice(None), slice(None))
        taken = [range(*cut.indices(size)) for cut, size in zip((*window, *whole[len(window) :]), self.shape, strict=True)]
        out = np.zeros([len(one) for one in taken], self.values.dtype)
        if 0 in out.shape:
            return out
        axis = 0 if len(taken[0]) * self.shape[1] <= len(taken[1]) * self.shape[0] else 1
        entries = self._along(axis)
        low, high = min(taken[axis]), max(taken[axis])
        some = slice(*np.searchsorted(entries.places[axis], (low, high + 1)))
        inside = [_positions(entries.places[one][some], taken[one]) for one in (0, 1)]
        kept = (inside[0] >= 0) & (inside[1] >= 0)
        np.add.at(out, (inside[0][kept], inside[1][kept]), entries.values[some][kept])
        return out

    def _along(self, axis: int) -> _Entries:
        if axis == 0:
            return self
        if self.orders[1] is None:
            self.orders = (None, self.ordered(1))
        other: _Entries = self.orders[1]
        return other


def _positions(places: NDArray[Any], taken: range) -> NDArray[Any]:
    """Where each place stands in a range; -1 where it does not."""
    import numpy as np

    steps, rest = np.divmod(places.astype(np.int64) - taken.start, taken.step)
    return np.where((rest == 0) & (steps >= 0) & (steps < len(taken)), steps, -1)


def _checked(indices: NDArray[Any], name: str, size: int) -> NDArray[Any]:
    """Indices as int32, none of them outside.

    Raises:
        FormatError: ``bad_header``.
    """
    import numpy as np

    if len(indices) and not (int(indices.min()) >= 0 and int(indices.max()) < size):
        worst = int(indices.max()) if int(indices.max()) >= size else int(indices.min())
        raise FormatError("bad_header", f"array '{name}'", f"index {worst} is outside of {size}")
    return indices.astype(np.int32)


def _counts(ends: NDArray[Any], entries: int) -> NDArray[Any]:
    """Entries of each row or column, from where each begins.

    Raises:
        FormatError: ``bad_header``; they do not begin at 0, do not end at the last entry, or fall.
    """
    import numpy as np

    if int(ends[0]) != 0 or int(ends[-1]) != entries:
        raise FormatError(
            "bad_header", "array 'indptr'", f"goes from {int(ends[0])} to {int(ends[-1])}, not from 0 to {entries}"
        )
    if bool(np.any(ends[1:] < ends[:-1])):
        raise FormatError("bad_header", "array 'indptr'", "falls")
    return np.diff(ends).astype(np.int64)
