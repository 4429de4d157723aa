"""The largest eigenvalues of a symmetric positive matrix from its products with vectors: Lanczos, fully reorthogonalized.

For X = W^T W this is Golub-Kahan-Lanczos on W. The vectors and the small matrix are float64; the products may be less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

MOST_STEPS = 200
_FIRST_LOOK = 16  # steps before convergence is looked at, and then every quarter more: a look costs as much as some steps
_INSIDE = 1e-3  # how well the first value below the edge must be known


@dataclass(frozen=True, slots=True)
class Top:
    """The upper end of a spectrum.

    Attributes:
        values: every eigenvalue above the edge, and the largest whatever it is; float64, descending.
        above: how many are above the edge.
        vector: of the largest, float64, shape (m,), unit norm.
        steps: products that were taken.
    """

    values: Vector
    above: int
    vector: Vector
    steps: int


def largest(
    product: Callable[[Vector], Vector],
    m: int,
    generator: np.random.Generator,
    edge: float = np.inf,
    tolerance: float = 1e-6,
) -> Top | None:
    """The largest eigenvalue and all others above an edge.

    It goes on until the values above the edge, and the largest, have a residual below the tolerance, and until the next one is
    known to be below the edge. The error of an eigenvalue is the square of its residual over the gap to the next.

    Args:
        product: X v of a symmetric matrix X with no negative eigenvalue, float64, shape (m,).
        m: order of X.
        generator: draws the first vector.
        edge: eigenvalues above it are counted.
        tolerance: of |X y - theta y| / theta_max.

    Returns:
        The upper end; None when 200 steps were not enough.

    Source: Golub, Kahan 1965; Parlett, The Symmetric Eigenvalue Problem, chapter 13.
    """
    most = min(MOST_STEPS, m)
    V = np.empty((most + 1, m))
    alpha, beta = np.zeros(most), np.zeros(most)
    first = generator.standard_normal(m)
    V[0] = first / np.linalg.norm(first)
    look = min(_FIRST_LOOK, most)
    for step in range(most):
        r = product(V[step])
        known = V[: step + 1]
        alpha[step] = V[step] @ r
        for _ in range(2):
            r = r - (known @ r) @ known
        beta[step] = np.sqrt(r @ r)
        invariant = not beta[step] > 1e-14 * max(float(alpha.max()), 0.0)  # the start has no part in the rest
        if not invariant:
            V[step + 1] = r / beta[step]
        if step + 1 < look and not invariant:
            continue
        look = min(most, step + 1 + max(4, (step + 1) // 4))
        top = _seen(alpha[: step + 1], beta[: step + 1], V, edge, tolerance, invariant or step + 1 == m)
        if top is not None or invariant:
            return top
    return None


def _seen(alpha: Vector, beta: Vector, V: NDArray[np.float64], edge: float, tolerance: float, complete: bool) -> Top | None:
    """The upper end, if it is known well enough after these steps."""
    steps = len(alpha)
    T = np.diag(alpha)
    T[np.arange(steps - 1), np.arange(1, steps)] = T[np.arange(1, steps), np.arange(steps - 1)] = beta[:-1]
    theta, Y = np.linalg.eigh(T)
    theta, last = theta[::-1], np.abs(Y[-1, ::-1])
    residuals = np.zeros(steps) if complete else beta[-1] * last / max(float(theta[0]), 1e-300)
    above = int(np.count_nonzero(theta > edge))
    count = max(above, 1)
    if not (residuals[:count] <= tolerance).all():
        return None
    if above and above < steps and not complete and residuals[above] > min(_INSIDE, (edge - theta[above]) / theta[0]):
        return None  # another eigenvalue may be hidden there
    if above == steps and not complete:
        return None
    y = Y[:, ::-1][:, 0] @ V[:steps]
    return Top(theta[:count].copy(), above, y / np.linalg.norm(y), steps)
