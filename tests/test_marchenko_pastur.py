"""The Marchenko-Pastur and Tracy-Widom laws against integrals, simulations and known values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from conftest import Note
from ww_static.spectral import marchenko_pastur, tracy_widom


@pytest.mark.parametrize(
    ("Q", "low", "high"), [(1, 0, 4), (2, 0.0858, 2.9142), (2.25, 0.1111, 2.7778), (4, 0.25, 2.25), (8, 0.4179, 1.8321)]
)
def test_edges_of_the_law(Q: float, low: float, high: float, measured: Note) -> None:
    """T2."""
    assert marchenko_pastur.edges(1 / Q) == pytest.approx((low, high), abs=1e-4)
    measured("T2", f"Q {Q}: {marchenko_pastur.edges(1 / Q)[0]:.4f}, {marchenko_pastur.edges(1 / Q)[1]:.4f}")


def test_edges_hold_for_noise(measured: Note) -> None:
    """T2: 1000 x 500, the extremes a published run gives; the lower one is soft, too."""
    W = np.random.default_rng(2).standard_normal((1000, 500)) / math.sqrt(1000)
    found = np.linalg.eigvalsh(W.T @ W)
    assert (found[-1], found[0]) == (pytest.approx(2.8899, abs=0.06), pytest.approx(0.0887, abs=0.01))
    measured("T2", f"1000 x 500: {found[-1]:.4f}, {found[0]:.4f}")


@pytest.mark.parametrize("c", [1.0, 0.999, 0.5, 0.11, 0.001])
def test_the_distribution_is_the_integral_of_the_density(c: float) -> None:
    low, high = marchenko_pastur.edges(c)
    t = np.linspace(1e-9, math.pi, 200_001)  # x = low + (high - low) sin^2(t/2): the roots at the edges vanish
    x = low + (high - low) * np.sin(t / 2) ** 2
    steps = marchenko_pastur.density(x, c) * (high - low) / 2 * np.sin(t)
    integral = np.concatenate([[0], np.cumsum((steps[1:] + steps[:-1]) / 2 * np.diff(t))])
    assert np.abs(marchenko_pastur.distribution(x, c) - integral).max() < 1e-7  # of the trapezia
    outside = np.array([low - 1.0, high + 1.0])
    assert marchenko_pastur.distribution(outside, c) == pytest.approx([0, 1], abs=1e-12)
    assert marchenko_pastur.density(np.array([high + 1.0]), c) == 0


@pytest.mark.parametrize("c", [1.0, 0.75, 0.0126, 1e-4])
def test_quantiles_invert_the_distribution(c: float) -> None:
    levels = (0.001, 0.1, 0.35, 0.6, 0.999)
    found = marchenko_pastur.quantiles(levels, c)
    assert marchenko_pastur.distribution(found, c) == pytest.approx(levels, abs=1e-11)
    assert (np.diff(found) > 0).all()


def test_the_gamma_law_stands_in_for_the_tracy_widom_law() -> None:
    for probability in (0.05, 0.01, 0.001):
        near = tracy_widom.quantile(probability * (1 + 1e-9))  # not in the table
        assert near == pytest.approx(tracy_widom.quantile(probability), abs=0.03)
    assert tracy_widom.quantile(0.01 / 9) == pytest.approx(3.194, abs=0.03)
    assert [tracy_widom.quantile(p) for p in (0.05, 0.01, 0.001)] == [0.9793, 2.0234, 3.2724]
    levels = [10.0**-k for k in range(1, 12)]
    assert (np.diff([tracy_widom.quantile(level) for level in levels]) > 0).all()


@pytest.mark.parametrize(("n", "m", "mean"), [(200, 100, -1.2065), (400, 100, -1.175), (100, 100, -1.260)])
def test_largest_eigenvalues_of_noise_follow_the_law(n: int, m: int, mean: float, measured: Note) -> None:
    """T3: 1000 draws at Q = 2, 4 and 1; shares two standard deviations of 1000 draws wider."""
    rng = np.random.default_rng([3, n])
    W = rng.standard_normal((1000, n, m))
    largest = np.linalg.eigvalsh(W.transpose(0, 2, 1) @ W)[:, -1]
    width = (tracy_widom.edge(n, m, 0.05) - tracy_widom.edge(n, m, 0.01)) / (0.9793 - 2.0234)
    z = (largest - tracy_widom.edge(n, m, 0.01)) / width + 2.0234
    assert z.mean() == pytest.approx(mean, abs=0.12)
    assert z.std() == pytest.approx(1.268, abs=0.08)
    assert np.mean(z > 0.9793) == pytest.approx(0.05, abs=0.02)
    assert np.mean(z > 2.0234) == pytest.approx(0.01, abs=0.008)
    measured("T3", f"Q {n / m:g}: mean {z.mean():.3f}, sd {z.std():.3f}, {np.mean(z > 0.9793):.3f}, {np.mean(z > 2.0234):.3f}")


# Distribution of the law -> its quantile, as tables of it give them (Bejan 2005)
@pytest.mark.parametrize(
    ("below", "z"),
    [(0.01, -3.8954), (0.05, -3.1808), (0.1, -2.7824), (0.3, -1.9104), (0.5, -1.2686), (0.7, -0.5923), (0.9, 0.4501), (0.99, 2.0234)],
)  # fmt: skip
def test_the_tail_of_the_tracy_widom_law_is_that_of_the_tables(below: float, z: float) -> None:
    assert tracy_widom.tail(z) == pytest.approx(1 - below, abs=0.004)


def test_the_tail_falls_from_one_to_nothing() -> None:
    points = [tracy_widom.tail(z) for z in np.linspace(-12, 60, 400)]
    assert points[0] == 1.0
    assert points == sorted(points, reverse=True)
    assert 0 < points[-1] < 1e-60
    assert tracy_widom.p_value(1e6, 200, 100) == 0.0
    mu, tau = tracy_widom.center(200, 100), tracy_widom.width(200, 100)
    one = tracy_widom.p_value(mu + tau, 200, 100)
    assert tracy_widom.p_value(mu + tau, 200, 100, 9) == pytest.approx(1 - (1 - one) ** 9)
