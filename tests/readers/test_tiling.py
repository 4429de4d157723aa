"""Chunks of a tensor in numbers: which part of a window falls into one, and whether they cover the whole exactly."""

from __future__ import annotations

import numpy as np

from ww_static_readers._tiling import cover_once
from ww_static_readers._torch_distributed import _within


def test_cuts_of_a_range_are_those_of_every_index() -> None:
    generator = np.random.default_rng(3)
    for _ in range(3000):
        size, offset, count = (int(number) for number in generator.integers(0, 12, 3))
        ends = generator.integers(-14, 15, 2)
        step = int(generator.choice([-5, -3, -2, -1, 1, 2, 3, 5]))
        steps = range(*slice(int(ends[0]), int(ends[1]), step).indices(size))
        wanted = [(place, index - offset) for place, index in enumerate(steps) if offset <= index < offset + count]
        target, cut = _within(steps, offset, count)
        assert list(zip(range(len(steps))[target], range(count)[cut], strict=True)) == wanted


def test_boxes_cover_a_whole_exactly_when_each_element_is_in_one() -> None:
    generator = np.random.default_rng(4)
    agreed = {True: 0, False: 0}
    for _ in range(3000):
        shape = tuple(int(size) for size in generator.integers(1, 5, int(generator.integers(0, 4))))
        counts = np.zeros(shape, np.int64)
        boxes: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((0,) * len(shape), shape)]
        for _ in range(int(generator.integers(0, 4))):  # cut a box in two, then perhaps move one
            offsets, sizes = boxes.pop(int(generator.integers(len(boxes))))
            axis = int(generator.integers(len(shape))) if shape else None
            if axis is None:
                boxes.append((offsets, sizes))
                continue
            at = int(generator.integers(0, sizes[axis] + 1))
            rest = (*sizes[:axis], sizes[axis] - at, *sizes[axis + 1 :])
            begin = (*offsets[:axis], offsets[axis] + at, *offsets[axis + 1 :])
            boxes += [(offsets, (*sizes[:axis], at, *sizes[axis + 1 :])), (begin, rest)]
        if len(boxes) > 1 and generator.random() < 0.6:
            offsets, sizes = boxes.pop(int(generator.integers(len(boxes))))
            boxes.append(
                (tuple(int(generator.integers(0, most - size + 1)) for most, size in zip(shape, sizes, strict=True)), sizes)
            )
        for offsets, sizes in boxes:
            counts[tuple(slice(begin, begin + size) for begin, size in zip(offsets, sizes, strict=True))] += 1
        covered = bool((counts == 1).all())
        assert (cover_once(shape, boxes) is None) == covered
        agreed[covered] += 1
    assert min(agreed.values()) > 200, agreed
