"""Our rows for the weights of a Keras model against the rows that weightwatcher 0.7.7 gave for them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import ww_static as ww
from conftest import Note
from support import fetched
from test_reference import EXACT
from ww_static.rows import LayerRow

REFERENCE = Path(__file__).parent / "reference" / "fer.csv"
# `sv_min` of several taps is the largest of the smallest values there; N, M and Q are compared on their own.
CLOSE = (
    "alpha", "xmin", "D", "sigma", "norm", "log_norm", "lambda_max", "spectral_norm", "log_spectral_norm", "stable_rank",
    "alpha_weighted", "log_alpha_norm", "entropy", "sv_max", "detX_val", "detX_val_unrescaled", "xmax",
)  # fmt: skip
Pairs = dict[str, tuple[dict[str, str], LayerRow]]


@pytest.fixture(scope="module")
def result() -> ww.Result:
    return ww.analyze(fetched("fer"))


@pytest.fixture(scope="module")
def pairs(result: ww.Result) -> Pairs:
    """Expected and found, by the tensor's path in the file, which ends with our name of it."""
    with REFERENCE.open(newline="") as stream:
        expected = {row["tensor"]: row for row in csv.DictReader(stream) if int(row["num_evals"]) >= 20}
    ours = {row.name or "": row for row in result if row.part in (None, "whole")}
    joined = {}
    for name, row in expected.items():
        found = [own for own in ours if own == name or name.endswith(f"/{own}")]
        assert len(found) == 1, name
        joined[name] = (row, ours[found[0]])
    assert len(joined) == 9
    return joined


@pytest.mark.parametrize("column", CLOSE)
def test_fer_equals_weightwatcher_to_1e_9(pairs: Pairs, column: str, measured: Note) -> None:
    expected = {name: float(row[column]) for name, (row, _) in pairs.items()}
    assert {name: getattr(row, column) for name, (_, row) in pairs.items()} == pytest.approx(expected, rel=1e-9, abs=0)
    if column == "alpha":
        worst = max(abs(getattr(pairs[name][1], column) / value - 1) for name, value in expected.items())
        measured("F12", f"fer {column}: {worst:.0e}")


@pytest.mark.parametrize("column", [column for column in EXACT if column not in ("N", "M")])
def test_fer_equals_weightwatcher_exactly(pairs: Pairs, column: str) -> None:
    for name, (expected, row) in pairs.items():
        assert str(getattr(row, column)) == expected[column], name


def test_the_longer_side_of_fer_is_n(pairs: Pairs) -> None:
    for name, (expected, row) in pairs.items():
        sides = int(expected["N"]), int(expected["M"])
        assert (row.N, row.M) == (max(sides), min(sides)), name
        assert row.Q == pytest.approx(max(sides) / min(sides), rel=1e-12)


def test_every_dataset_of_fer_is_a_row_and_its_kinds_come_from_the_configuration(result: ww.Result) -> None:
    assert (len(result), result.exit_code, result.finding_rows) == (185, 0, ())
    assert sum(row.reason == "optimizer_state" for row in result) == 105
    assert sum(row.reason == "depthwise" for row in result) == 8
    convolutions = [row for row in result if row.has_esd]
    assert {(row.kind, row.kind_source, row.orientation) for row in convolutions} == {("conv2d", "file", "HWIO")}
    assert len(convolutions) == 14  # one more has a single input


def test_every_dataset_of_fer_lies_flat_where_its_spec_says() -> None:
    with ww.open(fetched("fer")) as checkpoint:
        assert all(spec.extent is not None and spec.encoding == "raw" for spec in checkpoint.tensors)
