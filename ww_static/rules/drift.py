"""WW301 to WW319: what differs from the rows of the same model in the baseline."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any

import msgspec

from ww_static.dtypes import storage_dtype
from ww_static.rows import LayerRow
from ww_static.rules.rule import Evidence, Found, Positive, Rule, Setting, Severity, Share, Warn, first_views, found_in

_NORMS = ("op_norm", "nuclear_norm")  # beside the Frobenius norm, which the moments of any tensor give
_FARTHER = 1 + 1e-6  # of what scales a tensor all norms tell the same, and the first of them is told
_JUMP = 2.0  # a tail so many times longer or shorter begins at another minimum of D

_EACH = 3  # so many tensors of one change of dtype are named; more are counted
Cosine = Annotated[float, msgspec.Meta(ge=-1, le=1)]  # the type of a setting that is one


class AlphaDrift(Warn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of WW301.

    Attributes:
        sigmas: how many joint sigmas alpha may move where the rows have no interval of it.
        min_change: a smaller change is never reported.
        tolerance: relative change of a norm below which a tail that begins elsewhere is no drift.
    """

    sigmas: Positive = 3.0
    min_change: Positive = 0.5
    tolerance: Positive = 0.01


class ShapeOrDtype(Setting, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of WW303.

    Attributes:
        dtype: the severity of another dtype; ``severity`` is that of another shape.
    """

    dtype: Severity = "info"


class SubspaceDrift(Warn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of WW304.

    Attributes:
        min_cosine: the least cosine of a view with itself before; noise of a relative size s leaves 1/sqrt(1 + s^2).
        min_overlap: the least overlap of its ten leading singular vectors, on either side; one of them replaced leaves 0.9.
    """

    min_cosine: Cosine = 0.997
    min_overlap: Share = 0.85


class NormDrift(Setting, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of WW305.

    Attributes:
        tolerance: the largest relative change of a norm that is not reported.
    """

    tolerance: Positive = 0.01


class Identical(Setting, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of WW306, which is off unless a policy says otherwise."""

    severity: Severity = "off"


def _views(evidence: Evidence) -> Iterator[tuple[LayerRow, LayerRow]]:
    """The views that both models have, before and now, when their numbers may be compared."""
    if evidence.before is not None and evidence.comparable:
        known = {(row.name, row.part): row for row in evidence.before}
        for row in evidence.rows:
            if row.name is not None and (row.name, row.part) in known:
                yield known[row.name, row.part], row


def _tensors(evidence: Evidence) -> Iterator[tuple[LayerRow | None, LayerRow | None]]:
    """Every tensor of either model once, before and now."""
    if evidence.before is not None:
        before, now = first_views(evidence.before), first_views(evidence.rows)
        yield from ((before.get(name), row) for name, row in now.items())
        yield from ((row, None) for name, row in before.items() if name not in now)


def _shared(evidence: Evidence) -> Iterator[tuple[LayerRow, LayerRow]]:
    """The tensors that both models have, before and now."""
    yield from ((old, new) for old, new in _tensors(evidence) if old is not None and new is not None)


def _alpha(evidence: Evidence, settings: AlphaDrift) -> Iterable[Found]:
    for old, new in _views(evidence):
        if old.alpha is None or new.alpha is None or old.fit_kind != new.fit_kind:
            continue
        change, slack = new.alpha - old.alpha, _slack(old, new, settings)
        if abs(change) > slack and not _begins_elsewhere(old, new, settings):
            limit = old.alpha + math.copysign(slack, change)
            yield found_in(new, f"alpha {new.alpha:.2f} was {old.alpha:.2f}", metric="alpha", value=new.alpha, limit=limit)


def _slack(old: LayerRow, new: LayerRow, settings: AlphaDrift) -> float:
    """How far alpha may move: until its intervals part, or by some sigmas where a row has no interval."""
    spreads = []
    for row, other in ((old, new), (new, old)):
        end = row.alpha_ci_hi if (other.alpha or 0.0) > (row.alpha or 0.0) else row.alpha_ci_lo
        spreads.append(None if end is None else abs(end - (row.alpha or 0.0)))
    if None in spreads:
        slack = settings.sigmas * math.hypot(old.sigma or 0.0, new.sigma or 0.0)
    else:
        slack = sum(one for one in spreads if one is not None)
    return max(slack, settings.min_change)


def _begins_elsewhere(old: LayerRow, new: LayerRow, settings: AlphaDrift) -> bool:
    """Whether only xmin jumped: every norm is the same, so that two candidates for xmin fit about as well."""
    if not old.n_tail or not new.n_tail or max(old.n_tail / new.n_tail, new.n_tail / old.n_tail) <= _JUMP:
        return False
    changes = list(_norms_of(old, new))
    return len(changes) == len(_NORMS) and all(one.moved <= settings.tolerance for one in changes)


@dataclass(frozen=True, slots=True)
class _Change:
    """A norm before and now, and the row that shows it now; without a column it is the length of the stored values."""

    row: LayerRow
    metric: str | None
    old: float
    new: float

    @property
    def moved(self) -> float:
        """|new - old| / old; infinite where it was zero and is not."""
        return 0.0 if self.old == self.new else math.inf if self.old == 0 else abs(self.new - self.old) / self.old


def _norms_of(old: LayerRow, new: LayerRow) -> Iterator[_Change]:
    for metric in _NORMS:
        before, now = getattr(old, metric), getattr(new, metric)
        if before is not None and now is not None:
            yield _Change(new, metric, before, now)


def _length(row: LayerRow) -> float | None:
    """Frobenius norm of the stored values, from their moments; None where they are no weights, or not all of them are finite."""
    if row.mean is None or row.std is None or row.n_nan or row.n_inf or row.dtype is None:
        return None
    if storage_dtype(row.dtype).family == "integer" and not row.quantized:
        return None
    return math.sqrt(row.numel or 0) * math.hypot(row.mean, row.std)


def _norm(evidence: Evidence, settings: NormDrift) -> Iterable[Found]:
    if not evidence.comparable:
        return
    worst: dict[str | None, _Change] = {}
    lengths = [(new, _length(old), _length(new)) for old, new in _shared(evidence)]
    changes = [_Change(row, None, old, new) for row, old, new in lengths if old is not None and new is not None]
    for old, new in _views(evidence):
        changes += _norms_of(old, new)
    for one in changes:
        known = worst.get(one.row.name)
        if one.moved > settings.tolerance and (known is None or one.moved > known.moved * _FARTHER):
            worst[one.row.name] = one
    for one in worst.values():
        limit = one.old * (1 + math.copysign(settings.tolerance, one.new - one.old))
        words = f"{one.metric or 'Frobenius norm'} {one.new:.4g} was {one.old:.4g}"
        yield found_in(one.row, words, metric=one.metric, value=one.new, limit=limit)


def _names(evidence: Evidence, _: Setting) -> Iterable[Found]:
    for old, new in _tensors(evidence):
        if new is None and old is not None:
            yield found_in(replace(old, file=evidence.file), f"a tensor of shape {list(old.shape or ())} is missing")
        elif old is None and new is not None:
            yield found_in(new, f"a tensor of shape {list(new.shape or ())} is not in the baseline")


def _shapes(evidence: Evidence, settings: ShapeOrDtype) -> Iterable[Found]:
    converted: dict[str, list[LayerRow]] = {}
    for old, new in _shared(evidence):
        if old.shape != new.shape:
            yield found_in(new, f"shape {list(new.shape or ())} was {list(old.shape or ())}", metric="shape")
        elif old.dtype != new.dtype:
            converted.setdefault(f"dtype {new.dtype} was {old.dtype}", []).append(new)
    for words, rows in converted.items():
        if len(rows) > _EACH:
            message = f"{words} in {len(rows)} tensors, the first of them '{rows[0].name}'"
            yield Found(message=message, metric="dtype", severity=settings.dtype)
        else:
            yield from (found_in(row, words, metric="dtype", severity=settings.dtype) for row in rows)


def _turned(evidence: Evidence, settings: SubspaceDrift) -> Iterable[Found]:
    rows = {(row.name, row.part): row for row in evidence.rows}
    limits = {"cosine": settings.min_cosine, "overlap_l": settings.min_overlap, "overlap_r": settings.min_overlap}
    worst: dict[str, tuple[float, Any, str]] = {}
    for pair in evidence.pairs:
        for metric, limit in limits.items():
            value = getattr(pair, metric)
            if value is not None and value < limit and value - limit < worst.get(pair.name, (0.0,))[0]:
                worst[pair.name] = value - limit, pair, metric
    for _, pair, metric in worst.values():
        value = getattr(pair, metric)
        words = f"{metric} with the baseline is {value:.5g}, at least {limits[metric]:g} is expected"
        yield found_in(rows[pair.name, pair.part], words, metric=metric, value=value, limit=limits[metric])


def _identical(evidence: Evidence, _: Setting) -> Iterable[Found]:
    for old, new in _shared(evidence):
        if old.content_hash is not None and old.content_hash == new.content_hash:
            yield found_in(new, "the values are those of the baseline", metric="content_hash")


DRIFT_RULES = (
    Rule("WW301", "alpha-drift", "The tail of a layer changed by more than its fit is sure of",
         "|alpha - alpha before| above both min_change and the sum of what the two intervals (alpha_ci_lo, alpha_ci_hi) leave on the side of the other "
         "alpha, or, without intervals, sigmas sqrt(sigma^2 + sigma before^2); not where n_tail changed by more than a factor of 2 and op_norm and "
         "nuclear_norm by no more than tolerance: then xmin jumped, and the spectrum did not",
         "sigma understates the spread of alpha; training changes alpha on purpose.", "Look at both fits: ww-static compare.", AlphaDrift, _alpha, spectrum="only"),
    Rule("WW302", "tensors-differ", "A tensor was added, or is missing", "names of the tensors before and now",
         "A writer may have renamed the tensors.", "Look for the rename or the missing part; write the baseline again if it is meant.", Setting, _names),
    Rule("WW303", "shape-or-dtype", "A tensor has another shape, or another dtype", "shape, else dtype, of each name before and now",
         "A converter may store the transpose.", "Look at how the file was made; write the baseline again if it is meant.", ShapeOrDtype, _shapes),
    Rule("WW304", "subspace-drift", "The weights of a layer point elsewhere than before",
         "of the views of a tensor the one farthest below its limit: cosine = sum(W W before)/(norm_F(W) norm_F(W before)) < min_cosine, or "
         "overlap_l or overlap_r = norm_F(U before^T U)^2/10 of the ten leading left or right singular vectors < min_overlap; only against a baseline "
         "that is a model, since a result holds no vectors",
         "Training turns weights on purpose, and so does rounding to 6 bits and fewer; the tenth and eleventh singular values may be so near each other that a "
         "vector of the ten is exchanged without any harm.",
         "Look at what changed: ww-static compare.", SubspaceDrift, _turned, "full", "only"),
    Rule("WW305", "norm-drift", "The values of a tensor are larger or smaller than before",
         "relative change above tolerance of the Frobenius norm sqrt(numel (mean^2 + std^2)), or of op_norm or nuclear_norm of a view; the largest of a tensor",
         "Training changes norms on purpose; what keeps all three norms is not seen.", "Compare the files: ww-static compare.", NormDrift, _norm, spectrum="also"),
    Rule("WW306", "identical", "A tensor has the values of the baseline although the model was to change", "content_hash before and now are equal",
         "A layer may be frozen on purpose.", "Look at whether the file is the one that was meant.", Identical, _identical),
)  # fmt: skip
