"""The pruned search for xmin against the definition: every candidate by the textbook expression."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from ww_static import Missing, TailFit, tail
from ww_static.spectral import scan
from ww_static.spectral.powerlaw import candidates

Values: TypeAlias = NDArray[np.float64]
Generator: TypeAlias = np.random.Generator


def pareto(rng: Generator, n: int) -> Values:
    """A pure power law: the flattest curve of D, where least can be left out."""
    return (1 - rng.random(n)) ** (-1 / rng.uniform(0.3, 5))


def lognormal(rng: Generator, n: int) -> Values:
    return rng.lognormal(0, rng.uniform(0.1, 3), n)


def gaussian(rng: Generator, n: int) -> Values:
    """Eigenvalues of Gaussian noise, and for many values a smooth curve through those of 150."""
    return eigenvalues(rng.standard_normal((300, min(n, 150))), n)


def heavy(rng: Generator, n: int) -> Values:
    return eigenvalues(rng.standard_t(2.5, (300, min(n, 150))), n)


def spiked(rng: Generator, n: int) -> Values:
    spikes = min(5, n // 2)
    return np.concatenate([rng.uniform(0.5, 1, n - spikes), rng.uniform(5, 50, spikes)])


def resampled(rng: Generator, n: int) -> Values:
    """A bootstrap replica: about a third of its values are repetitions."""
    return rng.choice((1 - rng.random(n)) ** -0.7, n)


def counted(rng: Generator, n: int) -> Values:
    """Whole numbers: long runs of equal values."""
    return np.floor(rng.exponential(rng.choice([1.0, 5.0]), n)) + 1


FAMILIES: tuple[Callable[[Generator, int], Values], ...] = (pareto, lognormal, gaussian, heavy, spiked, resampled, counted)


def eigenvalues(W: Values, n: int) -> Values:
    found = np.linalg.eigvalsh(W.T @ W).astype(np.float64)
    if n == len(found):
        return found
    logs: Values = np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(found)), np.log(found))
    return np.exp(logs)


def definition(x: Values, sides: int, t: int) -> tuple[Values, Values]:
    """alpha and D of every candidate of ascending x; D is 1 where there is none."""
    alpha, D = np.full(len(x) - 1, np.nan), np.ones(len(x) - 1)
    for i in range(len(x) - 1):
        points, k = x[i:], len(x) - i
        S = float(np.sum(np.log(points / x[i])))
        if k < t or S <= 0:
            continue
        alpha[i] = 1 + k / S
        F = 1 - (points / x[i]) ** (1 - alpha[i])
        D[i] = np.max(np.abs(F - np.arange(k) / k))
        if sides == 2:
            D[i] = max(D[i], np.max(np.abs(np.arange(1, k + 1) / k - F)))
    return alpha, D


def assert_defined(x: Values, sides: int, t: int) -> bool:
    """The fit is the one of the definition. Returns whether a candidate elsewhere is within 1e-9."""
    x = np.sort(x)
    fit = tail(x, sides, t)
    if isinstance(fit, Missing):
        constant = x[-1] - x[0] <= 1e-9 * x[0]
        assert fit == Missing("constant_esd" if constant else "fit_degenerate")
        assert constant or (definition(x, sides, t)[1] == 1).all()
        return False
    alpha, D = definition(x, sides, t)
    first = int(np.flatnonzero(D.min() + 1e-13 >= D)[0])
    close = x[:-1][D.min() + 1e-9 >= D]
    assert (len(x) - fit.k, fit.xmin) == (first, x[first])
    assert fit.alpha == pytest.approx(alpha[first], rel=1e-12)
    assert fit.D == pytest.approx(D[first], abs=1e-12)
    assert fit.near_tie == bool(np.any(np.abs(close / x[first] - 1) > 1e-9))
    return fit.near_tie


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sides", [1, 2])
def test_fit_of_a_few_candidates_is_the_fit_of_all(family: Callable[[Generator, int], Values], sides: int) -> None:
    rng = np.random.default_rng(sides)
    for case in range(240):
        n = int(2 * 300 ** rng.random())  # 2 to 600, as many below 35 as above
        assert_defined(family(rng, n), sides, (2, 10, 50)[case % 3])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("n", "sides", "t"), [(2000, 1, 2), (2000, 2, 50), (4096, 1, 2)])
def test_large_samples_lose_no_candidate(family: Callable[[Generator, int], Values], n: int, sides: int, t: int) -> None:
    assert_defined(family(np.random.default_rng(n + t), n), sides, t)


def test_near_ties_of_small_samples_are_those_of_the_definition() -> None:
    """Few whole numbers: the same distance at two values is common, at two places of one value it is no tie."""
    rng = np.random.default_rng(3)
    assert sum(assert_defined(counted(rng, 20), 1, 2) for _ in range(600)) >= 3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("slack", [0.0, 1e-9, 1e-3, 0.05, 1.0])
def test_candidates_within_a_slack_are_all_found(family: Callable[[Generator, int], Values], sides: int, slack: float) -> None:
    rng = np.random.default_rng(17)
    for n in (40, 300, 700):
        tails = scan.tails(np.sort(family(rng, n)), 2)
        D = scan.distances(tails, sides)
        near = scan.nearest(tails, sides, slack)
        inside = D.min() + slack >= D
        assert near.index.tolist() == tails.admissible[inside].tolist()
        assert near.D == pytest.approx(D[inside], abs=1e-15)
        assert len(near.index) <= near.evaluated <= len(D)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("n", [3, 100, 128, 129, 500, 1200])
def test_curve_is_that_of_the_definition_and_holds_the_fit(
    family: Callable[[Generator, int], Values], sides: int, n: int
) -> None:
    x = np.sort(family(np.random.default_rng(n), n))
    fit = tail(x, sides)
    curve = candidates(x, sides)
    alpha, D = definition(x, sides, 2)
    assert curve.alpha == pytest.approx(alpha, rel=1e-12, nan_ok=True)
    assert curve.D == pytest.approx(D, abs=1e-11)
    if isinstance(fit, TailFit):
        winner = n - fit.k
        assert (curve.D[winner], curve.alpha[winner], curve.xmin[winner]) == (fit.D, fit.alpha, fit.xmin)
        assert int(np.argmin(curve.D)) == winner


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sides", [1, 2])
def test_few_distances_of_many_candidates_are_computed(family: Callable[[Generator, int], Values], sides: int) -> None:
    tails = scan.tails(np.sort(family(np.random.default_rng(5), 4096)), 2)
    assert scan.nearest(tails, sides, 1e-9).evaluated <= 60


@pytest.mark.parametrize("sides", [1, 2])
def test_evenly_spaced_logarithms_are_hardest_and_still_pruned(sides: int) -> None:
    tails = scan.tails(np.geomspace(1, 100, 4096), 2)
    assert scan.nearest(tails, sides, 1e-9).evaluated <= 400


@pytest.mark.parametrize("sides", [1, 2])
def test_quantiles_of_a_power_law_are_pruned_by_the_distance_at_xmin(sides: int) -> None:
    """Every two-sided distance is 1/k, at xmin itself, where no other candidate is bounded."""
    tails = scan.tails((1 - (np.arange(4096) + 0.5) / 4096) ** -1.0, 2)
    assert scan.nearest(tails, sides, 1e-9).evaluated <= 60


def test_memory_of_fit_and_curve_is_linear_in_the_number_of_values() -> None:
    """n x n numbers would be 20 GB for the fit and 130 MB for the curve."""
    x = pareto(np.random.default_rng(8), 50_000)
    assert peak(lambda: tail(x)) < 30 * x.nbytes
    x = np.sort(x[:4096])
    assert peak(lambda: candidates(x)) < 2**20 + 30 * x.nbytes


def peak(call: Callable[[], object]) -> int:
    """Most bytes that numpy held during the call."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("sides", [1, 2])
def test_values_as_far_apart_as_numbers_go_are_fitted_without_a_warning(sides: int) -> None:
    """The largest is more than 1.8e308 times xmin, which is the smallest."""
    x = np.sort(np.concatenate([[1e-307], 10 ** np.random.default_rng(2).uniform(-306, 308, 40)]))
    fit = tail(x, sides, len(x))
    assert isinstance(fit, TailFit)
    assert fit.xmin == x[0]
    assert candidates(x, sides, len(x)).D.min() == fit.D
