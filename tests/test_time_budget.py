"""A budget of time: what would not end in it is not begun, and says so."""

from __future__ import annotations

import json
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

import ww_static as ww
from conftest import Writer

RNG = np.random.default_rng(6)


@pytest.fixture
def large_and_small(save: Writer) -> str:
    """A matrix whose spectrum is estimated at seconds, and one at a thousandth of that."""
    large = RNG.standard_normal((4096, 4096), dtype=np.float32).astype(ml_dtypes.float8_e4m3fn).tobytes()
    return str(
        save(
            {
                "large.weight": ("F8_E4M3", (4096, 4096), large),
                "small.weight": RNG.standard_normal((64, 48)),
                "bias": np.ones(64),
            }
        )
    )


def test_what_would_take_too_long_is_left_out_with_its_values_read(large_and_small: str) -> None:
    cost = ww.describe(large_and_small).summary["flops"] * 2.5e-11
    result = ww.analyze(large_and_small, time_budget=0.75 * cost)
    large, small = (next(row for row in result if row.name == f"{size}.weight") for size in ("large", "small"))
    assert (large.status, large.reason, large.has_esd) == ("skipped", "time_limit", False)
    assert large.content_hash is not None
    assert large.std == pytest.approx(1, abs=0.02)
    assert "beyond" in large.message
    assert small.status == "success"
    assert [(row.category, row.name, row.inconclusive) for row in result.finding_rows] == [("time_limit", "large.weight", True)]
    assert result.exit_code == 3
    assert all(row.status == "ok" and row.sha256 for row in result.file_rows)


def test_without_any_time_every_matrix_says_so_and_vectors_are_what_they_are(large_and_small: str) -> None:
    result = ww.analyze(large_and_small, time_budget=1e-9)
    assert {row.name: row.reason for row in result} == {
        "large.weight": "time_limit", "small.weight": "time_limit", "bias": "one_dimensional",
    }  # fmt: skip
    assert {row.category for row in result.finding_rows} == {"time_limit", "nothing_to_analyse"}
    assert [(row.status, row.sha256) for row in result.file_rows] == [("ok", None)]
    assert result.exit_code == 3


def test_the_command_takes_it_and_refuses_what_is_no_time(large_and_small: str) -> None:
    def run(*options: str) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-m", "ww_static", "analyze", large_and_small, "--format", "json", *options]
        return subprocess.run(call, capture_output=True, text=True, check=False)

    done = run("--time-budget", "0.000001")
    assert done.returncode == 3
    assert {row["reason"] for row in json.loads(done.stdout)["layers"]} == {"time_limit", "one_dimensional"}
    done = run("--time-budget", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "time budget is a positive number of seconds" in done.stderr
