"""--fit and --xmax: the law of the tail that was asked for stands in alpha, xmin, D, Lambda, and everything else says so."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import ww_static as ww
from conftest import Writer
from ww_static import cli
from ww_static.rows import LayerRow
from ww_static.spectral.cutoff import MOST_CANDIDATES, cutoff_fit, truncated_fit
from ww_static.spectral.missing import Missing
from ww_static.spectral.replicas import bootstrap

Values = NDArray[np.float64]


def truncated_samples(rng: np.random.Generator, n: int, b: float, rate: float) -> Values:
    """x^-b exp(-rate x) on [1, inf), by rejection from the power law."""
    found = np.empty(0)
    while len(found) < n:
        x = (1 - rng.random(4 * n)) ** (-1 / (b - 1))
        found = np.append(found, x[rng.random(4 * n) < np.exp(-rate * (x - 1))])
    return np.sort(found[:n])


def row_of(path: Path, **options: object) -> LayerRow:
    (row,) = ww.analyze(path, **options).rows  # type: ignore[arg-type]
    assert isinstance(row, LayerRow)
    return row


def with_spectrum(eigenvalues: Values) -> Values:
    """A matrix with these eigenvalues of W^T W."""
    rng = np.random.default_rng(7)
    m = len(eigenvalues)
    left, right = (np.linalg.qr(rng.standard_normal((n, m)))[0] for n in (m + 20, m))
    return np.asarray((left * np.sqrt(eigenvalues)) @ right.T)


@pytest.fixture
def path(save: Writer) -> Path:
    body = np.random.default_rng(1).uniform(0.2, 1, 100)
    tail = truncated_samples(np.random.default_rng(2), 200, 1.8, 0.1)
    return save({"w.weight": with_spectrum(np.sort(np.append(body, tail)))})


def test_xmin_of_a_tail_with_a_cut_off_is_found_among_all_values() -> None:
    found = []
    for run in range(12):
        rng = np.random.default_rng([8, run])
        x = np.sort(np.append(rng.uniform(0.3, 1, 600), truncated_samples(rng, 1400, 2.0, 0.05)))
        fit = truncated_fit(x)
        assert not isinstance(fit, Missing)
        assert fit.kind == "TPL"
        assert fit.k == np.count_nonzero(x >= fit.xmin)
        found.append((fit.alpha, fit.rate, fit.xmin))
    alpha, rate, xmin = np.mean(found, axis=0)
    assert alpha == pytest.approx(2.0, abs=0.15)
    assert rate == pytest.approx(0.05, abs=0.02)
    assert xmin == pytest.approx(1.0, abs=0.25)


def test_the_distance_of_the_winner_is_that_of_its_law() -> None:
    x = truncated_samples(np.random.default_rng(3), 150, 2.0, 0.1)
    fit = truncated_fit(x)
    assert not isinstance(fit, Missing)
    # against the law by quadrature of its density
    tail = x[x >= fit.xmin]
    points = np.concatenate([np.linspace(a, b, 400)[:-1] for a, b in itertools.pairwise(tail)] + [tail[-1:]])
    density = points**-fit.alpha * np.exp(-fit.rate * points)
    shares = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(points))])[::399]
    beyond = np.linspace(tail[-1], tail[-1] + 60 / fit.rate, 400_001)
    rest = float(np.trapezoid(beyond**-fit.alpha * np.exp(-fit.rate * beyond), beyond))
    shares /= shares[-1] + rest
    steps = np.arange(len(tail) + 1) / len(tail)
    assert fit.D == pytest.approx(max(np.max(shares - steps[:-1]), np.max(steps[1:] - shares)), abs=1e-5)


def test_many_values_have_at_most_two_hundred_candidates() -> None:
    x = np.sort(np.random.default_rng(4).pareto(1.5, 3000) + 1)
    fit = truncated_fit(x)
    assert not isinstance(fit, Missing)
    points = np.geomspace(x[0], x[-10], MOST_CANDIDATES)
    points[0], points[-1] = x[0], x[-10]
    assert fit.xmin in x[np.searchsorted(x, points)]
    assert fit.alpha == pytest.approx(2.5, abs=0.2)  # a power law: the cut-off is far out, or not there
    assert fit.rate * float(np.median(x)) < 0.02


def test_too_few_values_have_no_law_with_a_cut_off() -> None:
    assert truncated_fit(np.arange(1.0, 10.0)) == Missing("tail_too_short")


def test_a_row_carries_the_law_that_was_asked_for(path: Path) -> None:
    plain, with_cutoff = row_of(path), row_of(path, fit="TPL", metrics=("default", "tail", "alternatives"))
    values = np.asarray(row_of(path, esd="f64").esd)
    fit = truncated_fit(values[values > 1e-5])
    assert not isinstance(fit, Missing)
    assert (plain.fit_kind, with_cutoff.fit_kind) == ("PL", "TPL")
    assert plain.Lambda is None
    assert (plain.null_reasons or {})["Lambda"] == "not_applicable"
    assert with_cutoff.alpha == fit.alpha
    assert with_cutoff.xmin == fit.xmin
    assert with_cutoff.D == fit.D
    assert with_cutoff.Lambda == fit.rate > 0
    assert with_cutoff.n_tail == fit.k
    assert with_cutoff.sigma is None
    reasons = with_cutoff.null_reasons or {}
    assert (reasons["sigma"], reasons["alpha_error"]) == ("not_applicable", "not_applicable")
    both = row_of(path, metrics=("default", "tail", "alternatives"))
    for name in (
        "alpha_drop_top_1",
        "alpha_xmax",
        "D_two_sided",
        "n_local_minima",
        "R_tpl",
        "tpl_alpha",
        "alpha_robust",
        "phase",
    ):
        assert getattr(with_cutoff, name) == getattr(both, name), name
    assert plain.params_id != with_cutoff.params_id


def test_e_tpl_in_the_row_is_that_of_the_alternatives(path: Path) -> None:
    row = row_of(path, fit="E_TPL", metrics=("default", "alternatives"))
    assert row.fit_kind == "E_TPL"
    assert (row.alpha, row.Lambda, row.xmin, row.D) == (row.etpl_alpha, row.etpl_Lambda, row.etpl_xmin, row.etpl_D)


def test_rates_are_in_units_of_the_esd(path: Path, save: Writer) -> None:
    from safetensors.numpy import load_file

    weights = load_file(path)["w.weight"]
    row, scaled = row_of(path, fit="TPL"), row_of(save({"w.weight": 16 * weights}), fit="TPL")
    assert scaled.alpha == pytest.approx(row.alpha, rel=1e-9)
    assert scaled.Lambda == pytest.approx((row.Lambda or math.nan) / 256, rel=1e-9)


def test_the_bootstrap_refits_the_law(path: Path) -> None:
    row = row_of(path, fit="E_TPL", bootstrap=True)
    assert row.alpha_ci_lo is not None
    assert row.alpha_ci_hi is not None
    assert row.alpha is not None
    assert row.alpha_ci_lo < row.alpha < row.alpha_ci_hi
    plain = row_of(path, bootstrap=True)
    assert plain.alpha_sigma_boot != row.alpha_sigma_boot
    x = truncated_samples(np.random.default_rng(5), 120, 2.0, 0.05)
    seeds = [np.random.default_rng([1, r]) for r in range(4)]
    found = bootstrap(x, lambda r: np.random.default_rng([1, r]), replicas=4, refit=cutoff_fit)
    fits = [cutoff_fit(np.sort(x[one.integers(120, size=120)])) for one in seeds]
    assert not isinstance(found, Missing)
    assert found.sd == pytest.approx(np.std([fit.alpha for fit in fits if not isinstance(fit, Missing)], ddof=1))


def test_a_law_with_a_cut_off_earns_no_verdict(path: Path) -> None:
    row = row_of(path, fit="E_TPL", bootstrap=True, gof=True)
    assert row.verdict in ("inconclusive", "no_signal")


@pytest.mark.parametrize("k", [1, 2, 5, 10])
def test_leaving_out_the_largest_gives_the_alpha_of_the_sensitivity(path: Path, k: int) -> None:
    plain, without = row_of(path, metrics=("default", "tail")), row_of(path, xmax=-k)
    assert without.alpha == getattr(plain, f"alpha_drop_top_{k}")
    assert without.n_fit == (plain.n_fit or 0) - k
    assert without.n_below_cut == plain.n_below_cut == 0
    assert without.lambda_max == plain.lambda_max
    assert without.xmax is not None
    assert without.lambda_max is not None
    assert without.xmax < without.lambda_max


def test_more_than_half_is_refused_and_half_is_not(path: Path) -> None:
    assert row_of(path, xmax=-150).alpha is not None
    row = row_of(path, xmax=-151)
    assert (row.alpha, row.status, row.reason) == (None, "success", "too_few_evals")
    assert row.n_fit == 300


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--fit", "WEIBULL"], "--fit is PL or TPL or E_TPL, not 'WEIBULL'"),
        (["--xmax", "3"], "--xmax is -k, which leaves out the k largest eigenvalues, not 3"),
        (["--fit", "TPL", "--precision", "fast"], "--fit TPL needs --precision exact"),
    ],
)
def test_what_means_nothing_is_a_usage_error(
    path: Path, options: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["analyze", str(path), *options]) == 2
    assert problem in capsys.readouterr().err


def test_the_command_takes_both_options(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["analyze", str(path), "--fit", "TPL", "--xmax", "-2", "--format", "csv"]) == 0
    assert ",TPL," in capsys.readouterr().out
