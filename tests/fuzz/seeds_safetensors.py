"""Seeds of the safetensors reader: every dtype, odd shapes, shards with and without an index."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from fuzz.seed import Parts, Seed
from ww_static import dtypes

_FIRST, _SECOND, _INDEX = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"


def seeds() -> tuple[Seed, ...]:
    """The seeds."""
    plain = {"a": ("F32", (3, 4)), "layer.0.weight": ("BF16", (4,)), "b": ("F16", (2, 3, 2)), "scalar": ("F64", ())}
    every = {dtype: (dtype, (4, 2)) for dtype in sorted(set(dtypes.DTYPES) - {"C128", "INT4", "UINT4"})}  # those of ONNX
    odd = {"none": ("F32", (0, 3)), "ones": ("I64", (1, 1, 1, 1)), "packed": ("F4", (3, 2)), "mask": ("BOOL", (2, 2))}
    return (
        _single("plain", plain, {"format": "pt", "note": "x"}),
        _single("every dtype", every, None),
        _single("odd shapes", odd, {"format": "tf"}),
        _sharded("shards with an index", _INDEX),
        _sharded("shards without an index", _FIRST),
    )


def _header(tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: dict[str, str] | None) -> tuple[bytes, bytes]:
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, (dtype, shape) in tensors.items():
        size = dtypes.nbytes(dtype, int(np.prod(shape, dtype=int))) or 0
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    return json.dumps(header, separators=(",", ":")).encode(), bytes(place * 37 % 251 for place in range(end))


def _file(header: bytes, payload: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + payload


def _single(name: str, tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: dict[str, str] | None) -> Seed:
    header, payload = _header(tensors, metadata)

    def build(parts: Parts) -> dict[str, bytes]:
        return {"model.safetensors": _file(parts["header"], payload)}

    return Seed(name, "model.safetensors", {"header": header}, build, {"header": "json"})


def _sharded(name: str, main: str) -> Seed:
    first, first_payload = _header({"a": ("F32", (3, 4)), "b": ("F16", (2, 2))}, None)
    second, second_payload = _header({"c": ("F32", (2, 5))}, {"format": "pt"})
    index = {"metadata": {"total_size": 96}, "weight_map": {"a": _FIRST, "b": _FIRST, "c": _SECOND}}

    def build(parts: Parts) -> dict[str, bytes]:
        files = {_FIRST: _file(parts["first"], first_payload), _SECOND: _file(parts["second"], second_payload)}
        return files | ({_INDEX: parts["index"]} if "index" in parts else {})

    parts = {"first": first, "second": second} | ({"index": json.dumps(index).encode()} if main == _INDEX else {})
    return Seed(name, main, parts, build, dict.fromkeys(parts, "json"))
