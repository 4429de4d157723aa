"""The reduced surface of HDF5: links, layouts, dtypes, extents, attributes, and what is refused before it is opened."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import ww_static as ww
from keras_files import keras3, put, values
from ww_static.errors import FormatError, LimitError
from ww_static.protocol import Finding, Limits, TensorSpec
from ww_static_readers._hdf5_attributes import Attributes
from ww_static_readers._hdf5_file import Library, Stretch, guarded, superblock


def opened(path: Path, limits: Limits | None = None) -> tuple[dict[str, TensorSpec], list[Finding]]:
    with ww.open(path, limits=limits) as checkpoint:
        return {spec.name: spec for spec in checkpoint.tensors}, list(checkpoint.findings)


def problem(path: Path, limits: Limits | None = None) -> FormatError:
    with pytest.raises(FormatError) as caught:
        opened(path, limits)
    return caught.value


def stretch_of(path: Path) -> Stretch:
    raw = path.read_bytes()
    return Stretch(-1, 0, len(raw), raw)


# links


def test_soft_and_external_links_are_found_and_not_followed(tmp_path: Path) -> None:
    keras3(tmp_path / "target.h5", {"secret": values(5, 5)})
    with h5py.File(tmp_path / "m.h5", "w") as file:
        put(file, {"w": values(4, 4)})
        file["soft"] = h5py.SoftLink("/w")
        file["gone"] = h5py.SoftLink("/nowhere")
        file["g/out"] = h5py.ExternalLink("target.h5", "/secret")
    specs, findings = opened(tmp_path / "m.h5")
    assert list(specs) == ["w"]
    assert [(one.category, one.where, one.problem) for one in findings] == [
        ("path_escape", "link 'g/out'", "external link to another file, not followed"),
        ("unsafe_link", "link 'gone'", "soft link, not followed"),
        ("unsafe_link", "link 'soft'", "soft link, not followed"),
    ]
    result = ww.analyze(tmp_path / "m.h5")
    assert [(row.category, row.inconclusive) for row in result.finding_rows] == [
        ("path_escape", True), ("unsafe_link", False), ("unsafe_link", False),
    ]  # fmt: skip
    assert result.exit_code == 3


def test_many_links_that_are_not_followed_are_counted(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        for number in range(130):
            file[f"s{number}"] = h5py.SoftLink("/w")
    _, findings = opened(tmp_path / "m.h5")
    assert len(findings) == 101
    assert findings[-1].problem == "30 more links are not followed"


def test_a_cycle_of_hard_links_ends_and_groups_are_listed_once(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        put(file, {"a/b/w": values(4, 4)})
        file["a/b/root"], file["a/again"], file["z"] = file["/"], file["a"], file["a/b"]
    assert list(opened(tmp_path / "m.h5")[0]) == ["a/b/w"]


def test_a_dataset_with_two_names_is_listed_under_both_and_computed_once(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        put(file, {"embedding": values(30, 20)})
        file["head"] = file["embedding"]
    rows = {row.name: row.tied_to for row in ww.analyze(tmp_path / "m.h5")}
    assert rows == {"embedding": None, "head": "embedding"}


def test_names_that_are_no_text_or_look_like_paths_are_data(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        put(file, {"../..": values(3, 3), "a\u202e/..": values(4, 4)})
        file.create_dataset(b"\xff", data=values(5, 5))
        file.create_dataset("\\xff", data=values(6, 6))
    specs, _ = opened(tmp_path / "m.h5")
    assert {name: spec.shape[0] for name, spec in specs.items()} == {"../..": 3, "a\u202e/..": 4, "\\xff": 6, "\\xff#2": 5}


def test_a_thousand_groups_inside_each_other_are_legal(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        group: Any = file
        for _ in range(1000):
            group = group.create_group("g")
        group.create_dataset("w", data=values(4, 4))
    assert list(opened(tmp_path / "m.h5")[0]) == ["g/" * 1000 + "w"]
    assert problem(tmp_path / "m.h5", Limits(header_bytes=1999)).category == "limit"


# what is refused before it is opened


def test_values_in_another_file_are_never_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(values(8, 8).tobytes())
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("w", (8, 8), "<f4", external=[(os.fspath(tmp_path / "secret"), 0, 256)])
        put(file, {"v": values(12, 12)})
    specs, findings = opened(tmp_path / "m.h5")
    assert (specs["w"].encoding, specs["w"].extent) == ("unsupported", None)
    assert [(one.category, one.tensor) for one in findings] == [("path_escape", "w")]
    with ww.open(tmp_path / "m.h5") as checkpoint, pytest.raises(FormatError, match="path_escape: tensor 'w': its values lie"):
        checkpoint.read(checkpoint.spec("w"))
    rows = {row.name: (row.status, row.reason) for row in ww.analyze(tmp_path / "m.h5")}
    assert rows == {"w": ("skipped", "unsupported_layout"), "v": ("success", None)}


def test_a_virtual_dataset_is_found_and_its_sources_are_not_opened(tmp_path: Path) -> None:
    keras3(tmp_path / "source.h5", {"w": values(10, 10)})
    layout = h5py.VirtualLayout((10, 10), "<f4", maxshape=(None, 10))
    source = h5py.VirtualSource(os.fspath(tmp_path / "source.h5"), "w", (10, 10), maxshape=(None, 10))
    layout[: h5py.h5s.UNLIMITED, :] = source[: h5py.h5s.UNLIMITED, :]
    with h5py.File(tmp_path / "m.h5", "w", libver="latest") as file:
        file.create_virtual_dataset("w", layout)
    os.utime(tmp_path / "source.h5", ns=(0, 0))  # older than its change, so that a read would show
    specs, findings = opened(tmp_path / "m.h5")
    assert (tmp_path / "source.h5").stat().st_atime_ns == 0
    assert (specs, [(one.category, one.tensor) for one in findings]) == ({}, [("unsafe_link", "w")])
    assert ww.analyze(tmp_path / "m.h5").exit_code == 3


def test_an_unknown_filter_is_named_and_its_plugin_never_looked_for(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((4, 4))
        plan.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (1, 2))
        space = h5py.h5s.create_simple((4, 4))
        h5py.h5d.create(file.id, b"w", h5py.h5t.IEEE_F32LE, space, plan)
    specs, findings = opened(tmp_path / "m.h5")
    assert specs["w"].encoding == "unsupported"
    assert [(one.category, one.problem) for one in findings] == [
        ("unsupported", "is compressed by filter 32001, which is not read")
    ]


def test_what_is_no_number_is_found_and_not_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["text"] = ["a", "b"]
        file["fixed"] = np.array([b"abc"])
        file["record"] = np.zeros(3, [("x", "<f4"), ("y", "<i4")])
        file["opaque"] = np.zeros(3, "V2")
        file["complex"] = np.zeros(3, "<c8")
        file.create_dataset("enum", (3,), h5py.enum_dtype({"RED": 0, "GREEN": 1}, "i1"))
        file.create_dataset("vlen", (3,), h5py.vlen_dtype(np.float32))
        file.create_dataset("reference", (3,), h5py.ref_dtype)
        file["kind"] = np.dtype("<f4")  # a type with a name is no dataset
        put(file, {"w": values(3, 3)})
    specs, findings = opened(tmp_path / "m.h5")
    assert list(specs) == ["w"]
    assert {one.tensor: one.category for one in findings} == {
        **dict.fromkeys(("text", "fixed"), "non_float"),
        **dict.fromkeys(("record", "opaque", "complex", "enum", "vlen", "reference"), "unsupported_dtype"),
    }


# datasets


def test_bfloat16_is_known_by_its_bits(tmp_path: Path) -> None:
    bits = np.arange(0x3F80, 0x3F80 + 36, dtype="<u2").reshape(6, 6)
    for name, order in (("little", h5py.h5t.ORDER_LE), ("big", h5py.h5t.ORDER_BE)):
        kind = h5py.h5t.IEEE_F16LE.copy()
        kind.set_fields(15, 7, 8, 0, 7)
        kind.set_ebias(127)
        kind.set_order(order)
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            one = h5py.h5d.create(file.id, b"w", kind, h5py.h5s.create_simple((6, 6)))
            stored = bits if name == "little" else bits.byteswap()
            one.write(h5py.h5s.ALL, h5py.h5s.ALL, stored, kind)
        with ww.open(tmp_path / f"{name}.h5") as checkpoint:
            spec = checkpoint.spec("w")
            assert spec.dtype == "BF16"
            assert np.array_equal(checkpoint.read(spec).view("<u2"), bits)


def test_a_form_of_numbers_that_nobody_has_is_refused_by_name(tmp_path: Path) -> None:
    odd = h5py.h5t.IEEE_F32LE.copy()
    odd.set_ebias(120)
    short = h5py.h5t.STD_I32LE.copy()
    short.set_precision(20)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        for name, kind in ((b"odd", odd), (b"short", short)):
            h5py.h5d.create(file.id, name, kind, h5py.h5s.create_simple((3, 3)))
    _, findings = opened(tmp_path / "m.h5")
    assert [one.problem for one in findings] == ["holds numbers of 4 bytes in a form of their own, not weights"] * 2


def test_scalars_empty_and_null_datasets_are_listed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["null"] = h5py.Empty("<f4")
        put(file, {"scalar": np.array(3.5, "<f4"), "empty": np.zeros((0, 4), "<f4")})
    with ww.open(tmp_path / "m.h5") as checkpoint:
        assert {spec.name: spec.shape for spec in checkpoint.tensors} == {"null": (0,), "scalar": (), "empty": (0, 4)}
        assert checkpoint.read(checkpoint.spec("scalar"))[()] == 3.5
        assert checkpoint.read(checkpoint.spec("null")).shape == (0,)


def test_a_dataset_without_values_says_so(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("w", (20, 20), "<f4")
    assert opened(tmp_path / "m.h5")[0]["w"].encoding == "absent"
    (row,) = ww.analyze(tmp_path / "m.h5")
    assert (row.status, row.reason) == ("skipped", "no_data")
    with ww.open(tmp_path / "m.h5") as checkpoint, pytest.raises(FormatError, match="no_data: tensor 'w'"):
        checkpoint.read(checkpoint.spec("w"))


def test_a_compact_dataset_is_read(tmp_path: Path) -> None:
    array = values(6, 7)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.COMPACT)
        one = h5py.h5d.create(file.id, b"w", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((6, 7)), plan)
        one.write(h5py.h5s.ALL, h5py.h5s.ALL, array)
    with ww.open(tmp_path / "m.h5") as checkpoint:
        spec = checkpoint.spec("w")
        assert spec.extent is None
        assert np.array_equal(checkpoint.read(spec, (slice(5, None, -2), slice(1, 3))), array[5::-2, 1:3])


def test_offsets_count_from_the_beginning_of_the_file_behind_a_user_block(tmp_path: Path) -> None:
    array = values(9, 8)
    with h5py.File(tmp_path / "m.h5", "w", userblock_size=2048) as file:
        put(file, {"flat": array})
        put(file, {"chunked": array}, chunks=(4, 3), compression="gzip")
        file.attrs["keras_version"] = "3"
    raw = bytearray((tmp_path / "m.h5").read_bytes())
    raw[:4] = b"user"
    (tmp_path / "m.h5").write_bytes(raw)
    with ww.open(tmp_path / "m.h5") as checkpoint:
        for spec in checkpoint.tensors:
            assert np.array_equal(checkpoint.read(spec), array)
        extent = checkpoint.spec("flat").extent
    assert extent is not None
    assert raw[extent.offset : extent.offset + extent.nbytes] == array.tobytes()


# the first block


@pytest.mark.parametrize(
    ("place", "raw", "category"),
    [
        (8, b"\x63", "bad_header"),  # version
        (13, b"\xff", "bad_header"),  # bytes of an address
        (14, b"\x03", "bad_header"),  # bytes of a length
        (40, struct.pack("<Q", 2**63), "truncated"),  # end of the file
        (0, b"\0", "bad_header"),  # signature
        (64, struct.pack("<Q", 2**40), "corrupt"),  # header of the root group
    ],
)
def test_a_first_block_that_cannot_be_is_refused(tmp_path: Path, place: int, raw: bytes, category: str) -> None:
    keras3(tmp_path / "m.h5", {"w": values(4, 4)})
    data = bytearray((tmp_path / "m.h5").read_bytes())
    data[place : place + len(raw)] = raw
    (tmp_path / "m.h5").write_bytes(data)
    assert problem(tmp_path / "m.h5").category == category


@pytest.mark.parametrize("version", ["earliest", "v108", "latest"])
def test_a_file_that_is_cut_short_is_truncated(tmp_path: Path, version: str) -> None:
    with h5py.File(tmp_path / "m.h5", "w", libver=version) as file:
        put(file, {"w": values(4, 4)})
    data = (tmp_path / "m.h5").read_bytes()
    assert list(opened(tmp_path / "m.h5")[0]) == ["w"]
    (tmp_path / "m.h5").write_bytes(data[:-1])
    assert str(problem(tmp_path / "m.h5")).endswith(
        f"truncated: header: the file ends at byte {len(data)} by its header, has {len(data) - 1}"
    )


def test_the_library_is_shown_nothing_but_the_stretch(tmp_path: Path) -> None:
    keras3(tmp_path / "m.h5", {"w": values(4, 4)})
    raw = (tmp_path / "m.h5").read_bytes()
    library = Library(Stretch(-1, 0, len(raw), raw))
    driver = library.file.get_access_plist().get_driver()
    assert driver == library.h5py.h5fd.fileobj_driver
    library.close()
    assert not library.file.valid


@pytest.mark.parametrize("error", [OSError("x"), KeyError("Unable to open (bad heap)"), RuntimeError(), ZeroDivisionError()])
def test_errors_of_the_library_become_ours(error: Exception) -> None:
    with pytest.raises(FormatError, match=r"^corrupt: here: libhdf5: .") as caught, guarded("here"):
        raise error
    assert caught.value.problem[-1] not in ".)"
    with pytest.raises(LimitError), guarded("here"):
        raise MemoryError


# attributes, against h5py itself


@pytest.mark.parametrize("version", ["earliest", "v108", "latest"])
def test_attributes_are_those_that_h5py_reads(tmp_path: Path, version: str) -> None:
    path = tmp_path / "m.h5"
    texts = {"name": "ü" * 40, "layer_names": ["a", "bb", ""], "model_config": "x" * 70_000, "empty": [], "backend": b"fixed"}
    with h5py.File(path, "w", libver=version, track_order=False) as file:
        group = file.create_group("g")
        for number in range(3):
            group.attrs[f"other{number}"] = values(30)  # what makes the header go on elsewhere
        for name, value in texts.items():
            group.attrs[name] = np.array(value, h5py.string_dtype()) if isinstance(value, list) and value else value
        address = h5py.h5o.get_info(group.id).addr
    stretch = stretch_of(path)
    block = superblock(stretch)
    found = Attributes(stretch, block, Limits()).texts(address, list(texts), "here")
    expected = {name: value if isinstance(value, list) else [value] for name, value in texts.items() if name != "empty"}
    assert found == {
        name: [one.encode() if isinstance(one, str) else one for one in value] for name, value in expected.items()
    } | ({"empty": []} if "empty" in found else {})


def test_attributes_of_a_damaged_header_are_errors_of_ours_and_end(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        for number in range(3):
            file.attrs[f"name{number}"] = ["text" * 30] * 3
        address = h5py.h5o.get_info(file.id).addr
    raw = path.read_bytes()
    generator = np.random.default_rng(5)
    outcomes = set()
    for _ in range(3000):
        data = bytearray(raw)
        for _ in range(int(generator.integers(1, 6))):
            data[int(generator.integers(address, len(data)))] = int(generator.choice([0, 1, 255, int(generator.integers(256))]))
        stretch = Stretch(-1, 0, len(data), bytes(data))
        try:
            Attributes(stretch, superblock(stretch), Limits()).texts(address, ["name"], "here")
            outcomes.add("read")
        except FormatError as error:
            outcomes.add(error.category)
    assert outcomes <= {"read", "corrupt", "truncated", "limit"}
    assert {"read", "corrupt"} <= outcomes


def test_headers_that_refer_to_themselves_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        for number in range(40):
            file.attrs[f"name{number}"] = "text" * 100
        address = h5py.h5o.get_info(file.id).addr
    raw = bytearray((tmp_path / "m.h5").read_bytes())
    continuation = raw.index(struct.pack("<HH", 16, 16), address)
    raw[continuation + 8 : continuation + 24] = struct.pack("<QQ", address + 16, 4096)  # the block that holds it
    stretch = Stretch(-1, 0, len(raw), bytes(raw))
    with pytest.raises(LimitError):
        Attributes(stretch, superblock(stretch), Limits()).texts(address, ["nothing"], "here")


# limits


def test_limit_hdf5_links(tmp_path: Path) -> None:
    keras3(tmp_path / "m.h5", {"a/w": values(3, 3), "b": values(3, 3)})
    assert len(opened(tmp_path / "m.h5", Limits(hdf5_links=3))[0]) == 2
    assert str(problem(tmp_path / "m.h5", Limits(hdf5_links=2))).endswith("limit: file: more than 2 links")


def test_limit_chunk_bytes(tmp_path: Path) -> None:
    keras3(tmp_path / "m.h5", {"w": values(30, 30)}, chunks=(10, 10))
    assert len(opened(tmp_path / "m.h5", Limits(chunk_bytes=400))[0]) == 1
    assert problem(tmp_path / "m.h5", Limits(chunk_bytes=399)).problem == "a chunk of 400 bytes, limit 399"


def test_limit_declared_bytes_and_declared_ratio(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("w", data=np.zeros((1000, 1000), "<f4"), chunks=(1000, 1000), compression="gzip")
        stored = file["w"].id.get_storage_size()
    assert opened(tmp_path / "m.h5", Limits(declared_bytes=4_000_000, declared_ratio=1))
    assert opened(tmp_path / "m.h5", Limits(declared_bytes=1, declared_ratio=4_000_000 // stored + 1))
    error = problem(tmp_path / "m.h5", Limits(declared_bytes=3_999_999, declared_ratio=4_000_000 // stored))
    assert isinstance(error, LimitError)
    assert (error.category, error.where) == ("bomb", "tensor 'w'")


def test_limit_declared_ratio_counts_all_datasets_together(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        for number in range(50):
            file.create_dataset(f"w{number}", data=np.zeros((300, 300), "<f4"), chunks=(300, 300), compression="gzip")
    size = (tmp_path / "m.h5").stat().st_size
    ratio = 50 * 360_000 // size
    assert opened(tmp_path / "m.h5", Limits(declared_bytes=360_000, declared_ratio=ratio + 1))
    error = problem(tmp_path / "m.h5", Limits(declared_bytes=360_000, declared_ratio=ratio))
    assert (error.category, error.where) == ("bomb", "file")
