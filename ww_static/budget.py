"""What fits into the memory of a run: which rows are computed, by which method, and how many workers there may be.

Whether a row is computed, and how, depends on its shape, on the limit and on the LAPACK of the machine alone, never on the
workers or on what is free.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ww_static import analysis, memory
from ww_static.analysis import Permute
from ww_static.layers import LayerView
from ww_static.options import Options
from ww_static.spectral import lapack
from ww_static.spectral.eigen import Method


@dataclass(frozen=True, slots=True)
class Budget:
    """The memory of a run, in bytes.

    Attributes:
        total: private memory that all processes together may hold.
        overhead: of the parent, with all rows and the tables made of them, of the server that forks workers, and of one
            worker.
        backend: what computes the spectra; how much memory they take depends on it.
        options: what is computed.
    """

    total: int
    overhead: int
    backend: str = lapack.NUMPY
    options: Options = field(default_factory=Options)

    def fits(self, view: LayerView) -> bool:
        """Whether the row can be computed at all, alone; one that is skipped takes nothing."""
        return view.reason is not None or self.least(view) + self.overhead <= self.total

    def least(self, view: LayerView) -> int:
        """Private memory without which a row cannot be computed, in bytes."""
        return analysis.memory_needed(view, self.backend, self.options.precision)

    def method(self, view: LayerView) -> Method:
        """``auto``, or ``gram`` when there is no room to resolve small singular values."""
        return (
            "auto"
            if analysis.memory_wanted(view, self.backend, self.options.precision) + self.overhead <= self.total
            else "gram"
        )

    def permute(self, view: LayerView) -> Permute:
        """Whether there is room for the permuted matrices of the row; without it the row lacks their columns."""
        return "fits" if self._permuted(view) + self.overhead <= self.total else "too_large"

    def bytes(self, view: LayerView) -> int:
        """What the task of a row may take."""
        plain = self.least(view)
        if self.method(view) == "auto":
            plain = analysis.memory_wanted(view, self.backend, self.options.precision)
        return max(plain, self._permuted(view)) if self.permute(view) == "fits" else plain

    def _permuted(self, view: LayerView) -> int:
        return analysis.memory_permuted(view, self.options, self.backend)

    def most_workers(self, views: Iterable[LayerView]) -> int:
        """How many workers leave room for the largest row; at least one."""
        largest = max((self.bytes(view) for view in views if self.fits(view)), default=0)
        return 1 + max(0, self.total - self.overhead - largest) // memory.WORKER_BYTES

    def free(self, workers: int) -> int:
        """What is left for tasks beside this process, as large as it is now, and its idle workers."""
        excess = max(0, memory.private_bytes() - memory.PARENT_BYTES)
        return max(0, self.total - self.overhead - excess - max(0, workers - 1) * memory.WORKER_BYTES)


def budget_of(views: Sequence[LayerView], options: Options, max_memory: int | None) -> Budget:
    """The budget for some rows: `max_memory`, or a share of what the machine or container has."""
    overhead = memory.BASE_BYTES + len(views) * memory.ROW_BYTES
    if options.wants_esd:
        overhead += sum(memory.CURVES_BYTES + memory.EIGENVALUE_BYTES * (view.num_evals or 0) for view in views)
    total = max_memory or int(memory.SHARE * memory.available_bytes())
    return Budget(total, overhead, options=options)
