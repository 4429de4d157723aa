"""Rows at their places: under the name of their model, and for a tensor whose stored values are those of another."""

from __future__ import annotations

import os
from dataclasses import replace

from ww_static.layout.layers import LayerView
from ww_static.plan import Plan
from ww_static.rows import LayerRow


def placed(row: LayerRow, plan: Plan) -> LayerRow:
    """The row with the name of its model, and its file relative to what the user named."""
    file = os.path.normpath(os.path.join(os.path.dirname(plan.source.shown), row.file or ""))
    return replace(row, model_id=plan.source.model_id, file=file)


def tied(row: LayerRow, view: LayerView, twin: LayerView) -> LayerRow:
    """The row of a tensor whose stored values are those of another: the numbers of the first, the name of the second."""
    codes = [code for code in row.warning_codes or () if code != "ambiguous_orientation" and code not in view.notes]
    codes += [*(["ambiguous_orientation"] if twin.orientation == "ambiguous" else []), *twin.notes]
    return replace(
        row,
        warning_codes=tuple(codes),
        quantized=twin.quantized,
        file=twin.spec.file,
        name=twin.spec.name,
        offset=twin.spec.extent.offset if twin.spec.extent else None,
        part=twin.part,
        slice_id=twin.slice_id,
        kind=twin.kind,
        kind_source=twin.kind_source,
        confidence=twin.confidence,
        orientation=twin.orientation,
        op_path=twin.spec.op_path,
        layer_type=twin.layer_type,
        tied_to=view.spec.name,
    )
