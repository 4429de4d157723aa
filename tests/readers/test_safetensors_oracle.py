"""The safetensors library as an oracle: what it refuses we refuse, what it accepts we accept, but for a list of rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from fuzz import headers
from fuzz.headers import ENTRY, file_of, library_accepts, our_refusal
from ww_static.protocol import Limits
from ww_static_readers import safetensors

HEADERS = 2000


def test_thousands_of_damaged_headers_get_the_verdict_of_the_library(tmp_path: Path) -> None:
    assert library_accepts(headers.header(-1))
    counts, wrong = headers.compare(range(HEADERS), tmp_path / "model")
    assert not wrong
    assert counts["accepted by both"] > HEADERS // 50, "hardly any header is still one: the test has lost its edge"
    assert counts["refused by us alone"] > 0


_ONLY_LIBRARY_ACCEPTS = {
    "a name twice": (f'{{"w":{ENTRY},"w":{ENTRY}}}', "duplicate_name"),
    "an ignored field twice": (f'{{"w":{ENTRY[:-1]},"x":1,"x":2}}}}', "duplicate_name"),
    "a metadata key twice": (f'{{"__metadata__":{{"a":"1","a":"2"}},"w":{ENTRY}}}', "duplicate_name"),
    "an entry that is a list": ('{"w":["F32",[2],[0,8]]}', "bad_header"),
    "a dtype that is an object": ('{"w":{"dtype":{"F32":null},"shape":[2],"data_offsets":[0,8]}}', "unknown_dtype"),
    "huge axes after a zero": (
        f'{{"z":{{"dtype":"F32","shape":[0,{2**62},8],"data_offsets":[0,0]}},"w":{ENTRY}}}',
        "overflow",
    ),
    "65 axes": ('{"w":{"dtype":"F32","shape":[' + "1," * 64 + '2],"data_offsets":[0,8]}}', "limit"),
    "a number of 21 digits": (f'{{"w":{ENTRY[:-1]},"x":{"1" * 21}}}}}', "bad_header"),
}


@pytest.mark.parametrize("name", _ONLY_LIBRARY_ACCEPTS)
def test_what_the_library_accepts_and_we_refuse_is_on_the_list(tmp_path: Path, name: str) -> None:
    header, category = _ONLY_LIBRARY_ACCEPTS[name]
    data = file_of(header)
    assert library_accepts(data)
    error = our_refusal(tmp_path / "model", data)
    assert error is not None
    assert error.category == category


@pytest.mark.parametrize(
    "header",
    [
        f'\ufeff{{"w":{ENTRY}}}',
        f'{{"w":{ENTRY.replace("[0,8]", "[-0,8]")}}}',
        f'{{"w":{ENTRY.replace("[2]", "[2.0]")}}}',
        f'{{"w":{ENTRY.replace("[2]", "[true]")}}}',
        f'{{"__metadata__":{{"a":"\\ud800"}},"w":{ENTRY}}}',
        f'{{"w\\udc00":{ENTRY}}}',
        f'{{"w":{ENTRY[:-1]},"x":1e999}}}}',
        f'{{"w":{ENTRY[:-1]},"x":{"[" * 100_000}{"]" * 100_000}}}}}',
        f'{{"w":{ENTRY},}}',
        f'{{"w":{ENTRY}}} {{}}',
        f'{{"__metadata__":{{"a":1}},"w":{ENTRY}}}',
        f'{{"__metadata__":[],"w":{ENTRY}}}',
        "null",
        "[]",
        "",
    ],
)
def test_what_is_not_json_to_the_library_is_a_bad_header_to_us(tmp_path: Path, header: str) -> None:
    data = file_of(header)
    assert not library_accepts(data)
    error = our_refusal(tmp_path / "model", data)
    assert error is not None
    assert error.category in ("bad_header", "overflow")


def test_escaped_surrogate_pairs_in_a_name_are_one_character(tmp_path: Path) -> None:
    assert our_refusal(tmp_path / "model", file_of(f'{{"\\ud83d\\ude00":{ENTRY}}}')) is None
    assert safetensors.open(tmp_path / "model", Limits()).tensors[0].name == "\U0001f600"


def test_white_space_before_the_brace_is_only_a_finding(tmp_path: Path) -> None:
    data = file_of(f'  \n{{"w":{ENTRY}}}')
    assert library_accepts(data)
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
