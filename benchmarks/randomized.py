"""What a randomized spectrum costs, stage by stage: permutation, largest eigenvalue, Marchenko-Pastur fit; and a whole replica."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks import calls, environment, models, tables

_SHAPES = ((768, 768), (2304, 768), (4096, 4096))
_NEEDED = ("permutation", "upper", "mp_fit", "tracy_widom")


def main() -> int:
    """Parses, runs, prints; 2 when this ww_static has no randomized spectra."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", metavar="PATH", help="an interpreter that has weightwatcher and torch")
    parser.add_argument("--no-peer", action="store_true", help="leave weightwatcher's columns out")
    parser.add_argument("--shapes", nargs="+", type=_shape, default=_SHAPES, metavar="NxM", help="N >= M; Gaussian elements")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side; the medians are printed")
    arguments = parser.parse_args()
    if missing := [name for name in _NEEDED if find_spec(f"ww_static.spectral.{name}") is None]:
        print(f"this ww_static has no randomized spectra: no ww_static.spectral.{missing[0]}", file=sys.stderr)
        return 2
    python = None if arguments.no_peer else environment.peer_python(arguments.peer_python)
    tables.opening("randomized spectra, stage by stage")
    permutations(arguments.shapes, arguments.rounds)
    largest(arguments.shapes, arguments.rounds)
    if python is not None:
        against(python, "Marchenko-Pastur fit", ("mp_ours", "mp_peer"), "sigma_mp", arguments.shapes, arguments.rounds)
        against(
            python, "one replica, its upper end (weightwatcher: its whole spectrum)", ("replica_ours", "replica_peer"),
            "its largest eigenvalue, other draws", arguments.shapes, arguments.rounds,
        )  # fmt: skip
    tables.closing()
    return 0


def _shape(text: str) -> tuple[int, int]:
    n, _, m = text.partition("x")
    return int(n), int(m)


def permutations(shapes: Sequence[tuple[int, int]], rounds: int) -> None:
    """The stored values in random order, against `numpy.random.Generator.permutation`."""
    print("#### permutation of the stored values\n")
    tables.header(
        "N x M", "bits", "CPU s, ours", "CPU s, Generator.permutation", "ours over it", "peak MiB, ours", "peak MiB, numpy"
    )
    for shape in shapes:
        for bits in (16, 32):
            mine, other = _taken([(None, f"permute_ours {bits}"), (None, f"permute_numpy {bits}")], shape, rounds)
            tables.row(
                _words(shape), str(bits), f"{mine.cpu:.4f}", f"{other.cpu:.4f}", f"**{mine.cpu / other.cpu:.2f}**",
                f"{mine.rise / 2**20:.0f}", f"{other.rise / 2**20:.0f}",
            )  # fmt: skip


def largest(shapes: Sequence[tuple[int, int]], rounds: int) -> None:
    """The largest eigenvalue and the count above an edge, against a full second spectrum."""
    print("\n#### upper end: largest eigenvalue and count above the edge\n")
    tables.header("N x M", "CPU s, upper end", "CPU s, full spectrum", "ratio", "relative difference of lambda_max")
    for shape in shapes:
        mine, other = _taken([(None, "upper_ours"), (None, "esd_ours")], shape, rounds)
        tables.row(
            _words(shape), f"{mine.cpu:.4f}", f"{other.cpu:.4f}", f"**{other.cpu / mine.cpu:.1f}**",
            f"{abs(mine.values[0] / other.values[-1] - 1):.1e}",
        )  # fmt: skip


def against(
    python: Path, title: str, tasks: tuple[str, str], compared: str, shapes: Sequence[tuple[int, int]], rounds: int
) -> None:
    """A task of ours against one of weightwatcher's, and how far the numbers are apart."""
    print(f"\n#### {title}\n")
    tables.header("N x M", "CPU ms, ours", "CPU ms, weightwatcher", "ratio", f"relative difference of {compared}")
    for shape in shapes:
        mine, other = _taken([(None, tasks[0]), (python, tasks[1])], shape, rounds)
        apart = float(np.max(np.abs(mine.values / other.values - 1)))
        tables.row(
            _words(shape), f"{1e3 * mine.cpu:.2f}", f"{1e3 * other.cpu:.1f}", f"**{other.cpu / mine.cpu:.1f}**", f"{apart:.1e}"
        )


def _taken(sides: Sequence[tuple[Path | None, str]], shape: tuple[int, int], rounds: int) -> list[calls.Timed]:
    """Each side in a process of its own; None is the interpreter that runs this."""
    with ExitStack() as stack:
        opened = [
            (stack.enter_context(calls.Side(python or Path(sys.executable), models.CACHE / f"side-{place}.err")), task)
            for place, (python, task) in enumerate(sides)
        ]
        return calls.alternating(opened, shape, rounds)


def _words(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]}"


if __name__ == "__main__":
    sys.exit(main())
