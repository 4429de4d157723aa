"""The npz reader: the reader suite bare, stored and deflated, every rule of the header, and each limit."""

from __future__ import annotations

import io
import mmap
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

import ww_static
from support import safetensors_bytes
from ww_static import dtypes
from ww_static.errors import FormatError, LimitError, UnknownFormatError
from ww_static.protocol import Limits
from ww_static.rows import TensorRow
from ww_static.seam import open_checkpoint
from ww_static.testing import ReaderSuite, Stored
from ww_static_readers import _zip, npz

_DESCR = {
    "F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "U64": "u8", "I32": "i4", "U32": "u4", "I16": "i2", "U16": "u2", "I8": "i1",
    "U8": "u1", "BOOL": "b1", "C64": "c8",
}  # fmt: skip
_SHAPES = ((6, 8), (4,), (), (0, 3), (2, 3, 4), (1, 1), (3, 0), (1, 2, 1, 4))


Order = Literal["<", ">"]


def npy_bytes(array: NDArray[Any], order: Order = "<", fortran: bool = False, version: tuple[int, int] | None = None) -> bytes:
    """A .npy file as numpy writes it."""
    stored = array.astype(array.dtype.newbyteorder(order)) if array.dtype.itemsize > 1 else array
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asfortranarray(stored) if fortran and array.ndim > 1 else stored, version)
    return stream.getvalue()


def raw_npy(header: str | bytes, values: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """A .npy file with any header at all."""
    text = header.encode("utf-8") if isinstance(header, str) else header
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return npz.MAGIC + bytes(version) + length + text + values


def npz_bytes(members: Mapping[str, bytes], deflated: bool = False) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) if not deflated else archive.open(name, "w") as one:
                one.write(content)
    return stream.getvalue()


class Suite(ReaderSuite):
    """What the suites of archives share; not collected itself, for its name."""

    reader = npz
    dtypes = tuple(_DESCR)
    claims = ("npy",)
    deflated = False
    order: Order = "<"
    fortran = False

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        path = folder / "model.npz"
        arrays = {f"{name}.npy": npy_bytes(stored.array, self.order, self.fortran) for name, stored in tensors.items()}
        path.write_bytes(npz_bytes(arrays, self.deflated))
        return path


class TestNpz(Suite):
    """Stored members: windows of a map."""


class TestNpzDeflated(Suite):
    """Deflated members, as np.savez_compressed writes them."""

    dtypes = ("F32", "F64", "C64", "I8")
    deflated = True
    mutations = 200


class TestNpzBigEndianFortran(Suite):
    """Stored members in the other order of bytes and of axes."""

    dtypes = ("F32", "F16", "C64", "U8", "I64")
    order: Order = ">"
    fortran = True
    mutations = 200


class TestNpzDeflatedBigEndianFortran(Suite):
    """Deflated members in the other order of bytes and of axes."""

    dtypes = ("F32", "C64")
    deflated = True
    order: Order = ">"
    fortran = True
    mutations = 100


class TestNpy(ReaderSuite):
    """One array and no archive; its name is that of the file."""

    reader = npz
    claims = ("npy",)
    dtypes = tuple(_DESCR)

    def samples(self, folder: Path) -> list[tuple[Path, Mapping[str, Stored]]]:
        made: list[tuple[Path, Mapping[str, Stored]]] = []
        for place, (dtype, shape) in enumerate((dtype, shape) for dtype in _DESCR for shape in _SHAPES):
            stored = np.frombuffer(np.random.default_rng(place).bytes(192 * 2), dtypes.numpy_dtype(dtype))
            array = (stored.view(np.uint8) % 2).view(np.bool_) if dtype == "BOOL" else stored
            array = array[: int(np.prod(shape, dtype=int))].reshape(shape)
            path = folder / f"t{place}.npy"
            path.write_bytes(npy_bytes(array, version=((1, 0), (2, 0), (3, 0))[place % 3]))
            made.append((path, {f"t{place}": Stored(dtype, array)}))
        return made


# how values are reached


def _opened(path: Path, data: bytes, limits: Limits | None = None) -> ww_static.seam.OpenCheckpoint:
    path.write_bytes(data)
    return open_checkpoint(path, limits)


GOOD = np.arange(1, 49, dtype=np.float32).reshape(6, 8)
GOOD_NPY = npy_bytes(GOOD)


