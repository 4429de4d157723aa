"""Plan, survey, spectra: shares the work of a run out to any executor, and gives rows back in plan order.

No array crosses a process border: a task is a path, a reader's name, a tensor and the options; its answer is a row.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from ww_static import analysis, executors, findings, memory, tasks
from ww_static.analysis import Survey
from ww_static.errors import FormatError
from ww_static.layers import LayerView
from ww_static.models import Source
from ww_static.options import Options
from ww_static.plan import Plan, Settings, file_bytes, plan_model, tensor_bytes
from ww_static.protocol import TensorSpec
from ww_static.rows import FileRow, FindingRow, LayerRow

T = TypeVar("T")

_BATCH_BYTES = 2**25  # tensors are surveyed in tasks of about this many bytes
_SECONDS_PER_BYTE = 3e-9  # of a survey, and of hashing a file: only the order and the progress bar depend on it
_SECONDS_PER_FLOP = 4e-11
_WORTH_WORKERS = 3.0  # estimated seconds below which starting workers costs more than they save


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, in estimated seconds of work."""

    done: float
    total: float
    label: str


@dataclass(frozen=True, slots=True)
class Run:
    """The rows of a run, in plan order."""

    layers: tuple[LayerRow, ...]
    findings: tuple[FindingRow, ...]
    files: tuple[FileRow, ...]
    not_selected: int = 0
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Task(Generic[T]):
    """A call to make somewhere, its cost in estimated seconds, the private memory it takes, where its result goes."""

    call: Callable[..., T]
    arguments: tuple[Any, ...]
    cost: float
    bytes: int
    label: str
    done: Callable[[T | BaseException], None]


def run(
    sources: Sequence[Source],
    options: Options,
    settings: Settings,
    executor: Executor | None = None,
    progress: Callable[[Progress], None] | None = None,
    on_row: Callable[[LayerRow], None] | None = None,
    keep_partial: bool = False,
) -> Run:
    """Analyzes models.

    Args:
        sources: what to open.
        options: what to compute.
        settings: how to carry it out.
        executor: any `concurrent.futures.Executor`; its tasks need the files at the same paths. When None, this
            process or worker processes, as `settings.jobs` says.
        progress: called whenever something has finished.
        on_row: called with each row as soon as it and all rows before it are there.
        keep_partial: turns Ctrl-C into rows with the reason ``interrupted`` instead of a KeyboardInterrupt.
    """
    plans = [plan_model(source, options, settings) for source in sources]
    work = _Work(plans, options, settings, progress, on_row)
    chosen = executor or _executor(work, settings)
    try:
        work.perform(chosen, settings.jobs or memory.processors())
    except KeyboardInterrupt:
        work.interrupted = True
        if not keep_partial:
            raise
    finally:
        if executor is None:
            chosen.shutdown(wait=True, cancel_futures=work.interrupted)
        tasks.close_kept()
    return work.result()


def _executor(work: _Work, settings: Settings) -> Executor:
    jobs = settings.jobs
    if jobs is None:
        jobs = memory.processors() if work.seconds > _WORTH_WORKERS else 1
    jobs = min(jobs, work.most_workers())
    work.reserve(0 if jobs == 1 else jobs)
    return executors.InlineExecutor() if jobs == 1 else executors.WorkerExecutor(jobs)


