"""Rows without a spectrum, skipped or failed, and what every row says of its tensor; loads no numpy."""

from __future__ import annotations

import math
from typing import Any

from ww_static.layout.layers import LayerView
from ww_static.measuring.surveys import Survey
from ww_static.options import Options
from ww_static.rows import DEFINITIONS_VERSION, LayerRow
from ww_static.spectral.extremes import safe_exponent


def skipped(
    reader: str, view: LayerView, tensor: Survey, options: Options, reason: str, message: str | None = None
) -> LayerRow:
    """The row of a view that has no spectrum, with the reason."""
    return LayerRow(
        **identity(reader, view, tensor, options),
        status="skipped",
        reason=reason,
        message=message or view.message,
        has_esd=False,
    )


def failed(reader: str, view: LayerView, tensor: Survey, options: Options, reason: str, message: str | None = None) -> LayerRow:
    """The row of a view that should have a spectrum and has none, with the reason."""
    codes = ("nonfinite",) if reason == "nonfinite" else ()
    return LayerRow(
        **identity(reader, view, tensor, options), **shape(view), status="failed", reason=reason, message=message,
        has_esd=False, warning_codes=codes,
    )  # fmt: skip


def shape(view: LayerView) -> dict[str, Any]:
    """The columns of a row that the sizes of its matrices fill; none where it has no matrix."""
    n, m = view.n, view.m
    if n is None or m is None:
        return {}
    return {"N": n, "M": m, "Q": n / m, "rf": len(view.matrices), "num_evals": view.num_evals}


def identity(reader: str, view: LayerView, tensor: Survey, options: Options) -> dict[str, Any]:
    """The columns that every row of a tensor has: names, kind, options, and the statistics of its survey."""
    spec = view.spec
    return {
        "file": spec.file, "name": spec.name, "part": view.part, "slice_id": view.slice_id,
        "kind": view.kind, "kind_source": view.kind_source, "confidence": view.confidence,
        "orientation": view.orientation, "op_path": spec.op_path, "layer_type": view.layer_type, "shape": spec.shape,
        "numel": math.prod(spec.shape), "offset": spec.extent.offset if spec.extent else None, "dtype": spec.dtype, "quantized": view.quantized,
        "esd_norm": options.esd_norm, "esd_scale": view.esd_scale, "lora_scale": view.factor, "seed": options.seed, "reader": reader,
        "content_hash": tensor.content_hash, "params_id": options.params_id(DEFINITIONS_VERSION),
        "definitions_version": DEFINITIONS_VERSION, **_statistics(tensor),
    }  # fmt: skip


def _statistics(tensor: Survey) -> dict[str, Any]:
    found, factors = tensor.moments, [one.moments for one in tensor.factors if one.moments is not None]
    if factors:
        return {"n_nan": sum(one.nans for one in factors), "n_inf": sum(one.infinities for one in factors)}
    if found is None:
        return {}
    counts = {"n_nan": found.nans, "n_inf": found.infinities, "rank_sample": tensor.rank_sample}
    if found.count == 0 or found.finite == 0:
        return counts
    ordinary = safe_exponent(found.abs_max) == 0  # else the powers of the deviations leave the range of float64
    variance = found.m2 / found.finite if ordinary else math.inf
    square = found.m2 * found.m2  # a product overflows to infinity, a power raises
    kurtosis = found.finite * found.m4 / square - 3 if ordinary and not found.constant and 0 < square < math.inf else None
    values: dict[str, float | None] = {
        "mean": found.mean, "std": math.sqrt(variance) if math.isfinite(variance) else None,
        "min": found.low, "max": found.high, "abs_max": found.abs_max,
        "zero_fraction": found.zeros / found.count, "excess_kurtosis": kurtosis,
    }  # fmt: skip
    return counts | {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
