"""Alternatives to the power law: integrals by brute force, maxima, signs on data whose law is known, and their columns."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

import ww_static as ww
from conftest import Note, Writer
from ww_static import Missing, TailFit
from ww_static.measuring.metrics import METRICS
from ww_static.rows import LayerRow
from ww_static.spectral.alternatives import Alternatives, Ratio, alternatives, best_fit
from ww_static.spectral.families import LOGNORMAL, TRUNCATED, Family, Point, fitted, log_likelihood

Values = NDArray[np.float64]
COLUMNS = [name for name, metric in METRICS.items() if metric.group == "alternatives"]


def of(x: Values) -> Alternatives:
    """The fits of all values: the smallest one is xmin."""
    x = np.sort(x)
    found = alternatives(x, TailFit(2.0, float(x[0]), 0.0, len(x), len(x), near_tie=False))
    assert isinstance(found, Alternatives)
    return found


def pareto(seed: int, n: int, alpha: float) -> Values:
    return np.asarray((1 - np.random.default_rng(seed).random(n)) ** (-1 / (alpha - 1)))


def truncated_samples(rng: np.random.Generator, n: int, b: float, rate: float) -> Values:
    """x >= 1 of density x^-b exp(-rate x), by rejection from the exponential; 1 itself, the known xmin, is among them."""
    kept = np.ones(1)
    while len(kept) < n:
        x = 1 + rng.standard_exponential(100_000) / rate
        kept = np.append(kept, x[rng.random(len(x)) < x**-b])
    return kept[:n]


def log_z(family: Family, a: float, b: float) -> float:
    """ln of the integral of exp(-a u - b s2(u)), by the trapezoid rule on two million points."""
    u = np.linspace(0, 60 if family is LOGNORMAL else math.log1p(2000 / b), 2_000_001)
    exponent = -a * u - b * family.statistic(u)
    top = exponent.max()
    return float(np.log(np.trapezoid(np.exp(exponent - top), u)) + top)


@pytest.mark.parametrize(
    ("family", "a", "b"),
    [
        (TRUNCATED, 1.0, 0.05), (TRUNCATED, 0.3, 1e-3), (TRUNCATED, -0.8, 0.2), (TRUNCATED, 3.0, 2.0), (TRUNCATED, 0.0, 1e-5),
        (LOGNORMAL, 1.0, 0.1), (LOGNORMAL, -3.0, 0.5), (LOGNORMAL, -40.0, 4.0), (LOGNORMAL, 2.0, 1e-6),
    ],
)  # fmt: skip
def test_integrals_are_those_of_a_fine_grid(family: Family, a: float, b: float) -> None:
    assert _at(family, a, b).log_z == pytest.approx(log_z(family, a, b), abs=1e-8)


def _at(family: Family, a: float, b: float) -> Point:
    """The member of a family that a fit to its own moments finds, brought to exactly a and b to first order."""
    u = np.linspace(0, 60 if family is LOGNORMAL else math.log1p(2000 / b), 2_000_001)
    exponent = -a * u - b * family.statistic(u)
    weights = np.exp(exponent - exponent.max())
    weights[0] /= 2
    weights /= weights.sum()
    found = fitted(family, float(weights @ u), float(weights @ family.statistic(u)), math.inf)
    assert found is not None
    assert (found.a, found.b) == pytest.approx((a, b), rel=1e-5, abs=1e-8)
    change = (found.a - a) * found.mean[0] + (found.b - b) * found.unit * found.mean[1]
    return Point(a, b, found.unit, float(found.log_z + change), found.mean, found.covariance)


@pytest.mark.parametrize("seed", range(6))
def test_a_fit_is_a_maximum(seed: int) -> None:
    """No other parameters near it have a larger likelihood, with the integral of the fine grid."""
    rng = np.random.default_rng(seed)
    u = np.log(np.sort(truncated_samples(rng, 200, 1.5, 0.1)))
    for family in (TRUNCATED, LOGNORMAL):
        data = float(u.mean()), float(family.statistic(u).mean())
        found = fitted(family, *data, math.inf)
        assert found is not None
        best = -found.a * data[0] - found.b * data[1] - log_z(family, found.a, found.b)
        assert best == pytest.approx(log_likelihood(found, *data), abs=1e-8)
        for da, db in ((1e-2, 0), (-1e-2, 0), (0, 1e-2), (0, -1e-2)):
            a, b = found.a + da, found.b * (1 + db)
            assert -a * data[0] - b * data[1] - log_z(family, a, b) < best


def test_laws_that_contain_the_power_law_are_never_less_likely() -> None:
    for seed in range(40):
        found = of(pareto(seed, 30 + 20 * seed, 1.2 + 0.1 * seed))
        assert found.ratios["tpl"].R <= 0
        assert found.ratios["tpl"].log_likelihood >= found.log_likelihood
        if found.lognormal is not None:
            assert found.ratios["ln"].log_likelihood >= found.log_likelihood - 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_a_stretched_exponential_has_the_largest_likelihood_of_all_exponents(seed: int) -> None:
    rng = np.random.default_rng(seed)
    u = np.log(np.sort((1 + rng.standard_exponential(500)) ** (1 / (0.4 + 0.4 * seed))))
    u -= u[0]
    found = of(np.exp(u))
    assert found.stretched is not None

    def likelihood(b: float) -> float:
        S = float(np.expm1(b * u).sum())
        return float(len(u) * (math.log(b) + math.log(len(u) / S) - 1) + (b - 1) * u.sum())

    grid = np.linspace(1e-3, 5, 4000)
    best = max(likelihood(float(b)) for b in grid)
    assert likelihood(found.stretched.b) == pytest.approx(found.ratios["sexp"].log_likelihood, rel=1e-9)
    assert best - 1e-9 <= likelihood(found.stretched.b) <= best + 0.01


def test_an_exponential_is_a_stretched_one_of_exponent_one() -> None:
    found = of(1 + np.random.default_rng(3).standard_exponential(20_000) / 2)
    assert found.exponential == pytest.approx(2, rel=0.03)
    assert found.stretched is not None
    assert found.stretched.b == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_ratios_have_the_right_sign(seed: int, measured: Note) -> None:
    """T11: n = 1000; positive for the power law, negative for the other; the lognormal is not excluded on Pareto data."""
    rng = np.random.default_rng(seed)
    power = of(pareto(seed, 1000, 2.5))
    assert power.ratios["exp"].R > 0
    assert power.ratios["exp"].p < 0.06
    assert "ln" not in power.ratios or power.ratios["ln"].p > 0.05 or power.ratios["ln"].R < 0
    assert best_fit(power, None) == "power_law"
    exponential = of(0.5 + rng.standard_exponential(1000))
    assert exponential.ratios["exp"].R < -4
    assert exponential.ratios["exp"].p < 1e-4
    normal = rng.lognormal(0, 1, 4000)
    lognormal = of(normal[normal > 1][:1000])
    assert lognormal.ratios["ln"].R < 0
    assert lognormal.ratios["ln"].p < 0.05
    assert lognormal.lognormal is not None
    assert 1 / math.sqrt(2 * lognormal.lognormal.b) == pytest.approx(1, abs=0.2)
    measured("T11", f"{power.ratios['exp'].R:+.1f}, {exponential.ratios['exp'].R:+.1f}, {lognormal.ratios['ln'].R:+.1f}")


def test_a_cut_off_is_found(measured: Note) -> None:
    """T33: b = 2, L = 0.05, xmin = 1 known, n = 2000, 10 runs; three standard deviations of the mean."""
    found = []
    for run in range(10):
        point = of(truncated_samples(np.random.default_rng([33, run]), 2000, 2.0, 0.05)).truncated
        assert point is not None
        found.append((point.a + 1, point.b))
    b, rate = np.mean(found, axis=0)
    assert b == pytest.approx(2, abs=3 * 0.044 / 10**0.5)
    assert rate == pytest.approx(0.05, abs=3 * 0.007 / 10**0.5)
    measured("T33", f"cut-off: {b:.3f}, {rate:.4f}")


def test_where_the_likelihood_ends_at_the_power_law() -> None:
    rng = np.random.default_rng(0)
    u = np.sort(np.concatenate([rng.standard_exponential(90) * 0.3, rng.standard_exponential(30) * 4]))
    found = of(np.exp(0.2 * (u - u[0])))  # heavier than any power law
    assert (found.lognormal, found.stretched, found.truncated) == (None, None, None)
    assert found.ratios["tpl"] == Ratio(-0.0, 1.0, found.log_likelihood)
    assert set(found.ratios) == {"exp", "tpl"}


def test_the_exponent_of_a_cut_off_stays_in_its_range() -> None:
    found = of(1 + np.random.default_rng(1).random(500) * 0.5)  # rises up to its end
    assert found.truncated is not None
    assert found.truncated.a == -1
    assert found.stretched is not None
    assert found.stretched.b == 5


def test_short_tails_and_wide_ones() -> None:
    x = np.sort(pareto(0, 9, 2.5))
    assert alternatives(x, TailFit(2.0, float(x[0]), 0.0, 9, 9, near_tie=False)) == Missing("tail_too_short")
    wide = of(np.geomspace(1e-100, 1e100, 50))
    assert math.isfinite(wide.ratios["exp"].R)
    assert all(math.isfinite(one.R) and 0 <= one.p <= 1 for one in wide.ratios.values())


@pytest.mark.parametrize(
    ("ratios", "p", "law"),
    [
        ({"exp": Ratio(3.0, 0.01, 5.0), "ln": Ratio(-0.5, 0.6, 9.0)}, None, "power_law"),
        ({"exp": Ratio(3.0, 0.01, 5.0), "ln": Ratio(-0.5, 0.6, 9.0)}, 0.02, "none"),
        ({"exp": Ratio(1.0, 0.3, 5.0), "tpl": Ratio(-0.2, 0.5, 9.0)}, 0.5, "undecided"),
        ({"exp": Ratio(-3.0, 0.01, 5.0), "sexp": Ratio(-2.0, 0.05, 9.0)}, 0.01, "stretched_exponential"),
        ({"exp": Ratio(-3.0, 0.01, 5.0), "ln": Ratio(-2.0, 0.05, 4.0), "tpl": Ratio(-9.0, 0.2, 9.0)}, 0.5, "exponential"),
    ],
)
def test_the_law_that_the_data_prefer(ratios: dict[str, Ratio], p: float | None, law: str) -> None:
    assert best_fit(Alternatives(0.0, 1.0, 1.0, None, None, None, ratios), p) == law


def heavy(scale: float, seed: int = 7) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_t(2.5, (128, 96)) * scale).astype(np.float32)


def row_of(save: Writer, W: NDArray[np.float32], **options: object) -> LayerRow:
    row: LayerRow
    (row,) = ww.analyze(save({"w.weight": W}), metrics=("default", "alternatives"), **options)  # type: ignore[arg-type]
    return row


def test_columns_have_the_units_of_the_eigenvalues(save: Writer) -> None:
    """W -> 2^8 W: ratios and exponents stay, rates scale by 2^-16, ln_mu shifts."""
    one, two = row_of(save, heavy(0.05, 42)), row_of(save, heavy(0.05, 42) * 256)
    same = [
        name for name in COLUMNS if name not in ("exp_rate", "ln_mu", "sexp_rate", "tpl_Lambda", "etpl_Lambda", "etpl_xmin")
    ]
    assert {name: getattr(two, name) for name in same} == pytest.approx({name: getattr(one, name) for name in same})
    assert two.exp_rate is not None
    assert two.tpl_Lambda is not None
    assert two.ln_mu is not None
    assert two.sexp_rate is not None
    assert one.sexp_b is not None
    assert one.exp_rate == pytest.approx(two.exp_rate * 2**16)
    assert one.tpl_Lambda == pytest.approx(two.tpl_Lambda * 2**16)
    assert one.ln_mu == pytest.approx(two.ln_mu - 16 * math.log(2))
    assert one.sexp_rate == pytest.approx(two.sexp_rate * 2 ** (16 * one.sexp_b))


def test_columns_without_a_fit_and_in_float32(save: Writer) -> None:
    def reasons(row: LayerRow) -> set[str]:
        assert row.null_reasons is not None
        return {row.null_reasons[name] for name in COLUMNS}

    assert reasons(row_of(save, np.random.default_rng(8).standard_t(3, (700, 520)).astype(np.float32), precision="fast")) == {
        "precision"
    }
    assert reasons(row_of(save, heavy(0.05)[:, :6])) == {"too_few_evals"}
    assert reasons(row_of(save, heavy(0.05)[:, :9])) == {"tail_too_short"}
    assert reasons(ww.analyze(save({"w.weight": heavy(0.05)})).rows[0]) == {"not_requested"}
