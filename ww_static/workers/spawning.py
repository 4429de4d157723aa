"""How workers are started: forked from a server, where there is one, without the caller's script and deaf to Ctrl-C.

Tasks are functions of this package. What a script does at its top must not happen again in every worker, so a script that
uses workers needs no ``__main__`` guard; and nothing of the caller's process is changed for it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import spawn
from types import FunctionType
from typing import Any

_FORKS = sys.platform.startswith("linux")
_BASE: Any = multiprocessing.get_context("forkserver" if _FORKS else "spawn")
_starting = threading.Lock()


class _Spawn:
    """`multiprocessing.spawn`, except that what a new process is told does not name the caller's script."""

    def __getattr__(self, name: str) -> Any:
        return getattr(spawn, name)

    def get_preparation_data(self, name: str) -> dict[str, Any]:
        return {key: value for key, value in spawn.get_preparation_data(name).items() if not key.startswith("init_main")}


def _starter() -> Any:
    """The platform's way to start a process, telling it what `_Spawn` says."""
    module: Any = import_module(f"multiprocessing.popen_{'forkserver' if _FORKS else 'spawn_posix'}")
    original = module.Popen._launch
    names = vars(module) | {"spawn": _Spawn()}
    return type(
        "Popen", (module.Popen,), {"_launch": FunctionType(original.__code__, names, "_launch", None, original.__closure__)}
    )


_Popen = _starter()


class _Worker(_BASE.Process):  # type: ignore[misc]
    """A worker process."""

    @staticmethod
    def _Popen(process: Any) -> Any:
        start_server()
        if _FORKS:
            return _Popen(process)
        with _starting, _safe_path():
            return _Popen(process)


class _Context(type(_BASE)):  # type: ignore[misc]
    """The platform's context with these workers."""

    Process = _Worker


def context() -> Any:
    """What a library that starts processes is given in place of `multiprocessing`."""
    return _Context()


@contextmanager
def _safe_path() -> Iterator[None]:
    """Interpreters that start meanwhile import nothing from the current folder: it may be that of a hostile model.

    `multiprocessing` starts them with ``-c``, which would put the folder in front of the standard library.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def start_server() -> None:
    """Starts the process that workers are forked from, where there is one; it loads what they need meanwhile.

    Signals that Ctrl-C sends to the whole group are blocked there from the first instruction on, and so in the workers.
    """
    from multiprocessing import forkserver, resource_tracker

    with _starting, _safe_path():
        resource_tracker.ensure_running()  # first, for it sets the mask of signals itself
        if not _FORKS:
            return
        _BASE.set_forkserver_preload(["ww_static.workers.preload"])
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
