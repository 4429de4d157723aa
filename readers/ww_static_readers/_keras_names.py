"""What a weight of a Keras model is for: the class of its layer, from the configuration or the path, and its place in the layer.

Paths of Keras 3 say the class (`layers/conv2d_1/vars/0`), and variables are numbered; legacy paths say the user's name of the layer
and that of the weight (`stem/stem/kernel:0`), and the configuration has the class. Without either, the default name of
a layer and the name of a weight say what they can. Sources: the `build` methods of the layers of Keras 2.0 to 3.15.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ww_static_readers import _keras_einsum, _keras_heads
from ww_static_readers._keras_config import Layer

_NUMBERS = re.compile(r"(?:_\d+)+$")
_TENSOR = re.compile(r":\d+$")
_PASSED = frozenset(("layers", "cell", "layer", "forward_layer", "backward_layer", "vars"))
_MOST_DEPTH = 40  # of groups that can have a layer; longer paths are not Keras's
_CONTAINERS = frozenset(("functional", "sequential", "model"))

# Class in lower case without underscores -> what its weights are for.
_FAMILIES = {
    **dict.fromkeys(("dense", "einsumdense"), "dense"),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution1d", "convolution2d", "convolution3d"), "conv"),
    **dict.fromkeys(("conv1dtranspose", "conv2dtranspose", "conv3dtranspose", "deconvolution2d"), "conv_transpose"),
    **dict.fromkeys(("depthwiseconv1d", "depthwiseconv2d"), "depthwise"),
    **dict.fromkeys(("separableconv1d", "separableconv2d", "separableconvolution2d"), "separable"),
    **dict.fromkeys(("embedding", "reversibleembedding"), "embedding"),
    **dict.fromkeys(("lstm", "lstmcell", "cudnnlstm"), "lstm"),
    **dict.fromkeys(("gru", "grucell", "cudnngru"), "gru"),
    **dict.fromkeys(("simplernn", "simplernncell"), "rnn"),
    **dict.fromkeys(("multiheadattention", "groupqueryattention", "groupedqueryattention"), "attention"),
}
# The weights of a layer, in the order of Keras 3; what comes later are vectors.
_WEIGHTS = {
    "dense": ("kernel", "bias"),
    "conv": ("kernel", "bias"),
    "conv_transpose": ("kernel", "bias"),
    "depthwise": ("depthwise_kernel", "bias"),
    "separable": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "embedding": ("embeddings",),
    "lstm": ("kernel", "recurrent_kernel", "bias"),
    "gru": ("kernel", "recurrent_kernel", "bias"),
    "rnn": ("kernel", "recurrent_kernel", "bias"),
    "attention": ("kernel", "bias"),
}
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


@dataclass(frozen=True, slots=True)
class Use:
    """What a weight is for, what its axes are, and why it is not analysed; None where nothing says."""

    role: str | None = None
    axes: tuple[str, ...] | None = None
    reason: str | None = None


class Names:
    """The evidence of one model.

    Args:
        shapes: path of every tensor -> its shape.
        layers: name of a layer -> what the configuration says of it; None where two layers disagree.
        called: path of a group of Keras 3 -> the user's name of its layer.
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], layers: Mapping[str, Layer | None], called: Mapping[str, str]
    ) -> None:
        self._shapes = shapes
        self._layers = layers
        self._called = called

    def use(self, path: str) -> Use:
        """What the weight at `path` is for."""
        *above, leaf = path.split("/")
        shape = self._shapes[path]
        numbered = bool(above) and above[-1] == "vars" and leaf.isdecimal()
        inner = above[:-1] if numbered else above
        family = self._numbered_family(above) if numbered else self._named_family(above)
        family = family or self._recurrent_family(path, numbered)
        weight = _weight(family, leaf) if numbered else _TENSOR.sub("", leaf)
        use = None
        if weight == "kernel" and family in (None, "dense", "attention") and len(shape) > 1:
            use = self._product(family, inner, f"vars/{leaf}" if numbered else leaf, len(shape))
        use = use or _use(family, weight, shape)
        unordered = family is not None and use == Use() and len(shape) > 2
        return Use(reason="unsupported_rank") if unordered else use

    def called(self, path: str) -> str | None:
        """The user's names of the layers around a weight of Keras 3, from the outside in."""
        parts = path.split("/")
        names = [self._called.get("/".join(parts[:end])) for end in range(1, min(len(parts) - 1, _MOST_DEPTH))]
        return "/".join(name for name in names if name) or None

    def _product(self, family: str | None, inner: Sequence[str], tail: str, rank: int) -> Use | None:
        """A kernel with several axes of inputs or outputs: by the equation of its layer, or as heads of attention."""
        equation = self._equation(inner, tail.startswith("vars/"))
        if equation is not None:
            axes = _keras_einsum.axes_of(equation, rank)
            return Use("dense", axes) if axes else Use(reason="unsupported_rank" if rank > 2 else "unsupported_layout")
        if rank < 3 or not inner or not _keras_heads.is_projection(inner[-1]):
            return None
        axes = _keras_heads.axes_of(inner, tail, self._shapes, family == "attention")
        return Use("attention", axes) if axes else Use(reason="unsupported_rank")

    def _equation(self, inner: Sequence[str], numbered: bool) -> str | None:
        if numbered:
            layer = self._layers.get(self._called.get("/".join(inner), "")) if len(inner) < _MOST_DEPTH else None
        else:
            layer = next((self._layers[part] for part in reversed(inner) if part in self._layers), None)
        return layer.equation if layer is not None and _family(layer.kind) == "dense" else None

    def _numbered_family(self, above: Sequence[str]) -> str | None:
        for end in range(len(above) - 1, 0, -1):
            part, user = above[end - 1], self._called.get("/".join(above[:end])) if end < _MOST_DEPTH else None
            family = _family(part) if part not in _PASSED else None
            if family is None and user is not None:
                layer = self._layers.get(user)
                family = _family(layer.kind if layer is not None else user)
            if family is not None:
                return family
        return None

    def _named_family(self, above: Sequence[str]) -> str | None:
        for names in (above, [_NUMBERS.sub("", part) for part in above]):
            for part in reversed(names):
                layer = self._layers.get(part)
                if layer is not None and layer.kind.lower() not in _CONTAINERS:
                    return _family(layer.kind)
        return next((family for part in reversed(above) if (family := _family(part)) is not None), None)

    def _recurrent_family(self, path: str, numbered: bool) -> str | None:
        """LSTM, GRU or simple: by the columns for each row of the recurrent kernel beside a weight."""
        folder, _, leaf = path.rpartition("/")
        suffix = leaf[len(_TENSOR.sub("", leaf)) :]
        if numbered and not folder.endswith("/cell/vars"):
            return None
        recurrent = self._shapes.get(f"{folder}/1" if numbered else f"{folder}/recurrent_kernel{suffix}")
        kernel = self._shapes.get(f"{folder}/0" if numbered else f"{folder}/kernel{suffix}")
        if recurrent is None or kernel is None or len(recurrent) != 2 or len(kernel) != 2 or recurrent[1] != kernel[1]:
            return None
        return next((kind for kind, gates in GATES.items() if recurrent[1] == gates * recurrent[0]), None)


