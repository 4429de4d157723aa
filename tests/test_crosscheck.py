"""A second opinion: the powerlaw package finds the same alpha, xmin and D; without it the option says what to install."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import ww_static as ww
from conftest import Writer
from ww_static import cli
from ww_static.crosschecking import PACKAGE_BYTES
from ww_static.rows import LayerRow


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
    for row in rows(path, metrics=("default", "tail")):
        assert row.crosscheck_alpha is None
        assert (row.null_reasons or {})["crosscheck_alpha"] == "not_requested"


def test_a_fit_without_the_largest_is_checked_without_them(path: Path) -> None:
    row = rows(path, cross_check="powerlaw", xmax=-3, layers="heavy.weight")[0]
    assert row.crosscheck_difference == pytest.approx(0, abs=1e-9)
    assert row.crosscheck_alpha == pytest.approx(row.alpha, rel=1e-9)


def test_its_memory_is_admitted(path: Path) -> None:
    one = rows(path, cross_check="powerlaw", layers="noise.weight", max_memory=240 * 2**20)[0]
    assert one.alpha is not None
    assert (one.null_reasons or {})["crosscheck_alpha"] == "memory_limit"
    assert PACKAGE_BYTES > 0


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
