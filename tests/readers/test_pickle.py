"""The pickle interpreter: every hazard of an opcode has a bounded answer, and what a file would call is found."""

from __future__ import annotations

import pickle
import struct
import tracemalloc
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from torch_files import Raw, call, glob, op, pickled, stored, tensor
from ww_static.errors import FormatError
from ww_static.protocol import Limits
from ww_static_readers._pickle import Machine
from ww_static_readers._pickle_nodes import Global, Opaque
from ww_static_readers._source import Source
from ww_static_readers._torch_names import TorchMeaning
from ww_static_readers._torch_values import Storage
from ww_static_readers._tree import named_tensors


def _machine(body: bytes, limits: Limits | None = None) -> Machine:
    return Machine(Source("data.pkl", body), TorchMeaning("archive"), limits or Limits())


def _run(body: bytes) -> Any:
    return _machine(body).run()


def _found(body: bytes) -> list[str]:
    machine = _machine(body)
    machine.run()
    return sorted({one.category for one in machine.findings})


def _refused(body: bytes, match: str) -> None:
    with pytest.raises(FormatError, match=match):
        _run(body)


SAMPLES = [
    None, True, False, 0, 1, -1, 255, 256, 65_536, -(2**31), 2**31, 2**70, -(2**70), 1.5, -0.0, 1e300, "", "text", "caf\u00e9 \U0001f600\n\\",
    b"", b"bytes\x00\xff", (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1, [2, "a"]], {}, {"a": 1, 2: {"b": None}, (1, "x"): 3.0},
    "x" * 300, b"y" * 300, list(range(1500)), {str(i): i for i in range(1500)}, bytearray(b"array"),
]  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_of_every_protocol_comes_out_as_it_went_in(protocol: int) -> None:
    for sample in SAMPLES:
        if isinstance(sample, bytearray) and protocol < 5:
            continue  # older protocols call bytearray
        if isinstance(sample, bytes) and not sample and protocol < 3:
            continue  # older protocols call bytes
        assert _run(pickle.dumps(sample, protocol)) == sample
        assert _found(pickle.dumps(sample, protocol)) == []


def test_the_same_object_stays_the_same() -> None:
    shared = [1]
    found = _run(pickle.dumps([shared, shared], 4))
    assert found[0] is found[1]
    loop: list[Any] = []
    loop.append(loop)
    found = _run(pickle.dumps(loop, 2))
    assert found[0] is found


# names


@pytest.mark.parametrize(
    "body",
    [
        op(("x",)).join([glob("posix", "system"), b"R"]),
        glob("logging", "Logger") + b")\x81",
        glob("logging", "Logger") + b")}\x92",
        b"(" + glob("posix", "system") + op("x") + b"o",
        b"(" + op("x") + b"iposix\nsystem\n",
        op("posix") + op("system") + b"\x93" + op(("x",)) + b"R",
        call("builtins", "getattr", glob("os", "path"), "x"),
        call("__builtin__", "eval", "1"),
        call("torch", "serialization.os.system", "x"),
        call("torch._utils", "_rebuild_tensor_v2.__call__", "x"),
        call("\u0442orch", "Size", (1,)),
        glob("posix", "system\r") + op(("x",)) + b"R",
        call("collections", "defaultdict", glob("os", "system")),
        call("torch._tensor", "_rebuild_from_type_v2", glob("os", "system"), glob("torch", "Tensor"), ("x",), {}),
        call("copyreg", "_reconstructor", glob("logging", "Logger"), glob("builtins", "object"), None),
        call("torch.nn.modules.linear", "Linear", 1, 2),
        glob("torch.nn.modules.linear", "os.system") + b")\x81",
        glob("collections", "OrderedDict") + b")R" + op({"__setstate__": glob("posix", "system")}) + b"b",
        glob("collections", "OrderedDict") + op({"fromkeys": 1}) + b"b",
        glob("argparse", "Namespace") + b")\x81" + op({"append": glob("os", "system")}) + b"b",
    ],
)  # fmt: skip
def test_what_a_pickle_would_call_is_unsafe_and_nothing_is_called(body: bytes) -> None:
    assert "unsafe_pickle" in _found(b"\x80\x04" + body + b".")


def test_a_name_that_is_only_mentioned_is_unknown() -> None:
    assert _found(pickled({"f": glob("torch.nn.functional", "relu")})) == ["unknown_global"]
    assert _found(pickled(Raw(glob("argparse", "Namespace") + b")\x81" + op({"lr": 0.1}) + b"b"))) == ["unknown_global"]
    assert _found(pickled(call("pathlib", "PosixPath", "a", "b"))) == ["unknown_global"]


