"""Definitions of the phase of an ESD, of the robust fit that it looks at, and of the verdict."""

from __future__ import annotations

from ww_static.definitions.entry import Definition

PHASES = {
    "alpha_robust.v1": Definition(
        "F with the two-sided distance and tails of at least max(10, floor(0.02 n)) values; null for fewer than twice as many",
        "What alpha is when tails of a few values may not win. Far from `alpha`: xmin is not determined.",
        "no fit",
        "[CSN]",
    ),
    "phase.v1": Definition(
        "the first that holds: `undetermined` for M < 50; `rank-collapse` for 5 % of zero eigenvalues or more, at the precision of the storage; with D_bulk <= max(0.03, 6/m) `random-like` without outliers (above the Tracy-Widom edge of 0.1 %), or, for frac_out <= 0.05, `bleeding-out` up to 1.5 mp_edge_hi and `bulk+spikes` beyond; `heavy-tailed` for alpha_robust <= 6, D_robust <= 0.12, and D_bulk > 0.15 or mass_out >= 0.5; else `bulk-decay`",
        "Whether the spectrum differs from that of noise, and how: ask it before alpha. `random-like`: alpha means nothing. The thresholds separate synthetic families; they are no theorem about trained networks.",
        "no fit; `not_applicable`",
        "[MM]",
    ),
    "phase_margin.v1": Definition(
        "each number that `phase` compares has a distance abs(value/threshold - 1); the smallest d such that numbers within d of their thresholds, put on the other side, give another phase; and that phase",
        "How much the phase can be trusted: near 0 it could as well be the other one.",
        "no fit; `not_applicable`; `too_few_evals` where `phase` is undetermined, or the other one cannot be told",
        "",
    ),
    "tail_class.v1": Definition(
        "of heavy-tailed and bulk-decay: `very_heavy` for alpha_robust < 2, `fat` up to 6, `weak` above",
        "The class of the tail by its exponent. Whether it is a power law says `gof_p`.",
        "no fit; `not_applicable`",
        "[MM]",
    ),
}  # fmt: skip

VERDICTS = {
    "verdict.v1": Definition(
        "the first that holds: `no_signal` for the phase random-like and M >= 100; `inconclusive` for a warning code that blocks a verdict, without an interval, or for a fit made by `--fit` or `--xmax`; `under_trained` for a heavy-tailed or bulk-decay phase with `alpha_ci_lo` and `alpha_gof` above 6; of a heavy-tailed phase `over_trained` with `alpha_ci_hi` and `alpha_gof` below 2, `in_range` with the interval and `alpha_gof` in [2, 6]; else `inconclusive`. The evidence is alpha with its interval, p with the alpha that was tested, the phase, the size of the tail, and for `inconclusive` what stands in the way",
        "Whether alpha may be read at all, and then on which side of 2 and 6 it lies. `in_range` says that alpha is in the range seen in trained models, not that a model is good; nothing is said of a model from the mean of its layers.",
        "no fit",
        "",
    ),
}  # fmt: skip
