"""All rules by their codes."""

from __future__ import annotations

from ww_static.rules.files import FILE_RULES
from ww_static.rules.rule import Rule
from ww_static.rules.spectra import SPECTRAL_RULES
from ww_static.rules.values import VALUE_RULES

RULES: dict[str, Rule] = {rule.code: rule for rule in (*FILE_RULES, *VALUE_RULES, *SPECTRAL_RULES)}