class _Work:
    """The state of one run: which rows are there, which tasks are left."""

    def __init__(
        self,
        plans: Sequence[Plan],
        options: Options,
        settings: Settings,
        progress: Callable[[Progress], None] | None,
        on_row: Callable[[LayerRow], None] | None,
    ) -> None:
        self.plans = plans
        self.options = options
        self.settings = settings
        self.interrupted = False
        self._progress = progress
        self._on_row = on_row
        self._rows: list[list[LayerRow | None]] = [[None] * len(plan.views) for plan in plans]
        self._surveys: list[dict[str, Survey | BaseException]] = [{} for _ in plans]
        self._hashes: dict[str, str | BaseException] = {}
        self._changed: dict[int, BaseException] = {}
        self._emitted = (0, 0)
        self._total = settings.max_memory or int(memory.SHARE * memory.available_bytes())
        self.budget = self._total
        self.reserve(0)
        self._done = 0.0
        self.seconds = sum(analysis.flops(view) for plan in plans for view in plan.views) * _SECONDS_PER_FLOP
        self.seconds += sum(file_bytes(plan) + tensor_bytes(plan) for plan in plans) * _SECONDS_PER_BYTE

    def reserve(self, workers: int) -> None:
        """Sets aside what this process and `workers` idle workers hold; the rest is for matrices."""
        own = max(memory.private_bytes(), memory.PARENT_BYTES) + self._result_bytes()
        self.budget = max(0, self._total - own - workers * memory.WORKER_BYTES)

    def _result_bytes(self) -> int:
        """Private memory that the rows of the run take in this process, and the tables made of them."""
        views = [view for plan in self.plans for view in plan.views]
        size = memory.RESULT_BYTES + len(views) * memory.ROW_BYTES
        if self.options.wants_esd:
            size += sum(memory.CURVES_BYTES + memory.EIGENVALUE_BYTES * (view.num_evals or 0) for view in views)
        return size

    def most_workers(self) -> int:
        """How many workers leave room for the largest matrix that would fit without them."""
        largest = max(
            (need for plan in self.plans for view in plan.views if (need := analysis.memory_needed(view)) <= self.budget),
            default=0,
        )
        spare = (self.budget - largest) // memory.WORKER_BYTES
        return max(1, spare)

    def perform(self, executor: Executor, slots: int) -> None:
        """Surveys every tensor, then takes the spectra of what is not a copy of something else."""
        self._emit()
        self._drain(executor, list(self._survey_tasks()), slots)
        self._drain(executor, list(self._spectrum_tasks()), slots)

    def _drain(self, executor: Executor, tasks: list[Task[Any]], slots: int) -> None:
        """Runs tasks, the largest first, as many at a time as slots and memory allow."""
        waiting = deque(sorted(tasks, key=lambda task: -task.cost))
        running: dict[Future[Any], Task[Any]] = {}
        free = self.budget
        while waiting or running:
            while waiting and len(running) <= slots and (waiting[0].bytes <= free or not running):
                task = waiting.popleft()
                free -= task.bytes
                running[executor.submit(task.call, *task.arguments)] = task
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                task = running.pop(future)
                free += task.bytes
                error = future.exception()
                task.done(error if error is not None else future.result())
                self._advance(task)
            self._emit()

    def _advance(self, task: Task[Any]) -> None:
        self._done += task.cost
        if self._progress is not None:
            self._progress(Progress(min(self._done, self.seconds), self.seconds, task.label))

    def _survey_tasks(self) -> Iterable[Task[Any]]:
        for number, plan in enumerate(self.plans):
            wanted = {view.spec.name: view.spec for view in plan.views if self._fits(view)}
            for batch in _batches(list(wanted.values())):
                names = tuple(spec.name for spec in batch)
                size = sum(spec.extent.nbytes if spec.extent else 0 for spec in batch)

                def done(found: Any, number: int = number, names: tuple[str, ...] = names) -> None:
                    self._surveyed(number, names, found)

                arguments = (plan.source.path, self.settings, plan.identities, names)
                yield Task(tasks.survey_tensors, arguments, size * _SECONDS_PER_BYTE, 2**25, names[-1], done)
            for path in dict.fromkeys(identity.path for identity in plan.identities if wanted):
                cost = file_bytes(plan) * _SECONDS_PER_BYTE / max(1, len(plan.identities))

                def hashed(found: Any, path: str = path) -> None:
                    self._hashes[path] = found

                yield Task(tasks.hash_file, (path,), cost, 2**22, os.path.basename(path), hashed)

    def _surveyed(self, number: int, names: Sequence[str], found: Sequence[Survey | BaseException] | BaseException) -> None:
        if isinstance(found, BaseException):
            self._surveys[number].update((name, found) for name in names)
        else:
            self._surveys[number].update(zip(names, found, strict=True))

    def _fits(self, view: LayerView) -> bool:
        return analysis.memory_needed(view) <= self.budget

    def _spectrum_tasks(self) -> Iterable[Task[Any]]:
        for number, plan in enumerate(self.plans):
            first: dict[Any, int] = {}
            copies: dict[int, list[int]] = {}
            for place, view in enumerate(plan.views):
                tensor = self._surveys[number].get(view.spec.name, Survey())
                row = self._settled(plan, view, tensor)
                if row is not None:
                    self._rows[number][place] = row
                    continue
                assert isinstance(tensor, Survey)  # an error has settled the row
                key = (tensor.content_hash, repr(view.matrices), view.esd_scale)
                copies.setdefault(first.setdefault(key, place), []).append(place)
            for place, places in copies.items():
                yield self._spectrum_task(number, plan, place, places)

    def _settled(self, plan: Plan, view: LayerView, tensor: Survey | BaseException) -> LayerRow | None:
        """The row of a view that needs no spectrum, or cannot have one."""
        if not self._fits(view):
            need = analysis.memory_needed(view)
            message = f"needs {need} bytes of private memory for its largest matrix"
            return analysis.skipped(plan.reader, view, Survey(), self.options, "memory_limit", message)
        if isinstance(tensor, BaseException):
            reason, message = _failure(tensor)
            if view.reason is not None:
                return analysis.skipped(plan.reader, view, Survey(), self.options, view.reason, message)
            return analysis.failed(plan.reader, view, Survey(), self.options, reason, message)
        if view.reason is not None:
            return analysis.skipped(plan.reader, view, tensor, self.options, view.reason)
        return None

    def _spectrum_task(self, number: int, plan: Plan, place: int, places: Sequence[int]) -> Task[LayerRow]:
        view = plan.views[place]
        tensor = self._surveys[number][view.spec.name]
        grant = min(analysis.memory_wanted(view), self.budget)

        def done(found: LayerRow | BaseException) -> None:
            for other in places:
                twin = plan.views[other]
                if isinstance(found, BaseException):
                    reason, message = _failure(found)
                    survey = tensor if isinstance(tensor, Survey) else Survey()
                    self._rows[number][other] = analysis.failed(plan.reader, twin, survey, self.options, reason, message)
                else:
                    self._rows[number][other] = found if other == place else _tied(found, view, twin)

        cost = analysis.flops(view) * _SECONDS_PER_FLOP
        arguments = (plan.source.path, self.settings, plan.identities, view, tensor, self.options, grant)
        return Task(tasks.spectrum_of_view, arguments, cost, grant, view.spec.name, done)

    def _emit(self) -> None:
        """Hands over the rows that are complete up to a point, in plan order."""
        if self._on_row is None:
            return
        number, place = self._emitted
        while number < len(self.plans):
            plan = self.plans[number]
            if plan.error is not None and place == 0:
                self._on_row(findings.error_row(plan))
            while place < len(plan.views):
                row = self._rows[number][place]
                if row is None:
                    self._emitted = (number, place)
                    return
                self._on_row(replace(row, model_id=plan.source.model_id))
                place += 1
            number, place = number + 1, 0
        self._emitted = (number, place)

    def result(self) -> Run:
        """The rows, findings and files of the run; what was not reached says so."""
        rows: list[LayerRow] = []
        found: list[FindingRow] = []
        files: list[FileRow] = []
        for number, plan in enumerate(self.plans):
            model = [findings.error_row(plan)] if plan.error is not None else []
            for place, view in enumerate(plan.views):
                row = self._rows[number][place]
                if row is None:
                    row = analysis.skipped(plan.reader, view, Survey(), self.options, "interrupted")
                model.append(replace(row, model_id=plan.source.model_id))
            rows.extend(model)
            found.extend(findings.plan_findings(plan))
            found.extend(findings.row_findings(plan, model))
            files.extend(findings.file_rows(plan, self._hashes))
        return Run(tuple(rows), tuple(found), tuple(files), sum(plan.not_selected for plan in self.plans), self.interrupted)


