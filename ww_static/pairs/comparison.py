"""Two models compared: both analyzed, their views paired, each pair read once more by a worker that has both files open."""

from __future__ import annotations

import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from ww_static import costs, engine, findings
from ww_static.budget import Budget, Need, budget_of
from ww_static.engine import Progress, Run
from ww_static.errors import LimitError, WorkerDiedError
from ww_static.layout.layers import LayerView
from ww_static.measuring.surveys import Survey, joined
from ww_static.options import Options
from ww_static.pairs import pair_rows, pair_tasks, pairing
from ww_static.pairs.pairing import Paired, PairJob
from ww_static.plan import Plan, Settings
from ww_static.rows import LayerRow
from ww_static.spectral.extremes import safe_exponent
from ww_static.workers import tasks
from ww_static.workers.dispatch import Crew, Task, drain
from ww_static.workers.executors import WorkerExecutor
from ww_static.workers.gathering import failure
from ww_static.workers.tasks import Target

_NEEDS_BYTES = 2**26  # private memory that is set aside for finding out what pairs take


@dataclass(frozen=True, slots=True)
class Side:
    """One model of a run.

    Attributes:
        plan, rows: its views, and a layer row for each; no view and one row when it could not be read.
        surveys: of its tensors, by their names.
    """

    plan: Plan
    rows: tuple[LayerRow, ...]
    surveys: Mapping[str, Survey | BaseException]

    def survey(self, place: int) -> Survey:
        """The survey of a view; an empty one where there is none."""
        found = joined(self.plan.views[place], self.surveys)
        return found if isinstance(found, Survey) else Survey()


def sides(run: Run) -> list[Side]:
    """The models of a run, with their rows."""
    found, start = [], 0
    for plan, surveys in zip(run.plans, run.surveys, strict=True):
        count = 1 if plan.error is not None else len(plan.views)
        found.append(Side(plan, run.layers[start : start + count], surveys))
        start += count
    return found


class Shown:
    """Progress of a run whose work becomes known step by step: what comes later is added to what was done."""

    def __init__(self, progress: Callable[[Progress], None] | None) -> None:
        self._progress = progress
        self._before = 0.0
        self._latest = Progress(0.0, 0.0, "")

    def __call__(self, progress: Progress) -> None:
        """Shows the progress of the present step."""
        self._latest = progress
        if self._progress is not None:
            self._progress(Progress(self._before + progress.done, self._before + progress.total, progress.label))

    def step(self) -> None:
        """What comes now is a new step."""
        self._before += self._latest.total
        self._latest = Progress(0.0, 0.0, "")


