"""WW010 and WW090 to WW099: how much was looked at, and whether suppressions and baseline still fit what they are for."""

from __future__ import annotations

from collections.abc import Iterable

from ww_static.dtypes import DTYPES
from ww_static.rows import LayerRow
from ww_static.rules.rule import Evidence, Found, Rule, Setting, Severity, Share, Warn


class Coverage(Setting, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of WW010.

    Attributes:
        min_analysed_share: least share of the bytes that must have been analysed; 0 accepts any.
    """

    min_analysed_share: Share = 0.95


def coverage(evidence: Evidence) -> tuple[float, float]:
    """Bytes of the weights of a model that were analysed, and bytes of those that nobody could; other skips do not count."""
    unread = {finding.name for finding in evidence.findings if finding.inconclusive}
    analysed = left_out = 0.0
    for row in evidence.tensors():
        if row.tied_to is not None:
            continue
        if row.name in unread:
            left_out += _bytes(row)
        elif row.status in ("success", "failed") or row.reason == "profile":
            analysed += _bytes(row)
    return analysed, left_out


def _covered(evidence: Evidence, settings: Coverage) -> Iterable[Found]:
    analysed, left_out = coverage(evidence)
    if not left_out:
        return
    share = analysed / (analysed + left_out)
    if share < settings.min_analysed_share:
        words = f"{100 * share:.1f} % of the bytes of its weights were judged, at least {100 * settings.min_analysed_share:g} % have to be"
        yield Found(message=words, file=evidence.file, value=share, limit=settings.min_analysed_share)


def _bytes(row: LayerRow) -> float:
    bits = DTYPES[row.dtype].bits if row.dtype in DTYPES else 8
    return (row.numel or 0) * bits / 8


def _told(_: Evidence, __: Setting) -> Iterable[Found]:
    """Nothing: what the rule reports is not in the rows of one model; whoever has the rest makes the findings."""
    return ()


class Mismatch(Warn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of WW091.

    Attributes:
        models: the severity of a model that only the run or only the baseline has; ``severity`` is that of other options.
    """

    models: Severity = "error"


def _disputed(evidence: Evidence, settings: Mismatch) -> Iterable[Found]:
    for one in evidence.disputes:
        yield Found(message=one)
    for one in evidence.uncompared:
        yield Found(message=one, severity=settings.models)
    for unread in evidence.unread:
        words = f"not compared with the baseline: {unread.message}"
        where = unread.where if unread.name is None else f"tensor '{unread.name}'"
        yield Found(
            message=words, name=unread.name, part=unread.part, where=where, category=unread.category, outcome="inconclusive"
        )


BOOKKEEPING_RULES = (
    Rule("WW010", "coverage", "Too little of a model could be analysed",
         "bytes of analysed tensors / (these + bytes of inconclusive ones) < min_analysed_share; tensors that are skipped because they are no weights do not count",
         "What is unread may be harmless; the size of a missing file is not known and does not count.",
         "Look at the WW002 findings of the model; lower the share where they are known to be fine.", Coverage, _covered),
    Rule("WW090", "stale-suppression", "A suppression has expired, or matches nothing", "today >= expires; or no finding of a model that it names is suppressed by it",
         "The defect may be in a model that was not audited this time under a pattern that fits others too.",
         "Remove the suppression, or give it a later date and say why.", Warn, _told),
    Rule("WW091", "baseline-mismatch", "The baseline is not one of this audit", "options, major version or models of the baseline differ from those of the run; or a tensor could not be compared with that of a model as baseline",
         "An option may not matter to the columns that are compared; a model may be new, or gone, on purpose.", "Write the baseline again with the options and models of today: --write-baseline.",
         Mismatch, _disputed),
)  # fmt: skip
