"""What there is to analyze: models found and planned by workers, so that this process opens none of their files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from ww_static import memory, models
from ww_static.budget import NUMPY
from ww_static.errors import FormatError, LimitError, UsageError, as_format_error
from ww_static.models import Source
from ww_static.options import Options
from ww_static.plan import Plan, Settings, plan_model, too_large, without_parts
from ww_static.workers.dispatch import Crew, Task, drain
from ww_static.workers.executors import WorkerExecutor
from ww_static.workers.tasks import find_backend

_SECONDS_PER_HEADER_BYTE = 3e-8
_PLAN_BYTES = 2**26  # private memory that is set aside for reading a header
_TRIAL_BYTES = 2**28  # private memory that trying the backend may take


def locate(arguments: Sequence[str], settings: Settings, executor: Executor, exclude: Sequence[str] = ()) -> list[Source]:
    """The models that paths, folders and glob patterns mean (`models.locate`), each argument looked at by a worker.

    Paths below a folder that match a pattern of `exclude` are left out.

    One that kills or holds up its worker becomes a model with that error.
    """
    groups: list[Sequence[Source]] = [()] * len(arguments)
    tasks = []
    for number, argument in enumerate(arguments):

        def done(found: Sequence[Source] | BaseException, number: int = number, path: str = argument) -> Sequence[Task[Any]]:
            groups[number] = [_lost(path, found)] if isinstance(found, BaseException) else found
            return ()

        most = settings.limits.reading_bytes
        given = (argument, settings.readers, tuple(exclude))
        tasks.append(Task(models.found, given, number, 0.0, _PLAN_BYTES, most, argument, done))
    slots = (settings.jobs or memory.processors()) if isinstance(executor, WorkerExecutor) else None
    drain(Crew(executor, slots, _free(settings), settings.timeout), tasks, lambda _: None)
    return models.merged(groups)


def locate_each(arguments: Sequence[str], settings: Settings, executor: Executor) -> list[Source]:
    """The one model that each path means, in the order of the paths; two of them may be the same file.

    Raises:
        UsageError: a path means several models, or none.
    """
    found = []
    for argument in arguments:
        sources = locate([argument], settings, executor)
        if len(sources) != 1:
            raise UsageError(f"'{argument}' holds {len(sources)} models, and one is wanted")
        found += sources
    return models.distinct(found)


def _lost(path: str, error: BaseException) -> Source:
    return Source(path, os.path.basename(path), Path(path).stem or path, error=as_format_error(error).at(path))


def _free(settings: Settings) -> int:
    return settings.max_memory or memory.available_bytes()


class Trial:
    """Which backend computes all spectra of a run, found out by a worker; numpy where that ends the worker or fails."""

    def __init__(self) -> None:
        self.answer = NUMPY

    def task(self) -> Task[str]:
        """The task that finds it out."""

        def done(found: str | BaseException) -> Sequence[Task[Any]]:
            self.answer = found if isinstance(found, str) else NUMPY
            return ()

        return Task(find_backend, (), -1, 0.0, _PLAN_BYTES, _TRIAL_BYTES, "", done)


def chosen_backend(settings: Settings, executor: Executor) -> str:
    """What computes all spectra of a run; see `Trial`."""
    trial = Trial()
    slots = 1 if isinstance(executor, WorkerExecutor) else None
    drain(Crew(executor, slots, _free(settings), settings.timeout), [trial.task()], lambda _: None)
    return trial.answer


def plan_models(
    sources: Sequence[Source],
    options: Options,
    settings: Settings,
    executor: Executor,
    slots: int | None,
    advance: Callable[[Source], None] = lambda _: None,
    *,
    beside: Sequence[Task[Any]] = (),
    keep_partial: bool = False,
) -> list[Plan]:
    """The plans of models, in their order, each made in a task; one that kills its worker costs itself only.

    A file that a scan found and that an index names has no plan of its own.

    Args:
        sources: what to open.
        options: what will be computed.
        settings: how.
        executor: where tasks run.
        slots: how many at a time; None when only the executor knows.
        advance: called with each source that has been planned.
        beside: tasks about no model, done meanwhile.
        keep_partial: turns Ctrl-C into plans with the error ``interrupted`` instead of a KeyboardInterrupt.
    """
    not_yet = FormatError("interrupted", "", "was not read")
    plans = [Plan(source, error=source.error or not_yet.at(source.path)) for source in sources]
    tasks = list(beside)

    def planned(task: Task[Any]) -> None:
        if task.model >= 0:
            advance(sources[task.model])

    for number, source in enumerate(sources):
        if source.error is not None:
            continue

        def done(found: Plan | BaseException, number: int = number) -> Sequence[Task[Plan]]:
            plans[number] = found if isinstance(found, Plan) else _unread(sources[number], found, settings)
            return ()

        cost = min(_size(source.path), settings.limits.header_bytes) * _SECONDS_PER_HEADER_BYTE
        most = settings.limits.reading_bytes
        tasks.append(Task(plan_model, (source, options, settings), number, cost, _PLAN_BYTES, most, source.shown, done))
    try:
        drain(Crew(executor, slots, _free(settings), settings.timeout), tasks, planned)
    except KeyboardInterrupt:
        if not keep_partial:
            raise
    return without_parts(plans)


def is_interrupted(plans: Sequence[Plan]) -> bool:
    """Whether some of the models were not planned because the user stopped it."""
    return any(plan.error is not None and plan.error.category == "interrupted" for plan in plans)


def _unread(source: Source, error: object, settings: Settings) -> Plan:
    """The plan of a model that could not be planned."""
    if isinstance(error, MemoryError):
        return Plan(source, error=LimitError("limit", "header", too_large(settings), source.path))
    assert isinstance(error, BaseException)
    return Plan(source, error=as_format_error(error).at(source.path))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0
