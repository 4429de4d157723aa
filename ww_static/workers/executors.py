"""Where tasks run: in supervised worker processes behind the standard Executor shape, or in this process."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from ww_static.errors import UsageError, WorkerDiedError
from ww_static.workers.confinement import Allowance, confine, within
from ww_static.workers.spawning import context, start_server

P = ParamSpec("P")
T = TypeVar("T")

_TASKS_OF_A_WORKER = 1000  # then a fresh one takes its place
_UNLIMITED = Allowance(seconds=10.0**6, nbytes=2**46)


class _OneThread:
    """BLAS held to one thread as long as anybody in this process asks for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._limits: Any = None

    def hold(self) -> None:
        """One holder more."""
        from threadpoolctl import threadpool_limits

        with self._lock:
            self._holders += 1
            if self._holders == 1:
                self._limits = threadpool_limits(1, user_api="blas")

    def release(self) -> None:
        """One holder less; the last one gives BLAS its threads back."""
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                self._limits.restore_original_limits()


_one_thread = _OneThread()


class InlineExecutor(Executor):
    """Runs each task in this process, at once, with one BLAS thread until it is shut down.

    Nothing contains a file that kills its reader: for files that are trusted, and for tests.
    """

    def __init__(self) -> None:
        _one_thread.hold()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The finished future of `fn(*args, **kwargs)`."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Gives BLAS its threads back."""
        _one_thread.release()


class _Hand:
    """One worker under supervision (pebble), in a pool of its own: nothing that it holds when it dies holds up another."""

    def __init__(self) -> None:
        self._pool: Any = None
        self._futures: list[Future[Any]] = []

    @property
    def load(self) -> int:
        """How many tasks are running or waiting here."""
        self._futures = [future for future in self._futures if not future.done()]
        return len(self._futures)

    def take(self, allowance: Allowance, call: Callable[..., T], arguments: tuple[Any, ...]) -> Future[T]:
        """Schedules a task after those that wait here already."""
        outer: Future[T] = Future()
        self._futures.append(outer)
        inner = self._scheduled(allowance, call, arguments)
        inner.add_done_callback(lambda done: _pass_on(done, outer, allowance))
        return outer

    def _scheduled(self, allowance: Allowance, call: Callable[..., T], arguments: tuple[Any, ...]) -> Any:
        task = {"args": [allowance, call, arguments], "timeout": allowance.seconds}
        if self._pool is not None:
            try:
                return self._pool.schedule(within, **task)
            except RuntimeError:  # an idle worker was killed, and its pool gave up
                self.end()
        self._pool = _pool()
        return self._pool.schedule(within, **task)

    def wait(self) -> None:
        """Until everything that was scheduled here is done."""
        for future in self._futures:
            future.exception()

    def stop(self) -> None:
        """Tells the worker's supervisor to end it, whatever it is doing."""
        if self._pool is not None:
            self._pool.stop()

    def end(self) -> None:
        """Ends the worker, and returns when it has ended."""
        self.stop()
        if self._pool is not None:
            # Ctrl-C inside `put` can leave a waiter behind that takes the next notification, which is that of `join`
            self._pool._context.task_queue.put(None)
            self._pool.join()
            self._pool = None


def _pool() -> Any:
    from pebble import ProcessPool

    return ProcessPool(max_workers=1, max_tasks=_TASKS_OF_A_WORKER, initializer=confine, context=context())


def _pass_on(done: Any, outer: Future[T], allowance: Allowance) -> None:
    """The outcome of a pebble future as one of ours: a worker that is gone becomes an error that says why."""
    if done.cancelled():
        outer.cancel()
        return
    error = done.exception()
    if error is None:
        outer.set_result(done.result())
    elif (words := _death(error, allowance)) is not None:
        outer.set_exception(WorkerDiedError("reader_crash", "", words))
    else:
        outer.set_exception(error)


def _death(error: BaseException, allowance: Allowance) -> str | None:
    """How a worker ended, when that is why a task failed: a signal's name, an exit code, a limit."""
    from concurrent.futures import BrokenExecutor

    from pebble import ProcessExpired

    if isinstance(error, TimeoutError) and error.args[:1] == ("Task timeout",):
        return f"worker was ended after {allowance.seconds:.3g} s; --timeout allows more"
    if isinstance(error, BrokenExecutor):
        return "worker died"
    if not isinstance(error, Exception):
        return f"worker was left by {type(error).__name__}"
    if not isinstance(error, ProcessExpired):
        return None
    code = error.exitcode
    if code is not None and code < 0:
        return f"worker died by {signal.Signals(-code).name}"
    return f"worker ended with exit code {code}"


class WorkerExecutor(Executor):
    """Supervised worker processes, each started when it is first needed: one that dies costs its task and nothing else.

    `analyze` and `describe` hire their own; made once and passed as `executor`, workers serve many calls.

    Args:
        jobs: most processes.

    Raises:
        UsageError: this process is daemonic, as the workers of `multiprocessing.Pool` are, and may not start others.
    """

    def __init__(self, jobs: int) -> None:
        if multiprocessing.current_process().daemon:
            words = "a daemonic process may not start workers; pass executor=InlineExecutor() to read files in this process"
            raise UsageError(words)
        self._jobs = jobs
        self._hands: list[_Hand] = []
        start_server()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedules a task without limits of its own; `delegate` sets some."""
        if kwargs:
            raise TypeError("tasks of workers take positional arguments")
        return self.delegate(_UNLIMITED, fn, args)

    def delegate(self, allowance: Allowance, call: Callable[..., T], arguments: tuple[Any, ...]) -> Future[T]:
        """Schedules `call(*arguments)`; when its worker dies or is ended, the future raises `WorkerDiedError`."""
        hand = min(self._hands, key=lambda one: one.load, default=None)
        if hand is None or (hand.load and len(self._hands) < self._jobs):
            hand = _Hand()
            self._hands.append(hand)
        return hand.take(allowance, call, arguments)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the workers, after what they are doing or, when `cancel_futures` is true, at once.

        Without `wait`, that happens in a thread, which the interpreter waits for at its end.
        """
        hands, self._hands = self._hands, []

        def end() -> None:
            for hand in hands:
                if not cancel_futures:
                    hand.wait()
                hand.stop()
            for hand in hands:
                hand.end()

        if wait:
            end()
        else:
            threading.Thread(target=end).start()


@contextmanager
def hired(jobs: int, executor: Executor | None = None, wait: bool = True) -> Iterator[Executor]:
    """`executor` as it is, or at most `jobs` worker processes, which end with the block, or soon after without `wait`."""
    if executor is not None:
        yield executor
        return
    workers = WorkerExecutor(jobs)
    try:
        yield workers
    finally:
        workers.shutdown(wait, cancel_futures=True)
