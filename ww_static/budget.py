"""What fits into the memory of a run: which rows are computed, by which method, and how many workers there may be.

Whether a row is computed, and how, depends on its shape, on the limit and on the LAPACK of the machine alone, never on the
workers or on what is free.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ww_static import memory
from ww_static.layout.layers import LayerView
from ww_static.options import Options

if TYPE_CHECKING:
    from ww_static.spectral.eigen import Method

NUMPY = "numpy"  # the backend without routines of LAPACK, as `spectral.lapack` calls it, which loads numpy


@dataclass(frozen=True, slots=True)
class Room:
    """Private memory, in bytes, for the row of one view.

    Attributes:
        least: without which it cannot be computed.
        wanted: with which small singular values are resolved as well.
        groups: names of column groups that were asked for and take more, and how much each of them takes.
    """

    least: int
    wanted: int
    groups: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Need:
    """What the row of one view takes.

    Attributes:
        flops: estimated floating-point operations.
        plain: memory when numpy alone computes it.
        direct: memory where routines of LAPACK are called directly.
        parts: into how many parts its matrices can be shared out without changing a number; 0 when that would change one.
        further: operations of its permuted matrices, resampled values, windows and eigenvectors.
        copies: permuted ones of its matrices, which can be shared out.
        permuting: operations of these, among the further ones.
    """

    flops: float
    plain: Room
    direct: Room
    parts: int = 1
    further: float = 0.0
    copies: int = 0
    permuting: float = 0.0


@dataclass(frozen=True, slots=True)
class Budget:
    """The memory of a run, in bytes.

    Attributes:
        total: private memory that all processes together may hold.
        overhead: of the parent, with all rows and the tables made of them, of the server that forks workers, and of one
            worker.
        backend: what computes the spectra; how much memory they take depends on it.
    """

    total: int
    overhead: int
    backend: str = NUMPY

    def room(self, need: Need) -> Room:
        """The memory for a row with the backend of the run."""
        return need.plain if self.backend == NUMPY else need.direct

    def fits(self, view: LayerView, need: Need) -> bool:
        """Whether the row can be computed at all, alone; one that is skipped takes nothing."""
        return view.reason is not None or self.room(need).least + self.overhead <= self.total

    def method(self, need: Need) -> Method:
        """``auto``, or ``gram`` when there is no room to resolve small singular values."""
        return "auto" if self.room(need).wanted + self.overhead <= self.total else "gram"

    def lacking(self, need: Need) -> tuple[str, ...]:
        """Column groups for which there is no room, so that the row lacks them."""
        return tuple(group for group, nbytes in self.room(need).groups if nbytes + self.overhead > self.total)

    def admitted(self, need: Need) -> Need:
        """What is computed of it: without permuted matrices where there is no room for one."""
        return (
            replace(need, copies=0, permuting=0.0, further=need.further - need.permuting)
            if "randomize" in self.lacking(need)
            else need
        )

    def bytes(self, need: Need) -> int:
        """What the task of a row may take."""
        room = self.room(need)
        plain = room.least if self.method(need) == "gram" else room.wanted
        return max(plain, *(nbytes for _, nbytes in room.groups if nbytes + self.overhead <= self.total), 0)

    def most_workers(self, rows: Iterable[tuple[LayerView, Need]]) -> int:
        """How many workers leave room for the largest row; at least one."""
        largest = max((self.bytes(need) for view, need in rows if self.fits(view, need)), default=0)
        return 1 + max(0, self.total - self.overhead - largest) // memory.WORKER_BYTES

    def free(self, workers: int) -> int:
        """What is left for tasks beside this process, as large as it is now, and its idle workers."""
        excess = max(0, memory.private_bytes() - memory.PARENT_BYTES)
        return max(0, self.total - self.overhead - excess - max(0, workers - 1) * memory.WORKER_BYTES)


def budget_of(views: Sequence[LayerView], options: Options, max_memory: int | None) -> Budget:
    """The budget for some rows: `max_memory`, or a share of what the machine or container has."""
    overhead = memory.BASE_BYTES + len(views) * memory.ROW_BYTES + (options.blas_threads - 1) * memory.THREAD_BYTES
    if options.base is not None:
        overhead += memory.BASED_BYTES + max((_factor_bytes(view) for view in views), default=0)
    if options.wants_esd:
        overhead += sum(memory.CURVES_BYTES + memory.EIGENVALUE_BYTES * (view.num_evals or 0) for view in views)
    return Budget(max_memory or int(memory.SHARE * memory.available_bytes()), overhead)


def _factor_bytes(view: LayerView) -> int:
    """Of the factors of an adapter, which are kept as float64 while the tensor that they change is read, and made from blocks."""
    return 0 if view.left is None else 2 * 8 * sum(math.prod(spec.shape) for spec in view.tensors)
