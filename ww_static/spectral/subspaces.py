"""Two orthonormal bases of one space compared: principal angles, vectors that kept their place, vectors that are new."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

INTRUDES = 0.5  # a vector whose |cos| with every old one is below is an intruder


@dataclass(frozen=True, slots=True)
class Agreement:
    """How alike k leading vectors of two matrices are, of length d.

    Attributes:
        overlap: mean cos^2 of the principal angles, ||Ua^T Ub||_F^2 / k; k/d for unrelated ones.
        agreement: mean |cos| of vectors of the same place; 1/sqrt(d) or so for unrelated ones.
        best_match: mean over the vectors of a of the largest |cos| with any of b; about sqrt(2 ln(k)/d) for unrelated ones.
        max_angle: the largest principal angle, radians.
    """

    overlap: float
    agreement: float
    best_match: float
    max_angle: float


def agreement(Ua: NDArray[np.float64], Ub: NDArray[np.float64]) -> Agreement:
    """Compares two bases, float64, shape (d, k) each, columns orthonormal, in the order of their singular values."""
    cosines = Ua.T @ Ub
    size = np.abs(cosines)
    beyond = Ub - Ua @ cosines  # its norm is the sine of the largest angle, exact where the cosine is near 1
    sine = min(1.0, float(np.linalg.norm(beyond, 2)))
    least = min(1.0, float(np.linalg.svd(cosines, compute_uv=False)[-1]))
    return Agreement(
        overlap=min(1.0, float(np.sum(cosines * cosines)) / Ua.shape[1]),
        agreement=min(1.0, float(np.mean(np.diagonal(size)))),
        best_match=min(1.0, float(np.mean(size.max(axis=1)))),
        max_angle=math.asin(sine) if sine < math.sqrt(0.5) else math.acos(least),
    )


def intruders(cosines: NDArray[np.float64]) -> tuple[int, NDArray[np.bool_]]:
    """Vectors of b that no known vector of a explains.

    Args:
        cosines: of every known vector of a (rows) with the vectors of b (columns), float64.

    Returns:
        How many vectors of b have |cos| < 0.5 with every vector of a, known or not; and which are undecided: a vector of a
        that is not known may explain them.

    Source: Shuttleworth, Andreas, Torralba, Sharma 2024 (2410.21228), intruder dimensions.
    """
    squares = cosines * cosines
    new = squares.max(axis=0) < INTRUDES**2
    left = 1.0 - squares.sum(axis=0)  # what all unknown vectors together can hold
    undecided = new & (left >= INTRUDES**2)
    return int(np.count_nonzero(new & ~undecided)), undecided
