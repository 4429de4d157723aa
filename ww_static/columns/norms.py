"""Norms and ranks, from all eigenvalues."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ww_static.columns.column import metric

_metric = partial(metric, "default")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class NormsColumns:
    """Norms and ranks of a row."""

    __slots__ = ()

    norm: float | None = _metric("sum of eigenvalues: squared Frobenius norm in ESD units", "norm.v1", "weight^2")
    spectral_norm: float | None = _metric("largest eigenvalue: squared 2-norm in ESD units", "lambda_max.v1", "weight^2")
    lambda_max: float | None = _metric("largest eigenvalue", "lambda_max.v1", "weight^2")
    log_norm: float | None = _metric("log10 of norm", "log_norm.v1")
    log_spectral_norm: float | None = _metric("log10 of spectral_norm", "log_spectral_norm.v1")
    frob_norm: float | None = _metric("Frobenius norm of the stored weights, all taps", "frob_norm.v1", "weight")
    op_norm: float | None = _metric("largest singular value of the stored weights", "op_norm.v1", "weight")
    nuclear_norm: float | None = _metric("sum of singular values of the stored weights", "nuclear_norm.v1", "weight")
    sv_max: float | None = _metric("largest singular value, with the scale of the ESD", "sv.v1", "weight")
    sv_min: float | None = _metric("smallest singular value over the matrices, with the scale of the ESD", "sv.v1", "weight")
    stable_rank: float | None = _metric("norm / spectral_norm", "stable_rank.v1")
    matrix_rank: int | None = _metric("singular values above sigma_max N 2^-52, over the pooled list", "matrix_rank.v1")
    rank_loss: int | None = _metric(
        "M minus the rank, summed over the matrices; of an adapter num_evals minus the rank", "rank_loss.v1"
    )
    weak_rank_loss: int | None = _metric("eigenvalues below 1e-6", "weak_rank_loss.v1")
    entropy: float | None = _metric("-sum p ln p / ln rank with p = lambda/sum + 1e-10", "entropy.v1")
    erank_sigma: float | None = _metric("effective rank exp(-sum p ln p) of p = sigma/sum sigma", "erank.roy2007.v1")
    erank_lambda: float | None = _metric("effective rank exp(-sum p ln p) of p = lambda/sum lambda", "erank_lambda.v1")
    k_elbow: int | None = _metric("leading eigenvalues before the elbow of the explained share", "k_elbow.v1")
    k_gavish_donoho: int | None = _metric("singular values above the Gavish-Donoho threshold", "k_gavish_donoho.v1")
