"""The walk over ONNX files: tensors that are read in one step are those that the walk itself finds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from onnx_support import bytes_model, external, field, floats, model_of, named, raw_tensor, typed_tensor, varint
from ww_static import storage
from ww_static.errors import FormatError
from ww_static.protocol import Limits
from ww_static.testing import Stored
from ww_static_readers import _onnx_wire as wire


def outcome(folder: Path, raw: bytes, limits: Limits | None = None) -> wire.Model | tuple[str, str, str]:
    path = folder / "m.onnx"
    path.write_bytes(raw)
    descriptor = storage.open_file(path)
    try:
        return wire.parse(descriptor, len(raw), limits or Limits())
    except FormatError as error:
        return error.category, error.where, error.problem
    finally:
        os.close(descriptor)


def both(folder: Path, raw: bytes, limits: Limits | None = None) -> list[wire.Model | tuple[str, str, str]]:
    """What the walk says with tensors in one step, and without."""
    found = [outcome(folder, raw, limits)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(wire, "_PLAIN", 0)  # no tensor is plain
        found.append(outcome(folder, raw, limits))
    return found


def varied() -> bytes:
    """Tensors of many forms: long payloads and names, several dimensions, none, typed values, external data."""
    tensors = [
        raw_tensor("plain.weight", Stored("F32", floats(3, 4))),
        raw_tensor("long." + "n" * 600, Stored("F32", floats(2, 2))),
        raw_tensor("wide.weight", Stored("F32", floats(300, 70))),
        raw_tensor("", Stored("F64", np.ones((2, 3)))),
        raw_tensor("scalar", Stored("F32", np.ones((), np.float32))),
        raw_tensor("empty", Stored("F32", np.ones((0, 4), np.float32))),
        typed_tensor("typed", Stored("F32", floats(9, 4))),
        typed_tensor("half", Stored("F16", floats(3, 4).astype(np.float16))),
        external("outside", TensorProto.FLOAT, (4, 4), {"location": "data.bin", "offset": 0, "length": 64}),
        raw_tensor("имя", Stored("I64", np.arange(5))),
    ]
    return bytes(model_of([], [*tensors, named("last", floats(5, 5))]).SerializeToString())


def test_tensors_in_one_step_are_those_of_the_walk(tmp_path: Path) -> None:
    quick, slow = both(tmp_path, varied())
    assert quick == slow
    assert isinstance(quick, wire.Model)
    assert quick.graph is not None
    assert len(quick.graph.initializers) == 11


@pytest.mark.parametrize(
    "tensor",
    [
        field(8, b"w") + b"\x08\x02\x08\x03\x10\x01" + field(9, bytes(24)),
        field(1, b"\x02\x03") + b"\x10\x01" + field(8, b"w") + field(9, bytes(24)),
        b"\x08\x06\x10\x01" + field(9, bytes(24)) + field(8, b"w"),
        b"\x08\x06\x10\x01" + field(8, b"w") + field(8, b"v") + field(9, bytes(24)),
        b"\x08\x06\x10\x01" + field(8, b"w") + field(9, bytes(8)) + field(9, bytes(24)),
        b"\x08\x06\x10\x01" + field(8, b"w") + field(9, bytes(24)) + field(4, bytes(24)),
        b"\x08\x06\x10\x01\x10\x0b" + field(8, b"w") + field(9, bytes(48)),
        b"\x08\x86\x80\x80\x00\x10\x01" + field(8, b"w") + field(9, bytes(24)),
        b"\x08" + varint(2**63 - 1) + b"\x10\x01" + field(8, b"w"),
        b"\x08" + varint(2**64 - 1) + b"\x10\x01" + field(8, b"w"),
        b"\x08\x06\x10\x01" + field(8, b"\xff\xfe") + field(9, bytes(24)),
        b"\x08\x06\x10\x01" + field(12, b"a note") + field(8, b"w") + field(9, bytes(24)),
        b"\x08\x06\x10\x01" + field(8, b"w") + b"\x4a\x40" + bytes(24),
        b"\x08\x06\x10\x01" + field(8, b"w") + field(9, bytes(24)) + b"\x08",
        b"\x08\x06\x10\x01\x42\x20w",
        b"\x08\x06\x0d\x01\x00\x00\x00" + field(8, b"w") + field(9, bytes(24)),
        b"\x0b\x0c" + field(8, b"w"),
        b"",
    ],
    ids=range(18),
)  # fmt: skip
def test_forms_that_are_not_plain_are_left_to_the_walk(tmp_path: Path, tensor: bytes) -> None:
    quick, slow = both(tmp_path, bytes_model(tensor) + field(2, b"after"))
    assert quick == slow


def test_plain_tensors_cost_the_walk_one_field_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    original = wire._Walk._field

    def counted(self: wire._Walk, *arguments: Any) -> None:
        looked.append(1)
        original(self, *arguments)

    monkeypatch.setattr(wire._Walk, "_field", counted)
    assert isinstance(outcome(tmp_path, small()), wire.Model)
    assert len(looked) < 2 * 8


def small() -> bytes:
    """A few tensors that are nearly all skeleton."""
    return bytes(model_of([], [named(f"layer.{number}.weight", floats(2, 1)) for number in range(8)]).SerializeToString())


def test_damaged_tensors_are_refused_in_the_same_words(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    sound, refused = small(), 0
    for _ in range(400):
        raw = bytearray(sound)
        for place in rng.integers(0, len(raw), 2):
            raw[place] = rng.integers(0, 256)
        quick, slow = both(tmp_path, bytes(raw))
        assert quick == slow
        refused += isinstance(quick, tuple)
    assert 50 < refused < 400


def test_cut_files_are_refused_in_the_same_words(tmp_path: Path) -> None:
    sound = small()
    for size in range(len(sound)):
        quick, slow = both(tmp_path, sound[:size])
        assert quick == slow


@pytest.mark.parametrize("most", range(2, 60, 3))
def test_the_fields_of_a_tensor_in_one_step_are_counted(tmp_path: Path, most: int) -> None:
    quick, slow = both(tmp_path, varied(), Limits(protobuf_fields=most))
    assert quick == slow


@pytest.mark.parametrize("most", [3, 12, 200, 620, 700])
def test_the_names_of_tensors_in_one_step_are_counted(tmp_path: Path, most: int) -> None:
    quick, slow = both(tmp_path, varied(), Limits(header_bytes=most))
    assert quick == slow
