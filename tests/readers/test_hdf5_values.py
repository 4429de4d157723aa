"""Windows of datasets that do not lie flat: every filter and window against h5py, damage, and what a chunk may cost."""

from __future__ import annotations

import itertools
import zlib
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pytest

import ww_static as ww
from keras_files import keras3, values
from ww_static.errors import FormatError
from ww_static.protocol import Limits
from ww_static_readers import _hdf5
from ww_static_readers._hdf5_values import undone

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deflate": {"compression": "gzip"},
    "shuffle": {"compression": "gzip", "shuffle": True},
    "checksum": {"fletcher32": True},
    "all": {"compression": 9, "shuffle": True, "fletcher32": True},
    "lzf": {"compression": "lzf", "shuffle": True},
    "lzf and checksum": {"compression": "lzf", "fletcher32": True},
    "scale and offset": {"scaleoffset": 0},
}
CUTS = (
    slice(None),
    slice(2, 9),
    slice(None, None, 3),
    slice(9, 1, -2),
    slice(10, None, -1),
    slice(5, 5),
    slice(4, 5),
    slice(None, None, 40),
)


@pytest.mark.parametrize("options", list(OPTIONS.values()), ids=list(OPTIONS))
@pytest.mark.parametrize("order", ["<", ">"])
def test_windows_are_those_of_h5py(tmp_path: Path, options: dict[str, Any], order: str) -> None:
    array = np.arange(11 * 13, dtype=f"{order}i4").reshape(11, 13)
    keras3(tmp_path / "m.h5", {"w": array}, chunks=(4, 5), **options)
    with ww.open(tmp_path / "m.h5") as checkpoint:
        spec = checkpoint.spec("w")
        assert (spec.encoding, spec.extent) == ("compressed" if options else "raw", None)
        for window in itertools.product(CUTS, CUTS):
            assert np.array_equal(checkpoint.read(spec, window), array[window])


