"""Plan, survey, spectra: shares the work of a run out to an executor, and gives rows back in plan order.

No array crosses a process border: a task is a path, a reader's name, a tensor and the options; its answer is a row.
"""

from __future__ import annotations

import math
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from ww_static import costs, memory, seam
from ww_static.budget import NUMPY, Budget, budget_of
from ww_static.errors import FormatError, LimitError, UsageError, WorkerDiedError
from ww_static.measuring import blanks, surveys
from ww_static.measuring.surveys import Survey
from ww_static.models import Source
from ww_static.options import Options
from ww_static.plan import Plan, Settings, file_bytes, stored_bytes, tensor_bytes
from ww_static.planning import Trial, is_interrupted, plan_models
from ww_static.protocol import TensorSpec
from ww_static.rows import FileRow, FindingRow, LayerRow
from ww_static.workers import tasks
from ww_static.workers.dispatch import Crew, Task, drain
from ww_static.workers.executors import WorkerExecutor
from ww_static.workers.gathering import Gathered, is_out_of_time, unread
from ww_static.workers.release import Releases
from ww_static.workers.sharing import Done, SharedRow
from ww_static.workers.tasks import Job, Target

_SURVEY_BYTES = 2**25  # private memory that is set aside for such a task
_HASH_BYTES = 2**22
_SPARE_BYTES = 2**27  # beyond what a spectrum should need, before the system refuses it more
_LATER = 1  # rank of what no other task waits for
MOST_DEATHS = 3  # of workers on one model, before the rest of it is given up


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, in estimated seconds of work."""

    done: float
    total: float
    label: str


@dataclass(frozen=True, slots=True)
class Run:
    """The rows of a run, in plan order, and what they were made from.

    Attributes:
        layers, findings, files: the tables.
        errors: what could not be opened.
        not_selected: tensors that the options left out.
        interrupted: the run was stopped before its end.
        plans: the models.
        surveys: of each model, what one pass over its tensors told, by their names.
        backend: what computed the spectra.
    """

    layers: tuple[LayerRow, ...]
    findings: tuple[FindingRow, ...]
    files: tuple[FileRow, ...]
    errors: tuple[FormatError, ...] = ()
    not_selected: int = 0
    interrupted: bool = False
    plans: tuple[Plan, ...] = ()
    surveys: tuple[Mapping[str, Survey | BaseException], ...] = ()
    backend: str = NUMPY


def run(
    sources: Sequence[Source],
    options: Options,
    settings: Settings,
    executor: Executor,
    progress: Callable[[Progress], None] | None = None,
    on_row: Callable[[LayerRow], None] | None = None,
    keep_partial: bool = False,
) -> Run:
    """Analyzes models.

    Args:
        sources: what to open.
        options: what to compute.
        settings: how to carry it out.
        executor: worker processes of our own, or any `concurrent.futures.Executor`; its tasks need the files at the
            same paths.
        progress: called whenever something has finished.
        on_row: called with each row as soon as it and all rows before it are there.
        keep_partial: turns Ctrl-C into rows with the reason ``interrupted`` instead of a KeyboardInterrupt.
    """

    def advance(source: Source) -> None:
        if progress is not None:
            progress(Progress(0.0, 1.0, source.shown))

    deadline = math.inf if settings.time_budget is None else time.monotonic() + settings.time_budget
    slots = planners(options, settings) if isinstance(executor, WorkerExecutor) else None
    trial = Trial()
    plans = plan_models(sources, options, settings, executor, slots, advance, beside=[trial.task()], keep_partial=keep_partial)
    work = _Work(plans, options, settings, progress, on_row, deadline)
    work.interrupted = is_interrupted(plans)
    try:
        if not work.interrupted:
            work.perform(executor, trial.answer)
    except KeyboardInterrupt:
        work.interrupted = True
        if not keep_partial:
            raise
    finally:
        tasks.close_kept(work.name)
    return work.result()


def most_workers(settings: Settings, options: Options) -> int:
    """How many worker processes a run may have at all: one per processor, or per `blas_threads` of them.

    Raises:
        UsageError: workers with several BLAS threads each would be more than the processors: then they wait for each other.
    """
    threads, processors = options.blas_threads, memory.processors()
    if threads > 1 and (settings.jobs or 1) * threads > processors:
        words = f"{settings.jobs} jobs" if (settings.jobs or 1) > 1 else "a job"
        raise UsageError(f"{words} with {threads} BLAS threads each would be more than the {processors} processors")
    return settings.jobs or max(1, processors // threads)


def ceiling(need: int, options: Options, settings: Settings, budget: Budget) -> int:
    """Private memory at which a task is stopped for which so much is set aside."""
    spare = _SPARE_BYTES + (options.blas_threads - 1) * memory.THREAD_BYTES
    return max(2 * need + spare, min(settings.limits.reading_bytes, budget.total))


def planners(options: Options, settings: Settings) -> int:
    """How many workers may read headers at a time."""
    return min(most_workers(settings, options), budget_of((), options, settings.max_memory).most_workers(()))


def out_of_time(settings: Settings) -> str:
    """Why a task is not begun that would not end within the time of the run."""
    return f"not begun: it would have taken the run beyond {settings.time_budget:g} s"


class _Work:
    """The state of one run: which rows are there, which tasks are left."""

    def __init__(
        self,
        plans: Sequence[Plan],
        options: Options,
        settings: Settings,
        progress: Callable[[Progress], None] | None,
        on_row: Callable[[LayerRow], None] | None,
        deadline: float,
    ) -> None:
        self.name = uuid.uuid4().hex
        self.plans = plans
        self.options = options
        self.settings = settings
        self.interrupted = False
        self._progress = progress
        self._deadline = deadline
        self._rows = Gathered(plans, options, on_row)
        self._surveys: list[dict[str, Survey | BaseException]] = [{} for _ in plans]
        self._releases: list[Releases] = []
        self._hashes: dict[str, str | BaseException] = {}
        self._deaths: Counter[int] = Counter()
        self.views = [pair for plan in plans for pair in zip(plan.views, plan.needs, strict=True)]
        self.budget = budget_of([view for view, _ in self.views], options, settings.max_memory)
        self._done = 0.0
        self.seconds = sum(costs.of_row(view, need.flops + need.further) for view, need in self.views)
        self.seconds += sum(costs.of_hash(file_bytes(plan)) + costs.of_survey(tensor_bytes(plan)) for plan in plans)

    def perform(self, executor: Executor, backend: str) -> None:
        """Surveys every tensor, hashes the files, and takes the spectra of what is not a copy of something else."""
        self._rows.emit()
        self.budget = replace(self.budget, backend=backend)
        slots = self._slots() if isinstance(executor, WorkerExecutor) else None
        crew = Crew(executor, slots, self.budget.free(slots or 0), self.settings.timeout)
        first = [task for number in range(len(self.plans)) for task in self._first_tasks(number)]
        self._rows.emit()
        drain(crew, first, self._advance, self._given_up)

    def _slots(self) -> int:
        """How many workers: what was asked for or what the work is worth, and no more than memory allows."""
        jobs = self.settings.jobs
        if jobs is None:
            jobs = most_workers(self.settings, self.options) if self.seconds > costs.WORTH_WORKERS else 1
        return min(jobs, self.budget.most_workers(self.views))

    def _advance(self, task: Task[Any]) -> None:
        self._done += task.cost
        if self._progress is not None:
            self._progress(Progress(min(self._done, self.seconds), self.seconds, task.label))
        self._rows.emit()

    def _given_up(self, task: Task[Any]) -> BaseException | None:
        """Why a task is not begun: no time is left for it, or its model has ended too many workers."""
        if time.monotonic() + (task.cost if task.rank == _LATER else 0) > self._deadline:
            return LimitError("time_limit", "", out_of_time(self.settings))
        if self._deaths[task.model] < MOST_DEATHS:
            return None
        return WorkerDiedError("reader_crash", "", f"not read: {self._deaths[task.model]} workers died on this model")

    def _cause(self, number: int, error: BaseException) -> BaseException:
        """The error of a task; where a worker died because a file changed under it, that is the error."""
        if not isinstance(error, WorkerDiedError):
            return error
        try:
            for planned in self.plans[number].identities:
                seam.check_same(planned, seam.identify(planned.path))
        except FormatError as changed:
            return type(changed)(changed.category, changed.where, f"{changed.problem}; {error.problem}", changed.path)
        return error

    def _first_tasks(self, number: int) -> Iterable[Task[Any]]:
        """The tasks of a model that wait for no other: surveys, hashes, and rows that need neither."""
        plan = self.plans[number]
        pairs = zip(plan.views, plan.needs, strict=True)
        wanted = {spec.name: spec for view, need in pairs if self.budget.fits(view, need) for spec in view.tensors}
        self._releases.append(Releases(plan.views, wanted))
        for batch in costs.tensors_together(wanted.values()):
            yield self._survey_task(number, batch)
        if wanted:
            yield from self._hash_tasks(number)
        yield from self._released(number, self._releases[number].at_once())

    def _survey_task(self, number: int, batch: Sequence[TensorSpec]) -> Task[list[Survey | FormatError]]:
        names = tuple(spec.name for spec in batch)
        cost = costs.of_survey(sum(stored_bytes(spec) for spec in batch))

        def done(found: Sequence[Survey | BaseException] | BaseException) -> Iterable[Task[Any]]:
            if isinstance(found, BaseException):
                error = self._cause(number, found)
                died = isinstance(error, WorkerDiedError) and self._deaths[number] < MOST_DEATHS
                if died and len(batch) > 1:  # one of them did it: each alone, to blame the right one
                    return [self._survey_task(number, (spec,)) for spec in batch]
                self._deaths[number] += died
                found = [error] * len(names)
            self._surveys[number].update(zip(names, found, strict=True))
            return self._released(number, self._releases[number].surveyed(names))

        arguments = (self._target(self.plans[number]), names)
        most = min(self.settings.limits.reading_bytes, self.budget.total)
        return Task(tasks.survey_tensors, arguments, number, cost, _SURVEY_BYTES, most, names[-1], done)

    def _hash_tasks(self, number: int) -> Iterable[Task[str]]:
        for identity in self.plans[number].identities:

            def done(found: str | BaseException, path: str = identity.path) -> Sequence[Task[Any]]:
                if not is_out_of_time(found):  # the file is none the worse for it
                    self._hashes[path] = found
                return ()

            cost, label = costs.of_hash(identity.size), os.path.basename(identity.path)
            yield Task(tasks.hash_file, (identity.path,), number, cost, _HASH_BYTES, 16 * _HASH_BYTES, label, done, _LATER)

    def _target(self, plan: Plan) -> Target:
        return Target(plan.source.path, self.settings, plan.identities, self.name, plan.source.base)

    def _released(self, number: int, places: Sequence[int]) -> list[Task[Any]]:
        """What follows from surveys: rows that are settled by them, and tasks for the spectra of the others."""
        first: dict[Any, int] = {}
        same: dict[int, list[int]] = {}
        for place in places:
            view = self.plans[number].views[place]
            tensor = surveys.joined(view, self._surveys[number])
            row = self._settled(number, place, tensor)
            if row is not None:
                self._rows.put(number, place, row)
                continue
            assert isinstance(tensor, Survey)  # an error has settled the row
            key = (tensor.content_hash, repr(view.matrices), view.esd_scale)
            same.setdefault(first.setdefault(key, place), []).append(place)
        needs = self.plans[number].needs
        views = self.plans[number].views
        seconds = {place: costs.of_row(views[place], needs[place].flops + needs[place].further) for place in same}
        found: list[Task[Any]] = []
        for batch in costs.rows_together(seconds):
            share = costs.share(self.budget.admitted(needs[batch[0]]), views[batch[0]]) if len(batch) == 1 else None
            if share is not None:
                found += self._shared(number, batch[0], same[batch[0]], share)
            else:
                jobs = {place: same[place] for place in batch}
                found.append(self._spectra_task(number, jobs, sum(seconds[place] for place in batch)))
        return found

    def _shared(self, number: int, place: int, places: Sequence[int], share: costs.Share) -> list[Task[Any]]:
        """The tasks of one view that several workers compute."""
        plan = self.plans[number]
        need, most = self._room(number, [place])
        label = plan.views[place].spec.name

        def task(call: Callable[..., bytes], given: tuple[Any, ...], done: Done) -> Task[bytes]:
            arguments = (self._target(plan), *given, self.options, self.budget.backend)
            return Task(call, arguments, number, share.seconds, need, most, label, done, _LATER)

        def finish(job: Job) -> Task[Any]:
            lost = (len(share.parts) * (not job.shares) + share.copies * (not job.replicas)) * share.seconds
            return self._spectra_task(number, {place: places}, share.rest + lost, job)

        return SharedRow(self._job(number, place), share.parts, share.copies, task, finish).begin()

    def _room(self, number: int, places: Iterable[int]) -> tuple[int, int]:
        """Private memory that is set aside for the largest of some rows, and at which it is stopped."""
        need = max(self.budget.bytes(self.plans[number].needs[place]) for place in places)
        return need, ceiling(need, self.options, self.settings, self.budget)

    def _settled(self, number: int, place: int, tensor: Survey | BaseException) -> LayerRow | None:
        """The row of a view that needs no spectrum, or cannot have one."""
        plan = self.plans[number]
        view, need = plan.views[place], plan.needs[place]
        if not self.budget.fits(view, need):
            message = f"needs {self.budget.room(need).least} bytes of private memory, beside {self.budget.overhead} for processes and rows"
            return blanks.skipped(plan.reader, view, Survey(), self.options, "memory_limit", message)
        if isinstance(tensor, BaseException):
            return unread(plan.reader, view, Survey(), self.options, tensor)
        if view.reason is not None:
            return blanks.skipped(plan.reader, view, tensor, self.options, view.reason)
        return None

    def _spectra_task(
        self, number: int, same: Mapping[int, Sequence[int]], cost: float, known: Job | None = None
    ) -> Task[list[LayerRow]]:
        """The spectra of one or several views.

        Args:
            number: of the model.
            same: place of each view, and the places of all that hold the same values, itself included.
            cost: estimated seconds.
            known: the job of one view, of which some has been done already.
        """
        plan = self.plans[number]
        jobs = [self._job(number, place) for place in same] if known is None else [known]

        def done(found: Sequence[LayerRow] | BaseException) -> Iterable[Task[Any]]:
            if not isinstance(found, BaseException):
                for (place, places), row in zip(same.items(), found, strict=True):
                    self._rows.fill(number, place, places, row, self._surveyed(number, place))
                return ()
            if len(same) > 1:  # one of them did it: each alone, to blame the right one
                return [self._spectra_task(number, {place: same[place]}, cost / len(same)) for place in same]
            self._deaths[number] += isinstance(found, WorkerDiedError) and self._deaths[number] < MOST_DEATHS
            error = self._cause(number, found)
            for place, places in same.items():
                self._rows.fill(number, place, places, error, self._surveyed(number, place))
            return ()

        need, most = self._room(number, same)
        arguments = (self._target(plan), jobs, self.options, self.budget.backend)
        return Task(tasks.spectra_of_views, arguments, number, cost, need, most, jobs[-1].view.spec.name, done, _LATER)

    def _job(self, number: int, place: int) -> Job:
        plan = self.plans[number]
        need = plan.needs[place]
        return Job(plan.views[place], self._surveyed(number, place), self.budget.method(need), self.budget.lacking(need))

    def _surveyed(self, number: int, place: int) -> Survey:
        tensor = surveys.joined(self.plans[number].views[place], self._surveys[number])
        assert isinstance(tensor, Survey)  # else its row has been settled
        return tensor

    def result(self) -> Run:
        """The rows, findings and files of the run; what was not reached says so."""
        rows, found, files = self._rows.tables(self._hashes)
        return Run(
            layers=tuple(rows),
            findings=tuple(found),
            files=tuple(files),
            errors=tuple(plan.error for plan in self.plans if plan.error is not None),
            not_selected=sum(plan.not_selected for plan in self.plans),
            interrupted=self.interrupted,
            plans=tuple(self.plans),
            surveys=tuple(self._surveys),
            backend=self.budget.backend,
        )
