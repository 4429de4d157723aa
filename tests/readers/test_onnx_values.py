"""Quantized ONNX weights as numbers, and values in other files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import ww_static
from onnx_support import (
    external,
    floats,
    model_of,
    named,
    opened,
    rows_of,
    save,
)
from ww_static.errors import FormatError, UnsafeFileError
from ww_static.seam import OpenCheckpoint, open_checkpoint

# codes


def _quantized(folder: Path, codes: Any, scale: Any, zero: Any = None, **attributes: int) -> tuple[np.ndarray[Any, Any], Any]:
    """What the reader gives for a DequantizeLinear, and what onnx's own evaluation gives."""
    from onnx.reference import ReferenceEvaluator

    inputs = ["q", "s"] + ["z"] * (zero is not None)
    tensors = [codes if isinstance(codes, TensorProto) else named("q", codes), named("s", scale)]
    tensors += [named("z", zero)] if zero is not None else []
    options: Any = attributes
    node = helper.make_node("DequantizeLinear", inputs, ["d"], **options)
    output = helper.make_tensor_value_info("d", 1, None)
    evaluated: Any = ReferenceEvaluator(
        helper.make_model(helper.make_graph([node], "g", [], [output], tensors), opset_imports=[helper.make_opsetid("", 21)])
    ).run(None, {})
    expected = evaluated[0]
    nodes = [node, helper.make_node("MatMul", ["x", "d"], ["y"])]
    with opened(folder, model_of(nodes, tensors)) as checkpoint:
        spec = checkpoint.spec("q")
        assert spec.encoding == "quantized"
        whole = checkpoint.read(spec)
        for window in ((slice(2, 5),), (slice(None), slice(-1, None, -3)), (slice(0, 0),), (slice(8, 1, -2), slice(1, 7))):
            np.testing.assert_array_equal(checkpoint.read(spec, window), whole[window], strict=True)
        assert [checkpoint.spec(name).reason for name in inputs[1:]] == ["quant_aux"] * (len(inputs) - 1)
    return whole, expected


