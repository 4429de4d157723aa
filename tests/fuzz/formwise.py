"""Damage that keeps a form: tokens of JSON and Python literals, opcodes of a pickle, fields of a protobuf."""

from __future__ import annotations

import itertools
import pickletools
import re
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

from fuzz import bytewise, treewise

_TOKEN = re.compile(rb"\"[^\"]*\"|'[^']*'|-?\d+|[A-Za-z_]+|[\[\](){}:,]|\s+")
_WORDS = (
    b"0", b"1", b"-1", b"2", b"1.0", b"1e3", b"01", b"true", b"null", b"NaN", b"True", b"None", b"[]", b"{}", b"()", b'""', b'"F32"',
    b'"BF16"', b'"F4"', b"'<f4'", b"'|O'", b"'>f8'", b'"__metadata__"', b'"shape"', b"'shape'", b"[2]", b"(2,)", b"(3, 4)", b",", b":",
    b"[", b"]", b"{", b"}", b"(", b")", b" ", b"\n", b'"\\ud800"', b"\xff", b"[[[[[[[[[[", b"model-00002-of-00002.safetensors",
)  # fmt: skip
_OPCODES = tuple(one.code.encode("latin-1") for one in pickletools.opcodes)
_NAMES = (
    b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_parameter\n", b"cnumpy\ndtype\n",
    b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\nndarray\n", b"cbuiltins\neval\n", b"ctorch\nFloatStorage\n", b"ctorch\nSize\n",
    b"c__torch__\nM\n", b"ctorch._tensor\n_rebuild_from_type_v2\n", b"ctorch._utils\n_rebuild_tensor_v3\n", b"ctorch\nfloat8_e4m3fn\n",
    b"cbuiltins\nset\n", b"c_codecs\nencode\n", b"ctorch._utils\n_rebuild_sparse_tensor\n", b"ctorch._utils\n_rebuild_qtensor\n",
)  # fmt: skip
_TEXTS = (
    b"storage", b"0", b"1", b"cpu", b"state_dict", b"model", b"_parameters", b"_modules", b"_buffers", b"weight", b"f4", b"<", b">",
    b"latin1", b"torch.sparse_coo", b"", b"encoder.weight", b"little_endian", b"/", b"..",
)  # fmt: skip


def damaged(form: str, data: bytes, chance: Random, other: bytes) -> bytes:
    """`data` with one of its tokens, opcodes or fields changed, taken out, doubled, moved, or swapped for a foreign one."""
    if form == "protobuf":
        return _message(data, chance, 0)
    if form == "json" and chance.random() < 0.85:
        whole = treewise.damaged(data, chance)
        if whole is not None:
            return whole
    pieces = _PIECES[form](data)
    if not pieces:
        return bytewise.damaged(data, chance, other)
    foreign = _PIECES[form](other)
    at, from_at = chance.randrange(len(pieces)), chance.randrange(len(pieces))
    run = chance.choice((1, 1, 2, chance.randint(1, 12)))
    kind = chance.randrange(10)
    if kind == 0:
        del pieces[at : at + run]
    elif kind == 1:
        pieces[at:at] = pieces[from_at : from_at + run]
    elif kind == 2:
        pieces[at], pieces[from_at] = pieces[from_at], pieces[at]
    elif kind == 3 and foreign:
        begin = chance.randrange(len(foreign))
        pieces[at : at + chance.choice((0, run))] = foreign[begin : begin + run]
    elif kind == 4:
        pieces[at : at + chance.randrange(2)] = [_new_piece(form, chance)]
    else:  # most often, inside one piece
        pieces[at] = _within(form, pieces[at], chance)
    return b"".join(pieces)


def _tokens(data: bytes) -> list[bytes]:
    return _TOKEN.findall(data)


def _opcodes(data: bytes) -> list[bytes]:
    """The opcodes of a pickle with their arguments; what follows the last whole one is a piece of its own."""
    starts: list[int] = []
    with suppress(ValueError):  # it was damaged before
        starts.extend(place for _, _, place in pickletools.genops(data) if place is not None)
    return [data[begin:end] for begin, end in itertools.pairwise([*starts, len(data)])]


def _opcodes_checked(data: bytes) -> list[bytes]:
    return [piece for piece in _opcodes(data) if piece]


