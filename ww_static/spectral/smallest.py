"""The smallest singular value of W, more exactly than its square can be read off X = W^T W.

X holds small eigenvalues to eps lambda_max only, but its inverse knows their vectors well: W, looked at from the few
vectors that X^-1 stretches most, gives the value itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral import lapack

_MOST_STEPS = 100
_CLOSE = 1e-11  # relative change of the value that further steps could still bring
_GOLDEN = 0.6180339887498949
_KEPT = 8  # vectors from which W is looked at

Solve = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def smallest_vectors(X: NDArray[np.float64], backend: str) -> NDArray[np.float64] | None:
    """Orthonormal vectors that span the directions of the smallest eigenvalues of X: Lanczos on X^-1.

    Args:
        X: float64, shape (m, m), C or Fortran order, its upper triangle counts; what becomes of it is undefined.
        backend: what factors it.

    Returns:
        float64, shape (m, k), k at most 8; None when X is singular to working precision, or its smallest eigenvalues lie
        too close together to be separated in 100 steps.
    """
    solve = _inverse(X, backend)
    return None if solve is None else _lanczos(solve, len(X))


def _inverse(X: NDArray[np.float64], backend: str) -> Solve | None:
    """b -> X^-1 b; None when X is not positive definite."""
    routines = lapack.routines(backend)
    if routines is not None:
        return (lambda b: lapack.solve(routines, X, b)) if lapack.factored(routines, X) else None
    try:
        factor = np.linalg.inv(np.linalg.cholesky(np.triu(X) + np.triu(X, 1).T))
    except np.linalg.LinAlgError:
        return None
    return lambda b: factor.T @ (factor @ b)


def _lanczos(solve: Solve, m: int) -> NDArray[np.float64] | None:
    """Ritz vectors of X^-1 for its largest eigenvalues, once the largest one has converged; basis kept orthogonal."""
    steps = min(m, _MOST_STEPS)
    V = np.empty((steps, m))
    diagonal, beside = np.zeros(steps), np.zeros(steps)
    v = 0.5 + (np.arange(1, m + 1) * _GOLDEN) % 1  # irregular, so that no structure of W is orthogonal to it
    v /= np.linalg.norm(v)
    for j in range(steps):
        V[j] = v
        r = solve(v)
        if not np.isfinite(r).all():
            return None
        diagonal[j] = v @ r
        for _ in range(2):
            r -= V[: j + 1].T @ (V[: j + 1] @ r)
        beside[j] = np.linalg.norm(r)
        if j % 4 == 3 or j + 1 == steps:
            theta, Y = np.linalg.eigh(np.diag(diagonal[: j + 1]) + np.diag(beside[:j], 1) + np.diag(beside[:j], -1))
            if j + 1 == m or _has_converged(theta, abs(beside[j] * Y[-1, -1])):
                return np.asarray(V[: j + 1].T @ Y[:, -_KEPT:], np.float64)
        v = r / beside[j]
    return None


def _has_converged(theta: NDArray[np.float64], residual: float) -> bool:
    """Whether the largest Ritz value is final: its error is at most residual^2 / gap."""
    gap = theta[-1] - theta[-2] if len(theta) > 1 else 0.0
    return bool(residual * residual <= _CLOSE * theta[-1] * gap)
