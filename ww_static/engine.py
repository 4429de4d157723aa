"""Plan, survey, spectra: shares the work of a run out to any executor, and gives rows back in plan order.

No array crosses a process border: a task is a path, a reader's name, a tensor and the options; its answer is a row.
"""

from __future__ import annotations

import os
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from ww_static import analysis, executors, findings, memory, tasks
from ww_static.analysis import Survey
from ww_static.budget import budget_of
from ww_static.errors import FormatError
from ww_static.layers import LayerView
from ww_static.models import Source
from ww_static.options import Options
from ww_static.plan import Plan, Settings, file_bytes, plan_model, stored_bytes, tensor_bytes
from ww_static.protocol import TensorSpec
from ww_static.rows import FileRow, FindingRow, LayerRow
from ww_static.tasks import Target

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
    errors: tuple[FormatError, ...] = ()
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
    jobs = _jobs(work, settings) if executor is None else 0
    chosen = executor if executor is not None else _executor(jobs)
    finished = False
    try:
        work.perform(chosen, jobs)
        finished = True
    except KeyboardInterrupt:
        work.interrupted = True
        if not keep_partial:
            raise
    finally:
        if executor is None:
            chosen.shutdown(wait=True, cancel_futures=not finished)
        tasks.close_kept(work.name)
    return work.result()


def _jobs(work: _Work, settings: Settings) -> int:
    """How many workers: what was asked for or what the work is worth, and no more than memory allows."""
    jobs = settings.jobs
    if jobs is None:
        jobs = memory.processors() if work.seconds > _WORTH_WORKERS else 1
    return min(jobs, work.budget.most_workers(work.views))


def _executor(jobs: int) -> Executor:
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
        self.name = uuid.uuid4().hex
        self.plans = plans
        self.options = options
        self.settings = settings
        self.interrupted = False
        self._progress = progress
        self._on_row = on_row
        self._rows: list[list[LayerRow | None]] = [[None] * len(plan.views) for plan in plans]
        self._surveys: list[dict[str, Survey | BaseException]] = [{} for _ in plans]
        self._hashes: dict[str, str | BaseException] = {}
        self._emitted = (0, 0)
        self.views = [view for plan in plans for view in plan.views]
        self.budget = budget_of(self.views, options, settings.max_memory)
        self._done = 0.0
        self.seconds = sum(analysis.flops(view) for view in self.views) * _SECONDS_PER_FLOP
        self.seconds += sum(file_bytes(plan) + tensor_bytes(plan) for plan in plans) * _SECONDS_PER_BYTE

    def perform(self, executor: Executor, workers: int) -> None:
        """Surveys every tensor, then takes the spectra of what is not a copy of something else.

        Args:
            executor: where tasks run.
            workers: how many it has; 0 when only it knows, and gets all that memory allows.
        """
        self._emit()
        self._drain(executor, list(self._survey_tasks()), workers)
        self._drain(executor, list(self._spectrum_tasks()), workers)

    def _drain(self, executor: Executor, tasks: list[Task[Any]], workers: int) -> None:
        """Runs tasks, the largest first, as many at a time as there are workers, one in reserve, and memory allows."""
        waiting = deque(sorted(tasks, key=lambda task: -task.cost))
        running: dict[Future[Any], Task[Any]] = {}
        slots = workers + 1 if workers else len(tasks)
        free = self.budget.free(workers)
        while waiting or running:
            while waiting and len(running) < slots and (waiting[0].bytes <= free or not running):
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
            wanted = {spec.name: spec for view in plan.views if self.budget.fits(view) for spec in view.tensors}
            for batch in _batches(list(wanted.values())):
                names = tuple(spec.name for spec in batch)
                size = sum(stored_bytes(spec) for spec in batch)

                def done(found: Any, number: int = number, names: tuple[str, ...] = names) -> None:
                    self._surveyed(number, names, found)

                arguments = (self._target(plan), names)
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

    def _target(self, plan: Plan) -> Target:
        return Target(plan.source.path, self.settings, plan.identities, self.name)

    def _spectrum_tasks(self) -> Iterable[Task[Any]]:
        for number, plan in enumerate(self.plans):
            first: dict[Any, int] = {}
            copies: dict[int, list[int]] = {}
            for place, view in enumerate(plan.views):
                tensor = analysis.joined(view, self._surveys[number])
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
        if not self.budget.fits(view):
            need = analysis.memory_needed(view)
            message = f"needs {need} bytes of private memory for its largest matrix"
            return analysis.skipped(plan.reader, view, Survey(), self.options, "memory_limit", message)
        if isinstance(tensor, BaseException):
            reason, message = _failure(tensor)
            if view.reason in findings.INCONCLUSIVE:  # what cannot be read was not going to be
                return analysis.skipped(plan.reader, view, Survey(), self.options, view.reason, message)
            return analysis.failed(plan.reader, view, Survey(), self.options, reason, message)
        if view.reason is not None:
            return analysis.skipped(plan.reader, view, tensor, self.options, view.reason)
        return None

    def _spectrum_task(self, number: int, plan: Plan, place: int, places: Sequence[int]) -> Task[LayerRow]:
        view = plan.views[place]
        tensor = analysis.joined(view, self._surveys[number])

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
        arguments = (self._target(plan), view, tensor, self.options, self.budget.method(view))
        return Task(tasks.spectrum_of_view, arguments, cost, self.budget.bytes(view), view.spec.name, done)

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
                self._on_row(_placed(row, plan))
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
                model.append(_placed(row, plan))
            rows.extend(model)
            found.extend(findings.plan_findings(plan))
            found.extend(findings.row_findings(plan, model))
            files.extend(findings.file_rows(plan, self._hashes))
        return Run(
            layers=tuple(rows),
            findings=tuple(found),
            files=tuple(files),
            errors=tuple(plan.error for plan in self.plans if plan.error is not None),
            not_selected=sum(plan.not_selected for plan in self.plans),
            interrupted=self.interrupted,
        )


def _failure(error: BaseException) -> tuple[str, str]:
    """Reason and message of a row whose task failed."""
    if isinstance(error, FormatError):
        return error.category, error.problem
    if isinstance(error, MemoryError):
        return "memory_limit", "ran out of memory"
    if (words := executors.death(error)) is not None:
        return "reader_crash", words
    raise error  # our own bug: never a row


def _placed(row: LayerRow, plan: Plan) -> LayerRow:
    """The row with the name of its model, and its file relative to what the user named."""
    file = os.path.normpath(os.path.join(os.path.dirname(plan.source.shown), row.file or ""))
    return replace(row, model_id=plan.source.model_id, file=file)


def _tied(row: LayerRow, view: LayerView, twin: LayerView) -> LayerRow:
    """The row of a tensor whose stored values are those of another: the numbers of the first, the name of the second."""
    codes = [code for code in row.warning_codes or () if code != "ambiguous_orientation" and code not in view.notes]
    codes += [*(["ambiguous_orientation"] if twin.orientation == "ambiguous" else []), *twin.notes]
    return replace(
        row,
        warning_codes=tuple(codes),
        quantized=twin.quantized,
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
        nbytes = stored_bytes(spec)
        if batch and (size + nbytes > _BATCH_BYTES or len(batch) == 256):
            yield batch
            batch, size = [], 0
        batch.append(spec)
        size += nbytes
    if batch:
        yield batch
