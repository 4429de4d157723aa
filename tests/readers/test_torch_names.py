"""The table of meaningful names, group by group against the rules for pickles, and what classes say about tensors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import torch_files as tf
import ww_static
from torch_files import Raw, call, glob, instance, op, pickled, stored, tensor, zipped
from ww_static.protocol import Limits
from ww_static.seam import OpenCheckpoint, open_checkpoint
from ww_static_readers._pickle import Machine
from ww_static_readers._pickle_nodes import Global
from ww_static_readers._source import Source
from ww_static_readers._torch_names import HARMLESS, TABLE, TorchMeaning
from ww_static_readers._torch_values import Array

STORAGE_KINDS = [
    "Double",
    "Float",
    "Half",
    "BFloat16",
    "Long",
    "Int",
    "Short",
    "Char",
    "Byte",
    "Bool",
    "ComplexFloat",
    "ComplexDouble",
    "QInt8",
    "QUInt8",
    "QInt32",
    "QUInt4x2",
    "QUInt2x4",
]
REBUILDS = [
    "_rebuild_tensor",
    "_rebuild_tensor_v2",
    "_rebuild_tensor_v3",
    "_rebuild_parameter",
    "_rebuild_parameter_with_state",
    "_rebuild_qtensor",
    "_rebuild_sparse_tensor",
    "_rebuild_meta_tensor_no_storage",
    "_rebuild_nested_tensor",
    "_rebuild_wrapper_subclass",
    "_rebuild_device_tensor_from_cpu_tensor",
    "_rebuild_device_tensor_from_numpy",
]
DTYPES = [
    "float64",
    "double",
    "float32",
    "float",
    "float16",
    "half",
    "bfloat16",
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "float4_e2m1fn_x2",
    "int1",
    "int2",
    "int3",
    "int4",
    "int5",
    "int6",
    "int7",
    "int8",
    "int16",
    "int32",
    "int64",
    "short",
    "int",
    "long",
    "uint1",
    "uint2",
    "uint3",
    "uint4",
    "uint5",
    "uint6",
    "uint7",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
    "bits1x8",
    "bits2x4",
    "bits4x2",
    "bits8",
    "bits16",
    "complex32",
    "complex64",
    "complex128",
    "chalf",
    "cfloat",
    "cdouble",
    "qint8",
    "quint8",
    "qint32",
    "quint4x2",
    "quint2x4",
]
SCHEMES = [
    "per_tensor_affine",
    "per_tensor_symmetric",
    "per_channel_affine",
    "per_channel_symmetric",
    "per_channel_affine_float_qparams",
]
WANTED: dict[str, set[tuple[str, str]]] = {
    "containers": {
        *(("collections", name) for name in ("OrderedDict", "Counter", "defaultdict")),
        *(("builtins", name) for name in ["set", "frozenset", "dict", "list", "tuple", "bytearray", "complex", "slice", "object"]),
        ("_codecs", "encode"), ("copyreg", "_reconstructor"),
    },
    "storages": {
        *((module, f"{kind}Storage") for module in ("torch", "torch.cuda") for kind in STORAGE_KINDS),
        ("torch.storage", "UntypedStorage"), ("torch.storage", "TypedStorage"),
    },
    "rebuilds": {
        *(("torch._utils", name) for name in REBUILDS), ("torch._tensor", "_rebuild_from_type_v2"), ("torch.nn.parameter", "Parameter"),
        ("torch", "Tensor"), ("torch", "Size"), ("torch", "device"), ("torch.serialization", "_get_layout"),
        *((module, f"{kind}Tensor") for module in ("torch", "torch.cuda") for kind in STORAGE_KINDS if not kind.startswith("Q")),
    },
    "dtypes and schemes": {("torch", name) for name in (*DTYPES, *SCHEMES)},
    "numpy": {
        ("numpy", "dtype"), ("numpy", "ndarray"),
        *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
        *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    },
    "distributed": {
        *(("torch.distributed.checkpoint.metadata", name) for name in ["Metadata", "MetadataIndex", "StorageMeta", "TensorProperties", "TensorStorageMetadata", "ChunkStorageMetadata", "BytesStorageMetadata", "_MEM_FORMAT_ENCODING"]),
        ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
        *(("torch.distributed._shard.sharded_tensor.metadata", name) for name in ("MEM_FORMAT_ENCODING", "TensorProperties")),
        *((module, name) for module in ("pathlib", "pathlib._local") for name in ["Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath"]),
    },
    "script": {("torch.jit._pickle", name) for name in ["build_intlist", "build_tensorlist", "build_doublelist", "build_boollist", "restore_type_tag"]},
}  # fmt: skip

VALUES = np.arange(24, dtype=np.float32)
FULL = tensor(stored("FloatStorage", "0", 24), (4, 6))


def _opened(folder: Path, root: Any, more: dict[str, bytes] | None = None) -> OpenCheckpoint:
    (folder / "m.pt").write_bytes(zipped(tf.members(root, {"0": VALUES.tobytes()}, more=more)))
    return open_checkpoint(folder / "m.pt")


def _rows(folder: Path, root: Any) -> dict[str | None, str | None]:
    _opened(folder, root).close()
    return {row.name: row.reason for row in ww_static.describe(folder / "m.pt")}


# the table


@pytest.mark.parametrize("group", WANTED)
def test_a_group_of_the_table_holds_exactly_its_names(group: str) -> None:
    assert set(TABLE) == set(WANTED)
    assert set(TABLE[group]) == WANTED[group]


@pytest.mark.parametrize("group", WANTED)
def test_a_name_is_known_whole_and_nothing_near_it_is(group: str) -> None:
    meaning = TorchMeaning("distributed" if group == "distributed" else "archive")
    for module, name in TABLE[group]:
        assert meaning.known(Global(module, name))
        for other in (
            (module, name + "x"),
            (module, name.swapcase()),
            (module + ".x", name),
            ("x." + module, name),
            (module, f"x.{name}"),
        ):
            assert other in {pair for names in WANTED.values() for pair in names} or not meaning.known(Global(*other)), other


def test_names_of_the_index_are_foreign_elsewhere() -> None:
    for container in ("archive", "script", "stream", "bare"):
        meaning = TorchMeaning(container)
        assert not any(meaning.known(Global(*pair)) for pair in TABLE["distributed"])


def _found(body: bytes) -> set[str]:
    machine = Machine(Source("data.pkl", body), TorchMeaning("archive"), Limits())
    machine.run()
    return {one.category for one in machine.findings}


@pytest.mark.parametrize("module", HARMLESS)
def test_common_classes_are_inert_when_they_are_rebuilt_and_unsafe_when_they_are_called(module: str) -> None:
    for inner in (module, f"{module}.deep.inside"):
        assert _found(pickled(instance(inner, "Thing", {"a": 1}))) == {"unknown_global"}
        assert "unsafe_pickle" in _found(pickled(call(inner, "Thing", 1)))
        assert "unsafe_pickle" in _found(pickled(instance(inner, "thing", {"a": 1}))), "no class is called so"
    assert "unsafe_pickle" in _found(pickled(instance(f"{module}x", "Thing", {"a": 1})))


@pytest.mark.parametrize(
    ("module", "name", "argument"),
    [
        ("datetime", "datetime", b"\x07\xe8\1\1\0\0\0\0\0\0"), ("pathlib", "PosixPath", "a"), ("transformers.trainer_utils", "HubStrategy", "end"),
        ("torch.distributed.checkpoint.metadata", "_MEM_FORMAT_ENCODING", 0), ("torchao.quantization.quant_primitives", "ZeroPointDomain", 1),
    ],
)  # fmt: skip
def test_dates_paths_and_members_of_known_enumerations_are_inert(module: str, name: str, argument: Any) -> None:
    assert _found(pickled(call(module, name, argument))) == {"unknown_global"}
    assert "unsafe_pickle" in _found(pickled(call(module, f"{name}X", argument)))


def test_arrays_and_byte_arrays_of_every_protocol_are_data() -> None:
    array = np.arange(12, dtype="<f4").reshape(3, 4)
    for protocol in range(6):
        for one in (array, np.asfortranarray(array), array.astype(">f8")):
            machine = Machine(Source("pickle", pickle.dumps(one, protocol)), TorchMeaning("bare"), Limits())
            found = machine.run()
            assert isinstance(found, Array)
            assert (found.shape, machine.findings) == ((3, 4), [])
            assert found.data == one.tobytes("F" if found.fortran else "C")
        machine = Machine(Source("pickle", pickle.dumps(bytearray(b"a\xff"), protocol)), TorchMeaning("bare"), Limits())
        assert (machine.run(), machine.findings) == (b"a\xff", [])


# tensors that are made of tensors


def _wrapped(module: str, state: Any) -> Raw:
    layout = call("torch.serialization", "_get_layout", "torch.strided")
    form = (glob(module, "Packed"), glob("torch", "bfloat16"), (4, 6), (6, 1), 0, layout, call("torch", "device", "cpu"), False)
    return call(
        "torch._tensor",
        "_rebuild_from_type_v2",
        glob("torch._utils", "_rebuild_wrapper_subclass"),
        glob(module, "Packed"),
        form,
        state,
    )


def test_inner_tensors_of_a_quantized_class_are_listed_as_codes_and_scales(tmp_path: Path) -> None:
    inner = _wrapped("torchao.dtypes", {"data": FULL})
    root = {"fc.weight": _wrapped("torchao.dtypes", {"impl": inner, "scale": FULL, "block": (1, 32)}), "out.weight": FULL}
    assert _rows(tmp_path, root) == {
        "fc.weight": "quantized", "fc.weight.impl": "quantized", "fc.weight.impl.data": "quant_aux",
        "fc.weight.scale": "quant_aux", "out.weight": None,
    }  # fmt: skip
    with open_checkpoint(tmp_path / "m.pt") as checkpoint:
        assert {one.category for one in checkpoint.findings} == {"unknown_global"}
    assert ww_static.analyze(tmp_path / "m.pt").exit_code == 3


def test_inner_tensors_of_another_class_are_read(tmp_path: Path) -> None:
    root = {"w": _wrapped("torch.distributed.tensor", ({"_local_tensor": FULL}, {"_slot": 1}))}
    assert _rows(tmp_path, root) == {"w": "unsupported_layout", "w._local_tensor": None}
    with open_checkpoint(tmp_path / "m.pt") as checkpoint:
        assert (checkpoint.read(checkpoint.spec("w._local_tensor")) == VALUES.reshape(4, 6)).all()


def test_a_foreign_tensor_class_is_unsafe_and_its_inner_tensors_are_read(tmp_path: Path) -> None:
    with _opened(tmp_path, {"w": _wrapped("evil", {"data": FULL})}) as checkpoint:
        assert "unsafe_pickle" in {one.category for one in checkpoint.findings}
        assert [spec.name for spec in checkpoint.tensors] == ["w", "w.data"]


# what classes say


def _module(module: str, name: str, **tensors: Any) -> Raw:
    return instance(module, name, {"training": False, "_parameters": tensors, "_buffers": {}, "_modules": {}})


def test_classes_of_a_whole_module_say_what_weights_are(tmp_path: Path) -> None:
    kernel = tensor(stored("FloatStorage", "0", 24), (3, 2, 2, 2))
    parts = {
        "0": _module("torch.nn.modules.conv", "Conv2d", weight=kernel, bias=None),
        "1": _module("torch.nn.modules.conv", "ConvTranspose2d", weight=kernel),
        "2": _module("torch.nn.modules.sparse", "Embedding", weight=FULL),
        "3": _module("torch.nn.modules.linear", "Linear", weight=FULL, other=FULL),
        "4": _module("models", "Linear", weight=FULL),
    }
    outer = instance("torch.nn.modules.container", "Sequential", {"_parameters": {}, "_modules": parts})
    with _opened(tmp_path, outer) as checkpoint:
        assert {spec.name: spec.role for spec in checkpoint.tensors} == {
            "0.weight": "conv", "1.weight": "conv_transpose", "2.weight": "embedding", "3.weight": "dense", "3.other": None,
            "4.weight": None,
        }  # fmt: skip
    kinds = {row.name: (row.kind, row.kind_source) for row in ww_static.describe(tmp_path / "m.pt")}
    assert kinds["1.weight"] == ("conv_transpose", "graph")
    assert kinds["2.weight"] == ("embedding", "graph")


def test_recurrent_modules_list_their_parameters_once(tmp_path: Path) -> None:
    held = {"_parameters": {"weight_ih_l0": FULL}, "_flat_weights": [FULL], "_modules": {}}
    with _opened(tmp_path, instance("torch.nn.modules.rnn", "LSTM", held)) as checkpoint:
        assert [spec.name for spec in checkpoint.tensors] == ["weight_ih_l0"]


def test_mangled_classes_of_torchscript_say_what_weights_are(tmp_path: Path) -> None:
    def scripted(name: str, **state: Any) -> Raw:
        return Raw(glob(f"__torch__.{name.rpartition('.')[0]}", name.rpartition(".")[2]) + b")\x81" + op(state) + b"b")

    kernel = tensor(stored("FloatStorage", "0", 24), (3, 4, 2))
    root = scripted(
        "net.___torch_mangle_1.Net",
        up=scripted("torch.nn.modules.conv.___torch_mangle_7.ConvTranspose1d", weight=kernel),
        table=scripted("torch.nn.modules.sparse.Embedding", weight=FULL),
        own=scripted("net.Linear", weight=FULL),
    )
    more = {"code/__torch__.py": b"import os", "constants.pkl": b"\x80\x02)."}
    with _opened(tmp_path, root, more) as checkpoint:
        roles = {spec.name: spec.role for spec in checkpoint.tensors}
        assert roles == {"up.weight": "conv_transpose", "table.weight": "embedding", "own.weight": None}
        assert {one.category for one in checkpoint.findings} == {"embedded_code"}


# averages


@pytest.mark.parametrize(
    "model", ["model", "state_dict", "model_state", "model_state_dict", "module", "net", "generator", "params"]
)
@pytest.mark.parametrize("average", ["ema", "model_ema", "ema_state_dict", "EMA"])
def test_an_average_beside_the_model_is_listed_and_not_analysed(tmp_path: Path, model: str, average: str) -> None:
    root = {average: {"fc.weight": FULL}, model: {"fc.weight": FULL, "ema.weight": FULL}, "epoch": 3}
    rows = _rows(tmp_path, root)
    assert rows == {f"{average}.fc.weight": "ema", f"{model}.fc.weight": None, f"{model}.ema.weight": None}


@pytest.mark.parametrize(
    "root",
    [
        {"ema_state_dict": {"fc.weight": FULL}, "epoch": 3},
        {"model": None, "ema": {"fc.weight": FULL}},
        {"model": {"depth": 3}, "ema": {"fc.weight": FULL}},
        {"schema": {"fc.weight": FULL}, "model": {"fc.weight": FULL}},
        [{"ema": {"fc.weight": FULL}}, {"model": {"fc.weight": FULL}}],
    ],
)
def test_an_average_that_is_the_only_model_is_the_model(tmp_path: Path, root: Any) -> None:
    assert set(_rows(tmp_path, root).values()) == {None}
