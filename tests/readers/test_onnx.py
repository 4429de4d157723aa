"""The ONNX reader: the reader suite, the package onnx as oracle, names and scopes, codes, external data, limits."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import ww_static
from ww_static import dtypes
from ww_static.errors import FormatError, LimitError, UnsafeFileError
from ww_static.protocol import Limits
from ww_static.seam import OpenCheckpoint, open_checkpoint
from ww_static.testing import ReaderSuite, Stored
from ww_static_readers import onnx as reader

TYPES = {
    "F32": 1, "U8": 2, "I8": 3, "U16": 4, "I16": 5, "I32": 6, "I64": 7, "BOOL": 9, "F16": 10, "F64": 11, "U32": 12, "U64": 13,
    "C64": 14, "C128": 15, "BF16": 16, "F8_E4M3": 17, "F8_E4M3FNUZ": 18, "F8_E5M2": 19, "F8_E5M2FNUZ": 20, "UINT4": 21, "INT4": 22,
    "F4": 23, "F8_E8M0": 24,
}  # fmt: skip


def _packed(stored: Stored) -> bytes:
    if not dtypes.DTYPES[stored.dtype].packed:
        return stored.array.tobytes()
    codes = np.append(stored.array.ravel(), np.zeros(stored.array.size % 2, np.uint8))
    return bytes(codes[::2] | codes[1::2] << 4)


def _raw(name: str, stored: Stored) -> TensorProto:
    tensor = TensorProto(name=name, dims=stored.array.shape, data_type=TYPES[stored.dtype])
    tensor.raw_data = _packed(stored)
    return tensor


def _typed(name: str, stored: Stored) -> TensorProto:
    """The same values in the field of their type."""
    tensor = TensorProto(name=name, dims=stored.array.shape, data_type=TYPES[stored.dtype])
    raw = _packed(stored)
    if stored.dtype in ("F32", "C64"):
        tensor.MergeFromString(_field(4, raw))  # through Python floats a signalling NaN would become a quiet one
    elif stored.dtype in ("F64", "C128"):
        tensor.MergeFromString(_field(10, raw))
    elif stored.dtype == "I64":
        tensor.int64_data.extend(np.frombuffer(raw, "<i8"))
    elif stored.dtype in ("U64", "U32"):
        tensor.uint64_data.extend(np.frombuffer(raw, "<u8" if stored.dtype == "U64" else "<u4"))
    else:
        view = {"I8": "<i1", "I16": "<i2", "I32": "<i4", "U16": "<u2", "F16": "<u2", "BF16": "<u2"}
        tensor.int32_data.extend(np.frombuffer(raw, view.get(stored.dtype, "<u1")))
    return tensor


def _model(nodes: Sequence[Any] = (), tensors: Sequence[TensorProto] = (), functions: Sequence[Any] = ()) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "g", [], [], list(tensors))
    return helper.make_model(graph, functions=list(functions))


def _save(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def _opened(folder: Path, model: onnx.ModelProto, limits: Limits | None = None) -> OpenCheckpoint:
    return open_checkpoint(_save(folder / "m.onnx", model), limits)


def _array(name: str, array: Any) -> TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def _floats(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


class _Onnx(ReaderSuite):
    reader = reader
    names = ("w", "layer.0.weight", "../../up;x", "модель/%s{0}\n\x1b[31m")
    claims = ("onnx",)


class TestRawOnnx(_Onnx):
    """The contract, for every storage dtype, as raw data."""

    dtypes = tuple(TYPES)

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        return _save(folder / "m.onnx", _model([], [_raw(name, stored) for name, stored in tensors.items()]))


class TestTypedOnnx(_Onnx):
    """The same in typed fields: packed numbers, varints. Floats come first: they lie flat."""

    dtypes = tuple(TYPES)

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        return _save(folder / "m.onnx", _model([], [_typed(name, stored) for name, stored in tensors.items()]))


class TestVarintOnnx(TestTypedOnnx):
    """Varints, of several pieces each, and the memory of windows of them."""

    dtypes = ("F16", "BOOL", "I8")
    large_shape = (8192, 64)
    shapes = ((3, 20, 40), (200, 60), (7,), ())


class TestConstantOnnx(_Onnx):
    """The same in Constant nodes."""

    dtypes = ("BF16", "INT4")

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        nodes = [helper.make_node("Constant", [], [name], value=_raw("", stored)) for name, stored in tensors.items()]
        return _save(folder / "m.onnx", _model(nodes))


class TestExternalOnnx(_Onnx):
    """The same with values in two other files."""

    dtypes = ("F32", "UINT4")

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        protos = []
        (folder / "sub").mkdir(exist_ok=True)
        data = {"a.bin": b"pad", "sub/b.bin": b""}
        for number, (name, stored) in enumerate(tensors.items()):
            file = sorted(data)[number % 2]
            raw = _packed(stored)
            keys = {"location": file, "offset": len(data[file]), "length": len(raw)}
            protos.append(_external(name, TYPES[stored.dtype], stored.array.shape, keys))
            data[file] += raw
        for file, content in data.items():
            (folder / file).write_bytes(content or b"\0")
        return _save(folder / "m.onnx", _model([], protos))


def _external(name: str, data_type: int, shape: Sequence[int], keys: Mapping[str, Any]) -> TensorProto:
    tensor = TensorProto(name=name, dims=shape, data_type=data_type, data_location=TensorProto.EXTERNAL)
    for key, value in keys.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


# the package onnx as oracle


@pytest.mark.parametrize("seed", range(20))
def test_random_models_give_the_values_that_the_package_gives(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    tensors = []
    for number in range(int(random.integers(1, 12))):
        dtype = list(TYPES)[int(random.integers(len(TYPES)))]
        shape = tuple(int(size) for size in random.integers(0, 7, int(random.integers(0, 5))))
        size = int(np.prod(shape, dtype=np.int64))
        stored = dtypes.numpy_dtype(dtype)
        codes = random.integers(0, 16 if dtypes.DTYPES[dtype].packed else 2, size * stored.itemsize).astype(np.uint8)
        codes = codes if dtypes.DTYPES[dtype].packed or dtype == "BOOL" else np.frombuffer(random.bytes(codes.size), np.uint8)
        write = (_raw, _typed)[int(random.integers(2))]
        tensors.append(write(f"t{number}", Stored(dtype, codes.view(stored).reshape(shape))))
    path = _save(tmp_path / "m.onnx", _model([], tensors))
    with open_checkpoint(path) as checkpoint:
        assert [spec.name for spec in checkpoint.tensors] == [one.name for one in tensors]
        for one in onnx.load(path).graph.initializer:
            spec = checkpoint.spec(one.name)
            expected = numpy_helper.to_array(one)
            assert spec.shape == expected.shape
            if dtypes.DTYPES[spec.dtype].family == "complex":
                np.testing.assert_array_equal(checkpoint.read(spec), expected)
                continue
            with np.errstate(invalid="ignore"):
                np.testing.assert_array_equal(ww_static.widen(checkpoint.read(spec), spec.dtype), expected.astype(np.float64))


# protobuf rules


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _bytes_model(tensor: bytes, extra: bytes = b"") -> bytes:
    return b"\x08\x08" + extra + _field(7, _field(5, tensor))


_VALUES = np.array([1.5, -2.0, 3.0, 4.0], "<f4")
_HEAD = b"\x08\x02\x08\x02" + b"\x10\x01" + _field(8, b"w")


@pytest.mark.parametrize(
    "tensor",
    [
        _HEAD + _field(9, _VALUES.tobytes()),
        _field(1, b"\x02") + b"\x08\x02" + b"\x10\x01" + _field(8, b"w") + _field(4, _VALUES.tobytes()),
        _HEAD + b"".join(b"\x25" + one.tobytes() for one in _VALUES),
        _HEAD + _field(4, _VALUES[:1].tobytes()) + b"\x25" + _VALUES[1:2].tobytes() + _field(4, _VALUES[2:].tobytes()),
        _HEAD + _field(9, b"gone") + _field(9, _VALUES.tobytes()),
        b"\x10\x63" + _field(8, b"v") + _HEAD + _field(9, _VALUES.tobytes()) + _field(99, b"?") + b"\xf8\x06\x01",
        b"\x08\x82\x80\x80\x00\x08\x02\x10\x01" + _field(8, b"w") + _field(9, _VALUES.tobytes()),
    ],
    ids=["raw", "packed dims", "one by one", "mixed", "raw twice", "last scalar and unknown fields", "long varint"],
)
def test_forms_of_one_tensor_are_read_alike(tmp_path: Path, tensor: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(_bytes_model(tensor))
    expected = numpy_helper.to_array(onnx.load(tmp_path / "m.onnx").graph.initializer[0])
    with open_checkpoint(tmp_path / "m.onnx") as checkpoint:
        np.testing.assert_array_equal(checkpoint.read(checkpoint.spec("w")), expected, strict=True)


def test_unpacked_varints_are_read(tmp_path: Path) -> None:
    numbers = [0, 1, 300, -5] * 3000
    body = b"\x08" + _varint(len(numbers)) + b"\x10\x06" + _field(8, b"w")
    body += b"".join(b"\x28" + _varint(number % 2**64) for number in numbers)
    (tmp_path / "m.onnx").write_bytes(_bytes_model(body))
    with open_checkpoint(tmp_path / "m.onnx") as checkpoint:
        assert checkpoint.read(checkpoint.spec("w")).tolist() == numbers
        assert checkpoint.read(checkpoint.spec("w"), (slice(-1, None, -4000),)).tolist() == numbers[::-1][::4000]


def test_a_graph_that_comes_twice_is_one_graph(tmp_path: Path) -> None:
    parts = [_field(7, _field(5, _array(name, _floats(3, 3)).SerializeToString())) for name in "ab"]
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08" + b"".join(parts))
    with open_checkpoint(tmp_path / "m.onnx") as checkpoint:
        assert [spec.name for spec in checkpoint.tensors] == ["a", "b"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x08\x08\x3a" + b"\xff" * 10 + b"\x01", "bad_header: byte 3: a number has more than 10 bytes"),
        (b"\x08\x08\x3a\x20abc", "truncated: byte 2: field 7 ends at byte 36, what it is part of at 7"),
        (b"\x08\x08" + _field(7, _field(5, b"\x42\x7fw")), "truncated: byte 6: field 8 ends at byte 135"),
        (b"\x08\x08\x3b\x3c", "bad_header: byte 2: field 7 of wire type 3 is not allowed"),
        (b"\x08\x08\x02\x00", "bad_header: byte 2: field 0 of wire type 2 is not allowed"),
        (b"\x08\x08\x3a\x80", "truncated: byte 3: a number does not end"),
        (b"\x08\x08" + _field(2, b"x"), "bad_header: model: has no graph"),
        (_bytes_model(_field(8, b"\xff\xfe")), "bad_header: byte .*: a name is not UTF-8"),
        (_bytes_model(b"\x08" + b"\xff" * 9 + b"\x01\x10\x01" + _field(8, b"w")), "dimension -1 is not a count"),
        (_bytes_model(_HEAD + _field(9, bytes(16)) + _field(4, bytes(16))), "bad_header: tensor 'w': has values in two places"),
        (_bytes_model(_HEAD + _field(10, bytes(32))), "bad_header: tensor 'w': values of F32 are in the field for doubles"),
        (_bytes_model(_HEAD), "size_mismatch: tensor 'w': 0 bytes for 16 needed by its shape"),
        (_bytes_model(_HEAD + _field(4, bytes(12))), "size_mismatch: tensor 'w': 12 bytes for 16"),
        (_bytes_model(_HEAD + _field(4, bytes(3)) + _field(4, bytes(13))), "size_mismatch: tensor 'w': 16 bytes of typed data"),
        (_bytes_model(_HEAD + b"\x10\x06" + _field(5, bytes(3))), "size_mismatch: tensor 'w': 3 bytes of typed data for 4 numbers"),
        (_bytes_model(_HEAD + b"\x10\x63"), "unknown_dtype: tensor 'w': data type 99 is not known"),
        (_bytes_model(_HEAD + b"\x70\x07" + _field(9, bytes(16))), "bad_header: tensor 'w': data location 7 is not known"),
    ],
)  # fmt: skip
def test_malformed_files_are_refused(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(FormatError, match=words):
        open_checkpoint(tmp_path / "m.onnx")


def test_wrong_counts_of_varints_show_when_they_are_read(tmp_path: Path) -> None:
    for payload, words in ((b"\x01\x02\x03\x80\x01\x05", "size_mismatch"), (b"\x01\x02\x03\x84", "corrupt")):
        (tmp_path / "m.onnx").write_bytes(_bytes_model(_HEAD + b"\x10\x06" + _field(5, payload)))
        with open_checkpoint(tmp_path / "m.onnx") as checkpoint, pytest.raises(FormatError, match=f"{words}: tensor 'w'"):
            checkpoint.read(checkpoint.spec("w"))


def test_a_foreign_file_that_is_called_onnx_is_told_what_is_wrong(tmp_path: Path) -> None:
    for data in (b"hello, world", os.urandom(64).replace(b"\x08", b"\x0f")):
        (tmp_path / "m.onnx").write_bytes(b"\x0f" + data)
        with pytest.raises(FormatError, match="bad_header"):
            open_checkpoint(tmp_path / "m.onnx")


# names and scopes


def _branch(name: str, array: Any) -> Any:
    node = helper.make_node("MatMul", ["x", "W"], [f"y_{name}"])
    return helper.make_graph([node], name, [], [], [_array("W", array)])


def test_names_in_branches_are_scoped_and_keep_their_own_values(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("If", ["c"], ["y"], then_branch=_branch("t", np.eye(3)), else_branch=_branch("e", 2 * np.eye(3))),
        helper.make_node("If", ["c"], ["z"], name="gate", then_branch=_branch("t", 3 * np.eye(3)), else_branch=_branch("e", np.eye(2))),
    ]  # fmt: skip
    with _opened(tmp_path, _model(nodes, [_array("W", 4 * np.eye(3))])) as checkpoint:
        held = {spec.name: checkpoint.read(spec)[0, 0] for spec in checkpoint.tensors}
        assert held == {
            "W": 4, "If_0/then_branch/W": 1, "If_0/else_branch/W": 2, "gate/then_branch/W": 3, "gate/else_branch/W": 1,
        }  # fmt: skip
        spec = checkpoint.spec("gate/then_branch/W")
        assert (spec.role, spec.axes, spec.op_path) == ("dense", ("in", "out"), "gate/then_branch/MatMul_0")
        assert checkpoint.spec("W").role is None


def test_an_inner_graph_uses_outer_names(tmp_path: Path) -> None:
    inner = helper.make_graph([helper.make_node("MatMul", ["x", "W"], ["y"])], "b", [], [])
    node = helper.make_node("Loop", ["n", "c"], ["y"], name="loop", body=inner)
    with _opened(tmp_path, _model([node], [_array("W", _floats(3, 4))])) as checkpoint:
        assert checkpoint.spec("W").op_path == "loop/body/MatMul_0"


def test_constants_of_functions_attributes_and_floats_are_listed(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["W"], value=_array("", _floats(3, 4)))
    function = helper.make_function("local", "F", ["x"], ["y"], [constant, helper.make_node("MatMul", ["x", "W"], ["y"])], [])
    nodes = [
        helper.make_node("Constant", [], ["one"], value_float=1.5),
        helper.make_node("Constant", [], ["many"], value_floats=[1.0, 2.0]),
        helper.make_node("Constant", [], ["text"], value_string="x"),
        helper.make_node("ConstantOfShape", ["s"], ["filled"], value=_array("v", np.zeros(1, np.float32))),
    ]
    with _opened(tmp_path, _model(nodes, [], [function])) as checkpoint:
        held = {spec.name: checkpoint.read(spec).tolist() for spec in checkpoint.tensors if spec.name != "local:F/W"}
        assert held == {"one": 1.5, "many": [1.0, 2.0], "ConstantOfShape_3/value": [0.0]}
        assert checkpoint.spec("local:F/W").axes == ("in", "out")


def test_tensors_without_a_name_are_listed_by_their_place_and_found(tmp_path: Path) -> None:
    with _opened(tmp_path, _model([], [_array("", _floats(3, 4)), _array("w", _floats(2, 2))])) as checkpoint:
        assert [spec.name for spec in checkpoint.tensors] == ["initializer_0", "w"]
        assert [(one.category, one.tensor) for one in checkpoint.findings] == [("unnamed", "initializer_0")]


def test_a_name_that_comes_twice_in_one_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="duplicate_name: tensor 'w'"):
        _opened(tmp_path, _model([], [_array("w", _floats(3, 4)), _array("w", _floats(2, 2))]))


def test_equal_paths_of_different_scopes_are_told_apart(tmp_path: Path) -> None:
    node = helper.make_node("If", ["c"], ["y"], name="n", then_branch=_branch("t", np.eye(3)))
    with _opened(tmp_path, _model([node], [_array("n/then_branch/W", np.eye(2))])) as checkpoint:
        assert [spec.name for spec in checkpoint.tensors] == ["n/then_branch/W", "n/then_branch/W#2"]


def test_sparse_initializers_are_listed_and_not_read(tmp_path: Path) -> None:
    model = _model([], [_array("w", _floats(9, 9))])
    values = _array("s", np.ones(2, np.float32))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, _array("i", np.array([1, 5])), [6, 7]))
    with _opened(tmp_path, model) as checkpoint:
        spec = checkpoint.spec("s")
        assert (spec.shape, spec.reason) == ((6, 7), "unsupported_layout")
        with pytest.raises(FormatError, match="unsupported_layout: tensor 's': is sparse"):
            checkpoint.read(spec)
    result = ww_static.analyze(tmp_path / "m.onnx")
    assert {row.name: row.reason for row in result}["s"] == "unsupported_layout"
    assert result.exit_code == 3


# what operators say


_ROLES: list[tuple[list[Any], tuple[int, ...], str, str, str | None]] = [
    ([helper.make_node("MatMul", ["x", "w"], ["y"])], (9, 8), "dense", "in,out", "MatMul_0"),
    ([helper.make_node("MatMul", ["w", "x"], ["y"])], (9, 8), "dense", "out,in", "MatMul_0"),
    ([helper.make_node("Gemm", ["x", "w"], ["y"], transB=1, name="fc")], (9, 8), "dense", "out,in", "fc"),
    ([helper.make_node("Gemm", ["x", "w"], ["y"])], (9, 8), "dense", "in,out", "Gemm_0"),
    ([helper.make_node("Gather", ["w", "i"], ["y"])], (9, 8), "embedding", "rows,features", "Gather_0"),
    ([helper.make_node("Conv", ["x", "w"], ["y"])], (9, 8, 3), "conv1d", "OIW", "Conv_0"),
    ([helper.make_node("Conv", ["x", "w"], ["y"])], (9, 8, 3, 3), "conv2d", "OIHW", "Conv_0"),
    ([helper.make_node("ConvTranspose", ["x", "w"], ["y"])], (9, 8, 3, 3), "conv_transpose", "IOHW", "ConvTranspose_0"),
    (
        [helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]), helper.make_node("MatMul", ["x", "t"], ["y"])],
        (9, 8), "dense", "out,in", "MatMul_1",
    ),
    (
        [helper.make_node("Transpose", ["w"], ["t"], perm=[3, 2, 0, 1]), helper.make_node("Conv", ["x", "t"], ["y"])],
        (3, 3, 8, 9), "conv2d", "HWIO", "Conv_1",
    ),
    (
        [helper.make_node("Cast", ["w"], ["c"], to=1), helper.make_node("Identity", ["c"], ["i"]), helper.make_node("Transpose", ["i"], ["t"]),
         helper.make_node("Gemm", ["x", "t"], ["y"], transB=1)],
        (9, 8), "dense", "in,out", "Gemm_3",
    ),
    (
        [helper.make_node("Unsqueeze", ["w", "axes"], ["u"]), helper.make_node("Conv", ["x", "u"], ["y"])],
        (9, 8, 3), "conv1d", "OIW", "Conv_1",
    ),
    ([helper.make_node("Relu", ["w"], ["y"])], (9, 8), "dense", "ambiguous", "Relu_0"),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "shape", "kind", "orientation", "path"), _ROLES)
def test_operators_say_kind_and_axes(
    tmp_path: Path, nodes: list[Any], shape: tuple[int, ...], kind: str, orientation: str, path: str | None
) -> None:
    _save(tmp_path / "m.onnx", _model(nodes, [_array("w", _floats(*shape))]))
    (row,) = ww_static.analyze(tmp_path / "m.onnx")
    assert (row.kind, row.orientation, row.op_path) == (kind, orientation, path)
    assert row.kind_source == ("graph" if path != "Relu_0" else "shape")
    assert row.status == "success"


@pytest.mark.parametrize(("operator", "gates"), [("LSTM", "iofc"), ("GRU", "zrh")])
def test_gates_of_recurrent_operators_are_rows(tmp_path: Path, operator: str, gates: str) -> None:
    weight, recurrent = _floats(1, len(gates) * 9, 12), _floats(2, len(gates) * 9, 9, seed=1)
    nodes = [helper.make_node(operator, ["x", "W", "R"], ["y"], hidden_size=9)]
    _save(tmp_path / "m.onnx", _model(nodes, [_array("W", weight), _array("R", recurrent)]))
    rows = {(row.name, row.part): row for row in ww_static.analyze(tmp_path / "m.onnx")}
    assert [part for name, part in rows if name == "W"] == ["whole", *(f"gate_{gate}" for gate in gates)]
    both = [f"{way}.gate_{gate}" for way in ("forward", "backward") for gate in gates]
    assert [part for name, part in rows if name == "R"] == both
    for number, gate in enumerate(gates):
        cut = slice(number * 9, number * 9 + 9)
        for row, matrix in (
            (rows["W", f"gate_{gate}"], weight[0, cut]),
            (rows["R", f"backward.gate_{gate}"], recurrent[1, cut]),
        ):
            assert (row.kind, row.kind_source) == ("recurrent", "graph")
            assert row.sv_max == pytest.approx(np.linalg.norm(matrix.astype(float), 2), rel=1e-12)


def test_vectors_with_unit_axes_and_index_constants_are_no_findings(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Add", ["y", "b"], ["z"]),
        helper.make_node("Reshape", ["z", "s"], ["r"]),
    ]  # fmt: skip
    tensors = [_array("w", _floats(9, 8)), _array("b", _floats(1, 8, 1)), _array("s", np.array([1, -1]))]
    _save(tmp_path / "m.onnx", _model(nodes, tensors))
    result = ww_static.analyze(tmp_path / "m.onnx")
    assert {row.name: row.reason for row in result if row.name != "w"} == {"b": "one_dimensional", "s": "buffer"}
    assert (result.finding_rows, result.exit_code) == ((), 0)


def test_concatenations_of_themselves_cost_nothing(tmp_path: Path) -> None:
    nodes = [helper.make_node("Concat", [f"w{n}", f"w{n}"], [f"w{n + 1}"], axis=0) for n in range(60)]
    nodes.append(helper.make_node("LSTM", ["x", "w60", "w60"], ["y"]))
    with _opened(tmp_path, _model(nodes, [_array("w0", _floats(9, 8))])) as checkpoint:
        assert checkpoint.spec("w0").role == "recurrent"


# codes


def _quantized(folder: Path, codes: Any, scale: Any, zero: Any = None, **attributes: int) -> tuple[np.ndarray[Any, Any], Any]:
    """What the reader gives for a DequantizeLinear, and what onnx's own evaluation gives."""
    from onnx.reference import ReferenceEvaluator

    inputs = ["q", "s"] + ["z"] * (zero is not None)
    tensors = [codes if isinstance(codes, TensorProto) else _array("q", codes), _array("s", scale)]
    tensors += [_array("z", zero)] if zero is not None else []
    options: Any = attributes
    node = helper.make_node("DequantizeLinear", inputs, ["d"], **options)
    output = helper.make_tensor_value_info("d", 1, None)
    evaluated: Any = ReferenceEvaluator(
        helper.make_model(helper.make_graph([node], "g", [], [output], tensors), opset_imports=[helper.make_opsetid("", 21)])
    ).run(None, {})
    expected = evaluated[0]
    nodes = [node, helper.make_node("MatMul", ["x", "d"], ["y"])]
    with _opened(folder, _model(nodes, tensors)) as checkpoint:
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


