"""What a policy says: settings of the rules, what makes a run fail, and what is suppressed. Defaults are the policy of no file."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Literal

import msgspec

from ww_static.rules.aggregates import Aggregate
from ww_static.rules.catalogue import RULES, rule_of
from ww_static.rules.rule import Setting, Severity

FailOn = Literal["never", "warn", "error"]
Open = Literal["fail", "warn"]
Profile = Literal["fast", "full"]


class Suppression(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Findings that are known and accepted.

    Attributes:
        code: of the rule.
        reason: why; required.
        model: pattern of the model's name or of its file; ``*`` means all.
        tensor: pattern of the tensor's name; ``*`` means all, and findings about no tensor.
        expires: the first day on which it no longer holds; None never.
    """

    code: str
    reason: str
    model: str = "*"
    tensor: str = "*"
    expires: datetime.date | None = None


class Bounds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run may take.

    Attributes:
        memory: private memory of all processes together, as ``--max-memory``.
        seconds: how long it may compute, as ``--time-budget``.
    """

    memory: str | int | None = None
    seconds: float | None = None


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the top of a policy file may say.

    Attributes:
        profile: ``fast`` or ``full``: what is computed.
        fail_on: ``never``, ``warn`` or ``error``: the least severity that makes the exit code 1.
        on_unreadable: ``fail`` gives a file that could not be read the exit code 3; ``warn`` makes a warning of it.
        on_inconclusive: the same of a tensor that could not be analysed.
        on_lfs_pointers: the same of files that Git LFS has not fetched; they are unreadable, too.
        select: only these rules; empty means all.
        ignore: all but these rules.
        baseline: an earlier result, or one older model, to compare with, relative to the policy's own folder; never below what is audited.
    """

    profile: Profile = "full"
    fail_on: FailOn = "error"
    on_unreadable: Open = "fail"
    on_inconclusive: Open = "fail"
    on_lfs_pointers: Open = "fail"
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    baseline: str | None = None


def _defaults() -> dict[str, Setting]:
    return {code: rule.settings() for code, rule in RULES.items()}


class Policy(Head, frozen=True, kw_only=True):
    """The effective policy of a run: the top of a file, and its tables.

    Attributes:
        limits: what the run may take.
        rules: settings of every rule, by code.
        aggregate: limits over the layers of a model.
        suppress: what is accepted.
        source: the file that it comes from; None when there is none.
        origins: where values come from that are not defaults, by their keys: ``fail_on``, ``rules.WW201.max``, ``suppress[0]``.
    """

    limits: Bounds = Bounds()
    rules: Mapping[str, Setting] = msgspec.field(default_factory=_defaults)
    aggregate: tuple[Aggregate, ...] = ()
    suppress: tuple[Suppression, ...] = ()
    source: str | None = None
    origins: Mapping[str, str] = {}

    def severity(self, code: str) -> Severity:
        """The severity of a rule; ``off`` for one that is not selected."""
        chosen = (not self.select or code in self.select) and code not in self.ignore
        return self.rules[code].severity if chosen else "off"


def overridden(policy: Policy, **options: str | tuple[str, ...] | None) -> Policy:
    """The policy with what was said on the command line in place of its top; what is None or empty was not said.

    Raises:
        UsageError: a rule is not known.
    """
    said = {name: value if isinstance(value, tuple) else str(value) for name, value in options.items() if value}
    for code in (*(options.get("select") or ()), *(options.get("ignore") or ())):
        rule_of(code)
    return msgspec.structs.replace(policy, **said, origins={**policy.origins, **dict.fromkeys(said, "command line")})
