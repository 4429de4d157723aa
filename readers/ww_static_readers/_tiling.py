"""Whether boxes cover a larger box exactly: no gap, no overlap, without comparing every box with every other.

The indicator of a box is the sum of steps at its corners with alternating signs. Boxes cover the whole once, and only once,
when these sums agree: what is left after adding the corners of all boxes are the corners of the whole.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence

Box = tuple[tuple[int, ...], tuple[int, ...]]  # offsets, sizes
_MOST_AXES = 8  # along which anything is cut; a box has two to that power of corners


def cover_once(shape: Sequence[int], boxes: Sequence[Box]) -> str | None:
    """What is wrong with boxes that should make up a whole; None when they do.

    Args:
        shape: of the whole; every size is at least 0.
        boxes: offsets and sizes, as many as there are axes, none negative.
    """
    for offsets, sizes in boxes:
        if any(offset + size > most for offset, size, most in zip(offsets, sizes, shape, strict=True)):
            return f"the chunk of {list(sizes)} at {list(offsets)} reaches out of {list(shape)}"
    boxes = [box for box in boxes if 0 not in box[1]]
    whole, covered = math.prod(shape), sum(math.prod(sizes) for _, sizes in boxes)
    if covered != whole:
        return f"its chunks have {covered} of {whole} elements" + (", so some overlap" if covered > whole else "")
    axes = [axis for axis, size in enumerate(shape) if any(sizes[axis] != size for _, sizes in boxes)]
    if len(axes) > _MOST_AXES:
        return f"it is cut along {len(axes)} axes, at most {_MOST_AXES} are checked"
    steps: defaultdict[tuple[int, ...], int] = defaultdict(int)
    for offsets, sizes in boxes:
        _add([(offsets[axis], offsets[axis] + sizes[axis]) for axis in axes], 1, steps)
    if whole:
        _add([(0, shape[axis]) for axis in axes], -1, steps)
    return "its chunks overlap and leave gaps" if any(steps.values()) else None


def _add(edges: Sequence[tuple[int, int]], count: int, steps: defaultdict[tuple[int, ...], int]) -> None:
    """Adds the corners of a box, each with the sign of its parity."""
    for ends in itertools.product((0, 1), repeat=len(edges)):
        corner = tuple(edge[end] for edge, end in zip(edges, ends, strict=True))
        steps[corner] += -count if sum(ends) % 2 else count
