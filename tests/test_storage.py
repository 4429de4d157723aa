"""Where bytes come from: files that are opened, references that stay inside, windows that are mapped."""

from __future__ import annotations

import mmap
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ww_static import dtypes, storage
from ww_static.errors import FormatError, UnsafeFileError


def _content(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A model folder with files in it and a secret beside it."""
    folder = tmp_path / "model"
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "part").write_bytes(b"part")
    (folder / "sub" / "part").write_bytes(b"sub part")
    (folder / "sub" / "deep" / "part").write_bytes(b"deep part")
    (tmp_path / "secret").write_bytes(b"secret")
    return folder


@pytest.fixture(autouse=True)
def no_descriptor_is_lost() -> Iterator[None]:
    before = len(os.listdir("/dev/fd"))
    yield
    assert len(os.listdir("/dev/fd")) == before


# open_file


def test_a_regular_file_is_opened_and_not_inherited(root: Path) -> None:
    descriptor = storage.open_file(root / "part")
    assert not os.get_inheritable(descriptor)
    assert _content(descriptor) == b"part"


def test_a_link_that_the_user_named_is_followed(root: Path) -> None:
    (root / "link").symlink_to("../secret")
    assert _content(storage.open_file(root / "link")) == b"secret"


def test_what_is_no_regular_file_is_refused_without_waiting(root: Path) -> None:
    os.mkfifo(root / "fifo")
    for path, words in ((root, "directory"), (root / "fifo", "FIFO"), (Path("/dev/null"), "character device")):
        with pytest.raises(UnsafeFileError, match=f"not_regular_file: is a {words}"):
            storage.open_file(path)


def test_what_the_system_refuses_is_an_io_error(root: Path) -> None:
    (root / "loop").symlink_to("loop")
    for path in (root / "gone", root / "loop", root / "part" / "below", root / ("x" * 300), f"{root}/nul\0"):
        with pytest.raises(FormatError, match=r"io_error: [a-z]"):
            storage.open_file(path)


# open_inside


@pytest.mark.parametrize(
    ("reference", "content"),
    [
        ("part", b"part"),
        ("./part", b"part"),
        ("sub/part", b"sub part"),
        ("sub//deep/./part", b"deep part"),
        ("sub/./part", b"sub part"),
    ],
)
def test_a_name_below_the_folder_is_opened(root: Path, reference: str, content: bytes) -> None:
    assert _content(storage.open_inside(root, reference, "index")) == content


@pytest.mark.parametrize(
    "reference",
    [
        "..", "../secret", "sub/../part", "sub/../../secret", "sub/..", "./..", "/etc/passwd", "//part", "/", ".", "./", "C:part",
        "c:\\part", "sub\\part", "..\\secret", "\\\\host\\share", "part\0", "\0", "http://host/part", "file://part", "s3://b/part",
    ],
)  # fmt: skip
def test_a_reference_that_could_lead_out_is_refused(root: Path, reference: str) -> None:
    with pytest.raises(UnsafeFileError, match=r"path_escape: index: .* leaves the model directory") as caught:
        storage.open_inside(root, reference, "index")
    assert str(caught.value).isprintable()


def test_an_empty_reference_is_a_bad_header(root: Path) -> None:
    with pytest.raises(FormatError, match="bad_header: index: the reference to another file is empty"):
        storage.open_inside(root, "", "index")


@pytest.mark.parametrize("reference", ["gone", "gone/part", "sub/gone", "sub/deep/gone"])
def test_a_part_that_is_absent_is_a_missing_part(root: Path, reference: str) -> None:
    with pytest.raises(FormatError, match=f"missing_part: index: '{reference}' is missing"):
        storage.open_inside(root, reference, "index")


def test_a_name_that_is_too_long_is_an_io_error(root: Path) -> None:
    with pytest.raises(FormatError, match="io_error: index: file name too long"):
        storage.open_inside(root, "x" * 300, "index")


def test_a_part_that_is_no_regular_file_is_refused(root: Path) -> None:
    os.mkfifo(root / "fifo")
    for reference, words in (("sub", "directory"), ("fifo", "FIFO")):
        with pytest.raises(UnsafeFileError, match=f"not_regular_file: index: '{reference}' is a {words}"):
            storage.open_inside(root, reference, "index")


def test_below_a_file_there_is_nothing(root: Path) -> None:
    with pytest.raises(FormatError, match="missing_part: index: 'part/below' is missing"):
        storage.open_inside(root, "part/below", "index")


def test_a_link_that_stays_inside_is_followed(root: Path) -> None:
    (root / "link").symlink_to("sub/part")
    (root / "sub" / "link").symlink_to("deep/part")
    (root / "hop").symlink_to("./link")
    assert _content(storage.open_inside(root, "link", "index")) == b"sub part"
    assert _content(storage.open_inside(root, "sub/link", "index")) == b"deep part"
    assert _content(storage.open_inside(root, "hop", "index")) == b"sub part"


@pytest.mark.parametrize("target", ["../secret", "../model/part", "sub/../part", "/etc/passwd", "ABSOLUTE", "../../blobs/abc"])
def test_a_link_that_leads_out_is_refused(root: Path, target: str) -> None:
    (root / "link").symlink_to(os.fspath(root / "part") if target == "ABSOLUTE" else target)
    with pytest.raises(UnsafeFileError, match="path_escape: index: "):
        storage.open_inside(root, "link", "index")


def test_a_folder_that_is_a_link_is_not_entered(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "part").write_bytes(b"secret")
    (root / "out").symlink_to("../outside")
    (root / "in").symlink_to("sub")
    for reference in ("out/part", "in/part", "in/deep/part"):
        with pytest.raises(UnsafeFileError, match=r"path_escape: index: .* passes through a link"):
            storage.open_inside(root, reference, "index")


def test_circles_and_long_chains_of_links_end(root: Path) -> None:
    (root / "self").symlink_to("self")
    for number in range(12):
        (root / f"chain{number}").symlink_to(f"chain{number + 1}" if number < 11 else "part")
    for reference in ("self", "chain0"):
        with pytest.raises(UnsafeFileError, match=r"path_escape: index: .* is a chain of more than 8 links"):
            storage.open_inside(root, reference, "index")
    assert _content(storage.open_inside(root, "chain6", "index")) == b"part"


def test_a_folder_that_is_gone_is_a_missing_part(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="missing_part"):
        storage.open_inside(tmp_path / "gone", "part", "index")


@given(st.lists(st.sampled_from(["..", ".", "", "sub", "deep", "part", "secret", "out", "~", "\\", "model"]), max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
def test_no_reference_ever_opens_the_secret(root: Path, parts: list[str]) -> None:
    try:
        content = _content(storage.open_inside(root, "/".join(parts), "index"))
    except FormatError:
        return
    assert content != b"secret"


# the Hugging Face cache


def _cached(tmp_path: Path, below: str = "snapshots/abc", repository: str = "models--o--n") -> Path:
    folder = tmp_path / repository / below
    folder.mkdir(parents=True)
    blobs = tmp_path / repository / "blobs"
    blobs.mkdir(exist_ok=True)
    (blobs / "0f0f").write_bytes(b"blob")
    return folder


@pytest.mark.parametrize("nested", ["", "unet", "a/b/c"])
def test_a_blob_of_the_same_repository_is_opened(tmp_path: Path, nested: str) -> None:
    folder = _cached(tmp_path)
    (folder / nested).mkdir(parents=True, exist_ok=True)
    up = "../" * (2 + len(Path(nested).parts))
    (folder / nested / "f").symlink_to(f"{up}blobs/0f0f")
    assert _content(storage.open_inside(folder, f"{nested}/f".lstrip("/"), "index")) == b"blob"
    assert _content(storage.open_inside(folder / nested, "f", "index")) == b"blob"


@pytest.mark.parametrize(
    ("below", "repository", "target"),
    [
        ("snapshots/abc", "models--o--n", "../../blobs/0f0f/"),
        ("snapshots/abc", "models--o--n", "../../blobs/../blobs/0f0f"),
        ("snapshots/abc", "models--o--n", "../../../models--o--n/blobs/0f0f"),
        ("snapshots/abc", "models--o--n", "../../blobs/.hidden"),
        ("snapshots/abc", "models--o--n", "../../refs/main"),
        ("snapshots", "models--o--n", "../blobs/0f0f"),
        ("other/abc", "models--o--n", "../../blobs/0f0f"),
        ("snapshots/abc", "data--o--n", "../../blobs/0f0f"),
    ],
)
def test_other_shapes_of_the_cache_link_are_refused(tmp_path: Path, below: str, repository: str, target: str) -> None:
    folder = _cached(tmp_path, below, repository)
    (folder / "f").symlink_to(target)
    with pytest.raises(UnsafeFileError, match="path_escape"):
        storage.open_inside(folder, "f", "index")


def test_blobs_that_are_links_or_folders_are_refused(tmp_path: Path) -> None:
    folder = _cached(tmp_path)
    blobs = tmp_path / "models--o--n" / "blobs"
    (tmp_path / "secret").write_bytes(b"secret")
    (blobs / "aaaa").symlink_to(tmp_path / "secret")
    (blobs / "bbbb").symlink_to("../../secret")
    (blobs / "cccc").mkdir()
    for blob, words in (
        ("aaaa", "path_escape"),
        ("bbbb", "path_escape"),
        ("cccc", "not_regular_file"),
        ("dddd", "missing_part"),
    ):
        (folder / blob).symlink_to(f"../../blobs/{blob}")
        with pytest.raises(FormatError, match=words):
            storage.open_inside(folder, blob, "index")


def test_a_folder_of_blobs_that_is_itself_a_link_is_the_users_choice_of_cache(tmp_path: Path) -> None:
    folder = _cached(tmp_path)
    (folder / "f").symlink_to("../../blobs/0f0f")
    moved = (tmp_path / "models--o--n").rename(tmp_path / "elsewhere")
    (tmp_path / "models--o--n").symlink_to(moved)
    assert _content(storage.open_inside(tmp_path / "models--o--n" / "snapshots" / "abc", "f", "index")) == b"blob"


# reading


def test_positional_reads_give_exactly_what_was_asked(root: Path) -> None:
    descriptor = storage.open_file(root / "part")
    try:
        assert storage.read_at(descriptor, 1, 2, "x") == b"ar"
        assert storage.read_at(descriptor, 9, 0, "x") == b""
        with pytest.raises(FormatError, match="truncated: x: 2 bytes of 5 at byte 2"):
            storage.read_at(descriptor, 2, 5, "x")
        with pytest.raises(FormatError, match="io_error: x: invalid argument"):
            storage.read_at(descriptor, -1, 5, "x")
    finally:
        os.close(descriptor)


def _window(path: Path, dtype: str, shape: tuple[int, ...], window: tuple[slice, ...] = (), offset: int = 3) -> Any:
    descriptor = storage.open_file(path)
    try:
        return storage.window_of(descriptor, offset, dtype, shape, window)
    finally:
        os.close(descriptor)


def test_a_window_is_a_read_only_view_of_a_map_and_outlives_the_file(tmp_path: Path) -> None:
    values = np.arange(600, dtype=np.float32).reshape(30, 20)
    (tmp_path / "f").write_bytes(b"abc" + values.tobytes())
    array = _window(tmp_path / "f", "F32", (30, 20), (slice(4, 20, 3), slice(None, None, -2)))
    (tmp_path / "f").unlink()
    np.testing.assert_array_equal(array, values[4:20:3, ::-2])
    assert isinstance(array.base, mmap.mmap)
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1


def test_thousands_of_windows_share_one_map_and_one_descriptor(tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as stream:
        stream.truncate(3 + 4 * 2**30)
    before = len(os.listdir("/dev/fd"))
    arrays = [_window(tmp_path / "f", "F32", (2**15, 2**15), (slice(row, row + 2),)) for row in range(0, 6000, 2)]
    assert len({id(array.base) for array in arrays}) == 1
    assert len(os.listdir("/dev/fd")) == before + 1
    assert arrays[-1].sum() == 0
    arrays.clear()


def test_a_file_that_is_another_one_now_gets_a_map_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc" + np.zeros(6, np.float32).tobytes())
    before = _window(tmp_path / "f", "F32", (6,))
    (tmp_path / "g").write_bytes(b"abc" + np.ones(6, np.float32).tobytes())
    (tmp_path / "g").replace(tmp_path / "f")
    assert _window(tmp_path / "f", "F32", (6,)).sum() == 6
    assert before.sum() == 0


@pytest.mark.parametrize("dtype", ["F32", "F4", "F6_E3M2", "BF16", "U8"])
def test_values_that_end_past_the_file_are_truncated(tmp_path: Path, dtype: str) -> None:
    needed = dtypes.nbytes(dtype, 64)
    assert needed is not None
    (tmp_path / "f").write_bytes(bytes(3 + needed - 1))
    with pytest.raises(FormatError, match=f"truncated: values end at byte {3 + needed}, file has {2 + needed}"):
        _window(tmp_path / "f", dtype, (8, 8))
    assert _window(tmp_path / "f", dtype, (8, 8), (slice(0, 4),)).shape == (4, 8)


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3"])
def test_windows_of_packed_types_begin_and_end_anywhere(tmp_path: Path, dtype: str) -> None:
    bits = dtypes.DTYPES[dtype].bits
    codes = np.random.default_rng(0).integers(0, 1 << bits, (9, 12)).astype(np.uint8)
    number = sum(int(code) << (bits * place) for place, code in enumerate(codes.ravel()))
    (tmp_path / "f").write_bytes(b"abc" + number.to_bytes(codes.size * bits // 8, "little"))
    for start in range(9):
        for left in range(12):
            window = (slice(start, None), slice(left, None, 2))
            np.testing.assert_array_equal(_window(tmp_path / "f", dtype, (9, 12), window), codes[window])
            window = (slice(start, start + 1), slice(left, None, -1))
            np.testing.assert_array_equal(_window(tmp_path / "f", dtype, (9, 12), window), codes[window])


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3"])
def test_a_thin_window_of_a_packed_tensor_costs_little_memory(
    tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape, bits = (1024, 4, 2048), dtypes.DTYPES[dtype].bits
    raw = np.random.default_rng(1).integers(0, 256, 1024 * 4 * 2048 * bits // 8).astype(np.uint8)
    (tmp_path / "f").write_bytes(b"abc" + raw.tobytes())
    codes = dtypes.unpack(raw, dtype).reshape(shape)
    windows = [
        (slice(None), slice(None), slice(5, 6)), (slice(None, None, -1), slice(2, 3), slice(None, None, -500)),
        (slice(None, None, 1000), slice(0, 1), slice(-3, None)), (slice(3, None, 2), slice(None, None, -3), slice(None, 2)),
    ]  # fmt: skip
    for window in windows:
        tracemalloc.start()
        result = _window(tmp_path / "f", dtype, shape, window)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        np.testing.assert_array_equal(result, codes[window], strict=True)
        assert peak < 2**20
    monkeypatch.setattr(storage, "_MOST_UNPACKED", 1)
    for window in ((slice(None), slice(None), slice(0, 9, 4)), (slice(9, 0, -5), slice(1, 2), slice(40, None, -40))):
        np.testing.assert_array_equal(_window(tmp_path / "f", dtype, shape, window), codes[window], strict=True)


_CUTS = st.builds(
    slice,
    st.none() | st.integers(-9, 9) | st.integers(),
    st.none() | st.integers(-9, 9) | st.integers(),
    st.none() | st.integers(-4, 4).filter(bool) | st.integers().filter(bool),
)


@given(st.data(), st.lists(st.integers(0, 5), max_size=4).map(tuple), st.sampled_from(["F32", "BF16", "I8", "F64"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400, deadline=None)
def test_any_window_is_what_numpy_slicing_gives(
    tmp_path: Path, data: st.DataObject, shape: tuple[int, ...], dtype: str
) -> None:
    window = tuple(data.draw(st.lists(_CUTS, max_size=len(shape))))
    stored = dtypes.numpy_dtype(dtype)
    elements = int(np.prod(shape, dtype=int))
    values = np.arange(1, elements + 1).astype(stored).reshape(shape)
    path = tmp_path / "f"
    path.write_bytes(b"abc" + values.tobytes())
    expected, got = values[window], _window(path, dtype, shape, window)
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    assert got.tobytes() == expected.tobytes()


@given(st.data(), st.lists(st.integers(0, 5), max_size=4).map(tuple), st.sampled_from(["F32", "BF16", "I8"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
def test_any_window_of_a_column_major_tensor_is_what_numpy_slicing_gives(
    tmp_path: Path, data: st.DataObject, shape: tuple[int, ...], dtype: str
) -> None:
    window = tuple(data.draw(st.lists(_CUTS, max_size=len(shape))))
    values = np.arange(1, int(np.prod(shape, dtype=int)) + 1).astype(dtypes.numpy_dtype(dtype)).reshape(shape)
    (tmp_path / "f").write_bytes(b"abc" + values.tobytes("F"))
    descriptor = storage.open_file(tmp_path / "f")
    try:
        got = storage.window_of(descriptor, 3, dtype, shape, window, storage.row_major(shape[::-1])[::-1])
    finally:
        os.close(descriptor)
    assert got.shape == values[window].shape
    assert got.tobytes() == values[window].tobytes()


@pytest.mark.parametrize("most", [1, 2**22])
def test_a_packed_tensor_has_strides_too(tmp_path: Path, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_MOST_UNPACKED", most)
    codes = np.random.default_rng(2).integers(0, 16, (40, 64)).astype(np.uint8)
    flat = codes.ravel("F")
    (tmp_path / "f").write_bytes((flat[::2] | flat[1::2] << 4).tobytes())
    descriptor = storage.open_file(tmp_path / "f")
    try:
        for window in ((), (slice(3, 5),), (slice(None, None, -7), slice(60, 2, -11)), (slice(9, 8, -1),)):
            got = storage.window_of(descriptor, 0, "F4", (40, 64), window, (1, 40))
            np.testing.assert_array_equal(got, codes[window], strict=True)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("dtype", ["F32", "BF16", "U8", "F4"])
@pytest.mark.parametrize(("shape", "strides", "begin"), [((4, 6), (1, 4), 0), ((3, 5), (0, 2), 2), ((2, 3, 2), (1, 0, 7), 2)])
def test_strided_windows_equal_those_of_the_whole(
    tmp_path: Path, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...], begin: int
) -> None:
    """The same window from a map of the file, from bytes at hand, and by numpy's own strides."""
    raw = bytes(range(200))
    path = tmp_path / "raw"
    path.write_bytes(raw)
    stored = dtypes.numpy_dtype(dtype)
    flat = np.frombuffer(raw, np.uint8)[2 * begin :]
    codes = dtypes.unpack(flat, dtype) if dtype == "F4" else flat[: len(flat) // stored.itemsize * stored.itemsize].view(stored)
    whole = np.lib.stride_tricks.as_strided(codes, shape, [stride * codes.itemsize for stride in strides])
    descriptor = storage.open_file(path)
    try:
        for window in ((), (slice(1, 3),), (slice(None, None, -1), slice(0, None, 2)), (slice(2, 2),)):
            for source in (descriptor, raw):
                found = storage.window_of(source, 2 * begin, dtype, shape, window, strides)
                assert found.tobytes() == np.ascontiguousarray(whole[window]).tobytes()
                assert not found.flags.writeable or 0 in found.shape or dtype == "F4"
    finally:
        os.close(descriptor)


def test_row_major_strides_count_elements() -> None:
    assert storage.row_major((2, 3, 4)) == (12, 4, 1)
    assert storage.row_major(()) == ()


def test_a_strided_window_past_the_end_is_truncated() -> None:
    with pytest.raises(FormatError, match="truncated: values end at byte 44, file has 40"):
        storage.window_of(bytes(40), 0, "F32", (2, 2), (), (10, 0))
