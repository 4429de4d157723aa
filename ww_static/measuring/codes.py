"""Warning codes: what limits the reading of a row, when each holds, and which of them stand in the way of a verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ww_static.layout.layers import LayerView
from ww_static.measuring.measured import Measured
from ww_static.measuring.phase_metrics import rounding_hides
from ww_static.measuring.surveys import Survey
from ww_static.measuring.tail_metrics import has_fingers, is_degenerate
from ww_static.spectral import randomized, ranks
from ww_static.spectral.cutoff import HIGHEST_ALPHA, CutoffFit
from ww_static.spectral.missing import Missing
from ww_static.spectral.phases import RANDOM_LIKE, Phase
from ww_static.spectral.powerlaw import TailFit
from ww_static.spectral.replicas import REJECTED


@dataclass(frozen=True, slots=True)
class Seen:
    """What a code is decided from: the header, the pass over the values, the spectra."""

    view: LayerView
    tensor: Survey
    row: Measured


@dataclass(frozen=True, slots=True)
class Code:
    """One warning code.

    Attributes:
        meaning: of the code, Markdown on one line.
        blocks: what it stands in the way of: ``verdict``, ``scale`` (columns that depend on the scale of the weights), or nothing.
        holds: when a row with a spectrum has it; None where the header says it, or where there is no spectrum.
    """

    meaning: str
    blocks: str
    holds: Callable[[Seen], bool] | None = None


def _of_fit(holds: Callable[[Measured, TailFit], bool]) -> Callable[[Seen], bool]:
    return lambda seen: isinstance(seen.row.fit, TailFit) and holds(seen.row, seen.row.fit)


def _m_below(limit: int) -> Callable[[Seen], bool]:
    return lambda seen: (seen.view.m or 0) < limit


def _has_lost_rank(seen: Seen) -> bool:
    loss = ranks.rank_loss(seen.row.spectra)
    return not seen.row.missing and isinstance(loss, int) and loss > 0


def _gof_is_missing(seen: Seen) -> bool:
    return isinstance(seen.row.gof, Missing) and seen.row.gof.reason != "not_requested"


def _traps(seen: Seen) -> tuple[int, int]:
    """Median number of traps, and of those that are left without the mean; 0 where they were not counted."""
    replicas = seen.row.replicas
    if isinstance(replicas, Missing):
        return 0, 0
    traps, left = replicas.traps(), replicas.traps_centered()
    if isinstance(traps, Missing) or isinstance(left, Missing):
        return 0, 0
    return randomized.median_count(traps), randomized.median_count(left)


def _is_at_truncation(row: Measured, fit: TailFit) -> bool:
    return row.missing > 0 and fit.xmin <= float(row.eigenvalues[int(0.05 * (row.m - 1))])


def _is_at_bound(seen: Seen) -> bool:
    fit, variants = seen.row.fit, seen.row.variants
    bounded = not isinstance(variants, Missing) and variants.bounded == Missing("alpha_at_bound")
    return bounded or (isinstance(fit, CutoffFit) and fit.rate > 0 and fit.alpha in (0, HIGHEST_ALPHA))


CODES: dict[str, Code] = {
    "zero_matrix": Code("all eigenvalues are zero", "verdict", lambda seen: not seen.row.eigenvalues[-1] > 0),
    "constant_tensor": Code(
        "all elements are equal", "verdict", lambda seen: seen.tensor.moments is not None and seen.tensor.moments.constant
    ),
    "nonfinite": Code("the tensor holds NaN or infinity", "verdict"),
    "rank_loss": Code("the rank is below M in some matrix", "verdict", _has_lost_rank),
    "quant_floor": Code(
        "the rounding of stored codes, of a type coarser than float32, or of the two tensors of a difference, hides the rank, or reaches into the tail",
        "verdict",
        lambda seen: rounding_hides(seen.view, seen.tensor, seen.row),
    ),
    "few_evals": Code("fewer than 20 eigenvalues", "verdict", lambda seen: seen.row.m < 20),
    "m_lt_50": Code("M below 50", "verdict", _m_below(50)),
    "m_lt_100": Code("M below 100", "verdict", _m_below(100)),
    "mp_bulk": Code(
        "`phase` is random-like: alpha means nothing",
        "verdict",
        lambda seen: isinstance(seen.row.phase, Phase) and seen.row.phase.name == RANDOM_LIKE,
    ),
    "tail_lt_50": Code("the fitted tail has fewer than 50 values", "verdict", _of_fit(lambda row, fit: fit.k < 50)),
    "near_tie": Code(
        "another xmin has the same D within 1e-9 (with `--precision fast`: within a tenth of the error of D): another processor may choose it",
        "",
        _of_fit(lambda row, fit: fit.near_tie),
    ),
    "gof_reject": Code(
        "`gof_p` is below 0.1: the tail is no power law",
        "verdict",
        lambda seen: not isinstance(seen.row.gof, Missing) and seen.row.gof.p < REJECTED,
    ),
    "gof_missing": Code("`gof_p` was asked for and could not be computed", "verdict", _gof_is_missing),
    "degenerate_xmin": Code(
        "values of xmin that fit nearly as well have exponents that differ by more than 0.5 (`tail` or `gof`)",
        "verdict",
        lambda seen: is_degenerate(seen.row),
    ),
    "fingers": Code(
        "without a few of the largest eigenvalues alpha differs by more than 1 (`tail` or `gof`)",
        "verdict",
        lambda seen: has_fingers(seen.row),
    ),
    "alpha_at_bound": Code(
        "`alpha_xmax` has no value inside its range (`tail` or `gof`), or the alpha of a law with a cut-off is at 0 or 20",
        "verdict",
        _is_at_bound,
    ),
    "fit_degenerate": Code(
        "no candidate for xmin gives an exponent", "verdict", lambda seen: seen.row.fit == Missing("fit_degenerate")
    ),
    "spectral_floor": Code(
        "the numerical floor exceeds 1e-9 xmin", "verdict", _of_fit(lambda row, fit: row.floor > 1e-9 * fit.xmin)
    ),
    "truncated_spectrum": Code(
        "only the largest eigenvalues are in the row (`--top-k`)", "verdict", lambda seen: seen.row.missing > 0
    ),
    "xmin_at_truncation": Code(
        "xmin is among the lowest 5 % of the eigenvalues that `--top-k` kept: the tail may go on below them",
        "verdict",
        _of_fit(_is_at_truncation),
    ),
    "trap_mean": Code(
        "permuted copies have fewer eigenvalues above the edge once the mean of the elements is subtracted: the mean makes some",
        "",
        lambda seen: _traps(seen)[0] > _traps(seen)[1],
    ),
    "trap_element": Code("some are left: single huge elements make them", "", lambda seen: _traps(seen)[1] > 0),
    "aspect_q_gt_8": Code(
        "N/M above 8: read `alpha_hill_excess`, not `alpha_hill`",
        "",
        lambda seen: (seen.view.n or 0) > 8 * (seen.view.m or 0) > 0,
    ),
    "ambiguous_orientation": Code("`orientation` is `ambiguous`", "", lambda seen: seen.view.orientation == "ambiguous"),
    "scale_unknown": Code(
        "an adapter's alpha is not known, so that s is 1: norms, `xmin`, `alpha_weighted` and what else depends on the scale compare with nothing",
        "scale",
    ),
    "one_hot_input": Code(
        "an operator multiplies the weight with one-hot values (`OneHot`, or `Equal` with constant integers): an embedding in disguise",
        "",
    ),
    "without_magnitude": Code("a DoRA adapter: its magnitude vector is not applied", "scale"),
}


def codes_of(view: LayerView, tensor: Survey, row: Measured) -> tuple[str, ...]:
    """What limits the reading of a row with a spectrum: the codes that hold, in the order of `CODES`, and those of the header."""
    seen = Seen(view, tensor, row)
    return (*(name for name, code in CODES.items() if code.holds is not None and code.holds(seen)), *view.notes)


def table() -> str:
    """The codes as a Markdown table, with what each stands in the way of."""
    words = {"verdict": "a verdict", "scale": "columns that depend on scale", "": ""}
    lines = ["| code | meaning | blocks |", "|---|---|---|"]
    lines += [f"| `{name}` | {code.meaning} | {words[code.blocks]} |" for name, code in CODES.items()]
    return "\n".join(lines) + "\n"
