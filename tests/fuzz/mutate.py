"""An input of the fuzz: seeds of one reader, damaged as its number says, the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from fuzz import bytewise, formwise
from fuzz.seed import Seed


@dataclass(frozen=True, slots=True)
class Input:
    """What is given to a reader: the files of a folder, the one to open, and which seed they were made of."""

    seed: str
    main: str
    files: Mapping[str, bytes]


def made(reader: str, seeds: Sequence[Seed], start: int, number: int) -> Input:
    """Input `number` of a reader; `start` chooses another series.

    Most are damaged in a part, so that lengths and checksums around it are right; some in a file as it is.
    """
    chance = Random(f"{reader}:{start}:{number}")
    seed, other = chance.choice(seeds), chance.choice(seeds)
    parts = dict(seed.parts)
    outside = 0
    for _ in range(chance.choice((1, 1, 1, 1, 1, 2, 2, 4))):
        if chance.random() < 0.2:
            outside += 1
            continue
        name = chance.choice(sorted(parts))
        form = seed.forms.get(name)
        foreign = _same_form(other, form, name)
        if form is not None and chance.random() < 0.9:
            parts[name] = formwise.damaged(form, parts[name], chance, foreign)
        else:
            parts[name] = bytewise.damaged(parts[name], chance, foreign)
    files = dict(seed.build(parts))
    for _ in range(outside):
        name = chance.choice(sorted(files))
        files[name] = bytewise.damaged(files[name], chance, other.files().get(name) or b"")
    return Input(seed.name, seed.main, files)


def _same_form(other: Seed, form: str | None, name: str) -> bytes:
    """A part of another seed that can be mixed into one of this form."""
    for candidate, one in other.forms.items():
        if form is not None and one == form:
            return other.parts[candidate]
    return other.parts.get(name, b"")
