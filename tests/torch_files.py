"""Bytes of PyTorch files without torch: opcodes of pickles, zip archives with the members that torch writes."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ww_static.testing import Stored

STORAGES = {
    "F64": "DoubleStorage", "F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage", "I64": "LongStorage",
    "I32": "IntStorage", "I16": "ShortStorage", "I8": "CharStorage", "U8": "ByteStorage", "BOOL": "BoolStorage",
    "C64": "ComplexFloatStorage",
}  # fmt: skip
DTYPES = {
    "U16": "uint16", "U32": "uint32", "U64": "uint64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E8M0": "float8_e8m0fnu",
}  # fmt: skip


class Raw(bytes):
    """Opcodes that leave one object on the stack."""


def glob(module: str, name: str) -> Raw:
    return Raw(f"c{module}\n{name}\n".encode())


def op(value: Any) -> bytes:
    """Opcodes that leave `value` on the stack."""
    if isinstance(value, Raw):
        return value
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        return (
            b"J" + struct.pack("<i", value)
            if -(2**31) <= value < 2**31
            else b"\x8a\x0a" + value.to_bytes(10, "little", signed=True)
        )
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        raw = value.encode("utf-8", "surrogatepass")
        return b"X" + struct.pack("<I", len(raw)) + raw
    if isinstance(value, bytes):
        return b"B" + struct.pack("<I", len(value)) + value
    if isinstance(value, tuple):
        return b"(" + b"".join(map(op, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(op, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(op(key) + op(one) for key, one in value.items()) + b"u"
    raise TypeError(type(value))


def call(module: str, name: str, *arguments: Any) -> Raw:
    return Raw(glob(module, name) + op(arguments) + b"R")


def stored(kind: str, key: str, numel: int, view: Any = "none", module: str = "torch") -> Raw:
    """A persistent identifier of a storage; six parts when a view is given, as in legacy files."""
    parts: tuple[Any, ...] = ("storage", glob(module, kind), key, "cpu", numel)
    return Raw(op(parts if view == "none" else (*parts, view)) + b"Q")


ORDERED = call("collections", "OrderedDict")


def strides_of(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape)))


def tensor(storage: Raw, shape: Sequence[int], strides: Sequence[int] | None = None, offset: int = 0) -> Raw:
    strides = strides_of(shape) if strides is None else tuple(strides)
    return call("torch._utils", "_rebuild_tensor_v2", storage, offset, tuple(shape), strides, False, ORDERED)


def typed(dtype: str, key: str, shape: Sequence[int], nbytes: int, view: Any = "none") -> Raw:
    """A dense tensor of any dtype: by its storage type, else by an argument of the third form."""
    count = int(np.prod(shape, dtype=np.int64))
    if dtype in STORAGES:
        return tensor(stored(STORAGES[dtype], key, count, view), shape)
    storage = stored("UntypedStorage", key, nbytes, view, "torch.storage")
    form = (storage, 0, tuple(shape), strides_of(shape), False, ORDERED, glob("torch", DTYPES[dtype]))
    return call("torch._utils", "_rebuild_tensor_v3", *form)


def pickled(value: Any, protocol: int = 2) -> bytes:
    return b"\x80" + bytes([protocol]) + op(value) + b"."


def zipped(
    members: Mapping[str, bytes], deflated: bool = False, wide: bool = False, crc: Mapping[str, int] | None = None
) -> bytes:
    """A zip archive: payloads aligned to 64 bytes, sizes also after the data (flag bit 3), as torch writes it."""
    body, directory = b"", b""
    for name, data in members.items():
        text, method = name.encode(), 8 if deflated else 0
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        payload = packer.compress(data) + packer.flush() if deflated else data
        sums = (crc or {}).get(name, zlib.crc32(data))
        begin = len(body)
        sizes = (0xFFFFFFFF, 0xFFFFFFFF) if wide else (len(payload), len(data))
        central = struct.pack("<HHQQQ", 1, 24, len(data), len(payload), begin) if wide else b""
        extra = struct.pack("<HHQQ", 1, 16, len(data), 0) if wide else b""  # torch leaves the stored size at 0 there
        padding = b"FB" + struct.pack("<H", -(begin + 34 + len(text) + len(extra)) % 64)
        padding = extra + padding + b"Z" * padding[2]
        body += struct.pack(
            "<4s5H3I2H",
            b"PK\3\4",
            45,
            8,
            method,
            0,
            0,
            0,
            0,
            0,
            len(text),
            len(padding),
        )
        body += text + padding + payload + struct.pack("<4s3I", b"PK\7\x08", sums, len(payload), len(data))
        directory += struct.pack(
            "<4s6H3I5H2I",
            b"PK\1\2",
            45,
            45,
            8,
            method,
            0,
            0,
            sums,
            *sizes,
            len(text),
            len(central),
            0,
            0,
            0,
            0,
            0xFFFFFFFF if wide else begin,
        )
        directory += text + central
    count, place = len(members), len(body)
    if wide:
        end64 = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), place)
        end64 += struct.pack("<4sIQI", b"PK\6\7", 0, place + len(directory), 1)
        end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
        return body + directory + end64 + end
    return body + directory + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(directory), place, 0)


def members(
    root: Any, records: Mapping[str, bytes], order: str = "little", more: Mapping[str, bytes] | None = None
) -> dict[str, bytes]:
    """The members of an archive; `root` is an object, or the whole pickle as bytes."""
    data = root if type(root) is bytes else pickled(root)
    made = {
        "archive/data.pkl": data,
        "archive/byteorder": order.encode(),
        **{f"archive/{key}": one for key, one in (more or {}).items()},
    }
    return made | {f"archive/data/{key}": one for key, one in records.items()} | {"archive/version": b"3\n"}


def big_endian(array: NDArray[Any]) -> bytes:
    width = 4 if array.dtype.kind == "c" else array.dtype.itemsize
    raw = np.frombuffer(array.tobytes(), np.uint8).reshape(-1, width)
    return raw[:, ::-1].tobytes()


def state_dict(tensors: Mapping[str, Stored], view: Any = "none") -> dict[str, Raw]:
    return {
        name: typed(one.dtype, str(place), one.array.shape, one.array.nbytes, view)
        for place, (name, one) in enumerate(tensors.items())
    }


def archive(tensors: Mapping[str, Stored], big: bool = False, deflated: bool = False, wide: bool = False) -> bytes:
    records = {str(place): big_endian(one.array) if big else one.array.tobytes() for place, one in enumerate(tensors.values())}
    return zipped(members(state_dict(tensors), records, "big" if big else "little"), deflated, wide)


def legacy(root: Any, records: Mapping[str, tuple[int, bytes]], big: bool = False) -> bytes:
    """A legacy stream: magic | 1001 | system info | object | keys | per key: elements, values, both little-endian.

    `big` says that the machine was big-endian; torch writes and reads the same bytes there.
    """
    head = (
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
        + pickled(1001)
        + pickled({"protocol_version": 1001, "little_endian": not big})
    )
    head += pickled(root) + pickled(list(records))
    return head + b"".join(struct.pack("<q", count) + raw for count, raw in records.values())


SCALARS = {
    "U8": 1, "I8": 2, "I16": 3, "I32": 4, "I64": 5, "F16": 6, "F32": 7, "F64": 8, "C64": 10, "BOOL": 12, "BF16": 13, "U16": 28,
    "F8_E4M3": 29, "F8_E5M2": 30, "F8_E4M3FNUZ": 31, "F8_E5M2FNUZ": 32, "F8_E8M0": 33, "U32": 34, "U64": 35,
}  # fmt: skip


def payload(
    path: str, dtype: str, shape: Sequence[int], strides: Sequence[int] | None = None, offset: int = 0, **more: Any
) -> dict[str, Any]:
    """An entry of a configuration of torch.export; `more` overrides fields of it."""
    counts = {"sizes": shape, "strides": strides_of(shape) if strides is None else strides}
    described: dict[str, Any] = {field: [{"as_int": count} for count in values] for field, values in counts.items()}
    described |= {"dtype": SCALARS[dtype], "storage_offset": {"as_int": offset}, "layout": 7, "requires_grad": False}
    return {"path_name": path, "is_param": True, "use_pickle": False, "tensor_meta": described, **more}


def exported(
    weights: Mapping[str, Any], records: Mapping[str, bytes], constants: Mapping[str, Any] | None = None, graph: Any = None,
    order: str = "little", more: Mapping[str, bytes] | None = None, model: str = "model",
) -> dict[str, bytes]:  # fmt: skip
    """Members of an archive of torch.export; records are named as in the archive, below data."""
    made = {f"m/data/{name}": one for name, one in records.items()}
    made[f"m/data/weights/{model}_weights_config.json"] = json.dumps({"config": weights}).encode()
    made[f"m/data/constants/{model}_constants_config.json"] = json.dumps({"config": constants or {}}).encode()
    made[f"m/models/{model}.json"] = json.dumps(graph or export_graph({}, [])).encode()
    made |= {"m/archive_format": b"pt2", "m/archive_version": b"0", "m/byteorder": order.encode()}
    return made | {f"m/{name}": one for name, one in (more or {}).items()}


def export_graph(parameters: Mapping[str, str], nodes: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """A graph of torch.export: argument -> name of its parameter; operator and the argument that is its weight."""
    specs = [{"parameter": {"arg": {"name": argument}, "parameter_name": name}} for argument, name in parameters.items()]
    made = [
        {"target": f"torch.ops.aten.{operator}", "inputs": [
            {"name": "input", "arg": {"as_tensor": {"name": "x"}}, "kind": 1},
            {"name": "weight", "arg": {"as_tensor": {"name": argument}}, "kind": 1},
        ]} for operator, argument in nodes
    ]  # fmt: skip
    return {"graph_module": {"graph": {"nodes": made}, "signature": {"input_specs": specs}}}


METADATA = "torch.distributed.checkpoint.metadata"


def instance(module: str, name: str, state: Any) -> Raw:
    return Raw(glob(module, name) + b")\x81" + op(state) + b"b")


def size(shape: Sequence[int]) -> Raw:
    return call("torch", "Size", tuple(shape))


class Distributed:
    """A distributed checkpoint that is put together piece by piece, as torch.distributed.checkpoint writes it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.described: dict[str, Raw] = {}
        self.places: list[tuple[Raw, Raw]] = []

    def put(self, name: str, offsets: Sequence[int] | None, archive: bytes, file: str = "__0_0.distcp", **info: Any) -> None:
        """Appends an archive to a file and notes its place; `info` overrides what is noted."""
        begin = len(self.files.get(file, b""))
        self.files[file] = self.files.get(file, b"") + archive
        index = {"fqn": name, "offset": None if offsets is None else size(offsets), "index": None if offsets is None else 0}
        noted = {"relative_path": file, "offset": begin, "length": len(archive), **info}
        place = instance("torch.distributed.checkpoint.filesystem", "_StorageInfo", noted)
        self.places.append((instance(METADATA, "MetadataIndex", index), place))

    def describe(
        self, name: str, dtype: str, shape: Sequence[int], pieces: Sequence[tuple[Sequence[int], Sequence[int]]]
    ) -> None:
        """Notes what a tensor is, and the offsets and sizes of its chunks."""
        layout = call("torch.serialization", "_get_layout", "torch.strided")
        known = TORCH_NAMES.get(dtype) or DTYPES[dtype]
        form = (glob("torch", known), layout, False, call(METADATA, "_MEM_FORMAT_ENCODING", 0), False)
        chunks = [
            instance(METADATA, "ChunkStorageMetadata", {"offsets": size(begin), "sizes": size(one)}) for begin, one in pieces
        ]
        state = {"properties": instance(METADATA, "TensorProperties", form), "size": size(shape), "chunks": chunks}
        self.described[name] = instance(METADATA, "TensorStorageMetadata", state)

    def add(
        self, name: str, dtype: str, array: NDArray[Any], cuts: Sequence[tuple[str, tuple[slice, ...]]] | None = None
    ) -> None:
        """A tensor: one chunk, or one for each file and window."""
        pieces = []
        for file, window in cuts or [("__0_0.distcp", (slice(None),) * array.ndim)]:
            ranges = [range(*cut.indices(count)) for cut, count in zip(window, array.shape, strict=True)]
            offsets, part = [steps.start for steps in ranges], array[window]
            pieces.append((offsets, part.shape))
            held = Stored(dtype, part)
            self.put(
                name, offsets, zipped(members(typed(dtype, "0", part.shape, part.nbytes), {"0": held.array.tobytes()})), file
            )
        self.describe(name, dtype, array.shape, pieces)

    def add_object(self, name: str, root: Any, records: Mapping[str, bytes] | None = None) -> None:
        """An object that is no tensor."""
        self.put(name, None, zipped(members(root, records or {})))
        self.described[name] = instance(METADATA, "BytesStorageMetadata", {})

    def index(self, **more: Any) -> bytes:
        """The file `.metadata`; `more` overrides fields of it."""
        place = call("pathlib", "PosixPath", "step-100")
        meta = instance(METADATA, "StorageMeta", {"checkpoint_id": place, "save_id": "7", "modules": []})
        stored = Raw(b"}(" + b"".join(key + value for key, value in self.places) + b"u")
        fields: dict[str, Any] = {"state_dict_metadata": self.described, "planner_data": {}, "storage_data": stored}
        return pickled(instance(METADATA, "Metadata", {**fields, "storage_meta": meta, "version": "1.0.0", **more}), 4)

    def write(self, folder: Path) -> Path:
        """Writes everything and returns the path of the index."""
        for file, data in self.files.items():
            (folder / file).write_bytes(data)
        (folder / ".metadata").write_bytes(self.index())
        return folder / ".metadata"


TORCH_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32", "I16": "int16",
    "I8": "int8", "U8": "uint8", "BOOL": "bool", "C64": "complex64",
}  # fmt: skip
