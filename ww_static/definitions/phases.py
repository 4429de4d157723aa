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
        "the first step of the table above that holds",
        "Whether the spectrum differs from that of noise, and how: ask it before alpha. `random-like`: alpha means nothing. The thresholds separate synthetic families; they are no theorem about trained networks.",
        "no fit; `not_applicable`",
        "[MM]",
    ),
    "phase_margin.v1": Definition(
        "each number of that table has a distance abs(value/threshold - 1); the smallest d such that numbers within d of their thresholds, put on the other side, give another phase; and that phase",
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
        "the first rule of the table above that holds; the evidence is alpha with its interval, p with the alpha that was tested, the phase, the size of the tail, and for `inconclusive` what stands in the way",
        "Whether alpha may be read at all, and then on which side of 2 and 6 it lies. `in_range` says that alpha is in the range seen in trained models, not that a model is good; nothing is said of a model from the mean of its layers.",
        "no fit",
        "",
    ),
}  # fmt: skip