def test_dequantized_weights_are_those_of_onnx(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    codes = random.integers(-128, 128, (10, 8)).astype(np.int8)
    cases: list[tuple[Any, Any, Any, dict[str, int]]] = [
        (codes, np.float32(0.03), None, {}),
        (codes, np.float32(0.03), np.int8(5), {}),
        (codes, random.random(8).astype(np.float32), random.integers(-9, 9, 8).astype(np.int8), {}),
        (codes, random.random(10).astype(np.float32), None, {"axis": 0}),
        (codes, random.random(10).astype(np.float32), None, {"axis": -2}),
        (codes, random.random((4, 8)).astype(np.float32), random.integers(-9, 9, (4, 8)).astype(np.int8), {"axis": 0, "block_size": 3}),
        (codes.view(np.uint8), random.random((10, 2)).astype(np.float32), None, {"axis": 1, "block_size": 4}),
        (helper.make_tensor("q", 22, (10, 8), random.integers(-8, 8, 80)), random.random(8).astype(np.float32), None, {}),
        (helper.make_tensor("q", 21, (10, 8), random.integers(0, 16, 80)), np.float32(0.5), None, {}),
    ]  # fmt: skip
    for case in cases:
        whole, expected = _quantized(tmp_path, *case[:3], **case[3])
        np.testing.assert_array_equal(whole, expected.astype(np.float32))


@pytest.mark.parametrize(
    ("node", "names", "axis"),
    [
        (helper.make_node("QLinearMatMul", ["x", "a", "b", "q", "s", "z", "c", "d"], ["y"]), "sz", 1),
        (helper.make_node("MatMulInteger", ["x", "w_quantized", "xz", "w_zero_point"], ["y"]), "", 1),
        (helper.make_node("QLinearConv", ["x", "a", "b", "q", "s", "z", "c", "d"], ["y"]), "sz", 0),
        (helper.make_node("DynamicQuantizeMatMul", ["x", "q", "s", "z"], ["y"], domain="com.microsoft"), "sz", 1),
    ],
)
def test_integer_operators_bring_their_scales(tmp_path: Path, node: Any, names: str, axis: int) -> None:
    shape = (12, 10) if axis else (12, 10, 3, 3)
    codes = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    scale = np.linspace(0.1, 0.2, shape[axis]).astype(np.float32)
    zero = np.arange(shape[axis]).astype(np.uint8)
    q, s, z = ("q", "s", "z") if names else ("w_quantized", "w_scale", "w_zero_point")
    path = save(tmp_path / "m.onnx", model_of([node], [named(q, codes), named(s, scale), named(z, zero)]))
    along = (1, -1) if axis else (-1, 1, 1, 1)
    expected = (codes.astype(np.float32) - zero.astype(np.float32).reshape(along)) * scale.reshape(along)
    with open_checkpoint(path) as checkpoint:
        np.testing.assert_array_equal(checkpoint.read(checkpoint.spec(q)), expected, strict=True)
    rows = rows_of(path)
    assert (rows[q].status, rows[q].quantized, rows[q].dtype, rows[q].kind_source) == ("success", True, "U8", "graph")
    assert (rows[s].reason, rows[z].reason) == ("quant_aux", "quant_aux")
    if axis:
        assert rows[q].sv_max == pytest.approx(np.linalg.norm(expected.astype(float), 2), rel=1e-12)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zero", [None, "packed", "float"])
@pytest.mark.parametrize("flat", [True, False])
def test_matmul_nbits_is_decoded(tmp_path: Path, bits: int, zero: str | None, flat: bool) -> None:
    random = np.random.default_rng(bits)
    rows, columns, block = 12, 40, 16
    blocks = 3
    codes = random.integers(0, 1 << bits, (rows, blocks * block)).astype(np.uint8)
    packed = codes if bits == 8 else codes[:, ::2] | codes[:, 1::2] << 4
    scale = random.random((rows, blocks)).astype(np.float32)
    tensors = [named("q", packed.reshape(rows, blocks, -1)), named("s", scale.reshape(-1) if flat else scale)]
    points = np.full((rows, blocks), float(1 << (bits - 1)), np.float32)
    if zero:
        points = random.integers(0, 1 << bits, (rows, blocks)).astype(np.float32)
        padded = np.concatenate([points, np.zeros((rows, 1))], axis=1).astype(np.uint8)
        bytes_of = points.astype(np.uint8) if bits == 8 else padded[:, ::2] | padded[:, 1::2] << 4
        held = bytes_of if zero == "packed" else points
        tensors.append(named("z", held.reshape(-1) if flat else held))
    inputs = ["x", "q", "s"] + ["z"] * (zero is not None)
    node = helper.make_node(
        "MatMulNBits", inputs, ["y"], domain="com.microsoft", K=columns, N=rows, bits=bits, block_size=block
    )
    expected = ((codes.reshape(rows, blocks, block) - points[:, :, None]) * scale[:, :, None]).astype(np.float32)
    expected = expected.reshape(rows, -1)[:, :columns]
    with opened(tmp_path, model_of([node], tensors)) as checkpoint:
        spec = checkpoint.spec("q")
        assert (spec.dtype, spec.shape, spec.axes) == ("UINT4" if bits == 4 else "U8", (rows, columns), ("out", "in"))
        for window in (
            (),
            (slice(3, 5),),
            (slice(9, 2, -3), slice(17, 39, 5)),
            (slice(None), slice(None, None, -7)),
            (slice(0), slice(3)),
        ):
            np.testing.assert_array_equal(checkpoint.read(spec, window), expected[window], strict=True)


def test_codes_without_a_usable_scale_are_left_and_said_so(tmp_path: Path) -> None:
    codes = np.arange(120).astype(np.int8).reshape(12, 10)
    for nodes, tensors in (
        ([helper.make_node("MatMulInteger", ["x", "q"], ["y"])], []),
        ([helper.make_node("DequantizeLinear", ["q", "s"], ["y"])], [named("s", floats(7))]),
        ([helper.make_node("DequantizeLinear", ["q", "dynamic"], ["y"])], []),
        ([helper.make_node("DequantizeLinear", ["q", name], [f"y{name}"]) for name in "st"], [named("s", floats(1)), named("t", floats(1))]),
    ):  # fmt: skip
        path = save(tmp_path / "m.onnx", model_of(nodes, [named("q", codes), *tensors]))
        assert rows_of(path)["q"].reason == "quantized"
        assert ww_static.analyze(path).exit_code == 3


def test_a_weight_that_is_used_as_a_scale_too_is_analysed(tmp_path: Path) -> None:
    nodes = [helper.make_node("DequantizeLinear", ["q", "w"], ["d"]), helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = save(tmp_path / "m.onnx", model_of(nodes, [named("w", floats(9, 8)), named("q", np.zeros((9, 8), np.int8))]))
    assert rows_of(path)["w"].status == "success"


# external data


def _outside(folder: Path, **keys: Any) -> OpenCheckpoint:
    (folder / "w.bin").write_bytes(np.arange(12, dtype="<f4").tobytes())
    return opened(folder, model_of([], [external("w", 1, (3, 4), {"location": "w.bin"} | keys)]))


def test_external_data_without_offset_and_length_is_the_whole_file(tmp_path: Path) -> None:
    with _outside(tmp_path) as checkpoint:
        assert checkpoint.read(checkpoint.spec("w"))[2, 3] == 11
        assert checkpoint.spec("w").file == "w.bin"
        assert checkpoint.findings == ()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"location": ""}, "bad_header: tensor 'w': the reference to another file is empty"),
        ({"location": "../w.bin"}, "path_escape: tensor 'w'"),
        ({"location": "/etc/passwd"}, "path_escape: tensor 'w'"),
        ({"location": "https://x/w.bin"}, "path_escape: tensor 'w'"),
        ({"location": "gone.bin"}, "missing_part: tensor 'w': 'gone.bin' is missing"),
        ({"offset": "-4"}, "bad_header: tensor 'w': external data: offset '-4' is not a count"),
        ({"offset": "0x4"}, "offset '0x4' is not a count"),
        ({"length": "٤٨"}, "is not a count"),
        ({"length": "47"}, "size_mismatch: tensor 'w': 47 bytes for 48 needed by its shape"),
        ({"offset": "4"}, "size_mismatch: tensor 'w': 44 bytes for 48"),
        ({"offset": "4", "length": "48"}, "truncated: tensor 'w': ends at byte 52 of 'w.bin', which has 48"),
    ],
)
def test_external_data_that_does_not_fit_is_refused(tmp_path: Path, keys: dict[str, str], words: str) -> None:
    with pytest.raises(FormatError, match=words):
        _outside(tmp_path, **keys)


