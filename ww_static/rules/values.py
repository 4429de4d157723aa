"""WW101 to WW105 and WW108: what the stored values of one tensor show, seen in one pass, and the ranks of its matrices."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Annotated

import msgspec

from ww_static.rows import LayerRow
from ww_static.rules.rule import Evidence, Found, Info, Rule, Setting, found_in

_SAMPLE = 64  # rows and columns of which rank_sample is the rank
# A matrix whose values are known, and whose eigenvalues are all equal, or were not computed.
_MATRIX = frozenset(("zero_matrix", "constant_esd", "profile", "size_limit", "time_limit", "memory_limit"))
_BY_NAME = frozenset(("fixed_transform", "gradient", "not_applicable", "unsupported_rank"))
_FLAT, _FLAT_NAME = 2**16, re.compile(r"(?:^|[._/])flat_param")  # all parameters of a module in one vector
_STACKED = 8  # fewer biases beside each other are those of gates
_UNSQUARED = 1e70  # beyond it a fourth power leaves float64, and moments are not known
_RARE = 100.0  # an element whose square is below so many mean squares is no exception; one in so many may be as large


class RankCollapse(Setting, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of WW104.

    Attributes:
        min_rank_share: least share of num_evals that the rank, and the effective rank, must be.
        min_evals: rows with fewer eigenvalues are not judged.
    """

    min_rank_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1
    min_evals: Annotated[int, msgspec.Meta(ge=2)] = 8


