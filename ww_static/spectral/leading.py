"""The largest eigenvalues of a symmetric matrix in memory with their vectors: all of them when it is small, else a block Krylov space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ww_static.errors import NotConvergedError

LARGEST_DIRECT = 1024  # order up to which all vectors cost less than finding some of them
_SPARE = 6  # vectors of a block beyond those that are asked for
_LARGEST_SHARE = 0.4  # of the order: a larger Krylov space costs more than all vectors
_FIRST_LOOK = 4  # blocks before convergence is looked at, and then every quarter more


@dataclass(frozen=True, slots=True)
class Leading:
    """The upper end of X, X v = lambda v.

    Attributes:
        values: float64, shape (k + 1,) or (m,) when there are fewer, descending; the last one is no better than an estimate.
        V: float64, shape (m, k), columns of unit length.
        everything: all eigenvalues, ascending, and their vectors in columns, where they were computed.
    """

    values: NDArray[np.float64]
    V: NDArray[np.float64]
    everything: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None


def leading(X: NDArray[np.float64], k: int, generator: np.random.Generator, tolerance: float) -> Leading:
    """The k largest eigenvalues and their vectors.

    Args:
        X: symmetric, no negative eigenvalue, float64, shape (m, m), both triangles filled.
        k: how many, at most m.
        generator: draws the first vectors of the Krylov space; up to order 1024 it is not used.
        tolerance: of |X v - lambda v| / lambda_max. An eigenvalue is as exact as that at least, and its vector to the
            tolerance over its relative distance from the next one. Up to order 1024 all is exact to rounding.

    Raises:
        NotConvergedError: LAPACK gave up.

    Source: Golub, Underwood 1977 (block Lanczos), fully reorthogonalized.
    """
    m = len(X)
    if m <= LARGEST_DIRECT:
        return _direct(X, k)
    width = k + _SPARE
    blocks = int(_LARGEST_SHARE * m) // width
    Q = np.empty((m, (blocks + 1) * width))
    H = np.zeros((blocks * width, blocks * width))
    Q[:, :width] = np.linalg.qr(generator.standard_normal((m, width)))[0]
    look = _FIRST_LOOK
    for block in range(1, blocks + 1):
        here, known = slice((block - 1) * width, block * width), Q[:, : block * width]
        Z = X @ Q[:, here]
        H[: block * width, here] = known.T @ Z
        for _ in range(2):
            Z -= known @ (known.T @ Z)
        beside, R = np.linalg.qr(Z)
        beside -= known @ (known.T @ beside)  # directions of a Z that has lost rank need not be orthogonal to what is known
        Q[:, block * width : (block + 1) * width] = np.linalg.qr(beside)[0]
        if block >= look or block == blocks:
            look = block + max(2, block // 4)
            found = _known(H[: block * width, : block * width], R, known, k, tolerance)
            if found is not None:
                return found
    return _direct(X, k)


def _known(H: NDArray[np.float64], R: NDArray[np.float64], Q: NDArray[np.float64], k: int, tolerance: float) -> Leading | None:
    """The upper end, if it is known well enough from X Q = Q H + Q_next R E^T."""
    theta, Y = np.linalg.eigh(np.triu(H) + np.triu(H, 1).T)
    residuals = np.linalg.norm(R @ Y[-len(R) :, -k:], axis=0)
    if not (residuals <= tolerance * max(float(theta[-1]), 0.0)).all():
        return None
    V = Q @ Y[:, : -k - 1 : -1]
    return Leading(theta[: -k - 2 : -1].copy(), V / np.linalg.norm(V, axis=0))


def _direct(X: NDArray[np.float64], k: int) -> Leading:
    try:
        values, V = np.linalg.eigh(X)
    except np.linalg.LinAlgError as error:
        raise NotConvergedError(f"LAPACK gave up: {error}") from error
    return Leading(values[::-1][: k + 1].copy(), V[:, ::-1][:, :k].copy(), (values, V))


def leading_bytes(m: int) -> int:
    """Most private memory, in bytes, that `leading` holds at one time beside X, what it returns included."""
    return 32 * m * m


def leading_flops(m: int) -> float:
    """What it takes, in operations of a product of matrices: a measured 10 M^3 for all vectors, and what 40 blocks take."""
    return 10.0 * m**3 if m <= LARGEST_DIRECT else 2.0 * 16 * 40 * m**2 + 4.0 * (16 * 40) ** 2 * m