def test_numpys_own_files_are_read(tmp_path: Path) -> None:
    arrays = {"w": GOOD, "f": np.asfortranarray(GOOD.astype(">f8")), "scalar": np.float16(3), "none": np.zeros((0, 3))}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "m.npz", **arrays)  # type: ignore[arg-type]
        with open_checkpoint(tmp_path / "m.npz") as checkpoint:
            assert [spec.name for spec in checkpoint.tensors] == list(arrays)
            assert checkpoint.findings == ()
            for name, array in arrays.items():
                np.testing.assert_array_equal(checkpoint.read(checkpoint.spec(name)), array)
    np.save(tmp_path / "one.npy", GOOD)
    with open_checkpoint(tmp_path / "one.npy") as checkpoint:
        assert checkpoint.reader == "npz"
        np.testing.assert_array_equal(checkpoint.read(checkpoint.spec("one")), GOOD, strict=True)


def test_stored_values_are_views_of_a_read_only_map_in_any_order_of_axes(tmp_path: Path) -> None:
    for fortran in (False, True):
        with _opened(tmp_path / "m.npz", npz_bytes({"w.npy": npy_bytes(GOOD, fortran=fortran)})) as checkpoint:
            array = checkpoint.read(checkpoint.spec("w"), (slice(1, 5, 2),))
        assert isinstance(array.base, mmap.mmap)
        assert not array.flags.writeable
        np.testing.assert_array_equal(array, GOOD[1:5:2], strict=True)


@pytest.mark.parametrize("deflated", [False, True])
def test_big_endian_values_come_out_little_endian(tmp_path: Path, deflated: bool) -> None:
    with _opened(tmp_path / "m.npz", npz_bytes({"w.npy": npy_bytes(GOOD, ">")}, deflated)) as checkpoint:
        array = checkpoint.read(checkpoint.spec("w"), (slice(2, 4),))
    assert array.dtype == np.dtype("<f4")
    np.testing.assert_array_equal(array, GOOD[2:4], strict=True)


def test_an_extent_is_given_only_for_flat_little_endian_rows(tmp_path: Path) -> None:
    column = np.arange(5.0).reshape(5, 1)
    members = {
        "flat.npy": npy_bytes(GOOD), "fortran.npy": npy_bytes(GOOD, fortran=True), "big.npy": npy_bytes(GOOD, ">"),
        "big_bytes.npy": raw_npy("{'descr': '>i1', 'fortran_order': False, 'shape': (2,)}", b"ab"),
        "column.npy": raw_npy("{'descr': '<f8', 'fortran_order': True, 'shape': (5, 1)}", column.tobytes()),
    }  # fmt: skip
    with _opened(tmp_path / "m.npz", npz_bytes(members)) as checkpoint:
        assert {spec.name for spec in checkpoint.tensors if spec.extent} == {"flat", "big_bytes", "column"}
        assert {spec.encoding for spec in checkpoint.tensors} == {"raw"}
    with _opened(tmp_path / "m.npz", npz_bytes(members, deflated=True)) as checkpoint:
        assert {(spec.extent, spec.encoding) for spec in checkpoint.tensors} == {(None, "compressed")}


