"""Centered kernel alignment of two matrices whose rows stand for the same things."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral.missing import Missing

PairBlocks = Callable[[], Iterable[tuple[NDArray[np.float64], NDArray[np.float64]]]]


@dataclass(frozen=True, slots=True)
class Similarity:
    """cka = ||Wa^T Wb||_F / sqrt(||Wa^T Wa||_F ||Wb Wb^T||_F), 1 for equal matrices, whatever their scale.

    Attributes:
        cka: uncentered, as weightwatcher has it.
        cka_centered: the square of the same after the mean of every column is subtracted; Missing when nothing is left.
    """

    cka: float
    cka_centered: float | Missing


def similarity(
    blocks: PairBlocks, Xa: NDArray[np.float64], Xb: NDArray[np.float64], n: int, tall: bool
) -> Similarity | Missing:
    """Compares Wa and Wb.

    Args:
        blocks: pairs of row blocks of the two matrices, float64, shape (k, m), longer side streamed.
        Xa, Xb: the Gram matrices of what is streamed, float64, shape (m, m), both triangles; one object when the matrices are one.
        n: longer side.
        tall: whether the rows of W are streamed, and not its columns.

    Returns:
        The similarity, or Missing ``zero_matrix``.

    Source: Kornblith, Norouzi, Lee, Hinton 2019 (1905.00414), whose linear CKA is the square.
    """
    sizes = _norm(Xa) * _norm(Xb)
    if not sizes > 0:
        return Missing("zero_matrix")
    if not tall:  # the Gram matrices are the kernels over the rows of W
        plain = math.sqrt(max(0.0, _inner(Xa, Xb)) / sizes)
        Ka, Kb = _centered(Xa), _centered(Xb)
        sizes = _norm(Ka) * _norm(Kb)
        return Similarity(min(1.0, plain), _ratio(_inner(Ka, Kb), sizes, _norm(Xa) * _norm(Xb)))
    m = len(Xa)
    C, sum_a, sum_b = Xa.copy() if Xa is Xb else np.zeros((m, m)), np.zeros(m), np.zeros(m)
    for A, B in blocks():
        if Xa is not Xb:
            C += A.T @ B
        sum_a += A.sum(axis=0)
        sum_b += B.sum(axis=0)
    plain = _norm(C) / math.sqrt(sizes)
    C -= np.outer(sum_a, sum_b / n)
    centered = _norm(Xa - np.outer(sum_a, sum_a / n)) * _norm(Xb - np.outer(sum_b, sum_b / n))
    return Similarity(min(1.0, plain), _ratio(_norm(C) ** 2, centered, sizes))


def _ratio(value: float, sizes: float, before: float) -> float | Missing:
    """The squared alignment; Missing when centering leaves nothing but rounding."""
    return min(1.0, max(0.0, value / sizes)) if sizes > 1e-24 * before else Missing("degenerate")


def _centered(K: NDArray[np.float64]) -> NDArray[np.float64]:
    """H K H with H = I - 1 1^T / m."""
    mean = K.mean(axis=0)
    centered: NDArray[np.float64] = K - mean[None, :] - mean[:, None] + mean.mean()
    return centered


def _norm(X: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(X))


def _inner(A: NDArray[np.float64], B: NDArray[np.float64]) -> float:
    return float(np.vdot(A, B))
