"""What a policy says: settings of the rules, what makes a run fail, and what is suppressed. Defaults are the policy of no file."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Literal

import msgspec

from ww_static.rules.catalogue import RULES
from ww_static.rules.rule import Setting

FailOn = Literal["never", "warn", "error"]
Open = Literal["fail", "warn"]
Profile = Literal["fast", "full"]


class Suppression(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Findings that are known and accepted.

    Attributes:
        code: of the rule.
        reason: why; required.
        model, tensor: shell globs on the model's name and the tensor's; ``*`` means all.
        expires: the first day on which it no longer holds; None never.
    """

    code: str
    reason: str
    model: str = "*"
    tensor: str = "*"
    expires: datetime.date | None = None


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The effective policy of a run.

    Attributes:
        profile: ``fast`` or ``full``.
        fail_on: the least severity that makes the exit code 1.
        on_unreadable, on_inconclusive: ``fail`` gives the exit code 3; ``warn`` makes a warning of it.
        rules: settings of every rule, by code.
        suppress: what is accepted.
    """

    profile: Profile = "full"
    fail_on: FailOn = "error"
    on_unreadable: Open = "fail"
    on_inconclusive: Open = "fail"
    rules: Mapping[str, Setting] = msgspec.field(
        default_factory=lambda: {code: rule.settings() for code, rule in RULES.items()}
    )
    suppress: tuple[Suppression, ...] = ()
