"""Small ONNX files for tests: tensors in every form, through the package onnx or byte by byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import ww_static
from ww_static import dtypes
from ww_static.errors import LimitError
from ww_static.protocol import Limits
from ww_static.seam import OpenCheckpoint, open_checkpoint
from ww_static.testing import Stored

TYPES = {
    "F32": 1, "U8": 2, "I8": 3, "U16": 4, "I16": 5, "I32": 6, "I64": 7, "BOOL": 9, "F16": 10, "F64": 11, "U32": 12, "U64": 13,
    "C64": 14, "C128": 15, "BF16": 16, "F8_E4M3": 17, "F8_E4M3FNUZ": 18, "F8_E5M2": 19, "F8_E5M2FNUZ": 20, "UINT4": 21, "INT4": 22,
    "F4": 23, "F8_E8M0": 24,
}  # fmt: skip


def packed_bytes(stored: Stored) -> bytes:
    if not dtypes.DTYPES[stored.dtype].packed:
        return stored.array.tobytes()
    codes = np.append(stored.array.ravel(), np.zeros(stored.array.size % 2, np.uint8))
    return bytes(codes[::2] | codes[1::2] << 4)


def raw_tensor(name: str, stored: Stored) -> TensorProto:
    tensor = TensorProto(name=name, dims=stored.array.shape, data_type=TYPES[stored.dtype])
    tensor.raw_data = packed_bytes(stored)
    return tensor


def typed_tensor(name: str, stored: Stored) -> TensorProto:
    """The same values in the field of their type."""
    tensor = TensorProto(name=name, dims=stored.array.shape, data_type=TYPES[stored.dtype])
    raw = packed_bytes(stored)
    if stored.dtype in ("F32", "C64"):
        tensor.MergeFromString(field(4, raw))  # through Python floats a signalling NaN would become a quiet one
    elif stored.dtype in ("F64", "C128"):
        tensor.MergeFromString(field(10, raw))
    elif stored.dtype == "I64":
        tensor.int64_data.extend(np.frombuffer(raw, "<i8"))
    elif stored.dtype in ("U64", "U32"):
        tensor.uint64_data.extend(np.frombuffer(raw, "<u8" if stored.dtype == "U64" else "<u4"))
    else:
        view = {"I8": "<i1", "I16": "<i2", "I32": "<i4", "U16": "<u2", "F16": "<u2", "BF16": "<u2"}
        tensor.int32_data.extend(np.frombuffer(raw, view.get(stored.dtype, "<u1")))
    return tensor


def model_of(nodes: Sequence[Any] = (), tensors: Sequence[TensorProto] = (), functions: Sequence[Any] = ()) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "g", [], [], list(tensors))
    return helper.make_model(graph, functions=list(functions))


def save(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def opened(folder: Path, model: onnx.ModelProto, limits: Limits | None = None) -> OpenCheckpoint:
    return open_checkpoint(save(folder / "m.onnx", model), limits)


def named(name: str, array: Any) -> TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def floats(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def external(name: str, data_type: int, shape: Sequence[int], keys: Mapping[str, Any]) -> TensorProto:
    tensor = TensorProto(name=name, dims=shape, data_type=data_type, data_location=TensorProto.EXTERNAL)
    for key, value in keys.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def bytes_model(tensor: bytes, extra: bytes = b"") -> bytes:
    return b"\x08\x08" + extra + field(7, field(5, tensor))


def rows_of(path: Path) -> dict[str | None, Any]:
    return {row.name: row for row in ww_static.analyze(path)}


def fits(folder: Path, model: onnx.ModelProto, limits: Limits) -> bool:
    try:
        opened(folder, model, limits).close()
    except LimitError:
        return False
    return True
