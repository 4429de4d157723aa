"""One model in every format: one fingerprint per tensor, and one spectrum, however its values are stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

import keras_files
import ww_static as ww
from onnx_support import model_of, raw_tensor, save, typed_tensor
from support import safetensors_bytes
from torch_files import archive, legacy, members, state_dict, stored, strides_of, tensor, zipped
from ww_static.measuring.metrics import METRICS
from ww_static.rows import LayerRow
from ww_static.testing import Stored

Model = Mapping[str, Stored]
SHAPE = (
    "N",
    "M",
    "Q",
    "rf",
    "num_evals",
    "esd_scale",
    "has_esd",
    "status",
    "reason",
    "shape",
    "numel",
    "dtype",
    "n_below_floor",
)
MOMENTS = ("mean", "std", "min", "max", "abs_max", "zero_fraction", "n_nan", "n_inf", "excess_kurtosis", "spectral_floor")


def model() -> dict[str, Stored]:
    rng = np.random.default_rng(314)

    def heavy(*shape: int) -> NDArray[np.float64]:
        drawn: NDArray[np.float64] = rng.standard_t(2.5, shape) * 0.05
        return drawn

    return {
        "encoder.0.weight": Stored("F32", heavy(96, 64).astype(np.float32)),
        "encoder.1.weight": Stored("F16", heavy(48, 120).astype(np.float16)),
        "encoder.2.weight": Stored("F64", heavy(80, 80)),
        "encoder.3.weight": Stored("BF16", heavy(64, 40).astype(ml_dtypes.bfloat16)),
        "conv.weight": Stored("F32", heavy(24, 18, 3, 3).astype(np.float32)),
        "encoder.0.bias": Stored("F32", heavy(96).astype(np.float32)),
        "num_batches_tracked": Stored("I64", np.arange(7)),
    }


def write_safetensors(path: Path, held: Model) -> None:
    plain = {name: (one.dtype, one.array.shape, one.array.tobytes()) for name, one in held.items()}
    path.write_bytes(safetensors_bytes(plain))


def write_torch(path: Path, held: Model) -> None:
    path.write_bytes(archive(held))


def write_torch_big_endian(path: Path, held: Model) -> None:
    path.write_bytes(archive(held, big=True, deflated=True))


def write_torch_strided(path: Path, held: Model) -> None:
    """Every tensor a transposed view into one storage, behind elements that belong to nothing."""
    root, records = {}, {}
    for place, (name, one) in enumerate(held.items()):
        kind = {"F64": "Double", "F32": "Float", "F16": "Half", "BF16": "BFloat16", "I64": "Long"}[one.dtype] + "Storage"
        turned, count = one.array.T, one.array.size + 3
        storage = stored(kind, str(place), count)
        root[name] = tensor(storage, one.array.shape, strides_of(turned.shape)[::-1], 3)
        records[str(place)] = bytes(3 * one.array.itemsize) + np.ascontiguousarray(turned).tobytes()
    path.write_bytes(zipped(members(root, records)))


def write_torch_legacy(path: Path, held: Model) -> None:
    records = {str(place): (one.array.size, one.array.tobytes()) for place, one in enumerate(held.values())}
    path.write_bytes(legacy(state_dict(held, view=None), records))


def write_onnx(path: Path, held: Model, form: Callable[[str, Stored], TensorProto] = raw_tensor) -> None:
    """Weights behind the operators that use them: their axes and kinds come from the graph."""
    nodes = [
        helper.make_node("Gemm", ["x0", "encoder.0.weight", "encoder.0.bias"], ["y0"], name="g0", transB=1),
        helper.make_node("MatMul", ["x1", "encoder.1.weight"], ["y1"], name="m1"),
        helper.make_node("Gemm", ["x2", "encoder.2.weight"], ["y2"], name="g2"),
        helper.make_node("MatMul", ["x3", "encoder.3.weight"], ["y3"], name="m3"),
        helper.make_node("Conv", ["x4", "conv.weight"], ["y4"], name="c4"),
    ]
    save(path, model_of(nodes, [form(name, one) for name, one in held.items()]))


def write_onnx_typed(path: Path, held: Model) -> None:
    write_onnx(path, held, typed_tensor)


def write_npz(path: Path, held: Model) -> None:
    with path.open("wb") as stream:
        np.savez(stream, **{name: one.array for name, one in held.items()})  # type: ignore[arg-type]


def write_npz_packed(path: Path, held: Model) -> None:
    """Deflated, by columns, and in the other order of bytes."""
    turned = {name: np.asfortranarray(one.array).astype(one.array.dtype.newbyteorder(">")) for name, one in held.items()}
    with path.open("wb") as stream:
        np.savez_compressed(stream, **turned)  # type: ignore[arg-type]


def write_h5(path: Path, held: Model) -> None:
    """Plain datasets, which lie flat in the file."""
    with h5py.File(path, "w") as file:
        for name, one in held.items():
            file.create_dataset(name, data=one.array)


def write_h5_chunked(path: Path, held: Model) -> None:
    """In chunks that do not divide the shapes, deflated, and in the other order of bytes."""
    with h5py.File(path, "w") as file:
        for name, one in held.items():
            chunks = tuple(max(1, size // 2 - 1) for size in one.array.shape)
            turned = one.array.astype(one.array.dtype.newbyteorder(">"))
            file.create_dataset(name, data=turned, chunks=chunks, compression="gzip", shuffle=True)


# format -> writer, suffix, and the storage dtypes that it cannot hold
FORMATS: dict[str, tuple[Callable[[Path, Model], None], str, frozenset[str]]] = {
    "safetensors": (write_safetensors, ".safetensors", frozenset()),
    "pytorch": (write_torch, ".pt", frozenset()),
    "pytorch, big-endian and deflated": (write_torch_big_endian, ".pt", frozenset()),
    "pytorch, strided": (write_torch_strided, ".pt", frozenset()),
    "pytorch, legacy": (write_torch_legacy, ".pth", frozenset()),
    "onnx": (write_onnx, ".onnx", frozenset()),
    "onnx, typed": (write_onnx_typed, ".onnx", frozenset()),
    "npz": (write_npz, ".npz", frozenset(("BF16",))),
    "npz, packed": (write_npz_packed, ".npz", frozenset(("BF16",))),
    "keras": (write_h5, ".h5", frozenset(("BF16",))),
    "keras, chunked": (write_h5_chunked, ".h5", frozenset(("BF16",))),
}


def rows_of(folder: Path, form: str, held: Model) -> dict[str, LayerRow]:
    """The rows of the tensors that a format can hold, by the names of the model."""
    writer, suffix, lacking = FORMATS[form]
    kept = {name: one for name, one in held.items() if one.dtype not in lacking}
    path = folder / f"m{suffix}"
    writer(path, kept)
    result = ww.analyze(path, esd="f64")
    assert result.exit_code == 0
    found = {row.name: row for row in result}
    assert set(found) == set(kept)
    assert {row.reader for row in result} == {form.partition(",")[0]}
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LayerRow]:
    return rows_of(tmp_path_factory.mktemp("expected"), "safetensors", model())


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_values_have_one_fingerprint_and_one_spectrum(
    tmp_path: Path, expected: dict[str, LayerRow], form: str
) -> None:
    for name, row in rows_of(tmp_path, form, model()).items():
        other = expected[name]
        assert row.content_hash == other.content_hash is not None, name
        assert [getattr(row, column) for column in SHAPE] == [getattr(other, column) for column in SHAPE], name
        for column in (*METRICS, *MOMENTS):
            assert near(getattr(row, column), getattr(other, column)), f"{name} {column}"
        assert row.null_reasons == other.null_reasons, name


KERAS = {
    "encoder.0.weight": ("first", "Dense", "kernel:0"), "encoder.1.weight": ("second", "Dense", "kernel:0"),
    "encoder.2.weight": ("third", "Dense", "kernel:0"), "conv.weight": ("taps", "Conv2D", "kernel:0"),
    "encoder.0.bias": ("first", "Dense", "bias:0"),
}  # fmt: skip


def test_a_model_as_keras_saves_it_has_the_same_spectra(tmp_path: Path, expected: dict[str, LayerRow]) -> None:
    """Names, classes and the order of a kernel's axes are those of Keras: only the kernel has another fingerprint."""
    held, layers = model(), dict[str, dict[str, NDArray[Any]]]()
    for name, (layer, _, weight) in KERAS.items():
        array = held[name].array
        layers.setdefault(layer, {})[f"{layer}/{weight}"] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
    classes = {layer: kind for layer, kind, _ in KERAS.values()}
    config = keras_files.configuration(*(keras_files.layer(kind, layer) for layer, kind in classes.items()))
    path = keras_files.legacy(tmp_path / "m.h5", layers, config, {"adam/first_m:0": held["encoder.0.weight"].array})
    rows = {row.name: row for row in ww.analyze(path, esd="f64")}
    assert len(rows) == len(KERAS) + 1
    for name, (layer, _, weight) in KERAS.items():
        row, other = rows[f"{layer}/{layer}/{weight}"], expected[name]
        turned = name == "conv.weight"
        assert (row.content_hash == other.content_hash) != turned
        assert (row.shape == other.shape) != turned
        for column in SHAPE:
            assert column == "shape" or getattr(row, column) == getattr(other, column), f"{name} {column}"
        for column in (*METRICS, *MOMENTS):
            assert near(getattr(row, column), getattr(other, column)), f"{name} {column}"


