"""Containers of PyTorch: archives, legacy streams, bare pickles; what two readers could read differently is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

import torch_files as tf
import ww_static
from torch_files import Raw, call, glob, op, pickled, stored, tensor, zipped
from torch_support import FLOATS, FULL, FULL_1, VALUES, opened
from ww_static.errors import FormatError, UnknownFormatError
from ww_static.protocol import Limits
from ww_static.seam import open_checkpoint
from ww_static_readers import pytorch


def test_a_flipped_byte_of_a_weight_fails_its_row_and_no_other(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(64, 32)).astype(np.float32)
    raw = bytearray(
        zipped(
            tf.members(
                {"a": tensor(stored("FloatStorage", "0", 2048), (64, 32)), "b": FULL_1},
                {"0": values.tobytes(), "1": VALUES.tobytes()},
            )
        )
    )
    path = tmp_path / "m.pt"
    raw[raw.index(values.tobytes()) + 700] ^= 1
    path.write_bytes(raw)
    result = ww_static.analyze(path)
    assert {row.name: row.reason for row in result if row.status == "failed"} == {"a": "crc_mismatch"}
    assert result.exit_code == 3


def test_a_flipped_byte_of_a_compressed_weight_is_never_given_out(tmp_path: Path) -> None:
    root = {"w": FULL, "again": tensor(FLOATS, (3, 4), (0, 6), 2)}
    path = tmp_path / "m.pt"
    path.write_bytes(zipped(tf.members(root, {"0": VALUES.tobytes()}), deflated=True, crc={"archive/data/0": 1}))
    with open_checkpoint(path) as checkpoint:
        for name in root:
            with pytest.raises(FormatError, match="crc_mismatch: member 'archive/data/0': the checksum is"):
                checkpoint.read(checkpoint.spec(name))


def test_a_checksum_of_0_was_not_recorded(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    for deflated in (False, True):
        content = tf.members({"w": FULL}, {"0": VALUES.tobytes()})
        path.write_bytes(zipped(content, deflated, crc=dict.fromkeys(content, 0)))
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.findings == ()
            assert (checkpoint.read(checkpoint.spec("w")) == VALUES.reshape(4, 6)).all()


def test_views_of_a_compressed_storage_are_those_of_a_stored_one(tmp_path: Path) -> None:
    values = np.random.default_rng(7).integers(0, 99, 200_000).astype(np.float32)
    held = stored("FloatStorage", "0", 200_000)
    forms: dict[str, tuple[tuple[int, ...], tuple[int, ...], int]] = {
        "plain": ((500, 400), (400, 1), 0), "turned": ((400, 500), (1, 400), 0), "gaps": ((30, 40), (4000, 7), 11),
        "twice": ((3, 50), (0, 2), 5), "overlapping": ((90, 40), (3, 2), 1), "moved": ((5, 20, 30), (1, 600, 10), 100),
    }  # fmt: skip
    root = {name: tensor(held, *form) for name, form in forms.items()}
    path = tmp_path / "m.pt"
    path.write_bytes(zipped(tf.members(root, {"0": values.tobytes()}), deflated=True))
    with open_checkpoint(path) as checkpoint:
        for name, (shape, strides, offset) in forms.items():
            expected = np.lib.stride_tricks.as_strided(values[offset:], shape, [4 * stride for stride in strides])
            spec = checkpoint.spec(name)
            assert (spec.encoding, spec.extent) == ("compressed", None)
            for window in ((), (slice(1, 3),), (slice(None, None, -2), slice(2, 5))):
                assert np.array_equal(checkpoint.read(spec, window), expected[window]), name


def test_a_pickle_with_another_checksum_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(zipped(tf.members({"w": FULL}, {"0": VALUES.tobytes()}), crc={"archive/data.pkl": 1}))
    with open_checkpoint(path) as checkpoint:
        assert [one.category for one in checkpoint.findings] == ["crc_mismatch"]


def test_a_record_longer_than_its_storage_is_a_finding(tmp_path: Path) -> None:
    with opened(tmp_path, {"w": FULL}, {"0": VALUES.tobytes() + b"more"}) as checkpoint:
        assert [one.category for one in checkpoint.findings] == ["size_mismatch"]


def _changed(folder: Path, old: bytes, new: bytes, count: int = 1) -> Path:
    raw = zipped(tf.members({"w": FULL}, {"0": VALUES.tobytes()}))
    assert old in raw
    (folder / "m.pt").write_bytes(raw.replace(old, new, count))
    return folder / "m.pt"


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (b"archive/data.pkl", b"archive/date.pkl", "corrupt_archive: member 'archive/data.pkl': its name is not the one"),
        (b"archive/byteorder", b"archive/byteordes", "corrupt_archive"),
        (b"PK\3\4\x2d\0\x08\0\0", b"PK\3\4\x2d\0\x09\0\0", "corrupt_archive"),
        (
            b"PK\1\2\x2d\0\x2d\0\x08\0\0",
            b"PK\1\2\x2d\0\x2d\0\x09\0\0",
            "corrupt_archive: .*: its flags is not the one in the directory",
        ),
        (b"PK\1\2\x2d\0\x2d\0\x08\0\0", b"PK\1\2\x2d\0\x2d\0\x08\0\x0c", "corrupt_archive: .*: its method is not the one"),
        (b"PK\5\6", b"PK\5\7", "truncated: zip: no end record"),
        (b"PK\1\2", b"PK\1\3", "corrupt_archive: zip: no directory entry for member 0 of 4"),
        (b"PK\5\6\0\0\0\0", b"PK\5\6\1\0\0\0", "unsupported: zip: the archive is split over several files"),
        (b"little", b"middle", "bad_header: byteorder: is b'middle'"),
    ],
)
def test_archives_with_two_meanings_are_refused(tmp_path: Path, old: bytes, new: bytes, match: str) -> None:
    with pytest.raises(FormatError, match=match):
        pytorch.open(_changed(tmp_path, old, new), Limits())


def test_archives_need_one_pickle_and_distinct_names(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    for content, match in (
        ({"a/data.pkl": pickled({}), "b/DATA.pkl": pickled({})}, "corrupt_archive: zip: has 2 members named"),
        ({"archive/version": b"3"}, "missing_part"),
    ):
        path.write_bytes(zipped(content))
        with pytest.raises(FormatError, match=match):
            pytorch.open(path, Limits())
    path.write_bytes(zipped({"archive/data.pkl": pickled({}), "archive/data.pkm": b""}).replace(b"data.pkm", b"data.pkl"))
    with pytest.raises(FormatError, match=r"duplicate_name: zip: two members named 'archive/data\.pkl'"):
        pytorch.open(path, Limits())


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    raw = bytearray(zipped({"archive/data.pkl": pickled({}), "archive/version": b"3\n"}))
    second = raw.rindex(b"PK\1\2")
    raw[second:] = raw[second:].replace(struct.pack("<I", raw.index(b"PK\3\4", 4)), struct.pack("<I", 0), 1)
    (tmp_path / "m.pt").write_bytes(raw)
    with pytest.raises(FormatError, match="corrupt_archive"):
        pytorch.open(tmp_path / "m.pt", Limits())


def test_names_that_lead_out_are_found_and_not_used(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(zipped(tf.members({"w": FULL}, {"0": VALUES.tobytes()}) | {"../../x": b"", "/etc/x": b"", "a\\b": b""}))
    with open_checkpoint(path) as checkpoint:
        assert [one.category for one in checkpoint.findings] == ["path_escape"] * 3
        assert checkpoint.read(checkpoint.spec("w")).shape == (4, 6)


def test_bytes_after_the_last_storage_of_a_legacy_file_are_a_finding(tmp_path: Path) -> None:
    root = {"w": tensor(stored("FloatStorage", "0", 24, None), (4, 6))}
    path = tmp_path / "m.pth"
    path.write_bytes(tf.legacy(root, {"0": (24, VALUES.tobytes())}) + b"PK\3\4")
    with open_checkpoint(path) as checkpoint:
        assert [one.category for one in checkpoint.findings] == ["trailing_data"]


@pytest.mark.parametrize(
    ("count", "match"),
    [(2**61, "size_mismatch"), (-1, "size_mismatch"), (23, "size_mismatch: storage '0': 23 elements for 24")],
)
def test_counts_of_a_legacy_file_must_agree(tmp_path: Path, count: int, match: str) -> None:
    root = {"w": tensor(stored("FloatStorage", "0", 24, None), (4, 6))}
    (tmp_path / "m.pth").write_bytes(tf.legacy(root, {"0": (count, VALUES.tobytes())}))
    with pytest.raises(FormatError, match=match):
        pytorch.open(tmp_path / "m.pth", Limits())


def test_old_views_of_a_legacy_storage_are_placed_inside_it(tmp_path: Path) -> None:
    root = {
        "w": tensor(stored("FloatStorage", "0", 24, ("1", 12, 6)), (2, 3)),
        "all": tensor(stored("FloatStorage", "0", 24, None), (24,)),
    }
    for big in (False, True):
        (tmp_path / "m.pth").write_bytes(tf.legacy(root, {"0": (24, VALUES.tobytes())}, big))
        with open_checkpoint(tmp_path / "m.pth") as checkpoint:
            assert checkpoint.read(checkpoint.spec("w")).tolist() == [[12, 13, 14], [15, 16, 17]]
    root = {"w": tensor(stored("FloatStorage", "0", 24, ("1", 12, 6)), (7,))}
    (tmp_path / "m.pth").write_bytes(tf.legacy(root, {"0": (24, VALUES.tobytes())}))
    with pytest.raises(FormatError, match="bad_offsets"):
        pytorch.open(tmp_path / "m.pth", Limits())


def test_tar_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(b"storages".ljust(257, b"\0") + b"ustar\x0000".ljust(255, b"\0"))
    with pytest.raises(UnknownFormatError, match=r"unsupported: this is a tar archive, as torch 0\.1 wrote them"):
        open_checkpoint(path)


def test_files_of_a_folder_are_claimed_by_their_suffix(tmp_path: Path) -> None:
    names = [
        "a.pt",
        "b.PTH",
        "pytorch_model.bin",
        "c.ckpt",
        "training_args.bin",
        "optimizer.pt",
        "rng_state_0.pth",
        "d.txt",
        ".pt",
    ]
    assert [one.file for one in pytorch.models(names)] == ["a.pt", "b.PTH", "pytorch_model.bin", "c.ckpt"]
    assert [one.file for one in pytorch.models([*names, "model.safetensors"])] == ["a.pt", "b.PTH", "c.ckpt"]


@pytest.mark.parametrize("head", [b"PK\3\4" + bytes(40), b"hello", b"crazy talk", b"}", b"(", b"\x80\x06}.", b"\x80\x01}."])
def test_heads_of_something_else_are_not_taken(head: bytes) -> None:
    assert pytorch.sniff(Path("model.pt"), head) is False


@pytest.mark.parametrize("name", ["w.npy", "metadata.json", "model.weights.h5", "META-INF/MANIFEST.MF", "word/document.xml"])
def test_other_archives_are_not_taken(name: str) -> None:
    assert pytorch.sniff(Path("model.pt"), zipped({name: b"x"})[:512]) is False


@pytest.mark.parametrize("body", [b"(dp0\nS'w'\np1\nI1\ns.", b"}q\x00.", b"ccollections\nOrderedDict\n(tR."])
def test_bare_pickles_without_an_array_are_refused_for_what_they_are(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "m.pt").write_bytes(body)
    with pytest.raises(UnknownFormatError, match="unsupported: this is a pickle without any array"):
        open_checkpoint(tmp_path / "m.pt")


def test_a_bare_pickle_that_calls_something_is_unsafe(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(pickled(call("posix", "system", "x")))
    with pytest.raises(
        FormatError, match=r"unsafe_pickle: pickle: calls 'posix\.system', which can run code; then unsupported"
    ):
        open_checkpoint(tmp_path / "m.pkl")


def test_arrays_of_a_bare_pickle_are_read(tmp_path: Path) -> None:
    made = call("numpy.core.multiarray", "_reconstruct", glob("numpy", "ndarray"), (0,), b"b")
    array = Raw(made + op((1, (4, 6), call("numpy", "dtype", "f4", False, True), False, VALUES.tobytes())) + b"b")
    (tmp_path / "m.pkl").write_bytes(pickled({"w": array}, 4) + b"more")
    with open_checkpoint(tmp_path / "m.pkl") as checkpoint:
        assert (checkpoint.read(checkpoint.spec("w")) == VALUES.reshape(4, 6)).all()
        assert [one.category for one in checkpoint.findings] == ["trailing_data"]
