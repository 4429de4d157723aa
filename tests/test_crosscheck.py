"""A second opinion: the powerlaw package finds the same alpha, xmin and D; without it the option says what to install."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ww_static as ww
from conftest import Writer
from ww_static import Missing, cli, memory, models
from ww_static.measuring import analysis
from ww_static.measuring.crosschecking import PACKAGE_BYTES, crosschecked
from ww_static.measuring.measured import measure
from ww_static.options import Options
from ww_static.plan import Settings, plan_model
from ww_static.rows import LayerRow
from ww_static.spectral.eigen import spectrum


def rows(path: Path, **options: object) -> list[LayerRow]:
    found = [row for row in ww.analyze(path, **options).rows if isinstance(row, LayerRow)]  # type: ignore[arg-type]
    assert found
    return found


@pytest.fixture
def path(save: Writer) -> Path:
    rng = np.random.default_rng(11)
    return save(
        {
            "heavy.weight": rng.standard_t(2.2, (200, 120)).astype(np.float32),
            "noise.weight": rng.standard_normal((150, 90)).astype(np.float32),
            "conv.weight": rng.standard_t(3, (24, 16, 3, 3)).astype(np.float32),
            "zeros.weight": np.zeros((30, 20), np.float32),
        }
    )


def test_the_package_finds_the_same_tail(path: Path) -> None:
    found = {row.name: row for row in rows(path, cross_check="powerlaw")}
    for name in ("heavy.weight", "noise.weight", "conv.weight"):
        row = found[name]
        assert row.crosscheck_alpha == pytest.approx(row.alpha, rel=1e-9)
        assert row.crosscheck_xmin == pytest.approx(row.xmin, rel=1e-9)
        assert row.crosscheck_D == pytest.approx(row.D, rel=1e-9)
        assert row.crosscheck_difference == pytest.approx(0, abs=1e-9)
    zeros = found["zeros.weight"]
    assert zeros.crosscheck_alpha is None
    assert (zeros.null_reasons or {})["crosscheck_alpha"] == "zero_matrix"
    assert any((row.alpha or 0) > 3 for row in found.values())  # where the package stops unless it is told otherwise


def test_it_is_asked_for_by_name_and_never_by_all(path: Path) -> None:
    for metrics in (("default", "tail"), ("all",)):
        for row in rows(path, metrics=metrics, layers="noise.weight"):
            assert row.crosscheck_alpha is None
            assert (row.null_reasons or {})["crosscheck_alpha"] == "not_requested"
            assert (row.rand_replicas is not None) == (metrics == ("all",))


def test_a_fit_without_the_largest_is_checked_without_them(path: Path) -> None:
    row = rows(path, cross_check="powerlaw", xmax=-3, layers="heavy.weight")[0]
    assert row.crosscheck_difference == pytest.approx(0, abs=1e-9)
    assert row.crosscheck_alpha == pytest.approx(row.alpha, rel=1e-9)


def test_its_memory_is_admitted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(layers=("noise.weight",), cross_check="powerlaw")
    views = plan_model(models.locate([str(path)])[0], options, Settings()).views
    (view,) = (one for one in views if one.reason is None)
    monkeypatch.setattr(memory, "private_bytes", lambda: 0)
    fixed = memory.BASE_BYTES + len(views) * memory.ROW_BYTES + analysis.memory_needed(view)
    for room, fits in ((PACKAGE_BYTES, True), (PACKAGE_BYTES - 1, False)):
        one = rows(path, cross_check="powerlaw", layers="noise.weight", max_memory=fixed + room)[0]
        assert one.alpha is not None
        assert (one.crosscheck_alpha is not None) == fits
        assert fits or (one.null_reasons or {})["crosscheck_alpha"] == "memory_limit"


def test_the_package_takes_no_more_than_is_set_aside_for_it() -> None:
    code = """
import numpy as np
from ww_static import memory
before = memory.private_bytes()
import powerlaw
x = np.random.default_rng(1).pareto(2, 200) + 1
fit = powerlaw.Fit(x, xmin=None, discrete=False, verbose=False, parameter_ranges={"alpha": [1, None]})
assert fit.alpha > 2
print(memory.private_bytes() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert PACKAGE_BYTES / 8 < int(done.stdout) < PACKAGE_BYTES


@pytest.mark.parametrize(
    "error", [ValueError("no data"), RuntimeError("no minimum"), AttributeError("alpha"), KeyError("alpha")]
)
def test_an_error_of_the_package_costs_its_columns_only(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("powerlaw.Fit", fails)
    options = Options(cross_check="powerlaw")
    row = measure((spectrum(np.random.default_rng(1).standard_t(3, (90, 60))),), 1.0, options)
    found = crosschecked(row, options)
    assert found.crosscheck == Missing("fit_failed")
    assert found.power_law == row.power_law
    assert isinstance(row.power_law, ww.TailFit)


def test_without_the_package_the_option_says_what_to_install(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ww_static.options.find_spec", lambda name: None)
    assert cli.run(["analyze", str(path), "--cross-check", "powerlaw"]) == 2
    assert "pip install 'ww-static[crosscheck]'" in capsys.readouterr().err


def test_another_package_is_not_known(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["analyze", str(path), "--cross-check", "plfit"]) == 2
    assert "--cross-check is none or powerlaw, not 'plfit'" in capsys.readouterr().err


def test_the_package_is_part_of_the_tests() -> None:
    assert importlib.util.find_spec("powerlaw") is not None
