"""Suppressions: findings that a policy accepts, and suppressions that no longer fit (WW090)."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ww_static.options import LONGEST_NAME, matcher
from ww_static.policies.policy import Policy, Suppression
from ww_static.rows import FindingRow, LayerRow
from ww_static.rules.catalogue import RULES
from ww_static.rules.drift import DRIFT_RULES
from ww_static.rules.rule import Evidence, Found, Rule

_UNSEEN = frozenset(("profile", "time_limit"))  # reasons of rows that have values, and no spectrum
_FULL = "randomize"  # the group of columns without which a run is not of the profile ``full``


def suppressed(found: FindingRow, policy: Policy, today: datetime.date) -> FindingRow:
    """The finding, with the reason of the first suppression that holds for it; a bug of ours is never accepted."""
    if found.outcome == "internal_error":
        return found
    reasons = (one.reason for one in policy.suppress if _holds(one, today) and _names(one, found))
    return replace(found, suppressed=next(reasons, None))


def stale(
    policy: Policy,
    evidences: Sequence[Evidence],
    findings: Sequence[FindingRow],
    today: datetime.date,
    parameters: Mapping[str, Any],
) -> list[Found]:
    """Suppressions that have expired, and those that match no finding although what they name was judged with these options."""
    found = []
    for one in policy.suppress:
        where = f"suppression of {one.code}, model '{one.model}', tensor '{one.tensor}'"
        if not _holds(one, today):
            found.append(Found(message=f"it expired on {one.expires}: {one.reason}", where=where))
        elif _was_judged(one, policy, evidences, parameters) and not any(_names(one, finding) for finding in findings):
            found.append(Found(message=f"it matches no finding: {one.reason}", where=where))
    return found


def _holds(one: Suppression, today: datetime.date) -> bool:
    return one.expires is None or today < one.expires


def _names(one: Suppression, found: FindingRow) -> bool:
    return one.code == found.code and _of_model(one, found.model_id, found.file) and _matches(one.tensor, found.name)


def _of_model(one: Suppression, model: str | None, file: str | None) -> bool:
    return _matches(one.model, model) or _matches(one.model, file)


def _was_judged(one: Suppression, policy: Policy, evidences: Sequence[Evidence], parameters: Mapping[str, Any]) -> bool:
    """Whether a finding would have been seen: its rule is on, its models were read, what it looks at was computed of its tensors."""
    rule = RULES[one.code]
    if policy.severity(one.code) == "off" or (rule.profile == "full" and _FULL not in parameters.get("metrics", ())):
        return False
    named = [evidence for evidence in evidences if _of_model(one, evidence.model_id, evidence.file)]
    rows = [row for evidence in named for row in evidence.rows]
    left_out = any(row.status == "error" or (_is_unseen(row, rule) and _matches(one.tensor, row.name)) for row in rows)
    return bool(named) and all(_is_compared(evidence, rule) for evidence in named) and not left_out


def _is_unseen(row: LayerRow, rule: Rule) -> bool:
    """Whether a rule could not see all that it looks at in a row."""
    return rule.spectrum != "no" and row.reason in _UNSEEN


def _is_compared(evidence: Evidence, rule: Rule) -> bool:
    """Whether there is what a rule about a baseline compares with; True for every other rule."""
    if rule.code == "WW304":
        return bool(evidence.pairs)
    return rule not in DRIFT_RULES or (evidence.before is not None and (evidence.comparable or rule.spectrum == "no"))


def _matches(pattern: str, name: str | None) -> bool:
    return pattern == "*" or (name is not None and bool(matcher(pattern)(name[:LONGEST_NAME])))
