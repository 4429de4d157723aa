"""What alpha would be if the fit were made a little differently: another distance, a bounded law, without the largest values.

None of these repairs a fit; each shows how much it depends on one choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral import scan
from ww_static.spectral.missing import Missing
from ww_static.spectral.powerlaw import TailFit, tail

DROPS = (1, 2, 5, 10)
_NEAR_MINIMUM = 0.1  # local minima of D within this share of the smallest are counted
_HIGHEST = 20.0  # of the bounded exponent; the lowest is 0
_STEPS = 200
_SERIES = 1e-4  # below it the bounded mean is 1/2 - z/12


@dataclass(frozen=True, slots=True)
class Variants:
    """What else could have been fitted.

    Attributes:
        two_sided: the two-sided distance at the alpha and xmin of the fit.
        minima: alpha at the local minima of D against xmin that are nearly as good as the best, float64.
        bounded: exponent of the law that ends at the largest value.
        dropped: F without the largest 1, 2, 5 and 10 values.
    """

    two_sided: float
    minima: NDArray[np.float64]
    bounded: float | Missing
    dropped: tuple[TailFit | Missing, ...]

    @property
    def spread(self) -> float:
        """Largest less smallest alpha of the local minima."""
        return float(self.minima.max() - self.minima.min())


def variants(x: NDArray[np.float64], fit: TailFit, fewest: int) -> Variants:
    """The other fits of x.

    Args:
        x: the values that were fitted, float64, shape (n,), ascending, positive.
        fit: of them, F(x, 1, 2).
        fewest: values that a fit needs.
    """
    return Variants(two_sided_distance(x, fit), local_minima(x), bounded_alpha(x, fit), fits_without_largest(x, fewest))


def robust_fit(x: NDArray[np.float64]) -> TailFit | Missing:
    """F(x, 2, t), t = max(10, floor(0.02 n)): two-sided, and no shorter tails; ``too_few_evals`` for n < 2 t."""
    t = max(10, len(x) // 50)
    return tail(x, sides=2, minimum_tail=t) if len(x) >= 2 * t else Missing("too_few_evals")


def fits_without_largest(x: NDArray[np.float64], fewest: int) -> tuple[TailFit | Missing, ...]:
    """F(x without the largest k, 1, 2) for k = 1, 2, 5, 10; ``too_few_evals`` where fewer than max(fewest, 2 k) values are left.

    Args:
        x: float64, shape (n,), ascending, positive.
        fewest: values that a fit needs.
    """

    def fit(k: int) -> TailFit | Missing:
        return tail(x[: len(x) - k]) if len(x) - k >= max(fewest, 2 * k) else Missing("too_few_evals")

    return tuple(fit(k) for k in DROPS)


def two_sided_distance(x: NDArray[np.float64], fit: TailFit) -> float:
    """max_j of |F_j - j/k| and |(j + 1)/k - F_j| at the alpha and xmin of a fit of x, ascending. Clauset et al. 2009, eq. 3.9."""
    points = x[len(x) - fit.k :]
    fitted = -np.expm1((1 - fit.alpha) * np.log(points / fit.xmin))
    steps = np.arange(fit.k + 1) / fit.k
    return float(max(np.max(fitted - steps[:-1]), np.max(steps[1:] - fitted)))


def local_minima(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """alpha at every local minimum of D against xmin that is within 10 % of the smallest; float64, at least one.

    A local minimum is below the candidates on both sides; of neighbours with the same D the first counts. The candidates that
    are nearly as good as the best one are found without computing the others.

    Args:
        x: float64, shape (n,), n >= 2, ascending, positive, with at least one admissible candidate.
    """
    tails = scan.tails(x, 2)
    best = float(scan.nearest(tails, 1, 0.0).D.min())
    near = scan.nearest(tails, 1, _NEAR_MINIMUM * best)
    curve = np.full(len(x) + 1, np.inf)  # one place more on either side; what is left out is higher
    curve[near.index + 1] = near.D
    low = (curve[near.index] > near.D) & (near.D <= curve[near.index + 2])
    return tails.alpha[near.index[low]]


def bounded_alpha(x: NDArray[np.float64], fit: TailFit) -> float | Missing:
    """Maximum-likelihood a of p(x) = (a - 1)/(xmin^(1-a) - xmax^(1-a)) x^-a on [xmin, max x], a in (0, 20].

    With z = (a - 1) U, U = ln(xmax/xmin), the mean of ln(x/xmin)/U is 1/z - 1/(e^z - 1), which falls from 1 to 0 as z rises.
    At a = 1 it is 1/2, the limit.

    Args:
        x: float64, shape (n,), ascending, positive.
        fit: of x; xmin and the tail are its.

    Returns:
        a; or Missing: ``alpha_at_bound``, ``fit_degenerate`` (all values of the tail are equal).
    """
    u = np.log(x[len(x) - fit.k :] / fit.xmin)
    U = float(u[-1])
    if not U > 0:
        return Missing("fit_degenerate")
    wanted = float(u.mean()) / U
    low, high = -U, (_HIGHEST - 1) * U
    if not _bounded_mean(high) < wanted < _bounded_mean(low):
        return Missing("alpha_at_bound")
    for _ in range(_STEPS):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if _bounded_mean(middle) > wanted else (low, middle)
    return 1 + 0.5 * (low + high) / U


def _bounded_mean(z: float) -> float:
    """1/z - 1/(e^z - 1)."""
    if abs(z) < _SERIES:
        return 0.5 - z / 12
    return 1 / z - (1 / math.expm1(z) if z < 700 else 0.0)
