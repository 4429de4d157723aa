"""Every column that there is, against weightwatcher with everything that it has: permutations, Marchenko-Pastur fit, detX, vectors."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import end, environment, measure, models, tables

_TITLE = "all-MiniLM-L6-v2, every group of columns; weightwatcher with randomize, mp_fit, detX and vectors"


def main() -> None:
    """Parses, measures, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", metavar="PATH", help="an interpreter that has weightwatcher, torch and safetensors")
    parser.add_argument("--model", type=Path, metavar="FILE", required=True, help="all-MiniLM-L6-v2 as safetensors")
    parser.add_argument("--rounds", type=int, default=3, help="runs of a command that takes less than 20 seconds")
    arguments = parser.parse_args()
    models.CACHE.mkdir(parents=True, exist_ok=True)
    python = environment.peer_python(arguments.peer_python)
    everything(arguments.model, python, arguments.rounds)


def everything(model: Path, python: Path, rounds: int) -> None:
    """One table, and how far the columns of both sides are apart."""
    theirs, ours = models.CACHE / "everything.csv", models.CACHE / "everything.parquet"
    for path in (theirs, ours):
        path.unlink(missing_ok=True)
    script = Path(__file__).with_name("peer_script.py")
    peer = [str(python), str(script), str(model), str(theirs), "--randomize", "--vectors"]
    analyze = [end.COMMAND, "analyze", str(model), "-o", str(ours)]
    lines = {"weightwatcher, its threads": (peer, measure.default_threads)}
    for words in ("--jobs auto --metrics all", "--jobs 1 --metrics all", "--jobs auto --randomize --vectors"):
        lines[f"`ww-static analyze {words}`"] = ([*analyze, *words.split()], measure.default_threads)
    tables.opening(_TITLE)
    end.commands(lines, rounds)
    if ours.exists() and theirs.exists():
        print(f"\nparity: {end.parity(ours, theirs)}")
    tables.closing()


if __name__ == "__main__":
    main()
