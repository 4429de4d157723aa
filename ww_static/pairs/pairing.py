"""Which views of two models belong together: by scoped name, or by scoped name without a prefix that one of them has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ww_static.layout.layers import LayerView

if TYPE_CHECKING:
    from ww_static.spectral.eigen import Method


@dataclass(frozen=True, slots=True)
class Paired:
    """A pair, or a view without a counterpart.

    Attributes:
        old, new: places of the views in their models; None for the one that is missing.
        pairing: ``name``, or ``name without prefix 'model.' of new``; None for a view alone.
    """

    old: int | None
    new: int | None
    pairing: str | None = None


@dataclass(frozen=True, slots=True)
class PairJob:
    """Two views to compare.

    Attributes:
        old, new: which matrices.
        exponent: of both, 0 unless elements are extreme.
        squared_step: of the new tensor, when it is quantized and its steps are known.
        method: of the spectra.
        seed: of the run.
        same: the stored values are the same, and so are their matrices.
    """

    old: LayerView
    new: LayerView
    exponent: int
    squared_step: float | None
    method: Method
    seed: int
    same: bool


def pairs(old: Sequence[LayerView], new: Sequence[LayerView]) -> list[Paired]:
    """Every view of both models once: those of the new model in their order, then the rest of the old one."""
    known = counterparts((view.spec.name for view in old), (view.spec.name for view in new))
    places = {(view.spec.name, view.part): place for place, view in enumerate(old)}
    taken: set[int] = set()
    found = []
    for number, view in enumerate(new):
        name, pairing = known.get(view.spec.name, (view.spec.name, "name"))
        place = places.get((name, view.part))
        if place is not None:
            taken.add(place)
        found.append(Paired(place, number, pairing if place is not None else None))
    return found + [Paired(place, None) for place in range(len(old)) if place not in taken]


def counterparts(old: Iterable[str], new: Iterable[str]) -> dict[str, tuple[str, str]]:
    """The old name of every new one that has a counterpart, and how the two were found.

    Names pair when they are equal. Where names are left over on both sides, one prefix may be removed from all those that
    are left on one side, if there is exactly one prefix that makes any of them equal to one that is left on the other.
    """
    before, after = set(old), set(new)
    left = before - after, after - before
    found = {name: (name, "name") for name in before & after}
    side, prefix = _prefix(*left)
    for name in left[1] if prefix else ():
        other = prefix + name if side == "old" else name.removeprefix(prefix)
        if other in left[0]:
            found[name] = (other, f"name without prefix '{prefix}' of {side}")
    return found


def _prefix(old: set[str], new: set[str]) -> tuple[str, str]:
    """The side that has it and the one prefix, ending with a dot or slash, that pairs names; empty when there is not one."""
    found = {("new", prefix) for name in new for prefix in _prefixes(name) if name.removeprefix(prefix) in old}
    found |= {("old", prefix) for name in old for prefix in _prefixes(name) if name.removeprefix(prefix) in new}
    return found.pop() if len(found) == 1 else ("", "")


def _prefixes(name: str) -> list[str]:
    return [name[: place + 1] for place, mark in enumerate(name[:4096]) if mark in "./"]
