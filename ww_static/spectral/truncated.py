"""The k largest eigenvalues of a symmetric positive matrix from its products with vectors, in float64: Lanczos, fully reorthogonalized.

One start sees equal eigenvalues once, so further starts, orthogonal to what was found, look for their twins until there is none.
Source: Parlett, The Symmetric Eigenvalue Problem, chapter 13.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ww_static.errors import NotConvergedError
from ww_static.spectral.lanczos import Krylov, Product, Vector, steps

_TOLERANCE = 1e-9  # of |X y - theta y| / theta, which bounds the relative error of theta
_EPS = 2.0**-52
_FIRST_LOOK = 24
_PROBE = 40  # steps after which a start that has found nothing above what is known is given up
_STARTS = 12


@dataclass(frozen=True, slots=True)
class _Found:
    """Eigenvalues, descending, and their vectors in rows."""

    values: Vector
    vectors: NDArray[np.float64]


def most_steps(m: int, k: int) -> int:
    """Steps after which a start is given up."""
    return min(m, 6 * k + 200)


def truncated_bytes(m: int, k: int) -> int:
    """Most private memory, in bytes, that `largest_eigenvalues` holds: two bases, and the small matrix three times."""
    most = most_steps(m, k)
    return 8 * (m * (most + 2 * k + 8) + 4 * most * most)


def largest_eigenvalues(product: Product, m: int, k: int, generator: np.random.Generator) -> Vector:
    """The k largest eigenvalues, ascending, each to 1e-9 of itself.

    Args:
        product: X v of a symmetric matrix X with no negative eigenvalue, float64, shape (m,).
        m: order of X.
        k: how many, at most m.
        generator: draws the starts.

    Returns:
        float64, shape (k,), all >= 0.

    Raises:
        NotConvergedError: there are more steps than `most_steps`, or more equal eigenvalues than starts.
    """
    known = _Found(np.empty(0), np.empty((0, m)))
    for _ in range(_STARTS):
        if len(known.values) == m:
            break
        bound = float(known.values[k - 1]) if len(known.values) >= k else -1.0
        more = _above(product, m, k, generator, known, bound)
        top = max(float(found.values.max(initial=0.0)) for found in (known, more))
        if len(more.values) == 0 or more.values[0] <= m * _EPS * top:  # what is left is zero
            return np.concatenate([np.zeros(k), np.maximum(known.values[::-1], 0.0)])[-k:]
        values = np.concatenate([known.values, more.values])
        order = np.argsort(-values, kind="stable")[:k]
        known = _Found(values[order], np.concatenate([known.vectors, more.vectors])[order])
    else:
        raise NotConvergedError(f"more than {_STARTS} equal eigenvalues among the largest {k}")
    return np.maximum(known.values[::-1], 0.0)


def _above(product: Product, m: int, k: int, generator: np.random.Generator, known: _Found, bound: float) -> _Found:
    """Up to k eigenvalues above a bound, orthogonal to what is known; none when a start sees nothing above it."""
    look, most = _FIRST_LOOK, most_steps(m, k)
    for made in steps(product, m, generator, known.vectors, most, float(known.values.max(initial=0.0))):
        count = len(made.alpha)
        if count >= look or made.complete:
            look = count + max(8, count // 4)
            found = _converged(made, k, bound)
            if found is not None:
                return found
    raise NotConvergedError(f"the {k} largest eigenvalues are not known after {most} Lanczos steps: ask for fewer, or for all")


def _converged(made: Krylov, k: int, bound: float) -> _Found | None:
    """The largest Ritz values above a bound, at most k, when all of them are known; None when some are not yet.

    A basis that is complete holds its part of the space exactly, so its values are known whatever their number.
    """
    theta, Y = made.pairs()
    count = len(theta)
    wanted = min(k, int(np.count_nonzero(theta > bound * (1 + 10 * _TOLERANCE)))) if bound >= 0 else min(k, count)
    if wanted == 0:
        return _Found(theta[:0], made.V[:0]) if made.complete or count >= _PROBE else None
    if not made.complete:
        residuals = made.beta[-1] * np.abs(Y[-1, :wanted])
        enough = wanted == k or (bound >= 0 and count >= _PROBE)
        if not enough or not bool(np.all(residuals <= np.maximum(_TOLERANCE * theta[:wanted], count * _EPS * theta[0]))):
            return None
    return _Found(theta[:wanted].copy(), Y[:, :wanted].T @ made.V)