def _family(name: str) -> str | None:
    return _FAMILIES.get(_NUMBERS.sub("", name).replace("_", "").lower())


def _weight(family: str | None, number: str) -> str:
    """The name of a numbered weight; of a layer without a known class, the first may be a kernel."""
    order = _WEIGHTS.get(family or "", ("kernel",))
    return order[int(number)] if len(number) < 3 and int(number) < len(order) else ""


def _use(family: str | None, weight: str, shape: tuple[int, ...]) -> Use:
    rank = len(shape)
    kernel = ("kernel",) * (rank - 2)
    if weight.endswith("bias"):
        return Use("bias")
    if weight == "depthwise_kernel" or (family == "depthwise" and weight == "kernel"):
        return (
            Use("depthwise", (*kernel, "out", "in")) if rank in (3, 4) else Use()
        )  # one filter per channel: [*k, C, multiplier]
    if weight in ("kernel", "pointwise_kernel") and (family == "conv" or weight != "kernel") and 3 <= rank <= 5:
        return Use("conv", (*kernel, "in", "out"))
    if family == "conv_transpose" and weight == "kernel" and 3 <= rank <= 5:
        return Use("conv_transpose", (*kernel, "out", "in"))
    if family in GATES and weight in ("kernel", "recurrent_kernel") and rank == 2 and shape[1] % GATES[family] == 0:
        return Use(family, ("in", "out"))
    if (family == "embedding" or weight == "embeddings") and weight in ("embeddings", "kernel") and rank == 2:
        return Use("embedding")
    if family == "dense" and weight == "kernel" and rank == 2:
        return Use("dense", ("in", "out"))
    return Use()
