"""A number that does not exist, with the reason: what a null in a result is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Missing:
    """Not a value. `reason` is one of the reason codes in docs/formats.md, for instance ``too_few_evals``."""

    reason: str
