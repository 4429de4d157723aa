"""WW101 to WW119: what the stored values show, seen in one pass."""

from __future__ import annotations

from collections.abc import Iterable

from ww_static.rows import LayerRow
from ww_static.rules.rule import Evidence, Found, Rule, Setting, found_in


class RankCollapse(Setting, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of WW104.

    Attributes:
        min_rank_share: least share of M that the rank must be.
        min_evals: matrices with fewer eigenvalues are not judged.
    """

    min_rank_share: float = 0.1
    min_evals: int = 8


def _is_matrix(row: LayerRow) -> bool:
    return bool(row.has_esd) or row.reason in ("zero_matrix", "constant_esd")


def _nonfinite(evidence: Evidence, _: Setting) -> Iterable[Found]:
    for row in evidence.tensors():
        if row.n_nan or row.n_inf:
            count = (row.n_nan or 0) + (row.n_inf or 0)
            yield found_in(row, f"{row.n_nan} NaN and {row.n_inf} infinite of {row.numel} elements", metric="n_nan" if row.n_nan else "n_inf", value=count, limit=0)  # fmt: skip


def _zero(evidence: Evidence, _: Setting) -> Iterable[Found]:
    for row in evidence.tensors():
        if _is_matrix(row) and row.abs_max == 0 and not (row.n_nan or row.n_inf):
            yield found_in(row, f"all {row.numel} elements are zero", metric="abs_max", value=0.0)


def _constant(evidence: Evidence, _: Setting) -> Iterable[Found]:
    for row in evidence.tensors():
        if _is_matrix(row) and row.min == row.max and row.abs_max and not (row.n_nan or row.n_inf):
            yield found_in(row, f"all {row.numel} elements are {row.min!r}", metric="std", value=0.0)


def _collapsed(evidence: Evidence, settings: RankCollapse) -> Iterable[Found]:
    for row in evidence.rows:
        if row.matrix_rank is None or row.kind == "lora_delta" or row.abs_max == 0 or row.min == row.max:
            continue
        evals = row.num_evals or 0
        if evals >= settings.min_evals and row.matrix_rank < settings.min_rank_share * evals:
            yield found_in(
                row,
                f"rank {row.matrix_rank} of {evals}",
                metric="matrix_rank",
                value=row.matrix_rank,
                limit=settings.min_rank_share * evals,
            )


VALUE_RULES = (
    Rule("WW101", "non-finite", "A tensor holds NaN or infinity", "n_nan + n_inf > 0",
         "A mask may hold -infinity on purpose.", "Fetch the file again; if it is the same, the training diverged.", Setting, _nonfinite),
    Rule("WW102", "all-zero", "All elements of a matrix are zero", "abs_max = 0 of a matrix",
         "A branch may have been switched off on purpose.", "Fetch the file again, or look at how it was saved.", Setting, _zero),
    Rule("WW103", "constant", "All elements of a matrix are equal", "min = max of a matrix that is not zero",
         "A table may be constant on purpose.", "Look at how the file was saved.", Setting, _constant),
    Rule("WW104", "rank-collapse", "A matrix has almost no rank", "matrix_rank < min_rank_share num_evals",
         "A matrix may be the product of two small ones by construction.", "Look at the training; suppress it where it is meant.", RankCollapse, _collapsed),
)  # fmt: skip
