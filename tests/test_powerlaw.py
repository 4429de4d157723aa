"""The tail fit against a brute-force fit, against figures of weightwatcher, and on data whose exponent is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import Note
from ww_static import Missing, TailFit, spectrum, tail
from ww_static.spectral import powerlaw
from ww_static.spectral.eigen import spectrum as spectrum_of
from ww_static.spectral.powerlaw import candidates

Values = NDArray[np.float64]


def brute_force(x: Values, sides: int, t: int) -> tuple[int, float, float] | None:
    """Index, alpha and D of procedure F by the textbook expressions."""
    x = np.sort(x)
    best: tuple[float, int, float] | None = None
    for i in range(len(x) - 1):
        points, k = x[i:], len(x) - i
        S = float(np.sum(np.log(points)) - k * np.log(x[i]))
        if k < t or S <= 0 or not 1 + k / S > 1 or not np.isfinite(1 + k / S):
            continue
        a = 1 + k / S
        F = 1 - (points / x[i]) ** (1 - a)
        D = float(np.max(np.abs(F - np.arange(k) / k)))
        if sides == 2:
            D = max(D, float(np.max(np.abs(np.arange(1, k + 1) / k - F))))
        if D < 1 and (best is None or D < best[0] - 1e-13):
            best = (D, i, a)
    return None if best is None else (best[1], best[2], best[0])


def families(rng: np.random.Generator, n: int) -> list[Values]:
    W = rng.standard_t(2.5, (2 * n, n))
    return [
        (1 - rng.random(n)) ** (-1 / 1.5),
        rng.pareto(2.5, n) + 1e-3,
        rng.lognormal(0, 1.5, n),
        rng.exponential(1, n) + 1e-4,
        spectrum(W).eigenvalues,
        spectrum(rng.standard_normal((2 * n, n))).eigenvalues,
    ]


def fitted(x: Values, sides: int = 1, t: int = 2) -> TailFit:
    fit = tail(x, sides, t)
    assert isinstance(fit, TailFit)
    return fit


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("t", [2, 10, 50])
@pytest.mark.parametrize("n", [8, 20, 97, 400])
def test_fit_is_the_brute_force_fit(sides: int, t: int, n: int) -> None:
    for x in families(np.random.default_rng(n * t + sides), n):
        expected = brute_force(x, sides, t)
        found = tail(x, sides, t)
        if expected is None:
            assert isinstance(found, Missing)
            continue
        assert isinstance(found, TailFit)
        index, alpha, D = expected
        assert len(x) - found.k == index
        assert found.alpha == pytest.approx(alpha, rel=1e-11)
        assert found.D == pytest.approx(D, abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_resampled_data_with_many_ties_follows_the_index_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.choice((1 - rng.random(60)) ** -0.7, 120)
    expected = brute_force(x, 1, 2)
    assert expected is not None
    found = fitted(x)
    assert len(x) - found.k == expected[0]
    assert found.alpha == pytest.approx(expected[1], rel=1e-11)


def test_pareto_of_the_legacy_generator_gives_the_published_fit(measured: Note) -> None:
    """F4: numpy.random.seed(123); numpy.random.pareto(2.5, 100)."""
    fit = fitted(np.random.RandomState(123).pareto(2.5, 100))
    assert fit.alpha == pytest.approx(2.535777254844289, rel=1e-9)
    assert fit.xmin == pytest.approx(0.43297220, abs=5e-9)
    assert fit.D == pytest.approx(0.07043700, abs=5e-9)
    assert fit.sigma == pytest.approx(0.24282771, abs=5e-9)
    assert fit.k == 40
    measured("F4", f"alpha {fit.alpha!r}, xmin {fit.xmin:.8f}, D {fit.D:.8f}, tail {fit.k}")


@pytest.mark.parametrize("alpha", [4.0, 6.0])
def test_large_exponents_are_not_clamped_at_three(alpha: float) -> None:
    """T27: Pareto I data, n 4000, 20 runs."""
    rng = np.random.default_rng(27)
    found = [fitted((1 - rng.random(4000)) ** (-1 / (alpha - 1))).alpha for _ in range(20)]
    assert np.mean(found) == pytest.approx(alpha, abs=0.1)


def test_exponents_of_true_pareto_data_have_little_bias() -> None:
    """T9, the part that this release's fit serves: n 1000, 30 runs."""
    rng = np.random.default_rng(9)
    for alpha in (1.5, 2.0, 2.5, 3.0, 4.0, 5.0):
        found = [fitted((1 - rng.random(1000)) ** (-1 / (alpha - 1))).alpha for _ in range(30)]
        bound = (0.06 if alpha <= 4.5 else 0.12) + 2 * np.std(found) / np.sqrt(30)
        assert abs(np.mean(found) - alpha) < bound


