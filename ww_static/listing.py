"""A small table of numbers with the facts above it: what commands print that read no model."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ww_static.errors import UsageError

Cell = float | int | str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """A table of numbers.

    Attributes:
        facts: name and value of what holds for all rows.
        columns: names.
        rows: one value per column; None where there is none.
    """

    facts: tuple[tuple[str, Cell], ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def fact(self, name: str) -> Cell:
        """The value of a fact."""
        return dict(self.facts)[name]

    def column(self, name: str) -> list[Cell]:
        """The values of a column, in the order of the rows."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def text(self, kind: str) -> str:
        """The listing as ``table``, ``json`` (one document) or ``csv`` (RFC 4180, the rows alone, missing is empty)."""
        return {"table": self._table, "json": self._json, "csv": self._csv}[kind]()

    def _table(self) -> str:
        named = max(len(name) for name, _ in self.facts)
        lines = [f"{name:{named}}  {_shown(value)}" for name, value in self.facts]
        cells = [self.columns, *([_shown(value) for value in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines += ["", *("  ".join(f"{cell:>{size}}" for cell, size in zip(row, widths, strict=True)) for row in cells)]
        return "\n".join(lines) + "\n"

    def _json(self) -> str:
        records = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return json.dumps({**dict(self.facts), "rows": records}, indent=1, allow_nan=False) + "\n"

    def _csv(self) -> str:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\r\n")
        writer.writerow(self.columns)
        writer.writerows([_exact(value) for value in row] for row in self.rows)
        return out.getvalue()


def _shown(value: Cell) -> str:
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _exact(value: Cell) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def numbers(text: str | Sequence[float], name: str) -> tuple[float, ...]:
    """Numbers, or a text such as ``1.5,2,3``.

    Raises:
        UsageError: there is none, or a part is no finite number.
    """
    try:
        found = tuple(float(part) for part in (text.split(",") if isinstance(text, str) else text))
    except (TypeError, ValueError):
        found = ()
    if not found or not all(map(math.isfinite, found)):
        raise UsageError(f"--{name} is a list of numbers such as 1.5,2,3, not {text!r}")
    return found
