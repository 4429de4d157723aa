"""Definitions of what the row of a checkpoint in a series holds."""

from __future__ import annotations

from ww_static.definitions.entry import Definition

_FIRST = "in the first checkpoint, after one that could not be read, and where no pair has it"
_UNREAD = "the checkpoint could not be read"

SERIES = {
    "trend.counts.v1": Definition(
        "rows with status success, and those of them that have alpha",
        "How much the means rest on. Where a series of one architecture changes these counts, its means are of different layers.",
        _UNREAD,
    ),
    "trend.mean.v1": Definition(
        "mean, median or standard deviation (ddof 1) of the column over the layers, as in [the summary](#the-summary-of-a-model): each tensor once, split ones by their parts",
        "Where a whole model moves. A mean hides layers that move against each other: `compare` shows them.",
        f"{_UNREAD}; no layer has the column (for the standard deviation, fewer than two)",
        "[WW]",
    ),
    "trend.pairs.v1": Definition(
        "views that pair with the checkpoint before by [scoped name](#two-checkpoints); pairs with status success; pairs with the same content_hash",
        "Whether two neighbours are checkpoints of one model at all, and how much of it is frozen.",
        "in the first checkpoint",
    ),
    "trend.change.v1": Definition(
        "mean of the column of [two checkpoints](#two-checkpoints) over the pairs with the checkpoint before that have status success, `whole` rows of split tensors left out",
        "How far, and in which way, the step to this checkpoint went. Steps of unequal length give unequal numbers: divide by the length before they are compared.",
        _FIRST,
        "as the column of a pair",
    ),
    "trend.largest.v1": Definition(
        "the largest rel_delta of the pairs that the mean rel_delta is made from",
        "Whether one layer moved far more than the others.",
        _FIRST,
    ),
    "trend.intruders.v1": Definition(
        "the intruders of the pairs that the means are made from, summed",
        "New directions at the top of the layers. It grows with the number of layers that have ten vectors: `compared` stands beside it.",
        _FIRST,
        "arXiv 2410.21228",
    ),
}
