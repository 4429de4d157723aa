"""Eigenvalues that are zero but for rounding: which share of an ESD, given how coarsely the weights are stored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral import marchenko_pastur

_FINE = 2.0**-23  # relative spacing of float32; what is stored more finely is rounded by arithmetic rather than by storage
_FLOORS = 3.0  # how many variances of the rounding, in units of N, an eigenvalue of the filled null space reaches


def relative_rounding(epsilon: float) -> float:
    """Variance of the rounding to a floating type over that of the elements.

    epsilon^2/22: the step of x is epsilon 2^floor(log2 |x|), and the mean of its square 0.54 epsilon^2 E x^2 for Gaussian
    elements; a rounding has a twelfth of that. 55.6 dB for bfloat16, 73.6 for float16, 31.5 for three bits.

    Args:
        epsilon: spacing of the values just above 1.
    """
    return epsilon**2 / 22


def rounding_of_floats(epsilon: float) -> float | None:
    """`relative_rounding`; None for types as fine as float32."""
    return relative_rounding(epsilon) if epsilon > _FINE else None


def zero_share(eigenvalues: NDArray[np.float64], n: int, epsilon: float, floor: float) -> float:
    """Share of the sigma at or below sigma_max N epsilon, or at or below the floor of the method.

    Args:
        eigenvalues: float64, shape (m,), ascending, the largest positive.
        n: longer side of W.
        epsilon: relative spacing of the stored values.
        floor: of the eigenvalues.
    """
    limit = max((n * epsilon) ** 2 * float(eigenvalues[-1]), floor)
    return int(np.searchsorted(eigenvalues, limit, side="right")) / len(eigenvalues)


def rounded_to(eigenvalues: NDArray[np.float64], rounding: float) -> float:
    """3 N s^2: where the eigenvalues end that rounding alone makes, in the units of the given ones."""
    return _FLOORS * rounding * float(eigenvalues.mean())


def rounded_share(eigenvalues: NDArray[np.float64], c: float, rounding: float) -> float:
    """Share of the eigenvalues at or below 3 N s^2, less what noise of the variance of the elements has there; at least 0.

    Rounding with the variance s^2 fills a null space of W with eigenvalues of about N s^2; a square matrix of full rank has
    eigenvalues as small, which are not counted.

    Args:
        eigenvalues: float64, shape (m,), ascending, the largest positive; any unit.
        c: M/N.
        rounding: s^2 over the mean square of the elements.
    """
    expected = float(marchenko_pastur.distribution(np.array([_FLOORS * rounding]), c)[0])
    return max(0.0, share_below_rounding(eigenvalues, rounding) - expected)


def share_below_rounding(eigenvalues: NDArray[np.float64], rounding: float) -> float:
    """Share of the eigenvalues at or below 3 N s^2."""
    return int(np.searchsorted(eigenvalues, rounded_to(eigenvalues, rounding), side="right")) / len(eigenvalues)
