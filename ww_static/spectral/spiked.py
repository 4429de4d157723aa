"""A singular value of strength t added to noise: when it shows as an eigenvalue of its own, where, and how true its vectors are.

W = G + t u v^T with independent elements of G of variance 1/N, c = M/N, eigenvalues x of W^T W. Sources: Baik, Ben Arous, Peche
2005; Benaych-Georges, Nadakuditi 2012, section 3.1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def threshold(c: float) -> float:
    """c^(1/4) = Q^(-1/4): a weaker t leaves no eigenvalue above the bulk."""
    return float(c**0.25)


def position(t: NDArray[np.float64], c: float) -> NDArray[np.float64]:
    """x = (1 + t^2)(c + t^2)/t^2 of each t above the threshold; float64, any shape."""
    return (1 + t**2) * (c + t**2) / t**2


def strength(x: NDArray[np.float64], c: float) -> NDArray[np.float64]:
    """The larger root t of x = (1 + t^2)(c + t^2)/t^2, of each x above the bulk; float64, any shape."""
    half = 0.5 * (x - 1 - c)
    return np.asarray(np.sqrt(half + np.sqrt(np.maximum(half * half - c, 0.0))))


def overlaps(t: NDArray[np.float64], c: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Squared cosines between the singular vectors of W and v (length M), u (length N), of each t above the threshold.

    1 - c(1 + t^2)/(t^2(t^2 + c)) and 1 - (c + t^2)/(t^2(t^2 + 1)).
    """
    square = t**2
    return 1 - c * (1 + square) / (square * (square + c)), 1 - (c + square) / (square * (square + 1))
