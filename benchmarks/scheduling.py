"""What a second worker gains on a model of 100 mixed layers, and what ten busy processes beside the run cost it."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import measure, models

_COMMAND = str(Path(sys.executable).parent / "ww-static")
_SHAPES = ((768, 768), (3072, 768), (1024, 1024), (4096, 1024), (2048, 2048))
_BUSY = 10
_MUST_SPEEDUP, _MUST_COST = 1.8, 1.3


def mixed(count: int) -> tuple[models.Tensor, ...]:
    """So many layers of five shapes, in turn: 500 MB as BF16 for a hundred."""
    return tuple(models.Tensor(f"model.layers.{i}.mlp.down_proj.weight", *_SHAPES[i % len(_SHAPES)]) for i in range(count))


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=100)
    parser.add_argument("--idle-only", action="store_true", help="leave out the part with busy processes")
    parser.add_argument("--measure", type=Path, metavar="FILE", help="two workers on this file; numbers for a program")
    given = parser.parse_args()
    if given.measure:
        found = _analysis(given.measure, 2)()
        print(found.wall, found.cpu, found.peak.total, found.exit_code)
        return
    path = models.written(f"mixed-{given.layers}.safetensors", mixed(given.layers))
    print(f"machine: {measure.machine()}")
    print("| run | wall s | CPU s | peak private MiB |\n|---|---|---|---|")
    one, two = measure.alternating([_analysis(path, 1), _analysis(path, 2)])
    if _output(path, 1).read_bytes() != _output(path, 2).read_bytes():
        raise SystemExit("the number of workers changes the bytes of the result")
    for words, found in (("one worker", one), ("two workers", two)):
        _print(words, found)
    print(f"\ntwo workers: {one.wall / two.wall:.2f} times as fast as one in wall time, must be {_MUST_SPEEDUP}")
    if given.idle_only:
        return
    beside, alone = measure.alternating([lambda: _beside(path), lambda: _by_a_child(path)])
    for words, found in ((f"two workers, {_BUSY} busy processes beside", beside), ("two workers, alone", alone)):
        _print(words, found)
    print(f"\n{_BUSY} busy processes: {beside.cpu / alone.cpu:.2f} times the CPU seconds, may be {_MUST_COST}")


def _output(path: Path, jobs: int) -> Path:
    return path.with_suffix(f".j{jobs}.parquet")


def _analysis(path: Path, jobs: int) -> Callable[[], measure.Measurement]:
    output = _output(path, jobs)
    command = [_COMMAND, "analyze", str(path), "-j", str(jobs), "-o", str(output)]
    return lambda: measure.run(command, path.with_suffix(".log"))


def _beside(path: Path) -> measure.Measurement:
    """The same with busy processes beside it, measured by a child of this program: a measurement waits for all its children."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(_BUSY)]
    try:
        return _by_a_child(path)
    finally:
        for one in busy:
            one.kill()
            one.wait()


def _by_a_child(path: Path) -> measure.Measurement:
    command = [sys.executable, "-m", "benchmarks.scheduling", "--measure", str(path)]
    wall, cpu, peak, code = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return measure.Measurement(float(wall), float(cpu), measure.Peak(int(peak)), int(code))


def _print(words: str, found: measure.Measurement) -> None:
    if found.exit_code:
        raise SystemExit(f"{words}: exit code {found.exit_code}")
    print(f"| {words} | {found.wall:.2f} | {found.cpu:.2f} | {found.peak.total / measure.MIB:.0f} |")


if __name__ == "__main__":
    main()
