"""One model in a few dozen numbers: means over the rows that have them, counts of everything else, the run of alpha over the depth."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from ww_static.depth import correlation_flow, pruning_budget
from ww_static.rows import LayerRow

_MEANS = (
    "log_norm", "alpha", "alpha_weighted", "log_alpha_norm", "log_spectral_norm", "stable_rank", "mp_softrank", "alpha_hill",
)  # fmt: skip
_EDGES = tuple(
    1 + place / 2 for place in range(19)
)  # 1, 1.5 ... 10: the same for every model, so that two can be laid side by side


def summarize(rows: Iterable[LayerRow]) -> dict[str, Any]:
    """Means, spreads and counts of a run; of each of its models as well, where there are several.

    Rows count once: the ``whole`` row of a split tensor and the copies of a tied one are left out of everything that is made from numbers; failures
    are counted and never averaged.
    """
    rows = list(rows)
    models = {row.model_id for row in rows}
    if len(models) < 2:
        return _of_one(rows)
    named = sorted(name for name in models if name is not None)
    of_each = {name: _of_one([row for row in rows if row.model_id == name]) for name in named}
    return _of_one(rows) | {"correlation_flow": None, "pruning_budget": None, "models": of_each}


def _of_one(rows: Sequence[LayerRow]) -> dict[str, Any]:
    counted = [row for row in rows if row.status == "success" and row.part != "whole" and row.tied_to is None]
    means = {name: _spread([value for row in counted if (value := getattr(row, name)) is not None]) for name in _MEANS}
    alphas = [row.alpha for row in counted if row.alpha is not None]
    skipped = Counter(row.reason or "" for row in rows if row.status == "skipped")
    return {
        "analysed": sum(row.status == "success" for row in rows),
        "with_alpha": sum(row.alpha is not None for row in rows),
        "counted": len(counted),
        "n_failed": sum(row.status == "failed" for row in rows),
        "n_skipped": skipped.total(),
        "errors": sum(row.status == "error" for row in rows),
        "skipped": dict(sorted(skipped.items())),
        "no_fit": dict(sorted(Counter(row.reason or "" for row in rows if row.status == "success" and row.reason).items())),
        "metrics": means,
        "alpha_counts": {
            "below_2": sum(alpha < 2 for alpha in alphas),
            "2_to_4": sum(2 <= alpha <= 4 for alpha in alphas),
            "above_4_to_6": sum(4 < alpha <= 6 for alpha in alphas),
            "above_6": sum(alpha > 6 for alpha in alphas),
        },
        "alpha_histogram": _histogram(alphas),
        "phases": _counts(row.phase for row in counted),
        "verdicts": _counts(row.verdict for row in counted),
        "log_product_norm": sum(row.log_norm for row in counted if row.log_norm is not None),
        "log_product_spectral_norm": sum(row.log_spectral_norm for row in counted if row.log_spectral_norm is not None),
        "correlation_flow": correlation_flow(alphas),
        "pruning_budget": pruning_budget(counted),
    }


def _counts(words: Iterable[str | None]) -> dict[str, int]:
    return dict(sorted(Counter(word for word in words if word is not None).items()))


def _histogram(alphas: Sequence[float]) -> dict[str, Any]:
    """Counts between edges, the lower one included, and what lies above the last."""
    pairs = pairwise(_EDGES)
    counts = [sum(low <= alpha < high for alpha in alphas) for low, high in pairs]
    return {"edges": list(_EDGES), "counts": counts, "above": sum(alpha >= _EDGES[-1] for alpha in alphas)}


def _spread(values: Sequence[float]) -> dict[str, Any]:
    if not values:
        return {"n": 0, "mean": None, "median": None, "sd": None}
    return {
        "n": len(values),
        "mean": statistics.fmean(values),
        "median": statistics.median(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
    }
