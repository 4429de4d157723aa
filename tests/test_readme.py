"""The front page shows what the program prints: both tables, line by line, from the weights that it names."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import ww_static as ww
from support import ROOT, fetched, load_module
from ww_static.policies.loading import load

damaged = load_module(ROOT / "fixtures" / "damaged.py", "fixture_damaged")
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?ms)^```text\n(.*?)^```$", PAGE)


def _are_in(block: str, page: str) -> None:
    """Every line of a block stands on a page, in that order; ``...`` leaves some out, ``$`` is the command."""
    lines = iter(page.splitlines())
    for line in block.splitlines():
        if line.strip() != "..." and not line.startswith("$ "):
            assert line in lines, line


def test_the_table_of_minilm() -> None:
    _are_in(BLOCKS[0], str(ww.analyze(fetched("minilm"), jobs=2)))


def test_the_audit_of_a_damaged_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").symlink_to(fetched("minilm"))
    copy = tmp_path / "damaged.safetensors"
    done = damaged.damage(fetched("minilm"), copy)
    monkeypatch.chdir(tmp_path)
    result = ww.audit("damaged.safetensors", jobs=2)
    _are_in(BLOCKS[1], str(result))
    _are_in(BLOCKS[2], str(ww.audit("model.safetensors", jobs=2)))
    assert {row.name for row in result.finding_rows if row.severity == "error"} == set(done)
    with ww.open(fetched("minilm")) as sound, ww.open(copy) as other:
        differ = {one.name for one in sound.tensors if not np.array_equal(sound.read(one), other.read(other.spec(one.name)))}
    assert differ == set(done)


def test_the_policy_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"(?ms)^```toml\n(.*?)^```$", PAGE)
    (tmp_path / "ww-static.toml").write_text(text)
    assert [one.code for one in load(str(tmp_path / "ww-static.toml")).suppress] == ["WW203"]
