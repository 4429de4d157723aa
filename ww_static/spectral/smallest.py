"""The smallest singular value of W, more exactly than its square can be read off X = W^T W.

X holds small eigenvalues to eps lambda_max only, but its inverse knows their vectors well: W, looked at from the few
vectors that X^-1 stretches most, gives the value itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral import lapack

_FEWEST_STEPS, _MOST_STEPS = 12, 100  # the few are for the other vectors: X is not exact, and mixes them into the first
_CLOSE = 1e-11  # relative change of the value that further steps could still bring
_GOLDEN = 0.6180339887498949

Solve = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def smallest_vectors(X: NDArray[np.float64], backend: str) -> NDArray[np.float64] | None:
    """Orthonormal vectors that span the directions of the smallest eigenvalues of X: a Krylov space of X^-1.

    Args:
        X: float64, shape (m, m), C or Fortran order, its upper triangle counts; what becomes of it is undefined.
        backend: what factors it.

    Returns:
        float64, shape (m, k), k from 12 (or m) to 100; None when X is singular to working precision, or its smallest
        eigenvalues lie too close together to be separated in 100 steps.
    """
    if len(X) <= _FEWEST_STEPS:
        return np.eye(len(X))
    solve = _inverse(X, backend)
    basis = None if solve is None else _krylov(solve, len(X))
    return None if basis is None else np.ascontiguousarray(basis.T)


def _inverse(X: NDArray[np.float64], backend: str) -> Solve | None:
    """B -> B X^-1; None when X is not positive definite."""
    routines = lapack.routines(backend)
    if routines is not None:
        return (lambda B: lapack.solve(routines, X, B)) if lapack.factored(routines, X) else None
    try:
        factor = np.linalg.inv(np.linalg.cholesky(np.triu(X) + np.triu(X, 1).T))
    except np.linalg.LinAlgError:
        return None
    return lambda B: (B @ factor.T) @ factor


def _krylov(solve: Solve, m: int) -> NDArray[np.float64] | None:
    """An orthonormal basis, rows, in which the largest eigenvalue of X^-1 has converged: Lanczos, kept orthogonal."""
    steps = min(m, _MOST_STEPS)
    V = np.empty((steps, m))
    diagonal, beside = np.zeros(steps), np.zeros(steps)
    v: NDArray[np.float64] = (
        0.5 + (np.arange(1.0, m + 1) * _GOLDEN) % 1
    )  # irregular, so that no structure of W is orthogonal to it
    v = v / np.linalg.norm(v)
    for j in range(steps):
        V[j] = v
        r = solve(v[None])[0]
        if not np.isfinite(r).all():
            return None
        diagonal[j] = v @ r
        for _ in range(2):
            r -= (V[: j + 1] @ r) @ V[: j + 1]
        beside[j] = np.linalg.norm(r)
        if (j % 4 == 3 and j + 1 >= _FEWEST_STEPS) or j + 1 == steps:
            T: NDArray[np.float64] = np.diag(diagonal[: j + 1]) + np.diag(beside[:j], 1) + np.diag(beside[:j], -1)
            theta, Y = np.linalg.eigh(T)
            residual = float(beside[j] * abs(Y[-1, -1]))  # the error of the value is at most residual^2 / gap
            if j + 1 == m or residual * residual <= _CLOSE * theta[-1] * (theta[-1] - theta[-2]):
                return V[: j + 1]
        v = r / beside[j]
    return None
