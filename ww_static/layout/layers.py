"""Tensor specs -> layer table: one view per row of output, and a reason for every tensor that is not analysed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ww_static.layout import geometry, kinds, lora
from ww_static.layout.facts import Facts
from ww_static.layout.geometry import Matrix, Part
from ww_static.layout.kinds import Kind
from ww_static.protocol import Limits, TensorSpec

_CONVOLUTIONS = frozenset(("conv1d", "conv2d", "conv3d", "conv_transpose"))
_IN_OUT = re.compile(r"(?:^|[./])c_(?:attn|fc|proj|q)[./]weight$")  # GPT-2 keeps [in, out] although it is torch
_GPT2_TYPES = frozenset(("gpt2", "openai-gpt", "imagegpt", "decision_transformer"))


@dataclass(frozen=True, slots=True)
class LayerView:
    """One row of the layer table before anything is computed.

    Attributes:
        spec: the tensor it looks at.
        part: null for the tensor itself; ``whole`` beside its parts; else the name of the part.
        slice_id: order of the parts; null for the tensor itself and for ``whole``.
        kind, kind_source, confidence: what the tensor is, by which evidence, how sure.
        orientation: what the axes are, ``ambiguous``, or null when it has no meaning.
        layer_type: weightwatcher's word for the kind.
        matrices: where the matrices of the row lie, all of one shape; empty when it is not analysed.
        esd_scale: factor on the eigenvalues of W^T W.
        reason: why it is not analysed; null when it is.
        quantized: the values are dequantized codes, or the tensor holds codes.
        tensors: the tensors whose values it needs: the one it looks at, or the factors A and B of an adapter.
        left: where B lies (out x r) when each matrix of the row is `factor` B A, A (r x in) being one of `matrices`.
        factor: s of Delta W = s B A.
        notes: warning codes that are known from the header.
        message: more about `reason`.
    """

    spec: TensorSpec
    part: str | None
    slice_id: int | None
    kind: str
    kind_source: str
    confidence: str
    orientation: str | None
    layer_type: str
    matrices: Sequence[Matrix]
    esd_scale: float
    reason: str | None
    quantized: bool
    tensors: tuple[TensorSpec, ...]
    left: Matrix | None = None
    factor: float | None = None
    notes: tuple[str, ...] = ()
    message: str | None = None

    @property
    def sides(self) -> tuple[int, int] | None:
        """Rows and columns of one matrix of the row."""
        if not self.matrices:
            return None
        rows, columns = self.matrices[0].shape
        return (rows, columns) if self.left is None else (self.left.shape[0], columns)

    @property
    def n(self) -> int | None:
        """Larger side of one matrix."""
        return max(self.sides) if self.sides else None

    @property
    def m(self) -> int | None:
        """Smaller side of one matrix."""
        return min(self.sides) if self.sides else None

    @property
    def num_evals(self) -> int | None:
        """Eigenvalues of the row, all matrices together: M of each, for a product s B A at most its rank r."""
        if self.m is None:
            return None
        return len(self.matrices) * (self.m if self.left is None else min(self.m, self.left.shape[1]))


def layer_table(
    specs: Sequence[TensorSpec], facts: Facts, conv: str = "pooled", limits: Limits | None = None
) -> list[LayerView]:
    """The rows that the tensors of a model give, at least one per tensor, in natural order of their names.

    Args:
        specs: all tensors of the model.
        facts: what ``config.json`` says.
        conv: ``pooled``, ``slices`` or ``flatten``.
        limits: into how many matrices one tensor, and into how many rows all of them, may be cut.
    """
    limits = limits or Limits()
    by_name = {spec.name: spec for spec in specs}
    pairs = lora.pairs(by_name, facts)
    views: list[LayerView] = []
    for spec in sorted(specs, key=_natural):
        views.extend(_views(spec, by_name, facts, conv, _Room(limits.matrices, limits.rows - len(views))))
        if (pair := pairs.get(spec.name)) is not None:
            cut = lora.Cut(conv, limits.matrices, limits.rows - len(views))
            views.extend(_delta_views(lora.delta(pair, facts.adapter, cut)))
    return views


@dataclass(frozen=True, slots=True)
class _Room:
    """Into how many matrices the next tensor may be cut, and into how many rows."""

    matrices: int
    rows: int


def _natural(spec: TensorSpec) -> list[tuple[int, int, str]]:
    """``layer.2`` before ``layer.10``; equal names cannot happen."""
    return [
        (0, int(text), text) if text.isdecimal() and text.isascii() and len(text) < 19 else (1, 0, text)
        for text in re.split(r"(\d+)", spec.name[:4096])
    ] + [(1, 0, spec.name)]


def _views(spec: TensorSpec, by_name: Mapping[str, TensorSpec], facts: Facts, conv: str, room: _Room) -> list[LayerView]:
    kind = kinds.classify(spec, by_name, facts)
    orientation = _orientation(spec, kind, facts)
    if kind.reason is not None:
        return [_view(spec, kind, orientation, Part(None, None, ()), kind.reason)]
    pieces = geometry.pieces_needed(spec, kind, facts, conv)
    pooled = kind.name in _CONVOLUTIONS and conv == "pooled"
    crowded = pieces > room.matrices or (not pooled and pieces > room.rows)
    if crowded and len(spec.shape) > 2:
        return [_view(spec, kind, orientation, Part(None, None, ()), "limit")]
    if kind.name in _CONVOLUTIONS:
        return _conv_views(spec, kind, conv)
    if spec.role is not None and kind.name == "recurrent":
        return [_view(spec, kind, orientation, part, _too_small(part)) for part in geometry.graph_gate_parts(spec)]
    parts = None if crowded else _parts(spec, kind, by_name, facts)
    if parts is None:
        parts = [geometry.dense_part(spec)]
    elif len(spec.shape) == 2:
        whole = geometry.dense_part(spec)
        parts = [Part("whole", None, whole.matrices), *parts]
    return [_view(spec, kind, orientation, part, _too_small(part)) for part in parts]


def _parts(spec: TensorSpec, kind: Kind, by_name: Mapping[str, TensorSpec], facts: Facts) -> list[Part] | None:
    """The parts of a fused or stacked tensor; None when it is one matrix, or when the split is not certain."""
    if kind.name == "expert":
        return geometry.expert_parts(spec, facts) if len(spec.shape) == 3 else geometry.stacked_rows_parts(spec, facts)
    if kind.name == "fused_qkv":
        return geometry.qkv_parts(spec, facts)
    if kind.name == "fused_gate_up":
        return geometry.gate_up_parts(spec, facts)
    if kind.name == "recurrent":
        return geometry.gate_parts(spec, _hidden_size(spec, by_name))
    return None


def _hidden_size(spec: TensorSpec, by_name: Mapping[str, TensorSpec]) -> int | None:
    """H of a recurrent layer: the columns of its `[gates * H, H]` weight, or the inputs of its projection."""
    if "weight_hr" in spec.name:
        return None
    projection = by_name.get(re.sub(r"weight_(?:ih|hh)", "weight_hr", spec.name))
    if projection is not None and len(projection.shape) == 2:
        return projection.shape[1]
    recurrent = by_name.get(spec.name.replace("weight_ih", "weight_hh"))
    return recurrent.shape[1] if recurrent is not None and len(recurrent.shape) == 2 else None


def _conv_views(spec: TensorSpec, kind: Kind, mode: str) -> list[LayerView]:
    layout = geometry.conv_layout(spec, kind)
    if mode != "flatten" and (refusal := geometry.conv_refusal(spec, layout)) is not None:
        return [_view(spec, kind, layout.orientation, Part(None, None, ()), refusal)]
    return [_view(spec, kind, layout.orientation, part, _too_small(part)) for part in geometry.conv_parts(spec, layout, mode)]


def _delta_views(delta: lora.Delta) -> list[LayerView]:
    """The rows of what the two factors of an adapter make."""
    spec = delta.spec
    kind = Kind("lora_delta", "name")
    views = [_view(spec, kind, delta.orientation, part, delta.reason) for part in delta.parts]
    return [
        replace(view, tensors=delta.tensors, left=delta.left, factor=delta.factor, notes=delta.notes, message=delta.message)
        for view in views
    ]


def _too_small(part: Part) -> str | None:
    return "too_small" if min(part.matrices[0].shape) < 2 else None


def _orientation(spec: TensorSpec, kind: Kind, facts: Facts) -> str | None:
    if spec.axes is not None and (kind.name == "attention" or (kind.name == "dense" and set(spec.axes) == {"in", "out"})):
        return ",".join(spec.axes)
    if len(spec.shape) != 2 or kind.name in ("buffer", "optimizer", "quant_aux", "bias"):
        return None
    if spec.axes is not None:
        return ",".join(spec.axes)
    if kind.name == "embedding":
        return "rows,features"
    if spec.layout in ("tf", "flax", "keras") or spec.name.endswith("kernel"):
        return "in,out"
    if _IN_OUT.search(spec.name):
        if facts.model_type in _GPT2_TYPES or (kind.name == "fused_qkv" and spec.shape[1] == 3 * spec.shape[0]):
            return "in,out"
        if facts.model_type is None:
            return "ambiguous"
    if spec.layout == "pt" or spec.layout == "mlx" or spec.name.endswith("weight"):
        return "out,in"
    return "ambiguous"


def _view(spec: TensorSpec, kind: Kind, orientation: str | None, part: Part, reason: str | None) -> LayerView:
    return LayerView(
        spec=spec,
        part=part.name,
        slice_id=part.slice_id,
        kind=kind.name,
        kind_source=kind.source,
        confidence=kind.confidence,
        orientation=orientation,
        layer_type=_layer_type(spec, kind),
        matrices=() if reason else part.matrices,
        esd_scale=part.scale,
        reason=reason,
        quantized=spec.encoding == "quantized" or reason == "quantized",
        tensors=(spec,),
        notes=("one_hot_input",) if spec.role == "one_hot" else (),
    )


def _layer_type(spec: TensorSpec, kind: Kind) -> str:
    if kind.name == "conv_transpose":
        return f"conv{len(spec.shape) - 2}d"
    if kind.name in ("dense", "attention", "head", "fused_qkv", "fused_gate_up"):
        return "dense"
    return (
        kind.name if kind.name in ("embedding", "conv1d", "conv2d", "conv3d", "recurrent", "expert", "lora_delta") else "other"
    )
