"""The long run: `python3 dev.py fuzz [--reader NAME] [--inputs N] [--first N]`, or one input again with `--number`."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fuzz import mutate, runner, subject
from fuzz.runner import Outcome, Summary
from fuzz.seeds import SEEDS

_SHOWN = 20  # failures of one reader that are printed


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses, runs, prints; 0 when no reader failed, 1 when one did, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="dev.py fuzz", description=__doc__)
    parser.add_argument("--reader", action="append", choices=sorted(SEEDS), help="only this one; may come several times")
    parser.add_argument("--inputs", type=int, default=200_000, help="of each reader (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--start", type=int, default=0, help="another series of inputs")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--headers", action="store_true", help="instead: safetensors headers, against the safetensors package")
    parser.add_argument("--pickles", action="store_true", help="instead: state dicts, against torch, which must be installed")
    parser.add_argument("--number", type=int, help="instead: one input, in this process; needs --reader")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="with --number: keep its files there")
    given = parser.parse_args(arguments)
    readers = given.reader or sorted(SEEDS)
    if given.number is not None:
        if len(readers) != 1:
            parser.error("--number needs one --reader")
        return _one(readers[0], given.start, given.number, given.save)
    if given.headers or given.pickles:
        return _compared("headers" if given.headers else "pickles", range(given.first, given.first + given.inputs), given.start)
    failed = False
    for reader in readers:
        begin = time.monotonic()
        latest = Summary(reader, given.start)

        def heard(summary: Summary, begin: float = begin) -> None:
            nonlocal latest
            latest = summary
            rate = summary.inputs / max(time.monotonic() - begin, 1e-9)
            line = f"{summary.reader}: {summary.inputs} of {given.inputs} inputs, {rate:.0f} a second, {len(summary.failures)} failures"
            print(line, file=sys.stderr, flush=True)

        try:
            numbers = range(given.first, given.first + given.inputs)
            summary = runner.run(reader, numbers, given.start, given.jobs, heard)
        except KeyboardInterrupt:
            print(report(latest), "interrupted", sep="\n")
            return 130
        print(report(summary), f"  {time.monotonic() - begin:.0f} s of wall time", sep="\n", flush=True)
        failed |= bool(summary.failures or summary.slow)
    return 1 if failed else 0


def report(summary: Summary) -> str:
    """A summary as text."""
    opened = sum(count for name, count in summary.counts.items() if name.startswith(subject.OPENED))
    lines = [f"{summary.reader}: {summary.inputs} inputs, {opened / max(summary.inputs, 1):.0%} opened"]
    lines.append("  " + ", ".join(f"{name} {count}" for name, count in summary.counts.most_common()))
    shares = (f"{seed or 'unknown'} {opened / count:.0%}" for seed, (count, opened) in sorted(summary.by_seed.items()))
    lines.append("  opened by seed: " + ", ".join(shares))
    if summary.slowest is not None:
        lines.append(f"  slowest: input {summary.slowest.number}, {summary.slowest.seconds:.2f} CPU s")
    for title, found in (("failure", summary.failures), ("needs isolation", summary.deaths), ("slow", summary.slow)):
        lines += [f"  {title}: {named(summary, one)}" for one in found[:_SHOWN]]
        lines += [f"  and {len(found) - _SHOWN} more"] * (len(found) > _SHOWN)
    return "\n".join(lines)


def named(summary: Summary, one: Outcome) -> str:
    """An outcome, and the command that gives it again."""
    again = f"python3 dev.py fuzz --reader {summary.reader} --start {summary.start} --number {one.number} --save FOLDER"
    return f"input {one.number} of seed '{one.seed}': {one.category}: {one.message} ({one.seconds:.2f} CPU s); again: {again}"


def _compared(what: str, numbers: range, start: int) -> int:
    """Verdicts of ours beside those of another library."""
    compare = importlib.import_module(f"fuzz.{what}").compare
    total: Counter[str] = Counter()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        try:
            for first in range(numbers.start, numbers.stop, runner.BATCH):
                batch = range(first, min(first + runner.BATCH, numbers.stop))
                counts, found = compare(batch, Path(folder) / "model", start)
                total += counts
                wrong += found
                print(f"{what}: {batch.stop - numbers.start} of {len(numbers)}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("interrupted")
    print(", ".join(f"{name} {count}" for name, count in total.most_common()))
    print(*wrong[:_SHOWN], sep="\n", end="")
    return 1 if wrong else 0


def _one(reader: str, start: int, number: int, save: Path | None) -> int:
    one = mutate.made(reader, SEEDS[reader](), start, number)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        folder = save or Path(temporary)
        path = subject.written(one, folder)
        print(f"seed '{one.seed}': {', '.join(f'{name} {len(data)} bytes' for name, data in one.files.items())}", flush=True)
        category, message = subject.outcome(path, reader)
    print(f"{category}: {message}" if message else category)
    return 1 if category == subject.FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
