"""One layer -> one row: survey a tensor in one pass, take the spectra of its matrices, fill the columns."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ww_static import dtypes
from ww_static.budget import Need, Room
from ww_static.errors import FormatError, NonFiniteError, NotConvergedError
from ww_static.layout.geometry import Matrix, Taps
from ww_static.layout.layers import LayerView
from ww_static.measuring import (
    blanks,
    crosschecking,
    localizing,
    phase_metrics,
    randomizing,
    reading,
    resampling,
    truncating,
    windowing,
)
from ww_static.measuring.codes import codes_of
from ww_static.measuring.measured import Measured, Metric, Value, measure
from ww_static.measuring.metrics import METRICS, OF_FAST, doubles
from ww_static.measuring.surveys import Survey
from ww_static.options import Options
from ww_static.protocol import TensorSpec
from ww_static.rows import LayerRow
from ww_static.seam import OpenCheckpoint
from ww_static.spectral import lapack, stacked
from ww_static.spectral.eigen import (
    LARGEST_SVD,
    Method,
    Spectrum,
    dtype_of,
    exponent_for,
    precision_for,
    spectrum_of_blocks,
    svd_bytes,
    triangle,
)
from ww_static.spectral.gram import gram_bytes, safe_exponent, scaled
from ww_static.spectral.lowrank import exponents, product_bytes, product_flops, product_spectrum
from ww_static.spectral.minor import Minor
from ww_static.spectral.missing import Missing
from ww_static.spectral.randomized import Randomized
from ww_static.spectral.stacked import stacked_bytes, stacked_spectra
from ww_static.spectral.statistics import Moments, merged, moments, nonfinite
from ww_static.spectral.steps import squared_steps
from ww_static.spectral.vectors import Vectors


def survey(checkpoint: OpenCheckpoint, spec: TensorSpec) -> Survey:
    """Reads every value of a tensor once, block by block.

    Raises:
        FormatError: the values cannot be had.
    """
    digest = hashlib.sha256(f"{spec.dtype}\n{','.join(map(str, spec.shape))}\n".encode())
    numbers = dtypes.storage_dtype(spec.dtype).family != "complex"
    total, minor = Moments(), Minor(spec.shape)
    steps = np.zeros(len(spec.shape))
    rounding: float | None = None
    for window in reading.windows(spec.shape):
        stored, squared = checkpoint.read_rounded(spec, window)
        if squared is not None:
            rounding = (rounding or 0.0) + squared * (stored.size / math.prod(spec.shape))
        block = np.ascontiguousarray(stored).reshape(-1)
        digest.update(block.view(np.uint8).data)
        if numbers:
            values = dtypes.widen(block, reading.value_dtype(spec))
            total = merged(total, moments(values))
            minor.take(values)
        else:
            total = merged(total, nonfinite(block))
        if spec.encoding == "quantized" and len(steps):
            steps += squared_steps(dtypes.widen(stored, reading.value_dtype(spec))) * (stored.size / math.prod(spec.shape))
    step = float(steps.max()) if spec.encoding == "quantized" and len(steps) else None
    sample = minor.rank(dtypes.storage_dtype(spec.dtype).spacing)
    return Survey(digest.hexdigest(), total, (), step, rounding, sample)


def memory_needed(view: LayerView, backend: str = lapack.NUMPY, precision: str = "exact") -> int:
    """Least private memory, in bytes, in which the row can be computed: a matrix or a stack at a time, and all eigenvalues."""
    if not view.n or not view.m:
        return 0
    kept = 24 * (view.num_evals or 0) + reading.held_bytes(view.spec)
    if view.left is not None and view.sides is not None:
        return product_bytes(*view.sides, view.left.shape[1]) + kept
    if _is_stack(view):
        return stacked_bytes(len(view.matrices), view.n, view.m) + kept
    return gram_bytes(view.m, backend, dtype_of(precision, view.m)) + kept


def memory_wanted(view: LayerView, backend: str = lapack.NUMPY, precision: str = "exact") -> int:
    """Private memory, in bytes, with which small singular values are resolved as well."""
    single = view.left is None and not _is_stack(view)  # a matrix at a time
    if single and view.n and view.m and view.m <= LARGEST_SVD and precision_for(precision, view.m) == "exact":
        return max(memory_needed(view, backend), svd_bytes(view.n, view.m) + reading.held_bytes(view.spec))
    return memory_needed(view, backend, precision)


def memory_permuted(view: LayerView, options: Options, backend: str = lapack.NUMPY) -> int:
    """Least private memory, in bytes, in which the row can be computed with what was asked for about its permuted matrices."""
    if not options.randomizes or not view.m:
        return 0
    replicas = randomizing.replicas_of(view)
    return randomizing.random_bytes(view, backend, replicas if options.full_replicas else 1) + reading.held_bytes(view.spec)


def _memory_searched(view: LayerView, options: Options, backend: str) -> int:
    """The same for the K largest eigenvalues: of a dense matrix with room for all, should the search give up."""
    searched = truncating.needed_bytes(view, options)
    return searched if view.spec.encoding == "sparse" else max(searched, memory_needed(view, backend))


def memory_of_vectors(view: LayerView, options: Options) -> int:
    """The same for its eigenvectors."""
    nbytes = localizing.vectors_bytes(view, options)
    return nbytes + reading.held_bytes(view.spec) if nbytes else 0


def flops(view: LayerView) -> float:
    """Estimated floating-point operations of a row: N M^2 for X, and kappa M^3 for its eigenvalues, per matrix.

    kappa is 4.5 where they are reduced in one stage, 2.4 where in two, in the time of a product: a measure, not a count.
    """
    if not view.n or not view.m:
        return 0.0
    if view.left is not None and view.sides is not None:
        return len(view.matrices) * product_flops(*view.sides, view.left.shape[1])
    kappa = 2.4 if lapack.is_two_stage(view.m) else 4.5
    return float(len(view.matrices) * (view.n * view.m**2 + kappa * view.m**3))


def need(view: LayerView, options: Options) -> Need:
    """What the row of a view will take: found out where the model is opened, for a process that loads no numpy."""
    searched, short = truncating.applies(view, options), truncating.shortens(view, options)

    def room(backend: str) -> Room:
        least = _memory_searched(view, options, backend) if searched else memory_needed(view, backend, options.precision)
        wanted = least if searched else memory_wanted(view, backend, options.precision)
        package = least + crosschecking.PACKAGE_BYTES if options.asks("crosscheck") and least else 0
        if short:
            return Room(least, wanted, (("crosscheck", package),))
        permuted, located = memory_permuted(view, options, backend), memory_of_vectors(view, options)
        return Room(least, wanted, (("randomize", permuted), ("vectors", located), ("crosscheck", package)))

    whole = view.left is not None or _is_stack(view)
    parts = 0 if whole else len(view.matrices)
    further = resampling.resampling_flops(view, options) + crosschecking.crosscheck_flops(view, options)
    if short:
        own, parts = (truncating.needed_flops(view, options), 0) if searched else (flops(view), parts)
        return Need(own, room(lapack.NUMPY), room(lapack.BEST), parts, further)
    permuting = randomizing.random_flops(view, options)
    further += permuting + windowing.farms_flops(view, options) + localizing.vectors_flops(view, options)
    copies = randomizing.replicas_of(view) if permuting else 0
    return Need(flops(view), room(lapack.NUMPY), room(lapack.BEST), parts, further, copies, permuting)


def analyze_view(
    checkpoint: OpenCheckpoint,
    view: LayerView,
    tensor: Survey,
    options: Options,
    method: Method = "auto",
    backend: str = lapack.BEST,
    known: Sequence[Spectrum] = (),
    lacking: Collection[str] = (),
    permuted: Randomized | Missing | None = None,
) -> LayerRow:
    """The row of one view.

    Args:
        checkpoint: the open model.
        view: which matrices; a view with a reason gives a skipped row and reads nothing.
        tensor: the survey of its tensor.
        options: what to compute.
        method: ``auto``, or ``gram`` when there is no room for singular values; then small ones are not resolved, and
            what depends on them is null.
        backend: what computes X and its eigenvalues, one for a whole run; a process that does not have it takes numpy.
        known: the spectra of all its matrices, when they have been taken already.
        lacking: column groups for which there is no room; they are null.
        permuted: its permuted matrices, when they have been taken already.
    """
    if view.reason is not None:
        return blanks.skipped(checkpoint.reader, view, tensor, options, view.reason)
    try:
        if view.left is not None:
            spectra = _products(checkpoint, view, tensor)
        elif truncating.applies(view, options):
            spectra = [_largest(checkpoint, view, tensor, options, backend)]
        else:
            spectra = list(known) or spectra_of_view(checkpoint, view, tensor, method, backend, options.precision)
            if truncating.shortens(view, options):
                spectra = [truncating.shortened(one, options) for one in spectra]
        row = phase_metrics.with_phase(view, tensor, measure(tuple(spectra), view.esd_scale, options))
        row = resampling.resampled(view, row, options)
        row = crosschecking.crosschecked(row, options, lacking)
        if "tail" in options.metrics and row.precision == "exact" and not row.missing:
            row = replace(row, farms=windowing.farms(checkpoint, view, row))
        if options.randomizes and not row.missing:
            row = replace(row, replicas=permuted or _replicas(checkpoint, view, tensor, options, backend, lacking))
        if options.asks("vectors") and row.precision == "exact" and not row.missing:
            row = replace(row, vectors=_vectors(checkpoint, view, row, backend, lacking))
    except NonFiniteError as error:
        return blanks.failed(
            checkpoint.reader, view, tensor, options, "nonfinite", str(error) if view.left is not None else None
        )
    except NotConvergedError as error:
        return blanks.failed(checkpoint.reader, view, tensor, options, "not_converged", str(error))
    except FormatError as error:
        return blanks.failed(checkpoint.reader, view, tensor, options, error.category, error.problem)
    row = replace(row, codes=codes_of(view, tensor, row))
    return _success(checkpoint.reader, view, tensor, options, row)


def _largest(checkpoint: OpenCheckpoint, view: LayerView, tensor: Survey, options: Options, backend: str) -> Spectrum:
    """The K largest eigenvalues of a row; where the search gives up, out of all, if these take no more memory.

    Raises:
        NonFiniteError, NotConvergedError, FormatError: what makes the row fail.
    """
    exponent = safe_exponent(tensor.moments.abs_max) if tensor.moments else 0
    try:
        return truncating.spectrum(checkpoint, view, exponent, options)
    except NotConvergedError:  # many equal eigenvalues, or a flat spectrum
        if memory_needed(view, backend) > _memory_searched(view, options, backend):
            raise
    (whole,) = spectra_of_view(checkpoint, view, tensor, "gram", backend, options.precision)
    return truncating.shortened(whole, options)


def _replicas(
    checkpoint: OpenCheckpoint, view: LayerView, tensor: Survey, options: Options, backend: str, lacking: Collection[str]
) -> Randomized | Missing:
    """The permuted matrices of a row, which cost only their own columns when they cannot be had."""
    if "randomize" in lacking:
        return Missing("memory_limit")
    try:
        return randomizing.randomized(checkpoint, view, tensor, options, backend)
    except NotConvergedError:
        return Missing("not_converged")


def _vectors(
    checkpoint: OpenCheckpoint, view: LayerView, row: Measured, backend: str, lacking: Collection[str]
) -> Vectors | Missing:
    """The eigenvectors of a row, under the same rule."""
    if "vectors" in lacking:
        return Missing("memory_limit")
    try:
        return localizing.vectors(checkpoint, view, row, backend)
    except NotConvergedError:
        return Missing("not_converged")


def spectra_of_view(
    checkpoint: OpenCheckpoint, view: LayerView, tensor: Survey, method: Method, backend: str, precision: str
) -> list[Spectrum]:
    """The spectra of all matrices of a view that is no product."""
    if isinstance(view.matrices, Taps) and _is_stack(view):
        exponent = safe_exponent(tensor.moments.abs_max) if tensor.moments else 0
        return stacked_spectra(reading.stacked_taps(checkpoint, view.spec, view.matrices), exponent, method)
    return spectra_of(checkpoint, view, view.matrices, tensor, method, backend, precision)


def spectra_of(
    checkpoint: OpenCheckpoint,
    view: LayerView,
    matrices: Sequence[Matrix],
    tensor: Survey,
    method: Method,
    backend: str,
    precision: str,
) -> list[Spectrum]:
    """The spectra of some matrices of a view that is no product; the other arguments are those of `analyze_view`.

    Raises:
        NonFiniteError, NotConvergedError, FormatError: what makes the whole row fail.
    """
    precision = precision_for(precision, view.m or 0)
    exponent = exponent_for(tensor.moments.abs_max if tensor.moments else None, precision, view.m or 0)
    single = precision == "fast" and exponent == 0
    spectra = []
    for matrix in matrices:
        blocks, n, m = reading.matrix_blocks(checkpoint, view.spec, matrix, single)
        spectra.append(spectrum_of_blocks(blocks, n, m, exponent, method, backend, precision))
    return spectra


def _is_stack(view: LayerView) -> bool:
    """Whether the matrices of a row are so many and so small that they are computed at once."""
    small = (view.m or 0) <= stacked.LARGEST and math.prod(view.spec.shape) <= stacked.MOST_ELEMENTS
    return isinstance(view.matrices, Taps) and len(view.matrices) > 1 and small


def _products(checkpoint: OpenCheckpoint, view: LayerView, tensor: Survey) -> list[Spectrum]:
    """The spectra of s B A, for every matrix of A.

    Raises:
        NonFiniteError: an element of either factor is NaN or infinite.
    """
    assert view.left is not None  # the caller has looked
    found = [one.moments for one in tensor.factors]
    nans, infinities = (sum(getattr(one, field) for one in found if one) for field in ("nans", "infinities"))
    if nans + infinities:
        raise NonFiniteError(f"{nans} NaN and {infinities} infinite elements in the two factors")
    (a, b), r = view.tensors, view.left.shape[1]
    of_a, of_b = (one.abs_max if one else 1.0 for one in found)
    e_b, e_a, scale, exponent = exponents(of_b, of_a, 1.0 if view.factor is None else view.factor)
    R_B = triangle(scaled(reading.streamed_blocks(checkpoint, b, view.left, "rows"), e_b), r)
    spectra = []
    for matrix in view.matrices:
        R_A = triangle(scaled(reading.streamed_blocks(checkpoint, a, matrix, "columns"), e_a), r)
        spectra.append(product_spectrum(R_B, R_A, max(view.left.shape[0], matrix.shape[1]), scale, exponent))
    return spectra


def _success(reader: str, view: LayerView, tensor: Survey, options: Options, row: Measured) -> LayerRow:
    values: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for name, metric in METRICS.items():
        value = _value(name, metric, row) if options.asks(metric.group) else Missing("not_requested")
        if isinstance(value, Missing):
            reasons[name] = value.reason
        elif metric.group == "esd" and options.esd == "f32":
            rounded = _rounded(value)
            if rounded is None:
                reasons[name] = "out_of_range"
            else:
                values[name] = rounded
        else:
            values[name] = value
    floor = row.in_units(row.floor) if row.floor > 0 else 0.0
    return LayerRow(
        **blanks.identity(reader, view, tensor, options), **blanks.shape(view) | {"num_evals": row.m}, **values,
        status="success",
        reason=row.fit.reason if isinstance(row.fit, Missing) else None,
        has_esd=True,
        warning_codes=row.codes,
        null_reasons=reasons,
        method="svd" if any(one.method == "svd" for one in row.spectra) else row.spectra[0].method,
        eig_backend=min((one.backend for one in row.spectra), key=lambda name: name != lapack.NUMPY),
        precision=row.precision,
        spectral_floor=None if isinstance(floor, Missing) else floor,
        n_below_floor=sum(one.n_below_floor for one in row.spectra),
        n_missing_evals=row.missing,
    )  # fmt: skip


def _value(name: str, metric: Metric, row: Measured) -> Value | Missing:
    if row.missing and name not in truncating.KEPT:
        return Missing("truncated_spectrum")
    return Missing("precision") if row.precision == "fast" and name not in OF_FAST else metric.compute(row)


def _rounded(value: Any) -> Any:
    """A curve in float32 precision; None when a value does not fit."""
    with np.errstate(over="ignore"):
        single = np.asarray(value, np.float32)
    return doubles(single.astype(np.float64)) if np.isfinite(single).all() else None
