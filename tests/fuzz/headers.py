"""Damaged safetensors headers: our verdict and that of the safetensors package, but for a list of stricter rules."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from random import Random

import safetensors as library

from ww_static.errors import FormatError
from ww_static.protocol import Limits
from ww_static_readers import safetensors

_WORDS = [
    "0", "1", "2", "3", "8", "16", "24", "-1", "-0", "1.0", "1e0", "01", "9223372036854775808", "18446744073709551615",
    "18446744073709551616", "4611686018427387904", "true", "null", "NaN", "[]", "{}", '""', '"F32"', '"F4"', '"BF16"', '"F9"',
    '"a"', '"dtype"', '"shape"', '"data_offsets"', '"__metadata__"', "[0,8]", "[2]", "\\u0000", "\\ud800", "\\", '"', " ", "\n",
    "\x0b", "\x00", "\ufeff", "é", ",", ":", "{", "}", "[", "]",
]  # fmt: skip
ENTRY = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
_EMPTY = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
_TOKEN = re.compile(r'"[^"]*"|-?[0-9]+|[\[\]{}:,]|\s+')


def file_of(header: str, payload: bytes = bytes(8)) -> bytes:
    text = header.encode()
    return len(text).to_bytes(8, "little") + text + payload


def library_accepts(data: bytes) -> bool:
    try:
        library.deserialize(data)  # type: ignore[no-untyped-call]
    except library.SafetensorError:
        return False
    return True


def our_refusal(path: Path, data: bytes) -> FormatError | None:
    path.write_bytes(data)
    try:
        safetensors.open(path, Limits()).close()
    except FormatError as error:
        return error
    return None


def stricter(error: FormatError, data: bytes) -> bool:
    """Whether `error` is one of the rules by which we refuse what the library accepts."""
    if error.category == "duplicate_name":  # a reader that keeps the first name sees another model than one that keeps the last
        return True
    if error.category == "overflow":  # a zero axis hides the huge ones after it from the library
        return re.search(r"shape \[(.*, )?0(, .*)?\]", error.problem) is not None
    if error.category == "limit":  # numpy has 64 axes
        return "dimensions" in error.problem
    # an entry may be a list to the library: [dtype, shape, offsets]; a dtype may be {"F32": null}
    return error.problem == "its entry is not an object" or "dtype {" in error.problem


def damaged(header: str, payload: bytes, chance: Random) -> bytes:
    tokens = _TOKEN.findall(header)
    for _ in range(chance.randint(1, 2)):
        place, other = (chance.randrange(len(tokens)) for _ in range(2))
        word = chance.choice(_WORDS)
        edits: list[tuple[slice, list[str]]] = [
            (slice(place, place + 1), [word]),
            (slice(place, place), [word]),
            (slice(place, place + 1), []),
            (slice(place, place + 1), [tokens[other]]),
            (slice(place, place), tokens[other : other + 6]),
            (slice(place, place), [" \t\n\r"[other % 4]]),
            (slice(place, place + 1), [re.sub("[a-z]", "\\\\u00e9", tokens[place], count=1)]),
            (slice(1, 1), [chance.choice((f'"x{other}"', '"c"')), ":", _EMPTY, ","]),
        ]
        where, put = chance.choice(edits)
        tokens[where] = put
    data = bytearray(file_of("".join(tokens), payload))
    if chance.random() < 0.2:
        data[chance.randrange(len(data))] = chance.randrange(256)
    if chance.random() < 0.1:
        del data[-chance.randint(1, 8) :]
    if chance.random() < 0.1:
        data += chance.randbytes(chance.randint(1, 8))
    return bytes(data)


_START = json.dumps(
    {
        "__metadata__": {"format": "pt", "note": "x"},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
        "c": {"dtype": "F4", "shape": [2, 0, 4], "data_offsets": [32, 32]},
        "d": {"dtype": "U8", "shape": [], "data_offsets": [32, 33]},
    },
    separators=(",", ":"),
)


def header(number: int, start: int = 0) -> bytes:
    """Damaged file `number`; number -1 is not damaged."""
    if number < 0:
        return file_of(_START, bytes(33))
    return damaged(_START, bytes(33), Random(f"headers:{start}:{number}"))


def compare(numbers: range, path: Path, start: int = 0) -> tuple[Counter[str], list[str]]:
    """Verdicts on damaged files: how many were accepted or refused by both or by us alone, and what must not be.

    Args:
        numbers: of the files.
        path: where each is written.
        start: of the series.
    """
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for number in numbers:
        data = header(number, start)
        ours, theirs = our_refusal(path, data), library_accepts(data)
        if ours is not None and theirs:
            counts["refused by us alone"] += 1
            if not stricter(ours, data):
                wrong.append(f"{number}: only we refuse {data!r}: {ours}")
        elif ours is None and not theirs:
            wrong.append(f"{number}: only the library refuses {data!r}")
        else:
            counts["refused by both" if ours else "accepted by both"] += 1
    return counts, wrong
