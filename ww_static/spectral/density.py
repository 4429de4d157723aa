"""The ESD as curves: histograms, survival function, kernel density. Plot data, for those who ask for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 100
GRID = 256


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a curve or edges and heights of a histogram (one more edge than heights)."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]


def histogram(values: NDArray[np.float64]) -> Curve:
    """Counts in 100 equal bins between the extremes; they sum to the number of values."""
    counts, edges = np.histogram(values, BINS)
    return Curve(edges, counts.astype(np.float64))


def normalized_histogram(values: NDArray[np.float64]) -> Curve:
    """Density in 100 equal bins between the extremes; integral 1."""
    density, edges = np.histogram(values, BINS, density=True)
    return Curve(edges, density)


def survival(eigenvalues: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(X >= lambda_i) of ascending eigenvalues: (m - i)/m. Its log-log slope on a power law is -(alpha - 1)."""
    m = len(eigenvalues)
    return (m - np.arange(m)) / m


def kernel_density(values: NDArray[np.float64]) -> Curve:
    """Gaussian kernel density with Scott's bandwidth m^(-1/5) sd on 256 points, 4 bandwidths beyond the extremes.

    Args:
        values: float64, shape (m,), usually log10 of the positive eigenvalues; m >= 2 and not all equal.
    """
    bandwidth = float(values.std(ddof=1)) * len(values) ** -0.2
    grid = np.linspace(values.min() - 4 * bandwidth, values.max() + 4 * bandwidth, GRID)
    density = np.zeros(GRID)
    for start in range(0, len(values), 4096):
        z = (grid[:, None] - values[None, start : start + 4096]) / bandwidth
        density += np.exp(-0.5 * z * z).sum(axis=1)
    return Curve(grid, density / (len(values) * bandwidth * np.sqrt(2 * np.pi)))
