"""From findings to one exit code: 4 before 3 before 1 before 0, with every reason that applies."""

from __future__ import annotations

from collections.abc import Iterable

from ww_static.policies.policy import Policy
from ww_static.rows import FindingRow

LEVELS = {"error": 2, "warn": 1, "info": 0}
_LEAST = {"error": 2, "warn": 1, "never": 3}
BUG, UNREAD, VIOLATED, PASSED = 4, 3, 1, 0


def softened(outcome: str, severity: str, policy: Policy) -> str:
    """The severity of a finding, when what it left unread is to be a warning only."""
    accepted = {"unreadable": policy.on_unreadable, "inconclusive": policy.on_inconclusive}.get(outcome) == "warn"
    return "warn" if accepted and severity == "error" else severity


def reasons(findings: Iterable[FindingRow], policy: Policy) -> tuple[str, ...]:
    """Why a run does not pass: of ``internal_error``, ``unreadable``, ``inconclusive``, ``violated``; the gravest first."""
    found = set()
    for one in findings:
        if one.suppressed is not None:
            continue
        if one.outcome == "internal_error":
            found.add("internal_error")
        elif one.outcome == "unreadable" and policy.on_unreadable == "fail":
            found.add("unreadable")
        elif one.outcome == "inconclusive" and policy.on_inconclusive == "fail":
            found.add("inconclusive")
        elif LEVELS[one.severity or "info"] >= _LEAST[policy.fail_on] and one.baseline != "unchanged":
            found.add("violated")
    return tuple(reason for reason in ("internal_error", "unreadable", "inconclusive", "violated") if reason in found)


def exit_code(why: Iterable[str]) -> int:
    """The exit code of a run that does not pass for these reasons."""
    codes = {"internal_error": BUG, "unreadable": UNREAD, "inconclusive": UNREAD, "violated": VIOLATED}
    return max((codes[reason] for reason in why), default=PASSED)
