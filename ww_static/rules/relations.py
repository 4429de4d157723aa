"""WW106 and WW107: tensors of one model against each other."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from statistics import median
from typing import Annotated

import msgspec

from ww_static.rows import LayerRow
from ww_static.rules.rule import Evidence, Found, Positive, Rule, Setting, found_in
from ww_static.rules.values import is_matrix

_NUMBER = re.compile(r"[._]?\d+")
# Modules that repeat an embedding by declaration, beside those of the kinds embedding and head.
_TIED = re.compile(r"(?:^|[./])(?:lm_head|decoder|proj_out|embed_out|output_projection|generator|shared|logits)(?:[./]|$)")


class ScaleOutlier(Setting, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of WW106.

    Attributes:
        max_decades: how far log10 of the root mean square may be from the median of the group.
        min_group: smaller groups are not judged.
    """

    max_decades: Positive = 2.5
    min_group: Annotated[int, msgspec.Meta(ge=3)] = 3


def role(row: LayerRow) -> tuple[str, str | None, int]:
    """What tensors of the same purpose share: the name without its numbers, the kind, and the number of axes."""
    return _NUMBER.sub("", row.name or ""), row.kind, len(row.shape or ())


def _rms(row: LayerRow) -> float:
    """Root mean square of the elements; 0 where it is not known."""
    return 0.0 if row.mean is None or row.std is None else math.hypot(row.mean, row.std)


def _outliers(evidence: Evidence, settings: ScaleOutlier) -> Iterable[Found]:
    groups: dict[tuple[str, str | None, int], list[LayerRow]] = defaultdict(list)
    for row in evidence.tensors():
        if is_matrix(row) and _rms(row) > 0:
            groups[role(row)].append(row)
    for group in groups.values():
        if len(group) < settings.min_group:
            continue
        middle = median(math.log10(_rms(row)) for row in group)
        for row in group:
            decades = math.log10(_rms(row)) - middle
            if abs(decades) > settings.max_decades:
                factor = 10 ** abs(decades)
                message = f"its root mean square {_rms(row):.4g} is {factor:.4g} times as {'large' if decades > 0 else 'small'} as is usual among {len(group)} tensors of its role"  # fmt: skip
                limit = 10 ** (middle + math.copysign(settings.max_decades, decades))
                yield found_in(row, message, value=_rms(row), limit=limit)  # of no column


def _may_repeat(row: LayerRow) -> bool:
    """Whether equal values of another tensor would mean something: not those of zeros, constants, and matrices like the identity."""
    filled = (1 - (row.zero_fraction or 0.0)) * (row.numel or 0)
    return (
        is_matrix(row)
        and row.min != row.max
        and row.reason not in ("zero_matrix", "constant_esd")
        and (bool(row.has_esd) or filled > max(row.shape or (0,)))  # the identity has one element per row
        and row.content_hash is not None
    )


def _is_tie(first: LayerRow, second: LayerRow) -> bool:
    """Whether two tensors are one by declaration: the same bytes of the file, or an embedding and what repeats it."""
    if first.offset is not None and (first.file, first.offset) == (second.file, second.offset):
        return True
    known = [row.kind in ("embedding", "head") or _TIED.search(row.name or "") is not None for row in (first, second)]
    return all(known) and "embedding" in (first.kind, second.kind)


def _duplicates(evidence: Evidence, _: Setting) -> Iterable[Found]:
    first: dict[str, LayerRow] = {}
    for row in evidence.tensors():
        if not _may_repeat(row):
            continue
        other = first.setdefault(row.content_hash or "", row)
        if other is not row and not _is_tie(other, row):
            yield found_in(row, f"its values are those of '{other.name}', stored a second time")


RELATION_RULES = (
    Rule("WW106", "scale-outlier", "A matrix is far larger or smaller than those of its role",
         "|log10 rms - median of log10 rms| > max_decades, rms = sqrt(mean^2 + std^2), among at least min_group matrices whose names are equal "
         "but for numbers, of one kind and number of axes; zero matrices are left out",
         "A layer may be scaled on purpose, for instance one that begins at almost zero. First layers, and layers with a normalization folded in, were seen up to 83 times off.",
         "Look at the scale that was used when it was saved, quantized or merged.", ScaleOutlier, _outliers),
    Rule("WW107", "duplicate", "Two tensors hold the same values, and nothing says that they are one",
         "equal content_hash (dtype, shape and values) of two matrices at different places of the file, unless one is an embedding and the other "
         "an embedding, a head or a decoder; zeros, constants, matrices whose eigenvalues are all equal (without a spectrum: that have no more elements beside zeros than the longest side), and vectors are left out",
         "Layers may be copied on purpose, to make a model deeper or to begin a second branch.",
         "Look at how the model was merged or saved; suppress it where it is meant.", Setting, _duplicates),
)  # fmt: skip
