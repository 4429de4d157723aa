"""Norms and what is made of them: every function takes all eigenvalues of a row, ascending, no cut."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral.missing import Missing


def stable_rank(eigenvalues: NDArray[np.float64], total: float | None = None) -> float | Missing:
    """sum lambda / max lambda: between 1 and the number of eigenvalues; `total` where some of them are not there."""
    largest = float(eigenvalues[-1])
    return (float(eigenvalues.sum()) if total is None else total) / largest if largest > 0 else Missing("zero_matrix")


def log10_of_powers(eigenvalues: NDArray[np.float64], alpha: float) -> float | Missing:
    """log10 sum lambda^alpha, as alpha log10 lambda_max + log10 sum (lambda/lambda_max)^alpha: never overflows.

    Source: Martin and Mahoney 2019 (the log alpha-norm of weightwatcher).
    """
    largest = float(eigenvalues[-1])
    if not largest > 0:
        return Missing("zero_matrix")
    return float(alpha * np.log10(largest) + np.log10(np.sum((eigenvalues / largest) ** alpha)))


def explained(eigenvalues: NDArray[np.float64], total: float | None = None) -> NDArray[np.float64] | Missing:
    """Cumulative share of sum lambda, largest eigenvalue first: float64, shape (m,), last entry 1; `total` as above."""
    total = float(eigenvalues.sum()) if total is None else total
    return np.cumsum(eigenvalues[::-1]) / total if total > 0 else Missing("zero_matrix")


def elbow(eigenvalues: NDArray[np.float64]) -> int | Missing:
    """Number of leading eigenvalues where `explained` is farthest from the chord between its ends."""
    share = explained(eigenvalues)
    if isinstance(share, Missing):
        return share
    if len(share) < 3:
        return Missing("too_few_evals")
    chord = np.linspace(share[0], share[-1], len(share))
    return int(np.argmax(np.abs(share - chord))) + 1


def gavish_donoho(sigma: NDArray[np.float64], n: int) -> int:
    """#{sigma > omega(c) median sigma}, omega = .56 c^3 - .95 c^2 + 1.82 c + 1.43, c = M/N.

    Source: Gavish and Donoho 2014, eq. 5, the rank at unknown noise level.
    """
    c = len(sigma) / n
    omega = 0.56 * c**3 - 0.95 * c**2 + 1.82 * c + 1.43
    median = (sigma[(len(sigma) - 1) // 2] + sigma[len(sigma) // 2]) / 2  # of ascending values; np.median loads numpy.ma
    return int(np.count_nonzero(sigma > omega * median))
