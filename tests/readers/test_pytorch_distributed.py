"""Distributed checkpoints: windows put together from chunks, and every way in which chunks can fail to be the tensor."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import torch_files as tf
import ww_static
from torch_files import Distributed, Raw, call, glob, instance, stored, tensor, zipped
from ww_static import models
from ww_static.errors import FormatError, LimitError, UnknownFormatError, UnsafeFileError
from ww_static.protocol import Limits, ModelFile
from ww_static.seam import OpenCheckpoint, open_checkpoint
from ww_static.testing import ReaderSuite, Stored
from ww_static_readers import pytorch

CLAIMS = ("torch legacy", "zip", "pickle")
A, B = "__0_0.distcp", "__1_0.distcp"


class TestOneChunkEach(ReaderSuite):
    """What one process writes: each tensor is one chunk."""

    reader = pytorch
    dtypes = (*tf.STORAGES, *tf.DTYPES)
    claims = CLAIMS
    mutations = 150
    test_models_names_files_of_the_folder_and_nothing_else = None  # type: ignore[assignment]  # it needs the parts: below
    test_truncated_files_raise_format_errors_and_never_give_other_values = None  # type: ignore[assignment]  # of the parts: below

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        made = Distributed()
        for name, one in tensors.items():
            made.add(name, one.dtype, one.array)
        return made.write(folder)


class TestManyChunks(TestOneChunkEach):
    """What four processes write: rows and columns are cut, and lie in two files."""

    dtypes = ("F32", "BF16", "I64")
    mutations = 60
    shapes = ((6, 8), (4,), (), (0, 3), (2, 3, 4), (1, 1), (3, 0))

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        made = Distributed()
        for name, one in tensors.items():
            made.add(name, one.dtype, one.array, _quarters(one.array.shape))
        return made.write(folder)


def _quarters(shape: tuple[int, ...]) -> list[tuple[str, tuple[slice, ...]]]:
    """Both halves of the first axis, each cut in two along the last one, alternating between two files."""
    if not shape:
        return [(A, ())]
    cuts: list[tuple[slice, ...]] = [()]
    for axis, size in enumerate(shape):
        cut_here = axis in (0, len(shape) - 1) and size > 1
        halves = [slice(0, size // 2), slice(size // 2, size)] if cut_here else [slice(0, size)]
        cuts = [(*cut, half) for cut in cuts for half in halves]
    return [((A, B)[place % 2], cut) for place, cut in enumerate(cuts)]


VALUES = np.arange(48, dtype=np.float32).reshape(6, 8)
WHOLE = ((0, 0), (6, 8))


def _archive(values: np.ndarray[Any, Any], root: Any = None) -> bytes:
    held = tensor(stored("FloatStorage", "0", values.size), values.shape)
    return zipped(tf.members(held if root is None else root, {"0": values.tobytes()}))


def _made(*pieces: tuple[tuple[int, int], tuple[int, int]], shape: tuple[int, int] = (6, 8), **info: Any) -> Distributed:
    made = Distributed()
    for (row, column), (rows, columns) in pieces:
        made.put("w", (row, column), _archive(np.zeros((rows, columns), np.float32)), **info)
    made.describe("w", "F32", shape, pieces)
    return made


def _refused(folder: Path, made: Distributed, match: str, limits: Limits | None = None) -> None:
    with pytest.raises(FormatError, match=match):
        open_checkpoint(made.write(folder), limits)


def _opened(folder: Path) -> OpenCheckpoint:
    return open_checkpoint(folder / ".metadata")


# what torch writes


def test_a_checkpoint_of_two_processes_is_one_model_without_a_finding(tmp_path: Path) -> None:
    made = Distributed()
    made.add("rows", "F32", VALUES, [(A, (slice(0, 4), slice(None))), (B, (slice(4, 6), slice(None)))])
    made.add("columns", "F32", VALUES, [(A, (slice(None), slice(0, 5))), (B, (slice(None), slice(5, 8)))])
    made.add("one", "F32", VALUES, [(B, (slice(None), slice(None)))])
    made.add_object("step", 3)
    made.write(tmp_path)
    with _opened(tmp_path) as checkpoint:
        assert checkpoint.findings == ()
        assert {spec.name: spec.file for spec in checkpoint.tensors} == {"rows": ".metadata", "columns": ".metadata", "one": B}
        assert {os.path.basename(one.path) for one in checkpoint.identities} == {".metadata", A, B}
        for spec in checkpoint.tensors:
            assert (checkpoint.read(spec) == VALUES).all()
            for window in ((slice(5, None, -2), slice(1, 7, 3)), (slice(4, 5),), (slice(None), slice(6, 3, -1))):
                assert np.array_equal(checkpoint.read(spec, window), VALUES[window]), (spec.name, window)
        one = checkpoint.spec("one")
        assert one.extent is not None
        raw = (tmp_path / B).read_bytes()
        assert raw[one.extent.offset : one.extent.offset + one.extent.nbytes] == VALUES.tobytes()
    result = ww_static.analyze(tmp_path)
    assert {(row.name, row.status) for row in result} == {(name, "success") for name in ("rows", "columns", "one")}
    assert len({row.tied_to for row in result} - {None}) == 1, "equal values are analysed once"


def test_a_part_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    made = Distributed()
    made.add("w", "F32", VALUES, _quarters((6, 8)))
    made.write(tmp_path)
    with _opened(tmp_path) as checkpoint:
        checkpoint.check_unchanged()
        (tmp_path / B).write_bytes(made.files[B] + b"!")
        with pytest.raises(FormatError, match=f"changed_while_reading: {B}: size was"):
            checkpoint.check_unchanged()


def test_the_folder_of_a_checkpoint_is_one_model_and_its_parts_are_none(tmp_path: Path) -> None:
    assert pytorch.models([".metadata", A, B, "meta.pt"]) == [ModelFile(".metadata", "", (A, B))]
    assert pytorch.models([".metadata"]) == [ModelFile(".metadata", "")]
    assert pytorch.models([".metadata", "notes.txt"]) == []
    assert pytorch.models([A, B]) == []
    made = Distributed()
    made.add("w", "F32", VALUES)
    (tmp_path / "step-1").mkdir()
    made.write(tmp_path / "step-1")
    for named in (tmp_path, tmp_path / "step-1", tmp_path / "step-1" / ".metadata"):
        assert [os.path.basename(source.path) for source in models.locate([os.fspath(named)])] == [".metadata"]


def test_a_part_that_no_chunk_refers_to_leaves_the_checkpoint_inconclusive(tmp_path: Path) -> None:
    made = Distributed()
    made.add("w", "F32", VALUES)
    made.write(tmp_path)
    assert ww_static.analyze(tmp_path, executor=None).exit_code == 0
    (tmp_path / "__9_0.distcp").write_bytes(b"")  # a process that had nothing to write
    assert ww_static.analyze(tmp_path, executor=None).exit_code == 0
    (tmp_path / "__9_0.distcp").write_bytes(b"x")
    result = ww_static.analyze(tmp_path, executor=None)
    assert [(row.category, row.where, row.inconclusive) for row in result.finding_rows] == [
        ("unread_part", "__9_0.distcp", True)
    ]
    assert result.exit_code == 3


def test_a_part_that_is_named_alone_is_refused_with_what_to_name(tmp_path: Path) -> None:
    made = Distributed()
    made.add("v", "F32", VALUES)
    made.add("w", "F32", VALUES)
    made.write(tmp_path)
    with pytest.raises(UnknownFormatError, match="unsupported: this is a part of a distributed checkpoint; name its folder"):
        open_checkpoint(tmp_path / A)


def test_optimizer_state_is_listed_and_not_analysed(tmp_path: Path) -> None:
    made = Distributed()
    for name in ("model.fc.weight", "optimizer.state.fc.weight.exp_avg"):
        made.add(name, "F32", VALUES)
    made.write(tmp_path)
    rows = {row.name: row.reason for row in ww_static.describe(tmp_path)}
    assert rows == {"model.fc.weight": None, "optimizer.state.fc.weight.exp_avg": "optimizer_state"}


def test_tensors_of_an_object_are_listed_below_its_name(tmp_path: Path) -> None:
    made = Distributed()
    made.add_object("extra", {"scale": tensor(stored("FloatStorage", "0", 48), (6, 8))}, {"0": VALUES.tobytes()})
    made.write(tmp_path)
    with _opened(tmp_path) as checkpoint:
        assert (checkpoint.read(checkpoint.spec("extra.scale")) == VALUES).all()


def test_a_strided_chunk_and_an_older_index_are_read(tmp_path: Path) -> None:
    made = Distributed()
    turned = tensor(stored("FloatStorage", "0", 48), (6, 8), (1, 6))
    made.put("w", None, _archive(VALUES.T.copy(), turned))
    chunk = instance(tf.METADATA, "ChunkStorageMetadata", {"offsets": (0, 0), "sizes": (6, 8)})
    made.described["w"] = instance(tf.METADATA, "TensorStorageMetadata", {"size": (6, 8), "chunks": [chunk]})
    made.write(tmp_path)
    with _opened(tmp_path) as checkpoint:
        assert checkpoint.findings == ()
        assert (checkpoint.read(checkpoint.spec("w")) == VALUES).all()


def test_an_empty_chunk_where_another_begins_is_no_second_one(tmp_path: Path) -> None:
    made = _made(WHOLE)
    made.describe("w", "F32", (6, 8), [((0, 0), (0, 8)), WHOLE, ((6, 0), (0, 8))])
    made.put("w", (6, 0), _archive(np.zeros((0, 8), np.float32)))
    made.write(tmp_path)
    with _opened(tmp_path) as checkpoint:
        assert checkpoint.read(checkpoint.spec("w")).shape == (6, 8)


def test_a_transformed_chunk_is_a_row_with_a_reason(tmp_path: Path) -> None:
    made = Distributed()
    made.put("w", (0, 0), b"zstd", transform_descriptors=["zstd"])
    made.describe("w", "F32", (6, 8), [((0, 0), (6, 8))])
    made.write(tmp_path)
    assert [(row.status, row.reason) for row in ww_static.analyze(tmp_path)] == [("skipped", "unsupported_layout")]


# chunks that are not the tensor


@pytest.mark.parametrize(
    ("pieces", "match"),
    [
        ([((0, 0), (4, 8))], "its chunks have 32 of 48 elements"),
        ([((0, 0), (4, 8)), ((3, 0), (3, 8))], "its chunks have 56 of 48 elements, so some overlap"),
        ([((0, 0), (4, 8)), ((3, 0), (2, 8))], "its chunks overlap and leave gaps"),
        ([((0, 0), (4, 8)), ((4, 0), (4, 8))], r"the chunk of \[4, 8\] at \[4, 0\] reaches out of \[6, 8\]"),
        ([((0, 0), (3, 4)), ((3, 4), (3, 4)), ((0, 4), (3, 4)), ((0, 0), (3, 4))], "duplicate_name"),
        ([], "its chunks have 0 of 48 elements"),
    ],
)
def test_chunks_that_do_not_make_up_the_tensor_are_refused(
    tmp_path: Path, pieces: list[tuple[tuple[int, int], tuple[int, int]]], match: str
) -> None:
    category = "" if match == "duplicate_name" else "index_mismatch: tensor 'w': "
    _refused(tmp_path, _made(*pieces), category + match)


@pytest.mark.parametrize(
    ("info", "match"),
    [
        ({"offset": 10**9}, "truncated: tensor 'w': a chunk ends at byte"),
        ({"length": 2**62}, "truncated: tensor 'w'"),
        ({"length": 30}, f"truncated: tensor 'w': {A} at byte 0"),
        ({"offset": 1}, "truncated: tensor 'w'"),
        ({"offset": -1}, "bad_header: index: an entry of storage_data"),
        ({"length": True}, "bad_header: index: an entry of storage_data"),
        ({"relative_path": "gone.distcp"}, r"missing_part: index: 'gone\.distcp' is missing"),
        ({"relative_path": ""}, "bad_header: index: the reference to another file is empty"),
        ({"relative_path": "../x"}, "path_escape: index: .* leaves the model directory"),
        ({"relative_path": "/etc/passwd"}, "path_escape"),
        ({"relative_path": "a\\b"}, "path_escape"),
        ({"relative_path": 7}, "bad_header"),
        ({"relative_path": "."}, "path_escape"),
    ],
)
def test_places_outside_of_the_files_are_refused(tmp_path: Path, info: dict[str, Any], match: str) -> None:
    _refused(tmp_path, _made(WHOLE, **info), match)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = _made(WHOLE).write(folder)
    (folder / A).rename(tmp_path / A)
    (folder / A).symlink_to(tmp_path / A)
    with pytest.raises(UnsafeFileError, match="path_escape"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("archive", "match"),
    [
        (_archive(np.zeros((6, 7), np.float32)), r"index_mismatch: .* holds F32 \[6, 7\], not F32 \[6, 8\]"),
        (
            zipped(tf.members(tensor(stored("HalfStorage", "0", 48), (6, 8)), {"0": bytes(96)})),
            r"index_mismatch: .* holds F16 \[6, 8\], not F32 \[6, 8\]",
        ),
        (zipped(tf.members({}, {})), "index_mismatch: .* holds 0 tensors"),
        (b"PK\3\4" + bytes(99), "truncated"),
        (b"no archive", "bad_header"),
        (_archive(VALUES, tensor(stored("FloatStorage", "0", 48), (6, 8), (8, 2))), "bad_offsets"),
        (_archive(VALUES) + b"!", "corrupt_archive"),
    ],
)
def test_archives_that_do_not_hold_the_chunk_are_refused(tmp_path: Path, archive: bytes, match: str) -> None:
    made = Distributed()
    made.put("w", (0, 0), archive)
    made.describe("w", "F32", (6, 8), [WHOLE])
    _refused(tmp_path, made, match)


def test_what_a_chunk_an_object_or_the_index_would_call_is_found(tmp_path: Path) -> None:
    evil = call("posix", "system", "x")
    objects, chunks = Distributed(), Distributed()
    objects.add("w", "F32", VALUES)
    objects.add_object("extra", {"hook": evil})
    hooked = call("torch._utils", "_rebuild_tensor_v2", stored("FloatStorage", "0", 48), 0, (6, 8), (8, 1), False, {"h": evil})
    chunks.put("w", (0, 0), _archive(VALUES, hooked))
    chunks.describe("w", "F32", (6, 8), [WHOLE])
    for made in (objects, chunks):
        made.write(tmp_path)
        with _opened(tmp_path) as checkpoint:
            assert "unsafe_pickle" in {one.category for one in checkpoint.findings}
            assert (checkpoint.read(checkpoint.spec("w")) == VALUES).all()
    (tmp_path / ".metadata").write_bytes(chunks.index(version=evil))
    with _opened(tmp_path) as checkpoint:
        assert any("posix.system" in one.problem and one.where == "pickle" for one in checkpoint.findings)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"state_dict_metadata": None}, "bad_header: index: has no state_dict_metadata or storage_data"),
        ({"storage_data": []}, "bad_header: index: has no"),
        ({"storage_data": {"w": 1}}, "bad_header: index: holds something else than a MetadataIndex"),
        ({"storage_data": {}}, r"index_mismatch: tensor 'w': its chunk at \[0, 0\] has no place"),
        ({"state_dict_metadata": {"w": 1}}, "bad_header: tensor 'w': holds something else than a TensorStorageMetadata"),
        ({"state_dict_metadata": {7: 1}}, "bad_header: index: a name is no text"),
        ({"state_dict_metadata": {"b": instance(tf.METADATA, "BytesStorageMetadata", {})}}, "index_mismatch: entry 'b'"),
    ],
)
def test_an_index_that_is_none_is_refused(tmp_path: Path, fields: dict[str, Any], match: str) -> None:
    made = _made(WHOLE)
    made.write(tmp_path)
    (tmp_path / ".metadata").write_bytes(made.index(**fields))
    with pytest.raises(FormatError, match=match):
        _opened(tmp_path)


def _storage(**state: Any) -> Raw:
    return instance(tf.METADATA, "TensorStorageMetadata", state)


@pytest.mark.parametrize(
    ("state", "match"),
    [
        ({"size": (6, 8)}, "bad_header: tensor 'w': has no chunks"),
        ({"size": (6, -8), "chunks": []}, "bad_header: tensor 'w': size is not a list of counts"),
        ({"size": (0, 2**62, 2**62), "chunks": []}, "overflow"),
        ({"size": (1,) * 65, "chunks": []}, "limit: tensor 'w': 65 dimensions, limit 64"),
        ({"size": (6, 8), "chunks": [instance(tf.METADATA, "ChunkStorageMetadata", {"offsets": (0,), "sizes": (6, 8)})]}, "index_mismatch"),
        ({"size": (0,), "chunks": [], "properties": instance(tf.METADATA, "TensorProperties", {"dtype": 1})}, "bad_header: .* no dtype"),
        (
            {"size": (0,), "chunks": [], "properties": instance(tf.METADATA, "TensorProperties", (glob("torch", "evil"),))},
            r"unknown_dtype: tensor 'w': dtype 'evil' is not known",
        ),
    ],
)  # fmt: skip
def test_descriptions_of_a_tensor_are_checked(tmp_path: Path, state: dict[str, Any], match: str) -> None:
    made = _made(WHOLE)
    made.described["w"] = _storage(**state)
    _refused(tmp_path, made, match)


def test_a_part_that_is_cut_short_gives_no_other_values(tmp_path: Path) -> None:
    made = Distributed()
    made.add("w", "F32", VALUES, _quarters((6, 8)))
    made.write(tmp_path)
    for length in range(0, len(made.files[A]), 97):
        (tmp_path / A).write_bytes(made.files[A][:length])
        with pytest.raises(FormatError, match="truncated"):
            _opened(tmp_path)


def test_damaged_parts_raise_format_errors_and_nothing_else(tmp_path: Path) -> None:
    made = Distributed()
    made.add("w", "F32", VALUES, _quarters((6, 8)))
    made.write(tmp_path)
    generator = np.random.default_rng(11)
    for _ in range(400):
        data = bytearray(made.files[A])
        for place in generator.integers(0, len(data), 3):
            data[place] ^= 1 << int(generator.integers(0, 8))
        (tmp_path / A).write_bytes(data)
        try:
            with _opened(tmp_path) as checkpoint:
                assert checkpoint.read(checkpoint.spec("w")).shape == (6, 8)
        except FormatError:
            pass


def test_limit_parts_and_tensors_hold_for_a_checkpoint(tmp_path: Path) -> None:
    made = Distributed()
    made.add("w", "F32", VALUES, _quarters((6, 8)))
    made.add("v", "F32", VALUES)
    path = made.write(tmp_path)
    open_checkpoint(path, Limits(parts=2)).close()
    with pytest.raises(LimitError, match="limit: index: more than 1 files"):
        open_checkpoint(path, Limits(parts=1))
    with pytest.raises(LimitError, match="limit: index: 2 tensors, limit 1"):
        open_checkpoint(path, Limits(tensors=1))
