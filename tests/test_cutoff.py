"""Power law with a cut-off and its own xmin: its distribution by brute force, the peak, and samples of known laws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

import ww_static as ww
from conftest import Writer
from ww_static import Missing, TailFit, tail
from ww_static.spectral.alternatives import alternatives
from ww_static.spectral.cutoff import CutoffFit, cutoff_fit, distribution, peak
from ww_static.spectral.families import TRUNCATED, fitted
from ww_static.spectral.replicas import bootstrap
from ww_static.spectral.variants import variants


@pytest.mark.parametrize("seed", range(4))
def test_shares_are_those_of_a_fine_grid(seed: int) -> None:
    u = np.sort(np.log1p(np.random.default_rng(seed).standard_exponential(80)))
    u -= u[0]
    point = fitted(TRUNCATED, float(u.mean()), float(np.expm1(u).mean()), np.inf)
    assert point is not None
    grid = np.linspace(0, u[-1], 400_001)
    density = np.exp(-point.a * grid - point.b * np.expm1(grid) - point.log_z)
    whole = np.concatenate(([0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(grid))))
    assert distribution(point, u) == pytest.approx(np.interp(u, grid, whole), abs=1e-8)


def test_the_peak_is_the_left_edge_of_the_fullest_bin() -> None:
    x = np.sort(np.concatenate([np.geomspace(1, 1e4, 101), np.full(20, 31.7)]))
    assert peak(x) <= 31.7 < peak(x) * 10**0.04
    assert peak(x) == pytest.approx(10**1.48, rel=1e-9)


def test_a_cut_off_from_its_peak_on() -> None:
    """x^-2 exp(-0.1 x) on [1, inf): the peak of ln x is at 1."""
    rng = np.random.default_rng(0)
    x = 1 + rng.standard_exponential(60_000) / 0.1
    found = cutoff_fit(np.sort(x[rng.random(len(x)) < x**-2.0][:1500]))
    assert isinstance(found, CutoffFit)
    assert 1 <= found.xmin <= 1.6
    assert found.D < 0.035
    assert 0.02 < found.rate < 0.3
    assert 1.3 < found.alpha < 2.7


def test_a_power_law_heavier_than_any_cut_off_has_none() -> None:
    x = np.geomspace(1, 1000, 40)
    x[-1] = 1e12
    found = cutoff_fit(x)
    assert isinstance(found, CutoffFit)
    assert found.rate < 1e-9


def test_few_values_have_no_candidate() -> None:
    assert cutoff_fit(np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9])) == Missing("tail_too_short")


def test_columns(save: Writer) -> None:
    W = (np.random.default_rng(42).standard_t(2.5, (128, 96)) * 0.05).astype(np.float32)
    one, two = (ww.analyze(save({"w.weight": W * scale}), metrics=("default", "alternatives")).rows[0] for scale in (1, 16))
    found = cutoff_fit(ww.spectrum(W).eigenvalues)
    assert isinstance(found, CutoffFit)
    columns = (one.etpl_alpha, one.etpl_Lambda, one.etpl_xmin, one.etpl_D)
    assert columns == pytest.approx((found.alpha, found.rate, found.xmin, found.D), rel=1e-8)
    scaled = (two.etpl_alpha, two.etpl_Lambda, two.etpl_xmin, two.etpl_D)
    assert scaled == pytest.approx((found.alpha, found.rate / 256, found.xmin * 256, found.D), rel=1e-7)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["spread", "outlier", "tied", "heavy", "narrow", "wide"])
def test_no_data_are_too_odd_for_any_fit(kind: str, seed: int) -> None:
    """Warnings are errors: nothing overflows, and every ratio is a number."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(12, 150))
    draws: dict[str, Callable[[], NDArray[np.float64]]] = {
        "spread": lambda: np.exp(rng.standard_normal(n) * 10.0 ** rng.uniform(-7, 1.8)),
        "outlier": lambda: np.append(np.ones(n - 3), [2.0, 3.0, 1e12]),
        "tied": lambda: np.round(rng.pareto(1, n) * 3) + 1,
        "heavy": lambda: np.minimum(rng.pareto(0.05, n) + 1, 1e290),
        "narrow": lambda: 1 + 1e-7 * rng.random(n),
        "wide": lambda: np.geomspace(1, 1e290, n),
    }
    x = np.sort(draws[kind]())
    fit = tail(x)
    assert isinstance(fit, TailFit)
    assert variants(x, fit, 8).two_sided >= fit.D - 1e-12
    found = alternatives(x, fit)
    if isinstance(found, Missing):
        assert fit.k < 10
    else:
        assert all(np.isfinite(ratio.R) and 0 <= ratio.p <= 1 for ratio in found.ratios.values())
    cut = cutoff_fit(x)
    assert isinstance(cut, Missing) or (0 < cut.D <= 1 and np.isfinite([cut.alpha, cut.rate]).all())
    drawn = bootstrap(x, lambda replica: np.random.default_rng([seed, replica]), 10)
    assert isinstance(drawn, Missing) or drawn.lo <= drawn.hi
