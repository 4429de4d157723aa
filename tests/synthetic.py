"""Samples and matrices whose law is known, for statistical tests; everything is drawn from a generator that the test gives."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def pareto(rng: np.random.Generator, n: int, alpha: float) -> Values:
    """n values of density (alpha - 1) x^-alpha on [1, inf)."""
    return np.asarray((1 - rng.random(n)) ** (-1 / (alpha - 1)))


def signed_pareto(rng: np.random.Generator, shape: tuple[int, int], mu: float) -> Values:
    """Entries of either sign whose absolute values have the density mu x^-(mu + 1) on [1, inf)."""
    return np.asarray((rng.pareto(mu, shape) + 1) * rng.choice([-1.0, 1.0], shape))


def gaussian(rng: np.random.Generator, n: int, m: int) -> Values:
    """Entries of variance 1/n."""
    return np.asarray(rng.standard_normal((n, m)) / math.sqrt(n))


def orthonormal(rng: np.random.Generator, n: int, m: int) -> Values:
    """m orthonormal columns of n entries."""
    return np.asarray(np.linalg.qr(rng.standard_normal((n, m)))[0])


def with_eigenvalues(rng: np.random.Generator, n: int, eigenvalues: Values) -> Values:
    """An n x m matrix W whose W^T W has these m eigenvalues."""
    m = len(eigenvalues)
    return np.asarray(orthonormal(rng, n, m) * np.sqrt(eigenvalues) @ orthonormal(rng, m, m).T)


def uniform_p(p: Values) -> float:
    """How often numbers drawn evenly from [0, 1] are at least as far from even: Kolmogorov-Smirnov, Stephens' approximation."""
    x, n = np.sort(p), len(p)
    D = max(float(np.max(np.arange(1, n + 1) / n - x)), float(np.max(x - np.arange(n) / n)))
    size = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * D
    return 2 * math.fsum((-1.0) ** (k - 1) * math.exp(-2 * (k * size) ** 2) for k in range(1, 101))
