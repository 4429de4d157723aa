"""Damaged state dicts: whatever torch's weights-only reader loads, we load with equal tensors. Needs torch (the oracle extra)."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fuzz import mutate, seeds_pytorch
from fuzz.subject import written
from ww_static.errors import FormatError
from ww_static.protocol import Checkpoint, Limits
from ww_static_readers import pytorch

_SEEDS = ("state dict", "views", "every dtype", "deflated", "containers", "legacy", "arrays")
_ROOTS = ("state_dict", "model_state", "model_state_dict", "model", "module", "net", "generator", "ema")
# What torch reads and we refuse on purpose: category -> words of the message, any of which must appear.
_STRICTER = {
    "corrupt_archive": ("",),  # headers that contradict the directory, and copies in which two readers could see two archives
    "duplicate_name": ("",),
    "truncated": ("zip",),
    "unsafe_pickle": ("",),
    "size_mismatch": ("",),
    "bad_header": (
        "byteorder",
        "UTF-8",
        "persistent identifier",
        "system info",
        "the highest known",
        "storage keys",
        "has two sizes",
        "the view of a storage",
        "a storage has no type",
    ),  # torch takes the first of two sizes and fills in missing strides, and of legacy files it checks neither views nor their list of keys
    "corrupt": ("inflates",),
    "unsupported": ("without any array",),  # the mark of a legacy file, spelled in another way
    "limit": ("a view of",),
    "path_escape": ("",),
    "missing_part": ("storage",),  # what a legacy file does not hold torch leaves as it finds it in memory
}


def compare(numbers: range, folder: Path, start: int = 0) -> tuple[Counter[str], list[str]]:
    """Verdicts on damaged files: how many are loaded by both, by one, by none; and what must not be.

    Args:
        numbers: of the inputs.
        folder: where each is written.
        start: of the series.
    """
    seeds = [seed for seed in seeds_pytorch.seeds() if seed.name in _SEEDS]
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for number in numbers:
        one = mutate.made("pytorch", seeds, start, number)
        path = written(one, folder)
        loaded = _loaded(path)
        try:
            ours: Checkpoint | None = pytorch.open(path, Limits())
            refusal = None
        except FormatError as error:
            ours, refusal = None, error
        if loaded is None:
            counts["loaded by us alone" if ours else "refused by both"] += 1
        elif refusal is not None:
            counts["loaded by torch alone"] += 1
            words = _STRICTER.get(refusal.category)
            tensors = dict(_tensors(loaded, ""))
            if tensors and not (words and any(word in str(refusal) for word in words)):
                wrong.append(f"{number} of '{one.seed}': only we refuse {sorted(tensors)}: {refusal}")
        elif ours is not None:
            counts["loaded by both"] += 1
            wrong += [f"{number} of '{one.seed}': {problem}" for problem in _differences(loaded, ours)]
        if ours is not None:
            ours.close()
    return counts, wrong


def _loaded(path: Path) -> Any:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # whatever comes to it
            return None


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    import torch

    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _tensors(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for place, inner in enumerate(value):
            yield from _tensors(inner, f"{name}.{place}" if name else str(place))


def _differences(loaded: Any, ours: Checkpoint) -> Iterator[str]:
    specs = {spec.name: spec for spec in ours.tensors}
    roots = isinstance(loaded, dict) and any(name in loaded for name in _ROOTS)
    for name, tensor in _tensors(loaded, ""):
        spec = specs.get(name or "tensor")
        if spec is None:
            if not roots and tensor.layout is not None and name.isascii():
                yield f"'{name}' is missing among {sorted(specs)}; findings {[str(one) for one in ours.findings]}"
            continue
        if spec.encoding in ("unsupported", "absent") or tensor.is_quantized:
            continue
        if tuple(tensor.shape) != spec.shape:
            yield f"'{name}' has shape {spec.shape}, torch says {tuple(tensor.shape)}"
            continue
        try:
            values = ours.read(spec)
        except FormatError as error:
            if error.category not in ("crc_mismatch", "corrupt"):
                yield f"'{name}' cannot be read: {error}"
            continue
        if _bits(tensor) != np.ascontiguousarray(values).tobytes():
            yield f"'{name}' {spec.dtype} has other values"


def _bits(tensor: Any) -> bytes:
    import torch

    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy().tobytes()) if flat.numel() else b""
