"""Seeds of the ONNX reader: values in every place and form, quantized weights, constants, subgraphs, functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from fuzz.seed import Parts, Seed
from onnx_support import TYPES, external, floats, model_of, named, raw_tensor, typed_tensor
from ww_static import dtypes
from ww_static.testing import Stored


def seeds() -> tuple[Seed, ...]:
    """The seeds."""
    return (
        _seed(
            "raw",
            model_of(
                [helper.make_node("Gemm", ["x", "a"], ["y"], transB=1)], [named("a", floats(5, 4)), named("b", floats(6))]
            ),
        ),
        _seed("every dtype raw", model_of([], [raw_tensor(dtype, _stored(dtype)) for dtype in TYPES])),
        _seed("every dtype typed", model_of([], [typed_tensor(dtype, _stored(dtype)) for dtype in TYPES])),
        _seed("quantized", _quantized()),
        _seed("quantized in blocks", _blocks()),
        _seed("constants", _constants(), ("opened+unsupported_layout",)),
        _seed("subgraphs and functions", _nested()),
        _seed("convolutions", _convolutions()),
        _external(),
    )


def _stored(dtype: str) -> Stored:
    size = dtypes.numpy_dtype(dtype).itemsize
    raw = bytes(place * 37 % 16 for place in range(12 * size))
    array = np.frombuffer(raw, dtypes.numpy_dtype(dtype)).reshape(3, 4)
    return Stored(dtype, (array.view(np.uint8) % 2).view(np.bool_) if dtype == "BOOL" else array)


def _seed(name: str, model: onnx.ModelProto, also: tuple[str, ...] = ()) -> Seed:
    parts = {"m.onnx": model.SerializeToString(deterministic=True)}
    return Seed(name, "m.onnx", parts, forms={"m.onnx": "protobuf"}, also=also)


def _codes(*shape: int) -> Any:
    return (np.arange(int(np.prod(shape))) * 37 % 251).astype(np.uint8).reshape(shape)


def _quantized() -> onnx.ModelProto:
    tensors = [named("q", _codes(6, 4).view(np.int8)), named("s", floats(4)), named("z", _codes(4).view(np.int8))]
    tensors += [
        named("i", _codes(4, 4)),
        named("i_scale", floats()),
        named("i_zero_point", np.uint8(3)),
        named("u", _codes(3, 4)),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], axis=1),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
        helper.make_node("MatMulInteger", ["y", "i", "a", "i_zero_point"], ["k"]),
        helper.make_node("QLinearMatMul", ["x", "xs", "xz", "u", "i_scale", "i_zero_point", "ys", "yz"], ["l"]),
    ]
    return model_of(nodes, tensors)


def _blocks() -> onnx.ModelProto:
    four = helper.make_tensor("q", TensorProto.INT4, (8, 6), [place % 15 - 7 for place in range(48)])
    tensors = [
        four,
        named("s", floats(2, 6)),
        named("B", _codes(5, 2, 8)),
        named("Bs", floats(5, 2)),
        named("Bz", _codes(5, 1)),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["d"], axis=0, block_size=4),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
        helper.make_node(
            "MatMulNBits", ["x", "B", "Bs", "Bz"], ["n"], domain="com.microsoft", K=32, N=5, bits=4, block_size=16
        ),
    ]
    return model_of(nodes, tensors)


def _constants() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Constant", [], ["W"], value=named("", floats(3, 4))),
        helper.make_node("Constant", [], ["f"], value_floats=[1.0, 2.0]),
        helper.make_node("Constant", [], ["g"], value_ints=[1, 2]),
        helper.make_node("ConstantOfShape", ["s"], ["c"], value=named("v", np.zeros(1, np.float32))),
        helper.make_node("Transpose", ["W"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    model = model_of(nodes, [named("w", floats(2, 2))])
    sparse = helper.make_sparse_tensor(named("sp", np.ones(2, np.float32)), named("i", np.array([1, 5])), [6, 7])
    model.graph.sparse_initializer.append(sparse)
    return model


def _branch(name: str) -> Any:
    return helper.make_graph([helper.make_node("MatMul", ["x", "W"], [f"y_{name}"])], name, [], [], [named("W", floats(3, 3))])


def _nested() -> onnx.ModelProto:
    constant = helper.make_node("Constant", [], ["W"], value=named("", floats(3, 4)))
    function = helper.make_function("local", "F", ["x"], ["y"], [constant, helper.make_node("MatMul", ["x", "W"], ["y"])], [])
    inner = helper.make_node("If", ["c"], ["y"], name="inner", then_branch=_branch("t"), else_branch=_branch("e"))
    body = helper.make_graph([inner, helper.make_node("Identity", ["W"], ["o"])], "b", [], [])
    nodes = [
        helper.make_node("Loop", ["n", "c"], ["y"], name="loop", body=body),
        helper.make_node("F", ["x"], ["y"], domain="local"),
        helper.make_node("LSTM", ["x", "lw", "lr"], ["h"], hidden_size=2),
    ]
    return model_of(nodes, [named("W", floats(3, 3)), named("lw", floats(1, 8, 3)), named("lr", floats(1, 8, 2))], [function])


def _convolutions() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["a"], group=2),
        helper.make_node("ConvTranspose", ["a", "kt"], ["b"]),
        helper.make_node("Gather", ["e", "i"], ["c"]),
        helper.make_node("Attention", ["c", "qkv"], ["d"], domain="com.microsoft", num_heads=2),
    ]
    tensors = [
        named("k", floats(4, 2, 3, 3)),
        named("kt", floats(4, 2, 3)),
        named("e", floats(7, 4)),
        named("qkv", floats(4, 12)),
    ]
    return model_of(nodes, tensors)


def _external() -> Seed:
    tensors = [external("w", 1, (4, 5), {"location": "w.bin", "offset": 16, "length": 80}), named("b", floats(3))]
    tensors.append(external("h", 10, (3, 3), {"location": "more/h.bin"}))
    model = model_of([], tensors).SerializeToString(deterministic=True)
    values = floats(24).tobytes()

    def build(parts: Parts) -> dict[str, bytes]:
        return {"m.onnx": parts["m.onnx"], "w.bin": values, "more/h.bin": values[:18]}

    return Seed("external data", "m.onnx", {"m.onnx": model}, build, {"m.onnx": "protobuf"})
