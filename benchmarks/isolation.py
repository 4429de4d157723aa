"""What isolation costs on a clean small file: milliseconds to start it, to replace a worker, and for each file and task."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import ww_static as ww
from benchmarks import models, tables
from ww_static.errors import WorkerDiedError
from ww_static.workers.executors import InlineExecutor, WorkerExecutor, hired
from ww_static.workers.spawning import start_server

_ROUNDS = 15


def main() -> None:
    """Measures and prints a table."""
    tables.opening("what isolation costs")
    path = models.written("one-small.safetensors", models.small(1))
    lines = [*_starts(), *_runs(path), *_commands(path)]
    tables.header("what", "ms")
    for words, seconds in lines:
        tables.row(words, f"{seconds * 1e3:.1f}")
    tables.closing()


def _starts() -> list[tuple[str, float]]:
    begin = time.perf_counter()
    start_server()
    with hired(1) as pool:
        pool.submit(os.getpid).result()
        first = time.perf_counter() - begin
        trip = _median(lambda: pool.submit(os.getpid).result())
    return [
        ("first worker, with the server that loads numpy", first),
        ("a further worker, from nothing to its first answer", _median(_fresh)),
        ("one task there and back", trip),
        ("a worker killed, seen, replaced, and its next answer", _median(_killed)),
    ]


def _fresh() -> None:
    pool = WorkerExecutor(1)
    pool.submit(os.getpid).result()
    pool.shutdown(wait=False, cancel_futures=True)


def _killed() -> None:
    with hired(1, wait=False) as pool:
        try:
            pool.submit(_kill_yourself).result()
        except WorkerDiedError:
            pool.submit(os.getpid).result()


def _kill_yourself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _runs(path: Path) -> list[tuple[str, float]]:
    with InlineExecutor() as here, hired(1) as workers:
        inline = _median(lambda: ww.analyze(path, executor=here))
        kept = _median(lambda: ww.analyze(path, executor=workers))
        return [
            ("`analyze` of one file, one matrix of 256 x 256, in this process, not isolated", inline),
            ("the same in a worker that is there already", kept),
            ("the same in a worker of its own, started and ended", _median(lambda: ww.analyze(path))),
        ]


def _commands(path: Path) -> list[tuple[str, float]]:
    def command(*words: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-m", "ww_static", *words], check=True, stdout=subprocess.DEVNULL)

    return [
        ("`ww-static --version`, the interpreter and the option parser", _median(command("--version"))),
        ("`ww-static describe FILE`, all processes included", _median(command("describe", str(path)))),
        ("`ww-static analyze FILE`, all processes included", _median(command("analyze", str(path)))),
    ]


def _median(call: Callable[[], object]) -> float:
    taken = []
    for _ in range(_ROUNDS):
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
