"""Seeds of the npz reader: arrays alone, stored and deflated, in both orders of axes and bytes, with and without zip64."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

import torch_files
from fuzz.seed import Parts, Seed

_MARK = b"\x93NUMPY"


def seeds() -> tuple[Seed, ...]:
    """The seeds."""
    values = np.arange(60, dtype=np.float32)
    two: dict[str, NDArray[Any]] = {"w.npy": values.reshape(6, 10), "layer.b.npy": values[:7].astype(">f8")}
    three: dict[str, NDArray[Any]] = {
        "kernel.npy": np.asfortranarray(values.reshape(3, 4, 5)),
        "n.npy": np.arange(4, dtype=np.int8),
        "s.npy": np.array(2.5),
    }
    odd: dict[str, NDArray[Any]] = {
        "none.npy": np.zeros((0, 3)),
        "complex.npy": values[:4].astype(np.complex64),
        "flags.npy": values[:5] > 2,
    }
    long = {"long.npy": np.asfortranarray(np.arange(24_000, dtype=np.float32).reshape(40, 600))}
    return (
        _bare("npy", values.reshape(6, 10), (1, 0)),
        _bare("npy column-major", np.asfortranarray(values.reshape(6, 10).astype(">f4")), (2, 0)),
        _archive("npz stored", two, deflated=False, plain=True),
        _archive("npz deflated", three, deflated=True, plain=True),
        _archive("npz of odd arrays", odd, deflated=True, plain=False),
        _archive("npz zip64", two, deflated=False, plain=True, wide=True),
        _archive("npz with a zip64 end", two, deflated=True, plain=True, wide_end=True),
        _archive("npz long", long, deflated=True, plain=True),
    )


def _split(array: NDArray[Any], version: tuple[int, int] | None = None) -> tuple[bytes, bytes, bytes]:
    """Mark and version, the literal, the values."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version)
    raw = stream.getvalue()
    width = 2 if raw[6] == 1 else 4
    end = 8 + width + int.from_bytes(raw[8 : 8 + width], "little")
    return raw[:8], raw[8 + width : end], raw[end:]


def _joined(version: bytes, literal: bytes, values: bytes) -> bytes:
    width = 2 if version[6:7] == b"\1" else 4
    return version + (len(literal) & (1 << 8 * width) - 1).to_bytes(width, "little") + literal + values


def _bare(name: str, array: NDArray[Any], version: tuple[int, int]) -> Seed:
    mark, literal, values = _split(array, version)

    def build(parts: Parts) -> dict[str, bytes]:
        return {"w.npy": _joined(mark, parts["literal"], values)}

    return Seed(name, "w.npy", {"literal": literal}, build, {"literal": "json"})


def _archive(
    name: str, arrays: dict[str, NDArray[Any]], deflated: bool, plain: bool, wide: bool = False, wide_end: bool = False
) -> Seed:
    """An archive; `plain` as Python writes it, else with sizes behind the data and padding, as PyTorch does."""
    split = {member: _split(array) for member, array in arrays.items()}

    def build(parts: Parts) -> dict[str, bytes]:
        members = {member: _joined(mark, parts[member], values) for member, (mark, _, values) in split.items()}
        members |= {member: data for member, data in parts.items() if member not in split}
        data = _zipped(members, deflated, wide) if plain else torch_files.zipped(members, deflated)
        return {"model.npz": _with_wide_end(data) if wide_end else data}

    parts = {member: literal for member, (_, literal, _) in split.items()}
    return Seed(name, "model.npz", parts, build, dict.fromkeys(parts, "json"))


def _with_wide_end(data: bytes) -> bytes:
    """An archive whose end record refers to one of 64 bits, as that of a large archive does."""
    body, end = data[:-22], struct.unpack("<4s4H2IH", data[-22:])
    wide = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, end[3], end[4], end[5], end[6])
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(body), 1)
    return body + wide + locator + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)


def _zipped(members: dict[str, bytes], deflated: bool, wide: bool) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as archive:
        for member, data in members.items():
            one = zipfile.ZipInfo(member)  # of 1980: the same bytes every day
            one.compress_type = archive.compression
            with archive.open(one, "w", force_zip64=wide) as stream_of_one:
                stream_of_one.write(data)
    return stream.getvalue()
