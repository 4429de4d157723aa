"""Two matrices compared: against dense decompositions, exact cases, and the laws of rounding."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import Note
from ww_static.pairs.differing import quantization_floor
from ww_static.spectral import leading as leading_module
from ww_static.spectral.difference import TOP, Difference, Pair, Spaces, difference
from ww_static.spectral.gram import blocks_of
from ww_static.spectral.leading import leading
from ww_static.spectral.missing import Missing
from ww_static.spectral.similarity import Similarity
from ww_static.spectral.subspaces import agreement

Array = NDArray[Any]


def compared(a: Array, b: Array) -> Difference:
    old, n, m = blocks_of(np.asarray(a))
    new, _, _ = blocks_of(np.asarray(b))
    return difference(Pair(old, new, n, m, a.shape[0] >= a.shape[1]), "auto", "auto", np.random.default_rng(0))


def spaces(found: Difference) -> Spaces:
    assert isinstance(found.spaces, Spaces)
    return found.spaces


def alike(found: Difference) -> Similarity:
    assert isinstance(found.similarity, Similarity)
    return found.similarity


def haar(rng: np.random.Generator, n: int, k: int) -> Array:
    Q: Array = np.linalg.qr(rng.standard_normal((n, k)))[0]
    return Q


@pytest.mark.parametrize("shape", [(300, 100), (100, 300), (150, 150), (700, 12)])
def test_every_number_is_that_of_dense_decompositions(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    a = rng.standard_normal(shape) + 0.3
    b = a + 0.2 * rng.standard_normal(shape) + 30 * np.outer(haar(rng, shape[0], 1), haar(rng, shape[1], 1))
    found = compared(a, b)
    (Ua, sa, Va), (Ub, sb, Vb) = (np.linalg.svd(W, full_matrices=False) for W in (a, b))
    left, right = Ua[:, :TOP].T @ Ub[:, :TOP], Va[:TOP] @ Vb[:TOP].T
    for side, cosines in ((spaces(found).left, left), (spaces(found).right, right)):
        assert side.overlap == pytest.approx(float((cosines**2).sum()) / TOP, abs=1e-10)
        assert side.agreement == pytest.approx(float(np.abs(np.diag(cosines)).mean()), abs=1e-10)
        assert side.best_match == pytest.approx(float(np.abs(cosines).max(axis=1).mean()), abs=1e-10)
        assert side.max_angle == pytest.approx(math.acos(min(1.0, np.linalg.svd(cosines)[1][-1])), abs=1e-6)
    assert found.spectral == pytest.approx(float(np.linalg.norm(b - a, 2)), rel=1e-10)
    assert spaces(found).intruders == int((np.abs(Ua.T @ Ub[:, :TOP]).max(axis=0) < 0.5).sum())
    assert spaces(found).aligned == pytest.approx(float(np.linalg.norm(Ua[:, :TOP].T @ (b - a) @ Va[:TOP].T)), rel=1e-8)
    assert np.sqrt(found.a.eigenvalues[::-1]) == pytest.approx(sa, abs=1e-6)
    assert np.sqrt(found.b.eigenvalues[::-1]) == pytest.approx(sb, abs=1e-6)
    plain = np.linalg.norm(a.T @ b) / math.sqrt(np.linalg.norm(a.T @ a) * np.linalg.norm(b @ b.T))
    assert alike(found).cka == pytest.approx(float(plain), rel=1e-10)
    c, d = a - a.mean(axis=0), b - b.mean(axis=0)
    centered = np.linalg.norm(c.T @ d) ** 2 / (np.linalg.norm(c.T @ c) * np.linalg.norm(d.T @ d))
    assert alike(found).cka_centered == pytest.approx(float(centered), rel=1e-9)


@pytest.mark.parametrize("shape", [(200, 100), (60, 90), (40, 40)])
def test_distance_of_spectra_is_at_most_that_of_matrices(shape: tuple[int, int]) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        a = rng.standard_t(3, shape)
        b = a * rng.uniform(0.5, 1.5) + rng.uniform(0, 2) * rng.standard_normal(shape)
        found = compared(a, b)
        of_spectra = np.linalg.norm(np.sqrt(found.a.eigenvalues) - np.sqrt(found.b.eigenvalues))
        assert of_spectra <= math.sqrt(found.sums.square) * (1 + 1e-12)
        assert found.spectral <= math.sqrt(found.sums.square) * (1 + 1e-12)


@pytest.mark.parametrize("shape", [(120, 80), (80, 120)])
def test_equal_matrices_have_the_same_spaces_and_no_angle(shape: tuple[int, int]) -> None:
    W = np.random.default_rng(2).standard_normal(shape)
    found = compared(W, W)
    assert (found.sums.square, found.spectral, spaces(found).intruders) == (0.0, 0.0, 0)
    for side in (spaces(found).left, spaces(found).right):
        assert (side.overlap, side.agreement, side.best_match) == pytest.approx((1, 1, 1), abs=1e-12)
        assert side.max_angle < 1e-7
    assert alike(found).cka == pytest.approx(1, abs=1e-12)
    assert alike(found).cka_centered == pytest.approx(1, abs=1e-12)


def test_unrelated_matrices_overlap_as_chance_has_it() -> None:
    rng = np.random.default_rng(3)
    left, right, match = [], [], []
    for _ in range(40):
        found = compared(rng.standard_normal((400, 100)), rng.standard_normal((400, 100)))
        left.append(spaces(found).left.overlap)
        right.append(spaces(found).right.overlap)
        match.append(spaces(found).right.agreement)
    assert np.mean(left) == pytest.approx(TOP / 400, abs=0.001)
    assert np.mean(right) == pytest.approx(TOP / 100, abs=0.004)
    assert np.mean(match) == pytest.approx(math.sqrt(2 / math.pi / 100), abs=0.01)


@pytest.mark.parametrize("shape", [(300, 200), (200, 300)])
@pytest.mark.parametrize("count", [1, 3])
def test_planted_directions_at_the_top_are_intruders(shape: tuple[int, int], count: int) -> None:
    rng = np.random.default_rng(4)
    a = rng.standard_normal(shape)
    u, v = haar(rng, shape[0], count), haar(rng, shape[1], count)
    b = a + 3 * np.linalg.norm(a, 2) * u @ v.T
    found = compared(a, b)
    assert spaces(found).intruders == count
    assert spaces(found).left.max_angle > 1.2
    assert math.sqrt(found.sums.square) == pytest.approx(math.sqrt(count) * found.spectral, rel=1e-6)


def test_a_vector_that_only_fell_out_of_the_top_is_no_intruder() -> None:
    rng = np.random.default_rng(5)
    U, V = haar(rng, 60, 40), haar(rng, 40, 40)
    sigma = np.linspace(2, 1, 40)
    a, moved = (U * sigma) @ V.T, sigma.copy()
    moved[30] = 5.0  # the 31st vector of a leads in b
    found = compared(a, (U * moved) @ V.T)
    assert spaces(found).intruders == 0
    assert spaces(found).left.overlap == pytest.approx(0.9)
    assert spaces(found).left.max_angle == pytest.approx(math.pi / 2)


def test_an_update_within_the_leading_space_is_aligned() -> None:
    rng = np.random.default_rng(6)
    U, V = haar(rng, 80, 50), haar(rng, 50, 50)
    a = (U * np.linspace(3, 1, 50)) @ V.T
    inside = compared(a, a + 0.01 * U[:, :5] @ V[:, :5].T)
    outside = compared(a, a + 0.01 * U[:, 20:25] @ V[:, 20:25].T)
    assert spaces(inside).aligned == pytest.approx(math.sqrt(inside.sums.square), rel=1e-9)
    assert spaces(outside).aligned == pytest.approx(0, abs=1e-12)


def test_similarity_is_blind_to_scale_and_to_rotations_of_the_second_axis() -> None:
    rng = np.random.default_rng(7)
    a = rng.standard_normal((90, 60)) + 1
    found = alike(compared(a, 3 * a @ haar(rng, 60, 60)))
    assert found.cka == pytest.approx(1, abs=1e-12)
    assert found.cka_centered == pytest.approx(1, abs=1e-12)
    assert alike(compared(a, rng.standard_normal((90, 60)))).cka < 0.9


def test_what_is_not_unique_is_not_compared() -> None:
    rng = np.random.default_rng(8)
    W = rng.standard_normal((50, 40))
    assert compared(np.eye(40), W[:40]).spaces == Missing("degenerate")
    assert compared(W, W[:, :5] @ rng.standard_normal((5, 40))).spaces == Missing("degenerate")
    assert compared(W[:, :9], 2 * W[:, :9]).spaces == Missing("too_few_evals")
    assert compared(np.zeros((30, 20)), W[:30, :20]).similarity == Missing("zero_matrix")
    constant = np.outer(np.ones(30), rng.standard_normal(20))
    assert alike(compared(constant, constant)).cka_centered == Missing("degenerate")


@pytest.mark.parametrize("kind", ["noise", "decay", "twins", "low rank"])
def test_leading_vectors_of_a_large_matrix_are_those_of_all_of_them(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)
    m = 700
    sigma = {
        "noise": np.linalg.svd(rng.standard_normal((2 * m, m)), compute_uv=False),
        "decay": 0.97 ** np.arange(m),
        "twins": np.concatenate([np.repeat([5.0, 4.0, 3.0, 2.5, 2.0], 2), np.linspace(1, 0.1, m - 10)]),
        "low rank": np.concatenate([np.linspace(3, 1, 14), np.zeros(m - 14)]),
    }[kind]
    V = haar(rng, m, m)
    X = (V * sigma**2) @ V.T
    X = (X + X.T) / 2
    monkeypatch.setattr(leading_module, "LARGEST_DIRECT", 100)
    found = leading(X, TOP, np.random.default_rng(1), 1e-9)
    assert (found.everything is not None) == (kind == "noise"), "of noise, all vectors cost less than so large a Krylov space"
    assert found.values[:TOP] == pytest.approx(sigma[:TOP] ** 2, rel=1e-9)
    assert agreement(V[:, :TOP], found.V).max_angle < 1e-4
    assert found.V.T @ found.V == pytest.approx(np.eye(TOP), abs=1e-9)


def sqnr(a: Array, b: Array) -> float:
    found = compared(a, b)
    return 10 * math.log10(found.sums.square_a / found.sums.square)


@pytest.mark.parametrize(("bits", "per_tensor", "per_row"), [(8, 39.34, 42.6), (6, 27.1, 30.3), (4, 14.2, 17.4)])
def test_integers_leave_the_noise_of_their_step(bits: int, per_tensor: float, per_row: float, measured: Note) -> None:
    W = np.random.default_rng(10).standard_normal((512, 512))
    for axis, published in ((None, per_tensor), (1, per_row)):
        step = np.abs(W).max(axis=axis, keepdims=True) / (2 ** (bits - 1) - 1)
        found = sqnr(W, np.round(W / step) * step)
        assert found == pytest.approx(10 * math.log10(12 * float(np.mean(W**2)) / float(np.mean(step**2))), abs=0.1)
        assert found == pytest.approx(published, abs=1)  # the largest of 512^2 elements is 4.5 to 5
        measured("T24", f"{bits} bits{', per row' if axis else ''}: {found:.2f} dB")


def mantissa(bits: int) -> Callable[[Array], Array]:
    """Rounding to so many bits after the leading one."""

    def rounded(W: Array) -> Array:
        fraction, exponent = np.frexp(W)
        result: Array = np.ldexp(np.round(fraction * 2 ** (bits + 1)), exponent - bits - 1)
        return result

    return rounded


@pytest.mark.parametrize(
    ("rounded", "expected"),
    [
        (lambda W: W.astype(ml_dtypes.bfloat16).astype(np.float64), 55.6),
        (lambda W: W.astype(np.float16).astype(np.float64), 73.6),
        (mantissa(3), 31.5),
    ],
    ids=["bf16", "fp16", "e4m3"],
)
def test_floating_types_leave_the_noise_of_their_mantissa(
    rounded: Callable[[Array], Array], expected: float, measured: Note
) -> None:
    W = np.random.default_rng(11).standard_normal((512, 512)) * 0.5
    assert sqnr(W, rounded(W)) == pytest.approx(expected, abs=0.3)
    measured("T24c", f"{sqnr(W, rounded(W)):.2f} dB for {expected}")


def test_rounding_fills_the_null_space_between_the_edges(measured: Note) -> None:
    rng = np.random.default_rng(12)
    W = rng.standard_normal((800, 100)) @ rng.standard_normal((100, 400)) / 10
    step = float(np.abs(W).max()) / 127
    values = np.linalg.svd(np.round(W / step) * step, compute_uv=False)[::-1] ** 2
    low, high = quantization_floor(800, 400, 100, step**2 / 12)
    assert values[0] == pytest.approx(low, rel=0.05)
    assert values[299] == pytest.approx(high, rel=0.05)
    assert values[300] > 10 * high
    rank = np.linalg.matrix_rank(np.round(W / step) * step)
    assert rank == 400
    measured("T24b", f"null space from {values[0] / low:.3f} to {values[299] / high:.3f} of the edges, rank {rank}")


def test_the_published_edges_of_a_filled_null_space(measured: Note) -> None:
    low, high = (edge / 800 for edge in quantization_floor(800, 400, 100, 0.01146))
    assert low == pytest.approx(0.001196, rel=0.05)
    assert high == pytest.approx(0.02746, rel=0.05)
    measured("T24b", f"edges {low:.6f} and {high:.5f}")