def test_external_data_that_is_given_twice_or_beside_raw_data_is_refused(tmp_path: Path) -> None:
    tensor = external("w", 1, (3, 4), {"location": "w.bin"})
    (tmp_path / "w.bin").write_bytes(bytes(48))
    tensor.external_data.add(key="location", value="v.bin")
    with pytest.raises(FormatError, match="bad_header: tensor 'w': external data gives 'location' twice"):
        opened(tmp_path, model_of([], [tensor]))
    del tensor.external_data[1]
    tensor.raw_data = bytes(48)
    with pytest.raises(FormatError, match="has values in two places"):
        opened(tmp_path, model_of([], [tensor]))


def test_other_keys_and_hard_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"")
    os.link(tmp_path / "w.bin", tmp_path / "other")
    with _outside(tmp_path, checksum="ab", basepath="/etc") as checkpoint:
        assert sorted(one.category for one in checkpoint.findings) == ["hard_link", "suspicious_reference"]


def test_links_out_of_the_folder_are_refused_but_for_the_cache(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir()
    (blobs / "aa").write_bytes(np.arange(12, dtype="<f4").tobytes())
    save(blobs / "bb", model_of([], [external("w", 1, (3, 4), {"location": "w.bin"})]))
    (snapshot / "m.onnx").symlink_to("../../blobs/bb")
    (snapshot / "w.bin").symlink_to("../../blobs/aa")
    with open_checkpoint(snapshot / "m.onnx") as checkpoint:
        assert checkpoint.read(checkpoint.spec("w"))[2, 3] == 11
    shutil.copy(blobs / "bb", tmp_path / "m.onnx")
    (tmp_path / "w.bin").symlink_to(blobs / "aa")
    with pytest.raises(UnsafeFileError, match="path_escape"):
        open_checkpoint(tmp_path / "m.onnx")


def test_a_pointer_in_place_of_external_data_is_named(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n")
    with pytest.raises(FormatError, match=r"lfs_pointer: w\.bin: this is a Git LFS pointer to 12345 bytes"):
        opened(tmp_path, model_of([], [external("w", 1, (3, 4), {"location": "w.bin"})]))
