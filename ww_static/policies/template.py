"""The policy file as a form: a commented one with every rule and its default, and its JSON Schema."""

from __future__ import annotations

import json
import textwrap
from typing import Any, Literal

import msgspec

from ww_static.policies.loading import SCHEMA
from ww_static.policies.policy import Bounds, Head, Suppression
from ww_static.rules.aggregates import Aggregate
from ww_static.rules.catalogue import RULES
from ww_static.rules.rule import Setting
from ww_static.rules.telling import attributes, settings

_TOP = """\
# The policy of `ww-static audit`. What is commented out is the default; remove the mark to change it.
# `ww-static policy check` says whether the file means something, `ww-static policy show` what is in force and why,
# `ww-static rules explain CODE` what a rule looks at and how it may be wrong.

schema = 1
"""
_LIMITS = """
# [limits]
# memory = "2GiB"   # private memory of all processes together
# seconds = 600     # no spectrum is begun that would not end in time; what is left out counts as inconclusive
"""
_TABLES = """
# Limits over the layers of a model (WW210): how many may be above, or below, a value of a column.
# [[aggregate]]
# expr = { metric = "alpha", above = 6.0, max_share = 0.2 }

# Findings that are known and accepted. `reason` is required; `expires` is the first day on which it no longer holds.
# model and tensor are shell globs, or regular expressions after re:
# [[suppress]]
# code = "WW104"
# model = "*"
# tensor = "*.lora_A.weight"
# reason = "rank 8 by construction"
# expires = 2027-03-31
"""


def commented() -> str:
    """A policy file that changes nothing: every value stands in it as a comment with its default."""
    lines = [
        _TOP,
        *(_line(name, getattr(Head(), name), words) for name, words in attributes(Head.__doc__ or "").items()),
        _LIMITS,
    ]
    for code, rule in RULES.items():
        title = textwrap.wrap(f"{rule.title} ({rule.name}): {rule.formula}", 118)
        lines.append("\n" + "".join(f"# # {line}\n" for line in title) + f"# [rules.{code}]\n")
        defaults = rule.settings()
        lines += (_line(one.name, getattr(defaults, one.name), one.meaning) for one in settings(rule))
    return "".join(lines) + _TABLES


def _line(name: str, default: Any, meaning: str) -> str:
    """A value as a comment; one that is not set by default as a comment in it. What defaults are made of, JSON and TOML write alike."""
    shown = f"# {name} = ..." if default is None else f"{name} = {json.dumps(msgspec.to_builtins(default))}"
    return f"# {shown}  # {meaning}\n"


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the file, from the structs that it is checked with."""
    codes = [(code, rule.settings, msgspec.field(default_factory=rule.settings)) for code, rule in RULES.items()]
    rules = msgspec.defstruct("Rules", codes, frozen=True, forbid_unknown_fields=True)
    document = msgspec.defstruct(
        "Document",
        [
            ("schema", Literal[SCHEMA]),
            ("limits", Bounds, Bounds()),
            ("rules", rules, msgspec.field(default_factory=rules)),
            ("aggregate", tuple[Aggregate, ...], ()),
            ("suppress", tuple[Suppression, ...], ()),
        ],
        bases=(Head,),
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
    )
    found = msgspec.json.schema(document)
    for one in found["$defs"].values():
        _describe(one)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "ww-static policy"} | found


def _describe(table: dict[str, Any]) -> None:
    """Gives each value of a table its own meaning, where msgspec has the docstring of the struct for all of them together."""
    whole = table.get("description", "")
    meanings = attributes(Setting.__doc__ or "") | attributes(Head.__doc__ or "") | attributes(whole)
    table["description"] = whole.partition("\n")[0]
    for name, value in table.get("properties", {}).items():
        if name in meanings:
            value["description"] = meanings[name]
