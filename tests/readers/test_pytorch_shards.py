"""PyTorch models in several files: the index of .bin parts, numbered sets, and whose an index is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import torch_files as tf
import ww_static
from support import safetensors_bytes
from torch_files import call, stored, tensor, zipped
from ww_static import models
from ww_static.errors import FormatError, LimitError, UnsafeFileError
from ww_static.protocol import Limits, ModelFile
from ww_static.seam import open_checkpoint
from ww_static.testing import ReaderSuite, Stored
from ww_static_readers import pytorch, safetensors

A, B = "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"
INDEX = "pytorch_model.bin.index.json"
ARRAYS = {name: np.full((4, 6), number, np.float32) for number, name in enumerate("abc")}


class TestIndex(ReaderSuite):
    """Two parts and their index."""

    reader = pytorch
    dtypes = ("F32", "BF16", "F8_E4M3", "I64")
    claims = ("torch legacy", "zip", "pickle")
    mutations = 150
    names = ("w", "layer.0.weight", "../../up;x", "модель/%s{0}\n\x1b[31m")  # the name of nothing is in a part and no index
    test_truncated_files_raise_format_errors_and_never_give_other_values = None  # type: ignore[assignment]  # an index has no values

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        names = list(tensors)
        weight_map = {name: (A, B)[place % 2] for place, name in enumerate(names)}
        for file in (A, B):
            part = {name: tensors[name] for name in names if weight_map[name] == file}
            (folder / file).write_bytes(tf.archive(part))
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        return folder / INDEX


class TestNumbered(TestIndex):
    """The same without an index: any part opens the set."""

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        super().write(folder, tensors)
        (folder / INDEX).unlink()
        return folder / B


def _part(path: Path, names: str) -> None:
    root = {name: tensor(stored("FloatStorage", str(place), 24), (4, 6)) for place, name in enumerate(names)}
    records = {str(place): ARRAYS[name].tobytes() for place, name in enumerate(names)}
    path.write_bytes(zipped(tf.members(root, records)))


def _index(folder: Path, weight_map: Any, name: str = INDEX, **metadata: Any) -> Path:
    (folder / name).write_text(json.dumps({"metadata": metadata, "weight_map": weight_map}))
    return folder / name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _part(tmp_path / A, "ab")
    _part(tmp_path / B, "c")
    _index(tmp_path, {"a": A, "b": A, "c": B}, total_size=288)
    return tmp_path


def test_an_index_is_one_model_and_each_tensor_says_its_part(folder: Path) -> None:
    for named in (INDEX, A, B):
        with open_checkpoint(folder / named) as checkpoint:
            assert (checkpoint.reader, checkpoint.findings) == ("pytorch", ())
            assert {spec.name: spec.file for spec in checkpoint.tensors} == {"a": A, "b": A, "c": B}
            for spec in [*checkpoint.tensors, *reversed(checkpoint.tensors)]:
                assert (checkpoint.read(spec) == ARRAYS[spec.name]).all()
            assert {os.path.basename(one.path) for one in checkpoint.identities} >= {A, B}


def test_a_folder_of_parts_is_one_model(folder: Path) -> None:
    (source,) = models.locate([os.fspath(folder)])
    assert (source.model_id, source.beside) == ("pytorch_model", ())
    assert not ww_static.describe(folder).finding_rows
    (folder / INDEX).unlink()
    assert pytorch.models([A, B, "other.bin"]) == [ModelFile(A, "pytorch_model", (B,)), ModelFile("other.bin", "other")]
    assert [os.path.basename(source.path) for source in models.locate([os.fspath(folder)])] == [A]
    assert pytorch.models([A, B, INDEX, "model.safetensors"]) == []


def test_the_suffix_of_the_parts_says_whose_an_index_is(tmp_path: Path) -> None:
    heads = {
        suffix: json.dumps({"metadata": {"total_size": 8}, "weight_map": {"a": f"x-00001-of-00001{suffix}"}}).encode()
        for suffix in (".bin", ".pt", ".safetensors", ".h5")
    }
    for suffix, head in heads.items():
        for name in ("model.safetensors.index.json", INDEX, "anything"):
            assert pytorch.sniff(Path(name), head[:512]) is (suffix in (".bin", ".pt"))
            assert safetensors.sniff(Path(name), head[:512]) is (suffix == ".safetensors")
    undecided = b'{"weight_map": {' + b'"' + b"x" * 600
    assert pytorch.sniff(Path(INDEX), undecided[:512]) is True
    assert safetensors.sniff(Path("model.safetensors.index.json"), undecided[:512]) is True
    assert pytorch.sniff(Path("model.safetensors.index.json"), undecided[:512]) is False


def test_an_index_of_bin_parts_is_read_under_the_name_of_safetensors(folder: Path) -> None:
    path = _index(folder, {"a": A, "b": A, "c": B}, "model.safetensors.index.json")
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.reader == "pytorch"


def test_parts_of_another_format_are_refused(tmp_path: Path) -> None:
    (tmp_path / A).write_bytes(safetensors_bytes(ARRAYS))
    with pytest.raises(FormatError, match=f"{A}: pickle"):
        open_checkpoint(_index(tmp_path, {"a": A}))


@pytest.mark.parametrize(
    ("weight_map", "match"),
    [
        ({"a": A, "b": B}, f"index_mismatch: index: 'b' is mapped to '{B}', which lacks it"),
        ({"a": "gone.bin"}, r"missing_part: index: shard 'gone\.bin' is missing"),
        ({"a": "../x.bin"}, "path_escape: index: .* leaves the model directory"),
        ({"a": "/etc/x.bin"}, "path_escape"),
        ({"a": "c:\\x.bin"}, "path_escape"),
        ({"a": A, "b": 7}, "bad_header: index: weight_map is not a map"),
        ({"a": A, "b": INDEX}, "bad_header: index: names itself"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(folder: Path, weight_map: dict[str, Any], match: str) -> None:
    with pytest.raises(FormatError, match=match):
        open_checkpoint(_index(folder, weight_map))


def test_a_set_that_lacks_a_part_is_refused(folder: Path) -> None:
    (folder / INDEX).unlink()
    (folder / B).unlink()
    with pytest.raises(FormatError, match=f"missing_part: shards: shard '{B}' is missing"):
        open_checkpoint(folder / A)
    _part(folder / "m-00003-of-00002.bin", "a")
    with pytest.raises(FormatError, match=r"index_mismatch: shards: 'm-00003-of-00002\.bin' is not one of 2"):
        open_checkpoint(folder / "m-00003-of-00002.bin")


def test_a_tensor_in_two_parts_is_refused(folder: Path) -> None:
    _part(folder / B, "bc")
    with pytest.raises(FormatError, match=f"duplicate_name: tensor 'b': is in '{A}' and in '{B}'"):
        open_checkpoint(folder / INDEX)


def test_a_part_that_is_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    inner = tmp_path / "model"
    inner.mkdir()
    _part(tmp_path / "x.bin", "a")
    (inner / "x.bin").symlink_to(tmp_path / "x.bin")
    with pytest.raises(UnsafeFileError, match="path_escape"):
        open_checkpoint(_index(inner, {"a": "x.bin"}))


def test_what_a_part_would_call_is_found_and_its_tensors_are_read(folder: Path) -> None:
    root = {"c": tensor(stored("FloatStorage", "0", 24), (4, 6)), "hook": call("posix", "system", "x")}
    (folder / B).write_bytes(zipped(tf.members(root, {"0": ARRAYS["c"].tobytes()})))
    with open_checkpoint(folder / INDEX) as checkpoint:
        assert "unsafe_pickle" in {one.category for one in checkpoint.findings}
        assert (checkpoint.read(checkpoint.spec("c")) == ARRAYS["c"]).all()
    assert ww_static.analyze(folder).exit_code == 3
    broken = b"\x80\x02cposix\nsystem\n(X\x01\x00\x00\x00xtR\xff"
    (folder / B).write_bytes(zipped(tf.members(broken, {})))
    with pytest.raises(FormatError, match=f"unsafe_pickle: {B}: data.pkl: calls 'posix.system', which can run code; then"):
        open_checkpoint(folder / INDEX)


@pytest.mark.parametrize(("total", "found"), [(288, 0), (1, 1), ("288", 0), (None, 0)])
def test_a_total_size_that_does_not_agree_is_a_finding(folder: Path, total: object, found: int) -> None:
    with open_checkpoint(_index(folder, {"a": A, "b": A, "c": B}, total_size=total)) as checkpoint:
        assert [one.category for one in checkpoint.findings] == ["index_mismatch"] * found


def test_a_total_size_may_count_tied_weights_once_or_twice(tmp_path: Path) -> None:
    held = stored("FloatStorage", "0", 24)
    root = {"a": tensor(held, (4, 6)), "tied": tensor(held, (4, 6))}
    (tmp_path / "x.bin").write_bytes(zipped(tf.members(root, {"0": ARRAYS["a"].tobytes()})))
    for total, found in ((96, 0), (192, 0), (97, 1)):
        with open_checkpoint(_index(tmp_path, {"a": "x.bin", "tied": "x.bin"}, total_size=total)) as checkpoint:
            assert len(checkpoint.findings) == found


def test_limit_parts_holds_for_torch_files(folder: Path) -> None:
    open_checkpoint(folder / INDEX, Limits(parts=2)).close()
    for named, match in ((INDEX, "limit: index: 2 files, limit 1"), (A, "limit: shards: 2 shards, limit 1")):
        with pytest.raises(LimitError, match=match):
            open_checkpoint(folder / named, Limits(parts=1))
