"""Small shapes of text that every page for people shares: cut, counted, wrapped, and inert in Markdown."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ww_static.errors import escape

# What no Markdown dialect turns into anything: no markup, no link, no mention, no issue, no commit, no emoji.
_PLAIN = re.compile(r"(?:[A-Za-z0-9 .,;()=%+/'-]|:(?= )|(?<=[A-Za-z0-9])_(?=[A-Za-z0-9]))*")
_REFERENCE = re.compile(r"\b(?:[0-9a-f]{7,40}\b|GH-\d|www\.)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a page, several after wrapping: its style on a terminal, and the indentation of all but the first."""

    text: str
    style: str = ""
    indent: int = 0


def shortened(text: str, width: int) -> str:
    """`text` cut in the middle to `width` characters."""
    if len(text) <= width:
        return text
    left = (width - 3) // 2
    return f"{text[:left]}...{text[len(text) - (width - 3 - left) :]}"


def counted(count: int, noun: str) -> str:
    """A number and its noun, in the plural unless it is one."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def wrapped(text: str, width: int, indent: int) -> str:
    """Escaped `text` on lines of at most `width` terminal columns, all but the first indented."""
    from rich.cells import cell_len, chop_cells

    indent = min(indent, width // 4)
    further = max(4, width - indent - 3)
    first, *words = text.lstrip(" ").split(" ")
    lines = [" " * (len(text) - len(text.lstrip(" "))) + first]
    for word in words:
        room = width if len(lines) == 1 else further
        if cell_len(lines[-1]) + 1 + cell_len(word) <= room:
            lines[-1] += " " + word
        else:
            lines += chop_cells(word, further) or [""]
    # what stood inside the text and was harmless there begins a line now; escaped it is three columns longer
    return ("\n" + " " * indent).join([lines[0], *map(escape, lines[1:])])


def inert(text: str) -> str:
    """Escaped `text` for Markdown, inside a table or not: as it is when nothing in it means anything, else as code.

    A backslash or an entity does not do: services look for mentions and issues in the finished page, but not in code.
    """
    if _PLAIN.fullmatch(text) and not _REFERENCE.search(text):
        return text
    text = text.replace("|", "\\x7c")  # in a table a pipe ends the cell, even in code and after a backslash
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    blank = " " if "`" in (text[0], text[-1]) or text[0] == text[-1] == " " else ""
    return f"{fence}{blank}{text}{blank}{fence}"
