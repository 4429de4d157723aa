"""torch as an oracle: what its weights-only reader loads we load with equal tensors, but for a list of stricter rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz import pickles

INPUTS = 1000


def test_damaged_state_dicts_that_torch_loads_are_loaded_with_equal_tensors(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the oracle extra is not installed")
    counts, wrong = pickles.compare(range(INPUTS), tmp_path)
    assert not wrong
    assert counts["loaded by both"] > INPUTS // 20, "hardly any file is loaded: the test has lost its edge"