def test_windows_of_a_deflated_tensor_come_in_any_order(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    first, second = generator.standard_normal((3, 70, 501)), generator.standard_normal((400, 333)).astype(np.float32)
    data = npz_bytes({"a.npy": npy_bytes(first), "b.npy": npy_bytes(second, fortran=True)}, deflated=True)
    with _opened(tmp_path / "m.npz", data) as checkpoint:
        for _ in range(60):
            name, array = ("a", first) if generator.random() < 0.6 else ("b", second)
            window = tuple(
                slice(int(low), int(high), int(step))
                for low, high, step in zip(
                    generator.integers(-500, 500, array.ndim),
                    generator.integers(-500, 500, array.ndim),
                    generator.choice([1, 1, 2, 7, -1, -3, 900], array.ndim),
                    strict=True,
                )
            )[: generator.integers(0, array.ndim + 1)]
            np.testing.assert_array_equal(checkpoint.read(checkpoint.spec(name), window), array[window], strict=True)


def test_a_column_of_a_deflated_tensor_costs_little_memory(tmp_path: Path) -> None:
    array = np.random.default_rng(1).standard_normal((3000, 700)).astype(np.float32)
    with _opened(tmp_path / "m.npz", npz_bytes({"w.npy": npy_bytes(array)}, deflated=True)) as checkpoint:
        tracemalloc.start()
        column = checkpoint.read(checkpoint.spec("w"), (slice(None), slice(9, 10)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    np.testing.assert_array_equal(column, array[:, 9:10])
    assert peak < 2**19


@pytest.fixture
def inflated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all pieces that are inflated."""
    sizes: list[int] = []
    honest = _zip.inflate

    def counted(descriptor: int, member: _zip.Member, limits: Limits) -> Iterator[bytes]:
        for piece in honest(descriptor, member, limits):
            sizes.append(len(piece))
            yield piece

    monkeypatch.setattr(_zip, "inflate", counted)
    return sizes


WIDE = np.random.default_rng(5).standard_normal((2, 300_000))  # against the order of the file, in 5 blocks


@pytest.mark.parametrize(("array", "fortran"), [(WIDE, False), (WIDE.T.copy(), True), (WIDE.reshape(2, 300, 1000), True)])
def test_a_matrix_across_the_order_of_the_file_is_inflated_six_times_at_most(
    tmp_path: Path, inflated: list[int], array: NDArray[Any], fortran: bool
) -> None:
    path = tmp_path / "m.npz"
    path.write_bytes(npz_bytes({"w.npy": npy_bytes(array, fortran=fortran)}, deflated=True))
    with open_checkpoint(path) as checkpoint:
        spec = checkpoint.spec("w")
        inflated.clear()
        for passes in range(3):
            for start in range(0, max(array.shape), 1000):
                cut = slice(start, start + 1000)
                window = (cut,) if array.shape[0] > 2 else (slice(None),) * (array.ndim - 1) + (cut,)
                np.testing.assert_array_equal(checkpoint.read(spec, window), array[window])
            assert sum(inflated) <= 6 * (array.nbytes + 128), f"pass {passes}"


def test_what_is_read_in_order_is_inflated_once_per_pass_and_never_held(tmp_path: Path, inflated: list[int]) -> None:
    array = np.random.default_rng(6).standard_normal((4000, 100))
    path = tmp_path / "m.npz"
    path.write_bytes(npz_bytes({"w.npy": npy_bytes(array)}, deflated=True))
    with open_checkpoint(path) as checkpoint:
        spec = checkpoint.spec("w")
        inflated.clear()
        tracemalloc.start()
        for _ in range(3):
            for start in range(0, 4000, 100):
                checkpoint.read(spec, (slice(start, start + 100),))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert sum(inflated) == 3 * (array.nbytes + 128)
    assert peak < array.nbytes // 4


def test_a_tensor_is_held_only_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    members = {"a.npy": npy_bytes(WIDE), "b.npy": npy_bytes(WIDE + 1)}
    path.write_bytes(npz_bytes(members, deflated=True))
    with open_checkpoint(path) as checkpoint:
        tracemalloc.start()
        for name in "abab":
            for start in range(0, 300_000, 30_000):
                checkpoint.read(checkpoint.spec(name), (slice(None), slice(start, start + 1000)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert WIDE.nbytes < peak < 1.5 * WIDE.nbytes
    assert ww_static.analyze(path).exit_code == 0


def test_what_may_be_held_is_part_of_the_memory_that_a_row_needs(tmp_path: Path) -> None:
    array = np.random.default_rng(8).standard_normal((40, 300))
    needed = []
    for deflated in (False, True):
        (tmp_path / "m.npz").write_bytes(npz_bytes({"w.npy": npy_bytes(array)}, deflated))
        (row,) = ww_static.describe(tmp_path / "m.npz").rows
        assert isinstance(row, TensorRow)
        assert row.memory_bytes is not None
        needed.append(row.memory_bytes)
    assert needed[1] - needed[0] == array.nbytes


def test_damaged_deflated_values_are_no_values(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    array = np.random.default_rng(2).standard_normal((64, 64))
    data = npz_bytes({"w.npy": npy_bytes(array)}, deflated=True)
    crc = zipfile.ZipFile(io.BytesIO(data)).infolist()[0].CRC.to_bytes(4, "little")
    assert data.count(crc) == 2
    with _opened(path, data.replace(crc, b"\1\0\0\0")) as checkpoint:
        with pytest.raises(FormatError, match=r"crc_mismatch: member 'w\.npy': the checksum is \w{8}, 00000001 is declared"):
            checkpoint.read(checkpoint.spec("w"))
        with pytest.raises(FormatError, match="crc_mismatch"):
            checkpoint.read(checkpoint.spec("w"), (slice(60, 64),))
        np.testing.assert_array_equal(checkpoint.read(checkpoint.spec("w"), (slice(0, 9),)), array[:9])
    result = ww_static.analyze(path)
    assert [(row.status, row.reason) for row in result] == [("failed", "crc_mismatch")]
    assert result.exit_code == 3


def test_an_array_of_a_hundred_gibibytes_opens_without_its_values(tmp_path: Path) -> None:
    side = 160_000
    header = f"{{'descr': '<f4', 'fortran_order': True, 'shape': ({side}, {side})}}"
    path = tmp_path / "w.npy"
    with path.open("wb") as stream:
        stream.write(raw_npy(header))
        stream.truncate(len(raw_npy(header)) + 4 * side**2)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.read(checkpoint.spec("w"), (slice(-1, None), slice(0, 2))).tolist() == [[0.0, 0.0]]
        assert checkpoint.read(checkpoint.spec("w"), (slice(-3, None), slice(-1, None))).shape == (3, 1)


# the same numbers as from safetensors


def test_the_same_arrays_give_the_same_hashes_and_spectra_as_safetensors(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    arrays = {
        f"layer{n}.weight": generator.standard_normal(shape).astype(np.float32) for n, shape in enumerate(((90, 60), (40, 80)))
    }
    (tmp_path / "m.safetensors").write_bytes(safetensors_bytes(arrays))
    expected = ww_static.analyze(tmp_path / "m.safetensors", metrics=["default", "esd"])
    forms: list[tuple[Order, bool, bool]] = [("<", False, False), ("<", False, True), (">", True, False), (">", True, True)]
    for number, (order, fortran, deflated) in enumerate(forms):
        path = tmp_path / f"m{number}.npz"
        path.write_bytes(
            npz_bytes({f"{name}.npy": npy_bytes(array, order, fortran) for name, array in arrays.items()}, deflated)
        )
        found = ww_static.analyze(path, metrics=["default", "esd"])
        assert found.exit_code == 0
        for row, other in zip(found, expected, strict=True):
            assert row.content_hash == other.content_hash
            assert row.name == other.name
            assert row.esd is not None
            assert other.esd is not None
            np.testing.assert_allclose(np.asarray(row.esd), np.asarray(other.esd), rtol=1e-12)
            assert row.alpha == pytest.approx(other.alpha, rel=1e-12)
        assert found.file_rows[0].tensors == 2


# headers


def _npy(**fields: str) -> str:
    parts = {"descr": "'<f4'", "fortran_order": "False", "shape": "(6, 8)"} | fields
    return "{" + ", ".join(f"'{key}': {value}" for key, value in parts.items()) + "}\n"


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_the_three_versions_are_read(tmp_path: Path, version: tuple[int, int]) -> None:
    with _opened(tmp_path / "w.npy", raw_npy(_npy(), GOOD.tobytes(), version)) as checkpoint:
        np.testing.assert_array_equal(checkpoint.read(checkpoint.spec("w")), GOOD, strict=True)


@pytest.mark.parametrize("version", [(0, 0), (1, 1), (4, 0), (9, 0)])
def test_other_versions_are_unsupported(tmp_path: Path, version: tuple[int, int]) -> None:
    with pytest.raises(
        UnknownFormatError, match=f"unsupported: tensor 'w': a numpy array of version {version[0]}.{version[1]}"
    ):
        _opened(tmp_path / "w.npy", raw_npy(_npy(), GOOD.tobytes(), version))


@pytest.mark.parametrize(
    "header",
    [
        "", "{}", "[]", "'descr'", "1", "None", "{'descr': '<f4'}", _npy(more="1"), _npy(shape="__import__('os').system('x')"), "(" * 5000,
        "[" * 5000 + "]" * 5000, "-" * 9000 + "1", "{'a': " * 1500, _npy(shape="1" * 5000), _npy(descr="'\\d'"), "{[]: 1}", "\0", "{**{}}",
        "1if 2else 3", "{'descr', 'fortran_order', 'shape'}", _npy(shape="[6, 8]"), _npy(shape="48"), _npy(shape="(6, 8.0)"),
        _npy(shape="(6, -8)"), _npy(shape="(6, True)"), _npy(shape="(6, '8')"), _npy(shape="{6, 8}"), _npy(fortran_order="0"),
        _npy(fortran_order="None"), " " + _npy(), "x = 1", "lambda: 0", "(6L, 8L)",
    ],
)  # fmt: skip
def test_a_header_that_is_not_the_dictionary_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(FormatError, match=r"bad_header: tensor 'w': "):
        _opened(tmp_path / "w.npy", raw_npy(header, GOOD.tobytes()))


def test_a_header_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="bad_header: tensor 'w': its header is not UTF-8 at byte 0"):
        _opened(tmp_path / "w.npy", raw_npy(b"\xff", b"", (3, 0)))


def test_a_key_twice_is_refused(tmp_path: Path) -> None:
    header = "{'shape': (1,), 'descr': '<f4', 'fortran_order': False, 'shape': (6, 8)}"
    with pytest.raises(FormatError, match="duplicate_name: tensor 'w': a key of its header appears twice"):
        _opened(tmp_path / "w.npy", raw_npy(header, GOOD.tobytes()))


@pytest.mark.parametrize(
    "shape", ["(0x" + "f" * 9000 + ",)", "(4294967296, 4294967296)", "(0, 4611686018427387904, 8)", f"({2**63},)"]
)
def test_a_shape_beyond_63_bits_is_an_overflow_even_beside_a_zero(tmp_path: Path, shape: str) -> None:
    for data in (raw_npy(_npy(shape=shape)), npz_bytes({"w.npy": raw_npy(_npy(shape=shape))})):
        with pytest.raises(FormatError, match="overflow: tensor 'w'"):
            _opened(tmp_path / "w.npy", data)


def test_too_few_bytes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=f"truncated: tensor 'w': ends at byte {len(GOOD_NPY)}, file has {len(GOOD_NPY) - 1}"):
        _opened(tmp_path / "w.npy", GOOD_NPY[:-1])
    for deflated in (False, True):
        with pytest.raises(FormatError, match="size_mismatch: tensor 'w': 191 bytes for 192 needed by its shape"):
            _opened(tmp_path / "w.npz", npz_bytes({"w.npy": GOOD_NPY[:-1]}, deflated))
    for length in (6, 7, 8, 9, 30):
        with pytest.raises(FormatError, match="truncated: tensor 'w'"):
            _opened(tmp_path / "w.npy", GOOD_NPY[:length])


@pytest.mark.parametrize("deflated", [False, True])
def test_bytes_after_the_values_are_a_finding(tmp_path: Path, deflated: bool) -> None:
    for data in (GOOD_NPY + b"abc", npz_bytes({"w.npy": GOOD_NPY + b"abc"}, deflated)):
        with _opened(tmp_path / "w.npy", data) as checkpoint:
            found = [(one.category, one.problem, one.tensor) for one in checkpoint.findings]
            assert found == [("trailing_data", "3 bytes follow its values", "w")]
            np.testing.assert_array_equal(checkpoint.read(checkpoint.spec("w")), GOOD, strict=True)


# dtypes that are no tensors


_UNREAD = [
    ("'|O'", "unsafe_pickle", "Python objects"),
    ("'O'", "unsafe_pickle", "Python objects"),
    ("'<O8'", "unsafe_pickle", "Python objects"),
    ("[('a', '<f4'), ('b', [('c', '|O', (2,))])]", "unsafe_pickle", "Python objects"),
    ("('|O', (3,))", "unsafe_pickle", "Python objects"),
    ("[('O', '<f4'), ('b', '<i4')]", "unsupported_dtype", "records"),
    ("('<f4', (3,))", "unsupported_dtype", "records"),
    ("[]", "unsupported_dtype", "records"),
    ("{'names': ['O']}", "unsupported_dtype", "records"),
    ("None", "unsupported_dtype", "records"),
    ("[('a', '<f4', (0x" + "f" * 9000 + ",))]", "unsupported_dtype", "records"),
    ("'<V2'", "unsupported_dtype", "V2 is what numpy makes of bfloat16"),
    ("'|V2'", "unsupported_dtype", "V2 is what numpy makes of bfloat16"),
    ("'|V1'", "unsupported_dtype", "bytes without a meaning"),
    ("'<c16'", "unsupported_dtype", "not read"),
    ("'<f16'", "unsupported_dtype", "not read"),
]


@pytest.mark.parametrize(("descr", "category", "words"), _UNREAD)
def test_an_array_that_cannot_be_read_is_a_finding_beside_others_and_a_refusal_alone(
    tmp_path: Path, descr: str, category: str, words: str
) -> None:
    odd = raw_npy(_npy(descr=descr, shape="(1,)"), b"\x80\x02cposix\nsystem\n")
    for data in (odd, npz_bytes({"odd.npy": odd})):
        with pytest.raises(FormatError, match=f"{category}: tensor 'odd': .*{words}"):
            _opened(tmp_path / "odd.npy", data)
    path = tmp_path / "m.npz"
    with _opened(path, npz_bytes({"w.npy": GOOD_NPY, "odd.npy": odd})) as checkpoint:
        assert [spec.name for spec in checkpoint.tensors] == ["w"]
        assert [(one.category, one.tensor) for one in checkpoint.findings] == [(category, "odd")]
    result = ww_static.analyze(path)
    assert result.exit_code == 3
    assert [(row.category, row.inconclusive) for row in result.finding_rows if row.name == "odd"] == [(category, True)]


def test_objects_come_first_when_nothing_can_be_read(tmp_path: Path) -> None:
    members = {
        f"{n}.npy": raw_npy(_npy(descr=descr, shape="(1,)"), bytes(8)) for n, descr in enumerate(("'<V2'", "'|O'", "'<V2'"))
    }
    with pytest.raises(FormatError, match="unsafe_pickle: tensor '1'"):
        _opened(tmp_path / "m.npz", npz_bytes(members))


def test_bfloat16_as_numpy_saves_it_is_refused_with_a_hint(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", GOOD.astype(ml_dtypes.bfloat16))
    with pytest.raises(
        FormatError, match=r"unsupported_dtype: tensor 'w': dtype '.V2' .*save it as float32, or as safetensors"
    ):
        open_checkpoint(tmp_path / "w.npy")


def test_text_and_times_are_no_weights(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", w=GOOD, names=np.array(["a", "b"]), raw=np.array([b"a"]), when=np.array(["2020"], "M8[ns]"))
    with open_checkpoint(tmp_path / "m.npz") as checkpoint:
        assert [spec.name for spec in checkpoint.tensors] == ["w"]
        assert [(one.category, one.tensor) for one in checkpoint.findings] == [
            ("non_float", n) for n in ("names", "raw", "when")
        ]
    assert ww_static.analyze(tmp_path / "m.npz").exit_code == 0
    np.savez(tmp_path / "n.npz", names=np.array(["a", "b"]))
    result = ww_static.analyze(tmp_path / "n.npz")
    assert (result.exit_code, "no_tensors" in {row.category for row in result.finding_rows}) == (3, True)


@pytest.mark.parametrize(
    "descr", ["f4", "=f4", "|f4", "<f3", "<i16", "<q9", "float32", "", "<f4[s]", "<f", "f4<", "<f4 ", "\x1b"]
)
def test_other_dtypes_are_unknown(tmp_path: Path, descr: str) -> None:
    with pytest.raises(FormatError, match=r"unknown_dtype: tensor 'w': dtype .* is not known") as caught:
        _opened(tmp_path / "w.npy", raw_npy(_npy(descr=repr(descr)), GOOD.tobytes()))
    assert str(caught.value).isprintable()


# members and names


def test_a_member_is_an_array_by_its_content(tmp_path: Path) -> None:
    members = {"w.npy": GOOD_NPY, "plain": GOOD_NPY, "notes.txt": b"hello", "folder/": b"", "folder/empty": b""}
    for deflated in (False, True):
        with _opened(tmp_path / "m.npz", npz_bytes(members, deflated)) as checkpoint:
            assert [spec.name for spec in checkpoint.tensors] == ["w", "plain"]
            found = [(one.category, one.where) for one in checkpoint.findings]
            assert found == [("unsupported", "member 'notes.txt'"), ("unsupported", "member 'folder/empty'")]
    assert ww_static.analyze(tmp_path / "m.npz").exit_code == 3
    with pytest.raises(FormatError, match=r"bad_header: tensor 'x': does not begin with the mark"):
        _opened(tmp_path / "m.npz", npz_bytes({"w.npy": GOOD_NPY, "x.npy": b"hello"}))


def test_two_members_of_one_array_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="duplicate_name: tensor 'w': is in the archive with and without its suffix"):
        _opened(tmp_path / "m.npz", npz_bytes({"w.npy": GOOD_NPY, "w": GOOD_NPY}))


@pytest.mark.parametrize("name", ["../w.npy", "/etc/w.npy", "a\\w.npy", "C:w.npy", "a/../../w.npy"])
def test_a_name_that_leads_out_is_a_finding_and_a_name(tmp_path: Path, name: str) -> None:
    with _opened(tmp_path / "m.npz", npz_bytes({name: GOOD_NPY})) as checkpoint:
        assert [one.category for one in checkpoint.findings] == ["path_escape"]
        np.testing.assert_array_equal(checkpoint.read(checkpoint.spec(name[:-4])), GOOD, strict=True)
    assert os.listdir(tmp_path) == ["m.npz"]


def test_an_array_is_called_as_its_file_in_valid_text(tmp_path: Path) -> None:
    for file, name in ((b"caf\xe9.npy", "caf\\xe9"), (b"W.NPY", "W"), (b"w", "w"), (b"a.b", "a"), (b".npy", "")):
        with _opened(Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + file)), GOOD_NPY) as checkpoint:
            assert [spec.name for spec in checkpoint.tensors] == [name]


def test_a_zip_whose_first_member_is_something_else_is_not_ours(tmp_path: Path) -> None:
    for members in ({"archive/other": b".", "w.npy": GOOD_NPY}, {"config.json": b"{}"}):
        with pytest.raises(UnknownFormatError, match="unsupported: this is a zip archive"):
            _opened(tmp_path / "m.npz", npz_bytes(members))


def test_models_of_a_folder_are_its_npz_and_npy_files() -> None:
    found = npz.models(["a.npz", "b.NPY", "c.npz.txt", ".npz", "d"])
    assert [(one.file, one.model) for one in found] == [("a.npz", "a"), ("b.NPY", "b"), (".npz", ".npz")]


def test_a_spec_of_another_file_and_a_closed_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.npy").write_bytes(GOOD_NPY)
    checkpoint = npz.open(tmp_path / "w.npy", Limits())
    (spec,) = checkpoint.tensors
    checkpoint.close()
    checkpoint.close()
    with pytest.raises(FormatError, match="bad_header: tensor 'w': the file is closed"):
        checkpoint.read(spec)


# limits


def test_limit_npy_header_bytes(tmp_path: Path) -> None:
    length = len(GOOD_NPY) - 192 - 10
    for data in (GOOD_NPY, npz_bytes({"w.npy": GOOD_NPY}), npz_bytes({"w.npy": GOOD_NPY}, deflated=True)):
        _opened(tmp_path / "w.npy", data, Limits(npy_header_bytes=length)).close()
        with pytest.raises(LimitError, match=f"limit: tensor 'w': a header of {length} bytes, limit {length - 1}"):
            _opened(tmp_path / "w.npy", data, Limits(npy_header_bytes=length - 1))


def test_limit_inflated_bytes(tmp_path: Path, inflated: list[int]) -> None:
    array = np.random.default_rng(7).standard_normal((64, 3000))
    data = npz_bytes({"w.npy": npy_bytes(array)}, deflated=True)
    counts = []
    for most in (array.nbytes + 128, array.nbytes + 127):
        with _opened(tmp_path / "m.npz", data, Limits(inflated_bytes=most)) as checkpoint:
            inflated.clear()
            for start in range(0, 3000, 100):
                window = (slice(None), slice(start, start + 100))
                np.testing.assert_array_equal(checkpoint.read(checkpoint.spec("w"), window), array[window])
            counts.append(sum(inflated) // array.nbytes)
    assert counts[0] <= 6
    assert counts[1] > 20


def test_limit_rank_and_tensors_of_arrays(tmp_path: Path) -> None:
    with pytest.raises(LimitError, match="limit: tensor 'w': 2 dimensions, limit 1"):
        _opened(tmp_path / "w.npy", GOOD_NPY, Limits(rank=1))
    with pytest.raises(LimitError, match="limit: header: 1 tensors, limit 0"):
        _opened(tmp_path / "w.npy", GOOD_NPY, Limits(tensors=0))
