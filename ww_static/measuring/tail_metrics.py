"""The columns of the tail beyond its fit: how sure alpha is, and whether the tail is a power law."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ww_static.measuring.measured import Measured, Metric, Value, of_part
from ww_static.spectral.hill import hill, hill_of_noise
from ww_static.spectral.missing import Missing
from ww_static.spectral.powerlaw import TailFit
from ww_static.spectral.replicas import Bootstrap, GoodnessOfFit
from ww_static.spectral.variants import DROPS, Variants


def count_from(row: Measured, fit: TailFit) -> int:
    """Eigenvalues of the row at or above xmin."""
    return row.m - int(np.searchsorted(row.eigenvalues, fit.xmin, side="left"))


def _boot(compute: Callable[[Bootstrap], float]) -> Metric:
    return of_part("bootstrap", lambda row: row.bootstrap, lambda _, found: compute(found))


def _gof(compute: Callable[[Measured, GoodnessOfFit], Value | Missing]) -> Metric:
    return of_part("gof", lambda row: row.gof, compute)


def _variant(compute: Callable[[Measured, Variants], Value | Missing]) -> Metric:
    return of_part("tail", lambda row: row.variants, compute)


def _dropped(which: int) -> Metric:
    def column(row: Measured, found: Variants) -> Value | Missing:
        fit = found.dropped[which]
        return fit if isinstance(fit, Missing) else fit.alpha

    return _variant(column)


def _hill(row: Measured) -> float | Missing:
    return hill(row.eigenvalues, row.floor)


def _hill_null(row: Measured) -> float | Missing:
    if row.spectra[0].method == "lowrank":  # the law of noise is that of independent elements
        return Missing("not_applicable")
    return hill_of_noise(row.n / len(row.spectra[0].eigenvalues))


def _hill_excess(row: Measured) -> float | Missing:
    found, noise = _hill(row), _hill_null(row)
    if isinstance(found, Missing) or isinstance(noise, Missing):
        return found if isinstance(found, Missing) else noise
    return found - noise


def has_fingers(row: Measured) -> bool:
    """Whether alpha changes by more than 1 when a few of the largest values are left out."""
    if isinstance(row.variants, Missing) or isinstance(row.power_law, Missing):
        return False
    return any(isinstance(fit, TailFit) and abs(fit.alpha - row.power_law.alpha) > 1 for fit in row.variants.dropped)


def is_degenerate(row: Measured) -> bool:
    """Whether values of xmin that fit nearly as well have exponents that differ by more than 0.5."""
    return not isinstance(row.variants, Missing) and row.variants.spread > 0.5


TAIL_METRICS: dict[str, Metric] = {
    "D_two_sided": _variant(lambda row, found: found.two_sided),
    "n_local_minima": _variant(lambda row, found: len(found.minima)),
    "alpha_range_minima": _variant(lambda row, found: found.spread),
    "alpha_xmax": _variant(lambda row, found: found.bounded),
    **{f"alpha_drop_top_{k}": _dropped(which) for which, k in enumerate(DROPS)},
    "alpha_hill": Metric("tail", _hill),
    "alpha_hill_null": Metric("tail", _hill_null),
    "alpha_hill_excess": Metric("tail", _hill_excess),
    "alpha_farms": Metric("tail", lambda row: row.farms),
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
