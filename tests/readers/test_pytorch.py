"""The PyTorch reader: the reader suite for each container, views, names, quantized weights, arrays in the pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import torch_files as tf
import ww_static
from torch_files import Raw, call, glob, op, stored, tensor
from torch_support import FLOATS, FULL, VALUES, found, opened, refused, save
from ww_static.errors import FormatError
from ww_static.seam import open_checkpoint
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


# views


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((4, 6), (6, 1), 0), ((6, 4), (1, 6), 0), ((2, 3), (12, 2), 1), ((3, 4), (0, 6), 2), ((), (), 23)],
)
def test_views_are_those_of_numpy(tmp_path: Path, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> None:
    expected = np.lib.stride_tricks.as_strided(VALUES[offset:], shape, [4 * stride for stride in strides])
    with opened(tmp_path, {"w": tensor(FLOATS, shape, strides, offset)}) as checkpoint:
        spec = checkpoint.spec("w")
        assert checkpoint.findings == ()
        assert (checkpoint.read(spec) == expected).all()
        if len(shape) == 2:
            window = (slice(None, None, -1), slice(1, None, 2))
            assert (checkpoint.read(spec, window) == expected[window]).all()
        dense = expected.flags.c_contiguous and 0 not in strides
        assert (spec.extent is not None) == dense


def test_tensors_of_one_storage_are_listed_by_each_name_and_analysed_once(tmp_path: Path) -> None:
    path = save(tmp_path, {"embed.weight": FULL, "head.weight": FULL, "half.weight": tensor(FLOATS, (2, 6))})
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
    refused(tmp_path, {"w": call("torch._utils", "_rebuild_tensor_v2", *form)}, match)


def test_big_numbers_in_views_are_never_given_to_numpy(tmp_path: Path) -> None:
    huge = stored("FloatStorage", "0", 2**70)
    refused(tmp_path, {"w": tensor(huge, (2**35, 2**35))}, "overflow")


# names and roots


def test_names_are_joined_with_dots_and_stay_unique(tmp_path: Path) -> None:
    root = {"a": {"b": FULL}, "a.b": FULL, "list": [FULL, {3: FULL}], ("x", 1): FULL, "s\ud800": FULL, "n": 1, "none": None}
    with opened(tmp_path, root) as checkpoint:
        names = [spec.name for spec in checkpoint.tensors]
    assert names == ["a.b", "a.b#2", "list.0", "list.1.3", "<key 3>", "s\\ud800"]


def test_a_tensor_alone_has_a_name(tmp_path: Path) -> None:
    with opened(tmp_path, FULL) as checkpoint:
        assert [spec.name for spec in checkpoint.tensors] == ["tensor"]


def test_optimizer_state_is_listed_and_not_analysed(tmp_path: Path) -> None:
    state = {"state": {0: {"exp_avg": FULL, "m": FULL}}, "param_groups": [{"params": [0]}]}
    path = save(
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
    with opened(tmp_path, outer) as checkpoint:
        assert [spec.name for spec in checkpoint.tensors] == ["0.weight"]
        assert {one.category for one in checkpoint.findings} == {"unknown_global"}


def test_torchscript_is_read_without_its_code(tmp_path: Path) -> None:
    root = Raw(
        glob("__torch__.net", "Net")
        + b")\x81"
        + op({"weight": FULL, "sizes": call("torch.jit._pickle", "build_intlist", [1, 2])})
        + b"b"
    )
    with opened(tmp_path, root, more={"code/__torch__.py": b"import os", "constants.pkl": b"\x80\x02)."}) as checkpoint:
        assert [spec.name for spec in checkpoint.tensors] == ["weight"]
        assert {one.category for one in checkpoint.findings} == {"embedded_code"}
    assert "unsafe_pickle" in found(tmp_path, root)  # without code its classes are foreign


def test_parameters_and_metadata_of_a_state_dict_give_no_finding(tmp_path: Path) -> None:
    parameter = call("torch._utils", "_rebuild_parameter", FULL, True, tf.ORDERED)
    held = Raw(tf.ORDERED + b"(" + op("w") + parameter + b"u" + op({"_metadata": tf.ORDERED}) + b"b")
    with opened(tmp_path, held) as checkpoint:
        assert [spec.name for spec in checkpoint.tensors] == ["w"]
        assert checkpoint.findings == ()


# what cannot be read, what is dequantized, what is in the pickle


def test_meta_and_sparse_tensors_are_rows_with_a_reason(tmp_path: Path) -> None:
    layout = call("torch.serialization", "_get_layout", "torch.sparse_coo")
    sparse = call("torch._utils", "_rebuild_sparse_tensor", layout, (FULL, FULL, call("torch", "Size", (50, 60))))
    meta = call("torch._utils", "_rebuild_meta_tensor_no_storage", glob("torch", "float32"), (10**6, 10**6), (10**6, 1), False)
    path = save(tmp_path, {"fc.weight": FULL, "sparse": sparse, "meta": meta})
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
    path = save(tmp_path, root, {"0": VALUES.tobytes(), "1": VALUES.tobytes()})
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
    path = save(tmp_path, root, {"0": VALUES.tobytes(), "1": VALUES.tobytes()})
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
    with opened(tmp_path, {"whole": whole, "rows": rows}, records) as checkpoint:
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
    with opened(tmp_path, root) as checkpoint:
        for spec in checkpoint.tensors:
            assert np.array_equal(checkpoint.read(spec), values), spec.name
            assert np.array_equal(checkpoint.read(spec, (slice(2, 0, -1), slice(1, 4))), values[2:0:-1, 1:4]), spec.name
    assert found(tmp_path, {"o": Raw(call("numpy", "dtype", "O8", False, True))}) == {"unsupported_dtype"}


def test_bfloat16_of_a_big_endian_machine(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).astype(ml_dtypes.bfloat16)
    (tmp_path / "m.pt").write_bytes(tf.archive({"w": Stored("BF16", array)}, big=True))
    with open_checkpoint(tmp_path / "m.pt") as checkpoint:
        assert (checkpoint.read(checkpoint.spec("w")) == array).all()
