"""The smallest singular value, taken from W by vectors of X^-1: against an SVD, at conditions that X itself cannot hold."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ww_static import spectrum
from ww_static.spectral import eigen, lapack, smallest

Matrix = NDArray[np.float64]
BACKENDS = [lapack.BEST, lapack.NUMPY]


def with_singular_values(sigma: Matrix, seed: int = 0) -> Matrix:
    rng, m = np.random.default_rng(seed), len(sigma)
    U, V = (np.linalg.qr(rng.standard_normal((m, m)))[0] for _ in range(2))
    return np.asarray((U * sigma) @ V)


def graded(condition: float, m: int = 120) -> Matrix:
    return with_singular_values(np.geomspace(1, 1 / condition, m))


def clustered(condition: float, m: int = 120) -> Matrix:
    """One large value, and all others within a factor of 1.5 of the smallest."""
    return with_singular_values(np.append(1.0, np.linspace(1.5, 1, m - 1) / condition))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", [graded, clustered])
@pytest.mark.parametrize("condition", [1e3, 1e4, 1e5, 3e5])
def test_refined_to_a_billionth(family: object, condition: float, backend: str) -> None:
    W = family(condition)  # type: ignore[operator]
    found = spectrum(W, backend=backend)
    expected = np.linalg.svd(W, compute_uv=False)[-1]
    assert found.method == "gram"
    assert np.sqrt(found.eigenvalues[0]) == pytest.approx(expected, rel=2e-10)


def test_it_does_better_than_the_gram_matrix() -> None:
    W = graded(1e5)
    expected = float(np.linalg.svd(W, compute_uv=False)[-1])
    raw = float(np.sqrt(spectrum(W, "gram").eigenvalues[0]))
    assert abs(raw / expected - 1) > 1e-9 > abs(float(np.sqrt(spectrum(W).eigenvalues[0])) / expected - 1)


def test_beyond_its_reach_an_svd_is_taken() -> None:
    W = graded(1e6)
    found = spectrum(W)
    assert found.method == "svd"
    assert np.sqrt(found.eigenvalues) == pytest.approx(np.linalg.svd(W, compute_uv=False)[::-1], rel=1e-9)


def test_a_cluster_that_few_steps_cannot_separate_is_left_to_the_gram_matrix_or_an_svd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smallest, "_MOST_STEPS", 13)
    mild, hard = clustered(1e3), clustered(3e4)
    assert smallest.smallest_vectors(mild.T @ mild, lapack.BEST) is None
    found = spectrum(mild)
    assert (found.method, spectrum(hard).method) == ("gram", "svd")
    for W in (mild, hard):
        expected = np.linalg.svd(W, compute_uv=False)[-1]
        assert np.sqrt(spectrum(W).eigenvalues[0]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_matrix_that_is_not_positive_definite_has_no_such_vectors(backend: str) -> None:
    assert smallest.smallest_vectors(np.diag([*np.arange(1.0, 40), -1.0]), backend) is None


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("m", [1, 2, 12, 13, 14, 200])
def test_vectors_are_orthonormal_and_hold_the_smallest(m: int, backend: str) -> None:
    X = np.diag(np.arange(1.0, m + 1) ** 3)
    V = smallest.smallest_vectors(X.copy(), backend)
    assert V is not None
    assert V.T @ V == pytest.approx(np.eye(V.shape[1]), abs=1e-12)
    assert min(m, 12) <= V.shape[1] <= min(m, 100)
    assert np.linalg.norm(V[0]) == pytest.approx(1, abs=1e-10)


@pytest.mark.skipif(lapack.backend_name() == lapack.NUMPY, reason="this numpy has another LAPACK")
@pytest.mark.parametrize("order", ["C", "F"])
def test_cholesky_reads_the_upper_triangle_in_either_order(order: str) -> None:
    routines = lapack.routines()
    assert routines is not None
    W = np.random.default_rng(1).standard_normal((70, 50))
    X = W.T @ W
    triangle = np.array(np.triu(X) + np.tril(np.full_like(X, np.nan), -1), order=order)  # type: ignore[call-overload]
    assert lapack.factored(routines, triangle)
    assert np.isnan(triangle[np.tril_indices(50, -1)]).all()
    b = np.arange(50.0)
    x = lapack.solve(routines, triangle, np.stack([b, 2 * b]))
    assert x @ X == pytest.approx(np.stack([b, 2 * b]), abs=1e-9)


def test_squares_of_noise_need_no_svd_up_to_the_limit() -> None:
    """What made squares near 2048 columns slow: their smallest eigenvalue is below 1e-8 of the largest."""
    W = np.random.default_rng(3).standard_normal((1700, 1700)).astype(np.float32)
    found = spectrum(W)
    assert found.method == "gram"
    assert found.eigenvalues[0] < 1e-6 * found.eigenvalues[-1]
    R = np.linalg.qr(W.astype(np.float64), mode="r")
    assert np.sqrt(found.eigenvalues[0]) == pytest.approx(np.linalg.svd(R, compute_uv=False)[-1], rel=1e-9)
    assert len(W) <= eigen.LARGEST_SVD
