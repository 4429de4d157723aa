"""Which matrices a tensor holds: taps, stacks and fused parts as windows of the tensor, nothing copied.

The spectrum of a matrix does not change when it is transposed or its rows are permuted, so a part may be several
windows stacked on each other in any order.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import overload

from ww_static.layout.facts import Facts
from ww_static.layout.kinds import Kind
from ww_static.protocol import TensorSpec, Window


@dataclass(frozen=True, slots=True)
class Matrix:
    """Where one matrix lies in its tensor.

    Attributes:
        pieces: windows of the tensor with one slice per axis, each flattened to two dimensions and stacked by rows.
        rows: the axes that make up the rows, in order; the other axes make up the columns.
        shape: rows and columns of the whole matrix.
    """

    pieces: tuple[Window, ...]
    rows: tuple[int, ...]
    shape: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Taps(Sequence[Matrix]):
    """The taps of a convolution kernel, each one a matrix, made when it is asked for: a header can declare millions.

    Attributes:
        shape: of the tensor.
        outputs: the axis that makes the rows.
        kernel: the axes of the kernel, slowest first.
    """

    shape: tuple[int, ...]
    outputs: int
    kernel: tuple[int, ...]

    def __len__(self) -> int:
        return math.prod(self.shape[axis] for axis in self.kernel)

    def position(self, number: int) -> tuple[int, ...]:
        """The place of a tap in the kernel."""
        place = []
        for axis in reversed(self.kernel):
            number, position = divmod(number, self.shape[axis])
            place.append(position)
        return tuple(reversed(place))

    @overload
    def __getitem__(self, number: int) -> Matrix: ...

    @overload
    def __getitem__(self, number: slice) -> Sequence[Matrix]: ...

    def __getitem__(self, number: int | slice) -> Matrix | Sequence[Matrix]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(f"tap {number} of {len(self)}")
        window = list(whole_window(self.shape))
        for axis, position in zip(self.kernel, self.position(number), strict=True):
            window[axis] = slice(position, position + 1)
        return matrix_of(self.shape, (self.outputs,), [tuple(window)])


@dataclass(frozen=True, slots=True)
class Part:
    """The matrices that share one row of output: all taps pooled, one expert, one gate, or the whole tensor.

    Attributes:
        name: null for the tensor itself; ``whole`` when parts of it have rows of their own.
        scale: factor on the eigenvalues of W^T W (definitions: esd_scale).
    """

    name: str | None
    slice_id: int | None
    matrices: Sequence[Matrix]
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Layout:
    """Axes of a convolution: which one counts outputs, which one inputs, which ones are the kernel."""

    outputs: int
    inputs: int
    kernel: tuple[int, ...]
    orientation: str


def whole_window(shape: Sequence[int]) -> Window:
    """The window that is all of a tensor."""
    return tuple(slice(0, size) for size in shape)


def matrix_of(shape: Sequence[int], rows: Sequence[int], pieces: Iterable[Window]) -> Matrix:
    """The matrix that `pieces` make when the axes `rows` are its rows."""
    pieces = tuple(pieces)
    counts = [[len(range(*cut.indices(size))) for cut, size in zip(piece, shape, strict=True)] for piece in pieces]
    height = sum(math.prod(count[axis] for axis in rows) for count in counts)
    width = math.prod(counts[0][axis] for axis in range(len(shape)) if axis not in rows)
    return Matrix(pieces, tuple(rows), (height, width))


def _cut(shape: Sequence[int], axis: int, cuts: Iterable[slice]) -> tuple[Window, ...]:
    """Windows that take each of `cuts` along one axis and everything along the others."""
    base = whole_window(shape)
    return tuple((*base[:axis], cut, *base[axis + 1 :]) for cut in cuts)


def conv_layout(spec: TensorSpec, kind: Kind) -> Layout:
    """The axes of a convolution kernel, from what the file says of its framework, else from the shape.

    Torch and ONNX `[O, I/g, *k]`, transposed `[I, O/g, *k]`; Keras, Flax and TensorFlow `[*k, I, O]`; MLX `[O, *k, I]`.
    Without evidence the small equal axes are the kernel; a tie takes the first form and is called ambiguous.
    """
    rank = len(spec.shape)
    letters = "DHW"[3 - (rank - 2) :] if rank > 3 else "W"
    first, last = ("I", "O") if kind.name == "conv_transpose" else ("O", "I")
    leading = Layout(0, 1, tuple(range(2, rank)), first + last + letters)
    trailing = Layout(rank - 1, rank - 2, tuple(range(rank - 2)), letters + last + first)
    middle = Layout(0, rank - 1, tuple(range(1, rank - 1)), first + letters + last)
    if spec.axes is not None and {"out", "in"} <= set(spec.axes):
        outputs, inputs = spec.axes.index("out"), spec.axes.index("in")
        kernel = tuple(axis for axis in range(rank) if axis not in (outputs, inputs))
        places = dict(zip((outputs, inputs, *kernel), first + last + letters, strict=True))
        if kind.name == "conv_transpose":
            places[outputs], places[inputs] = "O", "I"
        return Layout(outputs, inputs, kernel, "".join(places[axis] for axis in range(rank)))
    if spec.layout in ("tf", "flax", "keras") or spec.name.endswith("kernel"):
        return trailing
    if spec.layout == "mlx":
        return middle
    if spec.layout == "pt" or (rank == 3 and spec.shape[2] <= spec.shape[0]):
        return leading
    front, back = spec.shape[: rank - 2], spec.shape[2:]
    equal_front, equal_back = len(set(front)) == 1, len(set(back)) == 1
    if equal_front != equal_back:
        return trailing if equal_front else leading
    if math.prod(front) == math.prod(back):
        return Layout(leading.outputs, leading.inputs, leading.kernel, "ambiguous")
    return trailing if math.prod(front) < math.prod(back) else leading


def conv_refusal(spec: TensorSpec, layout: Layout) -> str | None:
    """Why the taps of a convolution are no matrices: ``depthwise``, ``vector_taps``, or None when they are."""
    if spec.role == "depthwise":
        return "depthwise"
    outputs, inputs = spec.shape[layout.outputs], spec.shape[layout.inputs]
    if min(outputs, inputs) > 1:
        return None
    channels_last = layout.outputs > layout.inputs
    one_per_channel = outputs == 1 < inputs if channels_last else inputs == 1 < outputs
    return "depthwise" if one_per_channel else "vector_taps"


def conv_parts(spec: TensorSpec, layout: Layout, mode: str) -> list[Part]:
    """One part with all taps (pooled), one part per tap (slices), or one O x (I * prod kernel) matrix (flatten)."""
    if mode == "flatten":
        return [Part(None, None, (matrix_of(spec.shape, (layout.outputs,), [whole_window(spec.shape)]),))]
    taps = Taps(spec.shape, layout.outputs, layout.kernel)
    four = len(spec.shape) == 4  # weightwatcher's sqrt(count/2) on the weights of a 4-D kernel
    if mode == "pooled":
        return [Part(None, None, taps, 0.5 if four else 1.0)]
    scale = len(taps) / 2 if four else 1.0
    return [
        Part("tap_" + "_".join(map(str, taps.position(number))), number, (taps[number],), scale) for number in range(len(taps))
    ]


def dense_part(spec: TensorSpec) -> Part:
    """The tensor as one matrix: leading axes of length 1 do not count; heads go with the side that the file puts them on."""
    if spec.axes is not None and len(spec.shape) > 2 and set(spec.axes) == {"in", "out"}:
        inputs = [axis for axis, name in enumerate(spec.axes) if name == "in"]
        return Part(None, None, (matrix_of(spec.shape, inputs, [whole_window(spec.shape)]),))
    return Part(None, None, (matrix_of(spec.shape, (len(spec.shape) - 2,), [whole_window(spec.shape)]),))


def expert_parts(spec: TensorSpec, facts: Facts) -> list[Part]:
    """One part per expert of a `[E, a, b]` stack; two when the configuration says where gate and up meet."""
    halves = _gate_up_axis(spec, facts)
    parts: list[Part] = []
    for expert in range(spec.shape[0]):
        only = slice(expert, expert + 1)
        if halves is None:
            window = (only, *whole_window(spec.shape)[1:])
            parts.append(Part(f"expert_{expert}", len(parts), (matrix_of(spec.shape, (1,), [window]),)))
            continue
        for name, cut in zip(("gate", "up"), _halves(spec, halves, facts), strict=True):
            (window,) = _cut(spec.shape, halves, [cut])
            piece = (only, *window[1:])
            parts.append(Part(f"expert_{expert}.{name}", len(parts), (matrix_of(spec.shape, (1,), [piece]),)))
    return parts


def pieces_needed(spec: TensorSpec, kind: Kind, facts: Facts, mode: str) -> int:
    """Into how many matrices or windows a tensor would be cut: counted before any of them is made."""
    if kind.name.startswith("conv"):
        return 1 if mode == "flatten" else math.prod(spec.shape[axis] for axis in conv_layout(spec, kind).kernel)
    if kind.name == "expert" and len(spec.shape) == 3:
        return 2 * spec.shape[0]
    return max(facts.num_attention_heads or 1, facts.num_experts or 1)


def _gate_up_axis(spec: TensorSpec, facts: Facts) -> int | None:
    """The axis of length 2F of a gate_up stack `[E, D, 2F]` or `[E, 2F, D]`, when the configuration tells them apart."""
    if not re.search(r"gate_up_proj(?:[./]weight)?$", spec.name):
        return None
    width = facts.moe_intermediate_size or facts.intermediate_size
    if width is None or facts.hidden_size is None:
        return None
    if spec.shape[1:] == (facts.hidden_size, 2 * width) and facts.hidden_size != 2 * width:
        return 2
    if spec.shape[1:] == (2 * width, facts.hidden_size) and facts.hidden_size != 2 * width:
        return 1
    return None


def _halves(spec: TensorSpec, axis: int, facts: Facts) -> tuple[slice, slice]:
    size = spec.shape[axis]
    if facts.model_type == "gpt_oss":  # interleaved columns
        return slice(0, size, 2), slice(1, size, 2)
    return slice(0, size // 2), slice(size // 2, size)


def gate_up_parts(spec: TensorSpec, facts: Facts) -> list[Part] | None:
    """Gate and up of a 2-D `[2F, D]` projection, when the configuration confirms the sizes."""
    if facts.intermediate_size is None or spec.shape[0] != 2 * facts.intermediate_size:
        return None
    windows = _cut(spec.shape, 0, _halves(spec, 0, facts))
    return _named(spec, 0, [("gate", windows[:1]), ("up", windows[1:])])


# How the operators of ONNX order the gates of a recurrent weight `[directions, gates * H, in]`, Keras of one `[in, gates * H]`.
_GRAPH_GATES = {"lstm": "iofc", "gru": "zrh", "rnn": "h"}
_KERAS_GATES = {"lstm": "ifco", "gru": "zrh", "rnn": "h"}


def _keras_gate_parts(spec: TensorSpec) -> list[Part]:
    """The whole, and one part per gate where there are several; gates are blocks of columns."""
    gates = _KERAS_GATES.get(spec.role or "", "h")
    size, rest = divmod(spec.shape[1], len(gates))
    if len(gates) == 1 or rest or not size:
        return [dense_part(spec)]
    cuts = [(f"gate_{gate}", _cut(spec.shape, 1, [slice(i * size, (i + 1) * size)])) for i, gate in enumerate(gates)]
    return [Part("whole", None, dense_part(spec).matrices), *_named(spec, 0, cuts)]


def graph_gate_parts(spec: TensorSpec) -> list[Part]:
    """One part per direction and gate; the whole as well where there is one direction and its rows are gates."""
    if spec.layout == "keras":
        return _keras_gate_parts(spec)
    axis = len(spec.shape) - 2
    base = whole_window(spec.shape)
    ways = [""] if axis == 0 or spec.shape[0] == 1 else ["forward", "backward"]
    gates = _GRAPH_GATES.get(spec.role or "", "h")
    split = len(gates) > 1 and spec.shape[axis] % len(gates) == 0 and spec.shape[axis] > 0
    size = spec.shape[axis] // len(gates) if split else spec.shape[axis]
    parts: list[Part] = []
    for number, way in enumerate(ways):
        lead = (slice(number, number + 1),) if axis else ()
        for place in range(len(gates) if split else 1):
            window = (*lead, slice(place * size, (place + 1) * size), base[-1])
            name = ".".join(text for text in (way, f"gate_{gates[place]}" if split else "") if text)
            parts.append(Part(name or None, len(parts) if name else None, (matrix_of(spec.shape, (axis,), [window]),)))
    if len(ways) == 1 and split:
        parts.insert(0, Part("whole", None, (matrix_of(spec.shape, (axis,), [base]),)))
    return parts


def gate_parts(spec: TensorSpec, hidden: int | None) -> list[Part] | None:
    """One part per gate of a recurrent `[gates * H, in]` weight: torch orders i f g o (LSTM), r z n (GRU)."""
    if hidden is None or hidden < 1 or spec.shape[0] % hidden:
        return None
    gates = {4: "ifgo", 3: "rzn"}.get(spec.shape[0] // hidden)
    if gates is None:
        return None
    return _named(
        spec, 0, [(f"gate_{gate}", _cut(spec.shape, 0, [slice(i * hidden, (i + 1) * hidden)])) for i, gate in enumerate(gates)]
    )


# How the rows of a fused projection are ordered, by architecture.
_CONTIGUOUS = frozenset(("phi3", "mpt", "modernbert", "phimoe"))
_CONTIGUOUS_WHEN_SHARED = frozenset(("chatglm", "gpt_bigcode", "falcon"))  # keys shared by several heads; else per head
_PER_HEAD = frozenset(("gpt_neox", "gpt_neox_japanese", "bloom", "persimmon"))
_PER_GROUP = frozenset(("internlm2", "phi3small"))


def qkv_parts(spec: TensorSpec, facts: Facts) -> list[Part] | None:
    """q, k and v of a fused projection where the split is certain: by architecture, or by a name with one meaning."""
    rows, columns = spec.shape
    if re.search(r"(?:^|[./])in_proj_weight$", spec.name) and rows == 3 * columns:
        return _blocks(spec, 0, (columns, columns, columns))
    if re.search(r"(?:^|[./])c_attn[./]weight$", spec.name) and columns == 3 * rows:
        return _blocks(spec, 1, (rows, rows, rows))  # GPT-2 keeps [in, 3 * out]
    heads, groups, size = _head_counts(facts, columns)
    if heads is None or groups is None or size is None or rows != (heads + 2 * groups) * size:
        return None
    kind, shared = facts.model_type, groups < heads
    grouped = kind in _PER_GROUP or (kind == "falcon" and facts.new_decoder_architecture is True)
    if kind in _CONTIGUOUS or (kind in _CONTIGUOUS_WHEN_SHARED and shared and not grouped):
        return _blocks(spec, 0, (heads * size, groups * size, groups * size))
    if grouped or (kind in _PER_HEAD | _CONTIGUOUS_WHEN_SHARED and not shared):
        return _interleaved(spec, groups, heads // groups, size)
    return None


def _head_counts(facts: Facts, hidden: int) -> tuple[int | None, int | None, int | None]:
    heads = facts.num_attention_heads
    if heads is None:
        return None, None, None
    size = facts.head_dim or (hidden // heads if hidden % heads == 0 else None)
    groups = facts.num_key_value_heads or heads
    if facts.model_type == "falcon" and not facts.new_decoder_architecture:
        groups = 1 if facts.multi_query else heads
    if facts.model_type == "gpt_bigcode":
        groups = heads if facts.multi_query is False else 1
    if facts.model_type == "chatglm" and facts.multi_query is not True:
        groups = heads
    return heads, groups if heads % groups == 0 else None, size


def _blocks(spec: TensorSpec, axis: int, sizes: Sequence[int]) -> list[Part]:
    edges = list(itertools.accumulate(sizes, initial=0))
    cuts = [slice(start, end) for start, end in itertools.pairwise(edges)]
    return _named(spec, 0, [(name, _cut(spec.shape, axis, [cut])) for name, cut in zip("qkv", cuts, strict=True)])


def _interleaved(spec: TensorSpec, groups: int, per_group: int, size: int) -> list[Part]:
    """Rows ordered `[group, per_group queries + key + value, head size]`."""
    block = (per_group + 2) * size
    places = {"q": (0, per_group * size), "k": (per_group * size, (per_group + 1) * size), "v": ((per_group + 1) * size, block)}
    return _named(
        spec,
        0,
        [
            (name, _cut(spec.shape, 0, [slice(g * block + start, g * block + end) for g in range(groups)]))
            for name, (start, end) in places.items()
        ],
    )


def stacked_rows_parts(spec: TensorSpec, facts: Facts) -> list[Part] | None:
    """DBRX keeps its experts as `[E * F, D]`; the configuration gives E."""
    experts = facts.num_experts
    if (
        facts.model_type != "dbrx"
        or experts is None
        or spec.shape[0] % experts
        or not re.search(r"experts[./]mlp[./][wv]\d$", spec.name)
    ):
        return None
    size = spec.shape[0] // experts
    return _named(spec, 0, [(f"expert_{e}", _cut(spec.shape, 0, [slice(e * size, (e + 1) * size)])) for e in range(experts)])


def _named(spec: TensorSpec, row_axis: int, parts: Iterable[tuple[str, tuple[Window, ...]]]) -> list[Part]:
    return [Part(name, number, (matrix_of(spec.shape, (row_axis,), pieces),)) for number, (name, pieces) in enumerate(parts)]
