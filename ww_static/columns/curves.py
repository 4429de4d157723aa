"""The ESD as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ww_static.columns.column import Curve, column


def _curve(meaning: str, definition: str, unit: str = "1") -> Any:
    return column(meaning, unit, definition, "esd")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class CurvesColumns:
    """The ESD as arrays."""

    __slots__ = ()

    esd: Curve | None = _curve("eigenvalues, ascending", "esd.v1", "weight^2")
    explained_k: Curve | None = _curve("cumulative share of the eigenvalues, largest first", "explained.v1")
    survival: Curve | None = _curve("share of eigenvalues at or above each eigenvalue", "survival.v1")
    hist_edges: Curve | None = _curve("edges of 100 equal bins", "histogram.v1", "weight^2")
    hist_counts: Curve | None = _curve("eigenvalues per bin", "histogram.v1")
    log_hist_edges: Curve | None = _curve(
        "edges of 100 equal bins of log10 lambda, positive eigenvalues", "histogram.v1", "log10 weight^2"
    )
    log_hist_counts: Curve | None = _curve("eigenvalues per bin of log10 lambda", "histogram.v1")
    kde_x: Curve | None = _curve("points of the kernel density of log10 lambda", "kde.v1", "log10 weight^2")
    kde_density: Curve | None = _curve("Gaussian kernel density of log10 lambda, Scott's bandwidth", "kde.v1")
    sv_hist_edges: Curve | None = _curve("edges of 100 equal bins of the singular values", "histogram.v1", "weight")
    sv_density: Curve | None = _curve("density of the singular values, integral 1", "histogram.v1", "1/weight")
    ks_xmins: Curve | None = _curve("every candidate for xmin", "ks_curve.v1", "weight^2")
    ks_D: Curve | None = _curve("distance of each candidate, 1 where there is no fit", "ks_curve.v1")
