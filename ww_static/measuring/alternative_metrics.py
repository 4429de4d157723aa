"""The columns of the alternatives to the power law: their parameters in ESD units, their ratios, and which law the data prefer."""

from __future__ import annotations

import math
from collections.abc import Callable

from ww_static.measuring.measured import Measured, Metric, Value
from ww_static.spectral.alternatives import Alternatives, Ratio, best_fit
from ww_static.spectral.cutoff import CutoffFit
from ww_static.spectral.families import Point
from ww_static.spectral.missing import Missing
from ww_static.spectral.powerlaw import TailFit

_AT_POWER_LAW = Missing("alpha_at_bound")  # the likelihood rises up to the limit in which the law is the power law


def _of(compute: Callable[[Measured, TailFit, Alternatives], Value | Missing]) -> Metric:
    def column(row: Measured) -> Value | Missing:
        if isinstance(row.power_law, Missing):
            return row.power_law
        return row.alternatives if isinstance(row.alternatives, Missing) else compute(row, row.power_law, row.alternatives)

    return Metric("alternatives", column)


def _lognormal(compute: Callable[[Measured, TailFit, Point], Value]) -> Metric:
    return _of(lambda row, fit, found: _AT_POWER_LAW if found.lognormal is None else compute(row, fit, found.lognormal))


def _ratio(law: str, value: Callable[[Ratio], float]) -> Metric:
    return _of(lambda row, fit, found: value(found.ratios[law]) if law in found.ratios else _AT_POWER_LAW)


def _log_xmin(row: Measured, fit: TailFit) -> float:
    return math.log(fit.xmin) + row.shift * math.log(2)


def _sexp_rate(row: Measured, fit: TailFit, found: Alternatives) -> float | Missing:
    if found.stretched is None:
        return _AT_POWER_LAW
    try:
        return math.exp(math.log(found.stretched.rate) - found.stretched.b * _log_xmin(row, fit))
    except OverflowError:
        return Missing("out_of_range")


def _tpl_alpha(row: Measured, fit: TailFit, found: Alternatives) -> float:
    return 1 + 1 / found.mean_log if found.truncated is None else 1 + found.truncated.a


def _tpl_rate(row: Measured, fit: TailFit, found: Alternatives) -> float | Missing:
    return 0.0 if found.truncated is None else row.in_units(found.truncated.b / fit.xmin, -1.0)


def _best(row: Measured, fit: TailFit, found: Alternatives) -> str:
    return best_fit(found, None if isinstance(row.gof, Missing) else row.gof.p)


def _cutoff(compute: Callable[[Measured, CutoffFit], Value | Missing]) -> Metric:
    def column(row: Measured) -> Value | Missing:
        return row.cutoff if isinstance(row.cutoff, Missing) else compute(row, row.cutoff)

    return Metric("alternatives", column)


ALTERNATIVE_METRICS: dict[str, Metric] = {
    "exp_rate": _of(lambda row, fit, found: row.in_units(found.exponential / fit.xmin, -1.0)),
    "ln_mu": _lognormal(lambda row, fit, found: _log_xmin(row, fit) - found.a / (2 * found.b)),
    "ln_s": _lognormal(lambda row, fit, found: 1 / math.sqrt(2 * found.b)),
    "sexp_b": _of(lambda row, fit, found: _AT_POWER_LAW if found.stretched is None else found.stretched.b),
    "sexp_rate": _of(_sexp_rate),
    "tpl_alpha": _of(_tpl_alpha),
    "tpl_Lambda": _of(_tpl_rate),
    "etpl_alpha": _cutoff(lambda row, found: found.alpha),
    "etpl_Lambda": _cutoff(lambda row, found: row.in_units(found.rate, -1.0)),
    "etpl_xmin": _cutoff(lambda row, found: row.in_units(found.xmin)),
    "etpl_D": _cutoff(lambda row, found: found.D),
    **{f"R_{law}": _ratio(law, lambda ratio: ratio.R) for law in ("exp", "ln", "sexp", "tpl")},
    **{f"p_{law}": _ratio(law, lambda ratio: ratio.p) for law in ("exp", "ln", "sexp", "tpl")},
    "best_fit": _of(_best),
}
