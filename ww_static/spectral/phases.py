"""Phases of training: which of six shapes an ESD has, how near that decision was, and which one it would have been else.

Source: Martin, Mahoney 1810.01075, section 5 ("5 + 1 phases"); the thresholds separate synthetic families and are no theorem.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain, combinations

from ww_static.spectral.bulk import Bulk
from ww_static.spectral.missing import Missing
from ww_static.spectral.powerlaw import TailFit

RANDOM_LIKE = "random-like"
BLEEDING_OUT = "bleeding-out"
SPIKES = "bulk+spikes"
DECAY = "bulk-decay"
HEAVY_TAILED = "heavy-tailed"
COLLAPSE = "rank-collapse"
UNDETERMINED = "undetermined"
PHASES = (RANDOM_LIKE, BLEEDING_OUT, SPIKES, DECAY, HEAVY_TAILED, COLLAPSE, UNDETERMINED)

FEWEST_COLUMNS = 50  # below it nothing is said
ZERO_SHARE = 0.05  # of the eigenvalues: from here on the rank has collapsed
BULK_DISTANCE = 0.03  # D_bulk up to which the rest is a Marchenko-Pastur bulk
BULK_STEPS = 6  # or this many eigenvalues, where that is more
FEW_OUTLIERS = 0.05  # share up to which outliers stand beside a bulk
NEAR_EDGE = 1.5  # lambda_max over the edge of the bulk, below which outliers bleed out of it
NO_BULK = 0.15  # D_bulk above which there is no bulk
HEAVY_MASS = 0.5  # share of the sum of eigenvalues from which outliers rule
LARGEST_ALPHA = 6.0  # of a heavy tail
TAIL_DISTANCE = 0.12  # D_robust up to which the tail is a power law
VERY_HEAVY = 2.0  # alpha below which a tail is very heavy


@dataclass(frozen=True, slots=True)
class Phase:
    """The phase of an ESD.

    Attributes:
        name: one of `PHASES`.
        margin: by how much, relative to their thresholds, the values that decide must change together for another name; None if
            undetermined.
        runner_up: that name; None if undetermined, or if it cannot be told.
    """

    name: str
    margin: float | None
    runner_up: str | None


@dataclass(frozen=True, slots=True)
class _Comparison:
    value: float
    holds: Callable[[float, float], bool]
    threshold: float


def phase(
    columns: int, zero_share: float, largest: float, bulk: Bulk | Missing, robust: TailFit | Missing, count: int
) -> Phase | Missing:
    """The phase, decided in the order rank, bulk, outliers, tail.

    Args:
        columns: shorter side M of one matrix.
        zero_share: of the eigenvalues that are zero but for rounding.
        largest: the largest eigenvalue, in the units of `bulk`.
        bulk: of the ESD; outliers are the eigenvalues above its edge of 0.1 %.
        robust: F(x, 2, max(10, floor(0.02 n))) of the eigenvalues.
        count: eigenvalues.

    Returns:
        The phase; or Missing: the reason of `bulk` or `robust` where the decision needs it.
    """
    if columns < FEWEST_COLUMNS:
        return Phase(UNDETERMINED, None, None)
    found = {"collapsed": _Comparison(zero_share, operator.ge, ZERO_SHARE)}
    if isinstance(bulk, Bulk):
        found |= _of_bulk(bulk, largest, count)
    if isinstance(robust, TailFit):
        found |= {
            "alpha": _Comparison(robust.alpha, operator.le, LARGEST_ALPHA),
            "power_law": _Comparison(robust.D, operator.le, TAIL_DISTANCE),
        }
    holds = {name: one.holds(one.value, one.threshold) for name, one in found.items()}
    name = _name(holds)
    if name is None:
        return next(one for one in (bulk, robust) if isinstance(one, Missing))
    return Phase(name, *_nearest(name, holds, {key: abs(one.value / one.threshold - 1) for key, one in found.items()}))


def _nearest(name: str, holds: Mapping[str, bool], distances: Mapping[str, float]) -> tuple[float, str | None]:
    """The smallest distance such that comparisons no farther from their thresholds, turned round, give another name."""
    near = sorted(distances, key=lambda key: distances[key])
    for count, last in enumerate(near):
        for others in chain.from_iterable(combinations(near[:count], size) for size in range(count + 1)):
            other = _name({**holds, **{key: not holds[key] for key in (*others, last)}})
            if other != name:
                return distances[last], other
    raise AssertionError("the rank alone decides: turned round, it gives another name")


def _of_bulk(bulk: Bulk, largest: float, count: int) -> dict[str, _Comparison]:
    return {
        "bulk": _Comparison(bulk.D_bulk, operator.le, max(BULK_DISTANCE, BULK_STEPS / count)),
        "outliers": _Comparison(largest / bulk.outlier_edge, operator.gt, 1.0),
        "few": _Comparison(bulk.frac_out, operator.le, FEW_OUTLIERS),
        "near": _Comparison(largest / bulk.mp_edge_hi, operator.lt, NEAR_EDGE),
        "no_bulk": _Comparison(bulk.D_bulk, operator.gt, NO_BULK),
        "heavy_mass": _Comparison(bulk.mass_out, operator.ge, HEAVY_MASS),
    }


def _name(holds: Mapping[str, bool]) -> str | None:
    """The phase from its comparisons; None where one is needed that is not there."""
    try:
        if holds["collapsed"]:
            return COLLAPSE
        if holds["bulk"] and not holds["outliers"]:
            return RANDOM_LIKE
        if holds["bulk"] and holds["few"]:
            return BLEEDING_OUT if holds["near"] else SPIKES
        if (holds["no_bulk"] or holds["heavy_mass"]) and holds["alpha"] and holds["power_law"]:
            return HEAVY_TAILED
    except KeyError:
        return None
    return DECAY


def tail_class(found: Phase, robust: TailFit | Missing) -> str | Missing:
    """``very_heavy`` (alpha < 2), ``fat`` (2 to 6) or ``weak`` (> 6), by the robust alpha, of an ESD that has a tail.

    Missing: ``not_applicable`` for other phases than heavy-tailed and bulk-decay, or the reason of the fit.
    """
    if found.name not in (HEAVY_TAILED, DECAY):
        return Missing("not_applicable")
    if isinstance(robust, Missing):
        return robust
    return "very_heavy" if robust.alpha < VERY_HEAVY else "fat" if robust.alpha <= LARGEST_ALPHA else "weak"
