"""What one pass over a tensor tells, before any spectrum; loads no numpy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from ww_static.layout.layers import LayerView
from ww_static.spectral.statistics import Moments


@dataclass(frozen=True, slots=True)
class Survey:
    """What one pass over the stored values of a tensor tells.

    Attributes:
        content_hash: sha256 of dtype, shape and little-endian row-major stored values; None when it was not read.
        moments: counts and central sums; of complex numbers only how many are NaN or infinite. None for a product of factors.
        factors: of a product s B A: the surveys of A and B.
        squared_step: of a quantized weight: mean squared distance of its levels, or less.
        squared_rounding: of a tensor that two models make: the mean squared rounding of its elements, both tensors together.
        rank_sample: rank of evenly spaced rows and columns of a large tensor; None of others.
    """

    content_hash: str | None = None
    moments: Moments | None = None
    factors: tuple[Survey, ...] = ()
    squared_step: float | None = None
    squared_rounding: float | None = None
    rank_sample: int | None = None


def joined(view: LayerView, surveys: Mapping[str, Survey | BaseException]) -> Survey | BaseException:
    """The survey of a view from those of its tensors, by their names; the first that failed, if one did.

    The fingerprint of a product s B A is the sha256 of those of A and B, and of s.
    """
    found = [surveys.get(spec.name, Survey()) for spec in view.tensors]
    factors: list[Survey] = []
    for one in found:
        if isinstance(one, BaseException):
            return one
        factors.append(one)
    if view.left is None:
        return factors[0] if factors else Survey()
    hashes = [one.content_hash for one in factors]
    if None in hashes:
        return Survey(factors=tuple(factors))
    text = "\n".join(("lora_delta", *map(str, hashes), repr(view.factor)))
    return Survey(hashlib.sha256(text.encode()).hexdigest(), None, tuple(factors))
