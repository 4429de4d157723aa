"""Other fits of the tail: figures of fixed matrices, laws whose answer is known, and what their columns say when there is none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import ww_static as ww
from conftest import Note, Writer
from ww_static import Missing, TailFit, spectrum, tail
from ww_static.measuring.metrics import METRICS
from ww_static.rows import LayerRow
from ww_static.spectral.hill import hill, hill_of_noise
from ww_static.spectral.powerlaw import candidates
from ww_static.spectral.scan import tails
from ww_static.spectral.variants import bounded_alpha, fits_without_largest, local_minima, robust_fit, two_sided_distance

Values = NDArray[np.float64]
TAIL = [name for name, metric in METRICS.items() if metric.group == "tail"]


def fixed() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The matrix and the kernel of F1 and F2."""
    rng = np.random.default_rng(42)
    W = (rng.standard_t(2.5, (128, 96)) * 0.05).astype(np.float32)
    return W, (rng.standard_t(2.5, (24, 40, 3, 3)) * 0.05).astype(np.float32)


def fitted(x: Values) -> TailFit:
    found = tail(x)
    assert isinstance(found, TailFit)
    return found


def rows(save: Writer, **options: object) -> list[LayerRow]:
    W, K = fixed()
    return list(ww.analyze(save({"a.weight": W, "b.weight": K}), **{"metrics": ("default", "tail"), **options}).rows)  # type: ignore[arg-type]


def test_figures_of_a_matrix_and_a_kernel(save: Writer, measured: Note) -> None:
    """F1 and F2."""
    dense, conv = rows(save)
    assert dense.alpha_hill == pytest.approx(2.2292195597048527, rel=1e-9)
    drops = (dense.alpha_drop_top_1, dense.alpha_drop_top_2, dense.alpha_drop_top_5, dense.alpha_drop_top_10)
    assert drops == pytest.approx((10.0226, 4.08804, 5.15434, 11.84078), rel=1e-4)
    assert "fingers" in (dense.warning_codes or ())
    assert conv.alpha_hill == pytest.approx(2.0973774376931726, rel=1e-9)
    two = tail(spectrum(fixed()[0]).eigenvalues, sides=2, minimum_tail=50)
    assert isinstance(two, TailFit)
    assert two.alpha == pytest.approx(2.135292104140258, rel=1e-9)
    measured(
        "F1",
        f"alpha_hill {dense.alpha_hill!r}, F(x, 2, 50) {two.alpha!r}, without the largest {drops[0]:.4f}, {drops[1]:.5f}, {drops[2]:.5f}, {drops[3]:.5f}",
    )
    measured("F2", f"alpha_hill {conv.alpha_hill!r}")


def test_columns_are_those_of_the_eigenvalues(save: Writer) -> None:
    row = rows(save)[0]
    x = spectrum(fixed()[0]).eigenvalues
    robust = tail(x, sides=2, minimum_tail=10)
    assert isinstance(robust, TailFit)
    found = (row.alpha_robust, row.xmin_robust, row.D_robust, row.n_tail_robust)
    assert found == pytest.approx((robust.alpha, robust.xmin, robust.D, robust.k), rel=1e-10)
    fit = fitted(x)
    assert row.D_two_sided == pytest.approx(two_sided_distance(x, fit), rel=1e-10)
    assert row.alpha_xmax == pytest.approx(bounded_alpha(x, fit), rel=1e-10)
    minima = local_minima(x)
    assert row.n_local_minima == len(minima) == 4
    assert row.alpha_range_minima == pytest.approx(minima.max() - minima.min(), rel=1e-10)
    assert "degenerate_xmin" in (row.warning_codes or ())
    assert row.alpha_hill_excess == pytest.approx((row.alpha_hill or 0) - hill_of_noise(128 / 96), rel=1e-12)


def test_local_minima_are_those_of_the_curve() -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x = np.sort(rng.pareto(1.5, 40 + 40 * seed) + 0.1)
        curve = candidates(x)
        padded = np.concatenate([[np.inf], curve.D, [np.inf]])
        low = (padded[:-2] > curve.D) & (curve.D <= padded[2:]) & (curve.D <= 1.1 * curve.D.min())
        assert local_minima(x) == pytest.approx(curve.alpha[low], rel=1e-12)


