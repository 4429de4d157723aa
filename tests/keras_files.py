"""Keras files as Keras writes them, made with h5py alone: legacy models, weights of Keras 3, archives, shards."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


def layer(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    """A layer of a configuration, in the form of Keras 3."""
    config = {"name": name, **fields}
    return {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None}


def configuration(*layers: dict[str, Any]) -> str:
    """The configuration of a model of these layers."""
    return json.dumps({"module": "keras", "class_name": "Sequential", "config": {"name": "m", "layers": list(layers)}})


def put(group: Any, arrays: Arrays, **options: Any) -> None:
    """Datasets by their paths; `options` are those of h5py, left out where an array cannot have chunks."""
    for name, array in arrays.items():
        group.create_dataset(name, data=array, **(options if array.ndim and array.size else {}))


def fixed(texts: Sequence[str]) -> NDArray[Any]:
    """Text of fixed length, as Keras 2 wrote it."""
    return np.array([text.encode() for text in texts]) if texts else np.zeros(0)


def legacy(
    path: Path, layers: Mapping[str, Arrays], config: str | None = None, optimizer: Arrays | None = None, whole: bool = True
) -> Path:
    """A model or its weights as `save` of Keras 1 and 2 left them: layer -> path in its group -> array."""
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights") if whole else file
        if whole:
            file.attrs["keras_version"], file.attrs["backend"] = "2.11.0", "tensorflow"
        if config is not None:
            file.attrs["model_config"] = config
        group.attrs["layer_names"] = fixed(list(layers))
        for name, arrays in layers.items():
            inner = group.create_group(name)
            inner.attrs["weight_names"] = fixed(list(arrays))
            put(inner, arrays)
        if optimizer is not None:
            put(file.create_group("optimizer_weights"), optimizer)
    return path


def keras3(target: Path | io.BytesIO, arrays: Arrays, names: Mapping[str, str] | None = None, **options: Any) -> None:
    """Weights of Keras 3: path -> array, and path of a group of variables -> name of the layer."""
    with h5py.File(target, "w") as file:
        put(file, arrays, **options)
        for group, name in (names or {}).items():
            file.require_group(group).attrs["name"] = name


def archive(
    path: Path,
    arrays: Arrays,
    config: str | None = None,
    method: int = zipfile.ZIP_STORED,
    names: Mapping[str, str] | None = None,
) -> Path:
    """A `.keras` archive; Keras stores its members."""
    weights = io.BytesIO()
    keras3(weights, arrays, names)
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("metadata.json", json.dumps({"keras_version": "3.15.1", "date_saved": "2026-01-01@00:00:00"}))
        file.writestr("config.json", configuration() if config is None else config)
        file.writestr("model.weights.h5", weights.getvalue())
    return path


def shards(folder: Path, parts: Sequence[Arrays], stem: str = "x") -> Path:
    """Weights of Keras 3 in several files, with their index."""
    weight_map: dict[str, Any] = {}
    for number, arrays in enumerate(parts):
        name = f"{stem}_{number:05d}.weights.h5"
        keras3(folder / name, arrays)
        for tensor in arrays:
            group = "/" + tensor.rpartition("/")[0]
            weight_map[group] = [name] if number else name  # both forms exist
    total = float(sum(array.nbytes for arrays in parts for array in arrays.values()))
    path = folder / f"{stem}.weights.json"
    path.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=4))
    return path


def values(*shape: int, dtype: str = "<f4", seed: int = 0) -> NDArray[Any]:
    """Numbers of a normal distribution."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)
