"""The phase of a row, and the robust fit that it looks at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ww_static.columns.column import metric

_metric = partial(metric, "default")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class PhasesColumns:
    """The phase and the robust fit."""

    __slots__ = ()

    alpha_robust: float | None = _metric(
        "exponent of the fit with the two-sided distance, and at least 10 values and 2 % of all in the tail", "alpha_robust.v1"
    )
    xmin_robust: float | None = _metric("smallest eigenvalue of the tail of the robust fit", "alpha_robust.v1", "weight^2")
    D_robust: float | None = _metric("two-sided Kolmogorov-Smirnov distance of the robust fit", "alpha_robust.v1")
    n_tail_robust: int | None = _metric("eigenvalues at or above xmin_robust", "alpha_robust.v1")
    phase: str | None = _metric(
        "shape of the ESD: random-like, bleeding-out, bulk+spikes, bulk-decay, heavy-tailed, rank-collapse, undetermined",
        "phase.v1",
    )
    phase_margin: float | None = _metric(
        "by how much, relative to their thresholds, the numbers that decide must change together to give another phase",
        "phase_margin.v1",
    )
    phase_runner_up: str | None = _metric("the phase that a change by phase_margin would give", "phase_margin.v1")
    tail_class: str | None = _metric(
        "of heavy-tailed and bulk-decay: very_heavy (alpha_robust < 2), fat (2 to 6), weak (> 6)", "tail_class.v1"
    )
