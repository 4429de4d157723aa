"""The findings of an audit as workflow commands of GitHub: annotations of a pull request, without any upload."""

from __future__ import annotations

from ww_static.errors import escape
from ww_static.outputs.placing import from_here, sources_of
from ww_static.rows import FindingRow
from ww_static.rules.rule import SEVERITIES
from ww_static.tables import Tables

_COMMANDS = {"error": "error", "warn": "warning", "info": "notice"}
_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = _DATA | {":": "%3A", ",": "%2C"}


def commands(result: Tables) -> str:
    """One line per finding that counts, the gravest first: a runner shows only the first ten of each kind."""
    sources = sources_of(result)
    found = [one for one in result.finding_rows if one.suppressed is None and one.baseline not in ("fixed", "unchanged")]
    lines = []
    for one in sorted(found, key=lambda one: SEVERITIES.index(one.severity or "info")):
        file = from_here(sources.get(one.model_id), one.file) if one.file is not None else ""
        title = f"{one.code} {one.category}"
        properties = ",".join(f"{name}={_coded(text, _PROPERTY)}" for name, text in (("file", file), ("title", title)) if text)
        lines.append(f"::{_COMMANDS[one.severity or 'info']} {properties}::{_coded(_message(one), _DATA)}\n")
    return "".join(lines)


def _message(one: FindingRow) -> str:
    place = f"tensor '{one.name}'" + (f" [{one.part}]" if one.part else "") if one.name is not None else one.where
    return ": ".join(part for part in (place, one.message) if part)


def _coded(text: str, codes: dict[str, str]) -> str:
    return "".join(codes.get(character, character) for character in escape(text))
