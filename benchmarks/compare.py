"""The tables against weightwatcher 0.7.7: end to end, spectra, fits, start-up; both sides in one run, one BLAS thread."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks import calls, environment, measure, models

_COMMAND = str(Path(sys.executable).parent / "ww-static")
_SHAPES = ((768, 768), (1024, 1024), (2304, 768), (2048, 2048))
_FULL_SHAPES = ((4096, 4096), (32000, 4096))
_TAILS = (64, 512, 4096, 16384)
_POWERLAW_MOST = 4096  # above, one fit by powerlaw takes a quarter of a minute
_FAMILIES = {
    "pareto": "pure power law", "bulk": "uniform bulk, Pareto fifth", "noise": "Gaussian noise", "student": "heavy elements",
}  # fmt: skip
_GEMM = (3072, 3072)
_TABLES = ("end", "esd", "fit", "start")


@dataclass(frozen=True, slots=True)
class Peer:
    """The other side.

    Attributes:
        python: its interpreter; None when only the numpy stand-in is compared with.
        name: what the tables call it.
    """

    python: Path | None
    name: str


def main() -> None:
    """Parses, runs the tables that were asked for, prints them as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", help=f"which of: {', '.join(_TABLES)} (default: all)")
    parser.add_argument("--peer-python", metavar="PATH", help="an interpreter that has weightwatcher, torch and safetensors")
    parser.add_argument(
        "--no-peer", action="store_true", help="compare spectra with numpy's SVD, leave the other peer lines out"
    )
    parser.add_argument("--model", type=Path, metavar="FILE", help="all-MiniLM-L6-v2 as safetensors, for `end` and `start`")
    parser.add_argument("--full", action="store_true", help="spectra of 4096 x 4096 and 32000 x 4096 too (minutes)")
    parser.add_argument("--shapes", nargs="+", type=_shape, metavar="NxM", help="spectra of these shapes only")
    arguments = parser.parse_args()
    wanted = arguments.tables or _TABLES
    if unknown := set(wanted) - set(_TABLES):
        parser.error(f"unknown tables: {', '.join(sorted(unknown))}")
    models.CACHE.mkdir(parents=True, exist_ok=True)
    python = None if arguments.no_peer else environment.peer_python(arguments.peer_python)
    peer = Peer(python, "weightwatcher" if python else "numpy SVD (stand-in)")
    print(f"machine: {measure.machine()}; one BLAS thread on both sides", flush=True)
    if "end" in wanted and not (arguments.model and python):
        print("no end-to-end table: it needs --model and weightwatcher", file=sys.stderr)
    elif "end" in wanted and arguments.model and python:
        end_to_end(arguments.model, python)
    if "esd" in wanted:
        spectra(peer, arguments.shapes or ((*_SHAPES, *_FULL_SHAPES) if arguments.full else _SHAPES))
    if "fit" in wanted and python:
        fits(python)
    if "start" in wanted:
        start_up(arguments.model, python)
    print(f"\nload at the end: {measure.machine()}")


def _shape(text: str) -> tuple[int, int]:
    n, _, m = text.partition("x")
    return int(n), int(m)


def end_to_end(model: Path, python: Path) -> None:
    """From process start to results on disk, and whether both sides wrote the same alpha."""
    ours, theirs = models.CACHE / "ours.parquet", models.CACHE / "theirs.csv"
    script = Path(__file__).with_name("peer_script.py")
    command = [_COMMAND, "analyze", str(model), "-o", str(ours), "--jobs"]
    lines = {
        "weightwatcher script": [str(python), str(script), str(model), str(theirs)],
        "ww-static analyze --jobs 1": [*command, "1"],
        "ww-static analyze --jobs auto": [*command, "auto"],
    }
    _commands("end to end, process start to results written", lines)
    print(f"\nparity: {parity(ours, theirs)}", flush=True)


