"""What a worker may use: limits of the operating system, some set when it starts, some for each task.

They are the last line: a file that gets past every check of its reader still cannot write, fill the memory, or keep a
processor for ever.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_MOST_FILES = 512
_LONGEST = 10**7  # seconds that a timer takes
_MORE_SECONDS = 5  # so that the parent's clock comes first and can say why


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one task may take.

    Attributes:
        seconds: of wall-clock time; the supervisor ends the worker after that, and where there is none any more an alarm,
            or as much processor time.
        nbytes: private memory, beyond what the worker holds when the task begins; more is a MemoryError.
    """

    seconds: float
    nbytes: int


def confine() -> None:
    """Makes this process a worker: silent, with one BLAS thread, without core dumps, unable to write a file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interruption means
    for ending in (signal.SIGTERM, signal.SIGALRM):  # at once, even inside a library that never returns
        signal.signal(ending, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGALRM})
    _end_with_parent()
    os.environ.pop("HDF5_PLUGIN_PATH", None)
    os.environ["HDF5_PLUGIN_PRELOAD"] = "::"  # switches filter plugins off
    one_blas_thread()
    _silence()
    _warm_up()
    _limit("RLIMIT_CORE", 0)
    _limit("RLIMIT_FSIZE", 0)
    _limit("RLIMIT_NOFILE", _MOST_FILES)


def within(allowance: Allowance, call: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    """`call(*arguments)` under limits of its own (runs in a worker).

    Raises:
        MemoryError: it asked for more than its allowance.
    """
    held = _data_bytes()
    if held is not None:
        _limit("RLIMIT_DATA", held + allowance.nbytes)
    used = os.times()
    _limit("RLIMIT_CPU", math.ceil(used.user + used.system + allowance.seconds) + _MORE_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, min(allowance.seconds, _LONGEST) + _MORE_SECONDS)
    try:
        return call(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def one_blas_thread() -> None:
    """Asks BLAS for one thread: by the environment when numpy is not loaded yet, else through threadpoolctl.

    More threads change the last bits and collapse on a loaded machine; layers are the unit of parallel work.
    """
    for variable in _THREADS:
        os.environ[variable] = "1"
    if "numpy" in sys.modules:
        from threadpoolctl import threadpool_limits

        threadpool_limits(1, user_api="blas")


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """BLAS with so many threads for a while; with one nothing is done, for that is what a worker has."""
    if count == 1:
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(count, user_api="blas"):
        yield


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, so that nothing of a killed run is left behind."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _limit(name: str, value: int) -> None:
    """Sets a soft limit, where the system has it; it can be raised again, up to what the process was given."""
    import resource

    if (kind := getattr(resource, name, None)) is None:
        return
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, hard))


def _silence() -> None:
    """What C libraries print goes nowhere: a hostile file must not write on the user's screen or into the data."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def _warm_up() -> None:
    """Lets BLAS and LAPACK take the buffers they keep, before memory is limited: they may not survive a refusal."""
    import numpy as np

    W = np.ones((128, 64))
    np.linalg.eigvalsh(W.T @ W)


def _data_bytes() -> int | None:
    """Private memory of this process as RLIMIT_DATA counts it; None where /proc is missing."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    line = next((line for line in status.splitlines() if line.startswith("VmData:")), None)
    return None if line is None else int(line.split()[1]) * 1024
