"""The Marchenko-Pastur bulk, its edges, and the spikes above it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ww_static.columns.column import Curve, metric

_metric = partial(metric, "default")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class BulkColumns:
    """The bulk and its spikes."""

    __slots__ = ()

    W_scale: float | None = _metric("factor on W that makes the mean eigenvalue 1", "W_scale.v1", "1/weight")
    sigma_mp: float | None = _metric(
        "standard deviation of the Marchenko-Pastur law that fits the density, mean eigenvalue 1", "sigma_mp.ww.v1"
    )
    bulk_min: float | None = _metric("lower edge of the Marchenko-Pastur law with sigma_mp", "sigma_mp.ww.v1", "weight^2")
    bulk_max: float | None = _metric("upper edge of the Marchenko-Pastur law with sigma_mp", "sigma_mp.ww.v1", "weight^2")
    mp_softrank: float | None = _metric("bulk_max / lambda_max", "mp_softrank.v1")
    mp_sigma2: float | None = _metric(
        "variance of the elements whose Marchenko-Pastur law has the lower quantiles of the ESD", "mp_sigma2.v1", "weight^2"
    )
    mp_shape_spread: float | None = _metric("how much mp_sigma2 differs between quantiles, max/min - 1", "mp_sigma2.v1")
    mp_edge_lo: float | None = _metric("lower edge of the Marchenko-Pastur law with mp_sigma2", "mp_edge.v1", "weight^2")
    mp_edge_hi: float | None = _metric("upper edge of the Marchenko-Pastur law with mp_sigma2", "mp_edge.v1", "weight^2")
    tw_edge: float | None = _metric(
        "Tracy-Widom edge: noise has an eigenvalue above it with a probability of 1 %", "tw_edge.v1", "weight^2"
    )
    tw_p: float | None = _metric(
        "probability that noise has a lambda_max as large: a p-value for `no more than noise`", "tw_p.v1"
    )
    num_spikes: int | None = _metric("eigenvalues above tw_edge", "num_spikes.v1")
    frac_out: float | None = _metric("share of the eigenvalues above the Tracy-Widom edge of 0.1 %", "frac_out.v1")
    mass_out: float | None = _metric("share of the sum of eigenvalues above the Tracy-Widom edge of 0.1 %", "frac_out.v1")
    D_bulk: float | None = _metric(
        "two-sided Kolmogorov-Smirnov distance of the rest and the Marchenko-Pastur law", "D_bulk.v1"
    )
    spike_theta: Curve | None = _metric(
        "singular value that made each spike, in units of sqrt(N mp_sigma2), largest first", "spike_theta.v1"
    )
    spike_overlap_M: Curve | None = _metric(
        "squared cosine between the vector of length M of each spike and of what made it", "spike_theta.v1"
    )
    spike_overlap_N: Curve | None = _metric(
        "squared cosine between the vector of length N of each spike and of what made it", "spike_theta.v1"
    )
    level_spacing_r: float | None = _metric(
        "mean ratio of neighbouring spacings: 0.5307 for noise, 0.3863 for unrelated values", "level_spacing_r.v1"
    )
