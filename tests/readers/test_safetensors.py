"""The safetensors reader: the reader suite, every storage dtype, and damage that has a name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ww_static import dtypes
from ww_static.testing import ReaderSuite, Stored
from ww_static_readers import safetensors


def encode(tensors: Mapping[str, Stored], metadata: Mapping[str, str] | None = None) -> bytes:
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    payload = b""
    for name, stored in tensors.items():
        raw = packed(stored)
        offsets = [len(payload), len(payload) + len(raw)]
        header[name] = {"dtype": stored.dtype, "shape": list(stored.array.shape), "data_offsets": offsets}
        payload += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + payload


def packed(stored: Stored) -> bytes:
    bits = dtypes.DTYPES[stored.dtype].bits
    if bits % 8 == 0:
        return stored.array.tobytes()
    number = sum(int(code) << (bits * place) for place, code in enumerate(stored.array.ravel()))
    return number.to_bytes(stored.array.size * bits // 8, "little")


class TestSafetensors(ReaderSuite):
    """The contract, for every storage dtype."""

    reader = safetensors
    dtypes = tuple(dtypes.DTYPES)
    claims = ("safetensors",)

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        path = folder / "model.safetensors"
        path.write_bytes(encode(tensors))
        return path
