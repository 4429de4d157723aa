"""Other laws of the same tail, fitted by maximum likelihood, and whether the data prefer one of them to the power law.

All are densities on [xmin, inf). With t = x/xmin and u = ln t every log-likelihood is linear in u, t, u^2 or t^b. Sources: Clauset, Shalizi,
Newman 2009, table 2.1; Vuong 1989 for the ratios.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral.families import LOGNORMAL, TRUNCATED, Point, fitted, log_likelihood
from ww_static.spectral.missing import Missing
from ww_static.spectral.powerlaw import TailFit

FEWEST = 10
SIGNIFICANT = 0.1
_LOWEST_B, _HIGHEST_B = 1e-6, 5.0
_LARGEST_LOG = 600.0  # of t^b
_STEPS = 200


@dataclass(frozen=True, slots=True)
class Ratio:
    """A law against the power law.

    Attributes:
        R: sum(l_PL - l_alt)/(sqrt(k) sd), sd with ddof 0; of the truncated power law, which contains it, the sum. R > 0
            favours the power law, R < 0 the other.
        p: probability of a ratio that far from 0 when neither is better.
        log_likelihood: of the other law, of the whole tail, density in t.
    """

    R: float
    p: float
    log_likelihood: float

    @property
    def is_better(self) -> bool:
        """Whether the data prefer the other law, significantly."""
        return self.R < 0 and self.p < SIGNIFICANT


@dataclass(frozen=True, slots=True)
class StretchedExponential:
    """b r t^(b-1) exp(-r (t^b - 1)), b in (0, 5]."""

    b: float
    rate: float


@dataclass(frozen=True, slots=True)
class Alternatives:
    """The fits, in units of xmin, and their ratios.

    Attributes:
        log_likelihood: of the power law of that tail, density in t.
        mean_log: mean of u; the exponent of the power law is 1 + 1/mean_log.
        exponential: rate of r exp(-r (t - 1)).
        lognormal: h1, h2 of exp(-h1 u - h2 u^2): variance 1/(2 h2), mean -h1/(2 h2) of u before it is cut.
        stretched: the stretched exponential.
        truncated: a - 1 and L of t^-a exp(-L t); None where L = 0.
        ratios: by name: ``exp``, ``ln``, ``sexp``, ``tpl``.
    """

    log_likelihood: float
    mean_log: float
    exponential: float
    lognormal: Point | None
    stretched: StretchedExponential | None
    truncated: Point | None
    ratios: dict[str, Ratio]


def alternatives(x: NDArray[np.float64], fit: TailFit) -> Alternatives | Missing:
    """Fits the alternatives to the tail of a fit of x.

    Args:
        x: the values that were fitted, float64, shape (n,), ascending, positive.
        fit: of x; xmin and the tail are its.

    Returns:
        The fits; or Missing ``tail_too_short`` for fewer than 10 values.
    """
    if fit.k < FEWEST:
        return Missing("tail_too_short")
    t = x[len(x) - fit.k :] / fit.xmin
    u = np.log(t)
    mean_u, mean_t, mean_uu = float(u.mean()), float((t - 1).mean()), float((u * u).mean())
    c = 1 / mean_u
    power = math.log(c) - (c + 1) * u
    rate = 1 / mean_t
    ratios = {"exp": _vuong(power, math.log(rate) - rate * (t - 1))}
    normal = fitted(LOGNORMAL, mean_u, mean_uu, 2 * mean_u**2)
    if normal is not None:
        ratios["ln"] = _vuong(power, -(normal.a + 1) * u - normal.b * u * u - normal.log_z)
    stretched = _stretched(u)
    if stretched is not None:
        b, r = stretched.b, stretched.rate
        ratios["sexp"] = _vuong(power, math.log(b * r) + (b - 1) * u - r * np.expm1(b * u))
    truncated = fitted(TRUNCATED, mean_u, mean_t, 1 / (c - 1) if c > 1 else math.inf)
    best, own = float(power.sum()), 0.0
    if truncated is not None:
        own = fit.k * (log_likelihood(truncated, mean_u, mean_t) - mean_u) - best
    if own <= 0:  # rounding, or a power law steeper than the range of the cut-off's exponent
        own, truncated = 0.0, None
    ratios["tpl"] = Ratio(-own, math.erfc(math.sqrt(own)), best + own)
    return Alternatives(best, mean_u, rate, normal, stretched, truncated, ratios)


def best_fit(found: Alternatives, gof_p: float | None) -> str:
    """The name of the law that the data prefer.

    Args:
        found: the fits.
        gof_p: of the power law, when it was tested.

    Returns:
        ``exponential``, ``lognormal``, ``stretched_exponential`` or ``truncated_power_law``: the one of largest likelihood of those that are
        significantly better; else ``none`` when the test rejects the power law; else ``power_law`` when it is significantly better
        than some other; else ``undecided``.
    """
    better = {name: ratio for name, ratio in found.ratios.items() if ratio.is_better}
    if better:
        return _NAMES[max(better, key=lambda name: better[name].log_likelihood)]
    if gof_p is not None and gof_p < SIGNIFICANT:
        return "none"
    return "power_law" if any(one.R > 0 and one.p < SIGNIFICANT for one in found.ratios.values()) else "undecided"


_NAMES = {"exp": "exponential", "ln": "lognormal", "sexp": "stretched_exponential", "tpl": "truncated_power_law"}


def _vuong(power: NDArray[np.float64], other: NDArray[np.float64]) -> Ratio:
    """The ratio of two laws of which neither contains the other, from their log-densities at each value."""
    difference = power - other
    spread = float(difference.std())
    R = float(difference.sum()) / (math.sqrt(len(difference)) * spread) if spread > 0 else 0.0
    return Ratio(R, math.erfc(abs(R) / math.sqrt(2)), float(other.sum()))


def _stretched(u: NDArray[np.float64]) -> StretchedExponential | None:
    """The stretched exponential; None when the likelihood falls from b = 0 on, where it is the power law.

    For a given b the rate is k/S, S = sum(t^b - 1). The slope of the log-likelihood in b, k/b - k S'/S + sum u, is followed by
    Newton steps inside a bracket, for it need not be monotone.
    """
    k, total = len(u), float(u.sum())

    def slope(b: float) -> tuple[float, float]:
        powers = np.exp(b * u)
        S, S1, S2 = float(np.expm1(b * u).sum()), float((u * powers).sum()), float((u * u * powers).sum())
        return k / b - k * S1 / S + total, -k / b**2 - k * (S2 / S - (S1 / S) ** 2)

    low, high = _LOWEST_B, min(_HIGHEST_B, _LARGEST_LOG / float(u.max()))
    if not slope(low)[0] > 0:
        return None
    b = high if slope(high)[0] >= 0 else 0.5 * min(1.0, high)
    for _ in range(_STEPS if b < high else 0):
        value, change = slope(b)
        low, high = (b, high) if value > 0 else (low, b)
        step = b - value / change if change < 0 else math.nan
        following = step if low < step < high else 0.5 * (low + high)
        if abs(following - b) <= 1e-14 * b:
            break
        b = following
    return StretchedExponential(b, k / float(np.expm1(b * u).sum()))
