"""The memory run: `analyze` of a large BF16 file under --max-memory, private memory of all processes against the limit."""

from __future__ import annotations

import argparse
import collections
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks import measure, models, tables

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
    tables.opening(f"private memory of all processes, {len(tensors)} tensors, {path.stat().st_size / 2**30:.2f} GiB of BF16")
    tables.header(
        "command",
        "peak private MiB",
        "share of the limit",
        "exit",
        "rows",
        "wall s",
        "CPU s",
        "MiB at the peak, process by process",
    )
    _describe(path)
    for jobs in arguments.jobs:
        _analyze(path, jobs, arguments.limit, extra)
    tables.closing()


def _describe(path: Path) -> None:
    log = models.CACHE / "describe.log"
    found = measure.alternating([lambda: measure.run([_COMMAND, "describe", str(path)], log)])[0]
    _line("`describe`", found, "", "")


def _analyze(path: Path, jobs: str, limit: int, extra: Sequence[str]) -> None:
    out = models.CACHE / f"memory-{jobs}.parquet"
    out.unlink(missing_ok=True)
    words = [*extra, "--max-memory", f"{limit}MiB", "--jobs", jobs]
    found = measure.run([_COMMAND, "analyze", str(path), "-o", str(out), *words], models.CACHE / f"memory-{jobs}.log")
    rows = pq.read_table(out, columns=["status", "reason"]).to_pylist() if out.exists() else []
    counts = collections.Counter(" ".join(filter(None, (row["status"], row["reason"]))) for row in rows)
    told = ", ".join(f"{count} {words}" for words, count in counts.items()) or "none"
    _line(f"`analyze {' '.join(words)}`", found, f"{found.peak.total / measure.MIB / limit:.2f}", told)


def _line(command: str, found: measure.Measurement, share: str, rows: str) -> None:
    shares = ", ".join(f"{label} {size / measure.MIB:.0f}" for label, size in found.peak.shares)
    tables.row(
        command, f"{found.peak.total / measure.MIB:.0f}", share, str(found.exit_code), rows, f"{found.wall:.1f}",
        f"{found.cpu:.1f}", shares,
    )  # fmt: skip


if __name__ == "__main__":
    main()