class Comparison:
    """The pairs of two models, measured.

    Args:
        old, new: the models.
        options, settings: of the run.
        backend: what computed its spectra.
        progress: called whenever a pair is finished.
        deadline: of the monotonic clock, beyond which no pair is taken.
    """

    def __init__(
        self,
        old: Side,
        new: Side,
        options: Options,
        settings: Settings,
        backend: str,
        progress: Shown,
        deadline: float = math.inf,
    ) -> None:
        self.name = uuid.uuid4().hex
        self.old, self.new = old, new
        self.options, self.settings, self.progress = options, settings, progress
        self.pairs = pairing.pairs(old.plan.views, new.plan.views)
        self.rows: list[Any] = [self._row(pair) for pair in self.pairs]
        self.rows += [
            pair_rows.alone(side.rows[0], word) for word, side in (("old", old), ("new", new)) if side.plan.error is not None
        ]
        views = [*old.plan.views, *new.plan.views]
        self.budget: Budget = replace(budget_of(views, options, settings.max_memory), backend=backend)
        self._deadline = deadline
        self._done = 0.0
        self._total = 0.0
        self._deaths = 0

    def _row(self, pair: Paired) -> Any:
        if pair.old is None or pair.new is None:
            side, place = (self.new, pair.new) if pair.old is None else (self.old, pair.old)
            assert place is not None  # a view is on one side at least
            return pair_rows.alone(side.rows[place], "new" if pair.old is None else "old")
        return pair_rows.together(self.old.rows[pair.old], self.new.rows[pair.new], pair.pairing or "name")

    def perform(self, executor: Executor, keep_partial: bool) -> bool:
        """Measures all pairs; true when that was interrupted, and the rest of them is to stay as it is."""
        slots = self._slots(executor)
        crew = Crew(executor, slots, self.budget.free(slots or 0), self.settings.timeout)
        try:
            needs = self._needs(crew)
            if slots is not None:
                slots = min(
                    slots, self.budget.most_workers([(self.new.plan.views[place], need) for place, need in needs.items()])
                )
            crew = Crew(executor, slots, self.budget.free(slots or 0), self.settings.timeout)
            waiting = list(self._tasks(needs))
            self._total = sum(task.cost for task in waiting)
            drain(crew, waiting, self._advance, self._given_up)
        except KeyboardInterrupt:
            if not keep_partial:
                raise
            self.interrupt()
            return True
        finally:
            tasks.close_kept(self.name)
        return False

    def _slots(self, executor: Executor) -> int | None:
        if not isinstance(executor, WorkerExecutor):
            return None
        return engine.most_workers(self.settings, self.options)

    def interrupt(self) -> None:
        """Pairs that were not reached say so."""
        for number, row in enumerate(self.rows):
            if row.status == "skipped" and row.reason is None:
                self.rows[number] = replace(row, reason="interrupted")

    def _advance(self, task: Task[Any]) -> None:
        self._done += task.cost
        self.progress(Progress(min(self._done, self._total), max(self._total, self._done), task.label))

    def _given_up(self, task: Task[Any]) -> BaseException | None:
        if time.monotonic() + task.cost > self._deadline:
            return LimitError("time_limit", "", engine.out_of_time(self.settings))
        if self._deaths < engine.MOST_DEATHS:
            return None
        return WorkerDiedError("reader_crash", "", f"not read: {self._deaths} workers died on these models")

    def _needs(self, crew: Crew) -> dict[int, Need]:
        """What each pair of views takes, by the place of the new one; pairs that cannot be compared say why."""
        comparable: list[int] = []
        for number, pair in enumerate(self.pairs):
            if pair.old is None or pair.new is None:
                continue
            views = self.old.plan.views[pair.old], self.new.plan.views[pair.new]
            found = pair_rows.obstacle(*views, (self.old.rows[pair.old], self.new.rows[pair.new]))
            if found is None:
                comparable.append(pair.new)
            else:
                self.rows[number] = replace(self.rows[number], status=found[0], reason=found[1])
        needs: dict[int, Need] = {}

        def done(answer: Sequence[Need] | BaseException) -> Sequence[Task[Any]]:
            if isinstance(answer, BaseException):
                raise answer
            needs.update(zip(comparable, answer, strict=True))
            return ()

        known = [(self.new.plan.views[place], self.new.plan.needs[place]) for place in comparable]
        if known:
            most = 2 * _NEEDS_BYTES
            drain(crew, [Task(pair_tasks.pair_needs, (known,), -1, 0.0, _NEEDS_BYTES, most, "", done)], lambda _: None)
        return needs

    def _tasks(self, needs: Mapping[int, Need]) -> Iterable[Task[Any]]:
        targets = [
            Target(side.plan.source.path, self.settings, side.plan.identities, self.name, side.plan.source.base)
            for side in (self.old, self.new)
        ]
        for number, pair in enumerate(self.pairs):
            if pair.old is None or pair.new is None or pair.new not in needs:
                continue
            need, view = needs[pair.new], self.new.plan.views[pair.new]
            held = self.budget.bytes(need)
            if held + self.budget.overhead > self.budget.total:
                message = f"needs {held} bytes of private memory, beside {self.budget.overhead} for processes and rows"
                self.rows[number] = replace(self.rows[number], reason="memory_limit", message=message)
                continue

            def done(found: Any, number: int = number) -> Sequence[Task[Any]]:
                self.rows[number] = self._finished(self.rows[number], found)
                return ()

            arguments = (
                *targets,
                self._job(self.rows[number], pair.old, pair.new, need),
                self.budget.backend,
                self.options.blas_threads,
            )
            cost = costs.of_pair(view, need.flops)
            most = engine.ceiling(held, self.options, self.settings, self.budget)
            yield Task(pair_tasks.compare_views, arguments, 0, cost, held, most, view.spec.name, done)

    def _job(self, row: Any, old: int, new: int, need: Need) -> PairJob:
        views = self.old.plan.views[old], self.new.plan.views[new]
        surveys = self.old.survey(old), self.new.survey(new)
        largest = max((one.moments.abs_max for one in surveys if one.moments is not None), default=0.0)
        step = surveys[1].squared_step if views[1].quantized else None
        same = row.identical is True and _cut(views[0]) == _cut(views[1])
        return PairJob(*views, safe_exponent(largest), step, self.budget.method(need), self.options.seed, same)

    def _finished(self, row: Any, found: Any) -> Any:
        if not isinstance(found, BaseException):
            return pair_rows.measured(row, found)
        self._deaths += isinstance(found, WorkerDiedError) and self._deaths < engine.MOST_DEATHS
        reason, message = failure(found)
        return replace(row, status="failed", reason=reason, message=message)


def _cut(view: LayerView) -> str:
    """Which matrices of its tensors a view has."""
    return repr((view.matrices, view.left))


def counts(rows: Sequence[Any]) -> dict[str, Any]:
    """How many views pair, how many of them differ, and why the others do not pair or were not compared."""
    pairs = [row for row in rows if row.pairing is not None]
    alone = [row for row in rows if row.side is not None and row.status != "error"]
    return {
        "paired": len(pairs),
        "by_prefix": sum(row.pairing != "name" for row in pairs),
        "measured": sum(row.status == "success" for row in pairs),
        "identical": sum(row.identical is True for row in pairs),
        "changed": sum(row.identical is False for row in pairs),
        "dtype_changed": sum(row.dtype != row.dtype_old for row in pairs),
        "unpaired": dict(sorted(Counter(row.side for row in alone).items())),
        "not_measured": dict(sorted(Counter(row.reason or "" for row in pairs if row.status != "success").items())),
    }


def inconclusive(rows: Sequence[Any]) -> bool:
    """Whether a pair could not be compared for a reason that leaves a question."""
    return any(
        row.status == "error"
        or (row.status == "failed" and row.reason != "nonfinite")
        or (row.pairing is not None and row.reason in findings.INCONCLUSIVE - {"shape_mismatch"})
        for row in rows
    )
