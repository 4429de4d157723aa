"""Where tasks run: in this process, or in supervised worker processes behind the standard Executor shape."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def one_blas_thread() -> None:
    """Asks BLAS for one thread: by the environment when numpy is not loaded yet, else through threadpoolctl.

    More threads change the last bits and collapse on a loaded machine; layers are the unit of parallel work.
    """
    for variable in _THREADS:
        os.environ[variable] = "1"
    if "numpy" in sys.modules:
        from threadpoolctl import threadpool_limits

        threadpool_limits(1, user_api="blas")


class _OneThread:
    """BLAS held to one thread as long as anybody in this process asks for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._limits: Any = None

    def hold(self) -> None:
        """One holder more; the first one sets the limit."""
        import numpy  # noqa: F401  (its BLAS must be loaded before it can be limited)
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
    """Runs each task in this process, at once, with one BLAS thread until it is shut down."""

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


_BASE: Any = multiprocessing.get_context("forkserver" if sys.platform.startswith("linux") else "spawn")


class _Worker(_BASE.Process):  # type: ignore[misc]
    """A worker that never imports the caller's script, so that the script needs no ``__main__`` guard.

    Tasks are functions of this package; what a script does at its top must not happen again in every worker.
    """

    @staticmethod
    def _Popen(process: Any) -> Any:
        script = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            return _BASE.Process._Popen(process)
        finally:
            sys.modules["__main__"] = script


class _Context(type(_BASE)):  # type: ignore[misc]
    """The platform's context with these workers."""

    Process = _Worker


class WorkerExecutor(Executor):
    """Worker processes under supervision (pebble): a worker that dies costs its task and nothing else.

    Args:
        jobs: number of processes.
    """

    def __init__(self, jobs: int) -> None:
        from pebble import ProcessPool

        self._pool: Any = ProcessPool(max_workers=jobs, initializer=_start_worker, context=_Context())

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedules a task; a dead worker makes its future raise `WorkerDied`."""
        future: Future[T] = self._pool.schedule(fn, args=list(args), kwargs=dict(kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the workers; running tasks are stopped when `cancel_futures` is true."""
        if cancel_futures:
            self._pool.stop()
        else:
            self._pool.close()
        if wait:
            self._pool.join()


def death(error: BaseException) -> str | None:
    """How a worker died, when that is why a future failed: the signal's name or the exit code."""
    from pebble import ProcessExpired

    if not isinstance(error, ProcessExpired):
        return None
    code = error.exitcode
    if code is not None and code < 0:
        return f"worker died by {signal.Signals(-code).name}"
    return f"worker ended with exit code {code}"


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interruption means
    one_blas_thread()