_PIECES: dict[str, Callable[[bytes], list[bytes]]] = {"json": _tokens, "pickle": _opcodes_checked}


def _new_piece(form: str, chance: Random) -> bytes:
    if form == "json":
        return chance.choice(_WORDS)
    code = chance.choice(_OPCODES)
    options: list[bytes] = [code, code + chance.randbytes(chance.choice((1, 4, 8))), chance.choice(_NAMES)]
    options.append(b"J" + chance.choice((-1, 0, 1, 2**31 - 1, 5)).to_bytes(4, "little", signed=True))
    options.append(b"\x8a\x09" + chance.choice(bytewise.NUMBERS).to_bytes(9, "little"))
    return chance.choice(options)


def _within(form: str, piece: bytes, chance: Random) -> bytes:
    head = piece[:1] if form == "pickle" else b""
    rest = bytearray(piece[len(head) :])
    if not rest:
        return _new_piece(form, chance)
    if form == "json" and rest.strip(b"-0123456789") == b"":
        return str(chance.choice((*bytewise.NUMBERS, -1, chance.randrange(64)))).encode()
    if head == b"X" and chance.random() < 0.9:  # a text keeps its length field right
        options = (bytewise.damaged(bytes(rest[4:]), chance, b""), bytes(rest[4:]) + b"x", chance.choice(_TEXTS))
        text = chance.choice(options)
        return head + len(text).to_bytes(4, "little") + text
    if head in (b"J", b"K", b"M") and chance.random() < 0.8:  # most numbers of a checkpoint are small
        small: int = chance.choice((*range(-2, 33), 48, 96, 2**31 - 1))
        return b"J" + small.to_bytes(4, "little", signed=True)
    kinds = (bytewise.flip_bits, bytewise.set_bytes, bytewise.set_number, bytewise.change_digits)
    width = len(rest)
    chance.choice(kinds)(rest, chance, b"")
    return head + bytes(rest[:width] if form == "pickle" else rest)


def _fields(data: bytes) -> list[tuple[int, int, Any]] | None:
    """(number, wire type, value) of each field of a message, or None when it is none."""
    found: list[tuple[int, int, Any]] = []
    at = 0
    while at < len(data):
        value: Any
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if number == 0 or at > len(data) or wire not in (0, 1, 2, 5):
            return None
        if wire == 0:
            value, at = _varint(data, at)
        elif wire == 2:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        else:
            width = 8 if wire == 1 else 4
            value, at = data[at : at + width], at + width
        if at > len(data):
            return None
        found.append((number, wire, value))
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
    return value, len(data) + 1


def _message(data: bytes, chance: Random, depth: int) -> bytes:
    """A message with one field damaged, at any depth; the lengths around it are right again."""
    fields = _fields(data)
    if not fields or depth > 12:
        return bytewise.damaged(data, chance, b"")
    at, from_at = chance.randrange(len(fields)), chance.randrange(len(fields))
    number, wire, value = fields[at]
    if chance.random() < 0.75:
        if wire == 2:
            inner = _fields(value) is not None and chance.random() < 0.9
            value = _message(value, chance, depth + 1) if inner else bytewise.damaged(value, chance, b"")
        elif wire == 0:
            value = chance.choice((*bytewise.NUMBERS, value + 1, max(value - 1, 0), chance.randrange(32)))
        else:
            value = chance.randbytes(len(value))
        fields[at] = (number, wire, value)
    else:
        kind = chance.randrange(5)
        if kind == 0:
            del fields[at]
        elif kind == 1:
            fields.insert(at, fields[from_at])
        elif kind == 2:
            fields[at], fields[from_at] = fields[from_at], fields[at]
        elif kind == 3:
            fields[at] = (chance.randint(1, 26), wire, value)
        else:
            fields.insert(at, (chance.choice((*range(1, 27), 2**29 - 1)), 0, chance.choice(bytewise.NUMBERS)))
    return b"".join(_spelled(*one) for one in fields)


def _spelled(number: int, wire: int, value: Any) -> bytes:
    key = bytewise.varint(number << 3 | wire)
    if wire == 0:
        return key + bytewise.varint(value & 2**64 - 1)
    return key + (bytewise.varint(len(value)) if wire == 2 else b"") + bytes(value)
