"""Hill's exponent of the upper half of a spectrum, and what it is for noise of the same shape.

Source: TempBalance (Zhou et al. 2023) and AlphaPruning (Lu et al. 2024) for the half; Hill 1975.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral import marchenko_pastur
from ww_static.spectral.missing import Missing


def hill(eigenvalues: NDArray[np.float64], floor: float) -> float | Missing:
    """1 + (m - i)/sum_{j>=i} ln(lambda_j/lambda_i), i = floor(m/2).

    Args:
        eigenvalues: float64, shape (m,), ascending, no cut.
        floor: what is at or below it is noise of the computation.

    Returns:
        The exponent; or Missing: ``zero_matrix``, ``below_spectral_floor`` (lambda_i is), ``constant_esd``.
    """
    m = len(eigenvalues)
    i = m // 2
    if m == 0 or not eigenvalues[-1] > 0:
        return Missing("zero_matrix")
    if not eigenvalues[i] > floor:
        return Missing("below_spectral_floor")
    upper = eigenvalues[i:]
    if upper[-1] - upper[0] <= 1e-9 * upper[0]:
        return Missing("constant_esd")
    return 1 + (m - i) / float(np.sum(np.log(upper / upper[0])))


@lru_cache(maxsize=256)
def hill_of_noise(Q: float) -> float:
    """The exponent of the Marchenko-Pastur law: 1 + 0.5/(integral of ln(x/median) over the upper half), Q = N/M >= 1."""
    c = 1 / Q
    (median,) = marchenko_pastur.quantiles((0.5,), c)
    _, top = marchenko_pastur.edges(c)
    # x = top - (top - median) t^2: the law ends like a root, so that the integrand is smooth in t
    nodes, weights = np.polynomial.legendre.leggauss(64)
    t = 0.5 * (nodes + 1)
    x = top - (top - median) * t**2
    values = np.log(x / median) * marchenko_pastur.density(x, c) * 2 * (top - median) * t
    return 1 + 0.5 / (0.5 * math.fsum((weights * values).tolist()))
