"""From findings to one exit code: 130 before 4 before 3 before 1 before 0, with every reason that applies."""

from __future__ import annotations

from collections.abc import Iterable

from ww_static.errors import INTERRUPTED
from ww_static.policies.policy import Policy
from ww_static.rows import FindingRow

LEVELS = {"error": 2, "warn": 1, "info": 0}
_LEAST = {"error": 2, "warn": 1, "never": 3}
_CODES = {
    "interrupted": INTERRUPTED,
    "internal_error": 4,
    "unreadable": 3,
    "inconclusive": 3,
    "nothing_to_audit": 3,
    "violated": 1,
}  # the gravest first
_UNSEEN_CODES = ("WW002", "WW091", "WW210")  # nobody has looked; whatever else is inconclusive is also wrong
_UNSEEN = ("nothing_to_analyse", "memory_limit")
_UNSAFE = ("WW004", "WW005", "WW006")  # what a file would do is known, whether or not its weights can be read


def softened(code: str | None, category: str | None, outcome: str | None, severity: str, policy: Policy) -> str:
    """The severity of a finding, when what it left unread is to be a warning only."""
    return "warn" if _accepted(code, category, outcome, policy) and severity == "error" else severity


def _accepted(code: str | None, category: str | None, outcome: str | None, policy: Policy) -> bool:
    """Whether the policy only warns of what a finding left unread: nobody has looked there, and nothing is known to be wrong."""
    if category == "lfs_pointer" and policy.on_lfs_pointers == "warn":
        return True
    if outcome == "inconclusive":
        return policy.on_inconclusive == "warn" and (code in _UNSEEN_CODES or category in _UNSEEN)
    return outcome == "unreadable" and policy.on_unreadable == "warn" and code not in _UNSAFE


def reasons(findings: Iterable[FindingRow], policy: Policy, models: int, interrupted: bool = False) -> tuple[str, ...]:
    """Why a run does not pass, the gravest first: ``interrupted``, ``internal_error``, ``unreadable``, ``inconclusive``, ``nothing_to_audit``, ``violated``."""
    found = {reason(one, policy) for one in findings} | (set() if models else {"nothing_to_audit"})
    found |= {"interrupted"} if interrupted else set()
    return tuple(why for why in _CODES if why in found)


def reason(one: FindingRow, policy: Policy) -> str | None:
    """Why a finding keeps a run from passing; None when it does not."""
    if one.outcome == "internal_error":
        return "internal_error"
    if one.suppressed is not None or one.baseline == "fixed":
        return None
    if one.outcome in ("unreadable", "inconclusive") and not _accepted(one.code, one.category, one.outcome, policy):
        return one.outcome
    grave = LEVELS[one.severity or "info"] >= _LEAST[policy.fail_on]
    return "violated" if grave and one.baseline != "unchanged" else None


def exit_code(why: Iterable[str]) -> int:
    """The exit code of a run that does not pass for these reasons."""
    return max((_CODES[one] for one in why), default=0)
