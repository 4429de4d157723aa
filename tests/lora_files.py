"""Small adapters for tests, and the rows of their products."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ww_static as ww
from support import safetensors_bytes
from ww_static.results import Result
from ww_static.rows import LayerRow

MODULE = "base_model.model.model.layers.0.self_attn.q_proj"
CONFIG = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "base_model_name_or_path": "org/base", "use_rslora": False}


def factors(out: int, inner: int, r: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((r, inner)).astype(np.float32), (rng.standard_normal((out, r)) * 0.1).astype(np.float32)


def pair(a: Any, b: Any, module: str = MODULE) -> dict[str, Any]:
    return {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}


def write(folder: Path, tensors: dict[str, Any], config: object = CONFIG) -> Path:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(safetensors_bytes(tensors, {"format": "pt"}))
    if config is not None:
        raw = config if isinstance(config, bytes) else json.dumps(config).encode()
        (folder / "adapter_config.json").write_bytes(raw)
    return path


def delta_rows(result: Result) -> list[LayerRow]:
    return [row for row in result if row.kind == "lora_delta"]


def delta_row(path: Path, **options: Any) -> LayerRow:
    (row,) = delta_rows(ww.analyze(path, **options))
    return row


def dense(W: NDArray[Any], count: int) -> NDArray[np.float64]:
    """The largest eigenvalues of W^T W, ascending, from the product in float64."""
    found: NDArray[np.float64] = np.linalg.svd(W.astype(np.float64), compute_uv=False)[:count][::-1] ** 2
    return found


def convolution(kernel: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    rng = np.random.default_rng(5)
    a = rng.standard_normal((4, 12, *kernel)).astype(np.float32)
    b = rng.standard_normal((20, 4, *(1 for _ in kernel))).astype(np.float32)
    product = 4.0 * b.reshape(20, 4).astype(float) @ a.reshape(4, -1).astype(float)
    return a, b, product.reshape(20, 12, *kernel)
