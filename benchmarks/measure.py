"""One command measured: wall seconds, CPU seconds and peak private memory of the process and all its children."""

from __future__ import annotations

import ctypes
import os
import select
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

MIB = 2**20
SAMPLE_SECONDS = 0.005
_SAMPLES_PER_CENSUS = 10  # new children are looked for less often: the walk costs more than the sample
_PR_SET_CHILD_SUBREAPER = 36
Environment: TypeAlias = Callable[[], dict[str, str]]
_THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True, slots=True)
class Peak:
    """The moment with the most private memory.

    Attributes:
        total: bytes of RssAnon, summed over the process and all its children: pages that forked processes share count in each.
        seconds: when it was, after the start.
        shares: bytes of each process then, largest first, with the last words of its command line.
        once: bytes of Pss_Anon, summed: a page that is shared counts once. Looked up whenever the total has risen.
    """

    total: int = 0
    seconds: float = 0.0
    shares: tuple[tuple[str, int], ...] = ()
    once: int = 0


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one run of a command took.

    Attributes:
        wall: seconds from before the start of the process to its end.
        cpu: user and system seconds, children included, orphans too.
        peak: most private memory.
        exit_code: of the process; negative for a signal.
        rounds: how many runs this is the median of.
    """

    wall: float
    cpu: float
    peak: Peak
    exit_code: int
    rounds: int = 1


def one_thread() -> dict[str, str]:
    """The environment with one BLAS thread."""
    return os.environ | dict.fromkeys(_THREAD_VARIABLES, "1")


def default_threads() -> dict[str, str]:
    """The environment in which a BLAS takes as many threads as it takes by itself."""
    return {name: value for name, value in os.environ.items() if name not in _THREAD_VARIABLES}


def wide() -> dict[str, str]:
    """The environment in which a program prints its help in long lines without color."""
    return os.environ | {"COLUMNS": "200", "TERMINAL_WIDTH": "200", "NO_COLOR": "1", "TERM": "dumb"}


def run(command: Sequence[str], log: Path, environment: Environment = one_thread, sampled: bool = True) -> Measurement:
    """Runs a command to its end. The calling process may have no other children: theirs would be counted, and waited for.

    Args:
        command: words of the command.
        log: file that gets its stdout and, in ``<log>.err``, its stderr.
        environment: of the process; `one_thread` unless said otherwise.
        sampled: whether its memory is looked at, which takes processor time beside it.

    Returns:
        The measurement. Memory, when it is looked at, is sampled every 5 ms, new children are looked for every 50 ms: what is shorter is missed.
    """
    # a child whose parent ends first (a fork server) becomes ours, so that its CPU seconds are counted as well
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    peak, cpu, code, end, samples = Peak(), 0.0, 0, 0.0, 0
    with log.open("wb") as out, log.with_name(log.name + ".err").open("wb") as errors:
        begin = time.perf_counter()
        compiled = {key: value for key, value in environment().items() if key != "PYTHONDONTWRITEBYTECODE"}  # as when installed
        process = subprocess.Popen(command, stdout=out, stderr=errors, env=compiled)
        ended = os.pidfd_open(process.pid)
        while True:
            if sampled:
                if samples % _SAMPLES_PER_CENSUS == 0:
                    members = family(os.getpid())[1:]
                samples += 1
                peak = _larger(peak, members, process.pid, begin)
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                select.select([] if process.returncode is not None else [ended], [], [], SAMPLE_SECONDS)
                continue
            cpu += usage.ru_utime + usage.ru_stime
            if pid == process.pid:
                end, code = time.perf_counter(), os.waitstatus_to_exitcode(status)
                process.returncode = code
        os.close(ended)
    return Measurement(end - begin, cpu, peak, code)


def _larger(peak: Peak, members: Sequence[int], main: int, begin: float) -> Peak:
    shares = {pid: size for pid in members if (size := private_bytes(pid))}
    total = sum(shares.values())
    if total <= peak.total:
        return peak
    ordered = sorted(shares.items(), key=lambda share: -share[1])
    named = tuple((_label(pid, main), size) for pid, size in ordered)
    once = sum(_line_of(f"/proc/{pid}/smaps_rollup", b"Pss_Anon:") for pid in shares)
    return Peak(total, time.perf_counter() - begin, named, max(peak.once, once))


def _label(pid: int, main: int) -> str:
    if pid == main:
        return "main"
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "ended"
    known = {"resource_tracker": "resource tracker", "forkserver": "fork server or worker", "spawn": "worker"}
    return next((label for word, label in known.items() if word in words), "child")


def family(root: int) -> list[int]:
    """A process and all its living descendants, by /proc."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                waiting += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
        except OSError:
            continue  # it ended meanwhile
    return found


def private_bytes(pid: int) -> int:
    """Private (anonymous) resident memory of one process; 0 when it has ended."""
    return _line_of(f"/proc/{pid}/status", b"RssAnon:")


def _line_of(path: str, name: bytes) -> int:
    """The bytes that a line of a file of the kernel names in kB; 0 when there is no such file or line."""
    with suppress(OSError), open(path, "rb") as stream:
        for line in stream:
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return 0


def median(measurements: Sequence[Measurement]) -> Measurement:
    """Median of wall and CPU seconds, largest peak, worst exit code."""
    worst = max(measurements, key=lambda one: one.peak.total)
    return replace(
        worst,
        wall=statistics.median(one.wall for one in measurements),
        cpu=statistics.median(one.cpu for one in measurements),
        exit_code=max((one.exit_code for one in measurements), key=abs),
        rounds=len(measurements),
    )


def alternating(sides: Sequence[Callable[[], Measurement]], rounds: int = 3) -> list[Measurement]:
    """Measures A B A B ... and gives the medians.

    Args:
        sides: what to measure.
        rounds: of each side; at least 5 when a side takes less than 0.1 CPU seconds.
    """
    taken: list[list[Measurement]] = [[] for _ in sides]
    done = 0
    while sides and done < rounds:
        for place, side in enumerate(sides):
            taken[place].append(side())
        done += 1
        if min(one.cpu for found in taken for one in found) < 0.1:
            rounds = max(rounds, 5)
    return [median(found) for found in taken]


def machine() -> str:
    """Core name, processors and load average in one line."""
    name = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
            break
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return f"{name}, {len(os.sched_getaffinity(0))} processors, load average {load}"