@pytest.mark.parametrize("shape", [(7,), (3, 4, 5), (1, 1, 9, 2)])
def test_any_number_of_axes_is_cut_into_chunks(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = values(*shape)
    keras3(tmp_path / "m.h5", {"w": array}, chunks=tuple(max(1, size // 2) for size in shape), compression="gzip")
    with ww.open(tmp_path / "m.h5") as checkpoint:
        assert np.array_equal(checkpoint.read(checkpoint.spec("w")), array)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", ["gzip", "lzf"])
def test_chunks_that_were_never_written_hold_the_fill_value(tmp_path: Path, order: str, compression: str) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        one = file.create_dataset("w", (10, 10), f"{order}f4", chunks=(4, 4), fillvalue=2.5, compression=compression)
        one[5:7, 1:3] = 7
        expected = one[:]
    with ww.open(tmp_path / "m.h5") as checkpoint:
        assert np.array_equal(checkpoint.read(checkpoint.spec("w")), expected)


def _bfloat16(order: str) -> Any:
    kind = h5py.h5t.IEEE_F16LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_ebias(127)
    kind.set_order(h5py.h5t.ORDER_LE if order == "<" else h5py.h5t.ORDER_BE)
    return kind


def _filled(path: Path, kind: Any, value: Any, order: str) -> Any:
    """A dataset of one written chunk of four; its values as libhdf5 gives them, in the bytes of the file."""
    with h5py.File(path, "w") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((4, 4))
        plan.set_fill_value(value)
        one = h5py.h5d.create(file.id, b"w", kind, h5py.h5s.create_simple((7, 7)), plan)
        one.write_direct_chunk((0, 0), bytes(16 * kind.get_size()))
        stored = np.empty((7, 7), f"{order}u{kind.get_size()}")
        one.read(h5py.h5s.ALL, h5py.h5s.ALL, stored, kind)
    return stored


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"])
def test_the_fill_value_of_every_dtype_is_that_of_h5py(tmp_path: Path, dtype: str, order: Literal["<", ">"]) -> None:
    stored = np.dtype(dtype).newbyteorder(order)
    bits = _filled(tmp_path / "m.h5", h5py.h5t.py_create(stored, logical=True), np.array(1, stored), order)
    with ww.open(tmp_path / "m.h5") as checkpoint:
        read = checkpoint.read(checkpoint.spec("w"))
    assert read[6, 6] == 1
    assert np.array_equal(read.view(f"<u{stored.itemsize}"), bits)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", [1.5, -3.0, np.inf, 2.0**-130])
def test_the_fill_value_of_bfloat16_is_that_of_h5py(tmp_path: Path, value: float, order: str) -> None:
    bits = _filled(tmp_path / "m.h5", _bfloat16(order), np.array(value, "f4"), order)
    with ww.open(tmp_path / "m.h5") as checkpoint:
        read = checkpoint.read(checkpoint.spec("w"))
    assert float(read[6, 6]) == value
    assert np.array_equal(read.view("<u2"), bits)


def test_a_fill_value_that_cannot_be_had_as_it_is_stored_is_an_error_of_its_tensor(tmp_path: Path) -> None:
    _filled(tmp_path / "m.h5", _bfloat16("<"), np.array(np.nan, "f4"), "<")
    with ww.open(tmp_path / "m.h5") as checkpoint, pytest.raises(FormatError, match="unsupported: tensor 'w': its fill value"):
        checkpoint.read(checkpoint.spec("w"))


@pytest.mark.parametrize("version", ["earliest", "latest"])
@pytest.mark.parametrize("most", [None, (None, 20), (None, None), (20, 20)])
def test_every_index_of_chunks_is_understood(tmp_path: Path, version: str, most: Any) -> None:
    array = values(20, 20)
    with h5py.File(tmp_path / "m.h5", "w", libver=version) as file:
        file.create_dataset("w", data=array, chunks=(3, 7), maxshape=most)
        file.create_dataset("v", data=array, chunks=(3, 7), maxshape=most, compression="gzip")
        file.create_dataset("whole", data=array, chunks=(20, 20), maxshape=most)
    with ww.open(tmp_path / "m.h5") as checkpoint:
        for spec in checkpoint.tensors:
            assert np.array_equal(checkpoint.read(spec), array), spec.name


def test_a_filter_that_was_left_out_for_one_chunk_is_left_out(tmp_path: Path) -> None:
    array = values(4, 4)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        one = file.create_dataset("w", (4, 4), "<f4", chunks=(4, 4), compression="gzip")
        one.id.write_direct_chunk((0, 0), array.tobytes(), filter_mask=1)
    with ww.open(tmp_path / "m.h5") as checkpoint:
        assert np.array_equal(checkpoint.read(checkpoint.spec("w")), array)


@pytest.mark.parametrize("noise", [True, False])
@pytest.mark.parametrize("times", [2, 3])
def test_a_chunk_that_was_deflated_more_than_once_is_that_of_h5py(tmp_path: Path, noise: bool, times: int) -> None:
    array = np.random.default_rng(0).integers(0, 256 if noise else 2, (70, 70)).astype("u1")
    with h5py.File(tmp_path / "m.h5", "w") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((64, 64))
        for _ in range(times):
            plan.set_deflate(6)
        one = h5py.h5d.create(file.id, b"w", h5py.h5t.STD_U8LE, h5py.h5s.create_simple((70, 70)), plan)
        one.write(h5py.h5s.ALL, h5py.h5s.ALL, array)
        assert one.get_create_plist().get_nfilters() == times
        read = file["w"][:]
    with ww.open(tmp_path / "m.h5") as checkpoint:
        assert np.array_equal(checkpoint.read(checkpoint.spec("w")), array)
    assert np.array_equal(read, array)


def test_what_is_deflated_twice_has_room_for_little_more() -> None:
    twice = [DEFLATE, DEFLATE]
    assert undone(zlib.compress(zlib.compress(bytes(64))), twice, 0, 64, "here") == bytes(64)
    with pytest.raises(FormatError, match="a chunk does not end within 128 inflated bytes"):
        undone(zlib.compress(bytes(2**20)), twice, 0, 64, "here")
    with pytest.raises(FormatError, match="a chunk does not end within 64 inflated bytes"):
        undone(zlib.compress(bytes(100)), twice, 1, 64, "here")


def test_a_chunk_that_inflates_to_more_than_it_declares_is_refused_without_inflating_it(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        one = file.create_dataset("w", (4, 4), "<f4", chunks=(4, 4), compression="gzip")
        one.id.write_direct_chunk((0, 0), zlib.compress(bytes(2**24), 9))
    with (
        ww.open(tmp_path / "m.h5") as checkpoint,
        pytest.raises(FormatError, match="a chunk does not end within 64 inflated bytes"),
    ):
        checkpoint.read(checkpoint.spec("w"))


def _first_chunk(path: Path) -> tuple[int, int]:
    with h5py.File(path) as file:
        info = file["w"].id.get_chunk_info(0)
        return info.byte_offset, info.size


@pytest.mark.parametrize(("place", "category"), [(0, "corrupt"), (-1, "crc_mismatch"), (-6, "crc_mismatch")])
def test_a_damaged_chunk_is_an_error_of_its_tensor(tmp_path: Path, place: int, category: str) -> None:
    path = tmp_path / "m.h5"
    keras3(path, {"w": values(8, 8)}, chunks=(4, 4), compression="gzip", fletcher32=True)
    offset, size = _first_chunk(path)
    data = bytearray(path.read_bytes())
    data[offset + place % size] ^= 0x55
    path.write_bytes(data)
    with ww.open(path) as checkpoint, pytest.raises(FormatError) as caught:
        checkpoint.read(checkpoint.spec("w"))
    assert caught.value.category in (category, "crc_mismatch")
    (row,) = ww.analyze(path)
    assert (row.status, row.reason) == ("failed", caught.value.category)


DEFLATE, CHECKSUM = (_hdf5.DEFLATE, (6,)), (_hdf5.FLETCHER32, ())


@pytest.mark.parametrize(
    ("raw", "filters", "words"),
    [
        (b"abc", [DEFLATE], "a chunk of 3 stored bytes cannot be inflated"),
        (zlib.compress(bytes(64))[:-1], [DEFLATE], "a chunk does not end within 64 inflated bytes"),
        (zlib.compress(bytes(65)), [DEFLATE], "a chunk does not end within 64 inflated bytes"),
        (zlib.compress(bytes(63)), [DEFLATE], "a chunk of 64 bytes decodes to 63"),
        (b"ab", [CHECKSUM], "a chunk of 2 bytes has no room for its checksum"),
        (bytes(63), [], "a chunk of 64 bytes decodes to 63"),
    ],
)
def test_content_that_cannot_be_a_chunk_is_refused(raw: bytes, filters: list[Any], words: str) -> None:
    with pytest.raises(FormatError, match=f"corrupt: here: {words}"):
        undone(raw, filters, 0, 64, "here")


def test_bytes_behind_the_last_whole_element_of_a_shuffle_stay_behind() -> None:
    assert undone(b"adbecfXY", [(_hdf5.SHUFFLE, (3,))], 0, 8, "here") == b"abcdefXY"


def test_parameters_that_are_made_for_other_chunks_never_reach_the_decoder(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    keras3(path, {"w": np.arange(64, dtype="<i4").reshape(8, 8)}, chunks=(4, 4), scaleoffset=0)
    data = path.read_bytes()
    parameters = np.array([2, 0, 16, 0, 4], "<u4").tobytes()
    assert data.count(parameters) == 1
    path.write_bytes(data.replace(parameters, np.array([2, 0, 16_000_000, 0, 4], "<u4").tobytes()))
    with pytest.raises(FormatError, match="corrupt: tensor 'w': filter 6 is made for other chunks than those of 64 bytes"):
        ww.open(path)


def test_reading_goes_on_after_the_file_of_a_chunk_has_been_closed(tmp_path: Path) -> None:
    keras3(tmp_path / "m.h5", {"a": values(9, 9), "b": values(9, 9, seed=1)}, chunks=(4, 4), compression="lzf")
    with ww.open(tmp_path / "m.h5") as checkpoint:
        for name, seed in (("a", 0), ("b", 1), ("a", 0)):
            assert np.array_equal(checkpoint.read(checkpoint.spec(name)), values(9, 9, seed=seed))
        checkpoint.close()
        assert np.array_equal(checkpoint.read(checkpoint.spec("b")), values(9, 9, seed=1))


def test_limit_hdf5_chunks(tmp_path: Path) -> None:
    keras3(tmp_path / "m.h5", {"w": values(8, 8)}, chunks=(4, 4))
    for most in (4, 3):
        with ww.open(tmp_path / "m.h5", limits=Limits(hdf5_chunks=most)) as checkpoint:
            if most == 4:
                assert checkpoint.read(checkpoint.spec("w")).shape == (8, 8)
                continue
            with pytest.raises(FormatError, match="limit: tensor 'w': more than 3 chunks"):
                checkpoint.read(checkpoint.spec("w"))
