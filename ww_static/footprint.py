"""What reading a file takes from this process: descriptors, bytes, memory, time."""

from __future__ import annotations

import os
import signal
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def descriptors() -> int | None:
    """Files that are open; None where the system does not say."""
    return len(os.listdir("/dev/fd")) if os.path.isdir("/dev/fd") else None


def bytes_read() -> int:
    """Bytes that this process has asked the system for, where it says so."""
    try:
        return int(Path("/proc/self/io").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0


@contextmanager
def peak() -> Iterator[list[int]]:
    """The most memory that Python and numpy held at once inside, in bytes; maps of files do not count."""
    most = [0]
    nested = tracemalloc.is_tracing()
    if not nested:
        tracemalloc.start()
    tracemalloc.reset_peak()
    start = tracemalloc.get_traced_memory()[0]
    try:
        yield most
    finally:
        most[0] = tracemalloc.get_traced_memory()[1] - start
        if not nested:
            tracemalloc.stop()


@contextmanager
def in_time(what: str, seconds: float) -> Iterator[None]:
    """Ends a call that hangs, where the platform can."""

    def late(number: int, frame: object) -> None:
        raise TooLateError(f"{what}: not done in {seconds} seconds")

    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class TooLateError(BaseException):
    """Not an Exception, so that no reader catches it."""
