"""The layer table: kinds with evidence, orientation, taps, stacks and splits, and a reason for everything else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Note
from ww_static import Limits, TensorSpec
from ww_static.layout.facts import Facts
from ww_static.layout.layers import LayerView, layer_table


def table(
    shapes: dict[str, tuple[int, ...]],
    facts: Facts | None = None,
    conv: str = "pooled",
    dtype: str = "F32",
    layout: str | None = "pt",
) -> list[LayerView]:
    return layer_table(
        [TensorSpec(name, dtype, shape, "f", layout=layout) for name, shape in shapes.items()], facts or Facts(), conv
    )


def only(name: str, shape: tuple[int, ...], **options: Any) -> LayerView:
    (view,) = table({name: shape}, **options)
    return view


def resnet18() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.weight": (64,),
        "fc.weight": (1000, 512),
        "fc.bias": (1000,),
    }
    for stage, (width, before) in enumerate(((64, 64), (128, 64), (256, 128), (512, 256)), start=1):
        for block in (0, 1):
            inputs = before if block == 0 else width
            shapes[f"layer{stage}.{block}.conv1.weight"] = (width, inputs, 3, 3)
            shapes[f"layer{stage}.{block}.conv2.weight"] = (width, width, 3, 3)
        if stage > 1:
            shapes[f"layer{stage}.0.downsample.0.weight"] = (width, before, 1, 1)
    return shapes


def vgg11() -> dict[str, tuple[int, ...]]:
    widths = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    shapes: dict[str, tuple[int, ...]] = {f"features.{i}.weight": (widths[i + 1], widths[i], 3, 3) for i in range(8)}
    return shapes | {
        "classifier.0.weight": (4096, 25088),
        "classifier.3.weight": (4096, 4096),
        "classifier.6.weight": (1000, 4096),
    }


def test_resnet_18_has_21_layers(measured: Note) -> None:
    """F5."""
    views = [view for view in table(resnet18()) if view.matrices]
    assert len(views) == 21
    for view in views:
        assert view.n is not None
        assert view.m is not None
        assert view.n >= view.m
        assert view.m * len(view.matrices) == view.num_evals
    fc = next(view for view in views if view.spec.name == "fc.weight")
    assert (fc.m, fc.n) == (512, 1000)
    measured("F5", f"{len(views)} layers, fc {fc.m} x {fc.n}")


def test_vgg_11_pools_taps_and_slices_them(measured: Note) -> None:
    """F6."""
    views = table(vgg11())
    assert len(views) == 11
    first, second = (next(view for view in views if view.spec.name == f"features.{i}.weight") for i in (0, 1))
    assert (first.n, first.m, len(first.matrices), first.num_evals) == (64, 3, 9, 27)
    assert second.num_evals == 576
    sliced = table(vgg11(), conv="slices")
    assert len(sliced) == 75
    assert sum(view.part is not None for view in sliced) == 72
    taps = [view for view in sliced if view.spec.name == "features.0.weight"]
    assert [view.part for view in taps] == [f"tap_{i}_{j}" for i in range(3) for j in range(3)]
    assert [view.slice_id for view in taps] == list(range(9))
    assert {view.esd_scale for view in taps} == {4.5}
    assert first.esd_scale == 0.5
    measured("F6", f"{len(views)} layers, {first.num_evals} and {second.num_evals} evals; {len(sliced)} rows")


def test_even_kernels_have_n_above_m(measured: Note) -> None:
    """F9: Conv2d 32 -> 16, 2 x 2."""
    view = only("conv.weight", (16, 32, 2, 2))
    assert (view.n, view.m, view.n / view.m if view.n and view.m else 0) == (32, 16, 2)
    measured("F9", f"N {view.n}, M {view.m}")


@pytest.mark.parametrize("layout", ["pt", None, "tf"])
def test_channels_first_and_last_give_nine_taps(layout: str | None, measured: Note) -> None:
    """T23, the geometry; the values are compared in test_analysis."""
    first = only("c.weight", (64, 64, 3, 3), layout=None if layout == "tf" else layout)
    last = only("c.kernel" if layout == "pt" else "c.weight", (3, 3, 64, 64), layout=None if layout == "pt" else layout)
    assert (first.orientation, last.orientation) == ("OIHW", "HWIO")
    assert len(first.matrices) == len(last.matrices) == 9
    assert first.num_evals == last.num_evals == 576
    measured("T23", f"{first.orientation} and {last.orientation}")


@pytest.mark.parametrize(
    ("shape", "orientation"),
    [
        ((16, 3, 7, 7), "OIHW"),
        ((7, 7, 3, 16), "HWIO"),
        ((3, 3, 3, 3), "ambiguous"),
        ((512, 256, 5, 1), "OIHW"),
        ((5, 1, 256, 512), "HWIO"),
    ],
)
def test_axis_order_without_evidence_comes_from_the_shape(shape: tuple[int, ...], orientation: str) -> None:
    assert only("block.weight", shape, layout=None).orientation == orientation


@pytest.mark.parametrize(
    ("name", "shape", "kind", "reason"),
    [
        ("ln.weight", (384,), "norm", "one_dimensional"),
        ("dense.bias", (384,), "bias", "one_dimensional"),
        ("logit_scale", (), "scale", "one_dimensional"),
        ("h.0.attn.bias", (1, 1, 64, 64), "buffer", "buffer"),
        ("rotary_emb.inv_freq", (64,), "buffer", "buffer"),
        ("encoder.relative_position_index", (49, 49), "buffer", "buffer"),
        ("stft.conv_real.weight", (513, 1, 1024), "buffer", "fixed_transform"),
        ("dw.weight", (32, 1, 3, 3), "conv2d", "depthwise"),
        ("to_grey.weight", (1, 3, 5, 5), "conv2d", "vector_taps"),
        ("conv1d.weight", (128, 1, 4), "conv1d", "depthwise"),
        ("mixer.A_log", (256, 16), "state_space", "not_applicable"),
        ("x.weight", (1, 512), "dense", "too_small"),
        ("x.weight", (0, 512), "other", "too_small"),
        ("x.weight", (2, 2, 2, 2, 2, 2, 2), "other", "unsupported_rank"),
        ("x.weight", (300, 200, 100), "other", "unsupported_rank"),
        ("model.q.lora_magnitude_vector.weight", (8, 512), "lora", "lora_part"),
        ("optimizer.state.0.exp_avg", (64, 64), "optimizer", "optimizer_state"),
        ("exp_avg_sq.layer.weight", (64, 64), "optimizer", "optimizer_state"),
        ("optimizer_state.state.140178.exp_avg", (64, 64), "optimizer", "optimizer_state"),
        ("optimizer_state_dict.x", (64, 64), "optimizer", "optimizer_state"),
        ("g_optimizer.x", (64, 64), "optimizer", "optimizer_state"),
        ("optim_g.x", (64, 64), "optimizer", "optimizer_state"),
        ("opt_state.x", (64, 64), "optimizer", "optimizer_state"),
        ("state.3.m", (64, 64), "optimizer", "optimizer_state"),
        ("lr_scheduler_state_dict.x", (64, 64), "optimizer", "scheduler"),
        ("scheduler.table", (64, 64), "optimizer", "scheduler"),
        ("model.layer.weight.grad", (64, 64), "optimizer", "gradient"),
    ],
)
def test_what_is_not_analysed_says_why(name: str, shape: tuple[int, ...], kind: str, reason: str) -> None:
    view = only(name, shape)
    assert (view.kind, view.reason, view.matrices) == (kind, reason, ())


@pytest.mark.parametrize("name", ["state.3.weight", "optimized.weight", "state.dense.kernel", "optic.weight"])
def test_names_that_only_resemble_an_optimizer_are_weights(name: str) -> None:
    assert only(name, (64, 64)).reason is None


def test_what_a_reader_lists_and_cannot_give_has_a_reason() -> None:
    for encoding, reason in (("unsupported", "unsupported_layout"), ("absent", "no_data")):
        spec = TensorSpec("fc.weight", "F32", (64, 64), "m.pt", encoding=encoding)
        (view,) = layer_table([spec], Facts())
        assert (view.kind, view.reason, view.matrices) == ("other", reason, ())


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("model.embed_tokens.weight", (32000, 512), "embedding"),
        ("transformer.wte.weight", (50257, 768), "embedding"),
        ("embeddings.word_embeddings.weight", (30522, 384), "embedding"),
        ("pos_embed", (1, 197, 768), "embedding"),
        ("lm_head.weight", (32000, 512), "head"),
        ("model.layers.0.self_attn.q_proj.weight", (512, 512), "attention"),
        ("model.layers.0.self_attn.kv_a_proj_with_mqa.weight", (576, 2048), "attention"),
        ("model.layers.0.mlp.up_proj.weight", (2048, 512), "dense"),
        ("model.layers.0.block_sparse_moe.experts.17.w1.weight", (2048, 512), "expert"),
        ("rnn.weight_hh_l0_reverse", (400, 100), "recurrent"),
        ("up.conv_transpose.weight", (64, 32, 4, 4), "conv_transpose"),
        ("feature.conv.weight", (512, 256, 10), "conv1d"),
        ("video.weight", (64, 32, 3, 3, 3), "conv3d"),
        ("momentum_encoder.fc1.weight", (64, 64), "dense"),
    ],
)
def test_kinds_by_name(name: str, shape: tuple[int, ...], kind: str) -> None:
    view = table({name: shape})[0]
    assert (view.kind, view.kind_source, view.reason) == (kind, "name" if kind != "conv3d" else "shape", None)


@pytest.mark.parametrize(
    ("dtype", "reason"),
    [("I64", "integer_tensor"), ("BOOL", "integer_tensor"), ("C64", "unsupported_dtype"), ("F8_E8M0", "quant_aux")],
)
def test_dtypes_that_are_no_weights(dtype: str, reason: str) -> None:
    assert only("x.weight", (64, 64), dtype=dtype).reason == reason


def test_packed_codes_are_known_by_their_companions() -> None:
    specs = [
        TensorSpec("a.weight", "I8", (64, 64), "f"), TensorSpec("a.weight_scale", "F32", (64, 1), "f"),
        TensorSpec("b.qweight", "I32", (8, 64), "f"), TensorSpec("b.qzeros", "I32", (1, 8), "f"),
        TensorSpec("b.scales", "F16", (1, 64), "f"), TensorSpec("b.g_idx", "I32", (64,), "f"),
        TensorSpec("c.weight", "F8_E4M3", (128, 128), "f"), TensorSpec("c.weight_scale_inv", "F32", (1, 1), "f"),
        TensorSpec("d.weight", "F32", (64, 64), "f"), TensorSpec("d.weight_scale", "F32", (64, 64), "f"),
        TensorSpec("e.weight", "F8_E5M2", (64, 64), "f"),
    ]  # fmt: skip
    reasons = {view.spec.name: view.reason for view in layer_table(specs, Facts())}
    assert {name for name, reason in reasons.items() if reason == "quantized"} == {"a.weight", "b.qweight", "c.weight"}
    assert {name for name, reason in reasons.items() if reason == "quant_aux"} == {
        "a.weight_scale", "b.qzeros", "b.scales", "b.g_idx", "c.weight_scale_inv",
    }  # fmt: skip
    assert {name for name, reason in reasons.items() if reason is None} == {"d.weight", "d.weight_scale", "e.weight"}


def rows_of(view: LayerView) -> list[int]:
    """Which rows of the tensor a part takes."""
    return [row for matrix in view.matrices for piece in matrix.pieces for row in range(view.spec.shape[0])[piece[0]]]


def test_gpt_2_attention_is_split_along_its_columns() -> None:
    views = table({"h.0.attn.c_attn.weight": (768, 2304)}, Facts(model_type="gpt2"))
    assert [view.part for view in views] == ["whole", "q", "k", "v"]
    assert [view.matrices[0].pieces[0][1] for view in views[1:]] == [slice(0, 768), slice(768, 1536), slice(1536, 2304)]
    assert {view.orientation for view in views} == {"in,out"}
    assert [view.slice_id for view in views] == [None, 0, 1, 2]


def test_torch_attention_is_split_in_thirds_by_its_name() -> None:
    assert [view.part for view in table({"attn.in_proj_weight": (192, 64)})] == ["whole", "q", "k", "v"]


def test_grouped_queries_are_split_by_the_configuration() -> None:
    facts = Facts(model_type="phi3", num_attention_heads=8, num_key_value_heads=2, hidden_size=512)
    views = table({"self_attn.qkv_proj.weight": (768, 512)}, facts)
    assert [view.matrices[0].shape for view in views] == [(768, 512), (512, 512), (128, 512), (128, 512)]


def test_interleaved_heads_are_undone() -> None:
    facts = Facts(model_type="gpt_neox", num_attention_heads=2, hidden_size=8)
    whole, q, k, v = table({"attention.query_key_value.weight": (24, 8)}, facts)
    assert rows_of(q) == [0, 1, 2, 3, 12, 13, 14, 15]
    assert rows_of(k) == [4, 5, 6, 7, 16, 17, 18, 19]
    assert sorted(rows_of(q) + rows_of(k) + rows_of(v)) == rows_of(whole)


def test_falcon_groups_its_queries() -> None:
    facts = Facts(
        model_type="falcon", num_attention_heads=4, num_key_value_heads=2, hidden_size=8, new_decoder_architecture=True
    )
    _, q, k, v = table({"query_key_value.weight": (16, 8)}, facts)
    assert rows_of(q) == [0, 1, 2, 3, 8, 9, 10, 11]
    assert rows_of(k) == [4, 5, 12, 13]
    assert rows_of(v) == [6, 7, 14, 15]


@pytest.mark.parametrize(
    ("facts", "shape"),
    [
        (Facts(), (768, 256)),
        (Facts(model_type="unheard_of", num_attention_heads=4), (768, 256)),
        (Facts(model_type="phi3", num_attention_heads=3), (768, 256)),
    ],
)
def test_uncertain_splits_are_not_made(facts: Facts, shape: tuple[int, int]) -> None:
    view = only("self_attn.qkv_proj.weight", shape, facts=facts)
    assert (view.part, view.kind, view.reason) == (None, "fused_qkv", None)


def test_gate_and_up_are_split_when_the_sizes_confirm_it() -> None:
    facts = Facts(model_type="phi3", intermediate_size=100, hidden_size=32)
    views = table({"mlp.gate_up_proj.weight": (200, 32)}, facts)
    assert [(view.part, view.matrices[0].shape) for view in views] == [
        ("whole", (200, 32)),
        ("gate", (100, 32)),
        ("up", (100, 32)),
    ]
    assert only("mlp.gate_up_proj.weight", (200, 32)).part is None


def test_expert_stacks_give_a_row_per_expert() -> None:
    views = table({"mlp.experts.down_proj": (4, 32, 64)})
    assert [view.part for view in views] == [f"expert_{e}" for e in range(4)]
    assert {view.matrices[0].shape for view in views} == {(32, 64)}


def test_gpt_oss_interleaves_gate_and_up() -> None:
    facts = Facts(model_type="gpt_oss", hidden_size=32, intermediate_size=48)
    views = table({"mlp.experts.gate_up_proj": (2, 32, 96)}, facts)
    assert [view.part for view in views] == ["expert_0.gate", "expert_0.up", "expert_1.gate", "expert_1.up"]
    assert views[1].matrices[0].pieces[0] == (slice(0, 1), slice(0, 32), slice(1, 96, 2))
    assert [view.part for view in table({"mlp.experts.gate_up_proj": (2, 96, 96)}, facts)] == ["expert_0", "expert_1"]


def test_dbrx_experts_lie_in_one_matrix() -> None:
    facts = Facts(model_type="dbrx", num_experts=4)
    views = table({"ffn.experts.mlp.w1": (64, 32)}, facts)
    assert [view.part for view in views] == ["whole", "expert_0", "expert_1", "expert_2", "expert_3"]


def test_recurrent_gates() -> None:
    views = table(
        {
            "lstm.weight_ih_l0": (400, 40),
            "lstm.weight_hh_l0": (400, 100),
            "gru.weight_ih_l0": (300, 40),
            "gru.weight_hh_l0": (300, 100),
        }
    )
    parts = {
        name: [view.part for view in views if view.spec.name == name] for name in ("lstm.weight_ih_l0", "gru.weight_hh_l0")
    }
    assert parts == {
        "lstm.weight_ih_l0": ["whole", "gate_i", "gate_f", "gate_g", "gate_o"],
        "gru.weight_hh_l0": ["whole", "gate_r", "gate_z", "gate_n"],
    }
    projected = table({"l.weight_ih_l0": (400, 40), "l.weight_hh_l0": (400, 30), "l.weight_hr_l0": (30, 100)})
    assert len([view for view in projected if view.spec.name == "l.weight_hh_l0"]) == 5
    assert only("lone.weight_ih_l0", (400, 40)).part is None


def test_flat_convolutions_are_one_matrix() -> None:
    view = only("conv.weight", (64, 3, 7, 7), conv="flatten")
    assert (view.matrices[0].shape, view.esd_scale) == ((64, 147), 1.0)
    assert only("dw.weight", (32, 1, 3, 3), conv="flatten").matrices[0].shape == (32, 9)


def test_embedding_by_vocabulary_of_the_configuration() -> None:
    view = only("tied.table", (30522, 384), facts=Facts(vocab_size=30522, hidden_size=384))
    assert (view.kind, view.kind_source, view.confidence) == ("embedding", "config", "medium")


def test_rows_come_in_natural_order() -> None:
    names = [view.spec.name for view in table({f"layer.{i}.weight": (9, 9) for i in (10, 2, 1, 100)})]
    assert names == ["layer.1.weight", "layer.2.weight", "layer.10.weight", "layer.100.weight"]


@given(
    st.dictionaries(st.text(max_size=40), st.lists(st.integers(0, 9), max_size=7).map(tuple), min_size=1, max_size=8),
    st.sampled_from(["pooled", "slices", "flatten"]),
    st.sampled_from(["F32", "I8", "F4", "C64"]),
)
def test_every_tensor_has_a_row_whatever_it_is_called(shapes: dict[str, tuple[int, ...]], conv: str, dtype: str) -> None:
    views = table(shapes, conv=conv, dtype=dtype, layout=None)
    assert {view.spec.name for view in views} == set(shapes)
    assert len({(view.spec.name, view.part) for view in views}) == len(views)
    for view in views:
        assert bool(view.matrices) == (view.reason is None)
        for matrix in view.matrices:
            assert min(matrix.shape) >= 2
            count = sum(
                int(np.prod([len(range(*cut.indices(size))) for cut, size in zip(piece, view.spec.shape, strict=True)]))
                for piece in matrix.pieces
            )
            assert count == matrix.shape[0] * matrix.shape[1]


def test_tensors_that_would_be_cut_into_too_many_matrices_are_left_whole_or_refused() -> None:
    """A header can declare a million taps in a few bytes: they are counted before any of them is made."""
    shapes: dict[str, tuple[int, ...]] = {
        "conv.weight": (2, 2, 1000, 1000), "mlp.experts.down_proj": (1_000_000, 2, 2), "dense.weight": (9, 9),
        "attn.query_key_value.weight": (600_000, 200_000),
    }  # fmt: skip
    facts = Facts(model_type="bloom", num_attention_heads=200_000)
    reasons = {view.spec.name: (view.part, view.reason) for view in table(shapes, facts)}
    assert reasons == {
        "conv.weight": (None, "limit"), "mlp.experts.down_proj": (None, "limit"),
        "dense.weight": (None, None), "attn.query_key_value.weight": (None, None),
    }  # fmt: skip
    specs = [TensorSpec(f"conv.{i}.weight", "F32", (4, 4, 10, 10), "f", layout="pt") for i in range(10)]
    sliced = layer_table(specs, Facts(), "slices", Limits(rows=250))
    assert [view.reason for view in sliced].count("limit") == 8
    assert len(sliced) == 208


def test_taps_are_counted_and_placed_like_a_product() -> None:
    import itertools

    (view,) = table({"conv.weight": (8, 4, 3, 5)})
    places = [tuple(piece[axis].start for axis in (2, 3)) for matrix in view.matrices for piece in matrix.pieces]
    assert places == list(itertools.product(range(3), range(5)))
    assert [matrix.shape for matrix in view.matrices[3:5]] == [(8, 4), (8, 4)]
    with pytest.raises(IndexError, match="tap 15 of 15"):
        view.matrices[15]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(model_type="gpt_bigcode", num_attention_heads=4, hidden_size=8, multi_query=False), "per head"),
        (Facts(model_type="chatglm", num_attention_heads=4, hidden_size=8), "per head"),
        (Facts(model_type="bloom", num_attention_heads=4, hidden_size=8), "per head"),
        (Facts(model_type="mpt", num_attention_heads=4, hidden_size=8), "thirds"),
    ],
)
def test_heads_that_share_nothing_are_interleaved_where_the_architecture_does(facts: Facts, expected: str) -> None:
    _, q, _, _ = table({"attn.query_key_value.weight": (24, 8)}, facts)
    assert rows_of(q) == ([0, 1, 6, 7, 12, 13, 18, 19] if expected == "per head" else list(range(8)))


def test_shared_keys_are_contiguous_or_grouped_by_architecture() -> None:
    shared = {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 8}
    shape = {"attn.query_key_value.weight": (16, 8)}
    _, _, k, _ = table(shape, Facts(model_type="chatglm", multi_query=True, **shared))  # type: ignore[arg-type]
    assert rows_of(k) == [8, 9, 10, 11]
    _, _, k, _ = table(shape, Facts(model_type="phi3small", **shared))  # type: ignore[arg-type]
    assert rows_of(k) == [4, 5, 12, 13]
    _, q, k, v = table({"c_attn.weight": (12, 8)}, Facts(model_type="gpt_bigcode", num_attention_heads=4, hidden_size=8))
    assert (rows_of(q), rows_of(k), rows_of(v)) == (list(range(8)), [8, 9], [10, 11])


@pytest.mark.parametrize(
    ("name", "shape", "kind", "reason"),
    [
        ("vit.embeddings.cls_token", (1, 1, 64), "scale", "one_dimensional"),
        ("layer_scale.gamma", (64, 1, 1), "norm", "one_dimensional"),
        ("layer1.0.bn2.weight", (64,), "norm", "one_dimensional"),
        ("transformer.h.0.ln_1.weight", (64,), "norm", "one_dimensional"),
        ("vln.x", (64,), "scale", "one_dimensional"),
        ("mlp.experts.gate_up_proj_bias", (32, 576), "bias", "not_applicable"),
        ("experts.down_proj.bias", (32, 64), "bias", "not_applicable"),
        ("lora_magnitude_vector", (8, 64), "lora", "lora_part"),
        ("query_tokens", (1, 32, 64), "dense", None),
        ("relative_attention_bias.weight", (32, 8), "embedding", None),
    ],
)
def test_vectors_and_biases_of_any_rank(name: str, shape: tuple[int, ...], kind: str, reason: str | None) -> None:
    view = only(name, shape)
    assert (view.kind, view.reason) == (kind, reason)


def test_eight_bit_weights_without_a_scale_are_quantized() -> None:
    assert only("layer.weight", (64, 64), dtype="I8").reason == "quantized"
    assert only("layer.weight", (64, 64), dtype="I64").reason == "integer_tensor"
    assert only("codes", (64, 64), dtype="I8").reason == "integer_tensor"


def test_every_kind_can_be_asked_for() -> None:
    from ww_static import options
    from ww_static.layout import kinds

    text = Path(kinds.__file__).read_text()
    named = set(re.findall(r'Kind\("(\w+)"', text)) | {name for name, _ in kinds._ROLES} | {name for name, _ in kinds._VECTORS}
    assert named - {"optimizer"} <= set(options.KINDS)