def _rows(path: Path) -> dict[str | None, Any]:
    return {row.name: row for row in ww_static.analyze(path)}


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
    path = _save(tmp_path / "m.onnx", _model([node], [_array(q, codes), _array(s, scale), _array(z, zero)]))
    along = (1, -1) if axis else (-1, 1, 1, 1)
    expected = (codes.astype(np.float32) - zero.astype(np.float32).reshape(along)) * scale.reshape(along)
    with open_checkpoint(path) as checkpoint:
        np.testing.assert_array_equal(checkpoint.read(checkpoint.spec(q)), expected, strict=True)
    rows = _rows(path)
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
    tensors = [_array("q", packed.reshape(rows, blocks, -1)), _array("s", scale.reshape(-1) if flat else scale)]
    points = np.full((rows, blocks), float(1 << (bits - 1)), np.float32)
    if zero:
        points = random.integers(0, 1 << bits, (rows, blocks)).astype(np.float32)
        padded = np.concatenate([points, np.zeros((rows, 1))], axis=1).astype(np.uint8)
        bytes_of = points.astype(np.uint8) if bits == 8 else padded[:, ::2] | padded[:, 1::2] << 4
        held = bytes_of if zero == "packed" else points
        tensors.append(_array("z", held.reshape(-1) if flat else held))
    inputs = ["x", "q", "s"] + ["z"] * (zero is not None)
    node = helper.make_node(
        "MatMulNBits", inputs, ["y"], domain="com.microsoft", K=columns, N=rows, bits=bits, block_size=block
    )
    expected = ((codes.reshape(rows, blocks, block) - points[:, :, None]) * scale[:, :, None]).astype(np.float32)
    expected = expected.reshape(rows, -1)[:, :columns]
    with _opened(tmp_path, _model([node], tensors)) as checkpoint:
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
        ([helper.make_node("DequantizeLinear", ["q", "s"], ["y"])], [_array("s", _floats(7))]),
        ([helper.make_node("DequantizeLinear", ["q", "dynamic"], ["y"])], []),
        ([helper.make_node("DequantizeLinear", ["q", name], [f"y{name}"]) for name in "st"], [_array("s", _floats(1)), _array("t", _floats(1))]),
    ):  # fmt: skip
        path = _save(tmp_path / "m.onnx", _model(nodes, [_array("q", codes), *tensors]))
        assert _rows(path)["q"].reason == "quantized"
        assert ww_static.analyze(path).exit_code == 3


