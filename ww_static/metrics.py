"""METRICS: column -> function. What users see in a row, in one table; the mathematics is in `spectral`."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ww_static.options import Options
from ww_static.spectral import density, norms, ranks
from ww_static.spectral.detx import DetX, detx
from ww_static.spectral.eigen import Spectrum
from ww_static.spectral.missing import Missing
from ww_static.spectral.powerlaw import TailFit, candidates, tail

FIT_CUT = 1e-5
CONSTANT = 1e-9  # relative spread below which eigenvalues are equal
WEAK = 1e-6
_LOG10_2 = math.log10(2.0)

Value = float | int | str | Sequence[float]


@dataclass(frozen=True, slots=True)
class Measured:
    """One row's matrices, measured: what every metric is a function of.

    Attributes:
        spectra: one per matrix, in units of the stored weights.
        eigenvalues: of all matrices, float64, ascending, in ESD units times 2^-shift.
        shift: 0 except for weights whose squares leave the range of float64.
        factor: ESD units per squared stored weight: esd_scale, divided by N for the 1/N convention.
        sv_factor: squared singular values as reported per squared stored weight: esd_scale.
        n: longer side of one matrix.
        tail_values: the eigenvalues above the fit cut, which the fit looks at.
        fit: of the tail.
        space: the effective correlation space.
        rank: hard rank of the pooled list.
    """

    spectra: tuple[Spectrum, ...]
    eigenvalues: NDArray[np.float64]
    shift: int
    factor: float
    sv_factor: float
    n: int
    tail_values: NDArray[np.float64]
    fit: TailFit | Missing
    space: DetX | Missing
    rank: int | Missing

    @property
    def m(self) -> int:
        """Eigenvalues of the row."""
        return len(self.eigenvalues)

    @property
    def precision(self) -> str:
        """``exact`` or ``fast``: how the eigenvalues were computed."""
        return self.spectra[0].precision

    @property
    def floor(self) -> float:
        """Spectral floor of the row, in the units of `eigenvalues`."""
        return max(one.floor for one in self.spectra) * self.factor

    def in_units(self, value: float, power: float = 1.0) -> float | Missing:
        """`value`, computed from shifted eigenvalues to the given power, in ESD units; ``out_of_range`` if none fits."""
        try:
            result = math.ldexp(value, round(self.shift * power))
        except OverflowError:
            return Missing("out_of_range")
        return Missing("out_of_range") if result == 0 < value else result

    def log10(self, value: float) -> float | Missing:
        """log10 of a positive `value` in the units of `eigenvalues`, in ESD units: never out of range."""
        return math.log10(value) + self.shift * _LOG10_2 if value > 0 else Missing("zero_matrix")


def measure(spectra: tuple[Spectrum, ...], esd_scale: float, options: Options) -> Measured:
    """Pools the spectra of a row and fits them.

    Args:
        spectra: one per matrix, all of the same exponent.
        esd_scale: factor on the eigenvalues of W^T W.
        options: normalization and the fewest eigenvalues that are fitted.
    """
    n = max(one.n for one in spectra)
    factor = esd_scale / n if options.esd_norm == "1/N" else esd_scale
    eigenvalues = np.sort(np.concatenate([one.eigenvalues for one in spectra])) * factor
    shift = 2 * spectra[0].exponent
    values, fit = _fit(spectra, eigenvalues, shift, factor, options.fit_minimum)
    return Measured(
        spectra=spectra,
        eigenvalues=eigenvalues,
        shift=shift,
        factor=factor,
        sv_factor=esd_scale,
        n=n,
        tail_values=values,
        fit=fit,
        space=detx(eigenvalues),
        rank=ranks.hard_rank(spectra),
    )


def _fit(
    spectra: tuple[Spectrum, ...], eigenvalues: NDArray[np.float64], shift: int, factor: float, fewest: int
) -> tuple[NDArray[np.float64], TailFit | Missing]:
    """The values above the cut, which is absolute in ESD units, and their fit."""
    try:
        cut = math.ldexp(FIT_CUT, -shift)
    except OverflowError:
        cut = math.inf
    above = eigenvalues[eigenvalues > cut]
    floor = max(one.floor for one in spectra) * factor
    if not eigenvalues[-1] > 0:
        return above, Missing("zero_matrix")
    single = spectra[0].precision == "fast"
    if floor > cut and not single:
        if any(one.unresolved for one in spectra):
            return above, Missing("below_spectral_floor")
        above = above[above > floor]  # below it an SVD gives noise, not eigenvalues
    if len(eigenvalues) < fewest:
        return above, Missing("too_few_evals")
    if len(above) == 0:
        return above, Missing("all_below_cut")
    if len(above) < fewest:
        return above, Missing("too_few_evals")
    fit = tail(above, doubt=floor if single else 0.0)
    if single and isinstance(fit, TailFit) and fit.xmin <= floor:  # the tail begins among values that float32 does not know
        return above, Missing("below_spectral_floor")
    return above, fit


@dataclass(frozen=True, slots=True)
class Metric:
    """A column of a group and the function that computes it."""

    group: str
    compute: Callable[[Measured], Value | Missing]


def _norm(row: Measured) -> float | Missing:
    return row.in_units(float(row.eigenvalues.sum()))


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
    def column(row: Measured) -> Value | Missing:
        return row.fit if isinstance(row.fit, Missing) else compute(row, row.fit)

    return Metric("default", column)


def _of_space(compute: Callable[[Measured, DetX], Value | Missing]) -> Metric:
    def column(row: Measured) -> Value | Missing:
        return row.space if isinstance(row.space, Missing) else compute(row, row.space)

    return Metric("default", column)


def _n_tail(row: Measured, fit: TailFit) -> int:
    return row.m - int(np.searchsorted(row.eigenvalues, fit.xmin, side="left"))


def _alpha_weighted(row: Measured, fit: TailFit) -> float | Missing:
    largest = row.log10(float(row.eigenvalues[-1]))
    return largest if isinstance(largest, Missing) else fit.alpha * largest


def _log_alpha_norm(row: Measured, fit: TailFit) -> float | Missing:
    value = norms.log10_of_powers(row.eigenvalues, fit.alpha)
    return value if isinstance(value, Missing) else value + fit.alpha * row.shift * _LOG10_2


def warning_word(alpha: float) -> str:
    """weightwatcher's label for an exponent: for comparison only, never a verdict."""
    return "over-trained" if alpha < 2 else "under-trained" if alpha > 6 else ""


