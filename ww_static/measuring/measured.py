"""One row's matrices, measured once: eigenvalues in ESD units, their fit, their bulk. Every column is a function of this."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ww_static.options import Options
from ww_static.spectral import ranks
from ww_static.spectral.alternatives import Alternatives, alternatives
from ww_static.spectral.bulk import Bulk, bulk
from ww_static.spectral.cutoff import CUTOFFS, CutoffFit, cutoff_fit
from ww_static.spectral.detx import DetX, detx
from ww_static.spectral.eigen import Spectrum
from ww_static.spectral.missing import Missing
from ww_static.spectral.mp_fit import MPFit, mp_fit
from ww_static.spectral.phases import Phase
from ww_static.spectral.powerlaw import TailFit, tail
from ww_static.spectral.randomized import Randomized
from ww_static.spectral.replicas import Bootstrap, GoodnessOfFit
from ww_static.spectral.unresolved import least_distance
from ww_static.spectral.variants import Variants, robust_fit, variants
from ww_static.spectral.vectors import Vectors

FIT_CUT = 1e-5
LOG10_2 = math.log10(2.0)
_NOT_REQUESTED = Missing("not_requested")
_Found = TypeVar("_Found")


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
        power_law: the power law of the tail.
        fit: of the tail: the power law, or the law with a cut-off that was asked for.
        space: the effective correlation space.
        rank: hard rank of the pooled list.
        law: weightwatcher's Marchenko-Pastur fit.
        bulk: robust variance, edges and spikes.
        robust: of the tail, with the two-sided distance.
        phase: which shape the ESD has.
        replicas: the spectra of the permuted matrices, when they were asked for.
        bootstrap: the spread of alpha over samples of the values, when it was asked for.
        gof: the test of the fit, when it was asked for.
        variants: what else could have been fitted, when it was asked for, or a test of the fit, whose verdict it may block.
        alternatives: other laws of the same tail, when they were asked for.
        cutoff: the power law with a cut-off and its own xmin, when it was asked for.
        crosscheck: the fit of the same values by another package, when it was asked for.
        farms: Hill's exponent of the pooled windows, when it was asked for.
        vectors: the eigenvectors on both sides of xmin, when they were asked for.
        codes: what limits the reading of the row.
    """

    spectra: tuple[Spectrum, ...]
    eigenvalues: NDArray[np.float64]
    shift: int
    factor: float
    sv_factor: float
    n: int
    tail_values: NDArray[np.float64]
    power_law: TailFit | Missing
    fit: TailFit | Missing
    space: DetX | Missing
    rank: int | Missing
    law: MPFit | Missing
    bulk: Bulk | Missing
    robust: TailFit | Missing = _NOT_REQUESTED
    phase: Phase | Missing = _NOT_REQUESTED
    replicas: Randomized | Missing = _NOT_REQUESTED
    bootstrap: Bootstrap | Missing = _NOT_REQUESTED
    gof: GoodnessOfFit | Missing = _NOT_REQUESTED
    variants: Variants | Missing = _NOT_REQUESTED
    alternatives: Alternatives | Missing = _NOT_REQUESTED
    cutoff: CutoffFit | Missing = _NOT_REQUESTED
    farms: float | Missing = _NOT_REQUESTED
    crosscheck: TailFit | Missing = _NOT_REQUESTED
    vectors: Vectors | Missing = _NOT_REQUESTED
    codes: tuple[str, ...] = ()

    @property
    def m(self) -> int:
        """Eigenvalues of the row that are known."""
        return len(self.eigenvalues)

    @property
    def missing(self) -> int:
        """Eigenvalues that `--top-k` left out, all smaller than those that are known."""
        return sum(one.missing for one in self.spectra)

    @property
    def count(self) -> int:
        """Eigenvalues of the row, those that `--top-k` left out included."""
        return self.m + self.missing

    @property
    def total(self) -> float:
        """Sum of all eigenvalues, those that were left out included, in the units of `eigenvalues`."""
        known = self.spectra[0].total
        return float(self.eigenvalues.sum()) if known is None else known * self.factor

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
        return math.log10(value) + self.shift * LOG10_2 if value > 0 else Missing("zero_matrix")


