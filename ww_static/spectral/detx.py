"""det X = 1: how many of the largest eigenvalues, rescaled to mean 1, multiply to less than one.

Source: SETOL (arXiv 2507.17912), the effective correlation space; index rule of weightwatcher.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral.missing import Missing

_CONSTANT = 1e-9


@dataclass(frozen=True, slots=True)
class DetX:
    """The effective correlation space.

    Attributes:
        num: eigenvalues in it, the one that pushes the product below 1 included.
        value: the smallest of them, in ESD units.
        rescaled: the same after rescaling to mean 1.
    """

    num: int
    value: float
    rescaled: float


def detx(
    eigenvalues: NDArray[np.float64], rescale: bool = True, missing: int = 0, total: float | None = None
) -> DetX | Missing:
    """num = first k >= 1 with sum of ln e over the k largest below 0, m when there is none; ln 0 = -inf.

    Args:
        eigenvalues: float64, shape (m - missing,), ascending, all >= 0.
        rescale: e = lambda m / sum lambda; e = lambda when false.
        missing: how many smaller eigenvalues are not known.
        total: the sum of all m; that of the eigenvalues when none is missing.

    Returns:
        The space; or Missing: ``too_few_evals`` (m < 2), ``zero_matrix``, ``constant_esd`` (spread at most 1e-9; the largest is
        the mean when some are missing), ``truncated_spectrum`` (it ends among those that are missing).

    Raises:
        ValueError: the eigenvalues are not ascending, finite and >= 0; or some are missing and the total is, too.
    """
    eigenvalues = np.asarray(eigenvalues, np.float64)
    if len(eigenvalues) and not (eigenvalues[0] >= 0 and np.isfinite(eigenvalues[-1]) and np.all(np.diff(eigenvalues) >= 0)):
        raise ValueError("eigenvalues are ascending, finite and not negative")
    if missing and total is None:
        raise ValueError("the sum of all eigenvalues is not that of some")
    m = len(eigenvalues) + missing
    if m < 2 or len(eigenvalues) == 0:
        return Missing("too_few_evals")
    total = float(eigenvalues.sum()) if total is None else total
    if not total > 0:
        return Missing("zero_matrix")
    smallest = total / m if missing else eigenvalues[0]  # a largest eigenvalue that is the mean leaves room for no other
    if eigenvalues[-1] - smallest <= _CONSTANT * smallest:
        return Missing("constant_esd")
    descending = eigenvalues[::-1]
    e = descending * (m / total) if rescale else descending
    with np.errstate(divide="ignore"):
        below = np.flatnonzero(np.cumsum(np.log(e)) < 0)
    if missing and len(below) == 0:
        return Missing("truncated_spectrum")
    k = int(below[0]) + 1 if len(below) else m
    return DetX(k, float(descending[k - 1]), float(e[k - 1]))