def _failure(error: BaseException) -> tuple[str, str]:
    """Reason and message of a row whose task failed."""
    if isinstance(error, FormatError):
        return error.category, error.problem
    if isinstance(error, MemoryError):
        return "memory_limit", "ran out of memory"
    if (words := executors.death(error)) is not None:
        return "reader_crash", words
    raise error  # our own bug: never a row


def _tied(row: LayerRow, view: LayerView, twin: LayerView) -> LayerRow:
    """The row of a tensor whose stored values are those of another: the numbers of the first, the name of the second."""
    return replace(
        row,
        file=twin.spec.file,
        name=twin.spec.name,
        part=twin.part,
        slice_id=twin.slice_id,
        kind=twin.kind,
        kind_source=twin.kind_source,
        confidence=twin.confidence,
        orientation=twin.orientation,
        op_path=twin.spec.op_path,
        layer_type=twin.layer_type,
        tied_to=view.spec.name,
    )


def _batches(specs: Sequence[TensorSpec]) -> Iterable[list[TensorSpec]]:
    batch: list[TensorSpec] = []
    size = 0
    for spec in specs:
        nbytes = spec.extent.nbytes if spec.extent else 0
        if batch and (size + nbytes > _BATCH_BYTES or len(batch) == 256):
            yield batch
            batch, size = [], 0
        batch.append(spec)
        size += nbytes
    if batch:
        yield batch
