"""Chance: a generator is made from what it is for and a number, so that no order of work, and nothing drawn elsewhere, changes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def generator(purpose: Sequence[object], *numbers: int) -> np.random.Generator:
    """A generator of its own: PCG64, seeded by the sha256 of the purpose as JSON and by the numbers.

    Args:
        purpose: what JSON can hold: the seed of the run, names.
        numbers: of the replica, the sample, the matrix.
    """
    import numpy as np  # not at the top: a process that only shares out work does not need it

    entropy = int.from_bytes(hashlib.sha256(json.dumps(purpose).encode()).digest())
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy, spawn_key=numbers)))
