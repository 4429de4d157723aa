"""All rules by their codes, in the order of the codes."""

from __future__ import annotations

import difflib

from ww_static.errors import UsageError
from ww_static.rules.aggregates import AGGREGATE_RULES
from ww_static.rules.bookkeeping import BOOKKEEPING_RULES
from ww_static.rules.drift import DRIFT_RULES
from ww_static.rules.files import FILE_RULES
from ww_static.rules.relations import RELATION_RULES
from ww_static.rules.rule import Rule
from ww_static.rules.spectra import SPECTRAL_RULES
from ww_static.rules.values import VALUE_RULES

_ALL = (*FILE_RULES, *BOOKKEEPING_RULES, *VALUE_RULES, *RELATION_RULES, *SPECTRAL_RULES, *AGGREGATE_RULES, *DRIFT_RULES)
RULES: dict[str, Rule] = {rule.code: rule for rule in sorted(_ALL, key=lambda rule: rule.code)}


def rule_meant(word: str) -> Rule:
    """The rule of a code in any case, or of a name.

    Raises:
        UsageError: there is none; the message names the nearest.
    """
    named = {rule.name: rule.code for rule in RULES.values()}
    code = named.get(word.lower(), word.upper())
    return RULES[code] if code in RULES else rule_of(word)


def rule_of(code: str) -> Rule:
    """The rule of a code.

    Raises:
        UsageError: there is none; the message names the nearest.
    """
    if code in RULES:
        return RULES[code]
    named = {rule.name: rule for rule in RULES.values()}
    close = difflib.get_close_matches(code.upper(), RULES, n=1) or [
        named[name].code for name in difflib.get_close_matches(code.lower(), named, n=1)
    ]
    hint = f"did you mean {close[0]} ({RULES[close[0]].name})? " if close else ""
    raise UsageError(f"rule '{code}' is not known; {hint}`ww-static rules list` shows them all")
