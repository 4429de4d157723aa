"""Data of what is usually drawn: curves whose course is known, and what is drawn over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ww_static as ww
from conftest import Writer
from synthetic import Values, gaussian, pareto, with_eigenvalues
from ww_static.rows import LayerRow
from ww_static.spectral import marchenko_pastur


def with_curves(save: Writer, W: Values) -> LayerRow:
    row: LayerRow
    (row,) = ww.analyze(save({"w.weight": W}), esd="f64")
    return row


@pytest.mark.parametrize("alpha", [2.0, 3.5])
def test_the_survival_function_of_a_power_law_falls_with_its_exponent(save: Writer, alpha: float) -> None:
    """Log-log slope -(alpha - 1); over 19 of 20 eigenvalues, for the last ones are few."""
    rng = np.random.default_rng(3)
    row = with_curves(save, with_eigenvalues(rng, 1600, pareto(rng, 1500, alpha)))
    x, share = np.log(np.array(row.esd)), np.log(np.array(row.survival))
    slope = np.polyfit(x[:1425], share[:1425], 1)[0]
    assert slope == pytest.approx(-(alpha - 1), rel=0.05)
    assert row.alpha == pytest.approx(alpha, abs=0.2)


def test_eigenvalues_are_given_in_order(save: Writer) -> None:
    W = np.random.default_rng(4).standard_t(3, (90, 60))
    row = with_curves(save, W)
    assert row.esd == pytest.approx(np.linalg.svd(W, compute_uv=False)[::-1] ** 2, rel=1e-10)
    assert row.explained_k == pytest.approx(np.cumsum(np.array(row.esd)[::-1]) / row.norm, rel=1e-10)


def test_the_law_drawn_over_noise_lies_on_its_histogram(save: Writer) -> None:
    n, m = 2000, 1000
    row = with_curves(save, gaussian(np.random.default_rng(17), n, m))
    assert row.mp_sigma2 is not None
    edges, counts = np.array(row.hist_edges), np.array(row.hist_counts)
    law = np.diff(marchenko_pastur.distribution(edges / (n * row.mp_sigma2), m / n)) * m
    inside = law > 4
    assert np.abs(counts - law)[inside].max() < 4
    assert row.bulk_max == pytest.approx(row.mp_edge_hi, rel=0.05)


def test_singular_values_of_square_noise_lie_on_the_quarter_circle(save: Writer) -> None:
    """Density sqrt(4 - s^2)/pi on [0, 2]."""
    row = with_curves(save, gaussian(np.random.default_rng(28), 1000, 1000))
    edges, density = np.array(row.sv_hist_edges), np.array(row.sv_density)
    s = np.minimum(edges, 2)
    below = (s * np.sqrt(4 - s**2) / 2 + 2 * np.arcsin(s / 2)) / np.pi
    share = np.concatenate([[0], np.cumsum(density * np.diff(edges))])
    assert np.abs(share - (below - below[0])).max() < 0.01


def test_sides_are_known_before_anything_is_computed(minilm: Path) -> None:
    described = {row.name: row for row in ww.describe(minilm)}
    row = described["encoder.layer.0.intermediate.dense.weight"]
    assert (row.N, row.M, row.Q) == (1536, 384, 4)
    assert row.status == "planned"


def test_alpha_times_log_lambda_max_is_near_the_log_of_the_alpha_norm(minilm: Path) -> None:
    """log10 sum lambda^alpha is 1.00 to 1.42 times alpha log10 lambda_max where lambda_max is above 10, and never alpha times it."""
    large = [row for row in ww.analyze(minilm) if row.alpha is not None and (row.lambda_max or 0.0) > 10]
    ratios = [(row.log_alpha_norm or 0.0) / (row.alpha_weighted or 0.0) for row in large]
    assert len(ratios) == 32
    assert min(ratios) == pytest.approx(1.00, abs=0.005)
    assert max(ratios) == pytest.approx(1.42, abs=0.005)
    assert all(ratio < 0.95 * (row.alpha or 0.0) for ratio, row in zip(ratios, large, strict=True))
