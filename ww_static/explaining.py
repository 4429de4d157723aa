"""What a column is, in full: its line of the schema, its definition, and where it differs from weightwatcher; for people and for the docs."""

from __future__ import annotations

import difflib
import re
from dataclasses import asdict, dataclass

from ww_static import rows, schema
from ww_static.definitions import fits, noise, pairs, phases, series, spectrum, transforms, vectors
from ww_static.definitions.differences import DIFFERENCES, Difference
from ww_static.definitions.entry import ANY_METRIC, NO_FIT, SOURCES, Definition
from ww_static.errors import UsageError

# mark in docs/mathematics.md -> the definitions of the table that stands there
SECTIONS: dict[str, dict[str, Definition]] = {
    "elements": spectrum.ELEMENTS,
    "spectrum": spectrum.SPECTRUM,
    "fit": fits.FIT,
    "ranks": spectrum.RANKS,
    "detx": spectrum.DETX,
    "bulk": noise.BULK,
    "phases": phases.PHASES,
    "random": noise.RANDOM,
    "vectors": vectors.VECTORS,
    "tail": fits.TAIL,
    "laws": fits.LAWS,
    "replicas": fits.REPLICAS,
    "crosscheck": fits.CROSSCHECK,
    "verdicts": phases.VERDICTS,
    "arrays": spectrum.ARRAYS,
    "pairs": pairs.PAIRS,
    "series": series.SERIES,
    "transforms": transforms.TRANSFORMS,
}
_MOST = 30  # columns of one definition that are listed
DEFINITIONS = {name: one for section in SECTIONS.values() for name, one in section.items()}


@dataclass(frozen=True, slots=True)
class Explanation:
    """A column, explained.

    Attributes:
        table: that has it.
        column: its line of the schema.
        definition: formula, null rule, source, what it tells; None for a column that is no measurement.
        differences: from weightwatcher.
    """

    table: str
    column: schema.Column
    definition: Definition | None
    differences: tuple[Difference, ...]


def explain(name: str) -> Explanation:
    """The explanation of a column, of the first table that has it.

    Raises:
        UsageError: no table has it.
    """
    for table in rows.TABLES:
        for column in schema.columns(table):
            if column.name == name:
                differences = tuple(one for one in DIFFERENCES if name in one.columns)
                return Explanation(table, column, DEFINITIONS.get(column.definition), differences)
    known = {column.name: None for table in rows.TABLES for column in schema.columns(table)}
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"; close are: {', '.join(close)}" if close else "; `ww-static schema all` lists them"
    raise UsageError(f"column '{name}' is not known{hint}")


def fields(found: Explanation) -> dict[str, str]:
    """The parts of an explanation that have something to say, by name, as plain text on one line each."""
    column, definition = found.column, found.definition or Definition("", "")
    reasons = [definition.null.replace("no fit", f"no fit ({', '.join(NO_FIT)})")] if definition.null else []
    if column.group != "identity":
        reasons.append("as every metric: " + ", ".join(ANY_METRIC))
    said = {
        "column": column.name,
        "meaning": column.doc,
        "unit": "" if column.unit == "1" else column.unit,
        "type": column.type,
        "table": found.table,
        "group": "" if column.group == "identity" else column.group,
        "definition": column.definition,
        "formula": _plain(definition.formula),
        "null": _plain("; ".join(reasons)),
        "source": re.sub(r"\[(\w+)\]", lambda key: SOURCES[key[1]], definition.source),
        "tells": _plain(definition.tells),
    }
    return {name: text for name, text in said.items() if text}


def text(found: Explanation) -> str:
    """An explanation as lines of text, each part below its name, for a terminal."""
    import textwrap

    def entry(name: str, content: str) -> str:
        return textwrap.fill(content, 100, initial_indent=f"{name:12}", subsequent_indent=" " * 12, break_on_hyphens=False)

    lines = [entry(name, content) for name, content in fields(found).items()]
    for one in found.differences:
        content = f"{_plain(one.subject)}. weightwatcher: {_plain(one.theirs)}. Here: {_plain(one.ours)}. Why: {one.why}."
        lines.append(entry("differs", content))
    return "\n".join(lines)


def document(found: Explanation) -> dict[str, object]:
    """An explanation as JSON."""
    differs = [{name: value for name, value in asdict(one).items() if name != "columns"} for one in found.differences]
    return {**fields(found), "differences": differs}


def _plain(markdown: str) -> str:
    """Markdown on one line without its marks."""
    linked = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", markdown)
    return linked.replace("`", "").replace("**", "")


def definitions_table(section: str) -> str:
    """The definitions of one section as a Markdown table, with the columns that bear them."""
    lines = ["| column | formula | null | what it tells | source |", "|---|---|---|---|---|"]
    for name, one in SECTIONS[section].items():
        columns = [f"`{column}`" for column in _bearers(name)]
        bearers = ", ".join(columns if len(columns) <= _MOST else [*columns[:3], f"... ({len(columns)} columns)"])
        cells = (bearers, one.formula, one.null, one.tells, one.source)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _bearers(definition: str) -> list[str]:
    found = [column.name for table in rows.TABLES for column in schema.columns(table) if column.definition == definition]
    return list(dict.fromkeys(found))


def differences_table() -> str:
    """The differences from weightwatcher as a Markdown table."""
    lines = ["| column or behaviour | weightwatcher | here | why |", "|---|---|---|---|"]
    lines += [f"| {one.subject} | {one.theirs} | {one.ours} | {one.why} |" for one in DIFFERENCES]
    return "\n".join(lines) + "\n"


def sources_text() -> str:
    """The works that are cited, as one paragraph."""
    return "Sources: " + "; ".join(f"[{key}] {work}" for key, work in SOURCES.items()) + ".\n"
