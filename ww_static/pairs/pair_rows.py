"""The row of a pair without its measured columns: names, shapes, what changed in the numbers of the two layer rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ww_static.layout.layers import LayerView
from ww_static.rows import DEFINITIONS_VERSION, DELTAS, LayerRow, PairRow

# Tensors without a spectrum whose elements can be compared all the same.
_ELEMENTS = frozenset(("one_dimensional", "too_small", "depthwise", "vector_taps", "fixed_transform", "size_limit"))


def alone(row: LayerRow, side: str) -> Any:
    """The `PairRow` of a layer row, of the ``old`` or ``new`` model, that has no counterpart, or of a model that was not read."""
    if row.status == "error":
        return PairRow(
            model_id=row.model_id, side=side, status="error", category=row.category, message=row.message,
            definitions_version=DEFINITIONS_VERSION,
        )  # fmt: skip
    suffix = "_old" if side == "old" else ""
    sided: dict[str, Any] = {
        f"{name}{suffix}": getattr(row, name) for name in ("shape", "dtype", "alpha", "phase", "content_hash")
    }
    if side == "old":
        sided |= {"model_old": row.model_id, "name_old": row.name}
    return PairRow(**sided, **_shared(row), model_id=row.model_id, name=row.name, side=side, status="skipped", reason="no_pair")


def together(old: LayerRow, new: LayerRow, pairing: str) -> Any:
    """The `PairRow` of two layer rows before their tensors are compared, with the change of every number that both have."""
    values: dict[str, float | int] = {}
    reasons: dict[str, str] = {}
    same_units = (old.esd_norm, old.esd_scale) == (new.esd_norm, new.esd_scale)
    for name in DELTAS if new.has_esd else ():
        before, after = getattr(old, name), getattr(new, name)
        if before is None or after is None:
            reasons[f"d_{name}"] = _why(old if before is None else new, name)
        elif not same_units:
            reasons[f"d_{name}"] = "not_applicable"
        else:
            values[f"d_{name}"] = after - before
    row = PairRow(
        **_shared(new), **values, model_id=new.model_id, model_old=old.model_id, name=new.name, name_old=old.name, pairing=pairing,
        status="skipped", shape=new.shape, shape_old=old.shape, dtype=new.dtype, dtype_old=old.dtype,
        identical=_identical(old, new), alpha=new.alpha, alpha_old=old.alpha, phase=new.phase, phase_old=old.phase,
        content_hash=new.content_hash, content_hash_old=old.content_hash,
    )  # fmt: skip
    return replace(row, null_reasons=reasons, **_alpha_z(row, old, new, reasons))


def obstacle(old: LayerView, new: LayerView, rows: tuple[LayerRow, LayerRow]) -> tuple[str, str] | None:
    """Status and reason of a pair whose tensors cannot be compared; None when they can."""
    if old.spec.shape != new.spec.shape:
        return "skipped", "shape_mismatch"
    for row in rows:
        if row.status != "success" and row.reason not in _ELEMENTS:
            return row.status or "failed", row.reason or "not_applicable"
    if old.sides != new.sides or len(old.matrices) != len(new.matrices):
        return "skipped", "shape_mismatch"
    return None


def measured(row: Any, found: Any) -> Any:
    """A row of `together` with the columns that a worker measured."""
    reasons: Mapping[str, str] = {**(row.null_reasons or {}), **(found.null_reasons or {})}
    values = {name: value for name in found.__dataclass_fields__ if (value := getattr(found, name)) is not None}
    return replace(row, **values | {"null_reasons": reasons})


def _shared(row: LayerRow) -> dict[str, Any]:
    names = ("part", "kind", "N", "M", "rf", "esd_norm", "esd_scale", "seed", "params_id", "definitions_version")
    return {name: getattr(row, name) for name in names}


def _why(row: LayerRow, name: str) -> str:
    """Why a column of a layer row is null."""
    return (row.null_reasons or {}).get(name) or row.reason or "not_applicable"


def _identical(old: LayerRow, new: LayerRow) -> bool | None:
    if old.content_hash is None or new.content_hash is None:
        return None
    return old.content_hash == new.content_hash


def _alpha_z(row: Any, old: LayerRow, new: LayerRow, reasons: dict[str, str]) -> dict[str, float]:
    """d_alpha over the root of the sum of both squared spreads."""
    before, after = old.alpha_sigma_boot, new.alpha_sigma_boot
    if row.d_alpha is None or before is None or after is None:
        if new.has_esd:
            lacking = "alpha" if row.d_alpha is None else "alpha_sigma_boot"
            reasons["alpha_z"] = reasons.get(f"d_{lacking}", "not_applicable")
        return {}
    spread = math.hypot(before, after)
    if spread == 0:
        reasons["alpha_z"] = "zero_spread"
        return {}
    return {"alpha_z": row.d_alpha / spread}
