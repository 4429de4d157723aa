"""Runs inputs in supervised worker processes: a death or a hang costs one input, is blamed on it, and the run goes on."""

from __future__ import annotations

import collections
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from fuzz import mutate, subject
from fuzz.seeds import NEEDS_ISOLATION, SEEDS

WALL_SECONDS = 10.0  # of one input, then its process is killed
START_SECONDS = 120.0
SLOW_SECONDS = 2.0  # CPU seconds of one input that are too many
BATCH = 2_500  # inputs of one process
WORKER = ("-m", "fuzz.worker")
_TESTS = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one input: see `subject.outcome`; or ``died`` with how."""

    number: int
    seed: str
    category: str
    message: str
    seconds: float


DIED = "died"


@dataclass(slots=True)
class Summary:
    """What came of many inputs of one reader.

    Attributes:
        reader: its name.
        start: of the series.
        counts: inputs by outcome.
        failures: outcomes that no reader may have.
        deaths: worker deaths of a reader that is known to need isolation.
        slow: inputs that took more than `SLOW_SECONDS`.
        slowest: the slowest of all.
        by_seed: inputs and opened inputs of each seed.
    """

    reader: str
    start: int
    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    failures: list[Outcome] = field(default_factory=list)
    deaths: list[Outcome] = field(default_factory=list)
    slow: list[Outcome] = field(default_factory=list)
    slowest: Outcome | None = None
    by_seed: dict[str, list[int]] = field(default_factory=dict)

    @property
    def inputs(self) -> int:
        """Inputs that were given to the reader."""
        return self.counts.total()

    def add(self, one: Outcome) -> None:
        """Counts an outcome."""
        self.counts[one.category] += 1
        share = self.by_seed.setdefault(one.seed, [0, 0])
        share[0] += 1
        share[1] += one.category.startswith(subject.OPENED)
        if one.category == DIED and self.reader in NEEDS_ISOLATION:
            self.deaths.append(one)
        elif one.category in (DIED, subject.FAILED):
            self.failures.append(one)
        if one.seconds > SLOW_SECONDS:
            self.slow.append(one)
        if self.slowest is None or one.seconds > self.slowest.seconds:
            self.slowest = one


def run(
    reader: str, numbers: range, start: int = 0, jobs: int = 1, heard: Callable[[Summary], None] = lambda summary: None
) -> Summary:
    """Gives inputs to a reader.

    Args:
        reader: a name in `seeds.SEEDS`.
        numbers: of the inputs, without steps.
        start: of the series.
        jobs: processes at a time.
        heard: called in the caller's thread after each batch, with what there is so far.
    """
    summary = Summary(reader, start)
    batches = [range(first, min(first + BATCH, numbers.stop)) for first in range(numbers.start, numbers.stop, BATCH)]
    pool, stop = ThreadPoolExecutor(jobs), threading.Event()
    try:
        for outcomes in pool.map(lambda batch: list(_batch(reader, batch, start, stop)), batches):
            for one in outcomes:
                summary.add(one)
            heard(summary)
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
    return summary


def _batch(reader: str, numbers: range, start: int, stop: threading.Event) -> Iterator[Outcome]:
    position = numbers.start
    while position < numbers.stop and not stop.is_set():
        for one in _until_death(reader, range(position, numbers.stop), start):
            if stop.is_set():
                return
            position = one.number + 1
            if one.category == DIED and len(numbers) > 1:
                again = next(_until_death(reader, range(one.number, one.number + 1), start)).category == DIED
                how = "again when alone" if again else f"only after inputs {numbers.start} to {one.number - 1}"
                seed = mutate.made(reader, SEEDS[reader](), start, one.number).seed
                one = Outcome(one.number, seed, DIED, f"{one.message}, {how}", one.seconds)
            yield one


def _until_death(reader: str, numbers: range, start: int) -> Iterator[Outcome]:
    """Outcomes in order, until all inputs are read, or the one that ended the process."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        words = [reader, str(start), str(numbers.start), str(numbers.stop), folder]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(_TESTS), *filter(None, sys.path)])}
        environment |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
        process = subprocess.Popen(
            [sys.executable, *WORKER, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # an interruption from the keyboard is for this process alone
        )
        try:
            lines = _Lines(process)
            ready = lines.next(START_SECONDS)
            assert ready == "[]", f"the worker of {reader} does not start: {ready}"
            for number in numbers:
                line = lines.next(WALL_SECONDS)
                if not line.startswith("["):
                    yield Outcome(number, "", DIED, line, 0.0)
                    return
                yield Outcome(*json.loads(line))
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


class _Lines:
    """Lines of a process, each within a time."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._process = process
        self._descriptor = process.stdout.fileno()
        self._held = b""

    def next(self, seconds: float) -> str:
        """The next line; or how the process ended, which is never a list."""
        while b"\n" not in self._held:
            if not select.select([self._descriptor], [], [], seconds)[0]:
                return f"no answer in {seconds:.0f} seconds"
            more = os.read(self._descriptor, 65_536)
            if not more:
                code = self._process.wait()
                return signal.Signals(-code).name if code < 0 else f"exit code {code}"
            self._held += more
        line, _, self._held = self._held.partition(b"\n")
        return line.decode()
