"""Keras files: which tensors they hold under which names, what their layers are, what their configurations would run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import ww_static as ww
from keras_files import archive, configuration, fixed, keras3, layer, legacy, shards, values
from support import fetched
from ww_static import registry, seam
from ww_static.errors import FormatError, LimitError, UnknownFormatError, UnsafeFileError
from ww_static.protocol import Limits, ModelFile, TensorSpec
from ww_static_readers import keras

DENSE = {"dense/kernel:0": values(24, 16), "dense/bias:0": values(16)}
VARS = {"layers/dense/vars/0": values(24, 16), "layers/dense/vars/1": values(16)}


def specs(path: Path, limits: Limits | None = None) -> dict[str, TensorSpec]:
    with ww.open(path, limits=limits) as checkpoint:
        assert checkpoint.reader == "keras"
        return {spec.name: spec for spec in checkpoint.tensors}


def found(path: Path) -> list[tuple[str, str]]:
    with ww.open(path) as checkpoint:
        return [(one.category, one.where) for one in checkpoint.findings]


def problem(path: Path, limits: Limits | None = None) -> FormatError:
    with pytest.raises(FormatError) as caught:
        specs(path, limits)
    return caught.value


def read(path: Path, name: str) -> NDArray[Any]:
    with ww.open(path) as checkpoint:
        return checkpoint.read(checkpoint.spec(name))


# names and layouts


def test_a_legacy_model_lists_its_weights_by_their_paths_below_the_weights_group(tmp_path: Path) -> None:
    path = legacy(tmp_path / "m.h5", {"dense": DENSE}, configuration(layer("Dense", "dense")), {"adam/m:0": values(24, 16)})
    found_specs = specs(path)
    assert list(found_specs) == ["dense/dense/bias:0", "dense/dense/kernel:0", "optimizer_weights/adam/m:0"]
    kernel = found_specs["dense/dense/kernel:0"]
    assert (kernel.role, kernel.axes, kernel.layout, kernel.op_path) == ("dense", ("in", "out"), "keras", None)
    rows = {row.name: row.reason for row in ww.describe(path)}
    assert rows["optimizer_weights/adam/m:0"] == "optimizer_state"
    assert np.array_equal(read(path, "dense/dense/kernel:0"), DENSE["dense/kernel:0"])


def test_legacy_weights_without_a_model_stand_at_the_root(tmp_path: Path) -> None:
    path = legacy(tmp_path / "w.h5", {"dense_7": DENSE}, whole=False)
    assert list(specs(path)) == ["dense_7/dense/bias:0", "dense_7/dense/kernel:0"]
    assert specs(path)["dense_7/dense/kernel:0"].role == "dense"  # by the default name of its layer


def test_a_name_below_the_weights_group_that_is_taken_keeps_its_whole_path(tmp_path: Path) -> None:
    path = legacy(tmp_path / "m.h5", {"optimizer_weights": {"k:0": values(4, 4)}}, None, {"k:0": values(3, 3)})
    assert list(specs(path)) == ["model_weights/optimizer_weights/k:0", "optimizer_weights/k:0"]


def test_lists_of_names_that_are_split_over_attributes_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights")
        group.attrs["layer_names0"], group.attrs["layer_names1"] = fixed(["a"]), fixed(["b", "ghost"])
        for name in "ab":
            group.create_dataset(f"{name}/kernel", data=values(4, 4))
        group["a"].attrs["weight_names0"], group["a"].attrs["weight_names1"] = fixed(["kernel"]), fixed(["bias"])
    with ww.open(path) as checkpoint:
        words = [(one.category, one.where, one.problem) for one in checkpoint.findings]
    assert words == [
        ("index_mismatch", "weight_names", "lists 'model_weights/a/bias', which is not there"),
        ("index_mismatch", "layer_names", "lists 'ghost', which is not there"),
    ]


def test_variable_length_names_are_read_as_well_as_fixed_ones(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = np.array(["a", "ghost"], dtype=h5py.string_dtype())
        group.create_dataset("a/kernel", data=values(4, 4))
        group["a"].attrs["weight_names"] = np.array(["kernel"], dtype=h5py.string_dtype("ascii"))
    assert found(path) == [("index_mismatch", "layer_names")]


def test_hdf5_without_any_mark_of_keras_is_read_and_nothing_is_concluded_from_its_paths(tmp_path: Path) -> None:
    keras3(tmp_path / "any.h5", {"dense/kernel": values(8, 8)})
    spec = specs(tmp_path / "any.h5")["dense/kernel"]
    assert (spec.layout, spec.role) == (None, None)


@pytest.mark.parametrize("named", [True, False])
def test_weights_of_keras_3_are_named_by_their_paths_and_their_layers_by_the_user(tmp_path: Path, named: bool) -> None:
    path = tmp_path / "m.weights.h5"
    names = {"layers/dense/vars": "head", "layers/sequential/vars": "tower", "layers/sequential/layers/dense/vars": "fc"}
    inner = {"layers/sequential/layers/dense/vars/0": values(6, 5), "optimizer/vars/2": values(24, 16)}
    keras3(path, {**VARS, **inner}, names if named else None)
    listed = specs(path)
    assert {name: spec.op_path for name, spec in listed.items()} == {
        "layers/dense/vars/0": "head" if named else None,
        "layers/dense/vars/1": "head" if named else None,
        "layers/sequential/layers/dense/vars/0": "tower/fc" if named else None,
        "optimizer/vars/2": None,
    }
    assert listed["layers/sequential/layers/dense/vars/0"].role == "dense"
    assert {row.name: row.reason for row in ww.describe(path)}["optimizer/vars/2"] == "optimizer_state"
    assert listed["layers/dense/vars/1"].role == "bias"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_is_opened_where_its_weights_lie(tmp_path: Path, method: int) -> None:
    path = archive(tmp_path / "m.keras", VARS, method=method)
    spec = specs(path)["layers/dense/vars/0"]
    assert (spec.extent is not None) == (method == zipfile.ZIP_STORED)
    assert np.array_equal(read(path, "layers/dense/vars/0"), VARS["layers/dense/vars/0"])
    if spec.extent is not None:
        raw = path.read_bytes()[spec.extent.offset : spec.extent.offset + spec.extent.nbytes]
        assert raw == VARS["layers/dense/vars/0"].tobytes()


def test_an_archive_without_weights_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as file:
        file.writestr("metadata.json", "{}")
    assert str(problem(tmp_path / "m.keras")).endswith("missing_part: zip: has no member 'model.weights.h5'")


def test_a_member_whose_name_leads_out_is_found_and_not_extracted(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras", VARS)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("../out.h5", b"x")
    assert found(path) == [("path_escape", "member '../out.h5'")]


# shards


def test_shards_are_one_model_by_their_index(tmp_path: Path) -> None:
    second = {"layers/lstm/cell/vars/0": values(6, 16), "layers/lstm/cell/vars/1": values(4, 16)}
    path = shards(tmp_path, [VARS, second])
    listed = specs(path)
    assert {name: spec.file for name, spec in listed.items()} == {
        **dict.fromkeys(VARS, "x_00000.weights.h5"),
        **dict.fromkeys(second, "x_00001.weights.h5"),
    }
    assert found(path) == []
    for name, array in {**VARS, **second}.items():
        assert np.array_equal(read(path, name), array)
    assert keras.models(["x.weights.json", "x_00000.weights.h5", "x_00001.weights.h5", "y.keras", "z.hdf5"]) == [
        ModelFile("y.keras", "y"),
        ModelFile("z.hdf5", "z"),
        ModelFile("x.weights.json", "x", ("x_00000.weights.h5", "x_00001.weights.h5")),
    ]
    assert [row.category for row in ww.describe(tmp_path).finding_rows] == []


def test_a_shard_that_the_index_does_not_name_leaves_the_model_inconclusive(tmp_path: Path) -> None:
    path = shards(tmp_path, [VARS])
    keras3(tmp_path / "x_00001.weights.h5", {"layers/lstm/cell/vars/0": values(6, 16)})
    for named in (path, tmp_path):
        result = ww.analyze(named, executor=None)
        assert [(row.category, row.where) for row in result.finding_rows] == [("unread_part", "x_00001.weights.h5")]
        assert result.exit_code == 3


def test_an_index_is_recognized_before_that_of_safetensors(tmp_path: Path) -> None:
    path = shards(tmp_path, [VARS, {"layers/a/vars/0": values(3, 3)}])
    assert registry.find(path)[0].name == "keras"


def test_a_shard_that_is_missing_or_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    path = shards(tmp_path, [VARS, {"layers/a/vars/0": values(3, 3)}])
    index = json.loads(path.read_text())
    (tmp_path / "x_00001.weights.h5").rename(tmp_path.parent / "outside.h5")
    assert str(problem(path)).endswith("missing_part: index: shard 'x_00001.weights.h5' is missing")
    for reference in ("../outside.h5", os.fspath(tmp_path.parent / "outside.h5"), "file://x.weights.h5"):
        index["weight_map"]["/layers/a/vars"] = [reference]
        path.write_text(json.dumps(index))
        error = problem(path)
        assert isinstance(error, UnsafeFileError)
        assert error.category == "path_escape"
    index["weight_map"]["/layers/a/vars"] = path.name
    path.write_text(json.dumps(index))
    assert str(problem(path)).endswith("bad_header: index: names itself as a shard")


def test_an_index_that_disagrees_with_its_shards_is_refused_or_found(tmp_path: Path) -> None:
    path = shards(tmp_path, [VARS, {"layers/a/vars/0": values(3, 3)}])
    index = json.loads(path.read_text())
    index["weight_map"]["/layers/b/vars"] = "x_00000.weights.h5"
    path.write_text(json.dumps(index))
    assert problem(path).problem == "'layers/b/vars' is mapped to 'x_00000.weights.h5', which lacks it"
    del index["weight_map"]["/layers/b/vars"], index["weight_map"]["/layers/a/vars"]
    index["weight_map"]["/layers/a"], index["metadata"]["total_size"] = "x_00001.weights.h5", 1
    path.write_text(json.dumps(index))
    assert found(path) == [("index_mismatch", "x_00001.weights.h5"), ("index_mismatch", "index")]
    keras3(tmp_path / "x_00001.weights.h5", VARS)
    index["weight_map"] = {"/layers/dense/vars": ["x_00000.weights.h5", "x_00001.weights.h5"]}
    path.write_text(json.dumps(index))
    assert problem(path).category == "duplicate_name"


@pytest.mark.parametrize(
    ("weight_map", "category"),
    [
        ({}, "bad_header"),
        ([], "bad_header"),
        ({"/a": 1}, "bad_header"),
        ({"/a": []}, "bad_header"),
        ({"/a": ["x.weights.h5", 1]}, "bad_header"),
        ({"/a": "x.weights.h5", "a/": "x.weights.h5"}, "duplicate_name"),
    ],
)
def test_an_index_that_maps_nothing_is_refused(tmp_path: Path, weight_map: Any, category: str) -> None:
    (tmp_path / "x.weights.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert problem(tmp_path / "x.weights.json").category == category


def test_a_shard_that_is_something_else_is_named(tmp_path: Path) -> None:
    path = shards(tmp_path, [VARS])
    for raw, words in (
        (b"", "truncated: x_00000.weights.h5: the file is empty"),
        (bytes(600), "bad_header: x_00000.weights.h5: header: has no"),
    ):
        (tmp_path / "x_00000.weights.h5").write_bytes(raw)
        assert words in str(problem(path))


def test_one_file_under_two_names_is_no_two_shards_and_a_hard_link_is_found(tmp_path: Path) -> None:
    path = shards(tmp_path, [VARS, {"layers/a/vars/0": values(3, 3)}])
    os.link(tmp_path / "x_00000.weights.h5", tmp_path / "elsewhere")
    assert found(path) == [("hard_link", "x_00000.weights.h5")]
    (tmp_path / "x_00001.weights.h5").unlink()
    os.link(tmp_path / "x_00000.weights.h5", tmp_path / "x_00001.weights.h5")
    assert problem(path).category == "duplicate_name"


# kinds


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
    "layers/cached_multi_head_attention/value_dense/vars/0": (values(8, 2, 3), ("attention", "file", "in,out,out", None)),
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


def test_a_depthwise_kernel_can_be_taken_flat(tmp_path: Path) -> None:
    path = tmp_path / "m.weights.h5"
    keras3(path, {"layers/depthwise_conv2d/vars/0": values(3, 3, 12, 2)})
    (row,) = ww.analyze(path, conv="flatten")
    assert (row.N, row.M) == (18, 12)


# configurations


def test_what_a_configuration_would_run_is_found_and_never_run(tmp_path: Path) -> None:
    config = configuration(
        layer("Lambda", "l4", function={"class_name": "__lambda__", "config": {"code": "4wEAAA==", "defaults": None, "closure": None}}),
        {"module": "os", "class_name": "system", "config": {"command": "touch ran"}, "registered_name": None},
        {"module": "keras.layers", "class_name": "Mine", "config": {"name": "x"}, "registered_name": "Pack>Mine"},
        {"class_name": "function", "config": "my_loss"},
        {"module": "keras_evil", "class_name": "Dense", "config": {"name": "y"}},
        {"module": "keras.src.models.functional", "class_name": "Functional", "config": {}, "registered_name": "Functional"},
        layer("Dense", "fine", activation="relu"),
    )  # fmt: skip
    path = legacy(tmp_path / "m.h5", {"dense": DENSE}, config)
    with ww.open(path) as checkpoint:
        words = [one.problem for one in checkpoint.findings if one.category == "embedded_code" and one.where == "model_config"]
    assert words == [
        "layer 'l4' is a Lambda, which holds code or refers to a function",
        "a function is given as marshalled code",
        "an object of class 'system' comes from module 'os', which is not part of Keras",
        "layer 'x' is registered as 'Pack>Mine', which is not part of Keras",
        "refers to the function 'my_loss'",
        "layer 'y' comes from module 'keras_evil', which is not part of Keras",
    ]
    assert found(archive(tmp_path / "m.keras", VARS, config)) == [("embedded_code", "config.json")] * 6


LAMBDA = {"class_name": "__lambda__", "config": {"value": ["4wEAAA==", None, None]}}


def _function(module: str | None, name: str) -> dict[str, Any]:
    return {"class_name": "function", "module": module, "config": name, "registered_name": name}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (LAMBDA, "a function is given as marshalled code"),
        (LAMBDA | {"class_name": "__LAMBDA__"}, "a function is given as marshalled code"),
        (layer("lambda", "l"), "layer 'l' is a Lambda, which holds code or refers to a function"),
        (_function("keras.utils", "get_file"), "refers to the function 'get_file' of 'keras.utils'"),
        (_function("keras.saving", "load_model"), "refers to the function 'load_model' of 'keras.saving'"),
        (_function("keras.models", "load_model"), "refers to the function 'load_model' of 'keras.models'"),
        (_function("keras.activations", "deserialize"), "refers to the function 'deserialize' of 'keras.activations'"),
        (_function("builtins", "eval"), "refers to the function 'eval' of 'builtins'"),
        (_function("keras", "relu"), "refers to the function 'relu' of 'keras'"),
        (_function("keras.activationsevil", "relu"), "refers to the function 'relu' of 'keras.activationsevil'"),
        (
            {"class_name": "get_file", "module": "keras.utils", "config": {"origin": "http://x"}},
            "refers to 'keras.utils.get_file', which is no class that Keras makes models of",
        ),
        (
            {"class_name": "load_model", "module": "keras.models", "config": {}},
            "refers to 'keras.models.load_model', which is no class that Keras makes models of",
        ),
        (
            {"class_name": "Progbar", "module": "keras.src.utils.progbar", "config": {}},
            "refers to 'keras.src.utils.progbar.Progbar', which is no class that Keras makes models of",
        ),
        (
            {"class_name": "RematScope", "module": "keras", "config": {}},
            "refers to 'keras.RematScope', which is no class that Keras makes models of",
        ),
        (layer("TorchModuleWrapper", "t", module={"class_name": "__tensor__"}), "layer 't' is a TorchModuleWrapper, which holds or loads code"),
        (layer("JaxLayer", "j"), "layer 'j' is a JaxLayer, which holds or loads code"),
        (layer("FlaxLayer", "f"), "layer 'f' is a FlaxLayer, which holds or loads code"),
        (layer("TFSMLayer", "s"), "layer 's' is a TFSMLayer, which holds or loads code"),
        (layer("Dense", "d") | {"registered_name": "kerasevil>Dense"}, "layer 'd' is registered as 'kerasevil>Dense', which is not part of Keras"),
    ],
)  # fmt: skip
def test_a_reference_to_code_is_found_wherever_it_stands(tmp_path: Path, value: dict[str, Any], words: str) -> None:
    for config in (configuration(layer("Dense", "d", activation=value)), json.dumps({"a": [[{"b": value}]]})):
        with ww.open(archive(tmp_path / "m.keras", VARS, config)) as checkpoint:
            assert [(one.category, one.problem) for one in checkpoint.findings] == [("embedded_code", words)]


@pytest.mark.parametrize(
    "value",
    [
        _function("keras.activations", "relu"), _function("keras.src.activations.activations", "silu"), _function("builtins", "relu"),
        _function("keras.ops", "relu"), _function("keras.losses", "mean_squared_error"),
        {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None},
        {"module": "keras.initializers", "class_name": "GlorotUniform", "config": {"seed": None}, "registered_name": None},
        {"module": "keras.optimizers.schedules", "class_name": "CosineDecay", "config": {}, "registered_name": None},
        {"module": "keras.src.ops.numpy", "class_name": "Add", "config": {"name": "add"}, "registered_name": "Add"},
        {"module": "keras.src.engine.functional", "class_name": "Functional", "config": {}, "registered_name": "Functional"},
        {"module": "keras.src.models.sequential", "class_name": "Sequential", "config": {}, "registered_name": "keras>Sequential"},
        {"module": "tensorflow.python.keras.engine.functional", "class_name": "Functional", "config": {}},
        {"module": "tf_keras.src.layers.core.dense", "class_name": "Dense", "config": {}, "registered_name": None},
        {"module": "keras.quantizers", "class_name": "AbsMaxQuantizer", "config": {}, "registered_name": None},
        {"class_name": "__keras_tensor__", "config": {"shape": [None, 4], "dtype": "float32", "keras_history": ["d", 0, 0]}},
        {"class_name": "__numpy__", "config": {"value": [1.0], "dtype": "float32"}},
        {"class_name": "Policy", "module": "keras.mixed_precision", "config": {"name": "mixed_float16"}, "registered_name": None},
    ],
)  # fmt: skip
def test_what_keras_writes_for_its_own_classes_and_functions_is_no_finding(tmp_path: Path, value: dict[str, Any]) -> None:
    assert found(archive(tmp_path / "m.keras", VARS, configuration(layer("Dense", "d", activation=value)))) == []


@pytest.mark.parametrize("config", ["{not json", "[]", '{"a": 1, "a": 2}', '{"a": NaN}', "[" * 100_000, '"\\ud800"', "\xff"])
def test_a_configuration_that_is_none_is_a_finding(tmp_path: Path, config: str) -> None:
    assert found(archive(tmp_path / "m.keras", VARS, config)) == [("bad_config", "config.json")]
    if len(config) < 1000:
        assert found(legacy(tmp_path / "m.h5", {"dense": DENSE}, config)) == [("bad_config", "model_config")]


# recognizing


def test_a_file_that_is_called_hdf5_and_is_not_is_told_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_bytes(b"\x89HDG\r\n\x1a\n" + bytes(2000))
    assert str(problem(tmp_path / "m.h5")).endswith(
        "bad_header: header: has no HDF5 signature at byte 0, nor at 512 times a power of two"
    )


def test_the_models_of_a_folder_leave_copies_of_other_weights_out() -> None:
    names = ["model.safetensors", "tf_model.h5", "own.h5"]
    assert [one.file for one in keras.models(names)] == ["own.h5"]
    assert [one.file for one in keras.models(["tf_model.h5"])] == ["tf_model.h5"]


def test_h5py_is_imported_when_a_file_is_opened_and_not_before(tmp_path: Path) -> None:
    path = legacy(tmp_path / "m.h5", {"dense": DENSE})
    program = (
        "import os, sys, pathlib; from ww_static_readers import keras; from ww_static.protocol import Limits\n"
        "path = pathlib.Path(sys.argv[1]); keras.sniff(path, path.read_bytes()[:512]); print('h5py' in sys.modules)\n"
        "keras.open(path, Limits()).close()\n"
        "print('h5py' in sys.modules, 'HDF5_PLUGIN_PATH' in os.environ, os.environ['HDF5_PLUGIN_PRELOAD'])"
    )
    environment = {**os.environ, "HDF5_PLUGIN_PATH": os.fspath(tmp_path)}
    command = [sys.executable, "-c", program, os.fspath(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "True", "False", "::"]


def test_a_checkpoint_that_is_never_closed_ends_with_the_program(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    keras3(path, {"w": values(20, 20)}, chunks=(5, 5), compression="lzf")
    program = "import sys, ww_static; c = ww_static.open(sys.argv[1]); print(c.read(c.tensors[0]).shape)"
    done = subprocess.run(
        [sys.executable, "-c", program, os.fspath(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "(20, 20)\n")


def test_the_lz4_pickles_of_joblib_are_refused_by_name() -> None:
    words = "joblib pickle in an lz4 frame is not a supported format; re-save the arrays as safetensors or npz"
    with pytest.raises(UnknownFormatError, match=f"unsupported: {words}$"):
        seam.open_checkpoint(fetched("mtcnn"))


# limits


def test_limit_attribute_bytes(tmp_path: Path) -> None:
    config = configuration(layer("Dense", "dense"))
    path = legacy(tmp_path / "m.h5", {"dense": DENSE}, config)
    with ww.open(path, limits=Limits(attribute_bytes=len(config))) as checkpoint:
        assert checkpoint.findings == ()
    with ww.open(path, limits=Limits(attribute_bytes=len(config) - 1)) as checkpoint:
        assert [(one.category, one.where) for one in checkpoint.findings] == [("limit", "group '': attribute 'model_config'")]
    path = archive(tmp_path / "m.keras", VARS, config)
    with ww.open(path, limits=Limits(attribute_bytes=len(config) - 1)) as checkpoint:
        assert [(one.category, one.where) for one in checkpoint.findings] == [("bad_config", "config.json")]


def test_limit_config_items(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras", VARS, "[" * 50 + "]" * 50)
    with ww.open(path, limits=Limits(config_items=49)) as checkpoint:
        assert checkpoint.findings[0].problem == "100 bytes with 50 items, limits 16777216 and 49"


def test_limit_inflated_bytes(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras", VARS, method=zipfile.ZIP_DEFLATED)
    size = zipfile.ZipFile(path).getinfo("model.weights.h5").file_size
    assert len(specs(path, Limits(inflated_bytes=size))) == 2
    error = problem(path, Limits(inflated_bytes=size - 1))
    assert isinstance(error, LimitError)
    assert f"inflates to {size} bytes, limit {size - 1}" in error.problem


def test_limit_parts_of_shards(tmp_path: Path) -> None:
    path = shards(tmp_path, [VARS, {"layers/a/vars/0": values(3, 3)}])
    assert problem(path, Limits(parts=1)).problem == "2 files, limit 1"
