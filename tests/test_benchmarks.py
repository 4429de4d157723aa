"""The benchmarks run: every module imports and tells its options, tables and results are read as they are written."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import ROOT

MODULES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "peer_script")  # needs torch
COMMANDS = [name for name in MODULES if "argparse" in (ROOT / "benchmarks" / f"{name}.py").read_text()]


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.parametrize("name", MODULES)
def test_every_module_imports_without_a_peer(name: str) -> None:
    code = f"import sys, benchmarks.{name}; print([x for x in ('torch', 'weightwatcher', 'powerlaw', 'diffract') if x in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_tells_its_options(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--help" in done.stdout


def test_every_module_and_command_is_in_the_readme() -> None:
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert [name for name in MODULES if f"`{name}.py`" not in text] == []
    assert [name for name in COMMANDS if f"python -m benchmarks.{name}" not in text] == []


def test_the_shapes_of_large_models_have_as_many_parameters_as_they_say() -> None:
    from benchmarks import shapes

    for name, parts in shapes.MODELS.items():
        said = float(name.removesuffix("B")) * 1e9
        assert sum(one.numbers for one in parts) == pytest.approx(said, rel=0.25)
    assert sum(one.numbers for one in shapes.MODELS["7B"]) == 32 * (4 * 4096**2 + 3 * 11008 * 4096) + 2 * 32000 * 4096


def test_the_gpt2_shaped_file_has_124_million_parameters_in_50_matrices_that_stay_whole(tmp_path: Path) -> None:
    import ww_static as ww
    from benchmarks import large, models

    tensors = models.gpt2()
    assert sum(one.rows * one.columns for one in tensors) == pytest.approx(124e6, rel=0.01)
    rows = ww.describe(large.sparse_safetensors(tmp_path / "gpt2.safetensors", tensors), executor=ww.InlineExecutor()).rows
    assert {(row.name, row.shape, row.status, row.rows) for row in rows} == {
        (one.name, (one.rows, one.columns), "planned", 1) for one in tensors
    }


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_written_models_hold_the_values_that_they_say(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ww_static as ww
    from benchmarks import models

    monkeypatch.setattr(models, "CACHE", tmp_path)
    path = models.written("m.safetensors", [models.Tensor("a", 1500, 40), models.Tensor("b", 30, 50)], dtype)  # type: ignore[arg-type]
    with ww.open(path) as checkpoint:
        values = {spec.name: ww.widen(checkpoint.read(spec), spec.dtype) for spec in checkpoint.tensors}
    assert {name: array.shape for name, array in values.items()} == {"a": (1500, 40), "b": (30, 50)}
    spread = values["a"].std(axis=0) / 0.02
    if dtype == "BF16":
        np.testing.assert_allclose(spread, 1.0, atol=0.1)
    else:
        assert spread.max() / spread.min() > 4
    assert not np.array_equal(values["a"][:30, :40], values["b"][:, :40])


def test_the_cost_model_gives_back_the_sizes_that_it_was_made_from() -> None:
    from benchmarks import scaling, tables

    costs = scaling.Costs(
        tables.Rates(5e10, 1e11), {512: scaling.Square(1.0, 2.0, 4.0), 1024: scaling.Square(8.0, 15.0, 24.0)}, 0, 0
    )
    assert (costs.products(512, 512), costs.values(512, 512)) == (1.0, 3.0)  # a square refines as well
    assert (costs.products(4096, 1024), costs.values(4096, 1024)) == (32.0, 15.0)
    assert costs.values(4096, 2048) == 15.0 * 8


def test_parity_finds_the_row_that_differs_and_the_matrix_that_one_side_leaves_out(tmp_path: Path) -> None:
    from benchmarks import end

    ours = [{"name": f"a.{i}", "has_esd": True, "N": 20, "M": 10, "Q": 2.0, "rf": 1, "num_evals": 10,
             "alpha": 2.0 + i, "xmin": 1.0, "D": 0.1, "max_rand_eval": 5.0} for i in range(4)]  # fmt: skip
    theirs = [{**row, "longname": str(row["name"]).replace(".", "/")} for row in ours[:3]]
    theirs[1]["alpha"] = 3.003
    theirs[2]["max_rand_eval"] = 7.0  # drawn otherwise
    pq.write_table(pa.Table.from_pylist(ours), tmp_path / "ours.parquet")
    with (tmp_path / "theirs.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, theirs[0])
        writer.writeheader()
        writer.writerows(theirs)
    words = end.parity(tmp_path / "ours.parquet", tmp_path / "theirs.csv")
    assert words.startswith("3 matrices on both sides, 1 only with ww-static, 0 only with weightwatcher")
    assert f"over 3 fits: alpha {abs(3.0 / 3.003 - 1):.1e}, xmin 0.0e+00" in words
    assert "max_rand_eval" not in words
    assert math.isclose(end.difference(0.5, 0.0), 0.5)


def test_what_was_printed_is_entered_between_its_marks_only() -> None:
    from benchmarks import enter

    page = "a\n<!-- measured x -->\nold\n<!-- end of x -->\nb\n<!-- measured y -->\nkept\n<!-- end of y -->\n"
    table = "\n### x\n\n| n |\n|---|\n| 1 |\n"
    entered = enter.entered(page, "x", table)
    assert entered == page.replace("old", "\n### x\n\n| n |\n|---|\n| 1 |\n")
    assert enter.entered(entered, "x", table) == entered
    with pytest.raises(ValueError, match="no place for 'z'"):
        enter.entered(page, "z", table)
    with pytest.raises(ValueError, match="no table"):
        enter.entered(page, "x", "Traceback")


def test_memory_and_time_are_of_different_runs_unless_one_takes_too_long() -> None:
    from benchmarks import end, measure

    taken: list[tuple[str, bool]] = []

    def side(name: str, wall: float, sampled: bool = True) -> measure.Measurement:
        taken.append((name, sampled))
        return measure.Measurement(wall + sampled, 1.0, measure.Peak(total=5 if sampled else 0), 0)

    found = end.measured([partial(side, "slow", 50.0), partial(side, "fast", 1.0)], 3)
    assert taken == [("slow", True), ("fast", True), *[("fast", False)] * 3]
    assert [(one.wall, one.peak.total, one.rounds) for one in found] == [(51.0, 5, 1), (1.0, 5, 3)]
