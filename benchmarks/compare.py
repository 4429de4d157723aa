"""The tables against weightwatcher 0.7.7: end to end, spectra, fits, start-up; both sides in one run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import end, environment, esd, fits, measure, models, tables

_TABLES = ("end", "end-random", "gpt2", "gpt2-random", "esd", "fit", "start")
_DEFAULT = ("end", "esd", "fit", "start")
_GPT2 = "GPT-2-shaped checkpoint, 124 million float32 parameters"


def main() -> None:
    """Parses, runs the tables that were asked for, prints them as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", help=f"which of: {', '.join(_TABLES)} (without any: {', '.join(_DEFAULT)})")
    parser.add_argument("--peer-python", metavar="PATH", help="an interpreter that has weightwatcher, torch and safetensors")
    parser.add_argument(
        "--no-peer", action="store_true", help="compare spectra with numpy's SVD, leave the other peer lines out"
    )
    parser.add_argument("--model", type=Path, metavar="FILE", help="all-MiniLM-L6-v2 as safetensors, for `end` and `start`")
    parser.add_argument("--full", action="store_true", help="spectra with 4096 columns and up to 32000 rows too (minutes)")
    parser.add_argument("--shapes", nargs="+", type=_shape, metavar="NxM", help="spectra of these shapes only")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side; the medians are printed")
    parser.add_argument("--diffract", action="store_true", help="a column of diffract-core's ESD, singular vectors included")
    parser.add_argument(
        "--diffract-python", metavar="PATH", help="for it: an interpreter from 3.12 on, which gets an environment"
    )
    arguments = parser.parse_args()
    wanted = arguments.tables or _DEFAULT
    if unknown := set(wanted) - set(_TABLES):
        parser.error(f"unknown tables: {', '.join(sorted(unknown))}")
    models.CACHE.mkdir(parents=True, exist_ok=True)
    python = None if arguments.no_peer else environment.peer_python(arguments.peer_python)
    for table in wanted:
        if table == "esd":
            shapes = arguments.shapes or ((*esd.SHAPES, *esd.FULL_SHAPES) if arguments.full else esd.SHAPES)
            esd.spectra(_peers(python, arguments), shapes, arguments.rounds)
        elif table == "start":
            start_up(arguments.model, python, arguments.rounds)
        elif python is None or (table.startswith("end") and arguments.model is None):
            print(f"no table `{table}`: it needs {'weightwatcher' if python is None else '--model'}", file=sys.stderr)
        elif table == "fit":
            fits.fits(python)
        else:
            _end(table, arguments.model, python, arguments.rounds)


def _shape(text: str) -> tuple[int, int]:
    n, _, m = text.partition("x")
    return int(n), int(m)


def _peers(python: Path | None, arguments: argparse.Namespace) -> dict[str, tuple[Path, str]]:
    """The other sides of the spectra."""
    if python is None:
        peers = {"numpy SVD (stand-in)": (Path(sys.executable), "esd_stand_in")}
    else:
        peers = {"weightwatcher": (python, "esd_peer")}
    if arguments.diffract or arguments.diffract_python:
        diffract = environment.diffract_python(arguments.diffract_python)
        if diffract is None:
            peers["numpy SVD with vectors (what diffract-core calls)"] = (Path(sys.executable), "esd_vectors")
        else:
            peers["diffract-core"] = (diffract, "esd_diffract")
    return peers


def _end(table: str, model: Path | None, python: Path, rounds: int) -> None:
    randomize = table.endswith("-random")
    if table.startswith("gpt2"):
        path = models.written("gpt2-shaped.safetensors", models.gpt2(), "F32")
        end.end_to_end(_GPT2, path, python, randomize=randomize, rounds=rounds)
    elif model is not None:
        end.end_to_end("all-MiniLM-L6-v2", model, python, randomize=randomize, rounds=rounds)


def start_up(model: Path | None, python: Path | None, rounds: int) -> None:
    """Commands and imports that compute nothing; ratios are to the first line."""
    lines = {"`import weightwatcher`": [str(python), "-c", "import weightwatcher"]} if python else {}
    lines["`python -c pass`"] = [sys.executable, "-c", "pass"]
    lines["`import ww_static`"] = [sys.executable, "-c", "import ww_static"]
    lines["`ww-static --version`"] = [end.COMMAND, "--version"]
    if model is not None:
        lines["`ww-static describe` of MiniLM"] = [end.COMMAND, "describe", str(model)]
    tables.opening("start-up")
    end.commands({name: (command, measure.one_thread) for name, command in lines.items()}, rounds)
    tables.closing()


if __name__ == "__main__":
    main()
