"""The process that reads inputs, many in a row, under limits: `python -m fuzz.worker READER START FIRST STOP FOLDER`.

One JSON line when it is ready, and one per input: `[number, seed, outcome, message, CPU seconds]`. It may die; its parent
knows which input it was at.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fuzz import mutate, subject
from fuzz.seeds import SEEDS

CPU_SECONDS = 10  # of one input, then the system kills the process
MEMORY_BYTES = 512 * 2**20  # private memory of one input; beyond it comes a MemoryError


def main() -> None:
    """Reads inputs FIRST to STOP - 1."""
    reader, folder = sys.argv[1], Path(sys.argv[5])
    start, first, stop = map(int, sys.argv[2:5])
    seeds = SEEDS[reader]()
    say = _voice()
    subject.warm_up(seeds, reader, folder)
    _limit_memory()
    say("[]")
    for number in range(first, stop):
        begin = time.process_time()
        _limit_seconds(begin)
        one = mutate.made(reader, seeds, start, number)
        category, message = subject.outcome(subject.written(one, folder), reader)
        say(json.dumps([number, one.seed, category, message[:1000], time.process_time() - begin]))


def _voice() -> Callable[[str], None]:
    """Writes lines to where stdout was; what a reader prints goes to stderr."""
    own = os.dup(1)
    os.dup2(2, 1)
    return lambda text: _write(own, f"{text}\n".encode())


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pages = int(Path("/proc/self/statm").read_text().split()[5]) if sys.platform.startswith("linux") else None
    if pages is not None:
        most = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _limit_seconds(used: float) -> None:
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used) + CPU_SECONDS, hard))


if __name__ == "__main__":
    main()
