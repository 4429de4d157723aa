"""The randomized spectra of a row: reads the stored values of its matrices, permutes them, takes what the columns need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ww_static import dtypes, seeding
from ww_static.layout.layers import LayerView
from ww_static.measuring import reading
from ww_static.measuring.surveys import Survey
from ww_static.options import Options
from ww_static.protocol import TensorSpec
from ww_static.seam import OpenCheckpoint
from ww_static.spectral import lanczos, upper
from ww_static.spectral.bulk import Bulk, bulk
from ww_static.spectral.eigen import Spectrum, exponent_for
from ww_static.spectral.gram import gram_bytes
from ww_static.spectral.missing import Missing
from ww_static.spectral.mp_fit import mp_fit
from ww_static.spectral.permutation import permutation_bytes, permuted
from ww_static.spectral.randomized import Randomized, Replica, replica_count

_ORDINARY = 30  # powers of two by which elements may differ from 1 with squares that float32 holds
_BLOCKS_BYTES = 2**24  # blocks in single and double precision beside a permuted matrix
_PERMUTATION_FLOPS = 300.0  # what permuting an element takes, in operations of a product of matrices
_PASSES_FLOPS = 800.0  # what a Lanczos run on W takes per element


@dataclass(frozen=True, slots=True)
class First:
    """The replica that has all its eigenvalues, and what the others need of it.

    Attributes:
        replica: its eigenvalues and counts.
        bulk: its edges, which are those of all replicas.
        floor: eigenvalues at or below it are noise.
    """

    replica: Replica
    bulk: Bulk | Missing
    floor: float


def randomized(
    checkpoint: OpenCheckpoint, view: LayerView, tensor: Survey, options: Options, backend: str
) -> Randomized | Missing:
    """The replicas of a row.

    Replica r permutes all elements of each matrix in the dtype they are stored in, by a generator made from the seed of the run,
    the name, the part, r and the number of the matrix: of nothing that depends on workers, shards or the order of work.

    Args:
        checkpoint: the open model.
        view: which matrices.
        tensor: the survey of their tensor.
        options: the seed, and which replicas are computed whole.
        backend: what computes whole spectra.

    Returns:
        The replicas; or Missing: ``not_applicable`` (a product of factors has no stored elements), ``zero_matrix``.

    Raises:
        FormatError: the values cannot be had.
        NotConvergedError: LAPACK gave up.
    """
    first = first_replica(checkpoint, view, tensor, options, backend)
    if isinstance(first, Missing):
        return first
    # the map of a file lives as long as an array in it: its pages are looked up once, not for every replica
    held = next(reading.stored_blocks(checkpoint, view.spec, view.matrices[0]))
    others = range(1, replicas_of(view))
    replicas = [further(checkpoint, view, tensor, options, backend, number, first) for number in others]
    del held
    return joined(view, first, replicas)


def first_replica(
    checkpoint: OpenCheckpoint, view: LayerView, tensor: Survey, options: Options, backend: str
) -> First | Missing:
    """Replica 0; the arguments and errors of this and the next one are those of `randomized`."""
    if view.left is not None:
        return Missing("not_applicable")
    source = _source(checkpoint, view, tensor, options, backend)
    whole = source.whole(0)
    spectra, values = whole.spectra, source.pooled(whole.spectra)
    if not values[-1] > 0:
        return Missing("zero_matrix")
    floor = max(one.floor for one in spectra) * source.factor
    found = bulk(values, source.n, len(spectra), floor, source.factor)
    return First(source.counted(whole, found), found, floor)


def further(
    checkpoint: OpenCheckpoint, view: LayerView, tensor: Survey, options: Options, backend: str, number: int, first: First
) -> Replica:
    """Another replica, which is counted above the edges of the first."""
    source = _source(checkpoint, view, tensor, options, backend)
    if options.full_replicas:
        return source.counted(source.whole(number), first.bulk)
    return source.upper_ends(number, first.bulk)


def joined(view: LayerView, first: First, others: Sequence[Replica]) -> Randomized:
    """All replicas of a row, in their order."""
    assert view.n is not None  # a view without matrices has no replica
    assert view.m is not None
    replicas = (first.replica, *others)
    fits = tuple(mp_fit(one.eigenvalues, view.n / view.m) for one in replicas if one.eigenvalues is not None)
    return Randomized(replicas, first.bulk, fits, first.floor)


@dataclass(frozen=True, slots=True)
class _Whole:
    """The spectra of a replica, what subtracting the means can add to their largest values, and its matrix when it has only one."""

    replica: int
    spectra: list[Spectrum]
    gains: list[float]
    only: tuple[upper.Matrix, np.random.Generator] | None


@dataclass(frozen=True, slots=True)
class _Source:
    """The matrices of a row, permuted anew whenever they are asked for: one is held at a time.

    Attributes:
        n, m: sides of one matrix.
        exponent: of all of them.
        factor: ESD units per eigenvalue.
        size: root mean square of the elements times 2^-exponent; None when it is to be found for each matrix.
    """

    checkpoint: OpenCheckpoint
    view: LayerView
    n: int
    m: int
    exponent: int
    factor: float
    size: float | None
    seed: int
    backend: str

    def pooled(self, spectra: Sequence[Spectrum]) -> NDArray[np.float64]:
        """All eigenvalues, in the units of the row, ascending."""
        return np.sort(np.concatenate([one.eigenvalues for one in spectra])) * self.factor

    def matrix(self, replica: int, number: int) -> tuple[upper.Matrix, np.random.Generator]:
        """A permuted matrix, and the generator that permuted it."""
        spec = self.view.spec
        generator = seeding.generator([self.seed, spec.name, self.view.part], replica, number)
        blocks = reading.stored_blocks(self.checkpoint, spec, self.view.matrices[number])
        stored = permuted(blocks, self.n * self.m, generator).reshape(self.n, self.m)
        make = partial(_matrix, stored, reading.value_dtype(spec), self.exponent)
        W = make(0)
        size = self.size if self.size is not None else _root_mean_square(W)
        further = int(np.frexp(size)[1]) if size > 0 else 0
        return make(further) if abs(further) > _ORDINARY else W, generator

    def whole(self, replica: int) -> _Whole:
        """All eigenvalues of each matrix, and what subtracting its mean can add to the largest."""
        spectra, gains, last = [], [], None
        for number in range(len(self.view.matrices)):
            last = None  # else it would be held while the next one is made
            last = self.matrix(replica, number)
            spectra.append(upper.spectrum(last[0], self.backend))
            gains.append(upper.gain(last[0]))
        return _Whole(replica, spectra, gains, last if len(spectra) == 1 else None)

    def counted(self, found: _Whole, edges: Bulk | Missing) -> Replica:
        """A replica whose eigenvalues are known; where its mean may matter one of several matrices is made again."""
        values = self.pooled(found.spectra)
        if isinstance(edges, Missing):
            return Replica(float(values[-1]), None, None, values)
        edge = edges.tw_edge / self.factor
        centered = 0
        for number, (one, gain) in enumerate(zip(found.spectra, found.gains, strict=True)):
            if float(one.eigenvalues[-1]) + gain > edge:
                W, generator = found.only or self.matrix(found.replica, number)
                centered += upper.centered_above(W, float(one.eigenvalues[-1]), edge, generator, self.backend)
                del W
        traps = len(values) - int(np.searchsorted(values, edges.tw_edge, side="right"))
        return Replica(float(values[-1]), traps, centered, values)

    def upper_ends(self, replica: int, found: Bulk | Missing) -> Replica:
        """A replica of which only the upper ends are computed."""
        edge = math.inf if isinstance(found, Missing) else found.tw_edge / self.factor
        ends = []
        for number in range(len(self.view.matrices)):
            W, generator = self.matrix(replica, number)
            ends.append(upper.upper_end(W, edge, generator, self.backend))
            del W
        largest = max(one.largest for one in ends) * self.factor
        if isinstance(found, Missing):
            return Replica(largest, None, None)
        return Replica(largest, sum(one.above for one in ends), sum(one.above_centered for one in ends))


def _source(checkpoint: OpenCheckpoint, view: LayerView, tensor: Survey, options: Options, backend: str) -> _Source:
    assert view.n is not None  # a view without matrices has no row
    assert view.m is not None
    found = tensor.moments
    exponent = exponent_for(found.abs_max if found else None, options.precision, view.m)
    factor = view.esd_scale / view.n if options.esd_norm == "1/N" else view.esd_scale
    plain = len(view.matrices) == 1 and view.part is None and exponent == 0
    size = math.sqrt(found.mean_square) if found and plain else None
    return _Source(checkpoint, view, view.n, view.m, exponent, factor, size, options.seed, backend)


def _root_mean_square(W: upper.Matrix) -> float:
    def squared(block: NDArray[np.float64]) -> float:
        return float(np.vdot(block, block))

    n, m = W.shape
    return math.sqrt(sum(map(squared, W.blocks())) / (n * m))


def _matrix(stored: NDArray[np.unsignedinteger], dtype: str, exponent: int, further: int) -> upper.Matrix:
    """A matrix with the functions that widen its rows, scaled by 2^-exponent, and by 2^-further more in single precision."""

    def widened(rows: NDArray[np.unsignedinteger]) -> NDArray[np.float64]:
        values = dtypes.widen(rows, dtype)
        return np.ldexp(values, -exponent) if exponent else values

    def narrowed(rows: NDArray[np.unsignedinteger]) -> NDArray[np.float32]:
        if exponent or further:
            return np.ldexp(dtypes.widen(rows, dtype), -(exponent + further)).astype(np.float32)
        return dtypes.narrow(rows, dtype)

    return upper.Matrix(stored, widened, narrowed, further)


def _itemsize(spec: TensorSpec) -> int:
    """Bytes of a value as it is read."""
    return dtypes.numpy_dtype(reading.value_dtype(spec)).itemsize


def random_bytes(view: LayerView, backend: str, full: int = 1) -> int:
    """Most private memory, in bytes, that the replicas of a row hold at one time, `full` of them with all eigenvalues."""
    if view.left is not None or not view.n or not view.m:
        return 0
    count, itemsize = view.n * view.m, _itemsize(view.spec)
    lanczos_bytes = 8 * (lanczos.MOST_STEPS + 1) * view.m + 8 * min(view.m, 1024) ** 2 + _BLOCKS_BYTES
    kept = 8 * (full + 6) * (view.num_evals or 0)
    return max(permutation_bytes(count, itemsize), itemsize * count + max(gram_bytes(view.m, backend), lanczos_bytes)) + kept


def replicas_of(view: LayerView) -> int:
    """How many replicas a row gets."""
    return replica_count((view.n or 0) * (view.m or 0))


def random_flops(view: LayerView, options: Options) -> float:
    """Estimated cost of the replicas of a row, in floating-point operations."""
    if not options.randomizes or view.left is not None or not view.n or not view.m:
        return 0.0
    count, replicas = view.n * view.m, replicas_of(view)
    full = replicas if options.full_replicas else 1
    whole = view.n * view.m**2 + 4.5 * view.m**3
    end = count * min(0.5 * view.m, _PASSES_FLOPS)
    return float(len(view.matrices) * (replicas * count * _PERMUTATION_FLOPS + full * whole + (replicas - full) * end))
