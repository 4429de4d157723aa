"""Single calls timed inside a running process of either side, so that imports and inputs are not counted."""

from __future__ import annotations

import json
import select
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from numpy.typing import NDArray

from benchmarks import measure

_PROBE = Path(__file__).with_name("probe.py")


@dataclass(frozen=True, slots=True)
class Timed:
    """What a call took.

    Attributes:
        cpu, wall: seconds.
        rise: bytes of private memory at the peak, less what the process held just before the call.
        values: what the call gave, float64.
    """

    cpu: float
    wall: float
    rise: int
    values: NDArray[np.float64]


class Side:
    """A process that answers requests, under one interpreter; see probe.py."""

    def __init__(self, python: Path, log: Path) -> None:
        self._errors: IO[bytes] = log.open("wb")
        self._process = subprocess.Popen(
            [python, _PROBE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=measure.one_thread()
        )

    def call(self, task: str, shape: tuple[int, int]) -> Timed:
        """One call, measured.

        Raises:
            RuntimeError: the process ended; its log says why.
        """
        self._send(json.dumps({"task": task, "shape": shape}))
        self._line(task)
        pid = self._process.pid
        before = highest = measure.private_bytes(pid)
        self._send("go")
        assert self._process.stdout is not None
        while not select.select([self._process.stdout], [], [], measure.SAMPLE_SECONDS)[0]:
            highest = max(highest, measure.private_bytes(pid))
        answer = json.loads(self._line(task))
        return Timed(answer["cpu"], answer["wall"], highest - before, np.array(answer["values"]))

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _line(self, task: str) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"task '{task}': the process ended with code {self._process.wait()}, see {self._errors.name}")
        return line

    def __enter__(self) -> Side:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()


def alternating(sides: Sequence[tuple[Side, str]], shape: tuple[int, int], rounds: int = 3) -> list[Timed]:
    """Calls A B A B ... after one call each to warm up: medians of this many rounds, of at least 5 below 0.1 CPU seconds.

    The first call counts as a round when it took more than 5 seconds: warming up is nothing then.
    """
    warm = [side.call(task, shape) for side, task in sides]
    more = rounds if min(one.cpu for one in warm) >= 0.1 else max(rounds, 5)
    wanted = [rounds if one.cpu > 5 else more for one in warm]
    taken = [[one] if one.cpu > 5 else [] for one in warm]
    while any(len(found) < most for found, most in zip(taken, wanted, strict=True)):
        for found, most, (side, task) in zip(taken, wanted, sides, strict=True):
            if len(found) < most:
                found.append(side.call(task, shape))
    return [
        Timed(
            statistics.median(one.cpu for one in found),
            statistics.median(one.wall for one in found),
            max(one.rise for one in (first, *found)),
            first.values,
        )
        for first, found in zip(warm, taken, strict=True)
    ]


def own(log: Path) -> Side:
    """The side of this project: the interpreter that runs the benchmark."""
    return Side(Path(sys.executable), log)
