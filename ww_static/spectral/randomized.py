"""An ESD against those of its matrix with the elements permuted: distances, and eigenvalues that survive the permutation.

The elements of a replica, hence its bulk, are those of the matrix; correlations are gone. What still stands out of the bulk
comes from the mean of the elements, or from single huge ones. Source: Martin, Mahoney, arXiv 1901.08278; weightwatcher.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral.bulk import Bulk
from ww_static.spectral.missing import Missing
from ww_static.spectral.mp_fit import MPFit

BINS = 100
_FEW, _MANY = 2**22, 2**24  # elements of a matrix up to which there are five replicas, and three


def replica_count(elements: int) -> int:
    """How many replicas a matrix of so many elements gets: 5, 3 or 1."""
    return 5 if elements <= _FEW else 3 if elements <= _MANY else 1


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica of a row, all its matrices together; in the units of the row's eigenvalues.

    Attributes:
        largest: eigenvalue.
        traps: eigenvalues above the edge; None where there is no edge.
        traps_centered: the same of the matrices less their means.
        eigenvalues: all of them, float64, ascending; None when only the upper end was computed.
    """

    largest: float
    traps: int | None
    traps_centered: int | None
    eigenvalues: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Randomized:
    """The replicas of a row.

    Attributes:
        replicas: an odd number; the first has all its eigenvalues.
        bulk: of the first: its edges are those of all.
        fits: weightwatcher's fit to every replica that has all its eigenvalues.
        floor: eigenvalues at or below it are noise.
    """

    replicas: tuple[Replica, ...]
    bulk: Bulk | Missing
    fits: tuple[MPFit | Missing, ...]
    floor: float

    @property
    def largest(self) -> tuple[float, ...]:
        """The largest eigenvalue of each replica."""
        return tuple(one.largest for one in self.replicas)

    @property
    def full(self) -> tuple[NDArray[np.float64], ...]:
        """The spectra that were computed whole."""
        return tuple(one.eigenvalues for one in self.replicas if one.eigenvalues is not None)

    def traps(self) -> tuple[int, ...] | Missing:
        """Eigenvalues above the edge, per replica."""
        return self._counts(lambda one: one.traps)

    def traps_centered(self) -> tuple[int, ...] | Missing:
        """The same of the matrices less their means."""
        return self._counts(lambda one: one.traps_centered)

    def _counts(self, of: Callable[[Replica], int | None]) -> tuple[int, ...] | Missing:
        if isinstance(self.bulk, Missing):
            return self.bulk
        return tuple(count for one in self.replicas if (count := of(one)) is not None)

    def trap_ratio(self) -> float | Missing:
        """Median over replicas of the largest eigenvalue over the Marchenko-Pastur edge."""
        if isinstance(self.bulk, Missing):
            return self.bulk
        return statistics.median(self.largest) / self.bulk.mp_edge_hi

    def fitted(self, of: Callable[[MPFit], float]) -> float | Missing:
        """Median over the fits; the reason of the first fit that failed."""
        values = []
        for fit in self.fits:
            if isinstance(fit, Missing):
                return fit
            values.append(of(fit))
        return statistics.median(values)


def median_count(counts: Sequence[int]) -> int:
    """The middle one of an odd number of counts."""
    return sorted(counts)[len(counts) // 2]


def mean(values: Sequence[float]) -> float:
    """Mean over replicas."""
    return statistics.fmean(values)


def spread(values: Sequence[float]) -> float | Missing:
    """Standard deviation over replicas, ddof 1; Missing ``one_replica`` when there is one."""
    return statistics.stdev(values) if len(values) > 1 else Missing("one_replica")


def vector_distance(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """sqrt((KL(p|m) + KL(q|m))/2), m = (p + q)/2, of two sorted vectors of eigenvalues, each divided by its sum.

    Natural logarithms. A divergence of vectors, not of densities: weightwatcher's, kept with its name.
    """
    return _shannon(p / p.sum(), q / q.sum())


def density_distance(p: NDArray[np.float64], q: NDArray[np.float64], floor: float = 0.0) -> float | Missing:
    """sqrt of the Jensen-Shannon divergence of two densities of log10 lambda, on 100 common bins: in [0, sqrt(ln 2)].

    Args:
        p, q: eigenvalues, float64, ascending.
        floor: those at or below it are left out.

    Returns:
        The distance; or Missing: ``zero_matrix``, ``constant_esd`` (one value only).
    """
    logs = [np.log10(one[np.searchsorted(one, max(floor, 0.0), side="right") :]) for one in (p, q)]
    if not all(len(one) for one in logs):
        return Missing("zero_matrix")
    low, high = min(one[0] for one in logs), max(one[-1] for one in logs)
    if not high - low > 1e-9:
        return Missing("constant_esd")
    of_p, of_q = (np.histogram(one, BINS, (low, high))[0] / len(one) for one in logs)
    return _shannon(of_p, of_q)


def transport_distance(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Wasserstein-1 distance of two ESDs of equal length, in units of the mean of the first: mean |p_i - q_i| / mean p."""
    return float(np.mean(np.abs(p - q)) / np.mean(p))


def _shannon(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    m = 0.5 * (p + q)

    def divergence(of: NDArray[np.float64]) -> float:
        some = of > 0
        return float(np.sum(of[some] * np.log(of[some] / m[some])))

    return float(np.sqrt(max(0.5 * (divergence(p) + divergence(q)), 0.0)))
