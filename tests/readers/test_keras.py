"""Keras files: which tensors they hold under which names, what their configurations would run."""

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

import ww_static as ww
from keras_files import archive, configuration, fixed, keras3, layer, legacy, values
from keras_opened import DENSE, VARS, found, problem, read, specs
from support import fetched
from ww_static import seam
from ww_static.errors import LimitError, UnknownFormatError
from ww_static.protocol import Limits
from ww_static_readers import keras

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
        {"module": "keras.src.backend.torch.optimizers.torch_adam", "class_name": "Adam", "config": {}, "registered_name": "Adam"},
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
