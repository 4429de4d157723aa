"""Other laws of the same tail, and how they compare with the power law."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ww_static.columns.column import metric

_law = partial(metric, "alternatives")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class AlternativesColumns:
    """Other laws of the tail."""

    __slots__ = ()

    exp_rate: float | None = _law("rate of an exponential tail from xmin on", "exponential.v1", "1/weight^2")
    ln_mu: float | None = _law("mean of ln lambda of a lognormal tail, before it is cut at xmin", "lognormal.v1", "ln weight^2")
    ln_s: float | None = _law("standard deviation of ln lambda of a lognormal tail, before it is cut at xmin", "lognormal.v1")
    sexp_b: float | None = _law("exponent of a stretched exponential tail", "stretched_exponential.v1")
    sexp_rate: float | None = _law("rate of a stretched exponential tail", "stretched_exponential.v1", "weight^(-2 sexp_b)")
    tpl_alpha: float | None = _law("exponent of a power-law tail with an exponential cut-off", "tpl.v1")
    tpl_Lambda: float | None = _law("rate of the exponential cut-off of a power-law tail; 0 for none", "tpl.v1", "1/weight^2")
    etpl_alpha: float | None = _law(
        "exponent of a power law with an exponential cut-off and its own xmin, near the peak of the ESD", "etpl.v1"
    )
    etpl_Lambda: float | None = _law("rate of the exponential cut-off of the fit of etpl_alpha", "etpl.v1", "1/weight^2")
    etpl_xmin: float | None = _law("smallest eigenvalue of the fit of etpl_alpha", "etpl.v1", "weight^2")
    etpl_D: float | None = _law("two-sided Kolmogorov-Smirnov distance of the fit of etpl_alpha", "etpl.v1")
    R_exp: float | None = _law(
        "likelihood ratio against the exponential; positive: power law, negative: exponential", "vuong.v1"
    )
    p_exp: float | None = _law("probability of a ratio as far from 0 as R_exp when neither is better", "vuong.v1")
    R_ln: float | None = _law("likelihood ratio against the lognormal; positive: power law", "vuong.v1")
    p_ln: float | None = _law("probability of a ratio as far from 0 as R_ln when neither is better", "vuong.v1")
    R_sexp: float | None = _law("likelihood ratio against the stretched exponential; positive: power law", "vuong.v1")
    p_sexp: float | None = _law("probability of a ratio as far from 0 as R_sexp when neither is better", "vuong.v1")
    R_tpl: float | None = _law(
        "log-likelihood of the power law less that of the one with a cut-off, which contains it: at most 0", "nested_ratio.v1"
    )
    p_tpl: float | None = _law("probability of a ratio as low as R_tpl when there is no cut-off", "nested_ratio.v1")
    best_fit: str | None = _law(
        "law that the data prefer: power_law, exponential, lognormal, stretched_exponential, truncated_power_law, undecided, none",
        "best_fit.v1",
    )
