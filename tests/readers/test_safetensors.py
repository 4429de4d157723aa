"""The safetensors reader: the reader suite, every storage dtype, stand-ins, and each limit."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import ww_static
from support import safetensors_bytes
from ww_static import dtypes
from ww_static.errors import FormatError, LimitError, UnknownFormatError, UnsafeFileError
from ww_static.protocol import Limits
from ww_static.seam import open_checkpoint
from ww_static.testing import ReaderSuite, Stored
from ww_static_readers import safetensors


def _encoded(tensors: Mapping[str, Stored]) -> bytes:
    return safetensors_bytes({name: (stored.dtype, stored.array.shape, _packed(stored)) for name, stored in tensors.items()})


def _packed(stored: Stored) -> bytes:
    bits = dtypes.DTYPES[stored.dtype].bits
    if bits % 8 == 0:
        return stored.array.tobytes()
    number = sum(int(code) << (bits * place) for place, code in enumerate(stored.array.ravel()))
    return number.to_bytes(stored.array.size * bits // 8, "little")


class TestSafetensors(ReaderSuite):
    """The contract, for every storage dtype."""

    reader = safetensors
    dtypes = tuple(sorted(safetensors._DTYPES))
    claims = ("safetensors",)

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        path = folder / "model.safetensors"
        path.write_bytes(_encoded(tensors))
        return path


class TestShardedSafetensors(ReaderSuite):
    """The same, when the file is an index of two shards. The mutations hit the index."""

    reader = safetensors
    dtypes = ("BF16", "F6_E2M3")
    claims = ("safetensors",)

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        names = list(tensors)
        weight_map: dict[str, str] = {}
        for number, part in enumerate((names[::2], names[1::2]), 1):
            file = f"m-{number:05d}-of-00002.safetensors"
            (folder / file).write_bytes(_encoded({name: tensors[name] for name in part}))
            weight_map |= dict.fromkeys(part, file)
        path = folder / "m.safetensors.index.json"
        path.write_text(json.dumps({"weight_map": weight_map}))
        return path


# storage dtypes: codes in the file -> numbers

_CASES: dict[str, tuple[bytes, list[float]]] = {
    "F64": (np.array([1.5, -0.0]).tobytes(), [1.5, -0.0]),
    "F32": (np.array([1.5, np.inf], "<f4").tobytes(), [1.5, np.inf]),
    "F16": (b"\x00\x3e\x00\xfc", [1.5, -np.inf]),
    "BF16": (b"\xc0\x3f\x80\x00", [1.5, 2.0**-126]),
    "F8_E4M3": (b"\x3c\x7e", [1.5, 448.0]),
    "F8_E5M2": (b"\x3e\x7c", [1.5, np.inf]),
    "F8_E4M3FNUZ": (b"\x44\x7f", [1.5, 240.0]),
    "F8_E5M2FNUZ": (b"\x42\x80", [1.5, np.nan]),
    "F8_E8M0": (b"\x7f\x80", [1.0, 2.0]),
    "F4": (b"\x73\xf1", [1.5, 6.0, 0.5, -6.0]),
    "F6_E2M3": (b"\x0c\xf8\xfd", [1.5, -0.0, 7.5, -7.5]),
    "F6_E3M2": (b"\x0e\xf8\xfd", [1.5, -0.0, 28.0, -28.0]),
    "I64": (b"\xff" * 8, [-1.0]),
    "U64": (b"\xff" * 8, [2.0**64]),
    "I32": (b"\xfe\xff\xff\xff", [-2.0]),
    "U32": (b"\xff\xff\xff\xff", [2.0**32 - 1]),
    "I16": (b"\x00\x80", [-32768.0]),
    "U16": (b"\x00\x80", [32768.0]),
    "I8": (b"\x80\x7f", [-128.0, 127.0]),
    "U8": (b"\x80\x7f", [128.0, 127.0]),
    "BOOL": (b"\x00\x01", [0.0, 1.0]),
}


def _write(path: Path, tensors: Mapping[str, Any]) -> Path:
    path.write_bytes(safetensors_bytes(tensors))
    return path


@pytest.mark.parametrize("dtype", _CASES)
def test_stored_codes_widen_to_their_numbers(tmp_path: Path, dtype: str) -> None:
    raw, values = _CASES[dtype]
    path = _write(tmp_path / "model", {"w": (dtype, (len(values),), raw), "pad": ("U8", (3,), b"abc")})
    with open_checkpoint(path) as checkpoint:
        spec = checkpoint.spec("w")
        assert spec.dtype == dtype
        widened = ww_static.widen(checkpoint.read(spec), dtype)
        np.testing.assert_array_equal(widened, np.array(values), strict=True)


def test_every_dtype_but_complex_has_a_case_above() -> None:
    assert set(_CASES) == safetensors._DTYPES - {"C64"}
    assert safetensors._DTYPES < set(dtypes.DTYPES)


def test_complex_numbers_are_read_and_not_widened(tmp_path: Path) -> None:
    path = _write(tmp_path / "model", {"w": ("C64", (1,), np.array([1 + 2j], "<c8").tobytes())})
    with open_checkpoint(path) as checkpoint:
        array = checkpoint.read(checkpoint.spec("w"))
        assert array.tolist() == [1 + 2j]
        with pytest.raises(FormatError, match="unsupported_dtype: C64 holds complex numbers"):
            ww_static.widen(array, "C64")


@pytest.mark.parametrize(
    ("dtype", "stored"), [("BF16", ml_dtypes.bfloat16), ("F8_E4M3", ml_dtypes.float8_e4m3fn), ("F32", np.float32)]
)
def test_windows_are_views_of_a_read_only_map(tmp_path: Path, dtype: str, stored: Any) -> None:
    raw = np.arange(64).astype(stored).tobytes()
    with open_checkpoint(_write(tmp_path / "model", {"pad": ("U8", (1,), b"x"), "w": (dtype, (8, 8), raw)})) as checkpoint:
        array = checkpoint.read(checkpoint.spec("w"), (slice(2, 6), slice(None, None, 2)))
    assert isinstance(array.base, mmap.mmap)
    assert not array.flags.owndata
    assert not array.flags.writeable
    assert array.dtype == stored
    with pytest.raises(ValueError, match="read-only"):
        array[...] = 0


@pytest.mark.parametrize(("shape", "dtype"), [((3,), "F4"), ((1,), "F6_E2M3"), ((2, 3), "F6_E3M2")])
def test_packed_elements_that_fill_no_whole_bytes_are_refused(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    path = _write(tmp_path / "model", {"w": (dtype, shape, b"\0" * 2)})
    with pytest.raises(FormatError, match=r"size_mismatch: tensor 'w': \d elements of F.* do not fill whole bytes"):
        open_checkpoint(path)


def test_the_framework_that_wrote_the_file_is_kept_when_it_says_so(tmp_path: Path) -> None:
    for metadata, layout in ((None, None), ({"format": "mlx"}, "mlx"), ({"other": "x"}, None)):
        (tmp_path / "model").write_bytes(safetensors_bytes({"w": np.zeros(2)}, metadata))
        with open_checkpoint(tmp_path / "model") as checkpoint:
            assert checkpoint.spec("w").layout == layout


# a file and an index are told apart by content


@pytest.mark.parametrize("low", [0x7B, 0x20, 0x09, 0x0A, 0x0D])
def test_a_header_length_that_begins_like_json_is_no_index(tmp_path: Path, low: int) -> None:
    entry = b'{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    for length in (low + 0x100, low + 0x7B00, low + 0x7B2000):
        path = tmp_path / "model"
        path.write_bytes(length.to_bytes(8, "little") + entry.ljust(length) + b"x")
        with open_checkpoint(path) as checkpoint:
            assert [spec.name for spec in checkpoint.tensors] == ["w"]


@pytest.mark.parametrize("length", [0x280, 0x380, 0x480, 0x580])
def test_a_header_length_that_begins_like_a_pickle_is_none(tmp_path: Path, length: int) -> None:
    plain = safetensors_bytes({"w": np.arange(4.0)})
    size = int.from_bytes(plain[:8], "little")
    path = tmp_path / "model.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + plain[8 : 8 + size].ljust(length) + plain[8 + size :])
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.reader == "safetensors"


def test_a_file_that_only_its_suffix_calls_safetensors_is_told_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for data, words in (
        (b"x", "truncated: header: file has 1 bytes"),
        (b"hello, world", "limit: header: "),
        (b"\0" * 8, "bad_header"),
    ):
        path.write_bytes(data)
        with pytest.raises(FormatError, match=words):
            open_checkpoint(path)


def test_json_that_is_no_index_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"hidden_size": 64}')
    with pytest.raises(UnknownFormatError, match="unsupported"):
        open_checkpoint(tmp_path / "config.json")


# stand-ins and special files


def test_a_git_lfs_pointer_says_size_and_sha256(tmp_path: Path) -> None:
    digest = "ab" * 32
    (tmp_path / "model.safetensors").write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize 12345\n"
    )
    with pytest.raises(FormatError, match=f"lfs_pointer: this is a Git LFS pointer to 12345 bytes .sha256 {digest}."):
        open_checkpoint(tmp_path / "model.safetensors")


def test_a_git_lfs_pointer_in_place_of_a_shard_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n")
    (tmp_path / "m.safetensors.index.json").write_text('{"weight_map": {"w": "m.safetensors"}}')
    with pytest.raises(FormatError, match=r"lfs_pointer: m\.safetensors: this is a Git LFS pointer to 12345 bytes"):
        open_checkpoint(tmp_path / "m.safetensors.index.json")


def test_an_html_page_and_an_empty_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_text("<!DOCTYPE html><title>Sign in</title>")
    with pytest.raises(UnknownFormatError, match="unsupported: this is an HTML page"):
        open_checkpoint(path)
    path.write_bytes(b"")
    with pytest.raises(FormatError, match="truncated: the file is empty"):
        open_checkpoint(path)


@pytest.mark.parametrize(("kind", "words"), [("fifo", "FIFO"), ("folder", "directory"), ("device", "character device")])
def test_special_files_are_refused_at_once(tmp_path: Path, kind: str, words: str) -> None:
    path = tmp_path / "model.safetensors"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    program = "import sys, ww_static; ww_static.open(sys.argv[1])"  # apart, so that a hang fails instead of hanging
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=30, check=False)
    assert f"not_regular_file: is a {words}" in done.stderr
    with pytest.raises(UnsafeFileError, match="not_regular_file"):
        safetensors.open(path, Limits())


# limits: every field


def _model(path: Path, **more: Any) -> Path:
    return _write(path, {"name": np.zeros((2, 1, 3)), "other": np.zeros(1)} | more)


def test_limit_header_bytes(tmp_path: Path) -> None:
    path = _model(tmp_path / "m.safetensors")
    length = int.from_bytes(path.read_bytes()[:8], "little")
    open_checkpoint(path, Limits(header_bytes=length)).close()
    with pytest.raises(LimitError, match=f"limit: header: {length} bytes, limit {length - 1}"):
        open_checkpoint(path, Limits(header_bytes=length - 1))


def test_limit_header_bytes_holds_for_an_index(tmp_path: Path) -> None:
    _model(tmp_path / "m.safetensors")
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(
        json.dumps({"metadata": {"x": "y" * 900}, "weight_map": {"name": "m.safetensors", "other": "m.safetensors"}})
    )
    size = index.stat().st_size
    open_checkpoint(index, Limits(header_bytes=size)).close()
    with pytest.raises(LimitError, match=f"limit: index: {size} bytes, limit {size - 1}"):
        open_checkpoint(index, Limits(header_bytes=size - 1))


def test_limit_tensors(tmp_path: Path) -> None:
    path = _model(tmp_path / "m.safetensors")
    open_checkpoint(path, Limits(tensors=2)).close()
    with pytest.raises(LimitError, match="limit: header: 2 tensors, limit 1"):
        safetensors.open(path, Limits(tensors=1))
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"name": "m.safetensors", "other": "m.safetensors"}}))
    with pytest.raises(LimitError, match="limit: index: 2 tensors, limit 1"):
        safetensors.open(index, Limits(tensors=1))


def test_limit_tensors_holds_for_the_sum_of_shards(tmp_path: Path) -> None:
    for number in (1, 2):
        _write(tmp_path / f"m-0000{number}-of-00002.safetensors", {f"w{number}": np.zeros(1), f"v{number}": np.zeros(1)})
    path = tmp_path / "m-00001-of-00002.safetensors"
    open_checkpoint(path, Limits(tensors=4)).close()
    with pytest.raises(LimitError, match=r"limit: .*more than 3 tensors"):
        open_checkpoint(path, Limits(tensors=3))


def test_limit_name_bytes_is_a_finding(tmp_path: Path) -> None:
    path = _model(tmp_path / "m.safetensors")
    with open_checkpoint(path, Limits(name_bytes=4)) as checkpoint:
        assert [(one.category, one.tensor) for one in checkpoint.findings] == [("limit", "other")]
    with open_checkpoint(path, Limits(name_bytes=5)) as checkpoint:
        assert checkpoint.findings == ()


def test_limit_rank(tmp_path: Path) -> None:
    path = _model(tmp_path / "m.safetensors")
    open_checkpoint(path, Limits(rank=3)).close()
    with pytest.raises(LimitError, match="limit: tensor 'name': 3 dimensions, limit 2"):
        safetensors.open(path, Limits(rank=2))
    _model(tmp_path / "m.safetensors", deep=np.zeros((1,) * 64))
    open_checkpoint(path).close()


def test_limit_config_bytes(tmp_path: Path) -> None:
    path = _model(tmp_path / "m.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    for limit, found in ((22, False), (21, True)):
        result = ww_static.describe(path, limits=Limits(config_bytes=limit))
        assert any(row.category == "bad_config" for row in result.finding_rows) is found


def test_limit_parts(tmp_path: Path) -> None:
    for number in (1, 2):
        _write(tmp_path / f"m-0000{number}-of-00002.safetensors", {f"w{number}": np.zeros(1)})
    first = tmp_path / "m-00001-of-00002.safetensors"
    open_checkpoint(first, Limits(parts=2)).close()
    with pytest.raises(LimitError, match="limit: shards: 2 shards, limit 1"):
        open_checkpoint(first, Limits(parts=1))
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {f"w{n}": f"m-0000{n}-of-00002.safetensors" for n in (1, 2)}}))
    with pytest.raises(LimitError, match="limit: index: 2 files, limit 1"):
        open_checkpoint(index, Limits(parts=1))


def test_limit_matrices(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    _write(path, {"conv.weight": np.zeros((8, 4, 3, 3), np.float32), "dense.weight": np.zeros((9, 9), np.float32)})
    for limit, reason in ((9, None), (8, "limit")):
        result = ww_static.describe(path, limits=Limits(matrices=limit))
        assert [row.reason for row in result] == [reason, None]
        assert result.exit_code == (0 if reason is None else 3)


def test_limit_rows(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    _write(path, {f"conv{i}.weight": np.zeros((8, 4, 3, 3), np.float32) for i in range(3)})
    for limit, refused in ((27, 0), (26, 1)):
        result = ww_static.describe(path, conv="slices", limits=Limits(rows=limit))
        assert sum(row.reason == "limit" for row in result) == refused


# size


def test_a_file_of_64_gibibytes_opens_without_its_payload(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    side = 2**17
    header = json.dumps({"w": {"dtype": "F32", "shape": [side, side], "data_offsets": [0, 4 * side**2]}}).encode()
    with path.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        stream.truncate(8 + len(header) + 4 * side**2)
    tracemalloc.start()
    with open_checkpoint(path) as checkpoint:
        last = checkpoint.read(checkpoint.spec("w"), (slice(-1, None), slice(-4, None)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert last.tolist() == [[0.0] * 4]
    assert peak < 2**20


def test_a_header_of_a_hundred_thousand_tensors_opens(tmp_path: Path) -> None:
    header = {f"layer.{n}.weight": {"dtype": "U8", "shape": [1], "data_offsets": [n, n + 1]} for n in range(100_000)}
    text = json.dumps(header).encode()
    (tmp_path / "model").write_bytes(len(text).to_bytes(8, "little") + text + bytes(100_000))
    with open_checkpoint(tmp_path / "model") as checkpoint:
        assert len(checkpoint.tensors) == 100_000
