"""What a tensor is: kind, the evidence for it, how sure that is, and the reason when it is no matrix to analyse.

Evidence in this order, best first: the operators of the file's graph, the file itself (dtype, siblings), ``config.json``,
the name, the shape. Rules are
tables; a rule that needs more than a pattern is a function. Names are matched, never trusted: a wrong kind costs a
wrong label or a missing split, not a wrong spectrum, since spectra do not depend on orientation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ww_static.dtypes import storage_dtype
from ww_static.layout.facts import Facts
from ww_static.protocol import TensorSpec


@dataclass(frozen=True, slots=True)
class Kind:
    """The classification of one tensor.

    Attributes:
        name: dense, attention, head, embedding, conv1d, conv2d, conv3d, conv_transpose, fused_qkv, fused_gate_up,
            expert, recurrent, norm, bias, scale, buffer, state_space, quant_aux, lora, optimizer, other.
        source: graph | file | config | name | shape.
        confidence: high | medium | low.
        reason: why it is not analysed; None when it is.
    """

    name: str
    source: str
    confidence: str = "high"
    reason: str | None = None


def _component(words: str) -> re.Pattern[str]:
    """Matches when one of `words` is a whole component of the name."""
    return re.compile(rf"(?:^|[./:])(?:{words})(?=[./:]|$)")


# Parts of a training state that are no weights: pattern -> reason.
_STATES = (
    (
        _component(
            r"(?:\w+_)?optim(?:izer)?s?(?:_(?:[a-z]|states?|state_dicts?|weights|dict))?"
            r"|opt_states?|exp_avg(?:_sq)?|max_exp_avg_sq|momentum_buffer"
        ),
        "optimizer_state",
    ),
    (re.compile(r"(?:^|\.)state\.\d+\.(?!weight$|bias$)\w+$"), "optimizer_state"),  # parameters of an optimizer have numbers
    (_component(r"(?:lr_|\w+_)?schedulers?(?:_states?|_state_dicts?)?"), "scheduler"),
    (_component(r"rng|rng_states?|random_states?|torch_rng_state|cuda_rng_state|(?:\w+_)?seed_generator(?:_\d+)?"), "rng"),
    (_component(r"grads?|gradients?"), "gradient"),
)
_BUFFER = re.compile(
    r"(?:^|[./])(?:position_ids|token_type_ids|masked_bias|inv_freq|original_inv_freq|freqs_cis|relative_position_index"
    r"|relative_coords_table|num_batches_tracked|attn_mask|causal_mask|running_mean|running_var)$|(?:^|[./])rotary_emb[./]"
)
_MASK = re.compile(r"(?:^|[./])(?:attn|attention|self_attn)\.bias$")
_TRANSFORM = re.compile(r"(?:^|[._/])(?:stft|istft|dft|fft|basis|mel_basis|mel_filters|melspec|mel_fb)(?=[._/]|$)")
_LORA = re.compile(
    r"(?:^|[._])lora_(?:A|B|embedding_A|embedding_B|magnitude_vector)(?=[._]|$)|(?:^|[._])lora_(?:up|down)(?=[._]|$)"
)
_STATE_SPACE = re.compile(r"(?:^|[./])A_log$")
_WEIGHT = re.compile(r"(?:^|[._/])(?:weight|kernel)$")
_PACKED = re.compile(r"(?:^|[._/])(?:qweight|weight_packed)$")  # codes of several elements in one integer
_CONV = re.compile(r"conv|downsample|depthwise", re.IGNORECASE)
_TRANSPOSED = re.compile(r"transpose|deconv", re.IGNORECASE)
_EXPERTS = re.compile(r"(?:^|[._/])experts?(?=[._/]|$)|_exps(?=[._/]|$)")
_POSITION = re.compile(r"pos(?:ition(?:al)?)?_?emb", re.IGNORECASE)
_RECURRENT = re.compile(r"(?:^|[./])weight_(?:ih|hh|hr)(?:_l\d+)?(?:_reverse)?$")

# The name without its last component decides what a plain 2-D weight is: first match wins.
_ROLES = (
    (
        "fused_qkv",
        re.compile(
            r"(?:^|[./])(?:c_attn|query_key_value|qkv_proj|in_proj_weight|Wqkv|wqkv|qkv|to_qkv)(?:[./](?:weight|kernel))?$"
        ),
    ),
    ("fused_gate_up", re.compile(r"(?:^|[./])(?:gate_up_proj|w12|Wi)(?:[./](?:weight|kernel))?$")),
    (
        "embedding",
        re.compile(
            r"(?:^|[./])(?:embed_tokens|wte|wpe|word_embeddings?|tok_embeddings?|embed_in|shared|pos(?:ition(?:al)?)?_embed(?:ding)?s?"
            r"|embed_positions|token_type_embeddings?|embeddings?|embedding_table|token_embedding|relative_attention_bias"
            r"|relative_position_bias_table)(?:[./](?:weight|embedding))?$"
        ),
    ),
    ("head", re.compile(r"(?:^|[./])(?:lm_head|embed_out|classifier|score|head|output|fc)(?:[./](?:weight|kernel))?$")),
    (
        "attention",
        re.compile(
            r"(?:^|[./])(?:[qkvo]_proj|out_proj|query|key|value|w[qkvo]|to_[qkv]|to_out\.0|q_[ab]_proj|kv_a_proj_with_mqa|kv_b_proj"
            r"|q_lin|k_lin|v_lin|out_lin)(?:[./](?:weight|kernel))?$|attention[./]output[./]dense[./](?:weight|kernel)$"
        ),
    ),
)
_STACKED_BIAS = re.compile(r"(?:^|[._/])bias$")
_VECTORS = (
    ("bias", re.compile(r"(?:bias|_b|beta)$")),
    ("norm", re.compile(r"norm|(?:^|[._/])(?:ln|bn)\d*(?=[._/]|$)|gamma$", re.IGNORECASE)),
)
# A quantized weight is known by what stands beside it: suffix of the codes -> suffixes of its companions.
_QUANTIZED = (
    (".qweight", (".scales", ".qzeros")),
    (".weight_packed", (".weight_scale",)),
    ("_blocks", ("_scales",)),
    (
        ".weight",
        (".weight_scale", ".weight_scale_inv", ".weight_scale_2", ".SCB", ".weight.absmax", ".scales", ".weight_zero_point"),
    ),
    ("", ("_scale", "_scale_inv", "_scales", ".absmax")),
)
_AUX = re.compile(
    r"(?:\.(?:scales|qzeros|g_idx|SCB|absmax|quant_map|nested_absmax|nested_quant_map|zeros|biases)"
    r"|[._](?:weight_scale(?:_inv|_2)?|weight_zero_point|weight_shape|weight_global_scale|input_scale|scale_inv)|_scales?"
    r"|\.quant_state\.[\w]+)$"
)


def classify(spec: TensorSpec, tensors: Mapping[str, TensorSpec], facts: Facts) -> Kind:
    """The kind of one tensor.

    Args:
        spec: the tensor.
        tensors: all tensors of the model by name; companions of quantized weights are looked up in it.
        facts: what ``config.json`` says.
    """
    for rule in (_said_by_file, _training_state, _quantization, _not_float, _special_name, _vector, _graph, _stack_or_conv):
        if (kind := rule(spec, tensors, facts)) is not None:
            return kind
    return _matrix(spec, facts)


def _said_by_file(spec: TensorSpec, tensors: Mapping[str, TensorSpec], facts: Facts) -> Kind | None:
    """The reader knows why there is nothing to analyse, or cannot give the values."""
    reason = {"unsupported": "unsupported_layout", "absent": "no_data"}.get(spec.encoding)
    if spec.reason is None:
        return None if reason is None else Kind("other", "file", "high", reason)
    return Kind(
        "quant_aux" if spec.reason == "quant_aux" else "other", "graph" if _in_graph(spec) else "file", "high", spec.reason
    )


def _graph(spec: TensorSpec, tensors: Mapping[str, TensorSpec], facts: Facts) -> Kind | None:
    """What the operator or layer that uses a tensor says it is; a name may know better what a dense weight is for."""
    rank = len(spec.shape)
    source = "file" if spec.layout == "keras" else "graph"  # the class of a layer, or an operator
    if spec.role in ("dense", "one_hot") and rank == 2:
        named = _matrix(spec, facts)
        return named if named.name in ("attention", "head") else Kind("dense", source)
    if spec.role == "dense" and spec.axes is not None and set(spec.axes) == {"in", "out"}:
        return Kind("dense", source)
    if spec.role == "attention" and (rank == 2 or spec.axes is not None):
        return Kind("attention", source)
    if spec.role in ("embedding", "fused_qkv") and rank == 2:
        return Kind(spec.role, source)
    if spec.role in ("conv", "conv_transpose", "depthwise") and 3 <= rank <= 5:
        return Kind("conv_transpose" if spec.role == "conv_transpose" else f"conv{rank - 2}d", source)
    if spec.role in ("lstm", "gru", "rnn", "recurrent") and (rank == 2 or (rank == 3 and spec.shape[0] <= 2)):
        return Kind("recurrent", source)
    return None


def _in_graph(spec: TensorSpec) -> bool:
    """Whether an operator uses it; Keras gives the path of a layer instead."""
    return spec.op_path is not None and spec.layout != "keras"


def _training_state(spec: TensorSpec, tensors: Mapping[str, TensorSpec], facts: Facts) -> Kind | None:
    if spec.role is not None:
        return None
    for pattern, reason in _STATES:
        if pattern.search(spec.name):
            return Kind("optimizer", "name", "medium", reason)
    return None


def _bare(name: str) -> str:
    """A name without the number of its output, which TensorFlow puts behind it: ``kernel:0``."""
    return re.sub(r":\d+$", "", name)


def _quantization(spec: TensorSpec, tensors: Mapping[str, TensorSpec], facts: Facts) -> Kind | None:
    """Packed or scaled codes are not numbers; without a decoder the weight is left, and said so."""
    if spec.encoding == "quantized":
        return None  # the reader gives float32: an ordinary tensor
    if storage_dtype(spec.dtype).family == "scale":
        return Kind("quant_aux", "file", "high", "quant_aux")
    if _is_auxiliary(spec.name, tensors):
        return Kind("quant_aux", "file", "high", "quant_aux")
    if _is_code(spec):
        for suffix, companions in _QUANTIZED:
            stem = spec.name.removesuffix(suffix)
            if spec.name.endswith(suffix) and any(stem + companion in tensors for companion in companions):
                return Kind("dense", "file", "high", "quantized")
    return None


def _is_code(spec: TensorSpec) -> bool:
    return storage_dtype(spec.dtype).bits <= 8 or storage_dtype(spec.dtype).family == "integer"


def _is_auxiliary(name: str, tensors: Mapping[str, TensorSpec]) -> bool:
    """A scale, zero point or table that stands beside the codes it belongs to."""
    base = _AUX.sub("", name)
    beside = (tensors.get(base + suffix) for suffix in ("", ".weight", ".qweight", ".weight_packed", "_blocks"))
    return base != name and any(one is not None and _is_code(one) for one in beside)


def _not_float(spec: TensorSpec, tensors: Mapping[str, TensorSpec], facts: Facts) -> Kind | None:
    family = "float" if spec.encoding == "quantized" else storage_dtype(spec.dtype).family
    if _BUFFER.search(spec.name):
        return Kind("buffer", "name", "high", "buffer")
    if family in ("integer", "boolean") and _in_graph(spec) and spec.role is None:
        return Kind("buffer", "graph", "high", "buffer")  # axes, shapes and indices of operators
    weight = _WEIGHT.search(_bare(spec.name)) or (spec.layout == "keras" and spec.role not in (None, "bias"))
    codes = (storage_dtype(spec.dtype).bits <= 8 and weight) or _PACKED.search(spec.name)
    if family == "integer" and len(spec.shape) > 1 and codes:
        return Kind("dense", "name", "medium", "quantized")  # codes of a weight whose scale is nowhere
    if family in ("integer", "boolean"):
        return Kind("buffer", "file", "medium", "integer_tensor")
    if family == "complex":
        return Kind("other", "file", "high", "unsupported_dtype")
    return None


def _special_name(spec: TensorSpec, tensors: Mapping[str, TensorSpec], facts: Facts) -> Kind | None:
    if _MASK.search(spec.name) and len(spec.shape) == 4 and spec.shape[:2] == (1, 1) and spec.shape[2] == spec.shape[3]:
        return Kind("buffer", "name", "high", "buffer")  # a causal mask that looks like a convolution
    if _TRANSFORM.search(spec.name):
        return Kind("buffer", "name", "medium", "fixed_transform")
    if _LORA.search(spec.name):
        return Kind("lora", "name", "high", "lora_part")
    if _STATE_SPACE.search(spec.name):
        return Kind("state_space", "name", "high", "not_applicable" if len(spec.shape) > 1 else "one_dimensional")
    return None


def _vector(spec: TensorSpec, tensors: Mapping[str, TensorSpec], facts: Facts) -> Kind | None:
    if 0 in spec.shape:
        return Kind("other", "shape", "high", "too_small")
    if spec.role == "bias":
        vector = sum(size > 1 for size in spec.shape) <= 1
        return Kind("bias", "file", "high", "one_dimensional" if vector else "not_applicable")
    if len(spec.shape) == 2 and _STACKED_BIAS.search(_bare(spec.name)):
        return Kind("bias", "name", "high", "not_applicable")
    if sum(size > 1 for size in spec.shape) > 1:
        return None
    if len(spec.shape) == 2:
        return replace(_matrix(spec, facts), reason="too_small")
    kernel = len(spec.shape) > 3 and not _in_graph(spec)
    if len(spec.shape) > 2 and (kernel or spec.role is not None or _CONV.search(spec.name)):
        return None  # a kernel of one channel has reasons of its own
    name = next((kind for kind, pattern in _VECTORS if pattern.search(_bare(spec.name))), "scale")
    return Kind(name, "name", "medium", "one_dimensional")


def _stack_or_conv(spec: TensorSpec, tensors: Mapping[str, TensorSpec], facts: Facts) -> Kind | None:
    rank = len(spec.shape)
    if rank <= 2:
        return None
    if rank == 3:
        return _three_axes(spec, facts)
    if rank > 5:
        return Kind("other", "shape", "high", "unsupported_rank")
    source, confidence = ("name", "high") if _CONV.search(spec.name) else ("shape", "medium")
    name = "conv_transpose" if _TRANSPOSED.search(spec.name) else f"conv{rank - 2}d"
    return Kind(name, source, confidence)


def _three_axes(spec: TensorSpec, facts: Facts) -> Kind:
    if _EXPERTS.search(spec.name) or re.search(r"(?:^|[./])gate_up_proj$", spec.name):
        return Kind("expert", "name", "high")
    if facts.num_experts == spec.shape[0] and not _CONV.search(spec.name):
        return Kind("expert", "config", "medium")
    if _CONV.search(spec.name):
        return Kind("conv_transpose" if _TRANSPOSED.search(spec.name) else "conv1d", "name", "high")
    if spec.shape[0] == 1:
        return Kind("embedding", "name", "high") if _POSITION.search(spec.name) else Kind("dense", "shape", "low")
    first, _, last = spec.shape
    short, others = (last, spec.shape[:2]) if last <= first else (first, spec.shape[1:])
    if short <= 16 and short < min(others):
        return Kind("conv1d", "shape", "low")
    return Kind("other", "shape", "low", "unsupported_rank")


def _matrix(spec: TensorSpec, facts: Facts) -> Kind:
    if _RECURRENT.search(spec.name):
        return Kind("recurrent", "name")
    bare = _bare(spec.name)
    for name, pattern in _ROLES:
        if pattern.search(bare):
            expert = name == "attention" or not _EXPERTS.search(spec.name)
            return Kind(name if expert else "expert", "name")
    if _EXPERTS.search(spec.name):
        return Kind("expert", "name")
    if facts.vocab_size is not None and facts.vocab_size in spec.shape and facts.hidden_size in spec.shape:
        return Kind("embedding", "config", "medium")
    if bare.endswith(("weight", "kernel")):
        return Kind("dense", "name", "medium")
    return Kind("dense", "shape", "low")