def test_a_weight_that_is_used_as_a_scale_too_is_analysed(tmp_path: Path) -> None:
    nodes = [helper.make_node("DequantizeLinear", ["q", "w"], ["d"]), helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = _save(tmp_path / "m.onnx", _model(nodes, [_array("w", _floats(9, 8)), _array("q", np.zeros((9, 8), np.int8))]))
    assert _rows(path)["w"].status == "success"


# external data


def _outside(folder: Path, **keys: Any) -> OpenCheckpoint:
    (folder / "w.bin").write_bytes(np.arange(12, dtype="<f4").tobytes())
    return _opened(folder, _model([], [_external("w", 1, (3, 4), {"location": "w.bin"} | keys)]))


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
    tensor = _external("w", 1, (3, 4), {"location": "w.bin"})
    (tmp_path / "w.bin").write_bytes(bytes(48))
    tensor.external_data.add(key="location", value="v.bin")
    with pytest.raises(FormatError, match="bad_header: tensor 'w': external data gives 'location' twice"):
        _opened(tmp_path, _model([], [tensor]))
    del tensor.external_data[1]
    tensor.raw_data = bytes(48)
    with pytest.raises(FormatError, match="has values in two places"):
        _opened(tmp_path, _model([], [tensor]))


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
    _save(blobs / "bb", _model([], [_external("w", 1, (3, 4), {"location": "w.bin"})]))
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
        _opened(tmp_path, _model([], [_external("w", 1, (3, 4), {"location": "w.bin"})]))


# limits


def test_limit_protobuf_depth(tmp_path: Path) -> None:
    graph = helper.make_graph([], "g", [], [], [_array("w", _floats(2, 2))])
    model = helper.make_model(
        helper.make_graph([helper.make_node("If", ["c"], ["y"], name="n", then_branch=graph)], "m", [], [])
    )
    _opened(tmp_path, model, Limits(protobuf_depth=5)).close()  # graph, node, attribute, graph, initializer
    with pytest.raises(LimitError, match=r"limit: byte .*: 5 messages inside each other, limit 4"):
        _opened(tmp_path, model, Limits(protobuf_depth=4))


def test_limit_protobuf_fields(tmp_path: Path) -> None:
    model = _model([], [_array("w", _floats(2, 2))])
    most = next(count for count in range(99) if _fits(tmp_path, model, Limits(protobuf_fields=count)))
    assert 5 < most < 30
    with pytest.raises(LimitError, match=f"limit: model: more than {most - 1} fields"):
        _opened(tmp_path, model, Limits(protobuf_fields=most - 1))


def _fits(folder: Path, model: onnx.ModelProto, limits: Limits) -> bool:
    try:
        _opened(folder, model, limits).close()
    except LimitError:
        return False
    return True


def test_limits_of_names_files_tensors_and_axes(tmp_path: Path) -> None:
    model = _model([], [_array("a" * 50, _floats(2, 2)), _array("b" * 50, _floats(2, 2, 2))])
    assert _fits(tmp_path, model, Limits(header_bytes=200))
    assert not _fits(tmp_path, model, Limits(header_bytes=99))
    assert not _fits(tmp_path, model, Limits(tensors=1))
    assert not _fits(tmp_path, model, Limits(rank=2))
    for name in "ab":
        (tmp_path / name).write_bytes(bytes(16))
    outside = _model([], [_external(name, 1, (2, 2), {"location": name}) for name in "ab"])
    assert _fits(tmp_path, outside, Limits(parts=2))
    assert not _fits(tmp_path, outside, Limits(parts=1))


def test_scopes_of_long_names_do_not_multiply(tmp_path: Path) -> None:
    inner = helper.make_graph([], "g", [], [], [_array(f"t{n}", np.zeros(1)) for n in range(200)])
    for depth in range(20):
        node = helper.make_node("If", ["c"], ["y"], name=f"{depth}" * 100, then_branch=inner)
        inner = helper.make_graph([node], "g", [], [])
    path = _save(tmp_path / "m.onnx", helper.make_model(inner))
    with pytest.raises(LimitError, match="limit: names: more than 100000 characters of scoped names"):
        open_checkpoint(path, Limits(header_bytes=100_000))


# size


def test_a_file_of_3_gibibytes_opens_small(tmp_path: Path) -> None:
    path = tmp_path / "big.onnx"
    rows, columns = 3 * 2**13, 2**15
    size = 4 * rows * columns
    head = b"\x08" + _varint(rows) + b"\x08" + _varint(columns) + b"\x10\x01" + _field(8, b"w") + b"\x4a" + _varint(size)
    tensor = b"\x2a" + _varint(len(head) + size) + head
    graph = b"\x08\x08\x3a" + _varint(len(tensor) + size) + tensor
    with path.open("wb") as stream:
        stream.write(graph)
        stream.truncate(len(graph) + size)
    assert path.stat().st_size > 2**31
    tracemalloc.start()
    with open_checkpoint(path) as checkpoint:
        last = checkpoint.read(checkpoint.spec("w"), (slice(-1, None), slice(-4, None)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert last.tolist() == [[0.0] * 4]
    assert peak < 2**20
    assert [row.name for row in ww_static.describe(path)] == ["w"]