def test_names_of_the_table_give_no_finding() -> None:
    for value in (
        glob("torch", "float32"), call("torch", "Size", (1, 2)), call("torch", "device", "cuda", 0), call("__builtin__", "set", [1, 2]),
        call("collections", "OrderedDict", [["a", 1]]), call("_codecs", "encode", "\xff", "latin1"), glob("torch", "FloatStorage"),
        call("collections", "Counter", {"a": 1}), call("collections", "defaultdict", glob("__builtin__", "list")),
    ):  # fmt: skip
        assert _found(pickled(value)) == [], value
    assert _run(pickled(call("_codecs", "encode", "\xff", "latin1"))) == b"\xff"
    assert _run(pickled(Raw(glob("torch", "Size") + op([[1, 2]]) + b"R"))) == (1, 2)
    assert _run(pickled(call("collections", "OrderedDict", [["a", 1]]))) == {"a": 1}


def test_a_malicious_call_before_garbage_is_unsafe() -> None:
    bad = glob("posix", "system") + op(("x",)) + b"R0"
    for rest in (b"\xff", b"", b"00", b"\x8b\xff\xff\xff\xff", op(("y",)) + b"Q."):
        _refused(b"\x80\x02" + bad + rest, r"unsafe_pickle: data.pkl: calls 'posix.system', which can run code; then \w+")


def test_a_million_findings_are_a_hundred() -> None:
    body = b"".join(glob("a", f"b{number}") + b"0" for number in range(5000)) + call("os", "system", "x")
    machine = _machine(b"\x80\x02" + body + b".")
    machine.run()
    assert len(machine.findings) <= 101
    assert "unsafe_pickle" in {one.category for one in machine.findings}


# opcodes


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (b"\x80\x06.", "bad_header: data.pkl: protocol 6, the highest known is 5"),
        (b"\xff.", "bad_header: data.pkl: opcode 0xff is not known"),
        (b"0.", "bad_header"), (b".", "bad_header"), (b"(.", "bad_header"), (b"Nt.", "bad_header: .*no mark"), (b"NR.", "bad_header"),
        (b"N(R.", "bad_header"), (b"}NNN(NNu.", "bad_header"), (b"}(Nu.", "bad_header: .*a key has no value"), (b"NNNs.", "bad_header"),
        (b"NNa.", "bad_header"), (b"q\x00.", "bad_header"), (b"h\x07.", "bad_header: .*memo index 7 was never set"),
        (b"N)R.", "bad_header: .*calls a NoneType"), (b"ctorch\nSize\nNR.", "bad_header"), (b"", "truncated: .*without STOP"), (b"N", "truncated"),
        (b"X\xff\xff\xff\xffab.", "truncated: data.pkl: a text of 4294967295 bytes, 3 are left"),
        (b"\x8d" + b"\xff" * 8 + b".", "truncated"), (b"\x8e" + struct.pack("<Q", 2**33) + b".", "truncated"),
        (b"\x96" + struct.pack("<Q", 2**35) + b".", "truncated"), (b"T\xff\xff\xff\xff.", "bad_header: .*a text of -1 bytes"),
        (b"\x8b\xff\xff\xff\xff.", "bad_header: .*a number of -1 bytes"), (b"\x8b\xff\xff\xff\x7f.", "truncated"),
        (b"\x95" + b"\xff" * 8 + b".", "truncated: .*a frame of"), (b"I12x\n.", "bad_header: .*is not a number"), (b"I1_0\n.", "bad_header"),
        (b"F1e\n.", "bad_header"), (b"F" + b"nano\n.", "bad_header"), (b"Sabc\n.", "bad_header: .*not quoted"), (b"S'\\x'\n.", "bad_header: .*escape"),
        (b"V\\ud\n.", "bad_header: .*escape"), (b"X\x01\x00\x00\x00\xff.", "bad_header: .*not UTF-8"), (b"c\xff\n\xff\n.", "bad_header"),
        (b"P1\n.", "bad_header: .*a line of text"), (b"\x97.", "bad_header: .*from outside"), (b"N\x98.", "bad_header"), (b"NQ.", "bad_header"),
        (b"\x82\x01.", "unsafe_pickle: .*extension registry"), (b"\x83\x01\x00.", "unsafe_pickle"), (b"\x84\x01\x00\x00\x00.", "unsafe_pickle"),
        (op(b"os") + op("system") + b"\x93.", "unsafe_pickle: .*is computed"), (b"(o.", "bad_header"), (b"cab.", "truncated"),
    ],
)  # fmt: skip
def test_broken_opcodes_are_refused(body: bytes, match: str) -> None:
    _refused(body, match)


