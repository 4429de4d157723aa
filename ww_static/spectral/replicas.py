"""Fits of samples drawn anew: how much alpha varies (bootstrap), and how often a power law fits its own data no better (p).

Sources: Efron 1979; Clauset, Shalizi, Newman 2009, section 4. xmin is selected anew in every replica.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral import batch
from ww_static.spectral.missing import Missing
from ww_static.spectral.powerlaw import TailFit, tail

BOOTSTRAPS = 200
GOF_REPLICAS = 100
GOF_TAIL = 50  # with a minimum of 10 the test has no power
GOF_FEWEST = 100
REJECTED = 0.1  # p below which the tail is no power law
_SMALL = 160  # up to here the replicas are fitted side by side
_TOGETHER = 64
_LARGEST_LOG = 700.0

Refit = Callable[[NDArray[np.float64]], TailFit | Missing]
Generators = Callable[[int], np.random.Generator]  # replica -> its own generator, whoever asks and in whatever order


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The spread of alpha over samples drawn with replacement.

    Attributes:
        sd: standard deviation, ddof 1.
        lo: 2.5th percentile.
        hi: 97.5th percentile.
        replicas: samples that had a fit.
    """

    sd: float
    lo: float
    hi: float
    replicas: int


def bootstrap(
    x: NDArray[np.float64], generators: Generators, replicas: int = BOOTSTRAPS, refit: Refit | None = None
) -> Bootstrap | Missing:
    """Refits F(x*, 1, 2), or another law, to samples x* of x of the same size, drawn with replacement.

    Args:
        x: the values that were fitted, float64, shape (n,), ascending, positive.
        generators: of each replica.
        replicas: how many, B.
        refit: the other law, of ascending values.

    Returns:
        The spread; or Missing ``fit_degenerate``: half of the samples have no fit.
    """
    n = len(x)

    def sample(r: int) -> NDArray[np.float64]:
        return x[generators(r).integers(n, size=n)]

    if refit is None:
        alpha, _ = _refitted(sample, replicas, n, 1, 2)
    else:
        alpha = np.array([_pair(refit(np.sort(sample(r))))[0] for r in range(replicas)])
    found = alpha[np.isfinite(alpha)]
    if 2 * len(found) <= replicas or len(found) < 2:
        return Missing("fit_degenerate")
    lo, hi = np.percentile(found, (2.5, 97.5))
    return Bootstrap(float(found.std(ddof=1)), float(lo), float(hi), len(found))


@dataclass(frozen=True, slots=True)
class GoodnessOfFit:
    """A fit and how often a power law fits its own data no better.

    Attributes:
        fit: F(x, 2, 50).
        p: share of replicas with D* >= D; below 0.1 the power law is rejected.
        replicas: how many.
    """

    fit: TailFit
    p: float
    replicas: int


def gof_fit(x: NDArray[np.float64]) -> TailFit | Missing:
    """F(x, 2, 50), which the test of fit looks at; ``too_few_evals`` for fewer than 100 values."""
    return tail(x, sides=2, minimum_tail=GOF_TAIL) if len(x) >= GOF_FEWEST else Missing("too_few_evals")


def goodness_of_fit(x: NDArray[np.float64], generators: Generators, replicas: int = GOF_REPLICAS) -> GoodnessOfFit | Missing:
    """p: the share of replicas whose own fit F(x*, 2, 50) is at least as far off, D* >= D.

    A replica has Binomial(n, k/n) values of the fitted tail, xmin (1 - U)^(-1/(alpha - 1)), and the rest drawn with replacement
    from the data below xmin. A replica without a fit counts as far off.

    Args:
        x: float64, shape (n,), ascending, positive.
        generators: of each replica.
        replicas: how many, B.

    Returns:
        The fit and p; or Missing as `gof_fit`.
    """
    fit = gof_fit(x)
    if isinstance(fit, Missing):
        return fit
    body = x[: int(np.searchsorted(x, fit.xmin, side="left"))]
    _, D = _refitted(lambda r: _drawn(generators(r), body, fit), replicas, fit.n, 2, GOF_TAIL)
    return GoodnessOfFit(fit, int(np.count_nonzero(~(fit.D > D))) / replicas, replicas)


def _drawn(generator: np.random.Generator, body: NDArray[np.float64], fit: TailFit) -> NDArray[np.float64]:
    count = int(generator.binomial(fit.n, fit.k / fit.n)) if len(body) else fit.n
    values = np.empty(fit.n)
    # -ln(1 - U) is a standard exponential number; what would leave float64 is cut off
    logs = math.log(fit.xmin) + generator.standard_exponential(count) / (fit.alpha - 1)
    np.exp(np.minimum(logs, _LARGEST_LOG), out=values[:count])
    if count < fit.n:
        values[count:] = body[generator.integers(len(body), size=fit.n - count)]
    return values


def _refitted(
    sample: Callable[[int], NDArray[np.float64]], replicas: int, n: int, sides: int, minimum_tail: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """alpha and D of every replica, samples of n values in any order; NaN where there is no fit."""
    alpha, D = np.empty(replicas), np.empty(replicas)
    if n > _SMALL:
        for r in range(replicas):
            alpha[r], D[r] = _pair(tail(sample(r), sides, minimum_tail))
        return alpha, D
    for start in range(0, replicas, _TOGETHER):
        some = range(start, min(start + _TOGETHER, replicas))
        x = np.sort(np.stack([sample(r) for r in some]), axis=1)
        found = batch.fits(x, sides, minimum_tail)
        alpha[some.start : some.stop], D[some.start : some.stop] = found.alpha, found.D
        for place in np.flatnonzero(found.close):
            alpha[start + place], D[start + place] = _pair(tail(x[place], sides, minimum_tail))
    return alpha, D


def _pair(fit: TailFit | Missing) -> tuple[float, float]:
    return (math.nan, math.nan) if isinstance(fit, Missing) else (fit.alpha, fit.D)