def parity(ours: Path, theirs: Path) -> str:
    """Largest relative difference of alpha, and of every number both sides report, over the layers both fitted."""
    mine = {row["name"]: row for row in pq.read_table(ours).to_pylist() if row["alpha"] is not None}
    with theirs.open(newline="") as stream:
        other = {row["longname"].replace("/", "."): row for row in csv.DictReader(stream) if row["alpha"]}
    both = mine.keys() & other.keys()
    worst: dict[str, float] = {}
    for name in both:
        for column, text in other[name].items():
            value = mine[name].get(column)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and text:
                difference = abs(value - float(text)) / (abs(float(text)) or 1.0)
                worst[column] = max(worst.get(column, 0.0), difference)
    places = sorted(worst.items(), key=lambda item: -item[1])[:3]
    return (
        f"alpha of {len(both)} layers, largest relative difference {worst.get('alpha', float('nan')):.1e}; "
        f"only ww-static: {len(mine.keys() - both)}, only weightwatcher: {len(other.keys() - both)}; "
        f"{len(worst)} columns shared, the worst are " + ", ".join(f"{column} {value:.1e}" for column, value in places)
    )


def spectra(peer: Peer, shapes: Sequence[tuple[int, int]]) -> None:
    """The ESD of one float32 matrix: against a values-only float64 SVD, and against the speed of matrix products."""
    with calls.own(models.CACHE / "ours.err") as ours:
        double, single = (calls.alternating([(ours, name)], _GEMM)[0].cpu for name in ("dgemm", "sgemm"))
    flops = 2 * _GEMM[0] ** 3
    print(f"\n### ESD of one float32 matrix\n\nBLAS limit: dgemm {flops / double / 1e9:.1f} GF/s, ", end="")
    print(f"sgemm {flops / single / 1e9:.1f} GF/s (n = {_GEMM[0]}, one thread, CPU time)\n")
    _header(
        "N x M", "CPU s, ours", f"CPU s, {peer.name}", "CPU ratio", "wall ratio", "ours, x of the gemm bound",
        "peer, x of the gemm bound", "peak MiB, ours", "peak MiB, peer", "memory ratio", "largest error / lambda_max",
    )  # fmt: skip
    for n, m in shapes:
        mine, theirs = _pair(
            peer.python or Path(sys.executable), "esd_ours", "esd_peer" if peer.python else "esd_stand_in", (n, m)
        )
        bound = (n * m * m + 4 / 3 * m**3) / (flops / double)
        error = float(np.max(np.abs(mine.values - theirs.values)) / theirs.values[-1])
        _row(
            f"{n} x {m}", f"{mine.cpu:.3f}", f"{theirs.cpu:.3f}", f"**{theirs.cpu / mine.cpu:.2f}**",
            f"{theirs.wall / mine.wall:.2f}", f"{mine.cpu / bound:.2f}", f"{theirs.cpu / bound:.2f}",
            f"{mine.rise / measure.MIB:.0f}", f"{theirs.rise / measure.MIB:.0f}", f"{theirs.rise / max(mine.rise, 1):.1f}",
            f"{error:.1e}",
        )  # fmt: skip
    _stages([shape for shape in shapes if shape[0] == shape[1]], flops / double)


def _stages(shapes: Sequence[tuple[int, int]], rate: float) -> None:
    """The two stages of our ESD alone: W^T W as a share of the speed of products, eigenvalues as a multiple of their bound."""
    print("\n### the two stages of ours\n")
    _header("n", "CPU s, W^T W", "share of dgemm speed (N M^2)", "CPU s, eigenvalues", "x of 4/3 n^3 at dgemm speed")
    for n, m in shapes:
        with calls.own(models.CACHE / "ours.err") as ours:
            products, values = calls.alternating([(ours, "gram_ours"), (ours, "eig_ours")], (n, m))
        _row(
            str(m), f"{products.cpu:.3f}", f"{n * m * m / rate / products.cpu:.2f}", f"{values.cpu:.3f}",
            f"{values.cpu / (4 / 3 * m**3 / rate):.2f}",
        )  # fmt: skip


