"""Plan, survey, spectra: shares the work of a run out to an executor, and gives rows back in plan order.

No array crosses a process border: a task is a path, a reader's name, a tensor and the options; its answer is a row.
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from ww_static import analysis, findings, memory, seam, tasks
from ww_static.analysis import Survey
from ww_static.budget import budget_of
from ww_static.dispatch import Crew, Task, drain
from ww_static.errors import FormatError, WorkerDiedError, as_format_error
from ww_static.executors import WorkerExecutor
from ww_static.layers import LayerView
from ww_static.models import Source
from ww_static.options import Options
from ww_static.plan import Plan, Settings, file_bytes, stored_bytes, tensor_bytes
from ww_static.planning import chosen_backend, is_interrupted, plan_models
from ww_static.protocol import TensorSpec
from ww_static.rows import FileRow, FindingRow, LayerRow
from ww_static.tasks import Target

_BATCH_BYTES = 2**25  # tensors are surveyed in tasks of about this many bytes
_SURVEY_BYTES = 2**25  # private memory that is set aside for such a task
_HASH_BYTES = 2**22
_SPARE_BYTES = 2**27  # beyond what a spectrum should need, before the system refuses it more
_SECONDS_PER_BYTE = 3e-9  # of a survey, and of hashing a file: order, progress and patience depend on it
_SECONDS_PER_FLOP = 4e-11
_WORTH_WORKERS = 3.0  # estimated seconds below which a second worker costs more than it saves
MOST_DEATHS = 3  # of workers on one model, before the rest of it is given up


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

    slots = _planners(options, settings) if isinstance(executor, WorkerExecutor) else None
    plans = plan_models(sources, options, settings, executor, slots, advance, keep_partial=keep_partial)
    work = _Work(plans, options, settings, progress, on_row)
    work.interrupted = is_interrupted(plans)
    try:
        if not work.interrupted:
            work.perform(executor)
    except KeyboardInterrupt:
        work.interrupted = True
        if not keep_partial:
            raise
    finally:
        tasks.close_kept(work.name)
    return work.result()


def most_workers(settings: Settings) -> int:
    """How many worker processes a run may have at all."""
    return settings.jobs or memory.processors()


def _planners(options: Options, settings: Settings) -> int:
    """How many workers may read headers at a time."""
    return min(most_workers(settings), budget_of((), options, settings.max_memory).most_workers(()))


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
        self._deaths: Counter[int] = Counter()
        self._emitted = (0, 0)
        self.views = [view for plan in plans for view in plan.views]
        self.budget = budget_of(self.views, options, settings.max_memory)
        self._done = 0.0
        self.seconds = sum(analysis.flops(view, options) for view in self.views) * _SECONDS_PER_FLOP
        self.seconds += sum(file_bytes(plan) + tensor_bytes(plan) for plan in plans) * _SECONDS_PER_BYTE

    def perform(self, executor: Executor) -> None:
        """Surveys every tensor, then takes the spectra of what is not a copy of something else."""
        self._emit()
        if any(view.m and view.reason is None for view in self.views):
            self.budget = replace(self.budget, backend=chosen_backend(self.settings, executor))
        slots = self._slots() if isinstance(executor, WorkerExecutor) else None
        for stage in (self._survey_tasks, self._spectrum_tasks):
            crew = Crew(executor, slots, self.budget.free(slots or 0), self.settings.timeout)
            drain(crew, list(stage()), self._advance, self._given_up)
            self._emit()

    def _slots(self) -> int:
        """How many workers: what was asked for or what the work is worth, and no more than memory allows."""
        jobs = self.settings.jobs
        if jobs is None:
            jobs = memory.processors() if self.seconds > _WORTH_WORKERS else 1
        return min(jobs, self.budget.most_workers(self.views))

    def _advance(self, task: Task[Any]) -> None:
        self._done += task.cost
        if self._progress is not None:
            self._progress(Progress(min(self._done, self.seconds), self.seconds, task.label))
        self._emit()

    def _given_up(self, task: Task[Any]) -> BaseException | None:
        """Why nothing more of a model is read, when it has ended too many workers."""
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

    def _survey_tasks(self) -> Iterable[Task[Any]]:
        for number, plan in enumerate(self.plans):
            wanted = {spec.name: spec for view in plan.views if self.budget.fits(view) for spec in view.tensors}
            for batch in _batches(list(wanted.values())):
                yield self._survey_task(number, batch)
            if wanted:
                yield from self._hash_tasks(number)

    def _survey_task(self, number: int, batch: Sequence[TensorSpec]) -> Task[list[Survey | FormatError]]:
        names = tuple(spec.name for spec in batch)
        cost = sum(stored_bytes(spec) for spec in batch) * _SECONDS_PER_BYTE

        def done(found: Sequence[Survey | BaseException] | BaseException) -> Sequence[Task[Any]]:
            if not isinstance(found, BaseException):
                self._surveys[number].update(zip(names, found, strict=True))
                return ()
            error = self._cause(number, found)
            died = isinstance(error, WorkerDiedError) and self._deaths[number] < MOST_DEATHS
            if died and len(batch) > 1:  # one of them did it: each alone, to blame the right one
                return [self._survey_task(number, (spec,)) for spec in batch]
            self._deaths[number] += died
            self._surveys[number].update((name, error) for name in names)
            return ()

        arguments = (self._target(self.plans[number]), names)
        most = min(self.settings.limits.reading_bytes, self.budget.total)
        return Task(tasks.survey_tensors, arguments, number, cost, _SURVEY_BYTES, most, names[-1], done)

    def _hash_tasks(self, number: int) -> Iterable[Task[str]]:
        for identity in self.plans[number].identities:

            def done(found: str | BaseException, path: str = identity.path) -> Sequence[Task[Any]]:
                self._hashes[path] = found
                return ()

            cost, label = identity.size * _SECONDS_PER_BYTE, os.path.basename(identity.path)
            yield Task(tasks.hash_file, (identity.path,), number, cost, _HASH_BYTES, 16 * _HASH_BYTES, label, done)

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
            message = (
                f"needs {self.budget.least(view)} bytes of private memory, beside {self.budget.overhead} for processes and rows"
            )
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

        def done(found: LayerRow | BaseException) -> Sequence[Task[Any]]:
            self._deaths[number] += isinstance(found, WorkerDiedError) and self._deaths[number] < MOST_DEATHS
            for other in places:
                twin = plan.views[other]
                if isinstance(found, BaseException):
                    reason, message = _failure(self._cause(number, found))
                    survey = tensor if isinstance(tensor, Survey) else Survey()
                    self._rows[number][other] = analysis.failed(plan.reader, twin, survey, self.options, reason, message)
                else:
                    self._rows[number][other] = found if other == place else _tied(found, view, twin)
            return ()

        cost = analysis.flops(view, self.options) * _SECONDS_PER_FLOP
        need = self.budget.bytes(view)
        most = max(2 * need + _SPARE_BYTES, min(self.settings.limits.reading_bytes, self.budget.total))
        method, permute = self.budget.method(view), self.budget.permute(view)
        arguments = (self._target(plan), view, tensor, self.options, method, self.budget.backend, permute)
        return Task(tasks.spectrum_of_view, arguments, number, cost, need, most, view.spec.name, done)

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
    if isinstance(error, MemoryError):
        return "memory_limit", "ran out of memory"
    known = as_format_error(error)
    return known.category, known.problem


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
