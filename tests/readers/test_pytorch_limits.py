"""Every limit of pickles, inflation and views: a file at the limit is read, one beyond it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import torch_files as tf
from torch_files import pickled, stored, tensor, zipped
from torch_support import FULL, refused, save
from ww_static.errors import LimitError, UnknownFormatError
from ww_static.protocol import Limits
from ww_static.seam import open_checkpoint


def _limit(folder: Path, root: Any, field: str, most: int, match: str) -> None:
    path = save(folder, root)
    limits: dict[str, Any] = {field: most}
    open_checkpoint(path, Limits(**limits)).close()
    with pytest.raises(LimitError, match=match):
        open_checkpoint(path, Limits(**{field: most - 1}))


def test_limit_pickle_bytes(tmp_path: Path) -> None:
    length = len(pickled({"w": FULL}))
    _limit(tmp_path, {"w": FULL}, "pickle_bytes", length, f"limit: data.pkl: {length} bytes, limit {length - 1}")
    path = tmp_path / "bare.pt"
    path.write_bytes(pickled({"x": "y" * 1000}))
    size = path.stat().st_size
    with pytest.raises(UnknownFormatError, match="without any array"):
        open_checkpoint(path, Limits(pickle_bytes=size))
    with pytest.raises(LimitError, match=f"limit: pickle: more than {size - 1} bytes"):
        open_checkpoint(path, Limits(pickle_bytes=size - 1))


def test_limit_pickle_opcodes(tmp_path: Path) -> None:
    _limit(tmp_path, b"\x80\x02" + b"N0" * 50 + b"N.", "pickle_opcodes", 103, "limit: data.pkl: more than 102 opcodes")


def test_limit_pickle_memo(tmp_path: Path) -> None:
    _limit(
        tmp_path, b"\x80\x02Nr\x40\x42\x0f\x00.", "pickle_memo", 1_000_000, "limit: data.pkl: memo index 1000000, limit 999999"
    )
    refused(tmp_path, b"\x80\x02Nr\xff\xff\xff\x7f.", "limit: data.pkl: memo index 2147483647")


def test_limit_pickle_nesting(tmp_path: Path) -> None:
    root: Any = [FULL]
    for _ in range(9):
        root = [root]
    _limit(tmp_path, root, "pickle_nesting", 9, "limit: data.pkl: more than 8 containers inside each other")
    refused(tmp_path, b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".", "limit")
    refused(tmp_path, b"\x80\x02)" + b"\x85" * 200_000 + b".", "limit")


def test_limit_pickle_digits(tmp_path: Path) -> None:
    for body in (
        b"I" + b"1" * 50 + b"\n.",
        b"L" + b"1" * 49 + b"L\n.",
        b"F0." + b"1" * 48 + b"\n.",
        b"\x8a\x32" + bytes(50) + b".",
    ):
        digits = 49 if body[:1] == b"L" else 50
        _limit(tmp_path, b"\x80\x02" + body, "pickle_digits", digits, f"limit: data.pkl: a number of {digits} ")


def test_limit_pickle_line(tmp_path: Path) -> None:
    _limit(
        tmp_path, b"\x80\x02V" + b"a" * 70 + b"\n.", "pickle_line", 70, "limit: data.pkl: a line of text of more than 69 bytes"
    )


def test_limit_inflation_bytes_and_ratio(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(
        zipped(
            tf.members({"w": tensor(stored("FloatStorage", "0", 10**6), (1000, 1000))}, {"0": bytes(4 * 10**6)}), deflated=True
        )
    )
    for limits in (
        Limits(inflation_bytes=5 * 10**6, inflation_ratio=1),
        Limits(inflation_bytes=1, inflation_ratio=2000),
        Limits(),
    ):
        with open_checkpoint(path, limits) as checkpoint:
            assert not checkpoint.read(checkpoint.spec("w")).any()
    with pytest.raises(LimitError, match=r"bomb: member 'archive/data/0': .* beyond 200 times their stored size"):
        open_checkpoint(path, Limits(inflation_bytes=4 * 10**6 - 1))


test_limit_inflation_ratio = test_limit_inflation_bytes_and_ratio


def test_limit_view_elements_and_ratio(tmp_path: Path) -> None:
    root = {"w": tensor(stored("FloatStorage", "0", 1), (17,), (0,))}
    path = save(tmp_path, root)
    for limits in (Limits(view_elements=17), Limits(view_elements=1, view_ratio=17)):
        open_checkpoint(path, limits).close()
    with pytest.raises(LimitError, match="limit: tensor 'w': a view of 17 elements of a storage of 4 bytes"):
        open_checkpoint(path, Limits(view_elements=16))


test_limit_view_ratio = test_limit_view_elements_and_ratio
