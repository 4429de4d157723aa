"""The columns of a comparison: which tensors a row pairs, and how the weights of one checkpoint differ from those of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from ww_static.columns.column import column, metric

_compared = partial(metric, "compare")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class PairColumns:
    """Who is compared with whom."""

    __slots__ = ()

    model_id: str | None = column("name of the new model; of the old one where there is no new tensor")
    model_old: str | None = column("name of the old model")
    name: str | None = column("scoped name of the new tensor, verbatim; of the old one where there is no new tensor")
    name_old: str | None = column("scoped name of the old tensor")
    part: str | None = column("part of the tensor, as in layers")
    kind: str | None = column("what the tensor is")
    pairing: str | None = column("how the two were found: by name, or by name without the prefix that one side has")
    side: str | None = column("of a tensor that has no counterpart: old or new")
    status: str | None = column("success, failed, skipped or error")
    reason: str | None = column("why nothing was compared: no_pair, shape_mismatch, or why the tensor is not analysed")
    category: str | None = column("status error: category of the refusal")
    message: str | None = column("more about the reason")
    identical: bool | None = column("the stored values are the same, bit by bit, and so is their dtype")
    shape: tuple[int, ...] | None = column("elements along each axis, in the new model")
    shape_old: tuple[int, ...] | None = column("elements along each axis, in the old model")
    dtype: str | None = column("storage dtype in the new model")
    dtype_old: str | None = column("storage dtype in the old model")
    N: int | None = column("longer side of one matrix", "1")
    M: int | None = column("shorter side of one matrix", "1")
    rf: int | None = column("matrices that the row pools", "1")
    alpha: float | None = column("alpha of the new tensor", "1")
    alpha_old: float | None = column("alpha of the old tensor", "1")
    phase: str | None = column("phase of the new tensor")
    phase_old: str | None = column("phase of the old tensor")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class DifferenceColumns:
    """What is compared: a is the old tensor, b the new one, dW = Wb - Wa of the stored weights."""

    __slots__ = ()

    delta_norm: float | None = _compared("Frobenius norm of dW, over all taps", "delta_norm.v1", "weight")
    rel_delta: float | None = _compared("delta_norm over the Frobenius norm of Wa", "delta_norm.v1")
    delta_spectral: float | None = _compared("largest singular value of dW", "delta_spectral.v1", "weight")
    delta_stable_rank: float | None = _compared("squared delta_norm over squared delta_spectral", "delta_spectral.v1")
    cosine: float | None = _compared("inner product of Wa and Wb over their norms", "cosine.v1")
    alpha_z: float | None = _compared(
        "d_alpha over the root of the sum of both squared alpha_sigma_boot; needs --bootstrap", "alpha_z.v1"
    )
    spectral_w1: float | None = _compared(
        "Wasserstein-1 distance of the two ESDs over the mean eigenvalue of a", "spectral_w1.v1"
    )
    spectral_l2_rel: float | None = _compared(
        "distance of the two sorted lists of singular values over the norm of Wa; at most rel_delta", "spectral_l2_rel.v1"
    )
    overlap_l: float | None = _compared(
        "mean squared cosine of the principal angles of the 10 leading left vectors; 10/d for unrelated ones", "overlap.v1"
    )
    overlap_r: float | None = _compared(
        "mean squared cosine of the principal angles of the 10 leading right vectors; 10/d for unrelated ones", "overlap.v1"
    )
    agreement_l: float | None = _compared("mean |cosine| of left vectors of the same place, of 10", "agreement.v1")
    agreement_r: float | None = _compared("mean |cosine| of right vectors of the same place, of 10", "agreement.v1")
    best_match_l: float | None = _compared(
        "mean over the 10 leading left vectors of a of the largest |cosine| with one of b", "agreement.v1"
    )
    best_match_r: float | None = _compared(
        "mean over the 10 leading right vectors of a of the largest |cosine| with one of b", "agreement.v1"
    )
    max_angle: float | None = _compared("largest principal angle of either side", "max_angle.v1", "radian")
    intruders: int | None = _compared(
        "of the 10 leading left vectors of b those whose |cosine| with every left vector of a is below 0.5", "intruders.v1"
    )
    cka: float | None = _compared("alignment of Wa and Wb, uncentered (weightwatcher's)", "cka.v1")
    cka_linear: float | None = _compared("cka squared: the standard form", "cka.v1")
    cka_centered: float | None = _compared("cka_linear after the mean of every column is subtracted", "cka.v1")
    sqnr_db: float | None = _compared("signal to noise when b is the quantized a", "sqnr.v1", "dB")
    quant_err_spectral: float | None = _compared("delta_spectral over the largest singular value of Wa", "delta_spectral.v1")
    quant_floor_lo: float | None = _compared("lower end of quant_floor", "quant_floor.v1", "weight^2")
    quant_floor: float | None = _compared(
        "largest eigenvalue that the rounding of a quantized b makes out of the null space of Wa", "quant_floor.v1", "weight^2"
    )
    dw_align: float | None = _compared("share of the norm of dW between the 10 leading vectors of Wa", "dw_align.v1")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class ComparedColumns:
    """How a row of a comparison was made."""

    __slots__ = ()

    null_reasons: Mapping[str, str] | None = column(
        "column -> reason, for every number that is null in a row with status success"
    )
    esd_norm: str | None = column("none: eigenvalues of W^T W; 1/N: divided by N")
    esd_scale: float | None = column("factor on the eigenvalues of the stored weights", "1")
    content_hash: str | None = column("sha256 of dtype, shape and stored values of the new tensor")
    content_hash_old: str | None = column("sha256 of dtype, shape and stored values of the old tensor")
    seed: int | None = column("seed of the run")
    params_id: str | None = column("name of the set of options")
    definitions_version: str | None = column("version of the formulas")
