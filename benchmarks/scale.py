"""The scale run: `describe` of files far larger than memory, `analyze` of a 500 MB ONNX model within a memory budget."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import large, measure, models, tables

_COMMAND = str(Path(sys.executable).parent / "ww-static")


def main() -> None:
    """Parses, runs, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", nargs="*", default=["1", "2"], help="values of --jobs to analyze with; none to leave it out")
    parser.add_argument("--limit", type=int, default=300, help="MiB for --max-memory")
    arguments = parser.parse_args()
    tables.opening("files larger than memory, and a budget")
    tables.header("command", "file", "exit", "wall s", "CPU s", "peak private MiB", "share of the limit")
    with tempfile.TemporaryDirectory(dir=models.CACHE) as folder:
        _describe(large.sparse_onnx(Path(folder) / "three.onnx", large.squares(48, 4096)))
        _describe(large.sparse_safetensors(Path(folder) / "sixty-four.safetensors", large.squares(32, 32_768)))
    if arguments.jobs:
        path = large.written_onnx(models.CACHE / "squares-30.onnx", large.squares(30, 2048))
        _describe(path)
        for jobs in arguments.jobs:
            _analyze(path, jobs, arguments.limit)
    tables.closing()


def _describe(path: Path) -> None:
    log = models.CACHE / "describe.log"
    found = measure.alternating([lambda: measure.run([_COMMAND, "describe", str(path)], log)])[0]
    _line("`describe`", path, found, "")


def _analyze(path: Path, jobs: str, limit: int) -> None:
    out = models.CACHE / f"scale-{jobs}.parquet"
    out.unlink(missing_ok=True)
    words = ["--max-memory", f"{limit}MiB", "--jobs", jobs]
    found = measure.run([_COMMAND, "analyze", str(path), "-o", str(out), *words], models.CACHE / f"scale-{jobs}.log")
    _line(f"`analyze {' '.join(words)}`", path, found, f"{found.peak.total / measure.MIB / limit:.2f}")


def _line(command: str, path: Path, found: measure.Measurement, share: str) -> None:
    tables.row(
        command, f"{path.name}, {path.stat().st_size / 2**30:.2f} GiB", str(found.exit_code), f"{found.wall:.2f}",
        f"{found.cpu:.2f}", f"{found.peak.total / measure.MIB:.0f}", share,
    )  # fmt: skip


if __name__ == "__main__":
    main()
