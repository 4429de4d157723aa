"""One large row by several workers: its matrices in parts, its permuted copies one by one; the last one gives the task of the row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ww_static.workers import tasks
from ww_static.workers.dispatch import Task
from ww_static.workers.tasks import Job

Outcome = bytes | BaseException
Done = Callable[[Outcome], Iterable[Task[Any]]]


@dataclass(slots=True)
class SharedRow:
    """What some workers have made of one row so far.

    When a part of the spectra fails they are all taken with the row, which then says what becomes of that; so with the copies.

    Attributes:
        job: the row.
        parts: of its matrices, for one task each; none when their spectra are taken with the row.
        copies: permuted ones; 0 when they are made with the row, or were not asked for.
        task: makes the task of one share, from the call, what it takes (the job and what follows), and what gets its result.
        finish: makes the task of the row, from its job with what is known.
    """

    job: Job
    parts: Sequence[slice]
    copies: int
    task: Callable[[Callable[..., bytes], tuple[Any, ...], Done], Task[bytes]]
    finish: Callable[[Job], Task[Any]]
    _spectra: dict[int, Outcome] = field(default_factory=dict)
    _permuted: dict[int, Outcome] = field(default_factory=dict)

    def begin(self) -> list[Task[Any]]:
        """The tasks that wait for no other: parts of the spectra, and the copy whose edges the others need."""
        begun: list[Task[Any]] = [
            self.task(tasks.spectra_of_matrices, (self.job, part), partial(self._taken, self._spectra, number))
            for number, part in enumerate(self.parts)
        ]
        return begun + ([self._copy(self.job, 0)] if self.copies else [])

    def _copy(self, job: Job, number: int) -> Task[bytes]:
        return self.task(tasks.replica_of_view, (job, number), partial(self._taken, self._permuted, number))

    def _taken(self, where: dict[int, Outcome], number: int, found: Outcome) -> list[Task[Any]]:
        where[number] = found
        if where is self._permuted and number == 0 and isinstance(found, bytes) and self.copies > 1:
            job = replace(self.job, replicas=(found,))
            return [self._copy(job, other) for other in range(1, self.copies)]
        lost = isinstance(self._permuted.get(0), BaseException)
        if len(self._spectra) < len(self.parts) or (len(self._permuted) < self.copies and not lost):
            return []
        return [self.finish(replace(self.job, shares=_all(self._spectra), replicas=_all(self._permuted)))]


def _all(found: dict[int, Outcome]) -> tuple[bytes, ...]:
    """What was made, in order; nothing when any of it failed."""
    made = tuple(one for _, one in sorted(found.items()) if isinstance(one, bytes))
    return made if len(made) == len(found) else ()
