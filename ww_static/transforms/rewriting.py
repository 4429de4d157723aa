"""Tensors on their way into a new file: copied as they are, or with singular components of their matrices taken out.

A worker may not write files. It maps a file that its parent has made, as large as it will be, and puts the values there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ww_static import dtypes, storage
from ww_static.errors import NonFiniteError, NotConvergedError
from ww_static.layout.geometry import Matrix
from ww_static.layout.layers import LayerView
from ww_static.measuring import analysis, reading
from ww_static.measuring.measured import measure
from ww_static.measuring.metrics import METRICS
from ww_static.measuring.resampling import generators
from ww_static.measuring.surveys import Survey
from ww_static.options import Options
from ww_static.protocol import TensorSpec
from ww_static.rows import ChangeRow
from ww_static.seam import OpenCheckpoint
from ww_static.spectral.components import Cut, trap_count, without_largest, without_smallest
from ww_static.spectral.eigen import Method, spectrum_of_blocks
from ww_static.spectral.eigenvectors import eigenvector_bytes, eigenvector_flops, eigenvectors
from ww_static.spectral.gram import Blocks, block_rows, safe_exponent
from ww_static.spectral.missing import Missing
from ww_static.spectral.permutation import permutation_bytes, permuted
from ww_static.transforms.transform import COUNTS, Transform
from ww_static.workers.tasks import Target, open_planned

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COPIED_BYTES = 2**23
_BLOCKS = 2  # of a matrix that are held while a cut is applied, beside those that its eigenvectors take
_ELEMENTS = 2**20  # whose places in a permutation are looked up at a time


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor goes.

    Attributes:
        path: a file that is large enough.
        offset: its first byte there.
    """

    path: str
    offset: int


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A tensor to transform.

    Attributes:
        views: the rows that its matrices make, none of them in two.
        place: where it goes.
        transform, options, backend: what is done, the seed, and what computes spectra.
        method: how spectra are computed.
    """

    views: tuple[LayerView, ...]
    place: Place
    transform: Transform
    options: Options
    backend: str
    method: Method


def copy_tensors(target: Target, copies: Sequence[tuple[str, Place]]) -> None:
    """Copies some tensors, named, as they are stored (a task)."""
    checkpoint = open_planned(target)
    for name, place in copies:
        _copy(checkpoint, checkpoint.spec(name), place)
    checkpoint.check_unchanged()


def rewrite_tensor(target: Target, rewrite: Rewrite) -> list[ChangeRow]:
    """Copies a tensor and transforms its matrices; a row whose transform fails stays as it was, and says why (a task)."""
    checkpoint = open_planned(target)
    spec = rewrite.views[0].spec
    _copy(checkpoint, spec, rewrite.place)
    survey = analysis.survey(checkpoint, spec)
    out = _mapped(rewrite.place, dtypes.numpy_dtype(spec.dtype), spec.shape)
    rows = []
    for view in rewrite.views:
        try:
            row = _transformed(checkpoint, view, survey, rewrite, out)
        except (NonFiniteError, NotConvergedError, OverflowError, MemoryError) as error:
            for matrix in view.matrices:
                _restore(checkpoint, spec, matrix, out)
            row = failed(view, rewrite.transform, _reason(error), str(error) or None)
        rows.append(row)
    checkpoint.check_unchanged()
    return rows


def failed(view: LayerView, transform: Transform, reason: str, message: str | None = None) -> ChangeRow:
    """The row of a view that should have been transformed and was copied."""
    return change(view, transform, status="failed", reason=reason, message=message)


def change(view: LayerView, transform: Transform, **values: Any) -> ChangeRow:
    """A row about a view: what it is, what was asked for, and what came of it."""
    spec = view.spec
    return ChangeRow(
        file=spec.file, name=spec.name, part=view.part, kind=view.kind, shape=spec.shape, dtype=spec.dtype, N=view.n, M=view.m,
        rf=len(view.matrices) or None, transform=transform.name, method=transform.method, **values,
    )  # fmt: skip


def _reason(error: Exception) -> str:
    known = {NonFiniteError: "nonfinite", NotConvergedError: "not_converged", OverflowError: "out_of_range"}
    return known.get(type(error), "memory_limit")


def _mapped(place: Place, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The values of a tensor in the new file, shared with it; an empty one has no bytes to map."""
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.memmap(place.path, dtype, "r+", place.offset, shape)


