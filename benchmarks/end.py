"""From process start to results on disk, against the script that a weightwatcher user would write; with both results compared."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks import measure, models, tables

COMMAND = str(Path(sys.executable).parent / "ww-static")
_PATIENCE = 20.0  # seconds; a command that takes longer is run once
_FIT = ("alpha", "xmin", "D")
_SIDES = ("N", "M", "Q", "rf", "num_evals")
# drawn by another generator, or defined otherwise on purpose (docs/mathematics.md)
_NOT_COMPARED = ("rand_", "max_rand", "ww_softrank", "ww_maxdist", "num_spikes", "num_traps", "weak_rank_loss")


def end_to_end(title: str, model: Path, python: Path, *, randomize: bool, rounds: int = 3) -> None:
    """One table: weightwatcher with its own choice of threads and with one, ww-static with workers as it likes and with one.

    Args:
        title: what the model is.
        model: safetensors file.
        python: interpreter that has weightwatcher.
        randomize: randomized spectra and the Marchenko-Pastur fit too, on both sides.
        rounds: runs of a command that takes less than 20 seconds.
    """
    words = ["--randomize"] if randomize else []
    theirs = models.CACHE / "theirs.csv"
    ours = {jobs: models.CACHE / f"ours-{jobs}.parquet" for jobs in ("auto", "1")}
    for path in (theirs, *ours.values()):
        path.unlink(missing_ok=True)
    script = [str(python), str(Path(__file__).with_name("peer_script.py")), str(model), str(theirs), *words]
    lines = {
        "weightwatcher, its threads": (script, measure.default_threads),
        "weightwatcher, one BLAS thread": (script, measure.one_thread),
    }
    if not randomize or offers("--randomize"):
        for jobs, path in ours.items():
            lines[f"`ww-static analyze --jobs {jobs}`"] = (
                [COMMAND, "analyze", str(model), "-o", str(path), "--jobs", jobs, *words],
                measure.default_threads,
            )
    else:
        print("only weightwatcher's lines: this ww-static has no --randomize", file=sys.stderr)
    tables.opening(title + (", randomized spectra and Marchenko-Pastur fit" if randomize else ""))
    commands(lines, rounds)
    for jobs, path in ours.items():
        if path.exists() and theirs.exists():
            print(f"\nparity, --jobs {jobs}: {parity(path, theirs)}")
    tables.closing()


def offers(option: str) -> bool:
    """Whether `ww-static analyze` knows an option."""
    done = subprocess.run([COMMAND, "analyze", "--help"], check=True, capture_output=True, text=True, env=measure.wide())
    return option in done.stdout


def commands(lines: dict[str, tuple[list[str], measure.Environment]], rounds: int = 3) -> None:
    """Measures commands against the first of them; one row each, with the first line's figure over that of the row."""
    found = measured(
        [
            partial(measure.run, command, models.CACHE / f"command-{place}.log", environment)
            for place, (command, environment) in enumerate(lines.values())
        ],
        rounds,
    )
    first = found[0]
    tables.header(
        "command",
        "wall s",
        "wall ratio",
        "CPU s",
        "CPU ratio",
        "peak private MiB",
        "memory ratio",
        "RssAnon MiB",
        "processes",
        "runs",
        "exit",
    )
    for name, one in zip(lines, found, strict=True):
        tables.row(
            name, f"{one.wall:.3f}", f"**{first.wall / one.wall:.1f}**", f"{one.cpu:.3f}", f"{first.cpu / one.cpu:.1f}",
            f"{one.peak.once / measure.MIB:.0f}", f"{first.peak.once / max(one.peak.once, 1):.1f}", f"{one.peak.total / measure.MIB:.0f}",
            str(len(one.peak.shares)),
            str(one.rounds), str(one.exit_code),
        )  # fmt: skip


def measured(sides: Sequence[Callable[..., measure.Measurement]], rounds: int) -> list[measure.Measurement]:
    """One run of each side is watched for its memory; unless it takes too long to be repeated, its time is that of runs that are not."""
    found = [side() for side in sides]
    short = [place for place, one in enumerate(found) if one.wall <= _PATIENCE]
    timed = measure.alternating([partial(sides[place], sampled=False) for place in short], rounds)
    for place, one in zip(short, timed, strict=True):
        found[place] = replace(one, peak=found[place].peak, exit_code=max(one.exit_code, found[place].exit_code, key=abs))
    return found


def parity(ours: Path, theirs: Path) -> str:
    """Largest relative difference of alpha, xmin and D, and of every number that both sides report, over all matrices."""
    mine = {row["name"]: row for row in pq.read_table(ours).to_pylist() if row["has_esd"]}
    with theirs.open(newline="") as stream:
        other = {row["longname"].replace("/", "."): row for row in csv.DictReader(stream)}
    both = sorted(mine.keys() & other.keys())
    worst: dict[str, float] = {}
    for name in both:
        for column, text in other[name].items():
            value = mine[name].get(column)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and text:
                worst[column] = max(worst.get(column, 0.0), difference(value, float(text)))
    compared = {name: value for name, value in worst.items() if not name.startswith(_NOT_COMPARED)}
    shapes = all(worst.get(name) == 0.0 for name in _SIDES)
    places = sorted(compared.items(), key=lambda item: -item[1])[:3]
    fitted = sum(bool(other[name]["alpha"]) and mine[name]["alpha"] is not None for name in both)
    return (
        f"{len(both)} matrices on both sides{'' if shapes else ' OF DIFFERENT SHAPES'}, {len(mine.keys() - both)} only with "
        f"ww-static, {len(other.keys() - both)} only with weightwatcher; largest relative difference over {fitted} fits: "
        + ", ".join(f"{name} {worst.get(name, math.nan):.1e}" for name in _FIT)
        + f"; of {len(compared)} columns compared the worst are "
        + ", ".join(f"{name} {value:.1e}" for name, value in places)
    )


def difference(mine: float, other: float) -> float:
    """|mine - other| / |other|; over 1 where the other is 0."""
    return abs(mine - other) / (abs(other) or 1.0)
