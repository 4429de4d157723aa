"""The safetensors library as an oracle: what it refuses we refuse, what it accepts we accept, but for a list of rules."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors as library
from safetensors.numpy import save_file

from ww_static.errors import FormatError
from ww_static.protocol import Limits
from ww_static_readers import safetensors

MUTATIONS = 6000
_WORDS = [
    "0", "1", "2", "3", "8", "16", "24", "-1", "-0", "1.0", "1e0", "01", "9223372036854775808", "18446744073709551615",
    "18446744073709551616", "4611686018427387904", "true", "null", "NaN", "[]", "{}", '""', '"F32"', '"F4"', '"BF16"', '"F9"',
    '"a"', '"dtype"', '"shape"', '"data_offsets"', '"__metadata__"', "[0,8]", "[2]", "\\u0000", "\\ud800", "\\", '"', " ", "\n",
    "\x0b", "\x00", "\ufeff", "é", ",", ":", "{", "}", "[", "]",
]  # fmt: skip
_ENTRY = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
_TOKEN = re.compile(r'"[^"]*"|-?[0-9]+|[\[\]{}:,]|\s+')


def _file(header: str, payload: bytes = bytes(8)) -> bytes:
    text = header.encode()
    return len(text).to_bytes(8, "little") + text + payload


def _library_accepts(data: bytes) -> bool:
    try:
        library.deserialize(data)  # type: ignore[no-untyped-call]
    except library.SafetensorError:
        return False
    return True


def _our_refusal(path: Path, data: bytes) -> FormatError | None:
    path.write_bytes(data)
    try:
        safetensors.open(path, Limits()).close()
    except FormatError as error:
        return error
    return None


def _stricter(error: FormatError, data: bytes) -> bool:
    """Whether `error` is one of the rules by which we refuse what the library accepts."""
    if error.category == "duplicate_name":  # a reader that keeps the first name sees another model than one that keeps the last
        return True
    if error.category == "overflow":  # a zero axis hides the huge ones after it from the library
        return re.search(r"shape \[(.*, )?0(, .*)?\]", error.problem) is not None
    if error.category == "limit":  # numpy has 64 axes
        return "dimensions" in error.problem
    # an entry may be a list to the library: [dtype, shape, offsets]; a dtype may be {"F32": null}
    return error.problem == "its entry is not an object" or "dtype {" in error.problem


@pytest.mark.parametrize("seed", range(4))
def test_thousands_of_damaged_headers_get_the_verdict_of_the_library(tmp_path: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    start = json.dumps(
        {
            "__metadata__": {"format": "pt", "note": "x"},
            "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
            "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
            "c": {"dtype": "F4", "shape": [2, 0, 4], "data_offsets": [32, 32]},
            "d": {"dtype": "U8", "shape": [], "data_offsets": [32, 33]},
        },
        separators=(",", ":"),
    )
    assert _library_accepts(_file(start, bytes(33)))
    accepted = stricter = 0
    for _ in range(MUTATIONS // 4):
        data = _damaged(start, bytes(33), generator)
        ours, theirs = _our_refusal(tmp_path / "model", data), _library_accepts(data)
        if ours is not None and theirs:
            assert _stricter(ours, data), f"only we refuse {data!r}: {ours}"
            stricter += 1
        elif ours is None:
            assert theirs, f"only the library refuses {data!r}"
            accepted += 1
    assert accepted > MUTATIONS // 200, "hardly any mutation is still a model: the test has lost its edge"


def _damaged(header: str, payload: bytes, generator: np.random.Generator) -> bytes:
    tokens = _TOKEN.findall(header)
    for _ in range(int(generator.integers(1, 3))):
        place, other = (int(generator.integers(len(tokens))) for _ in range(2))
        word = _WORDS[int(generator.integers(len(_WORDS)))]
        edits: list[tuple[slice, list[str]]] = [
            (slice(place, place + 1), [word]),
            (slice(place, place), [word]),
            (slice(place, place + 1), []),
            (slice(place, place + 1), [tokens[other]]),
            (slice(place, place), tokens[other : other + 6]),
            (slice(place, place), [" \t\n\r"[other % 4]]),
            (slice(place, place + 1), [re.sub("[a-z]", "\\\\u00e9", tokens[place], count=1)]),
            (slice(1, 1), [f'"x{other}"', ":", _ENTRY.replace("8", "0").replace("2", "0"), ","]),
        ]
        where, put = edits[int(generator.integers(len(edits)))]
        tokens[where] = put
    data = bytearray(_file("".join(tokens), payload))
    if generator.random() < 0.2:
        data[int(generator.integers(len(data)))] = int(generator.integers(256))
    if generator.random() < 0.1:
        del data[-int(generator.integers(1, 9)) :]
    if generator.random() < 0.1:
        data += generator.bytes(int(generator.integers(1, 9)))
    return bytes(data)


_ONLY_LIBRARY_ACCEPTS = {
    "a name twice": (f'{{"w":{_ENTRY},"w":{_ENTRY}}}', "duplicate_name"),
    "an ignored field twice": (f'{{"w":{_ENTRY[:-1]},"x":1,"x":2}}}}', "duplicate_name"),
    "a metadata key twice": (f'{{"__metadata__":{{"a":"1","a":"2"}},"w":{_ENTRY}}}', "duplicate_name"),
    "an entry that is a list": ('{"w":["F32",[2],[0,8]]}', "bad_header"),
    "a dtype that is an object": ('{"w":{"dtype":{"F32":null},"shape":[2],"data_offsets":[0,8]}}', "unknown_dtype"),
    "huge axes after a zero": (
        f'{{"z":{{"dtype":"F32","shape":[0,{2**62},8],"data_offsets":[0,0]}},"w":{_ENTRY}}}',
        "overflow",
    ),
    "65 axes": ('{"w":{"dtype":"F32","shape":[' + "1," * 64 + '2],"data_offsets":[0,8]}}', "limit"),
    "a number of 21 digits": (f'{{"w":{_ENTRY[:-1]},"x":{"1" * 21}}}}}', "bad_header"),
}


@pytest.mark.parametrize("name", _ONLY_LIBRARY_ACCEPTS)
def test_what_the_library_accepts_and_we_refuse_is_on_the_list(tmp_path: Path, name: str) -> None:
    header, category = _ONLY_LIBRARY_ACCEPTS[name]
    data = _file(header)
    assert _library_accepts(data)
    error = _our_refusal(tmp_path / "model", data)
    assert error is not None
    assert error.category == category


@pytest.mark.parametrize(
    "header",
    [
        f'\ufeff{{"w":{_ENTRY}}}',
        f'{{"w":{_ENTRY.replace("[0,8]", "[-0,8]")}}}',
        f'{{"w":{_ENTRY.replace("[2]", "[2.0]")}}}',
        f'{{"w":{_ENTRY.replace("[2]", "[true]")}}}',
        f'{{"__metadata__":{{"a":"\\ud800"}},"w":{_ENTRY}}}',
        f'{{"w\\udc00":{_ENTRY}}}',
        f'{{"w":{_ENTRY[:-1]},"x":1e999}}}}',
        f'{{"w":{_ENTRY[:-1]},"x":{"[" * 100_000}{"]" * 100_000}}}}}',
        f'{{"w":{_ENTRY},}}',
        f'{{"w":{_ENTRY}}} {{}}',
        f'{{"__metadata__":{{"a":1}},"w":{_ENTRY}}}',
        f'{{"__metadata__":[],"w":{_ENTRY}}}',
        "null",
        "[]",
        "",
    ],
)
def test_what_is_not_json_to_the_library_is_a_bad_header_to_us(tmp_path: Path, header: str) -> None:
    data = _file(header)
    assert not _library_accepts(data)
    error = _our_refusal(tmp_path / "model", data)
    assert error is not None
    assert error.category in ("bad_header", "overflow")


def test_escaped_surrogate_pairs_in_a_name_are_one_character(tmp_path: Path) -> None:
    assert _our_refusal(tmp_path / "model", _file(f'{{"\\ud83d\\ude00":{_ENTRY}}}')) is None
    assert safetensors.open(tmp_path / "model", Limits()).tensors[0].name == "\U0001f600"


def test_white_space_before_the_brace_is_only_a_finding(tmp_path: Path) -> None:
    data = _file(f'  \n{{"w":{_ENTRY}}}')
    assert _library_accepts(data)
    (tmp_path / "model").write_bytes(data)
    checkpoint = safetensors.open(tmp_path / "model", Limits())
    assert [finding.category for finding in checkpoint.findings] == ["bad_header"]


def test_files_that_the_library_wrote_read_as_it_reads_them(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    kinds = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")
    arrays = {kind: (generator.standard_normal((7, 5)) * 50).astype(kind) for kind in kinds}
    arrays |= {"scalar": np.array(2.5), "empty": np.empty((0, 3))}
    save_file(arrays, tmp_path / "model.safetensors", metadata={"format": "pt"})
    checkpoint = safetensors.open(tmp_path / "model.safetensors", Limits())
    assert {spec.name for spec in checkpoint.tensors} == set(arrays)
    assert {spec.layout for spec in checkpoint.tensors} == {"pt"}
    for spec in checkpoint.tensors:
        np.testing.assert_array_equal(checkpoint.read(spec), arrays[spec.name], strict=True)
    checkpoint.close()