def test_two_sided_distance_of_a_fit() -> None:
    for seed in range(6):
        x = np.sort(np.random.default_rng(seed).pareto(2.0, 300) + 1)
        fit = tail(x, sides=2, minimum_tail=10)
        assert isinstance(fit, TailFit)
        assert two_sided_distance(x, fit) == pytest.approx(fit.D, rel=1e-12)
        assert two_sided_distance(x, fitted(x)) >= fitted(x).D


@pytest.mark.parametrize(("alpha", "sd"), [(1.5, 0.032), (2.0, 0.029), (3.0, 0.061)])
def test_a_bounded_power_law_has_its_exponent(alpha: float, sd: float, measured: Note) -> None:
    """T33: on [1, 10], 2000 values, 20 runs; three standard deviations of the mean."""
    found = []
    for run in range(20):
        U = np.random.default_rng([int(10 * alpha), run]).random(2000)
        x = np.sort((1 + U * (10 ** (1 - alpha) - 1)) ** (1 / (1 - alpha)))
        estimate = bounded_alpha(x, TailFit(alpha, float(x[0]), 0.0, len(x), len(x), near_tie=False))
        assert isinstance(estimate, float)
        found.append(estimate)
    assert np.mean(found) == pytest.approx(alpha, abs=3 * sd / 20**0.5)
    measured("T33", f"bounded {alpha}: {np.mean(found):.3f}")


def test_the_bounded_exponent_has_its_limit_at_one_and_its_bounds() -> None:
    def of(u: Values) -> float | Missing:
        return bounded_alpha(np.exp(u), TailFit(2.0, 1.0, 0.0, len(u), len(u), near_tie=False))

    assert of(np.linspace(0, 3, 101)) == pytest.approx(1, abs=1e-9)
    assert of(np.array([0, *np.full(50, 5.0)])) == Missing("alpha_at_bound")
    assert of(np.array([*np.zeros(200), 5.0])) == Missing("alpha_at_bound")
    assert of(np.zeros(12)) == Missing("fit_degenerate")
    x = np.sort(np.random.default_rng(0).pareto(1.5, 500) + 1)
    a = bounded_alpha(x, TailFit(2.5, float(x[0]), 0.0, 500, 500, near_tie=False))
    assert isinstance(a, float)

    def likelihood(a: float) -> float:
        return float(np.log((a - 1) / (x[0] ** (1 - a) - x[-1] ** (1 - a))) * 500 - a * np.log(x).sum())

    best = likelihood(a)
    assert max(likelihood(a - 1e-3), likelihood(a + 1e-3)) < best


def test_few_values_leave_the_other_fits_out() -> None:
    x = np.sort(np.random.default_rng(1).pareto(1.5, 19) + 1)
    assert robust_fit(x) == Missing("too_few_evals")
    assert isinstance(robust_fit(np.append(x, 100.0)), TailFit)
    found = fits_without_largest(x[:17], 8)
    assert [isinstance(fit, TailFit) for fit in found] == [True, True, True, False]


@pytest.mark.parametrize(
    ("Q", "value"),
    [
        (1, 2.1217),
        (1.5, 2.4492),
        (2, 2.7058),
        (3, 3.1175),
        (4, 3.4546),
        (6.12, 4.0387),
        (8, 4.4699),
        (16, 5.8775),
        (32, 7.8488),
    ],
)
def test_hill_of_noise(Q: float, value: float, measured: Note) -> None:
    """T14."""
    assert hill_of_noise(Q) == pytest.approx(value, abs=1e-4)
    measured("T14", f"Q {Q}: {hill_of_noise(Q):.4f}")


@pytest.mark.parametrize("Q", [1, 2, 4])
def test_noise_has_the_exponent_of_noise(Q: int, measured: Note) -> None:
    """T14: simulated at M = 300 within 1.2 %."""
    found = []
    for run in range(4):
        value = hill(spectrum(np.random.default_rng([Q, run]).standard_normal((300 * Q, 300))).eigenvalues, 0.0)
        assert isinstance(value, float)
        found.append(value)
    assert np.mean(found) == pytest.approx(hill_of_noise(Q), rel=0.012)
    measured("T14", f"drawn, Q {Q}: {100 * (float(np.mean(found)) / hill_of_noise(Q) - 1):+.1f} %")


