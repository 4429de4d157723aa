"""How well a tail could fit that begins among values nobody knows, whatever they are: a lower bound of its distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_POINTS = 200  # at which the gap is looked at; fewer give a smaller bound, which is still one
_LEAST, _MOST, _COARSE, _FINE = 0.01, 30.0, 64, 24  # alpha - 1: its range, and how many are tried, then between the best
_STEPS = 40  # of the search for the amplitude
_GRID = 0.95  # of the smallest distance that is found: between the slopes that are tried it may be a little smaller


def least_distance(known: NDArray[np.float64], unknown: int) -> float:
    """A lower bound of D of every candidate for xmin that is one of `unknown` smaller values.

    Above the smallest known value such a fit is a power law with any amplitude: A (x/x_0)^(1 - alpha) against (r - j)/k, j the
    place of x among r known values, k <= r + unknown. The bound is the smallest largest gap over all A and alpha.

    Args:
        known: float64, shape (r,), ascending, positive, r >= 1.
        unknown: how many values are smaller.
    """
    r = len(known)
    places = np.unique(np.linspace(0, r - 1, min(r, _POINTS)).astype(np.intp))
    counts, logs = (r - places).astype(np.float64), np.log(known[places] / known[0])
    slopes = np.geomspace(_LEAST, _MOST, _COARSE)
    for count in (_FINE, _FINE, 0):
        gaps = _gaps(slopes, logs, counts)
        best = int(gaps.argmin())
        if count:
            slopes = np.geomspace(slopes[max(best - 1, 0)], slopes[min(best + 1, len(slopes) - 1)], count)
    return _GRID * float(gaps.min()) / (r + unknown)


def _gaps(slopes: NDArray[np.float64], logs: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """min over A of max_j |A exp(-slope logs_j) - counts_j|, which is convex in A, for each slope."""
    g = np.exp(-slopes[:, None] * logs[None, :])
    low, high = np.zeros(len(g)), np.full(len(g), 2.0 * counts[0])
    for _ in range(_STEPS):
        third = (high - low) / 3
        left, right = (np.abs(A[:, None] * g - counts).max(axis=1) for A in (low + third, high - third))
        better = left <= right
        low, high = np.where(better, low, low + third), np.where(better, high - third, high)
    return np.asarray(np.abs((0.5 * (low + high))[:, None] * g - counts).max(axis=1))
