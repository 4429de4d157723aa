"""Model files to measure on: seeded values in safetensors, `u64 header length | JSON header | payload`."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "benchmarks"
_ROWS = 1024
_SCALE = np.float32(0.02)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor to write: name and shape (rows, columns)."""

    name: str
    rows: int
    columns: int


def one_tall_and_squares(squares: int) -> tuple[Tensor, ...]:
    """One tensor of 32000 x 4096 (250 MiB as BF16) and some of 4096 x 4096 (32 MiB each)."""
    tall = Tensor("model.embed_tokens.weight", 32000, 4096)
    return (tall, *(Tensor(f"model.layers.{i}.self_attn.o_proj.weight", 4096, 4096) for i in range(squares)))


def small(count: int) -> tuple[Tensor, ...]:
    """Tensors of 256 x 256: many rows of output, little work."""
    return tuple(Tensor(f"model.layers.{i}.self_attn.o_proj.weight", 256, 256) for i in range(count))


def gpt2() -> tuple[Tensor, ...]:
    """The 50 matrices of GPT-2 with 124 million parameters, stored as there: inputs x outputs, the fused attention whole.

    The names say nothing, so that neither side cuts a matrix.
    """
    block = ((768, 2304), (768, 768), (768, 3072), (3072, 768))
    blocks = (Tensor(f"blocks.{i}.matrix_{j}.weight", *shape) for i in range(12) for j, shape in enumerate(block))
    return (Tensor("tokens.weight", 50257, 768), Tensor("positions.weight", 1024, 768), *blocks)


def written(name: str, tensors: Sequence[Tensor], dtype: Literal["BF16", "F32"] = "BF16") -> Path:
    """The path of a file with these tensors below the cache folder; written when it is not there yet.

    Values are N(0, 0.02^2), every tensor with a seed of its own. BF16: rounded to nearest. F32: each column times a
    lognormal factor, so that the spectra have a tail.
    """
    path = CACHE / name
    sizes = [{"BF16": 2, "F32": 4}[dtype] * tensor.rows * tensor.columns for tensor in tensors]
    ends = np.cumsum(sizes).tolist()
    header = {
        tensor.name: {"dtype": dtype, "shape": [tensor.rows, tensor.columns], "data_offsets": [end - size, end]}
        for tensor, size, end in zip(tensors, sizes, ends, strict=True)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    if path.exists() and path.stat().st_size == 8 + len(text) + sum(sizes):
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for seed, tensor in enumerate(tensors):
            generator = np.random.default_rng(seed)
            factors = generator.lognormal(0.0, 0.7, tensor.columns).astype(np.float32) if dtype == "F32" else None
            for start in range(0, tensor.rows, _ROWS):
                block = generator.standard_normal((min(_ROWS, tensor.rows - start), tensor.columns), np.float32) * _SCALE
                stream.write(_rounded(block) if factors is None else (block * factors).astype("<f4").tobytes())
    os.replace(partial, path)
    return path


def _rounded(block: NDArray[np.float32]) -> bytes:
    """BF16, rounded to nearest; destroys the block."""
    bits = block.view(np.uint32)
    bits += 0x7FFF + ((bits >> 16) & 1)
    return (bits >> 16).astype("<u2").tobytes()
