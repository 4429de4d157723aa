"""METRICS: column -> function. What users see in a row, in one table; the mathematics is in `spectral`."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ww_static.measuring.alternative_metrics import ALTERNATIVE_METRICS
from ww_static.measuring.crosschecking import CROSSCHECK_METRICS
from ww_static.measuring.measured import LOG10_2, Measured, Metric, Value, of_part
from ww_static.measuring.phase_metrics import PHASE_METRICS
from ww_static.measuring.tail_metrics import TAIL_METRICS, count_from
from ww_static.measuring.vector_metrics import VECTOR_METRICS
from ww_static.measuring.verdicts import VERDICT_METRICS
from ww_static.spectral import density, norms, randomized, ranks
from ww_static.spectral.bulk import Bulk, level_spacing_ratio
from ww_static.spectral.cutoff import CutoffFit
from ww_static.spectral.detx import DetX
from ww_static.spectral.missing import Missing
from ww_static.spectral.mp_fit import MPFit
from ww_static.spectral.powerlaw import TailFit, candidates
from ww_static.spectral.randomized import Randomized

CONSTANT = 1e-9  # relative spread below which eigenvalues are equal
WEAK = 1e-6


def _norm(row: Measured) -> float | Missing:
    return row.in_units(row.total)


def _lambda_max(row: Measured) -> float | Missing:
    return row.in_units(float(row.eigenvalues[-1]))


def _sigma(row: Measured) -> NDArray[np.float64]:
    """Singular values of the stored weights times 2^(-shift/2), all matrices, ascending."""
    return np.sqrt(row.eigenvalues / row.factor)


def _sv_max(row: Measured) -> float | Missing:
    return row.in_units(float(_sigma(row)[-1]) * math.sqrt(row.sv_factor), 0.5)


def _sv_min(row: Measured) -> float | Missing:
    if any(one.unresolved for one in row.spectra):
        return Missing("below_spectral_floor")
    return row.in_units(float(_sigma(row)[0]) * math.sqrt(row.sv_factor), 0.5)


def _entropy(row: Measured) -> float | Missing:
    return row.rank if isinstance(row.rank, Missing) else ranks.matrix_entropy(row.eigenvalues, row.rank)


def _weak_rank_loss(row: Measured) -> int | Missing:
    try:
        return int(np.count_nonzero(row.eigenvalues < math.ldexp(WEAK, -row.shift)))
    except OverflowError:
        return row.m


def _gavish_donoho(row: Measured) -> int | Missing:
    if len(row.spectra) > 1 or row.spectra[0].method == "lowrank":  # a median of all M singular values is meant
        return Missing("not_applicable")
    return norms.gavish_donoho(_sigma(row), row.n)


def _of_fit(compute: Callable[[Measured, TailFit], Value | Missing]) -> Metric:
    return of_part("default", lambda row: row.fit, compute)


def _of_power_law(compute: Callable[[Measured, TailFit], Value | Missing]) -> Metric:
    """A column that a law with a cut-off does not have."""
    return _of_fit(lambda row, fit: Missing("not_applicable") if isinstance(fit, CutoffFit) else compute(row, fit))


def _of_cutoff(compute: Callable[[Measured, CutoffFit], Value | Missing]) -> Metric:
    """A column that a power law does not have."""
    return _of_fit(lambda row, fit: compute(row, fit) if isinstance(fit, CutoffFit) else Missing("not_applicable"))


def _of_space(compute: Callable[[Measured, DetX], Value | Missing]) -> Metric:
    return of_part("default", lambda row: row.space, compute)


def _alpha_weighted(row: Measured, fit: TailFit) -> float | Missing:
    largest = row.log10(float(row.eigenvalues[-1]))
    return largest if isinstance(largest, Missing) else fit.alpha * largest


def _log_alpha_norm(row: Measured, fit: TailFit) -> float | Missing:
    value = norms.log10_of_powers(row.eigenvalues, fit.alpha)
    return value if isinstance(value, Missing) else value + fit.alpha * row.shift * LOG10_2


def _n_below_cut(row: Measured) -> int:
    return int(np.searchsorted(row.eigenvalues, row.tail_values[0], side="left")) if len(row.tail_values) else row.m


def warning_word(alpha: float) -> str:
    """weightwatcher's label for an exponent: for comparison only, never a verdict."""
    return "over-trained" if alpha < 2 else "under-trained" if alpha > 6 else ""