def _pair(python: Path, task: str, peer_task: str, shape: tuple[int, int]) -> list[calls.Timed]:
    """A call on both sides, in new processes: what an allocator keeps from an earlier shape would hide a peak."""
    with calls.own(models.CACHE / "ours.err") as ours, calls.Side(python, models.CACHE / "peer.err") as other:
        return calls.alternating([(ours, task), (other, peer_task)], shape)


def fits(python: Path) -> None:
    """The power-law fit of n eigenvalues: `ww_static.tail` against WWFit, and against powerlaw where it is installed."""
    with calls.Side(python, models.CACHE / "peer.err") as other:
        version = ".".join(f"{part:g}" for part in other.call("powerlaw_version", (0, 0)).values)
    powerlaw = f"powerlaw {version}" if version else "powerlaw"
    print("\n### power-law fit of n eigenvalues\n")
    _header(
        "values", "n", "full distances", "CPU ms, ours", "CPU ms, WWFit", "ratio to WWFit", f"CPU ms, {powerlaw}",
        f"ratio to {powerlaw}", "peak MiB, ours", "peak MiB, WWFit", "largest relative difference",
    )  # fmt: skip
    for family, title in _FAMILIES.items():
        for n in _TAILS:
            _row(title, str(n), *_fit(python, family, n, with_powerlaw=bool(version) and n <= _POWERLAW_MOST))


def _fit(python: Path, family: str, n: int, *, with_powerlaw: bool) -> list[str]:
    """The cells of one line."""
    with calls.own(models.CACHE / "ours.err") as ours, calls.Side(python, models.CACHE / "peer.err") as other:
        sides = [(ours, f"fit_ours {family}"), (other, f"fit_peer {family}")]
        mine, *peers = calls.alternating([*sides, (other, f"fit_powerlaw {family}")] if with_powerlaw else sides, (n, 1))
        evaluated, admissible = ours.call(f"fit_count {family}", (n, 1)).values
    difference = max(float(np.max(np.abs(mine.values / peer.values - 1))) for peer in peers)
    ratios = [cell for peer in peers for cell in (f"{1e3 * peer.cpu:.2f}", f"**{peer.cpu / mine.cpu:.1f}**")]
    return [
        f"{evaluated:.0f} of {admissible:.0f}", f"{1e3 * mine.cpu:.3f}", *ratios, *(() if with_powerlaw else ("-", "-")),
        f"{mine.rise / measure.MIB:.1f}", f"{peers[0].rise / measure.MIB:.1f}", f"{difference:.1e}",
    ]  # fmt: skip


def start_up(model: Path | None, python: Path | None) -> None:
    """Commands and imports that compute nothing; the first line is the interpreter alone."""
    lines = {"import weightwatcher": [str(python), "-c", "import weightwatcher"]} if python else {}
    lines["python -c pass"] = [sys.executable, "-c", "pass"]
    lines["import ww_static"] = [sys.executable, "-c", "import ww_static"]
    lines["ww-static --version"] = [_COMMAND, "--version"]
    if model is not None:
        lines["ww-static describe MiniLM"] = [_COMMAND, "describe", str(model)]
    _commands("start-up", lines)


def _commands(title: str, lines: dict[str, list[str]]) -> None:
    """Measures commands against the first of them."""
    logs = [models.CACHE / f"{title.split()[0]}-{place}.log" for place in range(len(lines))]
    sides = [partial(measure.run, command, log) for command, log in zip(lines.values(), logs, strict=True)]
    found = measure.alternating(sides)
    print(f"\n### {title}\n")
    _header("command", "CPU s", "CPU ratio", "wall s", "wall ratio", "peak private MiB", "memory ratio", "exit")
    for name, one in zip(lines, found, strict=True):
        _row(
            name, f"{one.cpu:.3f}", f"**{found[0].cpu / one.cpu:.1f}**", f"{one.wall:.3f}",
            f"{found[0].wall / one.wall:.1f}", f"{one.peak.total / measure.MIB:.0f}",
            f"{found[0].peak.total / max(one.peak.total, 1):.1f}", str(one.exit_code),
        )  # fmt: skip


def _header(*names: str) -> None:
    _row(*names)
    _row(*("---" for _ in names))


def _row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
