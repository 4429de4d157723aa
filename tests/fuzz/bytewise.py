"""Damage that knows nothing of a format: bits, bytes, cuts, copies, numbers where a length may stand."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from random import Random

Damage = Callable[[bytearray, Random, bytes], None]

NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    8,
    127,
    128,
    255,
    256,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**53,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
_DIGITS = re.compile(rb"\d+")
_NEAR = 400  # bytes on either side in which lengths are looked for
_MOST = 65_536  # a damaged file stays small


def flip_bits(data: bytearray, chance: Random, other: bytes) -> None:
    for _ in range(chance.randint(1, 4)):
        data[place(data, chance)] ^= 1 << chance.randrange(8)


def set_bytes(data: bytearray, chance: Random, other: bytes) -> None:
    begin = place(data, chance)
    value = chance.choice((0, 255, chance.randrange(256)))
    for at in range(begin, min(begin + chance.choice((1, 1, 2, 4, 8)), len(data))):
        data[at] = value


def set_number(data: bytearray, chance: Random, other: bytes) -> None:
    width, order = chance.choice((2, 4, 8)), chance.choice("<<<>")
    value = chance.choice((*NUMBERS, len(data), len(data) - 1, len(data) + 1)) & (1 << 8 * width) - 1
    begin = place(data, chance)
    data[begin : begin + width] = value.to_bytes(width, "little" if order == "<" else "big")


def change_length(data: bytearray, chance: Random, other: bytes) -> None:
    """A little-endian number that could be a length gets another value."""
    form = chance.choice(("<H", "<I", "<Q"))
    width = struct.calcsize(form)
    found = []
    first = max(0, place(data, chance) - _NEAR)
    for at in range(first, min(first + 2 * _NEAR, len(data) - width + 1)):
        value = int.from_bytes(data[at : at + width], "little")
        if 0 < value <= 2 * len(data) and (width == 2 or value >> 8 or data[at + width - 1] == 0):
            found.append((at, value))
    if not found:
        return set_number(data, chance, other)
    at, value = chance.choice(found)
    changed = chance.choice(
        (value - 1, value + 1, 0, value * 2, value + 256, chance.choice(NUMBERS), chance.randrange(2 * len(data)))
    )
    data[at : at + width] = (changed & (1 << 8 * width) - 1).to_bytes(width, "little")
    return None


def change_varint(data: bytearray, chance: Random, other: bytes) -> None:
    """A number of seven bits a byte gets another value, and perhaps another width."""
    begin = end = place(data, chance)
    while end < len(data) - 1 and data[end] & 0x80 and end - begin < 10:
        end += 1
    value = sum((byte & 0x7F) << 7 * at for at, byte in enumerate(data[begin : end + 1]))
    changed = chance.choice((value + 1, max(value - 1, 0), chance.choice(NUMBERS), chance.randrange(300)))
    data[begin : end + 1] = varint(changed)


def varint(value: int) -> bytes:
    """The shortest spelling of a number, seven bits a byte."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def change_digits(data: bytearray, chance: Random, other: bytes) -> None:
    found = list(_DIGITS.finditer(bytes(data)))
    if not found:
        return flip_bits(data, chance, other)
    one = chance.choice(found)
    text = chance.choice(
        (str(chance.choice(NUMBERS)), f"-{one[0].decode()}", str(int(one[0][:18]) + 1), "9" * chance.choice((5, 25)), "")
    )
    data[one.start() : one.end()] = text.encode()
    return None


def truncate(data: bytearray, chance: Random, other: bytes) -> None:
    del data[chance.choice((place(data, chance), len(data) - chance.randint(1, min(16, len(data))))) :]


def insert(data: bytearray, chance: Random, other: bytes) -> None:
    begin = place(data, chance)
    data[begin:begin] = chance.choice((chance.randbytes(chance.randint(1, 16)), bytes(chance.randint(1, 64))))


def delete(data: bytearray, chance: Random, other: bytes) -> None:
    begin = place(data, chance)
    del data[begin : begin + chance.choice((1, 2, 4, 8, chance.randint(1, 64)))]


def copy_block(data: bytearray, chance: Random, other: bytes) -> None:
    begin, target, length = place(data, chance), place(data, chance), chance.choice((4, 8, 32, chance.randint(1, 512)))
    block = data[begin : begin + length]
    data[target : target + chance.choice((0, len(block)))] = block


def repeat_block(data: bytearray, chance: Random, other: bytes) -> None:
    begin, length = place(data, chance), chance.randint(1, 24)
    data[begin:begin] = bytes(data[begin : begin + length]) * chance.choice((1, 2, 40))


def splice(data: bytearray, chance: Random, other: bytes) -> None:
    """The beginning of this, the rest of another file of the format, or a block of it in the middle."""
    if not other:
        return insert(data, chance, other)
    begin = place(data, chance)
    if chance.random() < 0.5:
        data[begin:] = other[chance.choice((begin, chance.randrange(len(other)))) :]
    else:
        start, length = chance.randrange(len(other)), chance.randint(1, 256)
        data[begin : begin + length] = other[start : start + length]
    return None


DAMAGE: tuple[Damage, ...] = (
    flip_bits, set_bytes, set_number, change_length, change_length, change_varint, change_digits, truncate, insert, delete, copy_block,
    repeat_block, splice,
)  # fmt: skip


def place(data: bytearray, chance: Random) -> int:
    """A position, more often near the beginning or the end, where headers and directories are."""
    kind = chance.random()
    if kind < 0.6 or len(data) < 2:
        return chance.randrange(max(len(data), 1))
    near = chance.randrange(min(256, len(data)))
    return near if kind < 0.85 else len(data) - 1 - near


def damaged(data: bytes, chance: Random, other: bytes) -> bytes:
    """`data` with one kind of damage; what is empty stays so, or gets some bytes."""
    changed = bytearray(data[:_MOST])
    if not changed:
        insert(changed, chance, other)
    else:
        chance.choice(DAMAGE)(changed, chance, other)
    return bytes(changed)
