"""Eigenvectors of X = W^T W on the side of length M, with their eigenvalues."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ww_static.errors import NotConvergedError
from ww_static.spectral import lapack
from ww_static.spectral.eigen import EPS
from ww_static.spectral.gram import Blocks, gram, gram_bytes, scaled

_EQUAL = 1e-12  # relative distance of eigenvalues whose vectors are not unique
_FURTHER = 3  # matrices of M^2 beside X and the copy that eigenvalues take as well: LAPACK's work, and V


@dataclass(frozen=True, slots=True)
class Eigenvectors:
    """X v = lambda v.

    Attributes:
        eigenvalues: of W^T W 2^(-2 exponent), float64, shape (m,), ascending; those of rank-deficient W may be below 0.
        V: float64, shape (m, m); column i is the unit vector of eigenvalue i.
    """

    eigenvalues: NDArray[np.float64]
    V: NDArray[np.float64]

    @property
    def unique(self) -> NDArray[np.bool_]:
        """Whether each vector is determined, up to its sign: no other eigenvalue within 1e-12 of its own or within M eps lambda_max."""
        values = self.eigenvalues
        floor = len(values) * EPS * float(values[-1])
        near = np.diff(values) <= np.maximum(_EQUAL * values[1:], floor)
        shared: NDArray[np.bool_] = np.append(near, False) | np.append(False, near)
        return ~shared


def eigenvectors(blocks: Blocks, m: int, exponent: int = 0, backend: str = lapack.BEST) -> Eigenvectors:
    """The eigenvectors of X = W^T W (no 1/N) for a matrix that comes in row blocks of m columns.

    Args:
        blocks: float64, shape (k, m) each.
        m: columns of W, its shorter side.
        exponent: of W, whose blocks are multiplied by 2^-exponent first.
        backend: what sums X up.

    Raises:
        NonFiniteError: an element is NaN or infinite.
        NotConvergedError: LAPACK gave up.
    """
    try:
        values, V = np.linalg.eigh(gram(scaled(blocks, exponent), m, backend), UPLO="U")
    except np.linalg.LinAlgError as error:
        raise NotConvergedError(f"LAPACK gave up: {error}") from error
    return Eigenvectors(values, V)


def eigenvector_bytes(m: int) -> int:
    """Most private memory, in bytes, that `eigenvectors` holds at one time, what it returns included."""
    return gram_bytes(m) + 8 * _FURTHER * m * m


def eigenvector_flops(n: int, m: int) -> float:
    """What they take, in operations of a product of matrices: N M^2 for X, and a measured 10 M^3 for its vectors."""
    return float(n) * m**2 + 10.0 * m**3
