"""Correlation traps: none in noise but at the stated rate, one for each that was planted, whatever the seed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import ww_static as ww
from conftest import Note, Writer
from synthetic import Values, gaussian, orthonormal, signed_pareto
from ww_static.rows import LayerRow

SEEDS = 20


def planted() -> dict[str, Values]:
    """600 x 300: noise, heavy correlations, one huge element, a mean of 0.2 standard deviations, and both of these."""
    noise, other, third, fourth = (gaussian(np.random.default_rng([21, k]), 600, 300) for k in range(4))
    rng = np.random.default_rng(21)
    scales = np.exp(np.linspace(1.5, -1.5, 300))
    element, both = other.copy(), fourth + 0.2 / math.sqrt(600)
    element[17, 4] = both[400, 250] = 8.0
    return {
        "noise": noise,
        "correlated": third @ (orthonormal(rng, 300, 300) * scales).T,
        "element": element,
        "mean": noise + 0.2 / math.sqrt(600),
        "both": both,
    }


@pytest.fixture(scope="module")
def by_seed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, LayerRow]]:
    """The rows of the five matrices under 20 seeds of the permutations."""
    from support import safetensors_bytes

    path: Path = tmp_path_factory.mktemp("traps") / "model.safetensors"
    path.write_bytes(safetensors_bytes({name: W.astype(np.float32) for name, W in planted().items()}))
    return [
        {row.name or "": row for row in ww.analyze(path, randomize=True, seed=seed, executor=ww.InlineExecutor())}
        for seed in range(SEEDS)
    ]


def test_every_seed_counts_the_same_traps(by_seed: list[dict[str, LayerRow]], measured: Note) -> None:
    """T21: 0 for noise and correlations, 1 for an element and for a mean, 0 for the mean and 1 for the element without the mean."""
    expected = {"noise": (0, 0), "correlated": (0, 0), "element": (1, 1), "mean": (1, 0), "both": (2, 1)}
    for rows in by_seed:
        assert {name: (row.num_traps, row.num_traps_demeaned) for name, row in rows.items()} == expected
    measured("T21", f"traps, and without the mean, under {SEEDS} seeds: {expected}")


def test_the_size_of_a_trap_does_not_depend_on_the_seed(by_seed: list[dict[str, LayerRow]], measured: Note) -> None:
    """T21: 22.5 and 4.75 edges."""
    for name, expected in (("element", 22.5), ("mean", 4.75)):
        ratios = np.array([rows[name].trap_ratio for rows in by_seed], float)
        assert ratios.mean() == pytest.approx(expected, rel=0.05)
        assert ratios.std() < 0.02 * expected
        measured("T21", f"{name}: ratio {ratios.mean():.2f}")


def test_heavy_elements_are_many_traps(save: Writer, measured: Note) -> None:
    """T21: 104 to 109 for +-Pareto I elements with mu = 1; two standard deviations of the mean of ten matrices wider."""
    tensors = {f"w.{k}": signed_pareto(np.random.default_rng([21, k]), (600, 300), 1.0).astype(np.float32) for k in range(10)}
    found = np.array([row.num_traps for row in ww.analyze(save(tensors), randomize=True)], float)
    error = 2 * float(found.std(ddof=1)) / len(found) ** 0.5
    assert 104 - error <= found.mean() <= 109 + error
    measured("T21", f"heavy elements: {found.mean():.0f} traps")


def test_noise_shows_traps_at_the_rate_that_is_stated(save: Writer, measured: Note) -> None:
    """T21: an eigenvalue of a permuted matrix is above its edge in 1 % of replicas; five of each of 300, two sd to both sides."""
    tensors = {f"w.{k}": gaussian(np.random.default_rng([3, k]), 120, 80).astype(np.float32) for k in range(300)}
    rows = list(ww.analyze(save(tensors), randomize=True))
    once = float(np.mean([(row.num_traps_max or 0) > 0 for row in rows]))
    nominal = 1 - 0.99**5
    assert abs(once - nominal) <= 2 * (nominal * (1 - nominal) / 300) ** 0.5
    assert sum((row.num_traps or 0) > 0 for row in rows) == 0
    measured("T21", f"noise: {once / 5:.3f} per replica, median 0 in all of 300")
