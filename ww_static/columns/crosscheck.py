"""What another package says of the tail."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ww_static.columns.column import metric

_crosscheck = partial(metric, "crosscheck")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class CrosscheckColumns:
    """The fit of the powerlaw package."""

    __slots__ = ()

    crosscheck_alpha: float | None = _crosscheck("exponent that the powerlaw package finds", "crosscheck.v1")
    crosscheck_xmin: float | None = _crosscheck(
        "smallest eigenvalue of the tail that the powerlaw package finds", "crosscheck.v1", "weight^2"
    )
    crosscheck_D: float | None = _crosscheck(
        "one-sided Kolmogorov-Smirnov distance that the powerlaw package finds", "crosscheck.v1"
    )
    crosscheck_difference: float | None = _crosscheck(
        "crosscheck_alpha less the exponent of the power law here", "crosscheck.v1"
    )
