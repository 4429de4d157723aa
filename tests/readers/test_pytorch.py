"""The PyTorch reader: the reader suite for each container, views, names, quantized weights, limits of pickles."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import torch_files as tf
import ww_static
from torch_files import Raw, call, glob, op, pickled, stored, tensor, zipped
from ww_static.errors import FormatError, LimitError, UnknownFormatError
from ww_static.protocol import Limits
from ww_static.seam import OpenCheckpoint, open_checkpoint
from ww_static.testing import ReaderSuite, Stored
from ww_static_readers import pytorch

CLAIMS = ("torch legacy", "zip", "pickle")
ALL = (*tf.STORAGES, *tf.DTYPES)


class TestZip(ReaderSuite):
    """Archives as torch writes them, every dtype."""

    reader = pytorch
    dtypes = ALL
    claims = CLAIMS

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        path = folder / "model.pt"
        path.write_bytes(tf.archive(tensors))
        return path


class TestBigEndian(ReaderSuite):
    """The same from a big-endian machine."""

    reader = pytorch
    dtypes = ("F32", "BF16", "I16", "F8_E4M3", "C64", "BOOL")
    claims = CLAIMS

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        path = folder / "model.pt"
        path.write_bytes(tf.archive(tensors, big=True))
        return path


class TestZip64(ReaderSuite):
    """Archives whose sizes and offsets all stand in zip64 fields."""

    reader = pytorch
    dtypes = ("F16",)
    claims = CLAIMS
    mutations = 200

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        path = folder / "model.pt"
        path.write_bytes(tf.archive(tensors, wide=True))
        return path


class TestDeflated(ReaderSuite):
    """Archives that somebody compressed: members are inflated one at a time."""

    reader = pytorch
    dtypes = ("F32", "BF16")
    claims = CLAIMS
    mutations = 200

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        path = folder / "model.pt"
        path.write_bytes(tf.archive(tensors, deflated=True))
        return path


class TestLegacy(ReaderSuite):
    """Streams of torch before 1.6."""

    reader = pytorch
    dtypes = tuple(tf.STORAGES)
    claims = CLAIMS

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        path = folder / "model.pth"
        records = {str(place): (one.array.size, one.array.tobytes()) for place, one in enumerate(tensors.values())}
        path.write_bytes(tf.legacy(tf.state_dict(tensors, None), records))
        return path


VALUES = np.arange(24, dtype=np.float32)
FLOATS = stored("FloatStorage", "0", 24)
FULL = tensor(FLOATS, (4, 6))
FULL_1 = tensor(stored("FloatStorage", "1", 24), (4, 6))


def _save(folder: Path, root: Any, records: Mapping[str, bytes] | None = None, more: Mapping[str, bytes] | None = None) -> Path:
    path = folder / "model.pt"
    path.write_bytes(zipped(tf.members(root, {"0": VALUES.tobytes()} if records is None else records, more=more)))
    return path


def _opened(
    folder: Path, root: Any, records: Mapping[str, bytes] | None = None, more: Mapping[str, bytes] | None = None
) -> OpenCheckpoint:
    return open_checkpoint(_save(folder, root, records, more))


def _found(folder: Path, root: Any) -> set[str]:
    with _opened(folder, root) as checkpoint:
        return {one.category for one in checkpoint.findings}


def _refused(folder: Path, root: Any, match: str, limits: Limits | None = None) -> None:
    with pytest.raises(FormatError, match=match):
        open_checkpoint(_save(folder, root), limits)


# views


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((4, 6), (6, 1), 0), ((6, 4), (1, 6), 0), ((2, 3), (12, 2), 1), ((3, 4), (0, 6), 2), ((), (), 23)],
)
def test_views_are_those_of_numpy(tmp_path: Path, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> None:
    expected = np.lib.stride_tricks.as_strided(VALUES[offset:], shape, [4 * stride for stride in strides])
    with _opened(tmp_path, {"w": tensor(FLOATS, shape, strides, offset)}) as checkpoint:
        spec = checkpoint.spec("w")
        assert checkpoint.findings == ()
        assert (checkpoint.read(spec) == expected).all()
        if len(shape) == 2:
            window = (slice(None, None, -1), slice(1, None, 2))
            assert (checkpoint.read(spec, window) == expected[window]).all()
        dense = expected.flags.c_contiguous and 0 not in strides
        assert (spec.extent is not None) == dense


def test_tensors_of_one_storage_are_listed_by_each_name_and_analysed_once(tmp_path: Path) -> None:
    path = _save(tmp_path, {"embed.weight": FULL, "head.weight": FULL, "half.weight": tensor(FLOATS, (2, 6))})
    with open_checkpoint(path) as checkpoint:
        extents = [spec.extent for spec in checkpoint.tensors]
        assert extents[0] == extents[1] != extents[2]
    rows = {row.name: row for row in ww_static.analyze(path)}
    assert rows["head.weight"].tied_to == "embed.weight"
    assert rows["half.weight"].tied_to is None


@pytest.mark.parametrize(
    ("form", "match"),
    [
        ((FLOATS, 0, (4, 6), (6,), False, {}), "bad_header: tensor 'w': 1 strides for 2 dimensions"),
        ((FLOATS, -1, (4, 6), (6, 1), False, {}), "bad_offsets"),
        ((FLOATS, 0, (4, 6), (6, -1), False, {}), "bad_offsets"),
        ((FLOATS, 0, (-4, 6), (6, 1), False, {}), "bad_header: tensor 'w': dimension -4"),
        ((FLOATS, 1, (4, 6), (6, 1), False, {}), "bad_offsets: tensor 'w': reaches byte 100 of a storage of 96"),
        ((FLOATS, 2**62, (1,), (1,), False, {}), "bad_offsets"),
        ((FLOATS, 0, (0, 2**62, 2**62), (1, 1, 1), False, {}), "overflow"),
        ((FLOATS, 0, ("4", 6), (6, 1), False, {}), "bad_header"),
        ((7, 0, (4, 6), (6, 1), False, {}), "bad_header"),
        (
            (stored("FloatStorage", "9", 24), 0, (4, 6), (6, 1), False, {}),
            "missing_part: tensor 'w': its storage '9' is missing",
        ),
        ((stored("DoubleStorage", "0", 24), 0, (4, 6), (6, 1), False, {}), "size_mismatch"),
        (
            (stored("EvilStorage", "0", 24), 0, (4, 6), (6, 1), False, {}),
            "unknown_dtype: data.pkl: storage type 'torch.EvilStorage'",
        ),
        ((), "bad_header: data.pkl: calls 'torch._utils._rebuild_tensor_v2' with arguments that do not fit"),
    ],
)
def test_views_that_leave_their_storage_are_refused(tmp_path: Path, form: tuple[Any, ...], match: str) -> None:
    _refused(tmp_path, {"w": call("torch._utils", "_rebuild_tensor_v2", *form)}, match)


def test_big_numbers_in_views_are_never_given_to_numpy(tmp_path: Path) -> None:
    huge = stored("FloatStorage", "0", 2**70)
    _refused(tmp_path, {"w": tensor(huge, (2**35, 2**35))}, "overflow")


# names and roots


def test_names_are_joined_with_dots_and_stay_unique(tmp_path: Path) -> None:
    root = {"a": {"b": FULL}, "a.b": FULL, "list": [FULL, {3: FULL}], ("x", 1): FULL, "s\ud800": FULL, "n": 1, "none": None}
    with _opened(tmp_path, root) as checkpoint:
        names = [spec.name for spec in checkpoint.tensors]
    assert names == ["a.b", "a.b#2", "list.0", "list.1.3", "<key 3>", "s\\ud800"]


def test_a_tensor_alone_has_a_name(tmp_path: Path) -> None:
    with _opened(tmp_path, FULL) as checkpoint:
        assert [spec.name for spec in checkpoint.tensors] == ["tensor"]


def test_optimizer_state_is_listed_and_not_analysed(tmp_path: Path) -> None:
    state = {"state": {0: {"exp_avg": FULL, "m": FULL}}, "param_groups": [{"params": [0]}]}
    path = _save(
        tmp_path, {"model_state": {"fc.weight": FULL}, "opt": state, "optimizer_state_dict": state, "state": {1: {"v": FULL}}}
    )
    rows = {row.name: row.reason for row in ww_static.describe(path)}
    assert rows.pop("model_state.fc.weight") is None
    assert set(rows.values()) == {"optimizer_state"}
    assert len(rows) == 5


def test_parameters_of_a_whole_module_are_named_as_in_its_state_dict(tmp_path: Path) -> None:
    linear = Raw(
        glob("torch.nn.modules.linear", "Linear")
        + b")\x81"
        + op({"training": True, "_parameters": {"weight": FULL, "bias": None}})
        + b"b"
    )
    outer = Raw(
        glob("torch.nn.modules.container", "Sequential") + b")\x81" + op({"_parameters": {}, "_modules": {"0": linear}}) + b"b"
    )
    with _opened(tmp_path, outer) as checkpoint:
        assert [spec.name for spec in checkpoint.tensors] == ["0.weight"]
        assert {one.category for one in checkpoint.findings} == {"unknown_global"}


def test_torchscript_is_read_without_its_code(tmp_path: Path) -> None:
    root = Raw(
        glob("__torch__.net", "Net")
        + b")\x81"
        + op({"weight": FULL, "sizes": call("torch.jit._pickle", "build_intlist", [1, 2])})
        + b"b"
    )
    with _opened(tmp_path, root, more={"code/__torch__.py": b"import os", "constants.pkl": b"\x80\x02)."}) as checkpoint:
        assert [spec.name for spec in checkpoint.tensors] == ["weight"]
        assert {one.category for one in checkpoint.findings} == {"embedded_code"}
    assert "unsafe_pickle" in _found(tmp_path, root)  # without code its classes are foreign


def test_parameters_and_metadata_of_a_state_dict_give_no_finding(tmp_path: Path) -> None:
    parameter = call("torch._utils", "_rebuild_parameter", FULL, True, tf.ORDERED)
    held = Raw(tf.ORDERED + b"(" + op("w") + parameter + b"u" + op({"_metadata": tf.ORDERED}) + b"b")
    with _opened(tmp_path, held) as checkpoint:
        assert [spec.name for spec in checkpoint.tensors] == ["w"]
        assert checkpoint.findings == ()


# what cannot be read, what is dequantized, what is in the pickle


def test_meta_and_sparse_tensors_are_rows_with_a_reason(tmp_path: Path) -> None:
    layout = call("torch.serialization", "_get_layout", "torch.sparse_coo")
    sparse = call("torch._utils", "_rebuild_sparse_tensor", layout, (FULL, FULL, call("torch", "Size", (50, 60))))
    meta = call("torch._utils", "_rebuild_meta_tensor_no_storage", glob("torch", "float32"), (10**6, 10**6), (10**6, 1), False)
    path = _save(tmp_path, {"fc.weight": FULL, "sparse": sparse, "meta": meta})
    result = ww_static.analyze(path)
    rows = {row.name: (row.status, row.reason) for row in result}
    assert rows["sparse"] == ("skipped", "unsupported_layout")
    assert rows["meta"] == ("skipped", "no_data")
    assert result.exit_code == 3
    with open_checkpoint(path) as checkpoint:
        with pytest.raises(FormatError, match="unsupported_layout: tensor 'sparse'"):
            checkpoint.read(checkpoint.spec("sparse"))
        with pytest.raises(FormatError, match="no_data: tensor 'meta'"):
            checkpoint.read(checkpoint.spec("meta"))


def test_numbers_without_a_storage_dtype_are_rows_with_a_reason(tmp_path: Path) -> None:
    packed = call("torch._utils", "_rebuild_tensor_v3", stored("UntypedStorage", "0", 96, module="torch.storage"), 0, (4, 6), (6, 1),
                  False, {}, glob("torch", "float4_e2m1fn_x2"))  # fmt: skip
    root = {"w": FULL, "packed": packed, "z": tensor(stored("ComplexDoubleStorage", "1", 6), (2, 3))}
    path = _save(tmp_path, root, {"0": VALUES.tobytes(), "1": VALUES.tobytes()})
    rows = {row.name: (row.dtype, row.reason) for row in ww_static.describe(path)}
    assert rows == {"w": ("F32", None), "packed": ("U8", "unsupported_dtype"), "z": ("C128", "unsupported_dtype")}
    assert ww_static.analyze(path).exit_code == 3
    with open_checkpoint(path) as checkpoint:
        assert [(one.category, one.tensor) for one in checkpoint.findings] == [("unsupported_dtype", "packed")]
        with pytest.raises(FormatError, match="unsupported_dtype: tensor 'packed'"):
            checkpoint.read(checkpoint.spec("packed"))


@pytest.mark.parametrize("flag", ["neg", "conj"])
def test_values_that_are_not_what_is_stored_are_not_given_out(tmp_path: Path, flag: str) -> None:
    form: tuple[Any, ...] = (FLOATS, 0, (4, 6), (6, 1), False, {})
    flags = {flag: True}
    untyped = (stored("UntypedStorage", "1", 96, module="torch.storage"), *form[1:], glob("torch", "float32"))
    root = {
        "two": call("torch._utils", "_rebuild_tensor_v2", *form, flags), "three": call("torch._utils", "_rebuild_tensor_v3", *untyped, flags),
        "plain": call("torch._utils", "_rebuild_tensor_v2", *form, {flag: False}),
    }  # fmt: skip
    path = _save(tmp_path, root, {"0": VALUES.tobytes(), "1": VALUES.tobytes()})
    rows = {row.name: row.reason for row in ww_static.describe(path)}
    assert rows == {"two": "unsupported_layout", "three": "unsupported_layout", "plain": None}


def test_quantized_weights_read_as_float32(tmp_path: Path) -> None:
    codes = np.arange(-12, 12, dtype=np.int8)
    scales, zeros = np.array([0.5, 0.25, 2.0, 1e-3]), np.array([1, -2, 0, 7])
    held = stored("QInt8Storage", "0", 24)
    whole = call(
        "torch._utils", "_rebuild_qtensor", held, 0, (4, 6), (6, 1), (glob("torch", "per_tensor_affine"), 0.1, 3), False, {}
    )
    vectors = (tensor(stored("DoubleStorage", "1", 4), (4,)), tensor(stored("LongStorage", "2", 4), (4,)))
    rows = call(
        "torch._utils",
        "_rebuild_qtensor",
        held,
        0,
        (4, 6),
        (6, 1),
        (glob("torch", "per_channel_affine"), *vectors, 0),
        False,
        {},
    )
    records = {"0": codes.tobytes(), "1": scales.tobytes(), "2": zeros.tobytes()}
    matrix = codes.reshape(4, 6).astype(np.int32)
    with _opened(tmp_path, {"whole": whole, "rows": rows}, records) as checkpoint:
        expected = (matrix - 3).astype(np.float32) * np.float32(0.1)
        per_row = (matrix - zeros[:, None]).astype(np.float32) * scales.astype(np.float32)[:, None]
        for name, wanted in (("whole", expected), ("rows", per_row)):
            spec = checkpoint.spec(name)
            assert (spec.dtype, spec.encoding, spec.extent) == ("I8", "quantized", None)
            for window in ((), (slice(1, 3),), (slice(None, None, -2), slice(2, 5))):
                assert np.array_equal(checkpoint.read(spec, window), wanted[window])
        assert checkpoint.findings == ()


def test_arrays_of_numpy_are_read_from_the_pickle(tmp_path: Path) -> None:
    def array(values: np.ndarray[Any, Any], code: str, order: str, fortran: bool) -> Raw:
        made = call("numpy.core.multiarray", "_reconstruct", glob("numpy", "ndarray"), (0,), b"b")
        dtype = Raw(call("numpy", "dtype", code, False, True) + op((3, order, None, None, None, -1, -1, 0)) + b"b")
        raw = values.tobytes("F" if fortran else "C")
        text = call("_codecs", "encode", raw.decode("latin-1"), "latin1")
        return Raw(made + op((1, values.shape, dtype, fortran, text)) + b"b")

    values = VALUES.reshape(4, 6)
    root = {
        "c": array(values, "f4", "<", False),
        "f": array(values, "f4", "<", True),
        "big": array(values.astype(">f4"), "f4", ">", False),
    }
    with _opened(tmp_path, root) as checkpoint:
        for spec in checkpoint.tensors:
            assert np.array_equal(checkpoint.read(spec), values), spec.name
            assert np.array_equal(checkpoint.read(spec, (slice(2, 0, -1), slice(1, 4))), values[2:0:-1, 1:4]), spec.name
    assert _found(tmp_path, {"o": Raw(call("numpy", "dtype", "O8", False, True))}) == {"unsupported_dtype"}


def test_bfloat16_of_a_big_endian_machine(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).astype(ml_dtypes.bfloat16)
    (tmp_path / "m.pt").write_bytes(tf.archive({"w": Stored("BF16", array)}, big=True))
    with open_checkpoint(tmp_path / "m.pt") as checkpoint:
        assert (checkpoint.read(checkpoint.spec("w")) == array).all()


# containers


def test_a_flipped_byte_of_a_weight_fails_its_row_and_no_other(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(64, 32)).astype(np.float32)
    raw = bytearray(
        zipped(
            tf.members(
                {"a": tensor(stored("FloatStorage", "0", 2048), (64, 32)), "b": FULL_1},
                {"0": values.tobytes(), "1": VALUES.tobytes()},
            )
        )
    )
    path = tmp_path / "m.pt"
    raw[raw.index(values.tobytes()) + 700] ^= 1
    path.write_bytes(raw)
    result = ww_static.analyze(path)
    assert {row.name: row.reason for row in result if row.status == "failed"} == {"a": "crc_mismatch"}
    assert result.exit_code == 3


def test_a_flipped_byte_of_a_compressed_weight_is_never_given_out(tmp_path: Path) -> None:
    root = {"w": FULL, "again": tensor(FLOATS, (3, 4), (0, 6), 2)}
    path = tmp_path / "m.pt"
    path.write_bytes(zipped(tf.members(root, {"0": VALUES.tobytes()}), deflated=True, crc={"archive/data/0": 1}))
    with open_checkpoint(path) as checkpoint:
        for name in root:
            with pytest.raises(FormatError, match="crc_mismatch: member 'archive/data/0': the checksum is"):
                checkpoint.read(checkpoint.spec(name))


def test_a_checksum_of_0_was_not_recorded(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    for deflated in (False, True):
        content = tf.members({"w": FULL}, {"0": VALUES.tobytes()})
        path.write_bytes(zipped(content, deflated, crc=dict.fromkeys(content, 0)))
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.findings == ()
            assert (checkpoint.read(checkpoint.spec("w")) == VALUES.reshape(4, 6)).all()


def test_views_of_a_compressed_storage_are_those_of_a_stored_one(tmp_path: Path) -> None:
    values = np.random.default_rng(7).integers(0, 99, 200_000).astype(np.float32)
    held = stored("FloatStorage", "0", 200_000)
    forms: dict[str, tuple[tuple[int, ...], tuple[int, ...], int]] = {
        "plain": ((500, 400), (400, 1), 0), "turned": ((400, 500), (1, 400), 0), "gaps": ((30, 40), (4000, 7), 11),
        "twice": ((3, 50), (0, 2), 5), "overlapping": ((90, 40), (3, 2), 1), "moved": ((5, 20, 30), (1, 600, 10), 100),
    }  # fmt: skip
    root = {name: tensor(held, *form) for name, form in forms.items()}
    path = tmp_path / "m.pt"
    path.write_bytes(zipped(tf.members(root, {"0": values.tobytes()}), deflated=True))
    with open_checkpoint(path) as checkpoint:
        for name, (shape, strides, offset) in forms.items():
            expected = np.lib.stride_tricks.as_strided(values[offset:], shape, [4 * stride for stride in strides])
            spec = checkpoint.spec(name)
            assert (spec.encoding, spec.extent) == ("compressed", None)
            for window in ((), (slice(1, 3),), (slice(None, None, -2), slice(2, 5))):
                assert np.array_equal(checkpoint.read(spec, window), expected[window]), name


def test_a_pickle_with_another_checksum_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(zipped(tf.members({"w": FULL}, {"0": VALUES.tobytes()}), crc={"archive/data.pkl": 1}))
    with open_checkpoint(path) as checkpoint:
        assert [one.category for one in checkpoint.findings] == ["crc_mismatch"]


def test_a_record_longer_than_its_storage_is_a_finding(tmp_path: Path) -> None:
    with _opened(tmp_path, {"w": FULL}, {"0": VALUES.tobytes() + b"more"}) as checkpoint:
        assert [one.category for one in checkpoint.findings] == ["size_mismatch"]


def _changed(folder: Path, old: bytes, new: bytes, count: int = 1) -> Path:
    raw = zipped(tf.members({"w": FULL}, {"0": VALUES.tobytes()}))
    assert old in raw
    (folder / "m.pt").write_bytes(raw.replace(old, new, count))
    return folder / "m.pt"


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (b"archive/data.pkl", b"archive/date.pkl", "corrupt_archive: member 'archive/data.pkl': its name is not the one"),
        (b"archive/byteorder", b"archive/byteordes", "corrupt_archive"),
        (b"PK\3\4\x2d\0\x08\0\0", b"PK\3\4\x2d\0\x09\0\0", "corrupt_archive"),
        (
            b"PK\1\2\x2d\0\x2d\0\x08\0\0",
            b"PK\1\2\x2d\0\x2d\0\x09\0\0",
            "corrupt_archive: .*: its flags is not the one in the directory",
        ),
        (b"PK\1\2\x2d\0\x2d\0\x08\0\0", b"PK\1\2\x2d\0\x2d\0\x08\0\x0c", "corrupt_archive: .*: its method is not the one"),
        (b"PK\5\6", b"PK\5\7", "truncated: zip: no end record"),
        (b"PK\1\2", b"PK\1\3", "corrupt_archive: zip: no directory entry for member 0 of 4"),
        (b"PK\5\6\0\0\0\0", b"PK\5\6\1\0\0\0", "unsupported: zip: the archive is split over several files"),
        (b"little", b"middle", "bad_header: byteorder: is b'middle'"),
    ],
)
def test_archives_with_two_meanings_are_refused(tmp_path: Path, old: bytes, new: bytes, match: str) -> None:
    with pytest.raises(FormatError, match=match):
        pytorch.open(_changed(tmp_path, old, new), Limits())


def test_archives_need_one_pickle_and_distinct_names(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    for content, match in (
        ({"a/data.pkl": pickled({}), "b/DATA.pkl": pickled({})}, "corrupt_archive: zip: has 2 members named"),
        ({"archive/version": b"3"}, "missing_part"),
    ):
        path.write_bytes(zipped(content))
        with pytest.raises(FormatError, match=match):
            pytorch.open(path, Limits())
    path.write_bytes(zipped({"archive/data.pkl": pickled({}), "archive/data.pkm": b""}).replace(b"data.pkm", b"data.pkl"))
    with pytest.raises(FormatError, match=r"duplicate_name: zip: two members named 'archive/data\.pkl'"):
        pytorch.open(path, Limits())


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    raw = bytearray(zipped({"archive/data.pkl": pickled({}), "archive/version": b"3\n"}))
    second = raw.rindex(b"PK\1\2")
    raw[second:] = raw[second:].replace(struct.pack("<I", raw.index(b"PK\3\4", 4)), struct.pack("<I", 0), 1)
    (tmp_path / "m.pt").write_bytes(raw)
    with pytest.raises(FormatError, match="corrupt_archive"):
        pytorch.open(tmp_path / "m.pt", Limits())


def test_names_that_lead_out_are_found_and_not_used(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(zipped(tf.members({"w": FULL}, {"0": VALUES.tobytes()}) | {"../../x": b"", "/etc/x": b"", "a\\b": b""}))
    with open_checkpoint(path) as checkpoint:
        assert [one.category for one in checkpoint.findings] == ["path_escape"] * 3
        assert checkpoint.read(checkpoint.spec("w")).shape == (4, 6)


def test_bytes_after_the_last_storage_of_a_legacy_file_are_a_finding(tmp_path: Path) -> None:
    root = {"w": tensor(stored("FloatStorage", "0", 24, None), (4, 6))}
    path = tmp_path / "m.pth"
    path.write_bytes(tf.legacy(root, {"0": (24, VALUES.tobytes())}) + b"PK\3\4")
    with open_checkpoint(path) as checkpoint:
        assert [one.category for one in checkpoint.findings] == ["trailing_data"]


@pytest.mark.parametrize(
    ("count", "match"),
    [(2**61, "size_mismatch"), (-1, "size_mismatch"), (23, "size_mismatch: storage '0': 23 elements for 24")],
)
def test_counts_of_a_legacy_file_must_agree(tmp_path: Path, count: int, match: str) -> None:
    root = {"w": tensor(stored("FloatStorage", "0", 24, None), (4, 6))}
    (tmp_path / "m.pth").write_bytes(tf.legacy(root, {"0": (count, VALUES.tobytes())}))
    with pytest.raises(FormatError, match=match):
        pytorch.open(tmp_path / "m.pth", Limits())


def test_old_views_of_a_legacy_storage_are_placed_inside_it(tmp_path: Path) -> None:
    root = {
        "w": tensor(stored("FloatStorage", "0", 24, ("1", 12, 6)), (2, 3)),
        "all": tensor(stored("FloatStorage", "0", 24, None), (24,)),
    }
    for big in (False, True):
        data = VALUES.astype(">f4") if big else VALUES
        (tmp_path / "m.pth").write_bytes(tf.legacy(root, {"0": (24, data.tobytes())}, big))
        with open_checkpoint(tmp_path / "m.pth") as checkpoint:
            assert checkpoint.read(checkpoint.spec("w")).tolist() == [[12, 13, 14], [15, 16, 17]]
    root = {"w": tensor(stored("FloatStorage", "0", 24, ("1", 12, 6)), (7,))}
    (tmp_path / "m.pth").write_bytes(tf.legacy(root, {"0": (24, VALUES.tobytes())}))
    with pytest.raises(FormatError, match="bad_offsets"):
        pytorch.open(tmp_path / "m.pth", Limits())


def test_tar_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(b"storages".ljust(257, b"\0") + b"ustar\x0000".ljust(255, b"\0"))
    with pytest.raises(UnknownFormatError, match=r"unsupported: this is a tar archive, as torch 0\.1 wrote them"):
        open_checkpoint(path)


def test_files_of_a_folder_are_claimed_by_their_suffix(tmp_path: Path) -> None:
    names = [
        "a.pt",
        "b.PTH",
        "pytorch_model.bin",
        "c.ckpt",
        "training_args.bin",
        "optimizer.pt",
        "rng_state_0.pth",
        "d.txt",
        ".pt",
    ]
    assert [one.file for one in pytorch.models(names)] == ["a.pt", "b.PTH", "pytorch_model.bin", "c.ckpt"]
    assert [one.file for one in pytorch.models([*names, "model.safetensors"])] == ["a.pt", "b.PTH", "c.ckpt"]


@pytest.mark.parametrize("head", [b"PK\3\4" + bytes(40), b"hello", b"crazy talk", b"}", b"(", b"\x80\x06}.", b"\x80\x01}."])
def test_heads_of_something_else_are_not_taken(head: bytes) -> None:
    assert pytorch.sniff(Path("model.pt"), head) is False


@pytest.mark.parametrize("name", ["w.npy", "metadata.json", "model.weights.h5", "META-INF/MANIFEST.MF", "word/document.xml"])
def test_other_archives_are_not_taken(name: str) -> None:
    assert pytorch.sniff(Path("model.pt"), zipped({name: b"x"})[:512]) is False


@pytest.mark.parametrize("body", [b"(dp0\nS'w'\np1\nI1\ns.", b"}q\x00.", b"ccollections\nOrderedDict\n(tR."])
def test_bare_pickles_without_an_array_are_refused_for_what_they_are(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "m.pt").write_bytes(body)
    with pytest.raises(UnknownFormatError, match="unsupported: this is a pickle without any array"):
        open_checkpoint(tmp_path / "m.pt")


def test_a_bare_pickle_that_calls_something_is_unsafe(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(pickled(call("posix", "system", "x")))
    with pytest.raises(
        FormatError, match=r"unsafe_pickle: pickle: calls 'posix\.system', which can run code; then unsupported"
    ):
        open_checkpoint(tmp_path / "m.pkl")


def test_arrays_of_a_bare_pickle_are_read(tmp_path: Path) -> None:
    made = call("numpy.core.multiarray", "_reconstruct", glob("numpy", "ndarray"), (0,), b"b")
    array = Raw(made + op((1, (4, 6), call("numpy", "dtype", "f4", False, True), False, VALUES.tobytes())) + b"b")
    (tmp_path / "m.pkl").write_bytes(pickled({"w": array}, 4) + b"more")
    with open_checkpoint(tmp_path / "m.pkl") as checkpoint:
        assert (checkpoint.read(checkpoint.spec("w")) == VALUES.reshape(4, 6)).all()
        assert [one.category for one in checkpoint.findings] == ["trailing_data"]


# limits: every field


def _limit(folder: Path, root: Any, field: str, most: int, match: str) -> None:
    path = _save(folder, root)
    limits: dict[str, Any] = {field: most}
    open_checkpoint(path, Limits(**limits)).close()
    with pytest.raises(LimitError, match=match):
        open_checkpoint(path, Limits(**{field: most - 1}))


def test_limit_pickle_bytes(tmp_path: Path) -> None:
    length = len(pickled({"w": FULL}))
    _limit(tmp_path, {"w": FULL}, "pickle_bytes", length, f"limit: data.pkl: {length} bytes, limit {length - 1}")
    path = tmp_path / "bare.pt"
    path.write_bytes(pickled({"x": "y" * 1000}))
    size = path.stat().st_size
    with pytest.raises(UnknownFormatError, match="without any array"):
        open_checkpoint(path, Limits(pickle_bytes=size))
    with pytest.raises(LimitError, match=f"limit: pickle: more than {size - 1} bytes"):
        open_checkpoint(path, Limits(pickle_bytes=size - 1))


def test_limit_pickle_opcodes(tmp_path: Path) -> None:
    _limit(tmp_path, b"\x80\x02" + b"N0" * 50 + b"N.", "pickle_opcodes", 103, "limit: data.pkl: more than 102 opcodes")


def test_limit_pickle_memo(tmp_path: Path) -> None:
    _limit(
        tmp_path, b"\x80\x02Nr\x40\x42\x0f\x00.", "pickle_memo", 1_000_000, "limit: data.pkl: memo index 1000000, limit 999999"
    )
    _refused(tmp_path, b"\x80\x02Nr\xff\xff\xff\x7f.", "limit: data.pkl: memo index 2147483647")


def test_limit_pickle_nesting(tmp_path: Path) -> None:
    root: Any = [FULL]
    for _ in range(9):
        root = [root]
    _limit(tmp_path, root, "pickle_nesting", 9, "limit: data.pkl: more than 8 containers inside each other")
    _refused(tmp_path, b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".", "limit")
    _refused(tmp_path, b"\x80\x02)" + b"\x85" * 200_000 + b".", "limit")


def test_limit_pickle_digits(tmp_path: Path) -> None:
    for body in (
        b"I" + b"1" * 50 + b"\n.",
        b"L" + b"1" * 49 + b"L\n.",
        b"F0." + b"1" * 48 + b"\n.",
        b"\x8a\x32" + bytes(50) + b".",
    ):
        digits = 49 if body[:1] == b"L" else 50
        _limit(tmp_path, b"\x80\x02" + body, "pickle_digits", digits, f"limit: data.pkl: a number of {digits} ")


def test_limit_pickle_line(tmp_path: Path) -> None:
    _limit(
        tmp_path, b"\x80\x02V" + b"a" * 70 + b"\n.", "pickle_line", 70, "limit: data.pkl: a line of text of more than 69 bytes"
    )


def test_limit_inflation_bytes_and_ratio(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(
        zipped(
            tf.members({"w": tensor(stored("FloatStorage", "0", 10**6), (1000, 1000))}, {"0": bytes(4 * 10**6)}), deflated=True
        )
    )
    for limits in (
        Limits(inflation_bytes=5 * 10**6, inflation_ratio=1),
        Limits(inflation_bytes=1, inflation_ratio=2000),
        Limits(),
    ):
        with open_checkpoint(path, limits) as checkpoint:
            assert not checkpoint.read(checkpoint.spec("w")).any()
    with pytest.raises(LimitError, match=r"bomb: member 'archive/data/0': .* beyond 200 times their stored size"):
        open_checkpoint(path, Limits(inflation_bytes=4 * 10**6 - 1))


test_limit_inflation_ratio = test_limit_inflation_bytes_and_ratio


def test_limit_view_elements_and_ratio(tmp_path: Path) -> None:
    root = {"w": tensor(stored("FloatStorage", "0", 1), (17,), (0,))}
    path = _save(tmp_path, root)
    for limits in (Limits(view_elements=17), Limits(view_elements=1, view_ratio=17)):
        open_checkpoint(path, limits).close()
    with pytest.raises(LimitError, match="limit: tensor 'w': a view of 17 elements of a storage of 4 bytes"):
        open_checkpoint(path, Limits(view_elements=16))


test_limit_view_ratio = test_limit_view_elements_and_ratio
