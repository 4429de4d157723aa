"""Hard, effective and entropic ranks; a rank that rounding could change is not reported."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral.eigen import EPS, Spectrum
from ww_static.spectral.missing import Missing

_DOUBT = 1.5  # how near to its threshold a singular value may be before rounding decides


def hard_rank(spectra: Sequence[Spectrum]) -> int | Missing:
    """#{sigma > sigma_max N eps} over the pooled singular values (numpy's and weightwatcher's threshold).

    Missing ``below_spectral_floor`` when an eigenvalue lies below the floor of the Gram matrix (or of factors that cancel), or when a singular
    value lies within a factor of 1.5 of the threshold, where rounding decides.
    """
    sigma = np.concatenate([np.sqrt(one.eigenvalues) for one in spectra])
    return _rank(sigma, max(one.n for one in spectra), _resolved(spectra))


def rank_loss(spectra: Sequence[Spectrum]) -> int | Missing:
    """Sum over matrices of M minus the rank of that matrix, each against its own largest singular value."""
    loss = 0
    for one in spectra:
        rank = _rank(np.sqrt(one.eigenvalues), one.n, _resolved([one]))
        if isinstance(rank, Missing):
            return rank
        loss += len(one.eigenvalues) - rank
    return loss


def _resolved(spectra: Sequence[Spectrum]) -> bool:
    return not any(one.unresolved for one in spectra)


def _rank(sigma: NDArray[np.float64], n: int, resolved: bool) -> int | Missing:
    threshold = float(sigma.max()) * n * EPS
    if threshold == 0:
        return 0
    if not resolved or np.any((sigma > threshold / _DOUBT) & (sigma < threshold * _DOUBT)):
        return Missing("below_spectral_floor")
    return int(np.count_nonzero(sigma > threshold))


def matrix_entropy(eigenvalues: NDArray[np.float64], rank: int) -> float | Missing:
    """-sum p ln p / ln(rank + 1e-10), p = lambda/sum lambda + 1e-10, not renormalized: in [0, 1] up to that constant.

    Rank 1 gives 0, rank 0 has none. Source: weightwatcher's matrix entropy, kept with its constants.
    """
    if rank == 0:
        return Missing("zero_matrix")
    if rank == 1:
        return 0.0
    p = eigenvalues / eigenvalues.sum() + 1e-10
    return float(-np.sum(p * np.log(p)) / np.log(rank + 1e-10))


def effective_rank(weights: NDArray[np.float64]) -> float | Missing:
    """exp(-sum p ln p), p = weights/sum weights, 0 ln 0 = 0 (Roy and Vetterli 2007 with weights = sigma)."""
    total = float(weights.sum())
    if not total > 0:
        return Missing("zero_matrix")
    p = weights / total
    p = p[p > 0]  # a weight that vanishes beside the total adds nothing
    return float(np.exp(-np.sum(p * np.log(p))))
