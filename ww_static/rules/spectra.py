"""WW201 to WW206: what the spectra show; heuristics, so they warn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from ww_static.rows import LayerRow
from ww_static.rules.rule import Evidence, Found, Info, Positive, Rule, Warn, found_in

# The warning codes that block a verdict, those of the tail first; a test holds them against the table of codes.
OF_THE_TAIL = (
    "few_evals", "tail_lt_50", "gof_reject", "gof_missing", "degenerate_xmin", "fingers", "alpha_at_bound", "fit_degenerate",
    "spectral_floor", "truncated_spectrum", "xmin_at_truncation",
)  # fmt: skip
BLOCKING = frozenset(OF_THE_TAIL) | {
    "zero_matrix", "constant_tensor", "nonfinite", "rank_loss", "quant_floor", "m_lt_50", "m_lt_100", "mp_bulk",
}  # fmt: skip


class AlphaAbove(Warn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of WW201.

    Attributes:
        max: the largest alpha that is not reported.
        max_distance: the largest D with which a fit is taken for one.
    """

    max: Annotated[float, msgspec.Meta(gt=1)] = 6.0
    max_distance: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.1


class AlphaBelow(Warn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of WW202.

    Attributes:
        min: the smallest alpha that is not reported.
        max_distance: the largest D with which a fit is taken for one.
    """

    min: Annotated[float, msgspec.Meta(gt=1)] = 2.0
    max_distance: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.1


class Untrained(Warn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of WW203.

    Attributes:
        min_p: the p-value of lambda_max from which on nothing sets it apart from noise.
        min_evals: matrices with a shorter side M are not judged.
    """

    min_p: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.01
    min_evals: Annotated[int, msgspec.Meta(ge=20)] = 100


class Traps(Warn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of WW204.

    Attributes:
        min_share: the share of lambda_max from which on the largest eigenvalue of permuted copies is reported.
        min_evals: matrices with a shorter side M are not judged.
    """

    min_share: Positive = 0.5
    min_evals: Annotated[int, msgspec.Meta(ge=20)] = 50


class Unreliable(Info, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of WW205.

    Attributes:
        max_distance: the largest D with which a fit is taken for one.
        min_evals: rows with fewer eigenvalues are not judged: no fit of so few is reliable.
    """

    max_distance: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.1
    min_evals: Annotated[int, msgspec.Meta(ge=8)] = 100


class LowStableRank(Warn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of WW206.

    Attributes:
        min: the smallest stable rank that is not reported.
        min_evals: rows with fewer eigenvalues are not judged.
    """

    min: Annotated[float, msgspec.Meta(ge=1)] = 1.5
    min_evals: Annotated[int, msgspec.Meta(ge=2)] = 50


def _is_sound(row: LayerRow, max_distance: float) -> bool:
    """Whether a row has an alpha that means something: no noise, no code that blocks a verdict, a close fit."""
    if row.alpha is None or row.sigma is None or row.D is None or row.phase in (None, "random-like", "undetermined"):
        return False
    return row.D <= max_distance and not BLOCKING.intersection(row.warning_codes or ())


def _fit(row: LayerRow) -> str:
    return f"alpha {row.alpha:.2f} +- {row.sigma:.2f}, D {row.D:.3f}, {row.n_tail} of {row.num_evals} in the tail, {row.phase}"


def _alpha_above(evidence: Evidence, settings: AlphaAbove) -> Iterable[Found]:
    for row in evidence.rows:
        if _is_sound(row, settings.max_distance) and row.alpha is not None and row.sigma is not None:
            lowest = min(row.alpha - 2 * row.sigma, row.alpha if row.alpha_robust is None else row.alpha_robust)
            if lowest > settings.max:
                yield found_in(row, f"{_fit(row)}: above {settings.max:g}", metric="alpha", value=row.alpha, limit=settings.max)


def _alpha_below(evidence: Evidence, settings: AlphaBelow) -> Iterable[Found]:
    for row in evidence.rows:
        if (
            row.phase == "heavy-tailed"
            and _is_sound(row, settings.max_distance)
            and row.alpha is not None
            and row.sigma is not None
        ):
            highest = max(row.alpha + 2 * row.sigma, row.alpha if row.alpha_robust is None else row.alpha_robust)
            if highest < settings.min:
                yield found_in(row, f"{_fit(row)}: below {settings.min:g}", metric="alpha", value=row.alpha, limit=settings.min)


def _untrained(evidence: Evidence, settings: Untrained) -> Iterable[Found]:
    for row in evidence.rows:
        if (
            row.phase == "random-like"
            and row.tw_p is not None
            and row.tw_p >= settings.min_p
            and (row.M or 0) >= settings.min_evals
        ):
            message = f"the spectrum of {row.N} x {row.M} is that of noise, p {row.tw_p:.2g} of its largest eigenvalue"
            yield found_in(row, message, metric="tw_p", value=row.tw_p, limit=settings.min_p)


def _traps(evidence: Evidence, settings: Traps) -> Iterable[Found]:
    for row in evidence.rows:
        single = row.rf == 1 and (row.M or 0) >= settings.min_evals and "trap_element" in (row.warning_codes or ())
        if single and row.ww_softrank is not None and row.ww_softrank >= settings.min_share:
            message = f"traps in permuted copies: {row.num_traps_demeaned}, the largest eigenvalue {row.ww_softrank:.2g} of lambda_max"
            yield found_in(row, message, metric="ww_softrank", value=row.ww_softrank, limit=settings.min_share)


def _unreliable(evidence: Evidence, settings: Unreliable) -> Iterable[Found]:
    for row in evidence.rows:
        if (row.num_evals or 0) < settings.min_evals or row.alpha is None or row.phase == "random-like":
            continue
        codes = [code for code in row.warning_codes or () if code in OF_THE_TAIL]
        far = row.D is not None and row.D > settings.max_distance
        if codes or far:
            why = ", ".join([*codes, *([f"D {row.D:.3f} above {settings.max_distance:g}"] if far else [])])
            yield found_in(
                row,
                f"alpha {row.alpha:.2f} of {row.n_tail} values is not to be relied on: {why}",
                metric="alpha",
                value=row.alpha,
            )


def _low_stable_rank(evidence: Evidence, settings: LowStableRank) -> Iterable[Found]:
    for row in evidence.rows:
        evals = row.num_evals or 0
        if row.stable_rank is None or row.rf != 1 or row.kind == "lora_delta" or evals < settings.min_evals:
            continue
        if row.stable_rank < settings.min:
            message = f"stable rank {row.stable_rank:.3g} of {evals}: one direction holds most of the matrix"
            yield found_in(row, message, metric="stable_rank", value=row.stable_rank, limit=settings.min)


SPECTRAL_RULES = (
    Rule("WW201", "alpha-above", "The tail of a layer is lighter than those of trained ones",
         "alpha - 2 sigma > max and alpha_robust > max, where the phase is neither random-like nor undetermined, no code that blocks a verdict is there "
         "(tails of 50 values at least, M of 100 at least), and D <= max_distance",
         "The limit comes from layers trained by SGD and Adam. sigma is less than the true spread. A narrow bulk has a large alpha and may be trained.",
         "Look at the fit and the phase of the layer; compare it with the same layer of a model that works.", AlphaAbove, _alpha_above, spectrum="only"),
    Rule("WW202", "alpha-below", "The tail of a layer is heavier than those of trained ones",
         "alpha + 2 sigma < min and alpha_robust < min, where the phase is heavy-tailed, no code that blocks a verdict is there, and D <= max_distance",
         "Embeddings and layers with few strong directions have such tails without harm. sigma is less than the true spread.",
         "Look at WW105 and WW204 for the layer: single elements can make the tail. Else compare it with a model that works.", AlphaBelow, _alpha_below, spectrum="only"),
    Rule("WW203", "untrained", "A layer cannot be told from random initialization",
         "phase = random-like and tw_p >= min_p, with M of min_evals at least; tw_p = P(TW1 >= standardized lambda_max) under independent elements of equal variance",
         "A layer that learned less than noise hides looks the same, and so does one that is frozen on purpose. Of noise a share of min_p is missed. "
         "Orthogonal initialization has equal eigenvalues and is not seen.",
         "See whether the layer was trained, and whether all of the checkpoint was loaded before it was saved.", Untrained, _untrained, spectrum="only"),
    Rule("WW204", "traps", "Single elements, and no correlation, make the top of a spectrum",
         "trap_element in warning_codes (eigenvalues of permuted copies above the edge of noise although the mean is subtracted) and "
         "ww_softrank = max_rand_eval/lambda_max >= min_share; single matrices with M of min_evals at least",
         "Outlier elements of trained transformers do this without harm. Pooled convolutions are not judged, since their taps differ in scale.",
         "Read alpha of the layer with care; `sharpen` shows the matrix without them.", Traps, _traps, "full", "only"),
    Rule("WW205", "tail-unreliable", "The power-law fit of a layer is not to be relied on",
         "one of the codes " + ", ".join(f"`{code}`" for code in OF_THE_TAIL) + ", or D > max_distance, of a row with min_evals eigenvalues at least that is no noise",
         "It says nothing against the layer, only against its alpha.", "Do not compare this alpha.", Unreliable, _unreliable, spectrum="only"),
    Rule("WW206", "low-stable-rank", "One direction holds most of a matrix", "stable_rank = norm/lambda_max < min, of single matrices with min_evals eigenvalues at least; adapters and pooled convolutions are not judged",
         "A matrix with a large common mean has it, and works.", "Look at the mean and the largest elements of the matrix.", LowStableRank, _low_stable_rank, spectrum="only"),
)  # fmt: skip
