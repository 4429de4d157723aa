"""The upper end of a spectrum by Lanczos against numpy's SVD: values, counts, and what happens when it does not converge."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import Note
from ww_static.spectral import lanczos, tracy_widom, upper
from ww_static.spectral.upper import Matrix, upper_end

Values = NDArray[np.float64]


def matrix(W: NDArray[np.float32], exponent: int = 0) -> Matrix:
    return Matrix(
        W,
        lambda rows: rows.astype(np.float64),
        lambda rows: np.ldexp(rows.astype(np.float64), -exponent).astype(np.float32),
        exponent,
    )


def drawn(n: int, m: int, kind: str) -> NDArray[np.float32]:
    W = np.random.default_rng(n * m).standard_normal((n, m))
    if kind == "entry":
        W[3, 5] = W[n // 2, 7] = 1.6 * (math.sqrt(n) + math.sqrt(m))
    if kind == "mean":
        W += 0.2
    return W.astype(np.float32)


def exact(W: NDArray[np.float32] | Values) -> Values:
    return np.asarray(np.linalg.svd(W.astype(np.float64), compute_uv=False) ** 2)


@pytest.mark.parametrize("shape", [(300, 200), (500, 500), (900, 300)])
def test_the_top_equals_an_svd(shape: tuple[int, int], measured: Note) -> None:
    """T32."""
    W = drawn(*shape, "noise").astype(np.float64)
    sigma = np.linalg.svd(W, compute_uv=False)
    for top in (1, 4):
        edge = float(sigma[top - 1] ** 2 + sigma[top] ** 2) / 2 if top > 1 else math.inf
        found = lanczos.largest(lambda v: W.T @ (W @ v), shape[1], np.random.default_rng(1), edge)
        assert found is not None
        assert found.above == (top if top > 1 else 0)
        assert np.sqrt(found.values) == pytest.approx(sigma[:top], rel=1e-8)
        assert np.linalg.norm(W @ found.vectors[0]) == pytest.approx(sigma[0], rel=1e-10)
        worst = float(np.max(np.abs(np.sqrt(found.values) / sigma[:top] - 1)))
        measured("T32", f"{shape[0]} x {shape[1]}, top {top}: {worst:.0e}")


@pytest.mark.parametrize("kind", ["noise", "entry", "mean"])
@pytest.mark.parametrize("shape", [(200, 120), (700, 400), (400, 400), (1300, 1100)])
def test_the_upper_end_equals_an_svd(shape: tuple[int, int], kind: str) -> None:
    """All eigenvalues, Lanczos on X, Lanczos on W; the largest to 1e-8 although products are in single precision."""
    W = drawn(*shape, kind)
    edge = tracy_widom.edge(*shape, 0.01)
    found = upper_end(matrix(W), edge, np.random.default_rng(1))
    expected, centered = exact(W), exact((W - W.mean(dtype=np.float64)).astype(np.float64))
    assert math.sqrt(found.largest) == pytest.approx(math.sqrt(expected[0]), rel=1e-8)
    assert found.above == np.count_nonzero(expected > edge)
    assert found.above_centered == np.count_nonzero(centered > edge)
    assert found.above_centered == {"noise": 0, "entry": 2, "mean": 0}[kind]
    again = upper_end(matrix(W), edge, np.random.default_rng(1))
    assert again == found


@pytest.mark.parametrize("shape", [(200, 120), (700, 400), (1300, 1100)])
def test_values_beyond_single_precision_are_scaled(shape: tuple[int, int]) -> None:
    W = drawn(*shape, "entry").astype(np.float64) * 2.0**200
    large = Matrix(W, np.copy, lambda rows: np.ldexp(rows, -200).astype(np.float32), 200)
    edge = tracy_widom.edge(*shape, 0.01) * 2.0**400
    found = upper_end(large, edge, np.random.default_rng(1))
    assert math.sqrt(found.largest) == pytest.approx(np.linalg.norm(W, 2), rel=1e-8)
    assert (found.above, found.above_centered) == (2, 2)


def test_vectors_in_single_precision_stay_orthonormal() -> None:
    """One pass of reorthogonalization loses it within 40 steps, and with it convergence."""
    W = drawn(900, 600, "noise")
    for made in lanczos.steps(lambda v: W.T @ (W @ v), 600, np.random.default_rng(1), np.empty((0, 600), np.float32), 150):
        last = made
    assert np.abs(last.V @ last.V.T - np.eye(150)).max() < 1e-5
    found = lanczos.largest(lambda v: W.T @ (W @ v), 600, np.random.default_rng(1), tolerance=1e-4, dtype=np.float32)
    assert found is not None
    assert found.steps < 100
    assert found.values[0] == pytest.approx(exact(W)[0], rel=1e-5)


def test_the_inertia_counts_what_lanczos_cannot() -> None:
    """Half of all eigenvalues above the edge: too many for 200 steps; the same by numpy alone."""
    W = drawn(900, 600, "noise")
    edge = float(np.median(exact(W)))
    own = upper_end(matrix(W), edge, np.random.default_rng(1))
    centered = exact((W - W.mean(dtype=np.float64)).astype(np.float64))
    assert own.above == 300
    assert own.above_centered == int(np.count_nonzero(centered > edge))
    assert upper_end(matrix(W), edge, np.random.default_rng(1), "numpy").above == 300


@pytest.mark.parametrize("mean", [100.0, 500.0, 5000.0])
@pytest.mark.parametrize("shape", [(500, 300), (800, 700), (1300, 1100)])
def test_an_edge_far_below_the_largest_is_seen(shape: tuple[int, int], mean: float) -> None:
    """The rounding of X in single precision is above an edge that is 1e-7 of its largest eigenvalue."""
    W = (drawn(*shape, "noise") + np.float32(mean)).astype(np.float32)
    edge = tracy_widom.edge(*shape, 0.01) * 1.05
    values, centered = exact(W), exact(W.astype(np.float64) - W.mean(dtype=np.float64))
    found = upper_end(matrix(W), edge, np.random.default_rng(1))
    assert (found.above, found.above_centered) == (1, 0)
    assert (int(np.count_nonzero(values > edge)), int(np.count_nonzero(centered > edge))) == (1, 0)
    assert upper.centered_above(matrix(W), found.largest, edge, np.random.default_rng(1)) == 0


def test_without_convergence_all_eigenvalues_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    W = drawn(500, 400, "entry")
    edge = tracy_widom.edge(500, 400, 0.01)
    expected = upper_end(matrix(W), edge, np.random.default_rng(1))
    monkeypatch.setattr(lanczos, "MOST_STEPS", 10)
    assert lanczos.largest(upper._single(matrix(W)).product, 400, np.random.default_rng(1), edge) is None
    found = upper_end(matrix(W), edge, np.random.default_rng(1))
    assert (found.above, found.above_centered) == (expected.above, expected.above_centered) == (2, 2)
    assert found.largest == pytest.approx(expected.largest, rel=1e-9)


def test_more_values_above_the_edge_than_steps_are_all_counted() -> None:
    W = drawn(600, 400, "noise")
    edge = float(np.median(exact(W)))
    assert lanczos.largest(upper._single(matrix(W)).product, 400, np.random.default_rng(1), edge) is None
    assert upper_end(matrix(W), edge, np.random.default_rng(1)).above == 200


def test_an_invariant_subspace_ends_the_search() -> None:
    """Three different eigenvalues: three steps see them all."""
    values = np.concatenate([[5.0, 3.0], np.full(38, 1.0)])
    found = lanczos.largest(lambda v: values * v, 40, np.random.default_rng(0), 2.0)
    assert found is not None
    assert (found.above, found.steps) == (2, 3)
    assert found.values == pytest.approx([5, 3], rel=1e-12)
    assert np.abs(found.vectors[:, :2]) == pytest.approx(np.eye(2), abs=1e-6)
    values[2] = 5.0  # the same three again, one of them twice
    assert lanczos.largest(lambda v: values * v, 40, np.random.default_rng(0), 2.0) is None
    zero = lanczos.largest(lambda v: 0 * v, 40, np.random.default_rng(0))
    assert zero is not None
    assert (zero.above, zero.values.tolist()) == (0, [0.0])


@pytest.mark.parametrize("twins", [2, 5])
def test_equal_eigenvalues_are_all_counted(twins: int) -> None:
    """One start sees them once, or as often as rounding lets it; the probe finds what is left, and all eigenvalues are computed."""
    values = np.concatenate([np.full(twins, 5.0), np.linspace(0.5, 1.0, 400 - twins)])
    top = lanczos.largest(lambda v: values * v, 400, np.random.default_rng(0), 2.0)
    assert top is None or top.above == twins
    W = (1e-5 * drawn(500, 400, "noise")).astype(np.float32)
    W[np.arange(twins), np.arange(twins)] = 60.0  # equal to 1e-9
    found = upper_end(matrix(W), 1e-3, np.random.default_rng(1))
    centered = exact((W - W.mean(dtype=np.float64)).astype(np.float64))
    assert (found.above, found.above_centered) == (twins, int(np.count_nonzero(centered > 1e-3)))


def test_no_matrix_gains_more_by_losing_its_mean_than_the_bound_says() -> None:
    rng = np.random.default_rng(0)
    for trial in range(60):
        n, m = int(rng.integers(10, 60)), int(rng.integers(2, 10))
        W = rng.standard_normal((n, m)) + rng.standard_normal() * rng.random((n, m)) * (trial % 3)
        gained = exact((W - W.mean()).astype(np.float64))[0] - exact(W)[0]
        assert gained <= upper.gain_of(W.sum(axis=0), n) + 1e-9
    assert upper.gain_of(np.zeros(5), 10) == 0
