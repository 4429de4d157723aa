"""Where the seeds of each reader come from; a new reader is one line here and one file beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fuzz import seeds_arrays, seeds_keras, seeds_onnx, seeds_pytorch, seeds_safetensors
from fuzz.seed import Seed
from ww_static import registry

_SEEDS: Mapping[str, Callable[[], tuple[Seed, ...]]] = {
    "keras": seeds_keras.seeds,
    "npz": seeds_arrays.seeds,
    "onnx": seeds_onnx.seeds,
    "pytorch": seeds_pytorch.seeds,
    "safetensors": seeds_safetensors.seeds,
}

# Seeds of the readers that are installed.
SEEDS = {name: _SEEDS[name] for name in sorted(_SEEDS.keys() & {entry.name for entry in registry.installed()})}

# Readers on top of a C library that is known to crash on damaged files: the death of a worker is counted, not a failure.
NEEDS_ISOLATION = frozenset({"keras"})
