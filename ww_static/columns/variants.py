"""What alpha would be if the fit were made differently."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ww_static.columns.column import metric

_tail = partial(metric, "tail")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class VariantsColumns:
    """Other fits of the tail."""

    __slots__ = ()

    D_two_sided: float | None = _tail("two-sided Kolmogorov-Smirnov distance at alpha and xmin", "D_two_sided.v1")
    n_local_minima: int | None = _tail("local minima of D against xmin within 10 % of the smallest", "local_minima.v1")
    alpha_range_minima: float | None = _tail(
        "largest less smallest alpha at the local minima of D against xmin", "local_minima.v1"
    )
    alpha_xmax: float | None = _tail("exponent of a power law that ends at the largest eigenvalue", "alpha_xmax.v1")
    alpha_drop_top_1: float | None = _tail("alpha of the fit without the largest eigenvalue", "alpha_drop_top.v1")
    alpha_drop_top_2: float | None = _tail("alpha of the fit without the largest 2", "alpha_drop_top.v1")
    alpha_drop_top_5: float | None = _tail("alpha of the fit without the largest 5", "alpha_drop_top.v1")
    alpha_drop_top_10: float | None = _tail("alpha of the fit without the largest 10", "alpha_drop_top.v1")
    alpha_hill: float | None = _tail("Hill's exponent of the upper half of the eigenvalues", "alpha_hill.v1")
    alpha_hill_null: float | None = _tail("what alpha_hill is for noise of the same Q", "alpha_hill.v1")
    alpha_hill_excess: float | None = _tail("alpha_hill - alpha_hill_null", "alpha_hill.v1")
    alpha_farms: float | None = _tail(
        "alpha_hill of windows of aspect ratio 2, pooled over the matrix: noise has 2.70 whatever the shape", "alpha_farms.v1"
    )