def _erg_gap(row: Measured, space: DetX) -> int | Missing:
    return row.fit if isinstance(row.fit, Missing) else space.num - count_from(row, row.fit)


def _delta_lambda_min(row: Measured, space: DetX) -> float | Missing:
    if isinstance(row.fit, Missing):
        return row.fit
    return (row.fit.xmin - space.value) * row.count / row.total


def _of_law(compute: Callable[[Measured, MPFit], Value | Missing]) -> Metric:
    return of_part("default", lambda row: row.law, compute)


def _of_bulk(compute: Callable[[Measured, Bulk], Value | Missing]) -> Metric:
    return of_part("default", lambda row: row.bulk, compute)


def _of_spikes(compute: Callable[[Bulk], NDArray[np.float64]]) -> Metric:
    return _of_bulk(lambda row, bulk: doubles(compute(bulk)) if bulk.num_spikes else Missing("no_spikes"))


def _W_scale(row: Measured) -> float | Missing:
    total = float(row.eigenvalues.sum())
    return row.in_units(math.sqrt(row.m / total), -0.5) if total > 0 else Missing("zero_matrix")


def _level_spacing_r(row: Measured) -> float | Missing:
    if len(row.spectra) > 1 or row.spectra[0].method == "lowrank":
        return Missing("not_applicable")
    return level_spacing_ratio(row.eigenvalues, row.floor)


def _random(compute: Callable[[Measured, Randomized], Value | Missing]) -> Metric:
    return of_part("randomize", lambda row: row.replicas, compute)


def _of_counts(counts: Callable[[Randomized], tuple[int, ...] | Missing], reduce: Callable[[tuple[int, ...]], int]) -> Metric:
    def column(row: Measured, replicas: Randomized) -> int | Missing:
        found = counts(replicas)
        return found if isinstance(found, Missing) else reduce(found)

    return _random(column)


def _of_rand_fit(of: Callable[[MPFit], float], power: float) -> Metric:
    def column(row: Measured, replicas: Randomized) -> float | Missing:
        value = replicas.fitted(of)
        return value if isinstance(value, Missing) else row.in_units(value, power)

    return _random(column)


def _in_units(row: Measured, value: float | Missing) -> float | Missing:
    return value if isinstance(value, Missing) else row.in_units(value)


def _ww_maxdist(row: Measured, replicas: Randomized) -> float | Missing:
    difference = float(row.eigenvalues[-1]) - randomized.mean(replicas.largest)
    size = row.in_units(abs(difference))
    return size if isinstance(size, Missing) else math.copysign(size, difference)


def _distances(row: Measured, replicas: Randomized) -> list[float]:
    return [randomized.vector_distance(row.eigenvalues, one) for one in replicas.full]


def _transports(row: Measured, replicas: Randomized) -> list[float]:
    return [randomized.transport_distance(row.eigenvalues, one) for one in replicas.full]


def _jsd(reduce: Callable[[Sequence[float]], float | Missing]) -> Metric:
    def column(row: Measured, replicas: Randomized) -> float | Missing:
        floor = max(row.floor, replicas.floor)
        found = [randomized.density_distance(row.eigenvalues, one, floor) for one in replicas.full]
        missing = [one for one in found if isinstance(one, Missing)]
        return missing[0] if missing else reduce([one for one in found if not isinstance(one, Missing)])

    return _random(column)


def _plain(compute: Callable[[Measured], Value | Missing]) -> Metric:
    return Metric("default", compute)