def test_hill_has_reasons() -> None:
    assert hill(np.zeros(10), 0.0) == Missing("zero_matrix")
    assert hill(np.ones(10), 0.0) == Missing("constant_esd")
    assert hill(np.array([0.0, 0, 0, 0, 0, 1]), 0.0) == Missing("below_spectral_floor")
    assert hill(np.array([1.0, 2.0, np.e * 2]), 0.0) == pytest.approx(3, rel=1e-12)


@pytest.mark.parametrize("alpha", [1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7])
def test_alpha_of_power_laws(alpha: float, measured: Note) -> None:
    """T9 (reference 1.496 to 7.045) and T27: no clamp at 3."""
    found = []
    for run in range(30):
        U = np.random.default_rng([int(10 * alpha), run, 9]).random(1000)
        found.append(fitted((1 - U) ** (-1 / (alpha - 1))).alpha)
    spread = np.std(found, ddof=1)
    nominal = (alpha - 1) / 1000**0.5
    assert abs(np.mean(found) - alpha) < (0.06 if alpha <= 4.5 else 0.12) + 2 * nominal / 30**0.5
    assert 0.7 * nominal < spread < 2.0 * nominal
    measured("T9", f"{alpha}: {np.mean(found):.3f}, sd {spread / nominal:.2f} of nominal")


@pytest.mark.parametrize("alpha", [4.0, 6.0])
def test_alpha_of_many_values(alpha: float, measured: Note) -> None:
    """T27: n = 4000, 20 runs, mean within 0.1."""
    draws = [np.random.default_rng([int(alpha), run, 27]).random(4000) for run in range(20)]
    assert np.mean([fitted((1 - U) ** (-1 / (alpha - 1))).alpha for U in draws]) == pytest.approx(alpha, abs=0.1)
    mean = np.mean([fitted((1 - U) ** (-1 / (alpha - 1))).alpha for U in draws])
    measured("T27", f"alpha {alpha:g}: {mean:.3f}")


def test_bias_and_spread_at_a_known_xmin(measured: Note) -> None:
    """T10: bias (alpha - 1)/(n - 1), standard deviation (alpha - 1)/sqrt(n), within 20 %."""
    n, alpha, runs = 100, 3.0, 4000
    draws = (1 - np.random.default_rng(10).random((runs, n))) ** (-1 / (alpha - 1))
    # n values above a known xmin = 1; the first candidate, xmin itself, counts as one more that adds nothing to S
    found = np.array([tails(np.append(1.0, np.sort(x)), 2).alpha[0] for x in draws])
    found = 1 + (found - 1) * n / (n + 1)
    assert np.mean(found) - alpha == pytest.approx((alpha - 1) / (n - 1), rel=0.2, abs=2 * (alpha - 1) / (n * runs) ** 0.5)
    assert np.std(found) == pytest.approx((alpha - 1) / n**0.5, rel=0.2)
    measured(
        "T10",
        f"bias {np.mean(found) - alpha:.4f} for {(alpha - 1) / (n - 1):.4f}, sd {np.std(found):.3f} for {(alpha - 1) / n**0.5:.3f}",
    )


def test_columns_without_a_fit(save: Writer) -> None:
    W = np.outer(np.ones(30), np.ones(20)).astype(np.float32)
    row = ww.analyze(save({"w.weight": W}), metrics=("default", "tail")).rows[0]
    assert row.null_reasons is not None
    assert row.null_reasons["alpha_robust"] == row.null_reasons["alpha"] == "too_few_evals"
    assert row.null_reasons["alpha_hill"] == row.null_reasons["alpha_hill_excess"] == "below_spectral_floor"
    plain = ww.analyze(save({"w.weight": W})).rows[0]
    assert plain.null_reasons is not None
    assert {plain.null_reasons[name] for name in TAIL} == {"not_requested"}


def test_float32_spectra_have_no_other_fits(save: Writer) -> None:
    W = np.random.default_rng(3).standard_t(3, (700, 520)).astype(np.float32)
    row = ww.analyze(save({"w.weight": W}), metrics=("default", "tail"), precision="fast").rows[0]
    assert row.null_reasons is not None
    assert {row.null_reasons[name] for name in TAIL} == {"precision"}
