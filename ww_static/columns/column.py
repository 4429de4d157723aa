"""What a column is: a nullable field with its meaning, its unit, the id of its formula and its metric group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

Curve = Sequence[float]  # an array.array of doubles: a tuple of Python floats would take four times the memory


def column(meaning: str, unit: str = "", definition: str = "", group: str = "identity") -> Any:
    """A nullable column: one line of meaning, a unit, the id of its formula, and the metric group it belongs to."""
    return field(
        default=None, metadata={"doc": meaning, "unit": unit, "definition": definition, "group": group, "since": "0.1"}
    )


def metric(group: str, meaning: str, definition: str, unit: str = "1") -> Any:
    """A column of a metric group."""
    return column(meaning, unit, definition, group)
