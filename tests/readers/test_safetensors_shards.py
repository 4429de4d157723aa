"""Sharded safetensors: the index, the numbered pattern, the Hugging Face cache, and links that lead elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

import ww_static
from ww_static.errors import FormatError, UnsafeFileError
from ww_static.protocol import Limits, ModelFile
from ww_static.seam import open_checkpoint
from ww_static_readers import safetensors

A, B = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


def _arrays(seed: int, *names: str) -> dict[str, NDArray[Any]]:
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal((6, 4)).astype(np.float32) for name in names}


def _shards(folder: Path) -> dict[str, NDArray[Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    first, second = _arrays(1, "a", "b"), _arrays(2, "c")
    save_file(first, folder / A)
    save_file(second, folder / B)
    return first | second


def _index(folder: Path, weight_map: object, **more: object) -> Path:
    path = folder / INDEX
    path.write_text(json.dumps({"metadata": {"total_size": 288}, "weight_map": weight_map} | more))
    return path


def _model(folder: Path) -> tuple[Path, dict[str, NDArray[Any]]]:
    arrays = _shards(folder)
    return _index(folder, {"a": A, "b": A, "c": B}), arrays


def _holds(path: Path, arrays: dict[str, NDArray[Any]], findings: tuple[str, ...] = ()) -> None:
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.reader == "safetensors"
        assert {spec.name for spec in checkpoint.tensors} == set(arrays)
        assert tuple(finding.category for finding in checkpoint.findings) == findings
        for spec in checkpoint.tensors:
            np.testing.assert_array_equal(checkpoint.read(spec, (slice(1, 5, 2),)), arrays[spec.name][1:5:2])


def test_an_index_is_one_model_and_each_tensor_says_its_shard(tmp_path: Path) -> None:
    path, arrays = _model(tmp_path)
    _holds(path, arrays)
    with open_checkpoint(path) as checkpoint:
        assert {spec.name: spec.file for spec in checkpoint.tensors} == {"a": A, "b": A, "c": B}
        assert [os.path.basename(one.path) for one in checkpoint.identities] == [INDEX, A, B]


def test_an_index_is_recognized_by_content_under_another_name(tmp_path: Path) -> None:
    path, arrays = _model(tmp_path)
    _holds(path.rename(tmp_path / "weights.bin"), arrays)


def test_any_shard_of_a_numbered_set_opens_the_whole_set(tmp_path: Path) -> None:
    arrays = _shards(tmp_path)
    _holds(tmp_path / A, arrays)
    _holds(tmp_path / B, arrays)


def test_a_numbered_set_that_lacks_a_shard_is_refused(tmp_path: Path) -> None:
    _shards(tmp_path)
    (tmp_path / B).unlink()
    with pytest.raises(FormatError, match=f"missing_part: shards: shard '{B}' is missing"):
        open_checkpoint(tmp_path / A)


@pytest.mark.parametrize("name", ["model-00003-of-00002.safetensors", "model-00000-of-00002.safetensors"])
def test_a_number_outside_its_own_set_is_refused(tmp_path: Path, name: str) -> None:
    _shards(tmp_path)
    save_file(_arrays(3, "z"), tmp_path / name)
    with pytest.raises(FormatError, match=r"index_mismatch: shards: .* is not one of 2"):
        open_checkpoint(tmp_path / name)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    save_file(_arrays(1, "a", "b"), tmp_path / A)
    save_file(_arrays(2, "b"), tmp_path / B)
    with pytest.raises(FormatError, match=f"duplicate_name: tensor 'b': is in '{A}' and in '{B}'"):
        open_checkpoint(tmp_path / A)


def test_a_shard_that_the_index_names_and_nobody_has_is_refused(tmp_path: Path) -> None:
    _shards(tmp_path)
    path = _index(tmp_path, {"a": A, "b": A, "c": "gone.safetensors"})
    with pytest.raises(FormatError, match=r"missing_part: index: shard 'gone\.safetensors' is missing"):
        open_checkpoint(path)


def test_a_tensor_that_is_not_in_its_shard_is_refused(tmp_path: Path) -> None:
    _shards(tmp_path)
    path = _index(tmp_path, {"a": A, "b": B, "c": B})
    with pytest.raises(FormatError, match=f"index_mismatch: index: 'b' is mapped to '{B}', which lacks it"):
        open_checkpoint(path)


def test_a_tensor_that_the_index_leaves_out_is_a_finding(tmp_path: Path) -> None:
    arrays = _shards(tmp_path)
    _holds(_index(tmp_path, {"a": A, "c": B}), arrays, findings=("index_mismatch",))


def test_a_shard_that_the_index_does_not_name_leaves_the_model_inconclusive(tmp_path: Path) -> None:
    _shards(tmp_path)
    result = ww_static.analyze(_index(tmp_path, {"a": A, "b": A}, metadata=None), executor=None)
    assert [(row.category, row.where, row.inconclusive) for row in result.finding_rows] == [("unread_part", B, True)]
    assert result.exit_code == 3


def test_an_index_of_other_files_says_that_the_set_of_its_name_is_unread_and_lists_nothing_twice(tmp_path: Path) -> None:
    _shards(tmp_path)
    save_file(_arrays(3, "z"), tmp_path / "other.safetensors")
    save_file(_arrays(4, "free"), tmp_path / "free.safetensors")
    path = _index(tmp_path, {"z": "other.safetensors"}, metadata=None)
    result = ww_static.analyze(tmp_path, executor=None)
    assert [(row.category, row.where) for row in result.finding_rows] == [("unread_part", A), ("unread_part", B)]
    assert result.exit_code == 3
    assert [(row.model_id, row.name) for row in result] == [("free", "free"), ("model", "z")]
    assert [row.name for row in ww_static.describe([path, tmp_path / "other.safetensors"])] == ["z", "z"], "named files stay"


def test_shards_of_a_set_beside_its_index_are_read_and_no_variants(tmp_path: Path) -> None:
    _model(tmp_path)
    assert safetensors.models([A, B, INDEX, "x.safetensors"]) == [
        ModelFile(INDEX, "model", (A, B)),
        ModelFile("x.safetensors", "x"),
    ]
    assert ww_static.analyze(tmp_path, executor=None).exit_code == 0


def test_sets_of_one_name_and_numbers_beyond_their_set_are_models_of_their_own(tmp_path: Path) -> None:
    names = [A, B, "model-00001-of-00003.safetensors", "model-00009-of-00002.safetensors", "model-00002-of-00003.safetensors"]
    assert {one.file: one.parts for one in safetensors.models(names)} == {
        A: (B,), "model-00001-of-00003.safetensors": ("model-00002-of-00003.safetensors",), "model-00009-of-00002.safetensors": (),
    }  # fmt: skip


def test_a_total_size_that_does_not_agree_is_a_finding(tmp_path: Path) -> None:
    arrays = _shards(tmp_path)
    _holds(_index(tmp_path, {"a": A, "b": A, "c": B}, metadata={"total_size": 1}), arrays, findings=("index_mismatch",))


def test_an_index_without_metadata_is_complete(tmp_path: Path) -> None:
    arrays = _shards(tmp_path)
    _holds(_index(tmp_path, {"a": A, "b": A, "c": B}, metadata=None), arrays)


@pytest.mark.parametrize("weight_map", [[], None, "a", {"a": 1}, {"a": None}, {"a": [A]}, 7])
def test_a_weight_map_that_is_no_map_of_names_is_refused(tmp_path: Path, weight_map: object) -> None:
    _shards(tmp_path)
    with pytest.raises(FormatError, match="bad_header: index: weight_map is not a map"):
        open_checkpoint(_index(tmp_path, weight_map))


def test_an_index_that_names_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="bad_header: index: names itself as a shard"):
        open_checkpoint(_index(tmp_path, {"a": INDEX}))


def test_an_index_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    _shards(tmp_path)
    (tmp_path / INDEX).write_text(f'{{"weight_map": {{"a": "{A}", "a": "{B}"}}}}')
    with pytest.raises(FormatError, match="duplicate_name: index: name 'a' appears twice"):
        open_checkpoint(tmp_path / INDEX)


def test_an_index_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path, _ = _model(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(FormatError, match=r"bad_header: index: .* are not JSON"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    "reference",
    [
        "../out.safetensors",
        "/etc/passwd",
        "a/../../x",
        "C:x.safetensors",
        "..\\x",
        "file://x",
        "a\0b",
        "https://host/x",
        ".",
        "/",
    ],
)
def test_a_shard_outside_the_folder_is_refused(tmp_path: Path, reference: str) -> None:
    folder = tmp_path / "model"
    _shards(folder)
    save_file(_arrays(9, "c"), tmp_path / "out.safetensors")
    with pytest.raises(UnsafeFileError, match=r"path_escape: index: .* leaves the model directory"):
        open_checkpoint(_index(folder, {"a": A, "b": A, "c": reference}))


def test_an_empty_shard_name_is_refused(tmp_path: Path) -> None:
    _shards(tmp_path)
    with pytest.raises(FormatError, match="bad_header: index: the reference to another file is empty"):
        open_checkpoint(_index(tmp_path, {"a": ""}))


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    path, _ = _model(tmp_path)
    (tmp_path / B).write_bytes((tmp_path / B).read_bytes()[:-1])
    with pytest.raises(FormatError, match=f"{INDEX}: truncated: {B}: tensor 'c': ends at byte"):
        open_checkpoint(path)


def test_a_shard_that_is_a_folder_or_a_fifo_is_refused(tmp_path: Path) -> None:
    path, _ = _model(tmp_path)
    (tmp_path / B).unlink()
    (tmp_path / B).mkdir()
    with pytest.raises(UnsafeFileError, match=f"not_regular_file: index: '{B}' is a directory"):
        open_checkpoint(path)
    (tmp_path / B).rmdir()
    os.mkfifo(tmp_path / B)
    with pytest.raises(UnsafeFileError, match=f"not_regular_file: index: '{B}' is a FIFO"):
        open_checkpoint(path)


def test_shards_in_a_folder_below_the_index_are_read(tmp_path: Path) -> None:
    arrays = _shards(tmp_path / "parts")
    _holds(_index(tmp_path, {"a": f"parts/{A}", "b": f"parts/{A}", "c": f"parts/{B}"}), arrays)


def test_a_shard_with_two_hard_links_is_a_finding(tmp_path: Path) -> None:
    path, arrays = _model(tmp_path)
    os.link(tmp_path / B, tmp_path / "other")
    _holds(path, arrays, findings=("hard_link",))


def test_a_shard_that_changes_its_place_after_opening_is_not_followed_out(tmp_path: Path) -> None:
    path, _ = _model(tmp_path / "model")
    save_file(_arrays(8, "c"), tmp_path / "out.safetensors")
    with open_checkpoint(path) as checkpoint:
        (tmp_path / "model" / B).unlink()
        (tmp_path / "model" / B).symlink_to("../out.safetensors")
        with pytest.raises(FormatError, match="path_escape"):
            checkpoint.read(checkpoint.spec("c"))


# The Hugging Face cache: models--X/snapshots/REV/f -> ../../blobs/HASH


def _cache(root: Path, below: str = "") -> tuple[Path, dict[str, NDArray[Any]]]:
    """A repository of the cache whose shards are links into its blobs; the path of its index."""
    repository = root / "models--org--name"
    (repository / "blobs").mkdir(parents=True)
    folder = repository / "snapshots" / "0a1b2c" / below
    path, arrays = _model(folder)
    up = "../" * (2 + len(Path(below).parts))
    for number, name in enumerate((INDEX, A, B)):
        (folder / name).rename(repository / "blobs" / f"hash{number}")
        (folder / name).symlink_to(f"{up}blobs/hash{number}")
    return path, arrays


def _relink(path: Path, target: str | Path) -> None:
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize("below", ["", "transformer", "a/b"])
def test_links_of_the_cache_into_their_own_blobs_are_followed(tmp_path: Path, below: str) -> None:
    path, arrays = _cache(tmp_path, below)
    _holds(path, arrays)
    _holds(path.with_name(A), arrays)


def test_the_folder_of_a_cached_repository_is_one_model(tmp_path: Path) -> None:
    _cache(tmp_path)
    result = ww_static.describe(tmp_path / "models--org--name")
    assert {row.name for row in result.rows} == {"a", "b", "c"}


def test_a_cache_link_to_another_place_is_refused(tmp_path: Path) -> None:
    path, _ = _cache(tmp_path)
    out = tmp_path / "secret.safetensors"
    save_file(_arrays(7, "c"), out)
    other = tmp_path / "models--org--other" / "blobs"
    other.mkdir(parents=True)
    save_file(_arrays(7, "c"), other / "hash9")
    blobs = tmp_path / "models--org--name" / "blobs"
    (blobs / "sub").mkdir()
    save_file(_arrays(7, "c"), blobs / "sub" / "hash9")
    (blobs / "twice").symlink_to(out)
    (tmp_path / "models--org--name" / "other").mkdir()
    save_file(_arrays(7, "c"), tmp_path / "models--org--name" / "other" / "hash9")
    bad = [
        "../../../secret.safetensors", "../../../models--org--other/blobs/hash9", "../../blobs/sub/hash9", "../../other/hash9",
        "../../blobs/../blobs/hash2", "../../blobs/twice", "../blobs/hash2", "../../../blobs/hash2",
        os.fspath(out), os.fspath(blobs / "hash2"), f"../../../{os.fspath(tmp_path.name)}/secret.safetensors", "/",
    ]  # fmt: skip
    for target in bad:
        _relink(path.with_name(B), target)
        with pytest.raises(FormatError, match="path_escape: index: "):
            open_checkpoint(path)


def test_a_cache_link_outside_of_a_cache_is_refused(tmp_path: Path) -> None:
    path, _ = _cache(tmp_path)
    (tmp_path / "models--org--name").rename(tmp_path / "plain")
    with pytest.raises(UnsafeFileError, match="path_escape: index: "):
        open_checkpoint(tmp_path / "plain" / path.relative_to(tmp_path / "models--org--name"))


def test_a_cache_link_to_a_blob_that_is_gone_is_a_missing_part(tmp_path: Path) -> None:
    path, _ = _cache(tmp_path)
    _relink(path.with_name(B), "../../blobs/nothing")
    with pytest.raises(FormatError, match=f"missing_part: index: shard '{B}' is missing"):
        open_checkpoint(path)


def test_a_snapshot_folder_that_is_a_link_still_means_the_blobs_of_its_own_repository(tmp_path: Path) -> None:
    path, arrays = _cache(tmp_path)
    elsewhere = tmp_path / "elsewhere" / "snapshots" / "0a1b2c"
    elsewhere.parent.mkdir(parents=True)
    path.parent.rename(elsewhere)
    path.parent.symlink_to(elsewhere)
    (tmp_path / "elsewhere" / "blobs").mkdir()
    for number, name in enumerate((A, B), 1):
        save_file(
            _arrays(70 + number, *(["a", "b"] if name == A else ["c"])), tmp_path / "elsewhere" / "blobs" / f"hash{number}"
        )
    _relink(elsewhere / INDEX, path.parents[2] / "blobs" / "hash0")
    _holds(path, arrays)


def test_links_that_stay_in_the_folder_are_followed_and_circles_end(tmp_path: Path) -> None:
    path, arrays = _model(tmp_path)
    (tmp_path / B).rename(tmp_path / "real.safetensors")
    (tmp_path / B).symlink_to("hop.safetensors")
    (tmp_path / "hop.safetensors").symlink_to("./real.safetensors")
    _holds(path, arrays)
    _relink(tmp_path / "hop.safetensors", B)
    with pytest.raises(UnsafeFileError, match=r"path_escape: index: .* is a chain of more than 8 links"):
        open_checkpoint(path)


def test_the_reader_alone_opens_an_index_too(tmp_path: Path) -> None:
    path, arrays = _model(tmp_path)
    checkpoint = safetensors.open(path, Limits())
    assert [spec.name for spec in checkpoint.tensors] == ["a", "b", "c"]
    for spec in (*checkpoint.tensors, *reversed(checkpoint.tensors)):  # one descriptor moves between the shards
        np.testing.assert_array_equal(checkpoint.read(spec), arrays[spec.name])
    checkpoint.close()
