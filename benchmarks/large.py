"""Large model files: ONNX written field by field, and files of which all values are holes, so that they take no disk.

ONNX: `ModelProto {ir_version 1, opset_import 8, graph 7 {initializer 5 {dims 1, data_type 2, name 8, raw_data 9}}}`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.models import Tensor

_FLOAT = 1
_SCALE = np.float32(0.02)
_MODEL_HEAD = b"\x08\x08\x42\x04\x0a\x00\x10\x15"  # ir_version 8, opset_import {"", 21}


def squares(count: int, side: int) -> tuple[Tensor, ...]:
    """`count` matrices of `side` rows and columns."""
    return tuple(Tensor(f"layers.{place}.weight", side, side) for place in range(count))


def sparse_safetensors(path: Path, tensors: Sequence[Tensor]) -> Path:
    """Writes a BF16 safetensors file whose payload is one hole."""
    ends = np.cumsum([2 * one.rows * one.columns for one in tensors], dtype=np.int64).tolist()
    header = {
        one.name: {"dtype": "BF16", "shape": [one.rows, one.columns], "data_offsets": [end - 2 * one.rows * one.columns, end]}
        for one, end in zip(tensors, ends, strict=True)
    }
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + ends[-1])
    return path


def sparse_onnx(path: Path, tensors: Sequence[Tensor]) -> Path:
    """Writes an ONNX file with float initializers whose `raw_data` are holes."""
    return _onnx(path, tensors, holes=True)


def written_onnx(path: Path, tensors: Sequence[Tensor]) -> Path:
    """The path of an ONNX file with float initializers, N(0, 0.02^2) from seeds; written when it is not there yet."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(_onnx(path.with_suffix(".partial"), tensors, holes=False), path)
    return path


def _onnx(path: Path, tensors: Sequence[Tensor], holes: bool) -> Path:
    heads = [_initializer_head(one) for one in tensors]
    sizes = [4 * one.rows * one.columns for one in tensors]
    graph = sum(len(head) + size for head, size in zip(heads, sizes, strict=True))
    with path.open("wb") as stream:
        stream.write(_MODEL_HEAD + b"\x3a" + _varint(graph))
        for seed, (one, head, size) in enumerate(zip(tensors, heads, sizes, strict=True)):
            stream.write(head)
            if holes:
                stream.seek(size, os.SEEK_CUR)
            else:
                values = np.random.default_rng(seed).standard_normal((one.rows, one.columns), np.float32)
                stream.write((values * _SCALE).astype("<f4").tobytes())
        stream.truncate()
    return path


def _initializer_head(one: Tensor) -> bytes:
    """What stands before the values of an initializer, with the lengths around them."""
    size, name = 4 * one.rows * one.columns, one.name.encode()
    inner = b"\x08" + _varint(one.rows) + b"\x08" + _varint(one.columns) + b"\x10" + _varint(_FLOAT)
    inner += b"\x42" + _varint(len(name)) + name + b"\x4a" + _varint(size)
    return b"\x2a" + _varint(len(inner) + size) + inner


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))
