"""Matrices whose elements have power laws: the exponent of their spectra against that of their elements."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import Note
from synthetic import signed_pareto
from ww_static import TailFit, spectrum, tail

SHAPE = (300, 1000)
RUNS = 20


def signed_exponents(mu: float) -> list[float]:
    """alpha of F(x, 2, 10) of symmetric elements."""
    found = []
    for run in range(RUNS):
        W = signed_pareto(np.random.default_rng([12, run, int(10 * mu)]), SHAPE, mu)
        fit = tail(spectrum(W).eigenvalues, sides=2, minimum_tail=10)
        assert isinstance(fit, TailFit)
        found.append(fit.alpha)
    return found


@pytest.mark.parametrize(
    ("mu", "expected", "tolerance"),
    [(0.4, 1.18, 0.1), (0.5, 1.22, 0.1), (1.0, 1.47, 0.1), (1.2, 1.58, 0.1), (1.5, 1.91, 0.2), (2.0, 2.61, 0.2)],
)
def test_heavy_elements_make_heavy_spectra(mu: float, expected: float, tolerance: float, measured: Note) -> None:
    """T12: alpha is about mu/2 + 1 for +-Pareto I elements, mu below 2."""
    found = signed_exponents(mu)
    assert np.mean(found) == pytest.approx(expected, abs=tolerance)
    measured("T12", f"mu {mu}: {np.mean(found):.2f}")


@pytest.mark.parametrize("mu", [3.0, 4.0])
def test_elements_with_lighter_tails_make_spectra_like_those_of_noise(mu: float, measured: Note) -> None:
    """T12: from mu = 3 on alpha is 8 to 13, as for noise, and varies as much; two standard deviations of the mean wider."""
    found = signed_exponents(mu)
    error = 2 * float(np.std(found, ddof=1)) / RUNS**0.5
    assert 8 - error <= np.mean(found) <= 13 + error
    measured("T12", f"mu {mu}: {np.mean(found):.1f}")


@pytest.mark.parametrize(("mu", "published"), [(0.4, 1.204), (1.2, 1.641), (2.5, 3.078)])
def test_a_published_curve_of_positive_elements_lies_among_our_draws(mu: float, published: float, measured: Note) -> None:
    """T12b: one draw of numpy's `pareto(mu)` each, within two standard deviations of 60 draws of ours, by the fit of `alpha`."""
    found = []
    for run in range(60):
        fit = tail(spectrum(np.random.default_rng([121, run, int(10 * mu)]).pareto(mu, SHAPE)).eigenvalues)
        assert isinstance(fit, TailFit)
        found.append(fit.alpha)
    assert published == pytest.approx(np.mean(found), abs=2 * float(np.std(found, ddof=1)))
    measured("T12b", f"mu {mu}: {np.mean(found):.3f} +- {np.std(found, ddof=1):.3f}")
