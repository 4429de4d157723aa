"""The power-law fit of the tail: every eigenvalue is tried as xmin, the smallest Kolmogorov-Smirnov distance wins.

Density p(x) = (alpha - 1)/xmin (x/xmin)^-alpha on [xmin, inf). Source: Clauset, Shalizi, Newman 2009, eq. 3.1 and 3.9;
the one-sided distance and the candidate set are weightwatcher's conventions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral import scan
from ww_static.spectral.missing import Missing

_CONSTANT = 1e-9  # spread of data that has no tail
_TIE = 1e-12  # distances closer than this are recomputed by the reference expression
_NEAR = 1e-9  # distances closer than this may be decided otherwise by another processor
_TYPICAL = 0.1  # share of the largest possible error of D that a difference of two reaches: three times the most seen


@dataclass(frozen=True, slots=True)
class TailFit:
    """A fitted tail.

    Attributes:
        alpha: exponent, dimensionless, > 1.
        xmin: smallest value of the tail, in the units of the data.
        D: Kolmogorov-Smirnov distance of data and fit.
        n: number of values that were fitted.
        k: tail size, counted by index: equal values are separate candidates.
        near_tie: another candidate, away from this one, has a distance within 1e-9; for uncertain values, another candidate at
            all, as near as their errors can bring it.
    """

    alpha: float
    xmin: float
    D: float
    n: int
    k: int
    near_tie: bool

    @property
    def kind(self) -> str:
        """The law: a power law."""
        return "PL"

    @property
    def sigma(self) -> float:
        """(alpha - 1)/sqrt(k): the standard error of alpha at a known xmin, no bias correction."""
        return float((self.alpha - 1) / np.sqrt(self.k))

    def alpha_error(self, doubt: float) -> float:
        """Most that errors of the values, each at most `doubt`, change alpha while the tail stays the same (first order).

        2 (alpha - 1)^2 doubt/xmin: no ln(x/xmin) changes by more than 2 doubt/xmin, and alpha = 1 + 1/(their mean).
        """
        return 2 * (self.alpha - 1) ** 2 * doubt / self.xmin

    def distance_error(self, doubt: float) -> float:
        """The same for D: 2.75 (alpha - 1) doubt/xmin, of the survival function (x/xmin)^(1 - alpha) at any x."""
        return (2 + 2 / np.e) * (self.alpha - 1) * doubt / self.xmin


@dataclass(frozen=True, slots=True)
class Candidates:
    """Every admissible or inadmissible xmin: arrays of shape (n - 1,), in the order of x.

    Attributes:
        xmin: the value.
        alpha: maximum-likelihood exponent; NaN where inadmissible.
        D: distance; 1 where inadmissible.
    """

    xmin: NDArray[np.float64]
    alpha: NDArray[np.float64]
    D: NDArray[np.float64]


def tail(eigenvalues: NDArray[np.float64], sides: int = 1, minimum_tail: int = 2, doubt: float = 0.0) -> TailFit | Missing:
    """The fit F(x, sides, t): the first candidate with the smallest distance.

    Candidate i = 0..n-2 has k = n - i >= t values; S_i = sum_{j>=i} ln(x_j/x_i); a_i = 1 + k/S_i;
    F_j = 1 - (x_j/x_i)^(1 - a_i); D_i = max_j |F_j - (j - i)/k|, and for sides = 2 also max_j |(j - i + 1)/k - F_j|.

    Args:
        eigenvalues: positive float64 values, any order; duplicates count.
        sides: 1 (weightwatcher) or 2 (the standard distance).
        minimum_tail: fewest values of a tail.
        doubt: most by which a value may be wrong, in units of the data: what counts as a near tie depends on it.

    Returns:
        The fit; or Missing: ``all_below_cut`` (no value), ``too_few_evals`` (fewer than two),
        ``constant_esd`` (spread at most 1e-9), ``fit_degenerate`` (no admissible candidate).

    Raises:
        ValueError: a value is not positive and finite, or sides is neither 1 nor 2.
    """
    if sides not in (1, 2):
        raise ValueError(f"sides is 1 or 2, not {sides}")
    x = np.sort(np.asarray(eigenvalues, dtype=np.float64).ravel())
    if len(x) and not (x[0] > 0 and np.isfinite(x[-1])):
        raise ValueError("a tail is fitted to positive finite values")
    if len(x) == 0:
        return Missing("all_below_cut")
    if len(x) < 2:
        return Missing("too_few_evals")
    if x[-1] - x[0] <= _CONSTANT * x[0]:
        return Missing("constant_esd")
    tails = scan.tails(x, minimum_tail)
    if len(tails.admissible) == 0:
        return Missing("fit_degenerate")
    near = scan.nearest(tails, sides, _NEAR)
    if not near.D.min() < 1:
        return Missing("fit_degenerate")
    ties, exact = _ties(x, tails, near.index, near.D, sides)
    winner = int(ties[int(np.argmin(exact))])
    away = bool(np.any(np.abs(x[near.index] / x[winner] - 1) > _NEAR))
    fit = TailFit(float(tails.alpha[winner]), float(x[winner]), float(exact.min()), len(x), len(x) - winner, away)
    slack = _TYPICAL * fit.distance_error(doubt)
    if away or slack <= _NEAR:
        return fit
    return replace(fit, near_tie=len(scan.nearest(tails, sides, slack).index) > 1)


def candidates(x: NDArray[np.float64], sides: int = 1, minimum_tail: int = 2) -> Candidates:
    """alpha and D of every candidate xmin: the curve `ks_D` against `ks_xmins`; its values are those of `tail`.

    Args:
        x: float64, shape (n,), n >= 2, ascending, all positive.
        sides, minimum_tail: as in `tail`.
    """
    tails = scan.tails(x, minimum_tail)
    D = np.ones(len(x) - 1)
    if len(tails.admissible):
        found = np.minimum(scan.distances(tails, sides), 1.0)
        D[tails.admissible] = found
        ties, exact = _ties(x, tails, tails.admissible, found, sides)
        D[ties] = exact
    return Candidates(x[:-1], tails.alpha, D)


def _ties(
    x: NDArray[np.float64], tails: scan.Tails, index: NDArray[np.intp], D: NDArray[np.float64], sides: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The candidates too close to the smallest D to tell apart, and their distances by the reference expression."""
    ties = index[scan.close_to_smallest(D, _TIE)]
    return ties, np.array([_reference_distance(x, int(i), float(tails.alpha[i]), sides) for i in ties])


def _reference_distance(x: NDArray[np.float64], i: int, alpha: float, sides: int) -> float:
    """D_i by the textbook expression, which decides ties."""
    points, k = x[i:], len(x) - i
    with np.errstate(over="ignore"):  # a ratio beyond float64 has the share 0 in the tail, which is what comes out
        fitted = 1 - (points / x[i]) ** (1 - alpha)
    distance = float(np.max(np.abs(fitted - np.arange(k) / k)))
    if sides == 2:
        distance = max(distance, float(np.max(np.abs(np.arange(1, k + 1) / k - fitted))))
    return distance