class Extreme(Setting, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of WW105.

    Attributes:
        max_ratio: the largest ratio that is not reported.
    """

    max_ratio: Annotated[float, msgspec.Meta(gt=1)] = 1000.0


def is_matrix(row: LayerRow) -> bool:
    """Whether a row is about weights that have a spectrum, computed or not."""
    return bool(row.has_esd) or row.reason in _MATRIX


def _is_finite(row: LayerRow) -> bool:
    return not (row.n_nan or row.n_inf)


def _is_buffer(row: LayerRow) -> bool:
    """Whether a tensor is no weight; a word such as ``fft`` in its name does not make it one."""
    return row.kind == "buffer" and row.reason != "fixed_transform"


def _is_weight(row: LayerRow) -> bool:
    """Whether not all of its elements may be equal: a matrix, or what only its name or the number of its axes keeps from a spectrum.

    Quantization tables, adapters before their training and the state of an optimizer may well be zero, and so may few stacked biases.
    """
    sizes = [size for size in row.shape or () if size > 1]
    if is_matrix(row):
        return True
    if len(sizes) == 1:
        return sizes[0] > _FLAT and row.name is not None and _FLAT_NAME.search(row.name) is not None
    stacked = row.kind != "bias" or (row.kind_source == "name" and min(sizes, default=0) >= _STACKED)
    return len(sizes) > 1 and row.reason in _BY_NAME and stacked


def _is_mask(row: LayerRow) -> bool:
    """Whether a tensor is a mask of zeros and infinities, or an infinite constant: a buffer, or a scalar of a graph."""
    constant = _is_buffer(row) or (row.numel == 1 and row.reader == "onnx")
    real = row.dtype not in ("C64", "C128")  # of which nothing else is known
    return constant and real and not row.n_nan and not row.abs_max and row.status != "failed"


def _nonfinite(evidence: Evidence, _: Setting) -> Iterable[Found]:
    for row in evidence.tensors():
        count = (row.n_nan or 0) + (row.n_inf or 0)
        if count and not _is_mask(row):
            message = f"{row.n_nan} NaN and {row.n_inf} infinite of {row.numel} elements"
            yield found_in(row, message, metric="n_nan" if row.n_nan else "n_inf", value=count, limit=0)


def _zero(evidence: Evidence, _: Setting) -> Iterable[Found]:
    whole = set()
    for row in evidence.rows:
        if not _is_weight(row) or not _is_finite(row) or row.name in whole:
            continue
        if row.abs_max == 0:
            whole.add(row.name)
            yield found_in(row, f"all {row.numel} elements are zero", metric="abs_max", value=0.0)
        elif row.reason == "zero_matrix":  # one part of a tensor, or the product of two factors
            yield found_in(row, "all eigenvalues are zero", metric="lambda_max", value=0.0)


def _constant(evidence: Evidence, _: Setting) -> Iterable[Found]:
    for row in evidence.tensors():
        if _is_weight(row) and row.min == row.max and row.abs_max and _is_finite(row):
            yield found_in(row, f"all {row.numel} elements are {row.min!r}", metric="std", value=0.0)


def _collapsed(evidence: Evidence, settings: RankCollapse) -> Iterable[Found]:
    for row in evidence.rows:
        if row.kind != "lora_delta" and row.abs_max != 0 and row.min != row.max:
            yield from _of_spectrum(row, settings) if row.has_esd else _of_sample(row, settings)


def _of_spectrum(row: LayerRow, settings: RankCollapse) -> Iterable[Found]:
    evals = row.num_evals or 0
    limit = max(settings.min_rank_share * evals, 1.5)
    if evals < settings.min_evals:
        return
    if row.matrix_rank is not None and row.matrix_rank < limit:
        yield found_in(row, f"rank {row.matrix_rank} of {evals}", metric="matrix_rank", value=row.matrix_rank, limit=limit)
    elif row.erank_sigma is not None and row.erank_sigma < limit and (extremity(row) or 0.0) <= Extreme().max_ratio:
        message = f"effective rank {row.erank_sigma:.4g} of {evals}"
        yield found_in(row, message, metric="erank_sigma", value=row.erank_sigma, limit=limit)


def _of_sample(row: LayerRow, settings: RankCollapse) -> Iterable[Found]:
    limit = settings.min_rank_share * _SAMPLE
    sparse = (row.zero_fraction or 0.0) >= 0.5  # the rank of a few zeros and others says nothing
    if row.rank_sample is not None and row.rank_sample < limit and is_matrix(row) and not sparse:
        message = f"rank {row.rank_sample} of {_SAMPLE} of its rows and columns"
        yield found_in(row, message, metric="rank_sample", value=row.rank_sample, limit=limit)


def extremity(row: LayerRow) -> float | None:
    """The largest deviation from the mean over the root mean square of the others; None where nothing is exceptional or known.

    With x the deviations and S the largest, the others are weighted by 1 - (x/S)^2, so that a few of the size of S do not
    count either: their mean square is m2 - m4/S^2, over the elements that are not zero.
    """
    if row.std is None or row.mean is None or row.excess_kurtosis is None or row.min is None or row.max is None or row.std == 0:
        return None
    largest = max(row.max - row.mean, row.mean - row.min)
    m2 = row.std**2
    held = m2 / max(1 - (row.zero_fraction or 0.0), 1 / (row.numel or 1))  # per element that is not zero
    if largest**2 < _RARE * held:
        return None
    rest = max(1 - (row.excess_kurtosis + 3) * m2 / largest**2, 1e-12)  # 1e-12: below it rounding decides
    return largest / math.sqrt(rest * held)


def _extreme(evidence: Evidence, settings: Extreme) -> Iterable[Found]:
    for row in evidence.tensors():
        if not is_matrix(row) or not _is_finite(row):
            continue
        if row.std is None and (row.abs_max or 0.0) > _UNSQUARED:
            message = f"an element of absolute value {row.abs_max:.4g}: float64 cannot hold its square and fourth power"
            yield found_in(row, message, metric="abs_max", value=row.abs_max, limit=_UNSQUARED)
        ratio = extremity(row)
        if ratio is not None and ratio > settings.max_ratio:
            message = f"an element of absolute value {row.abs_max:.4g} is {ratio:.4g} times the root mean square of the others"
            yield found_in(
                row, message, metric="abs_max", value=row.abs_max, limit=(row.abs_max or 0.0) * settings.max_ratio / ratio
            )


def _below_noise(evidence: Evidence, _: Setting) -> Iterable[Found]:
    for row in evidence.rows:
        if "quant_floor" in (row.warning_codes or ()):
            yield found_in(
                row, f"the rounding to {row.dtype} hides the rank, or reaches into the tail", metric="alpha", value=row.alpha
            )


VALUE_RULES = (
    Rule("WW101", "non-finite", "A tensor holds NaN or infinity",
         "n_nan + n_inf > 0, unless the tensor is a mask: a buffer, or a scalar of a graph, without NaN, whose finite elements are all zero",
         "A table may hold infinity on purpose.", "Fetch the file again; if it is the same, the training diverged.", Setting, _nonfinite),
    Rule("WW102", "all-zero", "All elements of a matrix are zero", "abs_max = 0 of a matrix (also of one that only its name, such as fft or grads, or the number of its axes keeps from a spectrum, and of a flat_param), or lambda_max = 0 of a part or of an adapter's product",
         "A branch may be switched off on purpose; an adapter is zero before its training.",
         "Fetch the file again, or look at how it was saved.", Setting, _zero, spectrum="also"),
    Rule("WW103", "constant", "All elements of a matrix are equal", "min = max, not zero, of what WW102 judges",
         "A table may be constant on purpose.", "Look at how the file was saved.", Setting, _constant),
    Rule("WW104", "rank-collapse", "A matrix has almost no rank",
         "matrix_rank, or erank_sigma = exp(-sum p ln p) with p = sigma/sum sigma, below max(min_rank_share num_evals, 1.5); "
         "the second sees a low rank that rounding to float32 or bfloat16 hides from the first, and is not asked where a huge element holds most of it: where the ratio of WW105 is above its default, whatever a policy says of WW105. Where a profile takes no spectrum: rank_sample < 64 min_rank_share, unless half of the elements are zero. Products of adapters are not judged",
         "A matrix may be the product of two small ones by construction.",
         "Look at the training; suppress it where it is meant.", RankCollapse, _collapsed, spectrum="also"),
    Rule("WW105", "extreme-elements", "Single elements are far larger than all others",
         "S/sqrt(m2 - m4/S^2) > max_ratio, with S = max |x - mean|, m2 = std^2, m4 = (excess_kurtosis + 3) m2^2, both over the elements that are not zero; "
         "only where S^2 > 100 m2. It is the largest element against the root mean square of the others, of which those of the size of S count little. Also abs_max > 1e70 where moments cannot be computed",
         "Outlier elements of trained models were seen up to 354 times the root mean square; a matrix smaller than 100 elements is never reported.",
         "Fetch the file again: a flipped bit of an exponent looks like this. If it is the same, look at the training.", Extreme, _extreme),
    Rule("WW108", "noise-floor", "What is computed from a matrix lies below the rounding of its storage dtype", "the code quant_floor in warning_codes",
         "It says nothing against the model, only against its alpha and its rank.", "Audit the weights before they were rounded, if there are any.",
         Info, _below_noise, spectrum="only"),
)  # fmt: skip
