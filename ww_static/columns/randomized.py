"""The permuted matrices: what the elements alone would give."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ww_static.columns.column import metric

_random = partial(metric, "randomize")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class RandomizedColumns:
    """The permuted matrices."""

    __slots__ = ()

    rand_replicas: int | None = _random("permuted copies of the row's matrices", "replicas.v1")
    max_rand_eval: float | None = _random("largest eigenvalue of a permuted copy, mean", "max_rand_eval.v1", "weight^2")
    max_rand_eval_sd: float | None = _random(
        "standard deviation of the largest eigenvalue over the permuted copies, ddof 1", "max_rand_eval.v1", "weight^2"
    )
    ww_softrank: float | None = _random("max_rand_eval / lambda_max", "ww_softrank.v1")
    ww_maxdist: float | None = _random("lambda_max - max_rand_eval", "ww_maxdist.v1", "weight^2")
    rand_distance: float | None = _random(
        "divergence of the sorted eigenvalues from those of the permuted copy, mean (weightwatcher's)", "rand_distance.ww.v1"
    )
    rand_distance_sd: float | None = _random(
        "standard deviation of rand_distance over the permuted copies, ddof 1", "rand_distance.ww.v1"
    )
    rand_jsd: float | None = _random(
        "root of the Jensen-Shannon divergence of the densities of log10 lambda, mean", "rand_jsd.v1"
    )
    rand_jsd_sd: float | None = _random("standard deviation of rand_jsd over the permuted copies, ddof 1", "rand_jsd.v1")
    w1_rand_distance: float | None = _random(
        "Wasserstein-1 distance of the two ESDs over mean lambda, mean", "w1_rand_distance.v1"
    )
    w1_rand_distance_sd: float | None = _random(
        "standard deviation of w1_rand_distance over the permuted copies, ddof 1", "w1_rand_distance.v1"
    )
    rand_sigma_mp: float | None = _random("sigma_mp of the permuted copy, median", "sigma_mp.ww.v1")
    rand_mp_softrank: float | None = _random("mp_softrank of the permuted copy, median", "mp_softrank.v1")
    rand_W_scale: float | None = _random("W_scale of the permuted copy, median", "W_scale.v1", "1/weight")
    rand_bulk_max: float | None = _random("bulk_max of the permuted copy, median", "sigma_mp.ww.v1", "weight^2")
    rand_bulk_min: float | None = _random("bulk_min of the permuted copy, median", "sigma_mp.ww.v1", "weight^2")
    rand_num_spikes: int | None = _random("num_traps, under weightwatcher's name", "num_traps.v1")
    num_traps: int | None = _random("eigenvalues of a permuted copy above its tw_edge, median", "num_traps.v1")
    num_traps_min: int | None = _random("fewest traps of any permuted copy", "num_traps.v1")
    num_traps_max: int | None = _random("most traps of any permuted copy", "num_traps.v1")
    num_traps_demeaned: int | None = _random(
        "eigenvalues of a permuted copy above the Tracy-Widom edge after the mean of the elements is subtracted, median",
        "num_traps.v1",
    )
    trap_ratio: float | None = _random("largest eigenvalue of a permuted copy over its mp_edge_hi, median", "trap_ratio.v1")
