"""Where the seeds of each reader come from; a new reader is one line here and one file beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fuzz import seeds_arrays, seeds_onnx, seeds_pytorch, seeds_safetensors
from fuzz.seed import Seed

SEEDS: Mapping[str, Callable[[], tuple[Seed, ...]]] = {
    "npz": seeds_arrays.seeds,
    "onnx": seeds_onnx.seeds,
    "pytorch": seeds_pytorch.seeds,
    "safetensors": seeds_safetensors.seeds,
}

# Readers on top of a C library that is known to crash on damaged files: the death of a worker is counted, not a failure.
NEEDS_ISOLATION = frozenset({"keras"})
