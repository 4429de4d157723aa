"""A pair of views -> the measured columns of its row: reads both tensors, compares their matrices, sums up over taps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ww_static import dtypes
from ww_static.budget import Need, Room
from ww_static.errors import FormatError, NonFiniteError, NotConvergedError
from ww_static.layout.layers import LayerView
from ww_static.measuring import reading, resampling
from ww_static.pairs.pairing import PairJob
from ww_static.rows import PairRow
from ww_static.seam import OpenCheckpoint
from ww_static.spectral import lapack, ranks
from ww_static.spectral.difference import (
    Difference,
    Pair,
    Spaces,
    Sums,
    difference,
    difference_bytes,
    difference_flops,
    sums_of,
)
from ww_static.spectral.gram import Blocks, scaled
from ww_static.spectral.missing import Missing
from ww_static.spectral.similarity import Similarity

Value = float | int | Missing
_SIDES = ("overlap", "agreement", "best_match")
MEASURED = (
    "delta_norm", "rel_delta", "delta_spectral", "delta_stable_rank", "cosine", "spectral_w1", "spectral_l2_rel",
    *(f"{one}_{side}" for one in _SIDES for side in "lr"), "max_angle", "intruders", "cka", "cka_linear", "cka_centered",
    "sqnr_db", "quant_err_spectral", "quant_floor_lo", "quant_floor", "dw_align",
)  # fmt: skip


def compared(checkpoints: tuple[OpenCheckpoint, OpenCheckpoint], job: PairJob, backend: str) -> Any:
    """A `PairRow` with the measured columns only: null with a reason where there is nothing to measure.

    Args:
        checkpoints: the old one and the new one.
        job: the views, of equal shapes.
        backend: of the spectra.
    """
    views = job.old, job.new
    try:
        if views[1].reason is not None:
            values = _of_elements(checkpoints, views)
        else:
            generator = resampling.generators(views[1], job.seed, "compare")(0)
            found = [
                difference(_pair(checkpoints, job, number), job.method, backend, generator)
                for number in range(len(views[1].matrices))
            ]
            values = _columns(found, views[1], job.exponent) | _quantization(found, views[1], job.squared_step)
    except NonFiniteError:
        return PairRow(status="failed", reason="nonfinite")
    except NotConvergedError as error:
        return PairRow(status="failed", reason="not_converged", message=str(error))
    except FormatError as error:
        return PairRow(status="failed", reason=error.category, message=error.problem)
    reasons = {name: value.reason for name, value in values.items() if isinstance(value, Missing)}
    return PairRow(
        **{name: value for name, value in values.items() if not isinstance(value, Missing)},
        status="success" if views[1].reason is None else "skipped",
        reason=views[1].reason,
        null_reasons=reasons,
    )


def _pair(checkpoints: tuple[OpenCheckpoint, OpenCheckpoint], job: PairJob, number: int) -> Pair:
    def blocks(checkpoint: OpenCheckpoint, view: LayerView) -> Blocks:
        return scaled(reading.view_blocks(checkpoint, view, number), job.exponent)

    a = blocks(checkpoints[0], job.old)
    b = a if job.same else blocks(checkpoints[1], job.new)
    sides = job.new.sides
    assert sides is not None  # it has matrices
    return Pair(a, b, max(sides), min(sides), sides[0] >= sides[1], job.exponent)


def _of_elements(checkpoints: Sequence[OpenCheckpoint], views: Sequence[LayerView]) -> dict[str, Value]:
    """What can be said of a tensor that makes no matrix: norms of the difference."""

    def blocks() -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        for window in reading.windows(views[1].spec.shape):
            a, b = (
                dtypes.widen(checkpoint.read(view.spec, window), reading.value_dtype(view.spec))
                for checkpoint, view in zip(checkpoints, views, strict=True)
            )
            yield a, b

    sums = sums_of(blocks())
    if not math.isfinite(sums.square_a + sums.square_b + sums.square):
        raise NonFiniteError("an element is NaN or infinite, or too large to be squared")
    values: dict[str, Value] = dict.fromkeys(MEASURED, Missing("not_applicable"))
    return values | _of_sums(sums, 0)


def _of_sums(sums: Sums, exponent: int) -> dict[str, Value]:
    """The columns that sums over elements give."""
    square_a, square = sums.square_a, sums.square
    zero, same = Missing("zero_matrix"), Missing("zero_delta")
    both = math.sqrt(square_a) * math.sqrt(sums.square_b)
    return {
        "delta_norm": _ldexp(math.sqrt(square), exponent),
        "rel_delta": math.sqrt(square / square_a) if square_a > 0 else zero,
        "cosine": max(-1.0, min(1.0, sums.inner / both)) if both > 0 else zero,
        "sqnr_db": zero if not square_a > 0 else 10 * math.log10(square_a / square) if square > 0 else same,
    }


def _columns(found: Sequence[Difference], view: LayerView, exponent: int) -> dict[str, Value]:
    """The columns of one or several matrices: sums over all of them; what is about one space needs a single one."""
    sums = Sums(*(math.fsum(getattr(one.sums, name) for one in found) for name in ("square_a", "square_b", "inner", "square")))
    values = _of_sums(sums, exponent)
    square_a, square = sums.square_a, sums.square
    spectral = max(one.spectral for one in found)
    largest = math.sqrt(max(float(one.a.eigenvalues[-1]) for one in found))
    a, b = (np.sort(np.concatenate([getattr(one, name).eigenvalues for one in found])) for name in "ab")
    values |= {
        "delta_spectral": _ldexp(spectral, exponent),
        "delta_stable_rank": max(1.0, square / spectral**2) if spectral > 0 else Missing("zero_delta"),
        "quant_err_spectral": spectral / largest if largest > 0 else Missing("zero_matrix"),
        "spectral_w1": float(np.abs(a - b).sum() / a.sum()) if a.sum() > 0 else Missing("zero_matrix"),
        "spectral_l2_rel": _distance(a, b, square_a),
    }
    pooled = Missing("not_applicable")
    similarity, spaces = (found[0].similarity, found[0].spaces) if len(found) == 1 else (pooled, pooled)
    return values | _of_similarity(similarity) | _of_spaces(spaces, square)


def _distance(a: NDArray[np.float64], b: NDArray[np.float64], square_a: float) -> Value:
    if not square_a > 0:
        return Missing("zero_matrix")
    return float(np.linalg.norm(np.sqrt(a) - np.sqrt(b))) / math.sqrt(square_a)


def _of_similarity(found: Similarity | Missing) -> dict[str, Value]:
    if isinstance(found, Missing):
        return dict.fromkeys(("cka", "cka_linear", "cka_centered"), found)
    return {"cka": found.cka, "cka_linear": found.cka**2, "cka_centered": found.cka_centered}


def _of_spaces(found: Spaces | Missing, square: float) -> dict[str, Value]:
    """What is said of leading vectors; the norm of dW, when it is not 0, makes a share of what is aligned with them."""
    if isinstance(found, Missing):
        return dict.fromkeys(
            (*(f"{name}_{side}" for name in _SIDES for side in "lr"), "max_angle", "intruders", "dw_align"), found
        )
    values: dict[str, Value] = {
        f"{name}_{side}": getattr(agreed, name) for name in _SIDES for side, agreed in (("l", found.left), ("r", found.right))
    }
    return values | {
        "max_angle": max(found.left.max_angle, found.right.max_angle),
        "intruders": found.intruders,
        "dw_align": min(1.0, found.aligned / math.sqrt(square)) if square > 0 else Missing("zero_delta"),
    }


def _quantization(found: Sequence[Difference], view: LayerView, squared_step: float | None) -> dict[str, Value]:
    """Where rounding puts the zeros of Wa, in units of W^T W: N s^2 to the law of a (N - r) x (M - r) noise matrix."""
    rank = ranks.hard_rank([found[0].a])
    reason = Missing("steps_unknown")
    if squared_step is not None:
        reason = rank if isinstance(rank, Missing) else Missing("not_applicable")  # several matrices, or no null space
    n, m = view.n or 0, view.m or 0
    if squared_step is None or isinstance(rank, Missing) or len(found) > 1 or rank >= m:
        return {"quant_floor_lo": reason, "quant_floor": reason}
    low, high = quantization_floor(n, m, rank, squared_step / 12)
    return {"quant_floor_lo": low * view.esd_scale, "quant_floor": high * view.esd_scale}


def quantization_floor(n: int, m: int, rank: int, variance: float) -> tuple[float, float]:
    """Edges between which rounding with a variance puts the M - r zero eigenvalues of W^T W (no 1/N), N x M of rank r.

    They are those of an (N - r) x (M - r) noise matrix: what the rounding does within the space of W is absorbed by it.
    """
    ratio = math.sqrt((m - rank) / (n - rank)) if n > rank else 0.0
    return (n - rank) * variance * (1 - ratio) ** 2, (n - rank) * variance * (1 + ratio) ** 2


def _ldexp(value: float, exponent: int) -> Value:
    try:
        result = math.ldexp(value, exponent)
    except OverflowError:
        return Missing("out_of_range")
    return Missing("out_of_range") if result == 0 < value else result


def pair_need(view: LayerView, of_row: Need) -> Need:
    """What the comparison of a pair takes, given what a row of one of the two takes."""
    if not view.n or not view.m:
        return Need(0.0, Room(_READ, _READ), Room(_READ, _READ))
    n, m = view.n, view.m

    def room(backend: str, row: Room) -> Room:
        least = difference_bytes(n, m, backend) + _product_bytes(view)
        return Room(max(least, row.least), max(least, row.wanted))

    flops = 2 * of_row.flops + len(view.matrices) * difference_flops(n, m)
    return Need(flops, room(lapack.NUMPY, of_row.plain), room(lapack.BEST, of_row.direct))


_READ = 2**24  # two windows of elements, and what widening them takes


def _product_bytes(view: LayerView) -> int:
    """Both factors of a product, twice."""
    return 0 if view.left is None else 32 * view.left.shape[1] * sum(view.sides or ())
