"""How sure alpha is, and whether the tail is a power law at all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ww_static.columns.column import metric

_boot = partial(metric, "bootstrap")
_gof = partial(metric, "gof")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class CertaintyColumns:
    """Interval of alpha, test of its fit, and the verdict that they allow."""

    __slots__ = ()

    alpha_sigma_boot: float | None = _boot(
        "standard deviation of alpha over 200 samples of the eigenvalues, drawn with replacement, ddof 1", "bootstrap.v1"
    )
    alpha_ci_lo: float | None = _boot("2.5th percentile of alpha over the 200 samples of the eigenvalues", "bootstrap.v1")
    alpha_ci_hi: float | None = _boot("97.5th percentile of alpha over the 200 samples of the eigenvalues", "bootstrap.v1")
    gof_p: float | None = _gof(
        "share of samples of the fitted law whose own fit is as far off; below 0.1 the tail is no power law", "gof.csn.v1"
    )
    gof_B: int | None = _gof("samples of the fitted law", "gof.csn.v1")
    alpha_gof: float | None = _gof("exponent of the fit that is tested: two-sided distance, at least 50 values", "gof.csn.v1")
    xmin_gof: float | None = _gof("smallest eigenvalue of the tail that is tested", "gof.csn.v1", "weight^2")
    D_gof: float | None = _gof("two-sided Kolmogorov-Smirnov distance of the fit that is tested", "gof.csn.v1")
    n_tail_gof: int | None = _gof("eigenvalues at or above xmin_gof", "gof.csn.v1")
    verdict: str | None = _gof(
        "no_signal, in_range, over_trained, under_trained, or inconclusive; null where there is no fit to judge",
        "verdict.v1",
        "",
    )
    verdict_evidence: str | None = _gof("the numbers that it rests on, in one line", "verdict.v1", "")