@pytest.mark.parametrize("values", [[2.0] * 12, [1.0, *(1 + 1e-13 * np.arange(20))]])
def test_constant_data_has_no_tail(values: list[float], measured: Note) -> None:
    """F13."""
    assert tail(np.array(values)) == Missing("constant_esd")
    measured("F13", tail(np.array(values)).reason)  # type: ignore[union-attr]


def test_tied_data_differ_little_from_the_distribution_of_unique_values(measured: Note) -> None:
    """F13: counting ties by index may move D by a few thousandths against a unique-value CDF."""
    rng = np.random.default_rng(5)
    x = np.repeat((1 - rng.random(500)) ** -0.5, 2)
    assert fitted(x).alpha == pytest.approx(fitted(x[::2]).alpha, abs=0.02)
    measured("F13", f"tied twice: alpha differs by {abs(fitted(x).alpha - fitted(x[::2]).alpha):.3f}")


def test_nothing_above_the_cut_and_too_little_are_told_apart() -> None:
    assert tail(np.array([])) == Missing("all_below_cut")
    assert tail(np.array([1.0])) == Missing("too_few_evals")
    assert tail(np.geomspace(1, 2, 5), minimum_tail=10) == Missing("fit_degenerate")


@pytest.mark.parametrize("x", [[1.0, 0.0], [1.0, -1.0], [1.0, np.inf], [1.0, np.nan]])
def test_values_that_no_power_law_can_have_are_refused(x: list[float]) -> None:
    with pytest.raises(ValueError, match="positive finite"):
        tail(np.array(x))


def test_sides_are_one_or_two() -> None:
    with pytest.raises(ValueError, match="sides is 1 or 2"):
        tail(np.arange(1.0, 9.0), sides=3)


def test_near_tie_of_separated_candidates_is_reported() -> None:
    x = np.sort((1 - np.random.default_rng(3).random(200)) ** -0.6)
    curve = candidates(x)
    order = np.argsort(curve.D)
    assert not fitted(x).near_tie
    gap = float(curve.D[order[1]] - curve.D[order[0]])
    original = powerlaw._NEAR
    try:
        powerlaw._NEAR = 2 * gap  # what another processor would have to be off by
        assert fitted(x).near_tie
    finally:
        powerlaw._NEAR = original


def test_curve_has_its_minimum_at_the_fit() -> None:
    x = np.sort(np.random.default_rng(4).pareto(1.5, 300) + 0.1)
    curve = candidates(x)
    fit = fitted(x)
    best = int(np.argmin(curve.D))
    assert (curve.xmin[best], curve.alpha[best]) == (fit.xmin, pytest.approx(fit.alpha, rel=1e-12))
    assert len(curve.D) == len(x) - 1


def test_large_samples_are_fitted_in_blocks_like_small_ones() -> None:
    x = np.sort((1 - np.random.default_rng(6).random(3000)) ** -0.5)
    expected = brute_force(x, 1, 2)
    assert expected is not None
    assert fitted(x).k == len(x) - expected[0]


def test_weightwatcher_figures_of_a_heavy_tailed_matrix() -> None:
    """F1 and F2 draw from the same generator; here the fit of the first matrix."""
    W = (np.random.default_rng(42).standard_t(2.5, (128, 96)) * 0.05).astype(np.float32)
    fit = fitted(spectrum(W).eigenvalues)
    assert fit.alpha == pytest.approx(3.64623177346406, rel=1e-9)
    assert fit.xmin == pytest.approx(1.9684281872878746, rel=1e-9)
    assert fit.D == pytest.approx(0.12819150341612806, rel=1e-9)
    assert fit.k == 24


def test_gram_and_svd_give_one_alpha(measured: Note) -> None:
    """F10: t-distributed 400 x 200; 1e-12 in float64, 2e-7 for a float32 Gram matrix."""
    W = np.random.default_rng(10).standard_t(2.5, (400, 200))
    exact = fitted(spectrum_of(W, "svd").eigenvalues).alpha
    assert fitted(spectrum_of(W, "gram").eigenvalues).alpha == pytest.approx(exact, rel=1e-12)
    single = np.linalg.eigvalsh((W.astype(np.float32).T @ W.astype(np.float32)).astype(np.float64))
    assert fitted(single).alpha == pytest.approx(exact, rel=2e-7)
    gram = fitted(spectrum_of(W, "gram").eigenvalues).alpha
    measured("F10", f"gram {abs(gram / exact - 1):.0e}, float32 Gram {abs(fitted(single).alpha / exact - 1):.0e}")
