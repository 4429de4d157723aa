"""Estimated seconds of work, on one processor: the order of tasks, progress, patience and the number of workers depend on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from ww_static.budget import Need
from ww_static.layout.layers import LayerView
from ww_static.plan import stored_bytes
from ww_static.protocol import TensorSpec

WORTH_WORKERS = 0.3  # seconds of work below which a second worker costs more than it saves
_PER_SURVEYED_BYTE = 2e-9
_PER_HASHED_BYTE = 7e-10
_PER_FLOP = 2.5e-11
_PER_ROW = 2e-3  # of fitting and measuring, whatever the size
_SMALL = 5e-3  # rows that take less share a task, for sending one costs a third of a millisecond
_BATCH = 2e-2
_SURVEYED = 2**24  # tensors are surveyed in tasks of about this many bytes
_LARGE = 1.0  # rows of several matrices that take more are shared out
_SHARE = 0.25


def of_survey(nbytes: int) -> float:
    """Of one pass over stored values."""
    return nbytes * _PER_SURVEYED_BYTE


def of_hash(nbytes: int) -> float:
    """Of the sha256 of a file."""
    return nbytes * _PER_HASHED_BYTE


def of_row(view: LayerView, flops: float) -> float:
    """Of the row of a view that takes so many floating-point operations; nothing for one that is skipped."""
    return _PER_ROW + flops * _PER_FLOP if view.reason is None else 0.0


def of_pair(view: LayerView, flops: float) -> float:
    """Of the comparison of two tensors, both of which are read, that takes so many floating-point operations."""
    return _PER_ROW + flops * _PER_FLOP + 2 * of_survey(sum(stored_bytes(spec) for spec in view.tensors))


@dataclass(frozen=True, slots=True)
class Share:
    """How a large row is shared out.

    Attributes:
        parts: of its matrices, for one task each; none when their spectra are taken with the row.
        copies: permuted ones, for one task each; 0 when they are made with the row.
        seconds: of one of these tasks.
        rest: seconds of what is left for the row.
    """

    parts: tuple[slice, ...]
    copies: int
    seconds: float
    rest: float


def share(need: Need, view: LayerView) -> Share | None:
    """How a row is shared out; None when it is soon done, or is one piece of work."""
    whole, permuting = of_row(view, need.flops + need.further), need.permuting * _PER_FLOP
    if whole <= _LARGE:
        return None
    copies = need.copies if permuting > _SHARE else 0
    parts = shares(need.parts, of_row(view, need.flops)) if need.parts else []
    count = len(parts) + copies
    if count < 2:
        return None
    shared = (need.flops * _PER_FLOP if parts else 0.0) + (permuting if copies else 0.0)
    return Share(tuple(parts), copies, shared / count, whole - shared)


def shares(matrices: int, seconds: float) -> list[slice]:
    """The matrices of a row in parts that several workers can take, one part when they are soon done."""
    count = min(matrices, int(seconds / _SHARE)) if seconds > _LARGE else 1
    ends = [matrices * place // count for place in range(count + 1)] if count > 1 else [0, matrices]
    return [slice(begin, end) for begin, end in pairwise(ends)]


def tensors_together(specs: Iterable[TensorSpec]) -> Iterator[list[TensorSpec]]:
    """Tensors in the batches in which they are surveyed."""
    batch: list[TensorSpec] = []
    size = 0
    for spec in specs:
        nbytes = stored_bytes(spec)
        if batch and (size + nbytes > _SURVEYED or len(batch) == 256):
            yield batch
            batch, size = [], 0
        batch.append(spec)
        size += nbytes
    if batch:
        yield batch


def rows_together(seconds: Mapping[int, float]) -> Iterator[list[int]]:
    """Rows by what they take, in order: a large one alone, small ones together."""
    batch: list[int] = []
    held = 0.0
    for row, cost in seconds.items():
        if cost >= _SMALL:
            yield [row]
            continue
        batch.append(row)
        held += cost
        if held >= _BATCH:
            yield batch
            batch, held = [], 0.0
    if batch:
        yield batch