def _copy(checkpoint: OpenCheckpoint, spec: TensorSpec, place: Place) -> None:
    """The stored values of a tensor, bit for bit; bytes where elements do not fill them, or are codes of a quantized weight."""
    if dtypes.storage_dtype(spec.dtype).packed or spec.encoding == "quantized":
        assert spec.extent is not None  # `placement` has looked
        out = _mapped(place, np.dtype(np.uint8), (spec.extent.nbytes,))
        descriptor = storage.open_file(spec.extent.path)
        try:
            for start in range(0, len(out), _COPIED_BYTES):
                length = min(_COPIED_BYTES, len(out) - start)
                raw = storage.read_at(descriptor, spec.extent.offset + start, length, f"tensor '{spec.name}'")
                out[start : start + length] = np.frombuffer(raw, np.uint8)
        finally:
            os.close(descriptor)
        return
    values = _mapped(place, dtypes.numpy_dtype(spec.dtype), spec.shape)
    for window in reading.windows(spec.shape, _COPIED_BYTES):
        values[window] = checkpoint.read(spec, window)


def _restore(checkpoint: OpenCheckpoint, spec: TensorSpec, matrix: Matrix, out: NDArray[Any]) -> None:
    for window in reading.matrix_windows(spec.shape, matrix):
        out[window] = checkpoint.read(spec, window)


