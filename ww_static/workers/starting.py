"""The first and the last instant of a command that reads files: its workers load numpy while it loads itself."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NoReturn

from ww_static.workers import confinement, spawning

_READING = ("analyze", "audit", "compare", "describe", "smooth", "sharpen", "trend")
_PATIENCE = 10.0  # seconds in which workers have to be ended
_HELP = frozenset(("-h", "--help"))


def reads_files(arguments: Sequence[str]) -> bool:
    """Whether a command line is about to open files; a guess that costs little when it is wrong."""
    return len(arguments) > 1 and arguments[0] in _READING and not _HELP & set(arguments)


class NoPandas:
    """No pandas in a process of ours: pyarrow would load it before its first array, for data frames that nobody makes."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Refuses pandas, and leaves everything else to others."""
        if fullname == "pandas":
            raise ModuleNotFoundError("a command makes no data frames", name=fullname)
        return None


def begin() -> None:
    """Starts the server that workers are forked from; a second call does nothing more."""
    signal.signal(signal.SIGTERM, lambda *_: _interrupt())
    confinement.one_blas_thread()  # before numpy loads: no BLAS thread is ever created
    os.environ["WW_STATIC_QUIET_SERVER"] = "1"
    spawning.start_server()


def leave(code: int) -> NoReturn:
    """Ends the process as the interpreter does, except that nothing is taken apart that the system frees anyway.

    What was asked for is done by now: an interruption makes the end quicker, and changes nothing else. Nor is a thread waited for
    that ends workers and has lost its way, as an interruption at a bad moment can leave it: they are gone before it gets there.
    """
    with suppress(KeyboardInterrupt):
        last = time.monotonic() + _PATIENCE
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:  # it ends the workers
                thread.join(max(0.0, last - time.monotonic()))
    with suppress(KeyboardInterrupt):
        atexit._run_exitfuncs()  # there is no public way to run them before `_exit`; one of them frees the semaphores
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError):  # nobody reads it any more
                stream.flush()
    os._exit(code)


def _interrupt() -> NoReturn:
    raise KeyboardInterrupt
