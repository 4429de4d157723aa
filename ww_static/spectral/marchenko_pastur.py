"""The Marchenko-Pastur law: where the eigenvalues of W^T W / N lie when the entries of W are independent, of variance 1.

c = M/N, 0 < c <= 1; the law lives on [(1 - sqrt c)^2, (1 + sqrt c)^2]. Source: Marchenko, Pastur 1967.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_STEPS = 100  # of a search for quantiles, which needs about 10


def edges(c: float) -> tuple[float, float]:
    """(1 - sqrt c)^2 and (1 + sqrt c)^2."""
    root = math.sqrt(c)
    return (1 - root) ** 2, (1 + root) ** 2


def density(x: NDArray[np.float64], c: float) -> NDArray[np.float64]:
    """sqrt((b - x)(x - a)) / (2 pi c x) between the edges a and b, 0 outside; x > 0, float64, any shape."""
    a, b = edges(c)
    return np.asarray(np.sqrt(np.maximum((b - x) * (x - a), 0.0)) / (2 * np.pi * c * x))


def distribution(x: NDArray[np.float64], c: float) -> NDArray[np.float64]:
    """Share of the law at or below x, in closed form; x float64, any shape."""
    a, b = edges(c)
    x = np.clip(x, a, b)
    root = np.sqrt((b - x) * (x - a))
    # arctan2 holds at the edges, where the root is 0, and for c = 1, where the last term vanishes
    first = (1 + c) * np.arctan2(a + b - 2 * x, 2 * root)
    last = (1 - c) * np.arctan2(2 * a * b - (a + b) * x, 2 * (1 - c) * root)
    return np.asarray((np.pi * c + root - first + last) / (2 * np.pi * c))


@lru_cache(maxsize=256)
def quantiles(levels: tuple[float, ...], c: float) -> NDArray[np.float64]:
    """x with distribution(x, c) = level for levels inside (0, 1), to 1e-12; float64, shape of the levels, read-only."""
    wanted = np.array(levels)
    low, high = (np.full(len(wanted), edge) for edge in edges(c))
    x = low + wanted * (high - low)
    for _ in range(_STEPS):
        excess = distribution(x, c) - wanted
        low, high = np.where(excess < 0, x, low), np.where(excess < 0, high, x)
        with np.errstate(divide="ignore", invalid="ignore"):
            newton = x - excess / density(x, c)
        step = np.where((newton > low) & (newton < high), newton, 0.5 * (low + high))
        moved, x = float(np.max(np.abs(step - x))), step
        if moved <= 1e-14 * high[-1]:
            break
    x.flags.writeable = False
    return np.asarray(x)


def mean_log(c: float) -> float:
    """Mean of ln x: -1 - (1 - c)/c ln(1 - c), and -1 for c = 1."""
    return -1 - (1 - c) / c * math.log1p(-c) if c < 1 else -1.0
