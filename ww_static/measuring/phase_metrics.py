"""The columns of the phase: which shape the ESD of a row has, given how its weights are stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ww_static import dtypes
from ww_static.layout.layers import LayerView
from ww_static.measuring.measured import Measured, Metric, Value, of_part
from ww_static.measuring.surveys import Survey
from ww_static.measuring.tail_metrics import count_from
from ww_static.spectral.missing import Missing
from ww_static.spectral.phases import ZERO_SHARE, Phase, phase, tail_class
from ww_static.spectral.powerlaw import TailFit
from ww_static.spectral.zeros import rounded_share, rounded_to, rounding_of_floats, share_below_rounding, zero_share

_MOSTLY = 0.5  # of the eigenvalues of a difference: so many within reach of its rounding say nothing about its rank


def with_phase(view: LayerView, tensor: Survey, row: Measured) -> Measured:
    """The row with its phase, where the whole ESD of independent elements is known."""
    largest = float(row.eigenvalues[-1])
    if row.precision == "fast":
        return replace(row, phase=Missing("precision"))
    if row.missing:
        return replace(row, phase=Missing("truncated_spectrum"))
    if view.left is not None:
        return replace(row, phase=Missing("not_applicable"))
    if not largest > 0:
        return replace(row, phase=Missing("zero_matrix"))
    zeros = zeros_of(view, tensor, row)
    return replace(row, phase=phase(view.m or 0, zeros, largest, row.bulk, row.robust, row.m))


def zeros_of(view: LayerView, tensor: Survey, row: Measured) -> float:
    """Share of the eigenvalues of a row, not all zero, that are zero but for the rounding of its stored weights."""
    rounding = _rounding(view, tensor, row)
    exact = zero_share(row.eigenvalues, row.n, dtypes.storage_dtype(view.spec.dtype).epsilon, row.floor)
    if rounding is None:
        return exact
    share = rounded_share(row.eigenvalues, (view.m or 0) / row.n, rounding)
    return share if tensor.squared_rounding is None else max(share, exact)  # a difference may be rounded by arithmetic alone


def rounding_of(view: LayerView, tensor: Survey) -> float | None:
    """Variance of the rounding of stored elements over their mean square; None where they are as fine as float32.

    A quantized weight is rounded by a twelfth of its squared step.
    """
    if not view.quantized:
        return rounding_of_floats(dtypes.storage_dtype(view.spec.dtype).epsilon)
    found = tensor.moments
    if tensor.squared_step is None or found is None or not found.mean_square > 0:
        return 0.0
    return tensor.squared_step / 12 / found.mean_square


def _rounding(view: LayerView, tensor: Survey, row: Measured) -> float | None:
    """`rounding_of`; of a difference that of both its tensors over the mean square of the elements of the row.

    Parts of one weight are rounded alike and may have changed by very different amounts, so the mean is not that of the tensor.
    """
    if tensor.squared_rounding is None:
        return rounding_of(view, tensor)
    square = row.in_units(row.total / (row.factor * row.n * (row.m + row.missing)))
    return 0.0 if isinstance(square, Missing) or not square > 0 else tensor.squared_rounding / square


def rounding_hides(view: LayerView, tensor: Survey, row: Measured) -> bool:
    """Whether the rounding of stored weights hides the rank, or makes eigenvalues as large as those of the fitted tail."""
    if view.left is not None or row.precision == "fast":
        return False
    rounding = _rounding(view, tensor, row)
    if rounding is None or not row.eigenvalues[-1] > 0:
        return False
    if isinstance(row.fit, TailFit) and row.fit.xmin <= rounded_to(row.eigenvalues, rounding):
        return True
    if row.missing:
        return False
    if tensor.squared_rounding is not None and share_below_rounding(row.eigenvalues, rounding) >= _MOSTLY:
        return True
    return rounded_share(row.eigenvalues, (view.m or 0) / row.n, rounding) >= ZERO_SHARE


def _robust(compute: Callable[[Measured, TailFit], Value | Missing]) -> Metric:
    return of_part("default", lambda row: row.robust, compute)


def _phase(compute: Callable[[Measured, Phase], Value | Missing]) -> Metric:
    return of_part("default", lambda row: row.phase, compute)


PHASE_METRICS: dict[str, Metric] = {
    "alpha_robust": _robust(lambda row, fit: fit.alpha),
    "xmin_robust": _robust(lambda row, fit: row.in_units(fit.xmin)),
    "D_robust": _robust(lambda row, fit: fit.D),
    "n_tail_robust": _robust(count_from),
    "phase": _phase(lambda row, found: found.name),
    "phase_margin": _phase(lambda row, found: Missing("too_few_evals") if found.margin is None else found.margin),
    "phase_runner_up": _phase(lambda row, found: Missing("too_few_evals") if found.runner_up is None else found.runner_up),
    "tail_class": _phase(lambda row, found: tail_class(found, row.robust)),
}
