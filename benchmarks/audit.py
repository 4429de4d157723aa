"""The audit against weightwatcher: what a CI job waits for, with the fast profile and with the full one."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import end, environment, measure, models, tables

_TITLE = "audit of all-MiniLM-L6-v2; weightwatcher with randomize and mp_fit, which the full profile computes too, and without"


def main() -> None:
    """Parses, measures, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", metavar="PATH", help="an interpreter that has weightwatcher, torch and safetensors")
    parser.add_argument("--model", type=Path, metavar="FILE", required=True, help="all-MiniLM-L6-v2 as safetensors")
    parser.add_argument("--rounds", type=int, default=3, help="runs of a command that takes less than 20 seconds")
    arguments = parser.parse_args()
    models.CACHE.mkdir(parents=True, exist_ok=True)
    audits(arguments.model, environment.peer_python(arguments.peer_python), arguments.rounds)


def audits(model: Path, python: Path, rounds: int) -> None:
    """One table: both profiles, written as a CI job writes them, beside weightwatcher's two runs."""
    peer = [str(python), str(Path(__file__).with_name("peer_script.py")), str(model), str(models.CACHE / "theirs.csv")]
    lines = {
        "weightwatcher, randomized": ([*peer, "--randomize"], measure.default_threads),
        "weightwatcher": (peer, measure.default_threads),
    }
    outputs = [f"--output={models.CACHE / name}" for name in ("audit.json", "audit.sarif", "audit.xml", "audit.md")]
    for words in (
        "--profile full --jobs auto",
        "--profile full --jobs 1",
        "--profile fast --jobs auto",
        "--profile fast --jobs 1",
    ):
        audit = [end.COMMAND, "audit", str(model), *words.split(), *outputs]
        lines[f"`ww-static audit {words}`"] = (audit, measure.default_threads)
    tables.opening(_TITLE)
    end.commands(lines, rounds)
    tables.closing()


if __name__ == "__main__":
    main()
