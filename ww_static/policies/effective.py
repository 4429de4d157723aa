"""Every value of a policy with where it comes from: the command line, a table of a file, or the default."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from ww_static.errors import escape
from ww_static.policies.policy import Head, Policy


@dataclass(frozen=True, slots=True)
class Value:
    """One value.

    Attributes:
        key: with the tables that it is in, for instance ``rules.WW201.max``.
        value: as JSON has it.
        origin: ``default``, ``command line``, or the file and its table.
    """

    key: str
    value: Any
    origin: str


def values(policy: Policy) -> list[Value]:
    """All values of a policy: the top first, then limits, rules by code, aggregates and suppressions."""
    return [Value(key, _plain(value), policy.origins.get(key, "default")) for key, value in _pairs(policy)]


def text(policy: Policy) -> str:
    """The values of a policy, one a line, each with its origin."""
    lines = [(f"{one.key} = {escape(json.dumps(one.value, ensure_ascii=False))}", escape(one.origin)) for one in values(policy)]
    width = min(60, max(len(left) for left, _ in lines))
    return "".join(f"{left:{width}}  # {origin}\n" for left, origin in lines)


def document(policy: Policy) -> str:
    """The values of a policy as one JSON document."""
    listed = {one.key: {"value": one.value, "origin": one.origin} for one in values(policy)}
    return json.dumps({"policy": policy.source, "values": listed}, indent=1) + "\n"


def _pairs(policy: Policy) -> Iterator[tuple[str, Any]]:
    for name in Head.__struct_fields__:
        yield name, getattr(policy, name)
    tables = {"limits": policy.limits} | {f"rules.{code}": settings for code, settings in policy.rules.items()}
    for table, struct in tables.items():
        for name in struct.__struct_fields__:
            yield f"{table}.{name}", getattr(struct, name)
    for table, structs in (("aggregate", policy.aggregate), ("suppress", policy.suppress)):
        for number, one in enumerate(structs):
            yield f"{table}[{number}]", one


def _plain(value: Any) -> Any:
    """A value as JSON has it; what a table does not say is left out."""
    made = msgspec.to_builtins(value)
    return {key: _plain(item) for key, item in made.items() if item is not None} if isinstance(made, dict) else made