def near(value: Any, other: Any) -> bool:
    if other is None or isinstance(other, (str, int)):
        return bool(value == other)
    if isinstance(other, float):
        return isinstance(value, float) and math.isclose(value, other, rel_tol=1e-12)
    return bool(len(value) == len(other) and np.allclose(value, other, rtol=1e-12, atol=0))


def test_the_model_has_spectra_to_compare(expected: dict[str, LayerRow]) -> None:
    analysed = {name for name, row in expected.items() if row.alpha is not None and row.esd is not None}
    assert analysed == {*(f"encoder.{number}.weight" for number in range(4)), "conv.weight"}
    assert len({row.content_hash for row in expected.values()}) == len(expected)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["encoder.1.weight", "conv.weight", "num_batches_tracked"])
def test_one_other_value_is_another_fingerprint(tmp_path: Path, expected: dict[str, LayerRow], form: str, name: str) -> None:
    held = model()
    held[name].array.reshape(-1)[-1] += 1
    for other, row in rows_of(tmp_path, form, held).items():
        assert (row.content_hash == expected[other].content_hash) == (other != name)


def test_another_shape_or_dtype_of_the_same_bytes_is_another_fingerprint(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32)
    held = {
        "a.weight": Stored("F32", values.reshape(4, 6)), "b.weight": Stored("F32", values.reshape(6, 4)),
        "c.weight": Stored("F16", values.view(np.float16).reshape(4, 12)), "d.weight": Stored("F32", values.reshape(4, 6).copy()),
    }  # fmt: skip
    rows = rows_of(tmp_path, "npz", held)
    assert len({row.content_hash for row in rows.values()}) == 3
    assert rows["d.weight"].tied_to == "a.weight"
