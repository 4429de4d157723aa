"""The power-law fit of the tail, and what is made from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ww_static.columns.column import metric

_metric = partial(metric, "default")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class FitColumns:
    """The fit of the tail."""

    __slots__ = ()

    alpha: float | None = _metric("power-law exponent of the tail of the ESD", "alpha.csn.v1")
    xmin: float | None = _metric("smallest eigenvalue of the tail", "alpha.csn.v1", "weight^2")
    xmax: float | None = _metric("largest eigenvalue that was fitted", "xmax.v1", "weight^2")
    D: float | None = _metric("one-sided Kolmogorov-Smirnov distance of tail and fit; two-sided with a cut-off", "alpha.csn.v1")
    Lambda: float | None = _metric(
        "rate of the exponential cut-off, where a law with one was fitted", "cutoff.v1", "1/weight^2"
    )
    fit_kind: str | None = _metric("law of alpha, D and xmin: PL (power law), TPL, E_TPL (with a cut-off)", "cutoff.v1", "")
    sigma: float | None = _metric("(alpha - 1)/sqrt(tail size): understates the spread", "sigma.v1")
    alpha_error: float | None = _metric(
        "most that numerical errors up to spectral_floor can change alpha, the tail being the same", "alpha_error.v1"
    )
    num_pl_spikes: int | None = _metric("eigenvalues at or above xmin", "n_tail.v1")
    n_tail: int | None = _metric("eigenvalues at or above xmin", "n_tail.v1")
    tail_frac: float | None = _metric("n_tail / num_evals", "tail_frac.v1")
    n_fit: int | None = _metric("eigenvalues above the fit cut of 1e-5, without those that --xmax leaves out", "n_fit.v1")
    n_below_cut: int | None = _metric(
        "eigenvalues too small to be fitted: at or below the cut, or below the numerical floor of an SVD", "n_fit.v1"
    )
    alpha_weighted: float | None = _metric("alpha log10 lambda_max, also called alpha-hat", "alpha_weighted.v1")
    log_alpha_norm: float | None = _metric("log10 of the sum of lambda^alpha", "log_alpha_norm.v1")
    warning: str | None = _metric("weightwatcher's label from alpha alone; no verdict", "warning.v1")
