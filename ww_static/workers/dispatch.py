"""Tasks on their way to an executor and back: by rank, the largest first, as many at a time as workers and memory allow."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass
from itertools import count
from typing import Any, Generic, TypeVar

from ww_static.errors import WorkerDiedError
from ww_static.workers.confinement import Allowance
from ww_static.workers.executors import WorkerExecutor

T = TypeVar("T")

_PATIENCE = 30  # times the estimated seconds that a task may take on a slow or busy machine


@dataclass(frozen=True, slots=True)
class Task(Generic[T]):
    """A call to make somewhere.

    Attributes:
        call, arguments: what to do; both are sent to another process.
        model: number of the model that it reads.
        cost: estimated seconds.
        bytes: private memory that is set aside for it while it runs.
        most: private memory at which it is stopped.
        label: what progress shows.
        done: gets the result or the error, and may give tasks that follow from it.
        rank: tasks of a lower rank go first, for others wait for them.
    """

    call: Callable[..., T]
    arguments: tuple[Any, ...]
    model: int
    cost: float
    bytes: int
    most: int
    label: str
    done: Callable[[T | BaseException], Iterable[Task[Any]]]
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Crew:
    """Who does the work, and what they get for it.

    Attributes:
        executor: where tasks run.
        slots: most tasks at a time; None when only the executor knows.
        free: bytes of private memory for all tasks that run at a time.
        timeout: seconds that a task may take beyond what its cost explains.
    """

    executor: Executor
    slots: int | None
    free: int
    timeout: float

    def start(self, task: Task[T]) -> Future[T]:
        """Hands a task over; only workers of our own are held to limits."""
        if isinstance(self.executor, WorkerExecutor):
            allowance = Allowance(self.timeout + _PATIENCE * task.cost, task.most)
            return self.executor.delegate(allowance, task.call, task.arguments)
        try:
            return self.executor.submit(task.call, *task.arguments)
        except RuntimeError as error:  # it is broken, or was shut down
            lost: Future[T] = Future()
            lost.set_exception(WorkerDiedError("reader_crash", "", f"the executor takes no task: {error}"))
            return lost


class _Queue:
    """Tasks by rank, the largest first, equal ones in the order in which they came."""

    def __init__(self, tasks: Iterable[Task[Any]]) -> None:
        self._heap: list[tuple[int, float, int, Task[Any]]] = []
        self._numbers = count()
        self.add(tasks)

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def first(self) -> Task[Any]:
        return self._heap[0][-1]

    def add(self, tasks: Iterable[Task[Any]]) -> None:
        for task in tasks:
            heapq.heappush(self._heap, (task.rank, -task.cost, next(self._numbers), task))

    def pop(self) -> Task[Any]:
        return heapq.heappop(self._heap)[-1]


def drain(
    crew: Crew,
    tasks: Iterable[Task[Any]],
    finished: Callable[[Task[Any]], None],
    refused: Callable[[Task[Any]], BaseException | None] = lambda _: None,
) -> None:
    """Runs tasks, and those that follow from them.

    Args:
        crew: who does it.
        tasks: in any order.
        finished: called after each task, when its result has been handed over.
        refused: a reason not to run a task at all, which it gets in place of a result.
    """
    waiting = _Queue(tasks)
    running: dict[Future[Any], Task[Any]] = {}
    free = crew.free
    while waiting or running:
        while waiting and (crew.slots is None or len(running) < crew.slots) and (waiting.first.bytes <= free or not running):
            task = waiting.pop()
            if (reason := refused(task)) is not None:
                waiting.add(task.done(reason))
                finished(task)
                continue
            free -= task.bytes
            running[crew.start(task)] = task
        for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
            task = running.pop(future)
            free += task.bytes
            waiting.add(task.done(_outcome(future)))
            finished(task)


def _outcome(future: Future[Any]) -> Any:
    """The result of a task, or its error; one that its executor lost died with a worker."""
    if future.cancelled():
        return WorkerDiedError("reader_crash", "", "the executor cancelled the task")
    error = future.exception()
    if isinstance(error, BrokenExecutor):
        return WorkerDiedError("reader_crash", "", f"the executor lost the task: {error}")
    return future.result() if error is None else error