Value = float | int | str | Sequence[float]


@dataclass(frozen=True, slots=True)
class Metric:
    """A column of a group and the function that computes it."""

    group: str
    compute: Callable[[Measured], Value | Missing]


def of_part(
    group: str, part: Callable[[Measured], _Found | Missing], compute: Callable[[Measured, _Found], Value | Missing]
) -> Metric:
    """A column that is computed from one part of a row, and null for the part's reason where that is missing."""

    def column(row: Measured) -> Value | Missing:
        found = part(row)
        return found if isinstance(found, Missing) else compute(row, found)

    return Metric(group, column)


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
    values, power_law = _fit(spectra, eigenvalues, shift, factor, options)
    floor = max(one.floor for one in spectra) * factor
    exact = spectra[0].precision == "exact"
    missing, total = sum(one.missing for one in spectra), spectra[0].total
    absent = Missing("truncated_spectrum") if missing else None
    # of a product the zeros are left out, and the law is not that of independent elements
    no_law = absent or (Missing("not_applicable") if spectra[0].method == "lowrank" else None)
    return Measured(
        spectra=spectra,
        eigenvalues=eigenvalues,
        shift=shift,
        factor=factor,
        sv_factor=esd_scale,
        n=n,
        tail_values=values,
        power_law=power_law,
        fit=power_law if isinstance(power_law, Missing) or options.fit == "PL" else CUTOFFS[options.fit](values),
        space=detx(eigenvalues, missing=missing, total=None if total is None else total * factor),
        rank=absent or ranks.hard_rank(spectra),
        law=no_law or mp_fit(eigenvalues, n / len(spectra[0].eigenvalues)),
        bulk=no_law or bulk(eigenvalues, n, len(spectra), floor, factor),
        robust=power_law if isinstance(power_law, Missing) else robust_fit(values) if exact else Missing("precision"),
        variants=_asked(("tail", "gof"), options, power_law, lambda found: variants(values, found, options.fit_minimum)),
        alternatives=_asked(("alternatives",), options, power_law, lambda found: alternatives(values, found)),
        cutoff=_asked(("alternatives",), options, power_law, lambda _: cutoff_fit(values)),
    )


def _asked(
    groups: tuple[str, ...], options: Options, fit: TailFit | Missing, compute: Callable[[TailFit], _Found | Missing]
) -> _Found | Missing:
    """What some groups of columns are made from; float32 spectra and rows without a fit have none."""
    if not set(groups) & set(options.metrics) or options.precision == "fast":
        return _NOT_REQUESTED
    return fit if isinstance(fit, Missing) else compute(fit)


def _fit(
    spectra: tuple[Spectrum, ...], eigenvalues: NDArray[np.float64], shift: int, factor: float, options: Options
) -> tuple[NDArray[np.float64], TailFit | Missing]:
    """The values above the cut, which is absolute in ESD units, without the largest that were to be left out, and their power law."""
    fewest = options.fit_minimum
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
    if options.xmax and -2 * options.xmax <= len(above):
        above = above[: options.xmax]
    elif options.xmax:
        return above, Missing("too_few_evals")
    if len(above) < fewest:
        return above, Missing("too_few_evals")
    if not single:
        return above, tail(above)
    return above, _single_fit(above, floor, fewest)


def _single_fit(above: NDArray[np.float64], floor: float, fewest: int) -> TailFit | Missing:
    """The fit of eigenvalues in float32: only where it does not depend on those at or below the floor, which are not known."""
    unknown = int(np.searchsorted(above, floor, side="right"))
    if len(above) - unknown < fewest:
        return Missing("below_spectral_floor")
    fit = tail(above, doubt=floor)
    if unknown == 0 or isinstance(fit, Missing):
        return fit
    settled = fit.xmin > floor and fit.D + fit.distance_error(floor) < least_distance(above[unknown:], unknown)
    return fit if settled else Missing("below_spectral_floor")
