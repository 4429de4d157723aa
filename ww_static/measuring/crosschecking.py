"""A second opinion on the fit of the tail: the same values given to the powerlaw package, which is no dependency."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from ww_static.layout.layers import LayerView
from ww_static.measuring.measured import Measured, Metric, Value, of_part
from ww_static.options import Options
from ww_static.spectral.missing import Missing
from ww_static.spectral.powerlaw import TailFit

PACKAGE_BYTES = 96 * 2**20  # private memory that the package and what it imports take
_PACKAGE_FLOPS = 1e11  # what loading it takes, in operations of a product of matrices
_VALUE_FLOPS = 1.2e8  # what it takes for every candidate
# what the package raises, which knows no errors of its own, and scipy, which it calls
_FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def crosschecked(row: Measured, options: Options, lacking: Collection[str] = ()) -> Measured:
    """The row with the fit of the package, if it was asked for and there is room; a row without a fit has none."""
    if options.cross_check == "none" or row.precision == "fast":
        return row
    if "crosscheck" in lacking:
        return replace(row, crosscheck=Missing("memory_limit"))
    return replace(row, crosscheck=row.power_law if isinstance(row.power_law, Missing) else _fitted(row))


def crosscheck_flops(view: LayerView, options: Options) -> float:
    """What it takes, in operations of a product of matrices."""
    count = view.num_evals or 0
    return 0.0 if options.cross_check == "none" or not count else _PACKAGE_FLOPS + _VALUE_FLOPS * count


def _fitted(row: Measured) -> TailFit | Missing:
    """powerlaw's own search for xmin over the values that were fitted here.

    Version 2 looks for alpha in [0, 3] unless it is told otherwise.
    """
    import powerlaw

    x = row.tail_values
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            fit = powerlaw.Fit(x, xmin=None, discrete=False, verbose=False, parameter_ranges={"alpha": [1, None]})
            alpha, xmin, D = float(fit.alpha), float(fit.xmin), float(fit.D)
    except _FAILURES:
        return Missing("fit_failed")
    if not (math.isfinite(alpha) and math.isfinite(D) and xmin > 0):
        return Missing("fit_failed")
    return TailFit(alpha, xmin, D, len(x), int(np.count_nonzero(x >= xmin)), near_tie=False)


def _difference(row: Measured, found: TailFit) -> Value | Missing:
    return row.power_law if isinstance(row.power_law, Missing) else found.alpha - row.power_law.alpha


CROSSCHECK_METRICS: dict[str, Metric] = {
    "crosscheck_alpha": of_part("crosscheck", lambda row: row.crosscheck, lambda _, found: found.alpha),
    "crosscheck_xmin": of_part("crosscheck", lambda row: row.crosscheck, lambda row, found: row.in_units(found.xmin)),
    "crosscheck_D": of_part("crosscheck", lambda row: row.crosscheck, lambda _, found: found.D),
    "crosscheck_difference": of_part("crosscheck", lambda row: row.crosscheck, _difference),
}
