"""The row of a checkpoint in a series: its means, and what changed since the one before."""

from __future__ import annotations

from dataclasses import dataclass

from ww_static.columns.column import column


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendRow:
    """One row per checkpoint of a series, in its order."""

    step: int | None = column("place in the series, from 0", "1")
    model_id: str | None = column("name of the checkpoint")
    file: str | None = column("file, relative to what was named")
    accuracy: float | None = column("accuracy of the checkpoint, as the user's table has it")
    status: str | None = column("success, or error for a checkpoint that could not be read")
    category: str | None = column("status error: category of the refusal")
    message: str | None = column("status error: what is wrong with the file")
    analysed: int | None = column("rows with a spectrum", "1", "trend.counts.v1")
    with_alpha: int | None = column("rows with alpha", "1", "trend.counts.v1")
    alpha: float | None = column("mean alpha of the layers, as in the summary", "1", "trend.mean.v1")
    alpha_median: float | None = column("median alpha of the layers", "1", "trend.mean.v1")
    alpha_sd: float | None = column("standard deviation of alpha over the layers, ddof 1", "1", "trend.mean.v1")
    alpha_weighted: float | None = column("mean alpha_weighted of the layers", "1", "trend.mean.v1")
    log_norm: float | None = column("mean log_norm of the layers", "1", "trend.mean.v1")
    log_alpha_norm: float | None = column("mean log_alpha_norm of the layers", "1", "trend.mean.v1")
    log_spectral_norm: float | None = column("mean log_spectral_norm of the layers", "1", "trend.mean.v1")
    stable_rank: float | None = column("mean stable_rank of the layers", "1", "trend.mean.v1")
    mp_softrank: float | None = column("mean mp_softrank of the layers", "1", "trend.mean.v1")
    paired: int | None = column("views that pair with one of the checkpoint before", "1", "trend.pairs.v1")
    compared: int | None = column("pairs with the checkpoint before that were compared", "1", "trend.pairs.v1")
    identical: int | None = column("pairs with the checkpoint before that hold equal values", "1", "trend.pairs.v1")
    rel_delta: float | None = column("mean rel_delta from the checkpoint before, vectors left out", "1", "trend.change.v1")
    rel_delta_max: float | None = column("largest rel_delta of a layer from the checkpoint before", "1", "trend.largest.v1")
    cosine: float | None = column("mean cosine with the checkpoint before", "1", "trend.change.v1")
    d_alpha: float | None = column("mean d_alpha from the checkpoint before", "1", "trend.change.v1")
    spectral_l2_rel: float | None = column("mean spectral_l2_rel from the checkpoint before", "1", "trend.change.v1")
    overlap_l: float | None = column("mean overlap_l with the checkpoint before", "1", "trend.change.v1")
    overlap_r: float | None = column("mean overlap_r with the checkpoint before", "1", "trend.change.v1")
    intruders: int | None = column("intruders against the checkpoint before, summed over the layers", "1", "trend.intruders.v1")
    cka: float | None = column("mean cka with the checkpoint before", "1", "trend.change.v1")
