"""The largest eigenvalues of a symmetric positive matrix from its products with vectors: Lanczos, fully reorthogonalized.

For X = W^T W this is Golub-Kahan-Lanczos on W. The vectors have the precision of the products, the small matrix is float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Product = Callable[[NDArray[Any]], NDArray[Any]]
Dtype = type[np.float64] | type[np.float32]

MOST_STEPS = 200
_FIRST_LOOK = 16  # steps before convergence is looked at, and then every quarter more: a look costs as much as some steps
_INSIDE = 1e-3  # how well the first value below the edge must be known
_CLOSE = 0.3  # of its distance to the edge, by which a residual may leave a value uncertain that is only known to be below
_PROBE = 16  # steps of the search for twins of what was found


@dataclass(frozen=True, slots=True)
class Top:
    """The upper end of a spectrum.

    Attributes:
        values: every eigenvalue above the edge, and the largest whatever it is; float64, descending.
        vectors: theirs, float64, shape (len(values), m), unit norm.
        above: how many are above the edge.
        steps: products that found them.
    """

    values: Vector
    vectors: NDArray[np.float64]
    above: int
    steps: int


@dataclass(frozen=True, slots=True)
class Krylov:
    """What some steps have made: X V^T = V^T T but for the last column, T tridiagonal.

    Attributes:
        V: orthonormal, shape (steps, m).
        alpha, beta: diagonal of T, and beside it; float64, shape (steps,).
        complete: the start has no part in what is left.
    """

    V: NDArray[Any]
    alpha: Vector
    beta: Vector
    complete: bool

    def pairs(self) -> tuple[Vector, NDArray[np.float64]]:
        """Ritz values, descending, and the eigenvectors of T in columns."""
        steps = len(self.alpha)
        T = np.diag(self.alpha)
        beside = np.arange(steps - 1)
        T[beside, beside + 1] = T[beside + 1, beside] = self.beta[:-1]
        theta, Y = np.linalg.eigh(T)
        return theta[::-1], Y[:, ::-1]


def largest(
    product: Product,
    m: int,
    generator: np.random.Generator,
    edge: float = np.inf,
    tolerance: float = 1e-6,
    only_count: bool = False,
    dtype: Dtype = np.float64,
) -> Top | None:
    """The largest eigenvalue and all others above an edge.

    It goes on until the values above the edge, and the largest, have a residual below the tolerance, and until the next one is
    known to be below the edge. The error of an eigenvalue is the square of its residual over the gap to the next.
    One start sees equal eigenvalues once; so a second one, orthogonal to what was found, looks for their twins.

    Args:
        product: X v of a symmetric matrix X with no negative eigenvalue, shape (m,).
        m: order of X.
        generator: draws the first vectors.
        edge: eigenvalues above it are counted.
        tolerance: of |X y - theta y| / theta_max.
        only_count: where no eigenvalue is above the edge, the largest one need not be known better than that.
        dtype: of the vectors that the product takes and gives. In float32 the tolerance cannot be below 1e-5.

    Returns:
        The upper end; None when 200 steps were not enough, or when there is a twin.

    Source: Golub, Kahan 1965; Parlett, The Symmetric Eigenvalue Problem, chapter 13.
    """
    found = None
    look = _FIRST_LOOK
    for made in steps(product, m, generator, np.empty((0, m), dtype), MOST_STEPS):
        count = len(made.alpha)
        if count >= look or made.complete:
            look = count + max(4, count // 4)
            found = _known(made, edge, tolerance, only_count)
            if found is not None:
                break
    if found is None or found.above == 0 or found.above == m:
        return found
    for made in steps(product, m, generator, found.vectors.astype(dtype), _PROBE):
        last = made
    return None if float(last.pairs()[0][0]) > edge else found


def steps(
    product: Product, m: int, generator: np.random.Generator, fixed: NDArray[Any], most: int, scale: float = 0.0
) -> Iterator[Krylov]:
    """The Lanczos steps from a random vector, all vectors orthogonal to the fixed ones and to each other, in their dtype.

    Args:
        product: X v of a symmetric matrix X with no negative eigenvalue, shape (m,).
        m: order of X.
        generator: draws the first vector.
        fixed: orthonormal, shape (held, m), held < m.
        most: steps after which it ends; it ends before when nothing is left.
        scale: the largest eigenvalue that is known already: what is zero beside it is nothing.
    """
    held = len(fixed)
    most = min(most, m - held)
    V = np.empty((held + most + 1, m), fixed.dtype)
    V[:held] = fixed
    alpha, beta = np.zeros(most), np.zeros(most)
    small = 64 * float(np.finfo(fixed.dtype).eps)
    start = generator.standard_normal(m).astype(fixed.dtype)
    for _ in range(2):
        start -= (fixed @ start) @ fixed
    V[held] = start / np.linalg.norm(start)
    for step in range(most):
        place = held + step
        r = product(V[place])
        alpha[step] = V[place] @ r
        known = V[: place + 1]
        for _ in range(2):  # once is not enough: what one pass leaves grows from step to step
            r = r - (known @ r) @ known
        beta[step] = np.sqrt(r @ r)
        complete = step + 1 == m - held or not beta[step] > small * max(float(alpha.max()), scale)
        yield Krylov(V[held : place + 1], alpha[: step + 1], beta[: step + 1], complete)
        if complete:
            return
        V[place + 1] = r / beta[step]


def _known(made: Krylov, edge: float, tolerance: float, only_count: bool) -> Top | None:
    """The upper end, if it is known well enough."""
    theta, Y = made.pairs()
    steps, scale = len(theta), max(float(theta[0]), 1e-300)
    residuals = np.zeros(steps)
    if not made.complete:
        residuals = made.beta[-1] * np.abs(Y[-1]) / scale
    above = int(np.count_nonzero(theta > edge))
    count = max(above, 1)
    if only_count and above == 0:
        tolerance = max(tolerance, _CLOSE * (edge - float(theta[0])) / scale)
    if not (residuals[:count] <= tolerance).all():
        return None
    inside = above == steps or residuals[above] > min(_INSIDE, (edge - theta[above]) / scale)
    if above and not made.complete and inside:
        return None  # another eigenvalue may be hidden there
    vectors = np.asarray(Y[:, :count].T @ made.V, np.float64)
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    return Top(theta[:count].copy(), vectors, above, steps)
