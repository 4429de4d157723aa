"""The two factors of an adapter -> Delta W = s B A: which tensors belong together, what they make, or why they make nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ww_static import dtypes
from ww_static.layout import geometry, kinds
from ww_static.layout.adapter import Adapter
from ww_static.layout.facts import Facts
from ww_static.layout.geometry import Layout, Matrix, Part
from ww_static.layout.kinds import Kind
from ww_static.protocol import TensorSpec

_PART = re.compile(r"(?:^|[._])lora_(A|B|embedding_A|embedding_B|down|up|magnitude_vector|E)(?=[._]|$)")
_SIDES = {
    "A": ("linear", "a"), "B": ("linear", "b"), "embedding_A": ("embedding", "a"), "embedding_B": ("embedding", "b"),
    "down": ("down_up", "a"), "up": ("down_up", "b"),
}  # fmt: skip
# Reasons of a factor that cannot be multiplied, as they stand in the row of the product.
_PEFT = frozenset(("A", "B", "embedding_A", "embedding_B"))
_UNREADABLE = frozenset(("quantized", "unsupported_layout", "unsupported_dtype", "no_data"))
_BIAS = re.compile(r"(?:^|[._])bias$")


@dataclass(frozen=True, slots=True)
class Delta:
    """What one pair of factors gives: rows beside those of the factors themselves.

    Attributes:
        spec: the product as a tensor: the name of the first factor, `[out, in]` or `[out, in, *k]` as the base model keeps it.
        orientation: what its axes are.
        tensors: A and B; empty when they are not read.
        parts: rows; the matrices of each lie in A, r x in.
        left: where B lies, out x r; None when there is nothing to multiply.
        factor: s.
        notes: warning codes: ``scale_unknown``, ``without_magnitude``.
        reason, message: why there is nothing to multiply.
        turned: the base model keeps the transpose of B A.
    """

    spec: TensorSpec
    orientation: str | None = None
    tensors: tuple[TensorSpec, ...] = ()
    parts: tuple[Part, ...] = (Part("delta", None, ()),)
    left: Matrix | None = None
    factor: float | None = None
    notes: tuple[str, ...] = ()
    reason: str | None = None
    message: str | None = None
    turned: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """The factors of one module, with what each of them is.

    Attributes:
        module: name of the module they belong to.
        family: ``linear``, ``embedding``, or ``down_up`` for the names of other trainers.
        a, b: the factors; None for one that is missing.
        marks: other tensors of the adapter of this module: ``magnitude_vector`` (DoRA), ``E`` (AdaLoRA).
    """

    module: str
    family: str
    a: tuple[TensorSpec, Kind] | None = None
    b: tuple[TensorSpec, Kind] | None = None
    marks: frozenset[str] = frozenset()

    @property
    def first(self) -> TensorSpec:
        """The tensor after which the rows of the product stand: A, or B when there is no A."""
        held = self.a or self.b
        assert held is not None  # a pair begins with a factor
        return held[0]


def has_factors(tensors: Sequence[TensorSpec]) -> bool:
    """Whether some tensors are called as PEFT calls the factors of an adapter."""
    return any((part := _PART.search(spec.name)) is not None and part[1] in _PEFT for spec in tensors)


def pairs(by_name: Mapping[str, TensorSpec], facts: Facts) -> dict[str, Pair]:
    """The pairs of factors of a model, by the name of their first tensor; half a pair is one too."""
    found: dict[tuple[str, str, str], Pair] = {}
    marks: dict[str, frozenset[str]] = {}
    for spec in by_name.values():
        matches = list(_PART.finditer(spec.name)) if "lora_" in spec.name else []
        if not matches:
            continue
        word, module, tail = matches[-1][1], spec.name[: matches[-1].start()], spec.name[matches[-1].end() :]
        if word not in _SIDES:
            marks[module] = marks.get(module, frozenset()) | {word}
            continue
        kind = kinds.classify(spec, by_name, facts)
        if kind.name == "optimizer" or _BIAS.search(tail):
            continue
        family, side = _SIDES[word]
        pair = found.get((module, family, tail), Pair(module, family))
        held = (spec, kind)
        found[(module, family, tail)] = replace(pair, a=held) if side == "a" else replace(pair, b=held)
    return {pair.first.name: replace(pair, marks=marks.get(pair.module, frozenset())) for pair in found.values()}


@dataclass(frozen=True, slots=True)
class Cut:
    """How convolutions are cut: ``pooled``, ``slices`` or ``flatten``; into how many matrices and rows at most."""

    conv: str
    matrices: int
    rows: int


def delta(pair: Pair, adapter: Adapter | None, cut: Cut) -> Delta:
    """What a pair makes, ``adapter_config.json`` saying what it says (None without one)."""
    spec = pair.first
    for held in (pair.a, pair.b):
        if held is not None and held[1].name != "lora":
            reason = held[1].reason if held[1].reason in _UNREADABLE else "unsupported_dtype"
            return Delta(spec, reason=reason, message=f"the factor '{held[0].name:.200}' is {held[0].dtype}: {held[1].reason}")
    if pair.a is None or pair.b is None:
        return Delta(spec, reason="no_pair", message=f"there is no factor {'A' if pair.a is None else 'B'} beside it")
    if (method := _method(pair, adapter)) is not None:
        return Delta(
            spec, reason="unsupported_layout", message=f"an adapter of type {method:.60} adds something else than s B A"
        )
    a, b = pair.a[0], pair.b[0]
    turned = pair.family == "embedding" or (adapter is not None and adapter.fan_in_fan_out)
    made = _convolution(a, b, cut) if len(a.shape) > 2 else _linear(a, b, turned=turned)
    if made.left is None:
        return made
    r = made.left.shape[1]
    expected = adapter.rank(pair.module) if adapter is not None else None
    if expected is not None and expected != r:
        return Delta(spec, reason="shape_mismatch", message=f"rank {r} in the file, {expected} in the configuration")
    scale = adapter.scale(pair.module, r) if adapter is not None else None
    dora = "magnitude_vector" in pair.marks or (adapter is not None and adapter.dora)
    notes = [code for code, holds in (("scale_unknown", scale is None), ("without_magnitude", dora)) if holds]
    orientation = "rows,features" if pair.family == "embedding" else made.orientation
    return replace(made, orientation=orientation, factor=1.0 if scale is None else scale, notes=tuple(notes))


def _method(pair: Pair, adapter: Adapter | None) -> str | None:
    """The name of a method that adds something else than s B A; None for LoRA."""
    if adapter is not None and adapter.peft_type not in (None, "LORA"):
        return adapter.peft_type
    if adapter is not None and adapter.qalora:
        return "QALORA"
    return "ADALORA" if "E" in pair.marks else None


def _linear(a: TensorSpec, b: TensorSpec, *, turned: bool) -> Delta:
    """B A of two matrices; `turned` when the base model keeps its transpose."""
    rank_of_a, inputs = (1, 0) if _is_in_out(a) else (0, 1)  # axes
    outputs, rank_of_b = (1, 0) if _is_in_out(b) else (0, 1)
    if not len(a.shape) == len(b.shape) == 2 or a.shape[rank_of_a] != b.shape[rank_of_b] or 0 in (*a.shape, *b.shape):
        return _misfit(a, b)
    shape = (b.shape[outputs], a.shape[inputs])
    spec = _product(a, b, shape[::-1] if turned else shape)
    orientation = "in,out" if turned else "out,in"
    if min(shape) < 2:
        return Delta(spec, orientation, reason="too_small")
    right = geometry.matrix_of(a.shape, (rank_of_a,), [geometry.whole_window(a.shape)])
    left = geometry.matrix_of(b.shape, (outputs,), [geometry.whole_window(b.shape)])
    return Delta(spec, orientation, (a, b), (Part("delta", None, (right,)),), left, turned=turned)


def _convolution(a: TensorSpec, b: TensorSpec, cut: Cut) -> Delta:
    """B A of a kernel `[r, in, *k]` and one of a single tap: every tap of the product is B times that tap of A."""
    kernel = a.shape[2:]
    fits = len(a.shape) == len(b.shape) <= 5 and a.shape[0] == b.shape[1] and set(b.shape[2:]) == {1}
    if not fits or 0 in (*a.shape, *b.shape):
        return _misfit(a, b)
    spec = _product(a, b, (b.shape[0], a.shape[1], *kernel))
    layout = Layout(0, 1, tuple(range(2, len(a.shape))), "OI" + ("W", "HW", "DHW")[len(kernel) - 1])
    flat, taps = cut.conv == "flatten", math.prod(kernel)
    if not flat and (refusal := geometry.conv_refusal(spec, layout)) is not None:
        return Delta(spec, layout.orientation, reason=refusal)
    if not flat and (taps > cut.matrices or (cut.conv == "slices" and taps > cut.rows)):
        return Delta(spec, layout.orientation, reason="limit", message=f"{taps} taps")
    if flat and min(b.shape[0], a.shape[1] * taps) < 2:
        return Delta(spec, layout.orientation, reason="too_small")
    left = geometry.matrix_of(b.shape, (0,), [geometry.whole_window(b.shape)])
    parts = [
        replace(part, name="delta" if part.name is None else f"delta.{part.name}")
        for part in geometry.conv_parts(a, layout, cut.conv)
    ]
    return Delta(spec, layout.orientation, (a, b), tuple(parts), left)


def _is_in_out(spec: TensorSpec) -> bool:
    """Whether a factor is kept as `[in, out]`: by the operator that uses it, or as its framework does."""
    if spec.axes is not None:
        return spec.axes == ("in", "out")
    return spec.layout in ("tf", "flax", "keras") or spec.name.endswith("kernel")


def _product(a: TensorSpec, b: TensorSpec, shape: tuple[int, ...]) -> TensorSpec:
    """The product as a tensor; its dtype is that of the coarser factor."""
    coarser = max((a, b), key=lambda one: dtypes.storage_dtype(one.dtype).epsilon)
    return replace(a, shape=shape, dtype=coarser.dtype, extent=None, encoding="raw", axes=None, role=None)


def _misfit(a: TensorSpec, b: TensorSpec) -> Delta:
    return Delta(a, reason="shape_mismatch", message=f"A is {list(a.shape)} and B is {list(b.shape)}")
