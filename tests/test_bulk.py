"""The bulk of an ESD: a variance that spikes do not move, edges, spikes and what made them, spacings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import Note
from ww_static import Missing, spectrum
from ww_static.spectral import tracy_widom
from ww_static.spectral.bulk import Bulk, bulk, level_spacing_ratio

Values = NDArray[np.float64]


def found(eigenvalues: Values, n: int, **more: float) -> Bulk:
    result = bulk(np.sort(eigenvalues), n, **more)  # type: ignore[arg-type]
    assert isinstance(result, Bulk)
    return result


def gaussian(n: int, m: int, seed: int = 0) -> Values:
    return np.random.default_rng(seed).standard_normal((n, m)) / math.sqrt(n)


def spiked(n: int, m: int, thetas: list[float], seed: int = 0) -> tuple[Values, Values, Values]:
    """G + U diag(theta) V^T with orthonormal U and V, and these two."""
    rng = np.random.default_rng(seed)
    U = np.linalg.qr(rng.standard_normal((n, len(thetas))))[0]
    V = np.linalg.qr(rng.standard_normal((m, len(thetas))))[0]
    return gaussian(n, m, seed + 100) + U @ np.diag(thetas) @ V.T, U, V


@pytest.mark.parametrize(("n", "m"), [(400, 400), (600, 300), (1200, 300), (2000, 120)])
def test_noise_is_all_bulk(n: int, m: int, measured: Note) -> None:
    """T5, T6, and the spread that a true bulk shows."""
    eigenvalues = spectrum(gaussian(n, m, n)).eigenvalues
    one = found(eigenvalues, n)
    assert one.mp_sigma2 * n == pytest.approx(1, abs=0.03)
    assert one.mp_shape_spread < 0.16
    assert 0.97 <= one.mp_edge_hi / eigenvalues[-1] <= 1.04
    assert one.mp_edge_lo == pytest.approx((1 - math.sqrt(m / n)) ** 2, abs=0.02)
    assert (one.num_spikes, one.frac_out, one.mass_out, len(one.spike_theta)) == (0, 0, 0, 0)
    assert one.D_bulk < max(0.03, 6 / m)
    stable_rank = eigenvalues.sum() / eigenvalues[-1]
    assert 1 <= stable_rank / (m / (1 + math.sqrt(m / n)) ** 2) <= 1.04
    measured("T5", f"{n} x {m}: {stable_rank:.2f} for {m / (1 + math.sqrt(m / n)) ** 2:.2f}")
    measured("T6", f"{n} x {m}: {one.mp_edge_hi / eigenvalues[-1]:.3f}")


def test_spikes_give_back_what_made_them(measured: Note) -> None:
    """T4: positions, thresholds and overlaps at Q = 2, M = 1000."""
    W, U, V = spiked(2000, 1000, [3.0, 2.0, 1.5, 0.6])  # the last is below the threshold 2^(-1/4) and leaves no outlier
    left, sigma, right = np.linalg.svd(W, full_matrices=False)
    one = found(sigma[::-1] ** 2, 2000)
    assert one.num_spikes == 3
    assert sigma[:3] ** 2 == pytest.approx([10.556, 5.625, 3.972], rel=0.03)
    assert one.spike_theta == pytest.approx([3.0, 2.0, 1.5], rel=0.03)
    assert one.spike_overlap_M[1:] == pytest.approx([0.861, 0.737], abs=0.03)
    assert one.spike_overlap_N[1:] == pytest.approx([0.775, 0.624], abs=0.03)
    for k in range(3):
        assert one.spike_overlap_M[k] == pytest.approx(float(right[k] @ V[:, k]) ** 2, abs=0.06)
        assert one.spike_overlap_N[k] == pytest.approx(float(left[:, k] @ U[:, k]) ** 2, abs=0.06)
    assert one.frac_out == pytest.approx(3 / 1000)
    assert one.mass_out == pytest.approx(float((sigma[:3] ** 2).sum() / (sigma**2).sum()), rel=1e-9)
    measured("T4", "Q 2: " + ", ".join(f"{value:.3f}" for value in sigma[:3] ** 2))
    measured(
        "T4",
        "overlaps "
        + ", ".join(f"{a:.3f}/{b:.3f}" for a, b in zip(one.spike_overlap_M[1:], one.spike_overlap_N[1:], strict=True)),
    )


@pytest.mark.parametrize(("n", "m"), [(2000, 1000), (4000, 1000)])
def test_terms_below_the_threshold_leave_no_outlier(n: int, m: int, measured: Note) -> None:
    """T4: Q^(-1/4) = 0.8409 at Q = 2, 0.7071 at Q = 4; 0.8 and 1.5 times that."""
    threshold = (n / m) ** -0.25
    below = found(spectrum(spiked(n, m, [0.8 * threshold])[0]).eigenvalues, n)
    above = found(spectrum(spiked(n, m, [1.5 * threshold])[0]).eigenvalues, n)
    assert (below.num_spikes, above.num_spikes) == (0, 1)
    assert above.spike_theta == pytest.approx([1.5 * threshold], rel=0.05)
    measured("T4", f"threshold {threshold:.4f}: {below.num_spikes} outliers at 0.8 of it, {above.num_spikes} at 1.5")


def test_spikes_do_not_move_the_variance() -> None:
    plain, many = gaussian(600, 300, 7), spiked(600, 300, [2.0 + k for k in range(30)], 7)[0]
    a, b = (found(spectrum(W).eigenvalues, 600) for W in (plain, many))
    assert b.mp_sigma2 == pytest.approx(a.mp_sigma2, rel=0.12)
    assert np.var(many) > 3 * np.var(plain)
    assert b.num_spikes == 30


def test_zero_eigenvalues_are_left_out() -> None:
    """Half the rank: a Gaussian 800 x 100 block beside zeros has the bulk of the block."""
    block = spectrum(gaussian(800, 100)).eigenvalues
    a = found(block, 800)
    b = found(np.concatenate([np.zeros(100), block]), 800)
    assert (a.mp_sigma2, a.tw_edge, a.D_bulk) == (b.mp_sigma2, b.tw_edge, b.D_bulk)
    c = found(np.concatenate([np.full(100, 1e-20), block]), 800, floor=1e-18)
    assert c.tw_edge == a.tw_edge


def test_pooled_matrices_share_one_probability() -> None:
    n, m, taps = 128, 64, 9
    pooled = np.concatenate([spectrum(gaussian(n, m, seed)).eigenvalues for seed in range(taps)])
    one = found(pooled, n, matrices=taps)
    expected = one.mp_sigma2 * tracy_widom.edge(n, m, 0.01 / taps)
    assert one.tw_edge == pytest.approx(expected, rel=1e-12)
    assert one.tw_edge > found(pooled[:m], n).tw_edge
    assert one.mp_sigma2 * n == pytest.approx(1, abs=0.02)


def test_the_scale_of_the_esd_moves_edges_and_not_the_variance() -> None:
    eigenvalues = spectrum(gaussian(300, 200)).eigenvalues
    a, b = found(eigenvalues, 300), found(eigenvalues / 2, 300, scale=0.5)
    assert b.mp_sigma2 == pytest.approx(a.mp_sigma2, rel=1e-12)
    assert b.tw_edge == pytest.approx(a.tw_edge / 2, rel=1e-12)
    assert b.D_bulk == pytest.approx(a.D_bulk, rel=1e-9)


def test_too_little_says_why() -> None:
    assert bulk(np.arange(1.0, 20.0), 40) == Missing("too_few_evals")
    assert bulk(np.zeros(40), 40) == Missing("zero_matrix")
    assert isinstance(bulk(np.arange(1.0, 21.0), 40), Bulk)
    assert level_spacing_ratio(np.arange(49.0)) == Missing("too_few_evals")
    assert level_spacing_ratio(np.ones(60)) == Missing("constant_esd")


def test_spacings_of_noise_repel_and_those_of_chance_do_not(measured: Note) -> None:
    """T8, and the value for independent levels."""
    noise = [level_spacing_ratio(spectrum(gaussian(600, 400, seed)).eigenvalues) for seed in range(60)]
    assert np.mean(np.array(noise, float)) == pytest.approx(0.5307, abs=0.005)
    rng = np.random.default_rng(1)
    chance = [level_spacing_ratio(np.sort(rng.random(2000))) for _ in range(20)]
    assert np.mean(np.array(chance, float)) == pytest.approx(2 * math.log(2) - 1, abs=0.01)
    assert level_spacing_ratio(np.arange(100.0)) == pytest.approx(1, abs=1e-12)
    measured("T8", f"{np.mean(np.array(noise, float)):.4f}")


def test_noise_shows_a_spike_as_rarely_as_it_says() -> None:
    """500 draws of 120 x 80: 1 % show one; more than 3 % in fewer than one run of 10,000."""
    W = np.random.default_rng(11).standard_normal((500, 120, 80))
    draws = [found(eigenvalues, 120).num_spikes for eigenvalues in np.linalg.eigvalsh(W.transpose(0, 2, 1) @ W)]
    assert sum(count > 0 for count in draws) <= 15


@pytest.mark.parametrize("law", ["normal", "uniform"])
def test_the_p_value_of_noise_is_spread_evenly_and_that_of_a_spike_is_nothing(law: str) -> None:
    """Evenly for a Gaussian; elements without tails make large ones more frequent, and small ones no more so."""
    rng = np.random.default_rng(5)
    draw = rng.standard_normal if law == "normal" else lambda shape: rng.uniform(-1, 1, shape)
    p = np.sort([found(spectrum(draw((240, 120))).eigenvalues, 240).tw_p for _ in range(200)])
    assert np.max(np.abs(p - (np.arange(200) + 0.5) / 200)) < (0.15 if law == "normal" else 0.25)
    assert np.mean(p < 0.05) < 0.09
    assert np.mean(p < 0.5) == pytest.approx(0.45, abs=0.15)
    W, _, _ = spiked(400, 200, [2.0])
    assert found(spectrum(W).eigenvalues, 400).tw_p < 1e-12
