"""Seeds of the Keras reader: legacy models, weights of Keras 3, archives, shards; every layout and filter of HDF5 that is read."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuzz.seed import Parts, Seed

_WEIGHTS = "model.weights.h5"
_LAYERS = {"layers/dense/vars/0": (5, 4), "layers/dense/vars/1": (4,), "layers/conv2d_1/vars/0": (3, 3, 2, 4)}


def seeds() -> tuple[Seed, ...]:
    """The seeds."""
    config = _config("Dense", "dense")
    return (
        Seed("legacy model", "m.h5", {"m.h5": _hdf5(lambda file: _legacy(file, config))}),
        Seed("legacy weights", "m.h5", {"m.h5": _hdf5(lambda file: _legacy(file, None))}),
        Seed("latest format", "m.h5", {"m.h5": _hdf5(lambda file: _legacy(file, config), libver="latest")}),
        Seed("keras 3", "m.weights.h5", {"m.weights.h5": _hdf5(_keras3)}),
        Seed("filters", "m.weights.h5", {"m.weights.h5": _hdf5(_filtered)}),
        Seed("filters, latest format", "m.weights.h5", {"m.weights.h5": _hdf5(_filtered, libver="latest")}),
        Seed("dtypes", "m.weights.h5", {"m.weights.h5": _hdf5(_dtypes)}),
        Seed("user block", "m.h5", {"m.h5": _hdf5(_keras3, userblock_size=512)}),
        _archive("archive", zipfile.ZIP_STORED),
        _archive("deflated archive", zipfile.ZIP_DEFLATED),
        _shards(),
    )


def _hdf5(write: Callable[[Any], None], **options: Any) -> bytes:
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w", **options) as file:
        write(file)
    return stream.getvalue()


def _values(*shape: int, dtype: str = "<f4") -> NDArray[Any]:
    return np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)


def _config(kind: str, name: str) -> str:
    layer = {"module": "keras.layers", "class_name": kind, "config": {"name": name, "units": 4}, "registered_name": None}
    return json.dumps({"module": "keras", "class_name": "Sequential", "config": {"name": "m", "layers": [layer]}})


def _legacy(file: Any, config: str | None) -> None:
    group = file
    if config is not None:
        group = file.create_group("model_weights")
        file.attrs["keras_version"], file.attrs["backend"], file.attrs["model_config"] = "2.11.0", "tensorflow", config
        file.create_group("optimizer_weights").create_dataset("m:0", data=_values(3))
    group.attrs["layer_names"] = np.array([b"dense", b"lstm"])
    for name, weights in (("dense", ("dense/kernel:0", "dense/bias:0")), ("lstm", ("lstm/cell/kernel:0",))):
        inner = group.create_group(name)
        inner.attrs["weight_names"] = np.array([weight.encode() for weight in weights])
        for place, weight in enumerate(weights):
            inner.create_dataset(weight, data=_values(*((4, 8), (8,))[place]))


def _keras3(file: Any) -> None:
    for name, shape in _LAYERS.items():
        file.create_dataset(name, data=_values(*shape))
    file["layers/dense/vars"].attrs["name"] = "dense"
    file.create_group("optimizer/vars").create_dataset("0", data=np.int64(3))


def _filtered(file: Any) -> None:
    options: Mapping[str, dict[str, Any]] = {
        "gzip": {"compression": "gzip", "chunks": (4, 5)},
        "shuffled": {"compression": "gzip", "shuffle": True, "fletcher32": True, "chunks": (3, 4)},
        "lzf": {"compression": "lzf", "chunks": (8, 10)},
        "chunked": {"chunks": (2, 10), "maxshape": (None, 10)},
        "scaled": {"scaleoffset": 2, "chunks": (4, 4)},
    }
    for place, (name, given) in enumerate(options.items()):
        file.create_dataset(f"layers/dense_{place}/vars/0", data=_values(8, 10), **given)
        file[f"layers/dense_{place}/vars"].attrs["name"] = name
    file.create_dataset("layers/empty/vars/0", shape=(6, 4), dtype="<f4", chunks=(3, 4), fillvalue=1.5)


def _dtypes(file: Any) -> None:
    import h5py

    for place, dtype in enumerate(("<f2", "<f8", ">f4", "|i1", "<u2", ">i8", "?")):
        file.create_dataset(f"layers/l_{place}/vars/0", data=_values(2, 3, dtype=dtype))
    file.create_dataset("scalar", data=np.float32(2))
    file.create_dataset("none", data=np.zeros((0, 3), "<f4"))
    file.create_dataset("text", data="words", dtype=h5py.string_dtype())
    file.create_dataset("record", data=np.zeros(2, [("a", "<f4"), ("b", "<i4")]))
    file["hard"], file["soft"], file["far"] = file["scalar"], h5py.SoftLink("/scalar"), h5py.ExternalLink("other.h5", "/x")


def _archive(name: str, method: int) -> Seed:
    config = _config("Dense", "dense").encode()
    parts = {"config.json": config, _WEIGHTS: _hdf5(_keras3), "metadata.json": b'{"keras_version": "3.15.1"}'}

    def build(parts: Parts) -> dict[str, bytes]:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            for member in ("metadata.json", "config.json", _WEIGHTS):
                one = zipfile.ZipInfo(member)  # of 1980: the same bytes every day
                one.compress_type = method
                archive.writestr(one, parts[member])
        return {"m.keras": stream.getvalue()}

    return Seed(name, "m.keras", parts, build, {"config.json": "json", "metadata.json": "json"})


def _shards() -> Seed:
    weight_map = {"/layers/dense/vars": "x_00000.weights.h5", "/layers/conv/vars": ["x_00001.weights.h5"]}
    index = {"metadata": {"total_size": 176.0}, "weight_map": weight_map}
    parts = {
        "x.weights.json": json.dumps(index).encode(),
        "x_00000.weights.h5": _hdf5(lambda file: file.create_dataset("layers/dense/vars/0", data=_values(5, 4))),
        "x_00001.weights.h5": _hdf5(lambda file: file.create_dataset("layers/conv/vars/0", data=_values(2, 3, 4))),
    }
    return Seed("shards", "x.weights.json", parts, forms={"x.weights.json": "json"})