def _erg_gap(row: Measured, space: DetX) -> int | Missing:
    return row.fit if isinstance(row.fit, Missing) else space.num - _n_tail(row, row.fit)


def _delta_lambda_min(row: Measured, space: DetX) -> float | Missing:
    if isinstance(row.fit, Missing):
        return row.fit
    return (row.fit.xmin - space.value) * row.m / float(row.eigenvalues.sum())


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
    if isinstance(row.fit, Missing):
        return row.fit
    found = candidates(row.tail_values)
    with np.errstate(over="ignore"):
        xmins = np.ldexp(found.xmin, row.shift)
    return (xmins, found.D) if np.isfinite(xmins).all() else Missing("out_of_range")


def _of_ks(which: int) -> Metric:
    def curve(row: Measured) -> NDArray[np.float64] | Missing:
        found = _ks(row)
        return found if isinstance(found, Missing) else found[which]

    return _curve(curve)


# what float32 spectra are good for: the upper end of the ESD, and sums that it rules
OF_FAST = frozenset(
    ("norm", "spectral_norm", "lambda_max", "log_norm", "log_spectral_norm", "frob_norm", "op_norm", "sv_max", "stable_rank",
     "alpha", "xmin", "xmax", "D", "sigma", "alpha_error", "num_pl_spikes", "n_tail", "tail_frac", "alpha_weighted",
     "log_alpha_norm", "warning")
)  # fmt: skip

METRICS: dict[str, Metric] = {
    "norm": _plain(_norm),
    "spectral_norm": _plain(_lambda_max),
    "lambda_max": _plain(_lambda_max),
    "log_norm": _plain(lambda row: row.log10(float(row.eigenvalues.sum()))),
    "log_spectral_norm": _plain(lambda row: row.log10(float(row.eigenvalues[-1]))),
    "frob_norm": _plain(lambda row: row.in_units(math.sqrt(float(row.eigenvalues.sum()) / row.factor), 0.5)),
    "op_norm": _plain(lambda row: row.in_units(float(_sigma(row)[-1]), 0.5)),
    "nuclear_norm": _plain(lambda row: row.in_units(float(_sigma(row).sum()), 0.5)),
    "sv_max": _plain(_sv_max),
    "sv_min": _plain(_sv_min),
    "stable_rank": _plain(lambda row: norms.stable_rank(row.eigenvalues)),
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
    "sigma": _of_fit(lambda row, fit: fit.sigma),
    "alpha_error": _of_fit(lambda row, fit: fit.alpha_error(row.floor)),
    "num_pl_spikes": _of_fit(_n_tail),
    "n_tail": _of_fit(_n_tail),
    "tail_frac": _of_fit(lambda row, fit: _n_tail(row, fit) / row.m),
    "n_fit": _plain(lambda row: len(row.tail_values)),
    "n_below_cut": _plain(lambda row: row.m - len(row.tail_values)),
    "alpha_weighted": _of_fit(_alpha_weighted),
    "log_alpha_norm": _of_fit(_log_alpha_norm),
    "warning": _of_fit(lambda row, fit: warning_word(fit.alpha)),
    "detX_num": _of_space(lambda row, space: space.num),
    "num_ERG_spikes": _of_space(lambda row, space: space.num),
    "detX_val": _of_space(lambda row, space: row.in_units(space.value)),
    "detX_val_unrescaled": _of_space(lambda row, space: space.rescaled),
    "detX_frac": _of_space(lambda row, space: space.num / row.m),
    "ERG_gap": _of_space(_erg_gap),
    "delta_lambda_min": _of_space(_delta_lambda_min),
    "esd": _curve(_esd),
    "explained_k": _curve(lambda row: norms.explained(row.eigenvalues)),
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
