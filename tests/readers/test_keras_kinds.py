"""What the weights of Keras files are: by the class of their layer, the equation, the weights beside them, or their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ww_static as ww
from keras_files import archive, configuration, keras3, layer, legacy, values


def kinds(path: Path) -> dict[str, tuple[str, str, str | None, str | None]]:
    rows = ww.describe(path)
    return {row.name or "": (row.kind or "", row.kind_source or "", row.orientation, row.reason) for row in rows}


NUMBERED = {
    "layers/conv2d/vars/0": (values(3, 3, 4, 6), ("conv2d", "file", "HWIO", None)),
    "layers/conv1d_1/vars/0": (values(3, 4, 6), ("conv1d", "file", "WIO", None)),
    "layers/conv2d_transpose/vars/0": (values(2, 2, 6, 4), ("conv_transpose", "file", "HWOI", None)),
    "layers/depthwise_conv2d/vars/0": (values(3, 3, 6, 2), ("conv2d", "file", "HWOI", "depthwise")),
    "layers/separable_conv2d/vars/0": (values(3, 3, 4, 1), ("conv2d", "file", "HWOI", "depthwise")),
    "layers/separable_conv2d/vars/1": (values(1, 1, 4, 6), ("conv2d", "file", "HWIO", None)),
    "layers/embedding/vars/0": (values(20, 6), ("embedding", "file", "rows,features", None)),
    "layers/lstm/cell/vars/0": (values(6, 16), ("recurrent", "file", "in,out", None)),
    "layers/lstm/cell/vars/1": (values(4, 16), ("recurrent", "file", "in,out", None)),
    "layers/bidirectional/forward_layer/cell/vars/0": (values(6, 15), ("recurrent", "file", "in,out", None)),
    "layers/bidirectional/forward_layer/cell/vars/1": (values(5, 15), ("recurrent", "file", "in,out", None)),
    "layers/bidirectional/forward_layer/cell/vars/2": (values(2, 15), ("bias", "name", None, None)),
    "layers/multi_head_attention/query_dense/vars/0": (values(8, 2, 3), ("attention", "file", "in,out,out", None)),
    "layers/multi_head_attention/query_dense/vars/1": (values(2, 3), ("bias", "file", None, "not_applicable")),
    "layers/multi_head_attention/output_dense/vars/0": (values(2, 3, 8), ("attention", "file", "in,in,out", None)),
    "layers/grouped_query_attention/_query_dense/vars/0": (values(8, 4, 3), ("attention", "file", "in,out,out", None)),
    "layers/grouped_query_attention/_key_dense/vars/0": (values(8, 2, 3), ("attention", "file", "in,out,out", None)),
    "layers/grouped_query_attention/_value_dense/vars/0": (values(8, 2, 3), ("attention", "file", "in,out,out", None)),
    "layers/grouped_query_attention/_value_dense/vars/1": (values(2, 3), ("bias", "file", None, "not_applicable")),
    "layers/grouped_query_attention/_output_dense/vars/0": (values(4, 3, 8), ("attention", "file", "in,in,out", None)),
    "layers/cached_multi_head_attention/query_dense/vars/0": (values(8, 2, 3), ("attention", "file", "in,out,out", None)),
    "layers/cached_multi_head_attention/value_dense/vars/0": (values(8, 2, 5), ("attention", "file", "in,out,out", None)),
    "layers/cached_multi_head_attention/output_dense/vars/0": (values(2, 5, 8), ("attention", "file", "in,in,out", None)),
    "layers/rnn/cell/cells/gru_cell/vars/1": (values(5, 15), ("recurrent", "file", "in,out", None)),
    "layers/einsum_dense/vars/0": (values(24, 4, 6), ("other", "file", None, "unsupported_rank")),
    "layers/einsum_dense_1/vars/0": (values(24, 16), ("dense", "file", "in,out", None)),
    "layers/dropout/seed_generator/vars/0": (np.zeros(2, "<u4"), ("optimizer", "name", None, "rng")),
    "layers/dense/vars/0": (np.ones((4, 4), "i1"), ("dense", "name", "in,out", "quantized")),
}


def test_the_classes_in_paths_of_keras_3_say_what_weights_are(tmp_path: Path) -> None:
    path = tmp_path / "m.weights.h5"
    keras3(path, {name: array for name, (array, _) in NUMBERED.items()})
    expected = {name: kind for name, (_, kind) in NUMBERED.items()}
    expected["layers/bidirectional/forward_layer/cell/vars/2"] = ("bias", "file", None, "not_applicable")
    assert kinds(path) == expected


def test_the_configuration_says_what_named_layers_are(tmp_path: Path) -> None:
    inner = layer("Bidirectional", "both", layer=layer("LSTM", "forward_both"))
    config = configuration(
        layer("Conv2DTranspose", "up"), layer("DepthwiseConv2D", "thin"), layer("TimeDistributed", "each", layer=layer("Dense", "d")),
        layer("Functional", "block", layers=[layer("Conv2D", "in_block")]), inner, layer("MultiHeadAttention", "mha"),
    )  # fmt: skip
    layers = {
        "up": {"up/kernel:0": values(2, 2, 6, 4)},
        "thin": {"thin_3/depthwise_kernel:0": values(3, 3, 5, 1)},
        "each": {"each/kernel:0": values(7, 5)},
        "block": {"in_block_2/kernel:0": values(3, 3, 2, 4)},
        "both": {"both/forward_both/lstm_cell_1/recurrent_kernel:0": values(4, 16)},
        "mha": {"mha/attention_output/kernel:0": values(2, 3, 8), "mha/value/bias:0": values(2, 3)},
    }
    rows = kinds(legacy(tmp_path / "m.h5", layers, config))
    assert rows == {
        "block/in_block_2/kernel:0": ("conv2d", "file", "HWIO", None),
        "both/both/forward_both/lstm_cell_1/recurrent_kernel:0": ("recurrent", "file", "in,out", None),
        "each/each/kernel:0": ("dense", "file", "in,out", None),
        "mha/mha/attention_output/kernel:0": ("attention", "file", "in,in,out", None),
        "mha/mha/value/bias:0": ("bias", "file", None, "not_applicable"),
        "thin/thin_3/depthwise_kernel:0": ("conv2d", "file", "HWOI", "depthwise"),
        "up/up/kernel:0": ("conv_transpose", "file", "HWOI", None),
    }


def test_without_any_class_the_names_of_weights_say_what_they_can(tmp_path: Path) -> None:
    arrays = {
        "kernel:0": values(6, 12), "recurrent_kernel:0": values(4, 12), "bias:0": values(2, 12),
        "inner/embeddings:0": values(30, 4), "inner/kernel:0": values(9, 9), "inner/pointwise_kernel:0": values(1, 1, 4, 5),
    }  # fmt: skip
    rows = kinds(legacy(tmp_path / "m.h5", {"mine": arrays}))
    assert rows == {
        "mine/bias:0": ("bias", "file", None, "not_applicable"),
        "mine/inner/embeddings:0": ("embedding", "file", "rows,features", None),
        "mine/inner/kernel:0": ("dense", "name", "in,out", None),
        "mine/inner/pointwise_kernel:0": ("conv2d", "file", "HWIO", None),
        "mine/kernel:0": ("recurrent", "file", "in,out", None),
        "mine/recurrent_kernel:0": ("recurrent", "file", "in,out", None),
    }


def test_gates_are_blocks_of_columns_in_the_order_of_keras(tmp_path: Path) -> None:
    kernel = values(20, 64)
    path = tmp_path / "m.weights.h5"
    keras3(path, {"layers/lstm/cell/vars/0": kernel})
    rows = {row.part: row for row in ww.analyze(path)}
    assert list(rows) == ["whole", "gate_i", "gate_f", "gate_c", "gate_o"]
    for number, gate in enumerate(("gate_i", "gate_f", "gate_c", "gate_o")):
        block = kernel[:, 16 * number : 16 * number + 16].astype(np.float64)
        assert rows[gate].norm == pytest.approx(float((block**2).sum()), rel=1e-12)
        assert (rows[gate].N, rows[gate].M) == (20, 16)
    assert rows["whole"].norm == pytest.approx(float((kernel.astype(np.float64) ** 2).sum()), rel=1e-12)


@pytest.mark.parametrize(("part", "shape", "rows"), [("query_dense", (24, 4, 5), 24), ("output_dense", (4, 5, 24), 20)])
def test_heads_are_one_matrix_with_the_side_that_they_stand_on(
    tmp_path: Path, part: str, shape: tuple[int, ...], rows: int
) -> None:
    kernel = values(*shape)
    path = tmp_path / "m.weights.h5"
    keras3(path, {f"layers/multi_head_attention/{part}/vars/0": kernel})
    (row,) = ww.analyze(path)
    singular = np.linalg.svd(kernel.reshape(rows, -1).astype(np.float64), compute_uv=False)
    assert (row.N, row.M, row.num_evals) == (24, 20, 20)
    assert row.lambda_max == pytest.approx(singular[0] ** 2, rel=1e-12)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("query", "output"),
    [
        ((4, 24, 6), (4, 6, 24)),  # heads first
        ((24, 4, 6), (24, 4, 6)),
        ((24, 4, 6), (6, 4, 24)),
        ((24, 4, 6), (4, 6)),
        ((24, 4, 6, 1), (4, 6, 24)),
    ],
)
@pytest.mark.parametrize(
    "form", [("query_dense/vars/0", "output_dense/vars/0"), ("query/kernel:0", "attention_output/kernel:0")]
)
def test_projections_that_do_not_agree_are_left_and_said_so(
    tmp_path: Path, form: tuple[str, str], query: tuple[int, ...], output: tuple[int, ...], known: bool
) -> None:
    name = f"{'layers/' if 'vars' in form[0] else ''}{'multi_head_attention' if known else 'mine'}"
    arrays = {form[0]: values(*query), form[1]: values(*output)}
    if "vars" in form[0]:
        keras3(tmp_path / "m.h5", {f"{name}/{part}": array for part, array in arrays.items()})
    else:
        legacy(tmp_path / "m.h5", {name: arrays}, whole=False)
    rows = kinds(tmp_path / "m.h5")
    for part, array in arrays.items():
        if array.ndim > 2:
            assert rows[f"{name}/{part}"] == ("other", "file", None, "unsupported_rank")
    result = ww.analyze(tmp_path / "m.h5")
    assert result.exit_code == 3
    assert {row.name for row in result if row.alpha is not None} == set()


def test_of_a_layer_that_nobody_knows_query_and_output_must_both_be_there(tmp_path: Path) -> None:
    arrays = {"query_dense": (24, 4, 6), "output_dense": (4, 6, 24)}
    parts = {f"layers/mine/{part}/vars/0": values(*shape) for part, shape in arrays.items()}
    keras3(tmp_path / "both.weights.h5", parts)
    assert [kind for kind, *_ in kinds(tmp_path / "both.weights.h5").values()] == ["attention", "attention"]
    for name, array in parts.items():
        keras3(tmp_path / "one.weights.h5", {name: array})
        assert kinds(tmp_path / "one.weights.h5") == {name: ("other", "file", None, "unsupported_rank")}
    square = {"query_dense": (4, 4, 6), "output_dense": (4, 6, 4)}  # as many heads as inputs: either order of axes fits
    keras3(tmp_path / "square.weights.h5", {f"layers/mine/{part}/vars/0": values(*shape) for part, shape in square.items()})
    assert {reason for *_, reason in kinds(tmp_path / "square.weights.h5").values()} == {"unsupported_rank"}


EQUATIONS: dict[str, tuple[tuple[int, ...], str | None]] = {
    "abc,cde->abde": ((24, 4, 6), "in,out,out"),
    "abc,dec->abde": ((4, 6, 24), "out,out,in"),
    "abcd,cde->abe": ((4, 6, 24), "in,in,out"),
    "abc,dce->abde": ((4, 24, 6), "out,in,out"),
    "...x,xyz->...yz": ((24, 4, 6), "in,out,out"),
    "ab...,bc->ac...": ((24, 16), "in,out"),
    "abc,dc->abd": ((16, 24), "out,in"),
    "abc,bcd->abd": ((5, 24, 6), None),  # a matrix for each b
    "abc,bc->abc": ((5, 24), None),
    "abc,cd->abd": ((24, 4, 6), None),  # of another rank
    "abc,ccd->abd": ((24, 24, 6), None),
    "abc,cde": ((24, 4, 6), None),
}


@pytest.mark.parametrize("equation", EQUATIONS)
@pytest.mark.parametrize("form", ["archive", "legacy"])
def test_the_equation_of_a_layer_says_which_axes_are_inputs(tmp_path: Path, equation: str, form: str) -> None:
    shape, axes = EQUATIONS[equation]
    kernel = values(*shape)
    config = configuration(layer("Dense", "first"), layer("EinsumDense", "mixed", equation=equation))
    if form == "archive":
        names = {"layers/einsum_dense/vars": "mixed"}
        path = archive(tmp_path / "m.keras", {"layers/einsum_dense/vars/0": kernel}, config, names=names)
    else:
        path = legacy(tmp_path / "m.h5", {"mixed": {"mixed/kernel:0": kernel}}, config)
    (row,) = kinds(path).values()
    if axes is None:
        assert (row[0], row[1], row[3]) == ("other", "file", "unsupported_rank" if len(shape) > 2 else "unsupported_layout")
        assert ww.analyze(path).exit_code == 3
        return
    assert row == ("dense", "file", axes, None)
    inputs = [place for place, axis in enumerate(axes.split(",")) if axis == "in"]
    outputs = [place for place, axis in enumerate(axes.split(",")) if axis == "out"]
    matrix = kernel.transpose(*inputs, *outputs).reshape(int(np.prod([shape[place] for place in inputs])), -1)
    (analysed,) = ww.analyze(path)
    assert (analysed.N, analysed.M) == (max(matrix.shape), min(matrix.shape))
    top = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)[0]
    assert analysed.lambda_max == pytest.approx(top**2, rel=1e-12)


def test_layers_of_one_name_with_two_equations_have_none(tmp_path: Path) -> None:
    config = configuration(*(layer("EinsumDense", "mixed", equation=one) for one in ("abc,cde->abde", "abcd,cde->abe")))
    names = {"layers/einsum_dense/vars": "mixed"}
    path = archive(tmp_path / "m.keras", {"layers/einsum_dense/vars/0": values(24, 4, 6)}, config, names=names)
    assert kinds(path) == {"layers/einsum_dense/vars/0": ("other", "file", None, "unsupported_rank")}


def test_a_weight_of_a_known_class_in_axes_that_it_never_has_is_not_guessed(tmp_path: Path) -> None:
    arrays = {"layers/lstm/cell/vars/0": values(3, 24, 6), "layers/embedding/vars/0": values(9, 9, 4, 4)}
    arrays["layers/multi_head_attention/vars/0"] = values(3, 24, 6)
    keras3(tmp_path / "m.weights.h5", arrays)
    assert kinds(tmp_path / "m.weights.h5") == dict.fromkeys(arrays, ("other", "file", None, "unsupported_rank"))


def test_a_depthwise_kernel_can_be_taken_flat(tmp_path: Path) -> None:
    path = tmp_path / "m.weights.h5"
    keras3(path, {"layers/depthwise_conv2d/vars/0": values(3, 3, 12, 2)})
    (row,) = ww.analyze(path, conv="flatten")
    assert (row.N, row.M) == (18, 12)
