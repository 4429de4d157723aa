"""What the bits of every storage dtype stand for, against ml_dtypes and by hand."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from ww_static import dtypes
from ww_static.errors import FormatError

SMALL = {
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
    "F6_E2M3": ml_dtypes.float6_e2m3fn,
    "F6_E3M2": ml_dtypes.float6_e3m2fn,
    "F4": ml_dtypes.float4_e2m1fn,
}
PLAIN = ["F64", "F32", "F16", "I64", "U64", "I32", "U32", "I16", "U16", "I8", "U8", "BOOL"]


def _identical(got: NDArray[np.float64], expected: NDArray[Any]) -> None:
    """Equal values, NaN where NaN is, and the sign of every zero."""
    assert got.dtype == np.float64
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, expected, strict=True)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got[numbers]), np.signbit(expected[numbers]))


@pytest.mark.parametrize("name", SMALL)
def test_every_code_of_a_small_type_means_what_ml_dtypes_says(name: str) -> None:
    codes = np.arange(1 << dtypes.DTYPES[name].bits, dtype=np.uint8)
    _identical(dtypes.widen(codes, name), codes.view(SMALL[name]).astype(np.float64))


def test_every_bfloat16_means_what_ml_dtypes_says() -> None:
    codes = np.arange(1 << 16, dtype=np.uint16)
    with np.errstate(invalid="ignore"):  # signalling NaN
        expected = codes.view(ml_dtypes.bfloat16).astype(np.float64)
        _identical(dtypes.widen(codes, "BF16"), expected)
        _identical(dtypes.widen(codes.view(ml_dtypes.bfloat16), "BF16"), expected)


def test_known_values_of_the_small_types() -> None:
    for name, code, value in (
        ("F8_E4M3", 0x7E, 448.0), ("F8_E4M3", 0x01, 2.0**-9), ("F8_E5M2", 0x7B, 57344.0), ("F8_E5M2", 0x7C, math.inf),
        ("F8_E4M3FNUZ", 0x7F, 240.0), ("F8_E5M2FNUZ", 0x7F, 57344.0), ("F8_E8M0", 127, 1.0), ("F8_E8M0", 0, 2.0**-127),
        ("F4", 0x7, 6.0), ("F4", 0x9, -0.5), ("F6_E2M3", 0x1F, 7.5), ("F6_E3M2", 0x1F, 28.0), ("F6_E3M2", 0x21, -0.0625),
    ):  # fmt: skip
        assert dtypes.widen(np.array(code, np.uint8), name) == value, (name, code)
    for name, code in (("F8_E4M3", 0xFF), ("F8_E4M3FNUZ", 0x80), ("F8_E5M2FNUZ", 0x80), ("F8_E8M0", 0xFF), ("F8_E5M2", 0x7D)):
        assert np.isnan(dtypes.widen(np.array(code, np.uint8), name)), (name, code)


def test_four_bit_codes_are_packed_low_nibble_first() -> None:
    np.testing.assert_array_equal(dtypes.unpack(np.array([0x21, 0xF3], np.uint8), "F4"), [1, 2, 3, 15])


def test_six_bit_codes_are_packed_low_bits_first() -> None:
    codes = [0b000001, 0b100010, 0b010101, 0b111111]
    number = sum(code << (6 * place) for place, code in enumerate(codes))
    raw = np.frombuffer(number.to_bytes(3, "little"), np.uint8)
    for name in ("F6_E2M3", "F6_E3M2"):
        np.testing.assert_array_equal(dtypes.unpack(raw, name), codes)


@pytest.mark.parametrize("name", ["F4", "F6_E2M3"])
def test_unpacking_gives_back_any_codes(name: str) -> None:
    bits = dtypes.DTYPES[name].bits
    codes = np.random.default_rng(0).integers(0, 1 << bits, 400).astype(np.uint8)
    number = sum(int(code) << (bits * place) for place, code in enumerate(codes))
    raw = np.frombuffer(number.to_bytes(400 * bits // 8, "little"), np.uint8)
    got = dtypes.unpack(raw, name)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, codes)
    assert dtypes.unpack(raw[:0], name).shape == (0,)


@pytest.mark.parametrize("name", PLAIN)
def test_plain_types_widen_as_numpy_does(name: str) -> None:
    dtype = dtypes.numpy_dtype(name)
    raw = np.random.default_rng(1).bytes(64 * dtype.itemsize)
    stored = np.frombuffer(raw, dtype) if name != "BOOL" else np.frombuffer(raw, np.uint8) > 127
    with np.errstate(invalid="ignore"):
        _identical(dtypes.widen(stored, name), stored.astype(np.float64))


def test_four_bit_integers_are_codes_and_twos_complement() -> None:
    codes = np.arange(16, dtype=np.uint8)
    _identical(dtypes.widen(codes, "UINT4"), np.arange(16.0))
    _identical(dtypes.widen(codes, "INT4"), np.array([*range(8), *range(-8, 0)], np.float64))
    for name in ("INT4", "UINT4"):
        np.testing.assert_array_equal(dtypes.unpack(np.array([0x21, 0xF3], np.uint8), name), [1, 2, 3, 15])


def test_the_largest_integers_round_to_nearest() -> None:
    assert dtypes.widen(np.array([2**53 + 1, 2**53 + 3], np.int64), "I64").tolist() == [2.0**53, 2.0**53 + 4]
    assert dtypes.widen(np.array([2**64 - 1], np.uint64), "U64").tolist() == [2.0**64]


@pytest.mark.parametrize("name", [*PLAIN, *SMALL, "BF16"])
def test_widen_takes_any_strides_and_shapes(name: str) -> None:
    storage, dtype = dtypes.storage_dtype(name), dtypes.numpy_dtype(name)
    codes = np.random.default_rng(2).integers(0, 1 << min(storage.bits, 6), 5 * 7 * 8).astype(np.uint8)
    whole = codes.astype(dtype) if storage.family == "integer" else (codes % 2).astype(bool) if name == "BOOL" else codes
    if storage.family in ("float", "scale") and not storage.packed:
        whole = np.frombuffer(np.random.default_rng(3).bytes(280 * dtype.itemsize), dtype)
    cube = whole.reshape(5, 7, 8)
    with np.errstate(invalid="ignore"):
        expected = dtypes.widen(cube, name)
        for window in (np.s_[::2, ::-1, 1::3], np.s_[2], np.s_[:, 3, ::-2], np.s_[1, 2, 3], np.s_[:0], np.s_[:, 1:1]):
            _identical(dtypes.widen(cube[window], name), np.asarray(expected[window]))
        _identical(dtypes.widen(cube.T, name), np.ascontiguousarray(expected.T))
        _identical(dtypes.widen(np.asfortranarray(cube), name), expected)
        assert dtypes.widen(cube[1, 2, 3], name).shape == ()


@pytest.mark.parametrize("name", ["BF16", "F8_E4M3", "F4", "F16"])
def test_widen_takes_read_only_arrays_and_leaves_its_input_alone(name: str) -> None:
    array = np.arange(12, dtype=np.uint8).astype(dtypes.numpy_dtype(name))
    before = array.tobytes()
    array.flags.writeable = False
    result = dtypes.widen(array, name)
    assert result.flags.writeable
    assert array.tobytes() == before


def test_widen_of_a_large_array_is_the_widening_of_its_parts() -> None:
    codes = np.random.default_rng(4).integers(0, 256, 3_000_001).astype(np.uint8)
    large = dtypes.widen(codes, "F8_E5M2FNUZ")
    parts = [dtypes.widen(codes[start : start + 99_991], "F8_E5M2FNUZ") for start in range(0, codes.size, 99_991)]
    np.testing.assert_array_equal(large, np.concatenate(parts))


def test_float64_is_copied_not_aliased() -> None:
    array = np.ones(3)
    assert not np.shares_memory(dtypes.widen(array, "F64"), array)


def test_big_endian_arrays_keep_their_values() -> None:
    values = np.array([1.5, -2.25, 3e10])
    for name, code in (("F64", ">f8"), ("F32", ">f4"), ("F16", ">f2"), ("I32", ">i4"), ("U16", ">u2")):
        with np.errstate(over="ignore", invalid="ignore"):
            stored = values[:2].astype(code)
        _identical(dtypes.widen(stored, name), stored.astype(np.float64))


@pytest.mark.parametrize("name", ["F5", "", "f32", "float32", "F32 "])
def test_an_unknown_dtype_is_refused(name: str) -> None:
    for call in (dtypes.storage_dtype, dtypes.numpy_dtype, lambda name: dtypes.widen(np.zeros(1), name)):
        with pytest.raises(FormatError, match=r"unknown_dtype: dtype '.*' is not known"):
            call(name)


def test_something_that_is_no_name_is_refused() -> None:
    with pytest.raises(FormatError, match="unknown_dtype"):
        dtypes.storage_dtype(["F32"])  # type: ignore[arg-type]


def test_complex_numbers_are_refused() -> None:
    with pytest.raises(FormatError, match="unsupported_dtype: C64 holds complex numbers"):
        dtypes.widen(np.zeros(2, np.complex64), "C64")
    assert dtypes.numpy_dtype("C64") == np.complex64


def test_bytes_of_elements_are_whole_or_none() -> None:
    assert dtypes.nbytes("F32", 3) == 12
    assert dtypes.nbytes("F4", 4) == 2
    assert dtypes.nbytes("F4", 3) is None
    assert dtypes.nbytes("F6_E2M3", 4) == 3
    assert dtypes.nbytes("F6_E2M3", 2) is None
    assert dtypes.nbytes("BOOL", 0) == 0


def test_the_table_has_every_dtype_of_safetensors_and_sizes_agree_with_numpy() -> None:
    assert len(dtypes.DTYPES) == 25  # three of them from ONNX: INT4, UINT4, C128
    for name, storage in dtypes.DTYPES.items():
        assert storage.name == name
        if not storage.packed:
            assert dtypes.numpy_dtype(name).itemsize * 8 == storage.bits, name
        else:
            assert dtypes.numpy_dtype(name) == np.uint8