def _transformed(checkpoint: OpenCheckpoint, view: LayerView, survey: Survey, rewrite: Rewrite, out: NDArray[Any]) -> ChangeRow:
    if survey.moments is None or survey.moments.nans or survey.moments.infinities:
        raise NonFiniteError("elements are NaN or infinite")
    exponent = safe_exponent(survey.moments.abs_max)
    if rewrite.transform.name == "sharpen":
        return _sharpened(_Permuted(checkpoint, view, exponent, rewrite), out)
    k = _count(checkpoint, view, survey, rewrite)
    if isinstance(k, Missing):
        return change(view, rewrite.transform, status="unchanged", reason=k.reason)
    m, rf = view.m or 0, len(view.matrices)
    each = -(-abs(k) // rf)
    if k == 0 or (k > 0 and each >= m):
        return change(view, rewrite.transform, status="unchanged", reason="k_zero" if k == 0 else "all_kept", k=k, removed=0)
    removed = total = 0.0
    for matrix in view.matrices:
        blocks, _, m = reading.matrix_blocks(checkpoint, view.spec, matrix)
        pairs = eigenvectors(blocks, m, exponent, rewrite.backend)
        cut = without_smallest(pairs, m - each) if k > 0 else without_largest(pairs, min(each, m))
        removed, total = removed + cut.removed, total + float(pairs.eigenvalues.sum())
        del pairs  # all of its vectors
        reading.put_blocks(out, matrix, (_stored(block, view.spec) for block in _applied(cut, blocks)))
    count = rf * (m - each if k > 0 else min(each, m))
    return change(view, rewrite.transform, status="changed", k=k, **_amounts(count, removed, total, exponent))


def _applied(cut: Cut, blocks: Blocks) -> Any:
    return (cut.apply(block) for block in blocks())


def _amounts(count: int, removed: float, total: float, exponent: int) -> dict[str, Any]:
    """How much was taken out: components, their share of sum lambda, and the Frobenius norm of the change."""
    with np.errstate(over="ignore"):
        size = float(np.ldexp(math.sqrt(removed), exponent))
    share = removed / total if total > 0 else 0.0
    return {"removed": count, "removed_share": share, "delta_norm": size if math.isfinite(size) else None}


def _stored(values: NDArray[np.float64], spec: TensorSpec) -> NDArray[Any]:
    """Values rounded to the storage dtype of a tensor.

    Raises:
        OverflowError: one is too large for it.
    """
    found = dtypes.store(values, spec.dtype)
    if not np.isfinite(dtypes.widen(found, spec.dtype)).all():
        raise OverflowError(f"a transformed element is too large for {spec.dtype}")
    return found


def _count(checkpoint: OpenCheckpoint, view: LayerView, survey: Survey, rewrite: Rewrite) -> int | Missing:
    """How many components to keep, over all matrices; a negative number of largest ones to take out."""
    transform = rewrite.transform
    if transform.percent is not None:
        return int(transform.percent * (view.num_evals or 0))
    spectra = analysis.spectra_of_view(checkpoint, view, survey, rewrite.method, rewrite.backend, "exact")
    found = METRICS[COUNTS[transform.method or ""]].compute(measure(tuple(spectra), view.esd_scale, rewrite.options))
    assert isinstance(found, int | Missing)
    return found


@dataclass(frozen=True, slots=True)
class _Permuted:
    """The matrices of a row with their elements in random order; made anew whenever they are asked for."""

    checkpoint: OpenCheckpoint
    view: LayerView
    exponent: int
    rewrite: Rewrite

    def matrix(self, number: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """A matrix as it is stored, shape (N, M); the place there of each element of the permuted one; the permuted one."""
        stored = reading.stored_matrix(self.checkpoint, self.view.spec, self.view.matrices[number])
        count = stored.size
        kind = np.uint32 if count <= 2**32 else np.uint64
        places = permuted(
            [np.arange(count, dtype=kind)], count, generators(self.view, self.rewrite.options.seed, "sharpen")(number)
        )
        flat, shuffled = stored.reshape(-1), np.empty(count, stored.dtype)
        for start in range(0, count, _ELEMENTS):
            shuffled[start : start + _ELEMENTS] = flat[places[start : start + _ELEMENTS]]
        return stored, places, shuffled.reshape(stored.shape)

    def blocks(self, shuffled: NDArray[Any]) -> Blocks:
        """Row blocks of a permuted matrix, float64."""
        step = block_rows(shuffled.shape[1])
        return lambda: (dtypes.widen(shuffled[at : at + step], self.view.spec.dtype) for at in range(0, len(shuffled), step))


def _sharpened(source: _Permuted, out: NDArray[Any]) -> ChangeRow:
    """Takes the traps out: singular components of the permuted matrices above their Tracy-Widom edge."""
    view, transform, backend = source.view, source.rewrite.transform, source.rewrite.backend
    spectra = []
    for number in range(len(view.matrices)):
        shuffled = source.matrix(number)[2]
        n, m = shuffled.shape
        spectra.append(spectrum_of_blocks(source.blocks(shuffled), n, m, source.exponent, "gram", backend))
        del shuffled
    pooled = np.sort(np.concatenate([one.eigenvalues for one in spectra]))
    traps = trap_count(pooled, view.n or 0, len(spectra), max(one.floor for one in spectra))
    if isinstance(traps, Missing) or traps == 0:
        reason = traps.reason if isinstance(traps, Missing) else "no_trap"
        return change(view, transform, status="unchanged", reason=reason, removed=0)
    least = pooled[-traps]
    removed = 0.0
    for number, spectrum in enumerate(spectra):
        count = len(spectrum.eigenvalues) - int(np.searchsorted(spectrum.eigenvalues, least, side="left"))
        if count:
            removed += _untrapped(source, number, count, out)
    return change(view, transform, status="changed", **_amounts(traps, removed, float(pooled.sum()), source.exponent))


def _untrapped(source: _Permuted, number: int, count: int, out: NDArray[Any]) -> float:
    """One matrix without the largest components of its permuted form; gives the sum of lambda that went."""
    stored, places, shuffled = source.matrix(number)
    blocks = source.blocks(shuffled)
    cut = without_largest(eigenvectors(blocks, shuffled.shape[1], source.exponent, source.rewrite.backend), count)
    flat, start = stored.reshape(-1), 0
    for block in blocks():
        rounded = _stored(cut.apply(block), source.view.spec).reshape(-1)
        flat[places[start : start + rounded.size]] = rounded
        start += rounded.size
    matrix = source.view.matrices[number]
    reading.put_blocks(out, matrix, reading.blocks_like(out.shape, matrix, stored))
    return cut.removed


def bytes_needed(view: LayerView, transform: Transform, backend: str) -> int:
    """Most private memory, in bytes, that the transform of a row holds at one time."""
    if not view.n or not view.m:
        return 0
    count, size = view.n * view.m, dtypes.numpy_dtype(view.spec.dtype).itemsize
    vectors = eigenvector_bytes(view.m) + _BLOCKS * 8 * view.m * block_rows(view.m)
    if transform.name == "smooth":
        return vectors if transform.percent is not None else max(vectors, analysis.memory_wanted(view, backend))
    index = 4 if count <= 2**32 else 8
    return max(permutation_bytes(count, index) + (index + size) * count, (index + 2 * size) * count + vectors)


def flops_needed(view: LayerView, transform: Transform) -> float:
    """What the transform of a row takes, in operations of a product of matrices."""
    n, m = view.n or 0, view.m or 0
    each = eigenvector_flops(n, m) + 2.0 * n * m**2
    return analysis.flops(view) + len(view.matrices) * (each + (1000.0 * n * m if transform.name == "sharpen" else 0.0))