def doubles(values: NDArray[np.float64]) -> Sequence[float]:
    """The numbers of a curve as eight bytes each, which is what a row keeps."""
    curve = array("d")
    curve.frombytes(np.ascontiguousarray(values, np.float64).tobytes())
    return curve


def _curve(compute: Callable[[Measured], NDArray[np.float64] | Missing]) -> Metric:
    def column(row: Measured) -> Value | Missing:
        values = compute(row)
        return values if isinstance(values, Missing) else doubles(values)

    return Metric("esd", column)


def _esd(row: Measured) -> NDArray[np.float64] | Missing:
    with np.errstate(over="ignore", under="ignore"):
        values = np.ldexp(row.eigenvalues, row.shift)
    return values if np.isfinite(values).all() and (values[-1] > 0 or row.eigenvalues[-1] == 0) else Missing("out_of_range")


def _of_esd(compute: Callable[[NDArray[np.float64]], NDArray[np.float64] | Missing]) -> Metric:
    def curve(row: Measured) -> NDArray[np.float64] | Missing:
        values = _esd(row)
        return values if isinstance(values, Missing) else compute(values)

    return _curve(curve)


def _of_spread(compute: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Metric:
    def curve(values: NDArray[np.float64]) -> NDArray[np.float64] | Missing:
        return compute(values) if _spreads(values) else Missing("constant_esd" if values[-1] > 0 else "zero_matrix")

    return _of_esd(curve)


def _spreads(values: NDArray[np.float64]) -> bool:
    """Whether ascending values differ by more than rounding, so that bins between them make sense."""
    return bool(values[-1] - values[0] > CONSTANT * max(abs(values[0]), abs(values[-1])))


def _logs(values: NDArray[np.float64]) -> NDArray[np.float64] | Missing:
    logs = np.log10(values[values > 0])
    if len(logs) == 0:
        return Missing("zero_matrix")
    return logs if logs[-1] - logs[0] > CONSTANT else Missing("constant_esd")


def _of_logs(compute: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Metric:
    def curve(values: NDArray[np.float64]) -> NDArray[np.float64] | Missing:
        logs = _logs(values)
        return logs if isinstance(logs, Missing) else compute(logs)

    return _of_esd(curve)


def _ks(row: Measured) -> tuple[NDArray[np.float64], NDArray[np.float64]] | Missing:
    if isinstance(row.power_law, Missing):
        return row.power_law
    found = candidates(row.tail_values)
    with np.errstate(over="ignore"):
        xmins = np.ldexp(found.xmin, row.shift)
    return (xmins, found.D) if np.isfinite(xmins).all() else Missing("out_of_range")


def _of_ks(which: int) -> Metric:
    def curve(row: Measured) -> NDArray[np.float64] | Missing:
        found = _ks(row)
        return found if isinstance(found, Missing) else found[which]

    return _curve(curve)


# what float32 spectra are good for: the upper end of the ESD, and sums that it rules; permuted matrices are computed in float64
OF_FAST = frozenset(
    ("norm", "spectral_norm", "lambda_max", "log_norm", "log_spectral_norm", "frob_norm", "op_norm", "sv_max", "stable_rank",
     "alpha", "xmin", "xmax", "D", "fit_kind", "Lambda", "sigma", "alpha_error", "num_pl_spikes", "n_tail", "tail_frac", "alpha_weighted",
     "log_alpha_norm", "warning", "W_scale", "rand_replicas", "max_rand_eval", "max_rand_eval_sd", "ww_softrank", "ww_maxdist",
     "rand_sigma_mp", "rand_mp_softrank", "rand_W_scale", "rand_bulk_max", "rand_bulk_min", "rand_num_spikes", "num_traps",
     "num_traps_min", "num_traps_max", "num_traps_demeaned", "trap_ratio")
)  # fmt: skip

METRICS: dict[str, Metric] = {
    "norm": _plain(_norm),
    "spectral_norm": _plain(_lambda_max),
    "lambda_max": _plain(_lambda_max),
    "log_norm": _plain(lambda row: row.log10(row.total)),
    "log_spectral_norm": _plain(lambda row: row.log10(float(row.eigenvalues[-1]))),
    "frob_norm": _plain(lambda row: row.in_units(math.sqrt(row.total / row.factor), 0.5)),
    "op_norm": _plain(lambda row: row.in_units(float(_sigma(row)[-1]), 0.5)),
    "nuclear_norm": _plain(lambda row: row.in_units(float(_sigma(row).sum()), 0.5)),
    "sv_max": _plain(_sv_max),
    "sv_min": _plain(_sv_min),
    "stable_rank": _plain(lambda row: norms.stable_rank(row.eigenvalues, row.total)),
    "matrix_rank": _plain(lambda row: row.rank),
    "rank_loss": _plain(lambda row: ranks.rank_loss(row.spectra)),
    "weak_rank_loss": _plain(_weak_rank_loss),
    "entropy": _plain(_entropy),
    "erank_sigma": _plain(lambda row: ranks.effective_rank(_sigma(row))),
    "erank_lambda": _plain(lambda row: ranks.effective_rank(row.eigenvalues)),
    "k_elbow": _plain(lambda row: norms.elbow(row.eigenvalues)),
    "k_gavish_donoho": _plain(_gavish_donoho),
    "alpha": _of_fit(lambda row, fit: fit.alpha),
    "xmin": _of_fit(lambda row, fit: row.in_units(fit.xmin)),
    "xmax": _of_fit(lambda row, fit: row.in_units(float(row.tail_values[-1]))),
    "D": _of_fit(lambda row, fit: fit.D),
    "Lambda": _of_cutoff(lambda row, fit: row.in_units(fit.rate, -1.0)),
    "fit_kind": _of_fit(lambda row, fit: fit.kind),
    "sigma": _of_power_law(lambda row, fit: fit.sigma),
    "alpha_error": _of_power_law(lambda row, fit: fit.alpha_error(row.floor)),
    "num_pl_spikes": _of_fit(count_from),
    "n_tail": _of_fit(count_from),
    "tail_frac": _of_fit(lambda row, fit: count_from(row, fit) / row.count),
    "n_fit": _plain(lambda row: len(row.tail_values)),
    "n_below_cut": _plain(_n_below_cut),
    "alpha_weighted": _of_fit(_alpha_weighted),
    "log_alpha_norm": _of_fit(_log_alpha_norm),
    "warning": _of_fit(lambda row, fit: warning_word(fit.alpha)),
    "detX_num": _of_space(lambda row, space: space.num),
    "num_ERG_spikes": _of_space(lambda row, space: space.num),
    "detX_val": _of_space(lambda row, space: row.in_units(space.value)),
    "detX_val_unrescaled": _of_space(lambda row, space: space.rescaled),
    "detX_frac": _of_space(lambda row, space: space.num / row.count),
    "ERG_gap": _of_space(_erg_gap),
    "delta_lambda_min": _of_space(_delta_lambda_min),
    "W_scale": _plain(_W_scale),
    "sigma_mp": _of_law(lambda row, law: law.sigma_mp),
    "bulk_min": _of_law(lambda row, law: row.in_units(law.bulk_min)),
    "bulk_max": _of_law(lambda row, law: row.in_units(law.bulk_max)),
    "mp_softrank": _of_law(lambda row, law: law.mp_softrank),
    "mp_sigma2": _of_bulk(lambda row, bulk: row.in_units(bulk.mp_sigma2)),
    "mp_shape_spread": _of_bulk(lambda row, bulk: bulk.mp_shape_spread),
    "mp_edge_lo": _of_bulk(lambda row, bulk: row.in_units(bulk.mp_edge_lo)),
    "mp_edge_hi": _of_bulk(lambda row, bulk: row.in_units(bulk.mp_edge_hi)),
    "tw_edge": _of_bulk(lambda row, bulk: row.in_units(bulk.tw_edge)),
    "tw_p": _of_bulk(lambda row, bulk: bulk.tw_p),
    "num_spikes": _of_bulk(lambda row, bulk: bulk.num_spikes),
    "frac_out": _of_bulk(lambda row, bulk: bulk.frac_out),
    "mass_out": _of_bulk(lambda row, bulk: bulk.mass_out),
    "D_bulk": _of_bulk(lambda row, bulk: bulk.D_bulk),
    "spike_theta": _of_spikes(lambda bulk: bulk.spike_theta),
    "spike_overlap_M": _of_spikes(lambda bulk: bulk.spike_overlap_M),
    "spike_overlap_N": _of_spikes(lambda bulk: bulk.spike_overlap_N),
    "level_spacing_r": _plain(_level_spacing_r),
    "rand_replicas": _random(lambda row, replicas: len(replicas.replicas)),
    "max_rand_eval": _random(lambda row, replicas: row.in_units(randomized.mean(replicas.largest))),
    "max_rand_eval_sd": _random(lambda row, replicas: _in_units(row, randomized.spread(replicas.largest))),
    "ww_softrank": _random(lambda row, replicas: randomized.mean(replicas.largest) / float(row.eigenvalues[-1])),
    "ww_maxdist": _random(_ww_maxdist),
    "rand_distance": _random(lambda row, replicas: randomized.mean(_distances(row, replicas))),
    "rand_distance_sd": _random(lambda row, replicas: randomized.spread(_distances(row, replicas))),
    "rand_jsd": _jsd(randomized.mean),
    "rand_jsd_sd": _jsd(randomized.spread),
    "w1_rand_distance": _random(lambda row, replicas: randomized.mean(_transports(row, replicas))),
    "w1_rand_distance_sd": _random(lambda row, replicas: randomized.spread(_transports(row, replicas))),
    "rand_sigma_mp": _of_rand_fit(lambda law: law.sigma_mp, 0.0),
    "rand_mp_softrank": _of_rand_fit(lambda law: law.mp_softrank, 0.0),
    "rand_W_scale": _of_rand_fit(lambda law: law.W_scale, -0.5),
    "rand_bulk_max": _of_rand_fit(lambda law: law.bulk_max, 1.0),
    "rand_bulk_min": _of_rand_fit(lambda law: law.bulk_min, 1.0),
    "rand_num_spikes": _of_counts(Randomized.traps, randomized.median_count),
    "num_traps": _of_counts(Randomized.traps, randomized.median_count),
    "num_traps_min": _of_counts(Randomized.traps, min),
    "num_traps_max": _of_counts(Randomized.traps, max),
    "num_traps_demeaned": _of_counts(Randomized.traps_centered, randomized.median_count),
    "trap_ratio": _random(lambda row, replicas: replicas.trap_ratio()),
    **PHASE_METRICS,
    **TAIL_METRICS,
    **VERDICT_METRICS,
    **ALTERNATIVE_METRICS,
    **CROSSCHECK_METRICS,
    **VECTOR_METRICS,
    "esd": _curve(_esd),
    "explained_k": _curve(lambda row: norms.explained(row.eigenvalues, row.total)),
    "survival": _of_esd(density.survival),
    "hist_edges": _of_spread(lambda values: density.histogram(values).x),
    "hist_counts": _of_spread(lambda values: density.histogram(values).y),
    "log_hist_edges": _of_logs(lambda logs: density.histogram(logs).x),
    "log_hist_counts": _of_logs(lambda logs: density.histogram(logs).y),
    "kde_x": _of_logs(lambda logs: density.kernel_density(logs).x),
    "kde_density": _of_logs(lambda logs: density.kernel_density(logs).y),
    "sv_hist_edges": _of_spread(lambda values: density.normalized_histogram(np.sqrt(values)).x),
    "sv_density": _of_spread(lambda values: density.normalized_histogram(np.sqrt(values)).y),
    "ks_xmins": _of_ks(0),
    "ks_D": _of_ks(1),
}
