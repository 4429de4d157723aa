"""Suppressions: findings that a policy accepts, and suppressions that no longer fit (WW090)."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace

from ww_static.options import LONGEST_NAME, matcher
from ww_static.policies.policy import Policy, Suppression
from ww_static.rows import FindingRow
from ww_static.rules.catalogue import RULES
from ww_static.rules.rule import Evidence, Found


def suppressed(found: FindingRow, policy: Policy, today: datetime.date) -> FindingRow:
    """The finding, with the reason of the first suppression that holds for it; a bug of ours is never accepted."""
    if found.outcome == "internal_error":
        return found
    reasons = (one.reason for one in policy.suppress if _holds(one, today) and _names(one, found))
    return replace(found, suppressed=next(reasons, None))


def stale(policy: Policy, evidences: Sequence[Evidence], findings: Sequence[FindingRow], today: datetime.date) -> list[Found]:
    """Suppressions that have expired, and those that match no finding although a model that they name was audited."""
    found = []
    for one in policy.suppress:
        where = f"suppression of {one.code}, model '{one.model}', tensor '{one.tensor}'"
        if not _holds(one, today):
            found.append(Found(message=f"it expired on {one.expires}: {one.reason}", where=where))
        elif _was_judged(one, policy, evidences) and not any(_names(one, finding) for finding in findings):
            found.append(Found(message=f"it matches no finding: {one.reason}", where=where))
    return found


def _holds(one: Suppression, today: datetime.date) -> bool:
    return one.expires is None or today < one.expires


def _names(one: Suppression, found: FindingRow) -> bool:
    return one.code == found.code and _of_model(one, found.model_id, found.file) and _matches(one.tensor, found.name)


def _of_model(one: Suppression, model: str | None, file: str | None) -> bool:
    return _matches(one.model, model) or _matches(one.model, file)


def _was_judged(one: Suppression, policy: Policy, evidences: Sequence[Evidence]) -> bool:
    """Whether a finding would have been seen: its rule is on, its columns were computed, its models are in the run and were read."""
    if policy.severity(one.code) == "off" or (RULES[one.code].profile == "full" and policy.profile == "fast"):
        return False
    named = [evidence for evidence in evidences if _of_model(one, evidence.model_id, evidence.file)]
    return bool(named) and not any(row.status == "error" for evidence in named for row in evidence.rows)


def _matches(pattern: str, name: str | None) -> bool:
    return pattern == "*" or (name is not None and bool(matcher(pattern)(name[:LONGEST_NAME])))
