"""What a pickle is made of when nothing of it is made: names, and objects that are no more than their parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """A name that the pickle mentions."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class Opaque:
    """An object that was not made: its class, the arguments, the state, and what was put into it."""

    kind: Global | None
    arguments: Any = ()
    states: list[Any] = field(default_factory=list)
    parts: list[tuple[Any, Any]] = field(default_factory=list)
