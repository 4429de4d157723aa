"""weightwatcher's Marchenko-Pastur fit: its own number, and a direct slow implementation of the same definition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import Note
from ww_static import Missing, spectrum
from ww_static.spectral.mp_fit import MPFit, mp_fit, triangular_density

Values = NDArray[np.float64]


def fitted(eigenvalues: Values, Q: float) -> MPFit:
    found = mp_fit(np.sort(eigenvalues), Q)
    assert isinstance(found, MPFit)
    return found


def test_the_fit_of_the_reference_matrix(measured: Note) -> None:
    """F1."""
    W = (np.random.default_rng(42).standard_t(2.5, (128, 96)) * 0.05).astype(np.float32)
    assert fitted(spectrum(W).eigenvalues, 128 / 96).sigma_mp == pytest.approx(1.0166405928094724, abs=1e-9)
    measured("F1", f"sigma_mp {fitted(spectrum(W).eigenvalues, 128 / 96).sigma_mp!r}")


def kernel_density(values: Values, points: Values) -> Values:
    """One kernel per value at every point."""
    distance = np.abs(points[:, None] - values[None, :])
    return np.asarray(np.where(distance < 0.1, (1 - distance / 0.1) / 0.1, 0.0).mean(axis=1))


def slow_objective(values: Values, Q: float) -> Callable[[float], float]:
    """The sum of squares for one s, everything made anew."""

    def objective(s: float) -> float:
        x = np.linspace(0, values.max() + 0.5, 1000)
        y = kernel_density(values, x)
        x, y = x[y > 0.01], y[y > 0.01]
        with np.errstate(invalid="ignore", divide="ignore"):
            if Q == 1:
                return float(np.sum((np.nan_to_num(np.sqrt(4 - x**2) / (np.pi * s**2)) - y) ** 2))
            a, b = (s * (1 - np.sqrt(1 / Q))) ** 2, (s * (1 + np.sqrt(1 / Q))) ** 2
            if b < x[np.argmax(y)] or b > x.max() or a > x[np.argmax(y)]:
                return 1000.0**2 * len(y)
            return float(np.sum((np.nan_to_num(Q * np.sqrt((b - x) * (x - a)) / (2 * np.pi * s**2 * x)) - y) ** 2))

    return objective


def simplex(objective: Callable[[float], float], start: float) -> float:
    """Nelder and Mead's rules for a simplex of any dimension, here of two points."""
    points = [(objective(start), start), (objective(1.05 * start), 1.05 * start)]
    for _ in range(199):
        points.sort(key=lambda one: one[0])
        (f_best, best), (f_worst, worst) = points
        if abs(worst - best) <= 1e-4 and abs(f_worst - f_best) <= 1e-4:
            break

        def at(step: float, center: float = best, far: float = worst) -> tuple[float, float]:
            place = center + step * (center - far)
            return objective(place), place

        reflected = at(1)
        if reflected[0] < f_best:
            points[1] = min(reflected, at(2), key=lambda one: one[0])
            continue
        contracted = at(0.5) if reflected[0] < f_worst else at(-0.5)
        limit = reflected[0] if reflected[0] < f_worst else np.nextafter(f_worst, -np.inf)
        points[1] = contracted if contracted[0] <= limit else at(-0.5)
    return min(points)[1]


def slow_fit(eigenvalues: Values, Q: float) -> float:
    t = eigenvalues / eigenvalues.mean()
    objective = slow_objective(np.sqrt(t) if Q == 1 else t, Q)
    first = np.sqrt(t.max() / (1 + Q**-0.5) ** 2)
    grid = np.arange(0.05 * first, 2 * first, 0.01 * first)
    assert len(grid) in (195, 196)
    return simplex(objective, float(grid[np.argmin([objective(float(s)) for s in grid])]))


@pytest.mark.parametrize(("n", "m"), [(60, 60), (80, 40), (300, 50), (101, 100)])
@pytest.mark.parametrize("kind", ["noise", "heavy", "spiked"])
def test_the_fit_equals_the_slow_one(n: int, m: int, kind: str) -> None:
    rng = np.random.default_rng(n + m)
    W = rng.standard_t(2.5, (n, m)) if kind == "heavy" else rng.standard_normal((n, m))
    if kind == "spiked":
        W += 3 * np.outer(rng.standard_normal(n), rng.standard_normal(m)) / np.sqrt(m)
    eigenvalues = np.asarray(np.linalg.svd(W, compute_uv=False)[::-1] ** 2, np.float64)
    assert fitted(eigenvalues, n / m).sigma_mp == pytest.approx(slow_fit(eigenvalues, n / m), rel=1e-9)


def test_the_density_equals_that_of_one_kernel_per_value() -> None:
    rng = np.random.default_rng(1)
    values = np.sort(np.concatenate([rng.exponential(1, 300), [0.0, 0.5, 0.5, 0.5, 60.0]]))
    points = np.concatenate([np.linspace(0, 61, 1000), [0.4, 0.5, 0.6, 60.1]])
    assert triangular_density(values, points) == pytest.approx(kernel_density(values, points), abs=1e-11)
    fine = np.linspace(-1, 62, 1_000_001)
    assert triangular_density(values, fine).sum() * (fine[1] - fine[0]) == pytest.approx(1, abs=1e-5)


def test_the_columns_of_the_fit_belong_together() -> None:
    W = np.random.default_rng(5).standard_normal((90, 60)) * 0.3
    eigenvalues = spectrum(W).eigenvalues
    found = fitted(eigenvalues, 1.5)
    assert np.mean(eigenvalues) * found.W_scale**2 == pytest.approx(1, rel=1e-12)
    edges = [(found.sigma_mp * (1 + sign * 1.5**-0.5)) ** 2 / found.W_scale**2 for sign in (-1, 1)]
    assert [found.bulk_min, found.bulk_max] == pytest.approx(edges, rel=1e-12)
    assert found.mp_softrank == pytest.approx(found.bulk_max / eigenvalues[-1], rel=1e-12)
    scaled = fitted(eigenvalues * 49.0, 1.5)
    assert scaled.sigma_mp == pytest.approx(found.sigma_mp, rel=1e-9)
    assert scaled.bulk_max == pytest.approx(49 * found.bulk_max, rel=1e-9)


def test_no_fit_says_why() -> None:
    assert mp_fit(np.zeros(30), 2.0) == Missing("zero_matrix")
    missed = np.concatenate([np.full(9999, 0.4), [10_000 - 9999 * 0.4]])  # no point lies within 0.1 of a value
    assert mp_fit(missed, 2.0) == Missing("fit_failed")


def test_a_fit_that_no_candidate_admits_is_weightwatchers_first_one() -> None:
    """The bulk of every candidate is rejected: the smallest s wins, with an upper edge of lambda_max / 400."""
    eigenvalues = np.concatenate([np.full(300, 1e-9), np.linspace(1.0, 80.0, 40)])
    assert fitted(eigenvalues, 1.5).mp_softrank == pytest.approx(0.05**2, rel=1e-9)
    assert fitted(eigenvalues, 1.5).sigma_mp == pytest.approx(slow_fit(eigenvalues, 1.5), rel=1e-9)
