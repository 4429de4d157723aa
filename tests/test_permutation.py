"""Permutations: the same values, every order equally likely, the same bits for the same generator."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ww_static.spectral import permutation
from ww_static.spectral.permutation import permuted


def pieces(values: NDArray[Any], size: int) -> list[NDArray[Any]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8"])
@pytest.mark.parametrize("dealt", [False, True])
def test_the_values_are_the_same_and_the_order_is_not(dtype: str, dealt: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if dealt:
        monkeypatch.setattr(permutation, "_DEALT", 1000)
        monkeypatch.setattr(permutation, "_HAND", 2**12)
    values = np.random.default_rng(0).integers(0, 2**63, 50_000).astype(dtype)
    found = permuted(pieces(values, 7000), len(values), np.random.default_rng(1))
    assert found.dtype == values.dtype
    assert np.array_equal(np.sort(found), np.sort(values))
    assert np.mean(found == values) < 0.02
    again = permuted(pieces(values, 50_000), len(values), np.random.default_rng(1))
    assert np.array_equal(found, again), "the pieces in which values come do not matter"
    other = permuted(pieces(values, 7000), len(values), np.random.default_rng(2))
    assert not np.array_equal(found, other)


class FewKeys:
    """A generator whose keys have two bits, so that ties are common."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def integers(self, low: int, high: int, count: int, dtype: Any, endpoint: bool) -> NDArray[np.uint64]:
        assert (low, high, endpoint) == (0, 2**64 - 1, True)
        return self._generator.integers(0, 4, 2 * count, np.uint32).view(dtype)  # two keys in one number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)


@pytest.mark.parametrize("way", ["keys", "ties", "stacks", "shuffle"])
def test_every_order_is_equally_likely(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chi-squared over the 24 orders of four values: 23 degrees of freedom, below 49.7 with a probability of 99.9 %."""
    if way == "stacks":
        monkeypatch.setattr(permutation, "_DEALT", 0)
        monkeypatch.setattr(permutation, "_STACKS", 2)
        monkeypatch.setattr(permutation, "_stacks", lambda generator, count: generator.integers(0, 2, 4, np.uint8)[:count])
    generator: Any = np.random.default_rng(3)
    if way == "ties":
        generator = FewKeys(generator)
    values = np.arange(4, dtype=np.uint64 if way == "shuffle" else np.uint8)
    draws = 12_000
    counts = Counter(tuple(permuted([values], 4, generator).tolist()) for _ in range(draws))
    assert len(counts) == 24
    assert sum((count - draws / 24) ** 2 for count in counts.values()) / (draws / 24) < 49.7


def test_places_are_not_related() -> None:
    """Mean displacement and correlation of neighbours over a million values, with 32 bits of key each."""
    values = np.arange(2**20, dtype=np.uint32)
    found = permuted(pieces(values, 2**18), len(values), np.random.default_rng(4)).astype(float)
    assert abs(np.corrcoef(found, values)[0, 1]) < 5e-3
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 5e-3


def test_memory_is_what_is_stated() -> None:
    import tracemalloc

    for count, dtype in ((2**20, np.uint32), (2**20, np.uint16), (2**19, np.uint64)):
        values = np.arange(count, dtype=dtype)
        tracemalloc.start()
        permuted(pieces(values, 2**18), count, np.random.default_rng(0))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= permutation.permutation_bytes(count, values.itemsize)
        assert permutation.permutation_bytes(count, values.itemsize) < 12 * values.nbytes + 2**26


def test_the_stream_of_chance_is_part_of_the_definitions() -> None:
    """Another order here is another `definitions_version`: randomized columns would change."""
    found = permuted([np.arange(12, dtype=np.uint16)], 12, np.random.default_rng(np.random.SeedSequence(7, spawn_key=(1, 0))))
    assert found.tolist() == [9, 7, 10, 4, 3, 1, 2, 0, 5, 11, 8, 6]


def test_the_memory_of_stacks_is_what_is_stated() -> None:
    import tracemalloc

    count = 2**24 + 2**20 + 3
    tracemalloc.start()
    found = permuted((np.full(min(2**20, count - start), start % 251, np.uint8) for start in range(0, count, 2**20)), count,
                     np.random.default_rng(0))  # fmt: skip
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == count
    assert peak <= permutation.permutation_bytes(count, 1) < 6 * count
