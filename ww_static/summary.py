"""One model in a dozen numbers: means over the rows that have them, counts of everything else."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ww_static.rows import LayerRow

_MEANS = ("log_norm", "alpha", "alpha_weighted", "log_alpha_norm", "log_spectral_norm", "stable_rank", "mp_softrank")


def summarize(rows: Iterable[LayerRow]) -> dict[str, Any]:
    """Means, spreads and counts of a run.

    Rows count once: the ``whole`` row of a split tensor and the copies of a tied one are left out of means, failures
    are counted and never averaged.
    """
    rows = list(rows)
    counted = [row for row in rows if row.status == "success" and row.part != "whole" and row.tied_to is None]
    means = {name: _spread([value for row in counted if (value := getattr(row, name)) is not None]) for name in _MEANS}
    alphas = [row.alpha for row in counted if row.alpha is not None]
    return {
        "analysed": sum(row.status == "success" for row in rows),
        "with_alpha": sum(row.alpha is not None for row in rows),
        "counted": len(counted),
        "n_failed": sum(row.status == "failed" for row in rows),
        "errors": sum(row.status == "error" for row in rows),
        "skipped": dict(sorted(Counter(row.reason or "" for row in rows if row.status == "skipped").items())),
        "no_fit": dict(sorted(Counter(row.reason or "" for row in rows if row.status == "success" and row.reason).items())),
        "metrics": means,
        "alpha_counts": {
            "below_2": sum(alpha < 2 for alpha in alphas),
            "2_to_4": sum(2 <= alpha <= 4 for alpha in alphas),
            "above_4_to_6": sum(4 < alpha <= 6 for alpha in alphas),
            "above_6": sum(alpha > 6 for alpha in alphas),
        },
        "log_product_norm": sum(row.log_norm for row in counted if row.log_norm is not None),
        "log_product_spectral_norm": sum(row.log_spectral_norm for row in counted if row.log_spectral_norm is not None),
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    if not values:
        return {"n": 0, "mean": None, "median": None, "sd": None}
    return {
        "n": len(values),
        "mean": statistics.fmean(values),
        "median": statistics.median(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
    }
