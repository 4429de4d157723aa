"""The bulk of an ESD and what stands out of it: a robust variance, Marchenko-Pastur and Tracy-Widom edges, spikes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral import marchenko_pastur, spiked, tracy_widom
from ww_static.spectral.missing import Missing

FEWEST = 20
FEWEST_SPACINGS = 50
SPIKE = 0.01  # probability with which noise shows one spike
OUTLIER = 0.001  # the same for frac_out, mass_out and D_bulk
_LEVELS = tuple(float(level) for level in np.linspace(0.10, 0.60, 26))


@dataclass(frozen=True, slots=True)
class Bulk:
    """The bulk, and what stands out; edges in the units of the eigenvalues, mp_sigma2 in those of squared entries.

    Attributes:
        mp_sigma2: variance of the entries that gives the quantiles of the ESD.
        mp_shape_spread: how much that variance differs between the quantiles, max/min - 1.
        mp_edge_lo, mp_edge_hi: edges of the Marchenko-Pastur law.
        tw_edge: what noise exceeds with a probability of 1 %.
        tw_p: probability that noise has a lambda_max as large.
        num_spikes: eigenvalues above it.
        outlier_edge: what noise exceeds with a probability of 0.1 %.
        frac_out, mass_out: share of the eigenvalues, and of their sum, above it.
        D_bulk: two-sided Kolmogorov-Smirnov distance between the others and the law.
        spike_theta: singular value, in units of sqrt(N mp_sigma2), that made each spike; largest first, float64.
        spike_overlap_M, spike_overlap_N: squared cosine between the singular vectors of the spike and of what made it.
    """

    mp_sigma2: float
    mp_shape_spread: float
    mp_edge_lo: float
    mp_edge_hi: float
    tw_edge: float
    tw_p: float
    num_spikes: int
    outlier_edge: float
    frac_out: float
    mass_out: float
    D_bulk: float
    spike_theta: NDArray[np.float64]
    spike_overlap_M: NDArray[np.float64]
    spike_overlap_N: NDArray[np.float64]


def bulk(eigenvalues: NDArray[np.float64], n: int, matrices: int = 1, floor: float = 0.0, scale: float = 1.0) -> Bulk | Missing:
    """Fits the Marchenko-Pastur law to the lower quantiles of an ESD, which spikes do not reach, and looks above it.

    mp_sigma2 is the median over 26 levels q = 0.10 ... 0.60 of quantile_q(lambda) / (N x_q), x_q the quantile of the law at
    variance 1. Eigenvalues at or below the floor are zeros and left out; the law has c = (the others)/N.

    Args:
        eigenvalues: float64, shape (m,), ascending, all >= 0; those of several matrices of one shape pooled.
        n: longer side of one matrix.
        matrices: how many are pooled; then the probabilities are divided by their number (Bonferroni).
        floor: of the eigenvalues.
        scale: eigenvalues per eigenvalue of W^T W: the edges are in these units, mp_sigma2 is a variance of elements of W.

    Returns:
        The bulk; or Missing: ``zero_matrix``, ``too_few_evals`` (fewer than 20 above the floor, or fewer than one per matrix).
    """
    kept = eigenvalues[np.searchsorted(eigenvalues, floor, side="right") :]
    if not eigenvalues[-1] > 0:
        return Missing("zero_matrix")
    if len(kept) < max(FEWEST, matrices):
        return Missing("too_few_evals")
    m = len(kept) / matrices
    c = m / n
    ratios = _quantiles(kept) / (n * marchenko_pastur.quantiles(_LEVELS, c))
    variance = float(np.median(ratios))  # in the units of the eigenvalues
    low, high = (n * variance * edge for edge in marchenko_pastur.edges(c))
    spike, outlier = (variance * tracy_widom.edge(n, m, level / matrices) for level in (SPIKE, OUTLIER))
    inside = kept[: np.searchsorted(kept, outlier, side="right")]
    outside = kept[len(inside) :]
    spikes = kept[np.searchsorted(kept, spike, side="right") :][::-1]
    theta = spiked.strength(spikes / (n * variance), c)
    on_M, on_N = spiked.overlaps(theta, c)
    return Bulk(
        mp_sigma2=variance / scale,
        mp_shape_spread=float(ratios.max() / ratios.min()) - 1,
        mp_edge_lo=low,
        mp_edge_hi=high,
        tw_edge=spike,
        tw_p=tracy_widom.p_value(float(kept[-1]) / variance, n, m, matrices),
        num_spikes=len(spikes),
        outlier_edge=outlier,
        frac_out=len(outside) / len(eigenvalues),
        mass_out=float(outside.sum() / eigenvalues.sum()),
        D_bulk=_distance(inside / (n * variance), c, outlier / (n * variance)),
        spike_theta=theta,
        spike_overlap_M=on_M,
        spike_overlap_N=on_N,
    )


def _quantiles(ascending: NDArray[np.float64]) -> NDArray[np.float64]:
    """The quantiles at the 26 levels, linear between order statistics."""
    place = np.array(_LEVELS) * (len(ascending) - 1)
    return np.asarray(np.interp(place, np.arange(len(ascending)), ascending))


def _distance(x: NDArray[np.float64], c: float, end: float) -> float:
    """max |F(x_i)/F(end) - (i - 1/2)/count| of ascending x in units of N variance."""
    share = marchenko_pastur.distribution(np.append(x, end), c)
    count = len(x)
    return float(np.max(np.abs(share[:-1] / share[-1] - (np.arange(count) + 0.5) / count)))


def level_spacing_ratio(eigenvalues: NDArray[np.float64], floor: float = 0.0) -> float | Missing:
    """Mean of min/max of neighbouring spacings over the middle half: 0.5307 for noise, 0.3863 for unrelated values.

    Args:
        eigenvalues: of one matrix, float64, shape (m,), ascending.
        floor: eigenvalues at or below it are left out.

    Returns:
        The mean; or Missing: ``too_few_evals`` (fewer than 50), ``constant_esd`` (no spacing).

    Source: Atas, Bogomolny, Giraud, Roux 2013.
    """
    kept = eigenvalues[np.searchsorted(eigenvalues, floor, side="right") :]
    m = len(kept)
    if m < FEWEST_SPACINGS:
        return Missing("too_few_evals")
    spacings = np.diff(kept[m // 4 : m - m // 4])
    smaller, larger = np.minimum(spacings[:-1], spacings[1:]), np.maximum(spacings[:-1], spacings[1:])
    real = larger > 0
    return float(np.mean(smaller[real] / larger[real])) if real.any() else Missing("constant_esd")
