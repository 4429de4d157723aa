"""What a run may use: the machine's or container's memory and processors, and what this process holds now."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
PARENT_BYTES = 40 * 2**20  # private memory of the process that the user started; never less is set aside
SHARE = 0.8  # of the machine's memory, when the user sets no limit
WORKER_BYTES = 48 * 2**20  # private memory of a worker before its first matrix: the interpreter, numpy, a reader, a BLAS arena
THREAD_BYTES = 48 * 2**20  # private memory of a further BLAS thread: its buffer and its stack
RESULT_BYTES = 64 * 2**20  # private memory that Arrow takes before the first row becomes part of a table
SERVER_BYTES = 32 * 2**20  # private memory of the process that workers are forked from
BASE_BYTES = PARENT_BYTES + RESULT_BYTES + SERVER_BYTES + WORKER_BYTES  # of a run with one worker that does nothing
BASED_BYTES = 64 * 2**20  # of blocks of a base model beside those of a model
ROW_BYTES = 8 * 2**10  # of a row, as an object and in the table
CURVES_BYTES = 24 * 2**10  # of the curves of fixed length in a row, twice
EIGENVALUE_BYTES = 5 * 8 * 2  # of the five curves that have a point per eigenvalue, in the row and in the table


def private_bytes() -> int:
    """Private (anonymous) memory of this process; an estimate from the resident set where /proc is missing."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def available_bytes() -> int:
    """Memory of the machine, or of the container when that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(total, cgroup_memory() or total)


def cgroup_memory() -> int | None:
    """The memory limit of this container in bytes; None without one."""
    return _number("memory.max") or _number("memory/memory.limit_in_bytes")


def processors() -> int:
    """Processors that this process may use: its affinity, and the quota of its container."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()[:2]
        if quota != "max":
            count = min(count, max(1, math.floor(int(quota) / int(period))))
    except (OSError, ValueError):
        pass
    return count


def _number(name: str) -> int | None:
    try:
        value = int((_CGROUP / name).read_text())
    except (OSError, ValueError):
        return None
    return value if 0 < value < 2**60 else None
