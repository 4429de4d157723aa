"""A uniformly random permutation of stored values: sort them by independent random keys, break ties by chance.

Every permutation is equally likely: independent keys that differ are in uniformly random order, and values whose keys agree are
shuffled among themselves. What comes out depends on the values, their order and the generator, not on how the sort works.
Source: Rao 1961, Sandelius 1962, for many values, which are dealt into 256 stacks first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DEALT = 2**22  # more values than these are dealt into stacks, so that the keys need no more memory than the values
_STACKS = 256
_CHUNK = 2**16  # values whose keys are drawn at a time: they stay in the processor's cache
_KEY = 1 if sys.byteorder == "little" else 0  # which half of a packed value the sort looks at first
_HAND = 2**17  # values that are dealt at a time


def permutation_bytes(count: int, itemsize: int) -> int:
    """Most private memory, in bytes, that `permuted` holds at one time, what it returns included."""
    if itemsize == 8:
        return 16 * count + 2**20
    if count <= _DEALT:
        return (8 + itemsize) * count + 16 * min(count, _HAND) + 2**23
    return itemsize * count + 2 * (16 + itemsize) * (count // _STACKS) + 48 * _HAND


def permuted(blocks: Iterable[NDArray[Any]], count: int, generator: np.random.Generator) -> NDArray[Any]:
    """The values of the blocks, one after the other, in random order.

    Args:
        blocks: unsigned integers (the bits of the stored values), all of one dtype, 1-D, `count` values together.
        count: how many values.
        generator: what chance comes from.

    Returns:
        The same dtype, shape (count,).
    """
    pieces = iter(blocks)
    first = next(pieces)
    if first.dtype.itemsize == 8:  # no room for a key beside the value
        values = np.concatenate([first, *pieces])
        generator.shuffle(values)
        return values
    if count > _DEALT:
        return _dealt(first, pieces, count, generator)
    packed = np.empty(count, np.uint64)
    place = 0
    while True:
        _pack(first, packed[place : place + len(first)], generator)
        place += len(first)
        more = next(pieces, None)
        if more is None:
            return _sorted(packed, generator).astype(first.dtype)
        first = more


def _pack(values: NDArray[Any], packed: NDArray[np.uint64], generator: np.random.Generator) -> None:
    """32 random bits above each value."""
    halves = packed.view(np.uint32)
    for start in range(0, len(values), _CHUNK):
        stop = min(start + _CHUNK, len(values))
        drawn = generator.integers(0, 2**64 - 1, (stop - start + 1) // 2, np.uint64, endpoint=True)
        halves[2 * start + _KEY : 2 * stop : 2] = drawn.view(np.uint32)[: stop - start]
        halves[2 * start + 1 - _KEY : 2 * stop : 2] = values[start:stop]


def _sorted(packed: NDArray[np.uint64], generator: np.random.Generator) -> NDArray[np.uint64]:
    """The packed values in the order of their keys, in place; runs of equal keys in random order."""
    packed.sort()
    tied: list[NDArray[np.intp]] = []  # places of values whose key is that of the next
    for start in range(0, len(packed) - 1, _CHUNK):
        keys = packed[start : start + _CHUNK + 1].view(np.uint32)[_KEY::2]
        tied.append(np.flatnonzero(keys[1:] == keys[:-1]) + start)
    places = np.concatenate(tied) if tied else np.empty(0, np.intp)
    begins = places[np.append(True, np.diff(places) > 1)[: len(places)]]
    ends = places[np.append(np.diff(places) > 1, True)[: len(places)]] + 2
    pairs = begins[ends - begins == 2]
    swapped = pairs[generator.random(len(pairs)) < 0.5]
    packed[swapped], packed[swapped + 1] = packed[swapped + 1], packed[swapped]
    for begin, end in zip(begins, ends, strict=True):
        if end - begin > 2:
            packed[begin:end] = generator.permutation(packed[begin:end])
    return packed


def _dealt(first: NDArray[Any], rest: Iterable[NDArray[Any]], count: int, generator: np.random.Generator) -> NDArray[Any]:
    """Each value goes onto one of 256 stacks by chance; each stack is shuffled."""
    dealer = deepcopy(generator)  # the same stacks again, when the values come
    sizes = np.zeros(_STACKS, np.intp)
    for start in range(0, count, _HAND):
        sizes += np.bincount(_stacks(generator, min(_HAND, count - start)), minlength=_STACKS)
    places = [0, *np.cumsum(sizes).tolist()]
    result = np.empty(count, first.dtype)
    filled = places[:-1]
    for hand in _hands(first, rest):
        dealt, ends = _by_stack(hand, _stacks(dealer, len(hand)))
        begin = 0
        for stack, end in enumerate(ends):
            place = filled[stack]
            filled[stack] = place + end - begin
            result[place : filled[stack]] = dealt[begin:end]
            begin = end
    for begin, end in pairwise(places):
        packed = np.empty(end - begin, np.uint64)
        _pack(result[begin:end], packed, generator)
        result[begin:end] = _sorted(packed, generator)
    return result


def _by_stack(hand: NDArray[Any], stacks: NDArray[np.uint8]) -> tuple[NDArray[Any], list[int]]:
    """The values of a hand, those of a stack together and in their order, and where each stack ends."""
    order = stacks.astype(np.uint32)  # numbers that all differ are sorted in a third of the time of a stable sort of bytes
    order *= np.uint32(_HAND)
    order += np.arange(len(hand), dtype=np.uint32)
    order.sort()
    ends = np.searchsorted(order, np.arange(1, _STACKS + 1, dtype=np.uint32) * np.uint32(_HAND))
    order &= np.uint32(_HAND - 1)
    return hand.take(order, mode="clip"), ends.tolist()


def _stacks(generator: np.random.Generator, count: int) -> NDArray[np.uint8]:
    """A stack for each of some values. Whole hands are drawn, so that two passes draw the same."""
    drawn = generator.integers(
        0, 2**64 - 1, _HAND // 8, np.uint64, endpoint=True
    )  # half the time of `bytes`, which are the same
    return drawn.astype("<u8", copy=False).view(np.uint8)[:count]


def _hands(first: NDArray[Any], rest: Iterable[NDArray[Any]]) -> Iterable[NDArray[Any]]:
    """The same values in pieces of `_HAND`, the last one shorter."""
    waiting, held = [first], len(first)
    for block in rest:
        waiting.append(block)
        held += len(block)
        if held >= _HAND:
            joined = np.concatenate(waiting)
            whole = held - held % _HAND
            yield from (joined[start : start + _HAND] for start in range(0, whole, _HAND))
            waiting, held = [joined[whole:]], held - whole
    if held:
        joined = np.concatenate(waiting)
        yield from (joined[start : start + _HAND] for start in range(0, held, _HAND))
