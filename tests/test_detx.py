"""det X = 1 against closed forms: the index rule, the log domain, known fractions of known spectra."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import Note
from ww_static import Missing, detx
from ww_static.spectral.detx import DetX

Values = NDArray[np.float64]


def space(eigenvalues: Values, rescale: bool = True) -> DetX:
    found = detx(np.sort(eigenvalues), rescale)
    assert isinstance(found, DetX)
    return found


def mp_quantiles(q: float, m: int) -> Values:
    """The m midpoint quantiles of the Marchenko-Pastur law of unit variance in 1/N units, aspect ratio q."""
    low, high = (1 - q**-0.5) ** 2, (1 + q**-0.5) ** 2
    t = np.linspace(0, math.pi, 400_001)  # x = low + (high - low) sin^2(t/2): the square roots at the edges vanish
    x = low + (high - low) * np.sin(t / 2) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        density = q * (high - low) ** 2 * np.sin(t) ** 2 / (8 * math.pi * x)
    density[~np.isfinite(density)] = q * (high - low) / (2 * math.pi)  # the limit at x = 0 for q = 1
    total = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(t))])
    return np.asarray(np.interp((np.arange(m) + 0.5) / m, total / total[-1], x), np.float64)


def test_index_counts_the_eigenvalue_that_breaks_the_product(measured: Note) -> None:
    """F3: [0]*90 + [1]*10 without rescaling: 11 kept, the smallest at index 89."""
    found = space(np.array([0.0] * 90 + [1.0] * 10), rescale=False)
    assert found.num == 11
    assert 100 - found.num == 89
    measured("F3", f"{found.num} kept, index {100 - found.num}")


@pytest.mark.parametrize(("m", "a", "expected"), [(101, 3.0, 61), (401, 2.0, 282)])
def test_log_linear_spectrum_has_a_closed_form(m: int, a: float, expected: int, measured: Note) -> None:
    """T19."""
    eigenvalues = np.exp(a * (1 - 2 * np.arange(m) / (m - 1)))
    formula = math.floor(1 + (m - 1) * (1 - math.log(eigenvalues.mean()) / a)) + 1
    assert formula == expected
    assert space(eigenvalues).num == expected
    measured("T19", f"M {m}: {space(eigenvalues).num}")


@pytest.mark.parametrize(("q", "fraction", "mean_log"), [(1.0, 0.732, -1.0), (2.0, 0.816, -0.3069), (4.0, 0.87, -0.1370)])
def test_fraction_of_marchenko_pastur_noise(q: float, fraction: float, mean_log: float, measured: Note) -> None:
    """T20."""
    x = mp_quantiles(q, 4000)
    assert np.log(x).mean() == pytest.approx(mean_log, abs=5e-3)
    assert space(x).num / 4000 == pytest.approx(fraction, abs=5e-3)
    measured("T20", f"Q {q:g}: {space(x).num / 4000:.3f}, mean ln {np.log(x).mean():.4f}")


@pytest.mark.parametrize(("alpha", "fraction"), [(1.7, 0.091), (2.0, 0.284), (2.5, 0.554), (3.0, 0.689), (4.0, 0.808)])
def test_fraction_of_power_laws(alpha: float, fraction: float, measured: Note) -> None:
    """T20: at alpha = 2 it is 0.284, so that alpha = 2 does not by itself make the two tails meet."""
    x = (1 - (np.arange(2000) + 0.5) / 2000) ** (-1 / (alpha - 1))
    assert space(x).num / 2000 == pytest.approx(fraction, abs=5e-3)
    measured("T20", f"alpha {alpha}: {space(x).num / 2000:.3f}")


def test_large_spectra_neither_overflow_nor_underflow(measured: Note) -> None:
    """T20b: m 4096; a running product gives 2952 and 2312."""
    assert space(mp_quantiles(1 / 0.999, 4096)).num == 2996
    from statistics import NormalDist

    normal = NormalDist()
    lognormal = np.exp(1.5 * np.array([normal.inv_cdf((i + 0.5) / 4096) for i in range(4096)]))
    assert space(lognormal).num == 2180
    measured("T20b", f"{space(mp_quantiles(1 / 0.999, 4096)).num}, {space(lognormal).num}")


def test_null_cases_have_reasons() -> None:
    assert detx(np.array([1.0])) == Missing("too_few_evals")
    assert detx(np.zeros(5)) == Missing("zero_matrix")
    assert detx(np.full(9, 3.0)) == Missing("constant_esd")
    assert detx(np.asarray(3.0 + 1e-12 * np.arange(9), np.float64)) == Missing("constant_esd")


def test_values_are_given_in_both_units() -> None:
    eigenvalues: Values = np.sort(np.random.default_rng(1).pareto(2, 50))
    found = space(eigenvalues)
    assert found.rescaled == pytest.approx(found.value / eigenvalues.mean())
