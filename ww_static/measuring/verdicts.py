"""Verdicts: what may be said of a layer when everything that could speak against it has been asked, with the evidence in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ww_static.measuring.codes import CODES
from ww_static.measuring.measured import Measured, Metric, Value
from ww_static.measuring.tail_metrics import count_from
from ww_static.spectral.cutoff import CutoffFit
from ww_static.spectral.missing import Missing
from ww_static.spectral.phases import DECAY, HEAVY_TAILED, RANDOM_LIKE, Phase
from ww_static.spectral.powerlaw import TailFit

NO_SIGNAL, IN_RANGE, OVER, UNDER, INCONCLUSIVE = "no_signal", "in_range", "over_trained", "under_trained", "inconclusive"
VERDICTS = (NO_SIGNAL, IN_RANGE, OVER, UNDER, INCONCLUSIVE)
LOWEST, HIGHEST = 2.0, 6.0  # alpha of trained models, as far as they were seen


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict and the numbers that it rests on.

    Attributes:
        name: one of `VERDICTS`.
        evidence: alpha with its interval, p, the phase, the size of the tail, and the name, in one line.
    """

    name: str
    evidence: str


def verdict(row: Measured) -> Verdict | Missing:
    """The verdict on a row that was tested.

    ``no_signal`` for the phase random-like. ``in_range``, ``over_trained`` and ``under_trained`` need all of: no code that blocks;
    the phase heavy-tailed, for ``under_trained`` bulk-decay as well; p >= 0.1; and the interval of alpha and the alpha that was tested all in
    [2, 6], below 2, above 6. Else ``inconclusive``. Missing: the reason of the fit, where there is none to judge.
    """
    phase = row.phase.name if isinstance(row.phase, Phase) else None
    if phase == RANDOM_LIKE and "m_lt_100" not in row.codes:
        return Verdict(NO_SIGNAL, f"{_evidence(row)}: {NO_SIGNAL}")
    if isinstance(row.fit, Missing):
        return row.fit
    blocking = [code for code in row.codes if CODES[code].blocks == "verdict"]
    name = INCONCLUSIVE if blocking else _by_alpha(row, phase)
    why = ", ".join(blocking) or _unsettled(row, phase)
    return Verdict(name, f"{_evidence(row)}: {name}" + (f" ({why})" if name == INCONCLUSIVE else ""))


def _alphas(row: Measured) -> tuple[float, float] | None:
    """The smallest and the largest alpha of the interval and of the test; None where one is missing."""
    if isinstance(row.bootstrap, Missing) or isinstance(row.gof, Missing):
        return None
    return min(row.bootstrap.lo, row.gof.fit.alpha), max(row.bootstrap.hi, row.gof.fit.alpha)


def _is_cut(row: Measured) -> bool:
    """Whether the largest eigenvalues were left out on request: a fit that was made to look better earns nothing."""
    return bool(row.tail_values[-1] < row.eigenvalues[-1])


def _by_alpha(row: Measured, phase: str | None) -> str:
    alphas = _alphas(row)
    if isinstance(row.fit, CutoffFit) or _is_cut(row) or alphas is None or phase not in (HEAVY_TAILED, DECAY):
        return INCONCLUSIVE
    low, high = alphas
    if low > HIGHEST:
        return UNDER
    if phase != HEAVY_TAILED:
        return INCONCLUSIVE
    return OVER if high < LOWEST else IN_RANGE if LOWEST <= low and high <= HIGHEST else INCONCLUSIVE


def _unsettled(row: Measured, phase: str | None) -> str:
    """Why a row without a code that blocks has no verdict."""
    if isinstance(row.fit, CutoffFit):
        return "alpha of a law with a cut-off"
    if _is_cut(row):
        return "alpha without the largest eigenvalues"
    if phase not in (HEAVY_TAILED, DECAY):
        return "no phase that supports one"
    if isinstance(row.bootstrap, Missing):
        return "no interval of alpha"
    if phase == DECAY:
        return "only a heavy tail, or alpha above 6, supports one"
    return f"alpha on both sides of {LOWEST:g} or {HIGHEST:g}"


def _evidence(row: Measured) -> str:
    parts = []
    if isinstance(row.fit, TailFit):
        interval = "" if isinstance(row.bootstrap, Missing) else f" [{row.bootstrap.lo:.2f}, {row.bootstrap.hi:.2f}]"
        parts.append(f"alpha {row.fit.alpha:.2f}{interval}")
    if not isinstance(row.gof, Missing):
        parts.append(f"p {row.gof.p:.2f} at alpha {row.gof.fit.alpha:.2f}")
    parts.append(row.phase.name if isinstance(row.phase, Phase) else f"no phase ({row.phase.reason})")
    if isinstance(row.fit, TailFit):
        parts.append(f"{count_from(row, row.fit)} of {row.m} in the tail")
    return ", ".join(parts)


def _verdict(compute: Callable[[Verdict], Value]) -> Metric:
    def column(row: Measured) -> Value | Missing:
        found = verdict(row)
        return found if isinstance(found, Missing) else compute(found)

    return Metric("gof", column)


VERDICT_METRICS: dict[str, Metric] = {
    "verdict": _verdict(lambda found: found.name),
    "verdict_evidence": _verdict(lambda found: found.evidence),
}
