"""How a row was made, and what limits its reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ww_static.columns.column import column


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class OriginColumns:
    """How the row was made."""

    __slots__ = ()

    warning_codes: tuple[str, ...] | None = column("what limits the reading of the row: few_evals, near_tie, rank_loss ...")
    null_reasons: Mapping[str, str] | None = column("column -> reason, for every metric that is null in a row that has an ESD")
    method: str | None = column(
        "how the eigenvalues were computed: gram, svd, lowrank for the product of two factors, lanczos for the largest alone"
    )
    eig_backend: str | None = column(
        "what computed W^T W and its eigenvalues: a library called directly (its two stages above M = 1600), or numpy, as for svd"
    )
    precision: str | None = column("exact: float64; fast: float32, of which metrics of the tail and norms are kept")
    spectral_floor: float | None = column("eigenvalues at or below it are numerical noise", "weight^2", "floor.v1")
    n_below_floor: int | None = column("eigenvalues at or below the floor", "1", "floor.v1")
    n_missing_evals: int | None = column("smaller eigenvalues that `--top-k` left out", "1")
    esd_norm: str | None = column("none: eigenvalues of W^T W; 1/N: divided by N", "", "esd_units.v1")
    esd_scale: float | None = column(
        "factor on the eigenvalues of the stored weights (0.5 for pooled 2-D convolutions)", "1", "esd_units.v1"
    )
    lora_scale: float | None = column(
        "s of an adapter's s B A: alpha/r, or alpha/sqrt(r); 1 where alpha is not known", "1", "lora.v1"
    )
    seed: int | None = column("seed of the run")
    reader: str | None = column("reader that opened the file")
    content_hash: str | None = column(
        "sha256 of dtype, shape and little-endian row-major stored values, those of a quantized weight dequantized; of an adapter's s B A made from those of A and B, and s"
    )
    tied_to: str | None = column("first tensor with the same stored values; the row repeats its numbers")
    params_id: str | None = column("name of the set of options")
    definitions_version: str | None = column("version of the formulas")
