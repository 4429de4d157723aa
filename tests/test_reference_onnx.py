"""Our rows for the weights of an ONNX file against the rows that weightwatcher 0.7.7 gave for them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import ww_static as ww
from conftest import Note
from test_reference import CLOSE, EXACT
from ww_static.rows import LayerRow

REFERENCE = Path(__file__).parent / "reference" / "magika.csv"


def expected_rows() -> dict[str, dict[str, str]]:
    with REFERENCE.open(newline="") as stream:
        return {row["tensor"]: row for row in csv.DictReader(stream) if int(row["num_evals"]) >= 20}


@pytest.fixture(scope="module")
def rows(magika: Path) -> dict[str | None, LayerRow]:
    result = ww.analyze(magika)
    assert result.exit_code == 0
    assert result.finding_rows == ()
    return {row.name: row for row in result}


def test_every_initializer_of_magika_has_one_row(rows: dict[str | None, LayerRow]) -> None:
    assert len(rows) == 36
    assert {row.name for row in rows.values() if row.alpha is not None} == set(expected_rows())
    assert all(row.reason for row in rows.values() if row.alpha is None)


@pytest.mark.parametrize("column", CLOSE)
def test_magika_equals_weightwatcher_to_1e_9(rows: dict[str | None, LayerRow], column: str, measured: Note) -> None:
    rows_of_column = expected_rows().items()
    if column == "sv_min":  # of several matrices weightwatcher reports the largest smallest value
        rows_of_column = {name: row for name, row in rows_of_column if row["rf"] == "1"}.items()
    expected = {name: float(row[column]) for name, row in rows_of_column}
    assert {name: getattr(rows[name], column) for name in expected} == pytest.approx(expected, rel=1e-9, abs=0)
    if column == "alpha":
        worst = max(abs(getattr(rows[name], column) / value - 1) for name, value in expected.items())
        measured("F12", f"magika {column}: {worst:.0e}")


@pytest.mark.parametrize("column", EXACT)
def test_magika_equals_weightwatcher_exactly(rows: dict[str | None, LayerRow], column: str) -> None:
    for name, expected in expected_rows().items():
        assert str(getattr(rows[name], column)) == expected[column], name


def test_kinds_and_axes_of_magika_come_from_its_operators(rows: dict[str | None, LayerRow]) -> None:
    found = {name: (rows[name].kind, rows[name].kind_source, rows[name].orientation) for name in expected_rows()}
    assert sorted(found.values()) == [("conv2d", "graph", "OIHW"), ("dense", "graph", "in,out"), ("dense", "graph", "in,out")]
    assert all((rows[name].op_path or "").startswith("jax2tf_get_logits_/") for name in found)


def test_the_embedding_of_magika_that_looks_dense_is_told(rows: dict[str | None, LayerRow]) -> None:
    shapes = [row.shape for row in rows.values() if "one_hot_input" in (row.warning_codes or ())]
    assert shapes == [(257, 64)]
