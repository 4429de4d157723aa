"""The ONNX reader: the reader suite, the package onnx as oracle, the rules of protobuf, limits, size."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import ww_static
from onnx_support import (
    TYPES,
    bytes_model,
    external,
    field,
    fits,
    floats,
    model_of,
    named,
    opened,
    packed_bytes,
    raw_tensor,
    save,
    typed_tensor,
    varint,
)
from ww_static import dtypes
from ww_static.errors import FormatError, LimitError
from ww_static.protocol import Limits
from ww_static.seam import open_checkpoint
from ww_static.testing import ReaderSuite, Stored
from ww_static_readers import onnx as reader


class _Onnx(ReaderSuite):
    reader = reader
    names = ("w", "layer.0.weight", "../../up;x", "модель/%s{0}\n\x1b[31m")
    claims = ("onnx",)


class TestRawOnnx(_Onnx):
    """The contract, for every storage dtype, as raw data."""

    dtypes = tuple(TYPES)

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        return save(folder / "m.onnx", model_of([], [raw_tensor(name, stored) for name, stored in tensors.items()]))


class TestTypedOnnx(_Onnx):
    """The same in typed fields: packed numbers, varints. Floats come first: they lie flat."""

    dtypes = tuple(TYPES)

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        return save(folder / "m.onnx", model_of([], [typed_tensor(name, stored) for name, stored in tensors.items()]))


class TestVarintOnnx(TestTypedOnnx):
    """Varints, of several pieces each, and the memory of windows of them."""

    dtypes = ("F16", "BOOL", "I8")
    large_shape = (8192, 64)
    shapes = ((3, 20, 40), (200, 60), (7,), ())


class TestConstantOnnx(_Onnx):
    """The same in Constant nodes."""

    dtypes = ("BF16", "INT4")

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        nodes = [helper.make_node("Constant", [], [name], value=raw_tensor("", stored)) for name, stored in tensors.items()]
        return save(folder / "m.onnx", model_of(nodes))


class TestExternalOnnx(_Onnx):
    """The same with values in two other files."""

    dtypes = ("F32", "UINT4")

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        protos = []
        (folder / "sub").mkdir(exist_ok=True)
        data = {"a.bin": b"pad", "sub/b.bin": b""}
        for number, (name, stored) in enumerate(tensors.items()):
            file = sorted(data)[number % 2]
            raw = packed_bytes(stored)
            keys = {"location": file, "offset": len(data[file]), "length": len(raw)}
            protos.append(external(name, TYPES[stored.dtype], stored.array.shape, keys))
            data[file] += raw
        for file, content in data.items():
            (folder / file).write_bytes(content or b"\0")
        return save(folder / "m.onnx", model_of([], protos))


# the package onnx as oracle


@pytest.mark.parametrize("seed", range(20))
def test_random_models_give_the_values_that_the_package_gives(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    tensors = []
    for number in range(int(random.integers(1, 12))):
        dtype = list(TYPES)[int(random.integers(len(TYPES)))]
        shape = tuple(int(size) for size in random.integers(0, 7, int(random.integers(0, 5))))
        size = int(np.prod(shape, dtype=np.int64))
        stored = dtypes.numpy_dtype(dtype)
        codes = random.integers(0, 16 if dtypes.DTYPES[dtype].packed else 2, size * stored.itemsize).astype(np.uint8)
        codes = codes if dtypes.DTYPES[dtype].packed or dtype == "BOOL" else np.frombuffer(random.bytes(codes.size), np.uint8)
        write = (raw_tensor, typed_tensor)[int(random.integers(2))]
        tensors.append(write(f"t{number}", Stored(dtype, codes.view(stored).reshape(shape))))
    path = save(tmp_path / "m.onnx", model_of([], tensors))
    with open_checkpoint(path) as checkpoint:
        assert [spec.name for spec in checkpoint.tensors] == [one.name for one in tensors]
        for one in onnx.load(path).graph.initializer:
            spec = checkpoint.spec(one.name)
            expected = numpy_helper.to_array(one)
            assert spec.shape == expected.shape
            if dtypes.DTYPES[spec.dtype].family == "complex":
                np.testing.assert_array_equal(checkpoint.read(spec), expected)
                continue
            with np.errstate(invalid="ignore"):
                np.testing.assert_array_equal(ww_static.widen(checkpoint.read(spec), spec.dtype), expected.astype(np.float64))


# protobuf rules


_VALUES = np.array([1.5, -2.0, 3.0, 4.0], "<f4")
_HEAD = b"\x08\x02\x08\x02" + b"\x10\x01" + field(8, b"w")


@pytest.mark.parametrize(
    "tensor",
    [
        _HEAD + field(9, _VALUES.tobytes()),
        field(1, b"\x02") + b"\x08\x02" + b"\x10\x01" + field(8, b"w") + field(4, _VALUES.tobytes()),
        _HEAD + b"".join(b"\x25" + one.tobytes() for one in _VALUES),
        _HEAD + field(4, _VALUES[:1].tobytes()) + b"\x25" + _VALUES[1:2].tobytes() + field(4, _VALUES[2:].tobytes()),
        _HEAD + field(9, b"gone") + field(9, _VALUES.tobytes()),
        b"\x10\x63" + field(8, b"v") + _HEAD + field(9, _VALUES.tobytes()) + field(99, b"?") + b"\xf8\x06\x01",
        b"\x08\x82\x80\x80\x00\x08\x02\x10\x01" + field(8, b"w") + field(9, _VALUES.tobytes()),
    ],
    ids=["raw", "packed dims", "one by one", "mixed", "raw twice", "last scalar and unknown fields", "long varint"],
)
def test_forms_of_one_tensor_are_read_alike(tmp_path: Path, tensor: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(bytes_model(tensor))
    expected = numpy_helper.to_array(onnx.load(tmp_path / "m.onnx").graph.initializer[0])
    with open_checkpoint(tmp_path / "m.onnx") as checkpoint:
        np.testing.assert_array_equal(checkpoint.read(checkpoint.spec("w")), expected, strict=True)


def test_unpacked_varints_are_read(tmp_path: Path) -> None:
    numbers = [0, 1, 300, -5] * 3000
    body = b"\x08" + varint(len(numbers)) + b"\x10\x06" + field(8, b"w")
    body += b"".join(b"\x28" + varint(number % 2**64) for number in numbers)
    (tmp_path / "m.onnx").write_bytes(bytes_model(body))
    with open_checkpoint(tmp_path / "m.onnx") as checkpoint:
        assert checkpoint.read(checkpoint.spec("w")).tolist() == numbers
        assert checkpoint.read(checkpoint.spec("w"), (slice(-1, None, -4000),)).tolist() == numbers[::-1][::4000]


def test_a_graph_that_comes_twice_is_one_graph(tmp_path: Path) -> None:
    parts = [field(7, field(5, named(name, floats(3, 3)).SerializeToString())) for name in "ab"]
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08" + b"".join(parts))
    with open_checkpoint(tmp_path / "m.onnx") as checkpoint:
        assert [spec.name for spec in checkpoint.tensors] == ["a", "b"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x08\x08\x3a" + b"\xff" * 10 + b"\x01", "bad_header: byte 3: a number has more than 10 bytes"),
        (b"\x08\x08\x3a\x20abc", "truncated: byte 2: field 7 ends at byte 36, what it is part of at 7"),
        (b"\x08\x08" + field(7, field(5, b"\x42\x7fw")), "truncated: byte 6: field 8 ends at byte 135"),
        (b"\x08\x08\x3b\x3c", "bad_header: byte 2: field 7 of wire type 3 is not allowed"),
        (b"\x08\x08\x02\x00", "bad_header: byte 2: field 0 of wire type 2 is not allowed"),
        (b"\x08\x08\x3a\x80", "truncated: byte 3: a number does not end"),
        (b"\x08\x08" + field(2, b"x"), "bad_header: model: has no graph"),
        (bytes_model(field(8, b"\xff\xfe")), "bad_header: byte .*: a name is not UTF-8"),
        (bytes_model(b"\x08" + b"\xff" * 9 + b"\x01\x10\x01" + field(8, b"w")), "dimension -1 is not a count"),
        (bytes_model(_HEAD + field(9, bytes(16)) + field(4, bytes(16))), "bad_header: tensor 'w': has values in two places"),
        (bytes_model(_HEAD + field(10, bytes(32))), "bad_header: tensor 'w': values of F32 are in the field for doubles"),
        (bytes_model(_HEAD), "size_mismatch: tensor 'w': 0 bytes for 16 needed by its shape"),
        (bytes_model(_HEAD + field(4, bytes(12))), "size_mismatch: tensor 'w': 12 bytes for 16"),
        (bytes_model(_HEAD + field(4, bytes(3)) + field(4, bytes(13))), "size_mismatch: tensor 'w': 16 bytes of typed data"),
        (bytes_model(_HEAD + b"\x10\x06" + field(5, bytes(3))), "size_mismatch: tensor 'w': 3 bytes of typed data for 4 numbers"),
        (bytes_model(_HEAD + b"\x10\x63"), "unknown_dtype: tensor 'w': data type 99 is not known"),
        (bytes_model(_HEAD + b"\x70\x07" + field(9, bytes(16))), "bad_header: tensor 'w': data location 7 is not known"),
    ],
)  # fmt: skip
def test_malformed_files_are_refused(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(FormatError, match=words):
        open_checkpoint(tmp_path / "m.onnx")


def test_wrong_counts_of_varints_show_when_they_are_read(tmp_path: Path) -> None:
    for payload, words in ((b"\x01\x02\x03\x80\x01\x05", "size_mismatch"), (b"\x01\x02\x03\x84", "corrupt")):
        (tmp_path / "m.onnx").write_bytes(bytes_model(_HEAD + b"\x10\x06" + field(5, payload)))
        with open_checkpoint(tmp_path / "m.onnx") as checkpoint, pytest.raises(FormatError, match=f"{words}: tensor 'w'"):
            checkpoint.read(checkpoint.spec("w"))


def test_a_foreign_file_that_is_called_onnx_is_told_what_is_wrong(tmp_path: Path) -> None:
    for data in (b"hello, world", os.urandom(64).replace(b"\x08", b"\x0f")):
        (tmp_path / "m.onnx").write_bytes(b"\x0f" + data)
        with pytest.raises(FormatError, match="bad_header"):
            open_checkpoint(tmp_path / "m.onnx")


# limits


def test_limit_protobuf_depth(tmp_path: Path) -> None:
    graph = helper.make_graph([], "g", [], [], [named("w", floats(2, 2))])
    model = helper.make_model(
        helper.make_graph([helper.make_node("If", ["c"], ["y"], name="n", then_branch=graph)], "m", [], [])
    )
    opened(tmp_path, model, Limits(protobuf_depth=5)).close()  # graph, node, attribute, graph, initializer
    with pytest.raises(LimitError, match=r"limit: byte .*: 5 messages inside each other, limit 4"):
        opened(tmp_path, model, Limits(protobuf_depth=4))


def test_limit_protobuf_fields(tmp_path: Path) -> None:
    model = model_of([], [named("w", floats(2, 2))])
    most = next(count for count in range(99) if fits(tmp_path, model, Limits(protobuf_fields=count)))
    assert 5 < most < 30
    with pytest.raises(LimitError, match=f"limit: model: more than {most - 1} fields"):
        opened(tmp_path, model, Limits(protobuf_fields=most - 1))


def test_limits_of_names_files_tensors_and_axes(tmp_path: Path) -> None:
    model = model_of([], [named("a" * 50, floats(2, 2)), named("b" * 50, floats(2, 2, 2))])
    assert fits(tmp_path, model, Limits(header_bytes=200))
    assert not fits(tmp_path, model, Limits(header_bytes=99))
    assert not fits(tmp_path, model, Limits(tensors=1))
    assert not fits(tmp_path, model, Limits(rank=2))
    for name in "ab":
        (tmp_path / name).write_bytes(bytes(16))
    outside = model_of([], [external(name, 1, (2, 2), {"location": name}) for name in "ab"])
    assert fits(tmp_path, outside, Limits(parts=2))
    assert not fits(tmp_path, outside, Limits(parts=1))


def test_scopes_of_long_names_do_not_multiply(tmp_path: Path) -> None:
    inner = helper.make_graph([], "g", [], [], [named(f"t{n}", np.zeros(1)) for n in range(200)])
    for depth in range(20):
        node = helper.make_node("If", ["c"], ["y"], name=f"{depth}" * 100, then_branch=inner)
        inner = helper.make_graph([node], "g", [], [])
    path = save(tmp_path / "m.onnx", helper.make_model(inner))
    with pytest.raises(LimitError, match="limit: names: more than 100000 characters of scoped names"):
        open_checkpoint(path, Limits(header_bytes=100_000))


# size


def test_a_file_of_3_gibibytes_opens_small(tmp_path: Path) -> None:
    path = tmp_path / "big.onnx"
    rows, columns = 3 * 2**13, 2**15
    size = 4 * rows * columns
    head = b"\x08" + varint(rows) + b"\x08" + varint(columns) + b"\x10\x01" + field(8, b"w") + b"\x4a" + varint(size)
    tensor = b"\x2a" + varint(len(head) + size) + head
    graph = b"\x08\x08\x3a" + varint(len(tensor) + size) + tensor
    with path.open("wb") as stream:
        stream.write(graph)
        stream.truncate(len(graph) + size)
    assert path.stat().st_size > 2**31
    tracemalloc.start()
    with open_checkpoint(path) as checkpoint:
        last = checkpoint.read(checkpoint.spec("w"), (slice(-1, None), slice(-4, None)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert last.tolist() == [[0.0] * 4]
    assert peak < 2**20
    assert [row.name for row in ww_static.describe(path)] == ["w"]
