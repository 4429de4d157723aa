"""A series of checkpoints: order, rows, changes, and accuracies that are read strictly and correlated honestly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import ww_static as ww
from conftest import Writer
from ww_static import schema
from ww_static.errors import UsageError
from ww_static.pairs.accuracies import accuracies
from ww_static.spectral.missing import Missing
from ww_static.spectral.ranking import Correlation, correlation, kendall, spearman
from ww_static.workers.executors import InlineExecutor


def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ww_static", "trend", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture
def folder(save: Writer) -> Path:
    """Steps 5, 10, 20 of a training that moves one layer only; natural and lexical order differ."""
    rng = np.random.default_rng(1)
    still, moving, way = (rng.standard_normal((60, 40)).astype(np.float32) for _ in range(3))
    for step in (5, 10, 20):
        weights = {
            "still.weight": still,
            "moving.weight": moving + np.float32(0.01 * step) * way,
            "norm.weight": np.ones(40, np.float32),
        }
        path = save(weights, f"run/step-{step}.safetensors")
    return path.parent


def table(folder: Path, text: str) -> Path:
    path = folder.parent / "accuracy.csv"
    path.write_text(text)
    return path


def test_rows_are_in_natural_order_and_hold_means_and_changes(folder: Path) -> None:
    with InlineExecutor() as here:
        result = ww.trend(folder, executor=here)
        single = ww.analyze(folder / "step-10.safetensors", executor=here)
        pair = {
            row.name: row for row in ww.compare(folder / "step-5.safetensors", folder / "step-10.safetensors", executor=here)
        }
    assert [row.model_id for row in result] == ["step-5", "step-10", "step-20"]
    first, second, third = result.rows
    assert (first.paired, first.rel_delta) == (None, None)
    assert second.alpha == single.summary["metrics"]["alpha"]["mean"]
    assert second.stable_rank == single.summary["metrics"]["stable_rank"]["mean"]
    assert (second.paired, second.compared, second.identical) == (3, 2, 2)
    assert second.rel_delta == pytest.approx(pair["moving.weight"].rel_delta / 2)
    assert second.rel_delta_max == pair["moving.weight"].rel_delta
    assert second.d_alpha == pytest.approx(second.alpha - first.alpha)
    assert third.rel_delta_max > second.rel_delta_max
    assert result.summary["accuracy"] is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_table_that_is_no_file_is_refused_at_once(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises((UsageError, OSError)):
            accuracies(str(path), [])


def test_accuracies_are_correlated_with_their_interval(folder: Path) -> None:
    path = table(folder, "checkpoint,accuracy\nstep-5,0.5\nstep-20.safetensors,0.9\nstep-10,0.7\n")
    done = run(folder, "--accuracy", path, "--format", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, schema.document_schema())
    assert [row["accuracy"] for row in document["trend"]] == [0.5, 0.7, 0.9]
    for found in document["summary"]["accuracy"].values():
        assert found["n"] == 3
        for word in ("spearman", "kendall"):
            assert -1 <= found[word]["low"] <= found[word]["value"] <= found[word]["high"] <= 1
    assert "alpha against accuracy, n 3: spearman" in run(folder, "--accuracy", path).stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,acc\nstep-5,1\n", "the first line is 'name,acc', not 'checkpoint,accuracy'"),
        ("", "the first line is ''"),
        ("checkpoint,accuracy\nstep-5,1\nstep-10,1\n", "says nothing about checkpoint 'step-20'"),
        ("checkpoint,accuracy\nstep-6,1\n", "line 2: 'step-6' is none of the checkpoints"),
        ("checkpoint,accuracy\nstep-5,1\nstep-5,1\n", "line 3: checkpoint 'step-5' has an accuracy already"),
        ("checkpoint,accuracy\nstep-5,high\n", "line 2: accuracy 'high' is no finite number"),
        ("checkpoint,accuracy\nstep-5,nan\n", "line 2: accuracy 'nan' is no finite number"),
        ("checkpoint,accuracy\nstep-5,1,2\n", "line 2: 3 fields for 2"),
        ('checkpoint,accuracy\n"step-5,1\n', "is no CSV table"),
    ],
)
def test_a_table_that_says_something_else_is_refused(folder: Path, text: str, said: str) -> None:
    with InlineExecutor() as here, pytest.raises(ww.UsageError) as refused:
        ww.trend(folder, accuracy=table(folder, text), executor=here)
    assert said in str(refused.value)
    assert "accuracy.csv" in str(refused.value)


def test_wrong_usage_exits_2_and_a_missing_table_3(folder: Path) -> None:
    done = run(folder / "step-5.safetensors")
    assert (done.returncode, "at least two checkpoints" in done.stderr) == (2, True)
    assert run(folder, "--accuracy", table(folder, "nonsense")).returncode == 2
    done = run(folder, "--accuracy", folder / "nothere.csv")
    assert done.returncode == 3
    assert "nothere.csv: no such file or directory" in done.stderr


def test_an_unreadable_checkpoint_is_a_row_and_exits_3(folder: Path) -> None:
    (folder / "step-10.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    done = run(folder, "--format", "json")
    assert done.returncode == 3
    assert "step-10.safetensors: " in done.stderr
    document = json.loads(done.stdout)
    assert [row["status"] for row in document["trend"]] == ["success", "error", "success"]
    assert [row["paired"] for row in document["trend"]] == [None, None, None]
    assert [row["identical"] for row in document["trend"]] == [None, None, None]


def test_the_same_bytes_for_any_number_of_workers(folder: Path, tmp_path: Path) -> None:
    for jobs in (1, 2):
        assert run(folder, "--jobs", jobs, "-o", tmp_path / f"{jobs}.json", "-o", tmp_path / f"{jobs}.parquet").returncode == 0
    for kind in ("json", "parquet"):
        assert (tmp_path / f"1.{kind}").read_bytes() == (tmp_path / f"2.{kind}").read_bytes()


def series(*values: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(values, np.float64)


def test_coefficients_are_the_known_ones() -> None:
    assert spearman(series(1, 2, 3, 4, 5), series(5, 6, 7, 8, 7)) == pytest.approx(0.82078268)
    assert kendall(series(12, 2, 1, 12, 2), series(1, 4, 7, 1, 0)) == pytest.approx(-0.47140452)
    assert spearman(series(1, 2, 3), series(9, 4, 1)) == pytest.approx(-1)
    assert kendall(series(1, 2, 3), series(9, 4, 1)) == pytest.approx(-1)
    assert spearman(series(1, 1, 1), series(1, 2, 3)) == kendall(series(1, 1, 1), series(1, 2, 3)) == Missing("constant")


def test_the_interval_holds_the_truth_and_narrows_with_n() -> None:
    rng = np.random.default_rng(2)
    truth = 6 / np.pi * np.arcsin(0.7 / 2)  # Spearman's coefficient of normal pairs with a correlation of 0.7
    widths, held = {}, 0
    for n in (20, 80):
        found = []
        for _ in range(40):
            x = rng.standard_normal(n)
            y = 0.7 * x + np.sqrt(1 - 0.49) * rng.standard_normal(n)
            one = correlation(x, y, spearman, rng)
            assert isinstance(one, Correlation)
            assert one.low is not None
            assert one.high is not None
            found.append(one.high - one.low)
            held += n == 80 and one.low <= truth <= one.high
        widths[n] = float(np.mean(found))
    assert widths[80] < 0.65 * widths[20]
    assert held >= 34  # of 40; 95 % nominal
    assert correlation(series(1, 2), series(1, 2), kendall, rng) == Missing("too_few")
