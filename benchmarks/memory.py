"""The memory run: `analyze` of a large BF16 file under --max-memory, private memory of all processes against the limit."""

from __future__ import annotations

import argparse
import collections
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks import measure, models

LIMIT_MIB = 600
_COMMAND = str(Path(sys.executable).parent / "ww-static")


def main() -> None:
    """Parses, runs, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", nargs="*", default=["auto", "1", "2"], help="values of --jobs to run with")
    parser.add_argument("--squares", type=int, default=10, help="tensors of 4096 x 4096 beside the tall one (40: 1.5 GiB)")
    parser.add_argument("--limit", type=int, default=LIMIT_MIB, help="MiB for --max-memory")
    parser.add_argument("--curves", type=int, metavar="N", help="instead: N tensors of 256 x 256, all columns, all eigenvalues")
    arguments = parser.parse_args()
    if arguments.curves:
        name, tensors, extra = f"small-{arguments.curves}", models.small(arguments.curves), ["--metrics", "all", "--esd", "f64"]
    else:
        name, tensors, extra = f"tall-and-{arguments.squares}", models.one_tall_and_squares(arguments.squares), []
    path = models.written(f"{name}.safetensors", tensors)
    print(f"machine: {measure.machine()}")
    print(f"file: {len(tensors)} tensors, {path.stat().st_size / 2**30:.2f} GiB of BF16", flush=True)
    _describe(path)
    for jobs in arguments.jobs:
        _analyze(path, jobs, arguments.limit, extra)


def _describe(path: Path) -> None:
    log = models.CACHE / "describe.log"
    found = measure.alternating([lambda: measure.run([_COMMAND, "describe", str(path)], log)])[0]
    print(f"describe: {measure.numbers(found)}", flush=True)


def _analyze(path: Path, jobs: str, limit: int, extra: Sequence[str]) -> None:
    out = models.CACHE / f"memory-{jobs}.parquet"
    out.unlink(missing_ok=True)
    words = [*extra, "--max-memory", f"{limit}MiB", "--jobs", jobs]
    found = measure.run([_COMMAND, "analyze", str(path), "-o", str(out), *words], models.CACHE / f"memory-{jobs}.log")
    over = found.peak.total / measure.MIB / limit
    print(f"analyze {' '.join(words)}: {measure.numbers(found)}, {over:.2f} of the limit")
    shares = ", ".join(f"{label} {size / measure.MIB:.0f}" for label, size in found.peak.shares)
    print(f"  at the peak, {found.peak.seconds:.1f} s after the start, MiB: {shares}")
    rows = pq.read_table(out, columns=["status", "reason"]).to_pylist() if out.exists() else []
    counts = collections.Counter((row["status"], row["reason"]) for row in rows)
    print("  rows: " + (", ".join(f"{count} {status} ({reason})" for (status, reason), count in counts.items()) or "none"))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
