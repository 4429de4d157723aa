"""Rank correlation of two short series, and how far it can be trusted: Spearman, Kendall, and their bootstrap interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral.missing import Missing

RESAMPLES = 1000
FEWEST = 3
_LEAST_SHARE = 0.5  # of the resamples that must have a correlation at all

Series = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Correlation:
    """A coefficient between -1 and 1, and the 2.5th and 97.5th percentile of it over resampled pairs, or None where too few have one."""

    value: float
    low: float | None
    high: float | None


def spearman(x: Series, y: Series) -> float | Missing:
    """Pearson's correlation of the ranks, equal values sharing their mean rank. Missing ``constant`` when a series has one value."""
    a, b = _ranks(x), _ranks(y)
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return max(-1.0, min(1.0, float(a @ b) / size)) if size > 0 else Missing("constant")


def kendall(x: Series, y: Series) -> float | Missing:
    """Kendall's tau-b: concordant less discordant pairs over the root of the pairs without ties in x, and in y."""
    a, b = np.sign(x[:, None] - x[None, :]), np.sign(y[:, None] - y[None, :])
    size = float(np.sqrt(np.sum(a * a) * np.sum(b * b)))
    return max(-1.0, min(1.0, float(np.sum(a * b)) / size)) if size > 0 else Missing("constant")


def correlation(
    x: Series, y: Series, of: Callable[[Series, Series], float | Missing], generator: np.random.Generator
) -> Correlation | Missing:
    """A coefficient with the interval of 1000 resamples of the pairs with replacement.

    Args:
        x, y: float64, shape (n,), finite.
        of: `spearman` or `kendall`.
        generator: draws the resamples.

    Returns:
        The correlation; Missing ``too_few`` below 3 pairs, ``constant`` when a series has one value only.

    Source: Efron 1979; the percentile interval is too narrow for n below about 10.
    """
    n = len(x)
    if n < FEWEST:
        return Missing("too_few")
    value = of(x, y)
    if isinstance(value, Missing):
        return value
    drawn = [of(x[places], y[places]) for places in generator.integers(0, n, (RESAMPLES, n))]
    known = [one for one in drawn if not isinstance(one, Missing)]
    if len(known) < _LEAST_SHARE * RESAMPLES:
        return Correlation(value, None, None)
    low, high = np.percentile(known, (2.5, 97.5))
    return Correlation(value, float(low), float(high))


def _ranks(values: Series) -> Series:
    """Ranks from 1, ties sharing their mean."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Series = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks
