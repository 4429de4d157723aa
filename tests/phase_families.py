"""Matrices whose phase is known, by construction: eight families, all times 0.03."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ww_static import Missing, spectrum
from ww_static.measuring.measured import measure
from ww_static.options import Options
from ww_static.spectral.phases import BLEEDING_OUT, COLLAPSE, DECAY, HEAVY_TAILED, RANDOM_LIKE, SPIKES, Phase, phase
from ww_static.spectral.zeros import zero_share

Matrix = NDArray[np.float64]
SINGLE = 2.0**-23  # the matrices are stored as float32


def noise(rng: np.random.Generator, n: int, m: int) -> Matrix:
    return np.asarray(rng.standard_normal((n, m)) / np.sqrt(n))


def uniform(rng: np.random.Generator, n: int, m: int) -> Matrix:
    return rng.uniform(-1, 1, (n, m))


def orthonormal(rng: np.random.Generator, n: int, k: int) -> Matrix:
    """k random orthonormal columns of length n."""
    Q, R = np.linalg.qr(rng.standard_normal((n, k)))
    return np.asarray(Q * np.sign(np.diag(R)))


def with_terms(rng: np.random.Generator, n: int, m: int, thetas: NDArray[np.float64]) -> Matrix:
    """Noise plus U diag(theta) V^T; below (m/n)^(1/4) a term leaves no eigenvalue outside."""
    scaled = orthonormal(rng, n, len(thetas)) * (thetas * (m / n) ** 0.25)
    return np.asarray(noise(rng, n, m) + scaled @ orthonormal(rng, m, len(thetas)).T)


def power_law(rng: np.random.Generator, n: int, m: int) -> Matrix:
    alpha = rng.uniform(2, 3.5)
    eigenvalues = (1 - rng.random(m)) ** (-1 / (alpha - 1))
    return np.asarray((orthonormal(rng, n, m) * np.sqrt(eigenvalues)) @ orthonormal(rng, m, m).T)


def heavy_elements(rng: np.random.Generator, n: int, m: int) -> Matrix:
    return np.asarray((rng.pareto(rng.uniform(0.8, 1.7), (n, m)) + 1) * rng.choice((-1.0, 1.0), (n, m)))


def half_rank(rng: np.random.Generator, n: int, m: int) -> Matrix:
    return rng.standard_normal((n, m // 2)) @ rng.standard_normal((m // 2, m))


@dataclass(frozen=True)
class Family:
    """Matrices of one kind, and the phase that they have."""

    name: str
    phase: str
    draw: Callable[[np.random.Generator, int, int], Matrix]


FAMILIES = (
    Family("Gaussian", RANDOM_LIKE, noise),
    Family("uniform", RANDOM_LIKE, uniform),
    Family("weak spikes", BLEEDING_OUT, lambda rng, n, m: with_terms(rng, n, m, rng.uniform(1.15, 1.45, 6))),
    Family("spikes", SPIKES, lambda rng, n, m: with_terms(rng, n, m, rng.uniform(2, 6, 5))),
    Family("many spikes", DECAY, lambda rng, n, m: with_terms(rng, n, m, 0.8 + 0.6 * rng.standard_exponential(m // 4))),
    Family("power law", HEAVY_TAILED, power_law),
    Family("heavy elements", HEAVY_TAILED, heavy_elements),
    Family("half rank", COLLAPSE, half_rank),
)


def drawn(family: Family, n: int, m: int, *seed: int) -> NDArray[np.float32]:
    """One matrix of a family, as it would be stored."""
    rng = np.random.default_rng([*seed, FAMILIES.index(family), n, m])
    return (0.03 * family.draw(rng, n, m)).astype(np.float32)


def phase_of(W: NDArray[np.float32]) -> Phase:
    """The phase of a matrix that is stored as float32."""
    found = spectrum(W)
    row = measure((found,), 1.0, Options())
    zeros = zero_share(row.eigenvalues, row.n, SINGLE, row.floor)
    result = phase(min(W.shape), zeros, float(row.eigenvalues[-1]), row.bulk, row.robust, row.m)
    assert not isinstance(result, Missing)
    return result