@pytest.mark.parametrize(
    "identifier",
    [
        ("storage", glob("torch", "FloatStorage"), "0", "cpu"),
        ("module", glob("torch", "FloatStorage"), "0", "cpu", 1),
        ("storage", "FloatStorage", "0", "cpu", 1),
        ("storage", glob("torch", "FloatStorage"), 0, "cpu", 1),
        ("storage", glob("torch", "FloatStorage"), "0", "cpu", -1),
        ("storage", glob("torch", "FloatStorage"), "0", "cpu", True),
        ("storage", glob("torch", "FloatStorage"), "0", "cpu", 4, ("v", 3, 2)),
        ("storage", glob("torch", "FloatStorage"), "0", "cpu", 4, ("v", -1, 2)),
    ],
)
def test_persistent_identifiers_are_checked(identifier: tuple[Any, ...]) -> None:
    _refused(pickled(Raw(op(identifier) + b"Q")), "bad_header")


def test_a_storage_is_known_by_its_key_and_the_place_is_ignored() -> None:
    found = _run(pickled(stored("HalfStorage", "../../etc/passwd", 7, module="torch.cuda")))
    assert isinstance(found, Storage)
    assert (found.key, found.numel, found.element.dtype) == ("../../etc/passwd", 7, "F16")


def test_the_source_of_a_class_in_an_old_file_is_a_finding() -> None:
    identifier = ("module", glob("models", "Net"), "net.py", "import os")
    assert _found(pickled(Raw(op(identifier) + b"Q"))) == ["embedded_code", "unknown_global"]


def test_an_opcode_that_crosses_its_frame_is_a_finding() -> None:
    assert _found(b"\x80\x04\x95" + struct.pack("<Q", 3) + op("abc") + b"0N.") == ["bad_header"]
    assert _found(b"\x80\x04\x95" + struct.pack("<Q", 8) + op("abc") + b"0N.") == []


# cost


def test_keys_of_shared_tuples_are_never_hashed() -> None:
    levels = (b"h" + bytes([level]) + b"h" + bytes([level]) + b"\x86q" + bytes([level + 1]) + b"0" for level in range(40))
    body = b"\x80\x02})q\x000" + b"".join(levels) + b"h\x28Ns."
    found = _run(body)
    assert len(found) == 1


@pytest.mark.parametrize(
    "body", [b"]" * 300_000 + b"a" * 299_999, b")" + b"\x85" * 300_000, b"}" + b"N}" * 200_000 + b"s" * 200_000]
)
def test_deep_containers_are_made_and_freed_without_recursion(body: bytes) -> None:
    found = _run(b"\x80\x02" + body + b".")
    del found


def test_lengths_cost_no_memory() -> None:
    tracemalloc.start()
    for head in (b"\x8e", b"\x96", b"\x8d", b"\x95"):
        _refused(head + struct.pack("<Q", 2**40) + b".", "truncated")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_half_a_million_opcodes_are_within_the_limit() -> None:
    assert _run(b"\x80\x02" + b"K\x010" * 250_000 + b"N.") is None


def test_placeholders_know_their_names() -> None:
    found = _run(pickled(Raw(glob("argparse", "Namespace") + b")\x81")))
    assert isinstance(found, Opaque)
    assert isinstance(found.kind, Global)
    assert str(found.kind) == "argparse.Namespace"


def test_damaged_pickles_raise_format_errors_and_nothing_else() -> None:
    generator = np.random.default_rng(5)
    tensor_call = tensor(stored("FloatStorage", "0", 24), (4, 6))
    layout = call("torch.serialization", "_get_layout", "torch.sparse_coo")
    values = [
        {"w": tensor_call, "p": call("torch._utils", "_rebuild_parameter", tensor_call, True, {})},
        call("torch._utils", "_rebuild_sparse_tensor", layout, (tensor_call, tensor_call, call("torch", "Size", (5, 6)))),
        call("torch._utils", "_rebuild_qtensor", stored("QInt8Storage", "0", 6), 0, (6,), (1,), (glob("torch", "per_tensor_affine"), 0.1, 3), 1, {}),
        Raw(call("numpy.core.multiarray", "_reconstruct", glob("numpy", "ndarray"), (0,), b"b") + op((1, (2,), call("numpy", "dtype", "f4"), False, b"12345678")) + b"b"),
        call("torch._tensor", "_rebuild_from_type_v2", glob("torch._utils", "_rebuild_tensor_v2"), glob("torch", "Tensor"), (1, 2), {}),
        call("torch._utils", "_rebuild_wrapper_subclass", glob("a", "B"), glob("torch", "float32"), (2, 2), (2, 1), 0, layout, "cpu", False),
    ]  # fmt: skip
    for body in [pickled(value) for value in values] * 300:
        data = bytearray(body)
        for _ in range(int(generator.integers(1, 4))):
            place = int(generator.integers(2, len(data)))
            kind = int(generator.integers(0, 3))
            length = 0 if kind == 1 else int(generator.integers(1, 7))
            data[place : place + length] = b"" if kind == 0 else generator.bytes(1) if kind == 1 else data[2 : 2 + length]
        machine = _machine(bytes(data))
        with suppress(FormatError):
            for leaf in named_tensors(machine.run(), "data.pkl", Limits()):
                assert leaf.name
