"""Sharded weights of Keras 3: one model by its index or by one of its shards, and what index and shards must agree on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ww_static as ww
from keras_files import keras3, shards, values
from keras_opened import VARS, found, problem, read, specs
from ww_static import registry
from ww_static.errors import UnsafeFileError
from ww_static.protocol import Limits, ModelFile
from ww_static_readers import keras


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
        ModelFile("x.weights.json", "x", ("x_00000.weights.h5", "x_00001.weights.h5")),
        ModelFile("y.keras", "y"),
        ModelFile("z.hdf5", "z"),
    ]


def test_a_shard_that_the_index_does_not_name_leaves_the_model_inconclusive(tmp_path: Path) -> None:
    path = shards(tmp_path, [VARS])
    keras3(tmp_path / "x_00001.weights.h5", {"layers/lstm/cell/vars/0": values(6, 16)})
    for named in (path, tmp_path):
        result = ww.analyze(named)
        assert [(row.category, row.where) for row in result.finding_rows] == [("unread_part", "x_00001.weights.h5")]
        assert result.exit_code == 3


SECOND = {"layers/a/vars/0": values(30, 20)}


def test_one_shard_opens_the_whole_model_by_the_index_beside_it(tmp_path: Path) -> None:
    shards(tmp_path, [VARS, SECOND])
    for number in (0, 1):
        path = tmp_path / f"x_0000{number}.weights.h5"
        assert set(specs(path)) == {*VARS, *SECOND}
        assert found(path) == []
        for name, array in {**VARS, **SECOND}.items():
            assert np.array_equal(read(path, name), array)
        with ww.open(path) as checkpoint:
            names = {os.path.basename(one.path) for one in checkpoint.identities}
        assert names == {"x.weights.json", "x_00000.weights.h5", "x_00001.weights.h5"}
        assert ww.analyze(path).exit_code == 0


def test_one_shard_without_its_index_is_not_taken_for_a_whole_model(tmp_path: Path) -> None:
    index = shards(tmp_path, [VARS, SECOND])
    (tmp_path / "x_00001.weights.h5").rename(tmp_path / "x_00007.weights.h5")
    words = json.loads(index.read_text())
    words["weight_map"].pop("/layers/a/vars")
    index.write_text(json.dumps(words))
    other = tmp_path / "x_00007.weights.h5"
    assert set(specs(other)) == set(SECOND)
    assert found(other) == [("missing_part", "shard")]
    index.unlink()
    for path, held in ((tmp_path / "x_00000.weights.h5", VARS), (other, SECOND)):
        assert set(specs(path)) == set(held)
        assert found(path) == [("missing_part", "shard")]
        assert ww.analyze(path).exit_code == 3
    assert ww.analyze(tmp_path).exit_code == 3
    other.rename(tmp_path / "epoch_7.weights.h5")
    assert found(tmp_path / "epoch_7.weights.h5") == []


def test_the_index_beside_a_shard_cannot_lead_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    index = shards(tmp_path / "in", [VARS, SECOND])
    index.rename(tmp_path / "out.json")
    index.symlink_to("../out.json")
    assert problem(tmp_path / "in" / "x_00000.weights.h5").category == "path_escape"


@pytest.mark.parametrize("missing", [True, False])
def test_the_shards_of_an_index_in_a_folder_are_no_variants_of_it(tmp_path: Path, missing: bool) -> None:
    shards(tmp_path, [VARS, SECOND])
    if missing:
        (tmp_path / "x_00001.weights.h5").unlink()
    keras3(tmp_path / "y.h5", VARS)
    result = ww.analyze(tmp_path)
    assert "duplicate_variant" not in result.findings.column("category").to_pylist()
    assert [row.category for row in result if row.status == "error"] == ["missing_part"] * missing


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


def test_limit_parts_of_shards(tmp_path: Path) -> None:
    path = shards(tmp_path, [VARS, {"layers/a/vars/0": values(3, 3)}])
    assert problem(path, Limits(parts=1)).problem == "2 files, limit 1"
