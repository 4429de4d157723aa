"""The Tracy-Widom law of real matrices: how far above the Marchenko-Pastur edge the largest eigenvalue of noise may lie."""

from __future__ import annotations

import math
from functools import lru_cache

MEAN, SD = -1.2065, 1.2680  # of the law
MOST = 0.1  # upper-tail probability that `quantile` is made for

# Upper-tail probability -> quantile of the law (beta = 1)
_QUANTILES = {0.05: 0.9793, 0.01: 2.0234, 0.001: 3.2724}
# A gamma law of the same three moments, shifted, for other probabilities: error at most 0.03. Source: Chiani 2014, table 1.
_SHAPE, _SCALE, _SHIFT = 46.446, 0.186054, 9.84801


@lru_cache(maxsize=256)
def quantile(probability: float) -> float:
    """The z that is exceeded with this probability, at most 0.1."""
    if probability in _QUANTILES:
        return _QUANTILES[probability]
    low, high = _SHAPE, 40 * _SHAPE
    for _ in range(80):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _gamma_tail(middle) > probability else (low, middle)
    return 0.5 * (low + high) * _SCALE - _SHIFT


def _gamma_tail(x: float) -> float:
    """P(X > x) of the gamma law with the shape above and scale 1, by Legendre's continued fraction; x >= shape."""
    b = x + 1 - _SHAPE
    c, d = 1e300, 1 / b
    product = d
    for i in range(1, 500):
        term = -i * (i - _SHAPE)
        b += 2
        d = 1 / (term * d + b)
        c = b + term / c
        product *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return product * math.exp(_SHAPE * math.log(x) - x - math.lgamma(_SHAPE))


def tail(z: float) -> float:
    """P(X > z) of the law (beta = 1), by the same gamma law: error at most 0.004, and 15 % of a probability above 1e-6."""
    x = (z + _SHIFT) / _SCALE
    if x <= 0:
        return 1.0
    return _gamma_tail(x) if x > _SHAPE else 1 - _gamma_head(x)


def _gamma_head(x: float) -> float:
    """P(X <= x) of the gamma law with the shape above and scale 1, by its power series; 0 < x <= shape."""
    term = total = 1 / _SHAPE
    denominator = _SHAPE
    while term > 1e-17 * total:
        denominator += 1
        term *= x / denominator
        total += term
    return total * math.exp(_SHAPE * math.log(x) - x - math.lgamma(_SHAPE))


def p_value(value: float, n: float, m: float, matrices: int = 1) -> float:
    """Probability that the largest eigenvalue of noise of variance 1 is at least `value`, over that many matrices."""
    z = (value - center(n, m)) / width(n, m)
    return -math.expm1(matrices * math.log1p(-min(tail(z), 1 - 2**-53)))


def center(n: float, m: float) -> float:
    """mu = (sqrt(n - 1/2) + sqrt(m - 1/2))^2, of noise with sides n and m, at least 1, and variance 1."""
    return (math.sqrt(n - 0.5) + math.sqrt(m - 0.5)) ** 2


def width(n: float, m: float) -> float:
    """tau = sqrt(mu) (1/sqrt(n - 1/2) + 1/sqrt(m - 1/2))^(1/3), of the same."""
    a, b = math.sqrt(n - 0.5), math.sqrt(m - 0.5)
    return (a + b) * math.cbrt(1 / a + 1 / b)


def edge(n: float, m: float, probability: float) -> float:
    """Largest eigenvalue of W^T W that noise of variance 1 exceeds with this probability: mu + z tau.

    Args:
        n, m: sides of W, at least 1.
        probability: at most 0.1.

    Source: Johnstone 2001; Ma 2012 for the halves.
    """
    return center(n, m) + quantile(probability) * width(n, m)
