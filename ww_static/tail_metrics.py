"""The columns of the tail beyond its fit: how sure alpha is, and whether the tail is a power law."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ww_static.measured import Measured, Metric, Value
from ww_static.spectral.missing import Missing
from ww_static.spectral.powerlaw import TailFit
from ww_static.spectral.replicas import Bootstrap, GoodnessOfFit


def count_from(row: Measured, fit: TailFit) -> int:
    """Eigenvalues of the row at or above xmin."""
    return row.m - int(np.searchsorted(row.eigenvalues, fit.xmin, side="left"))


def _boot(compute: Callable[[Bootstrap], float]) -> Metric:
    def column(row: Measured) -> Value | Missing:
        return row.bootstrap if isinstance(row.bootstrap, Missing) else compute(row.bootstrap)

    return Metric("bootstrap", column)


def _gof(compute: Callable[[Measured, GoodnessOfFit], Value | Missing]) -> Metric:
    def column(row: Measured) -> Value | Missing:
        return row.gof if isinstance(row.gof, Missing) else compute(row, row.gof)

    return Metric("gof", column)


TAIL_METRICS: dict[str, Metric] = {
    "alpha_sigma_boot": _boot(lambda found: found.sd),
    "alpha_ci_lo": _boot(lambda found: found.lo),
    "alpha_ci_hi": _boot(lambda found: found.hi),
    "gof_p": _gof(lambda row, found: found.p),
    "gof_B": _gof(lambda row, found: found.replicas),
    "alpha_gof": _gof(lambda row, found: found.fit.alpha),
    "xmin_gof": _gof(lambda row, found: row.in_units(found.fit.xmin)),
    "D_gof": _gof(lambda row, found: found.fit.D),
    "n_tail_gof": _gof(lambda row, found: count_from(row, found.fit)),
}
