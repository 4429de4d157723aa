"""How CPU seconds grow: with the size of a matrix, with the number of layers; and what that means for models of 1B to 70B."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import calls, end, esd, measure, models, shapes, tables

_LARGEST = 8192
_SMALLEST = 256
_COUNTS = (10, 100, 1000)
_CHECKS = ((4096, 1024), (11008, 2048))  # tall shapes on which the model is tried
_READ_SQUARES = 8  # tensors of 4096 x 4096 to read


@dataclass(frozen=True, slots=True)
class Square:
    """CPU seconds of one square of Gaussian elements.

    Attributes:
        products: of X = W^T W.
        values: of the eigenvalues of X.
        whole: of `ww_static.spectrum`, which may refine the smallest singular values as well.
    """

    products: float
    values: float
    whole: float


@dataclass(frozen=True, slots=True)
class Costs:
    """What this run measured.

    Attributes:
        rates: of matrix products.
        squares: by their side.
        read: CPU seconds per element of reading, hashing and counting it (BF16).
        start: CPU seconds of a run that finds little to do.
    """

    rates: tables.Rates
    squares: dict[int, Square]
    read: float
    start: float

    def products(self, n: int, m: int) -> float:
        """Seconds of W^T W: N M^2 operations at the speed of the nearest size that was measured."""
        near = self._near(m)
        return self.squares[near].products * n * m**2 / near**3

    def values(self, n: int, m: int) -> float:
        """Seconds of the eigenvalues: M^3 operations at that speed; a square refines its smallest values besides."""
        near = self._near(m)
        one = self.squares[near]
        return (one.values if n > m else max(one.whole - one.products, one.values)) * (m / near) ** 3

    def _near(self, m: int) -> int:
        return min(self.squares, key=lambda size: abs(math.log(size / m)))


def main() -> None:
    """Parses, runs, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=_LARGEST, help=f"columns of the largest square (default {_LARGEST})")
    parser.add_argument(
        "--counts", nargs="*", type=int, default=_COUNTS, help="numbers of layers of 256 x 256; none: no such table"
    )
    parser.add_argument("--no-models", action="store_true", help="without the computed costs of 1B, 7B and 70B")
    arguments = parser.parse_args()
    sizes = [_SMALLEST * 2**step for step in range(int(math.log2(arguments.largest / _SMALLEST)) + 1)]
    rates, squares = by_size(sizes)
    if arguments.counts:
        by_count(arguments.counts)
    if not arguments.no_models:
        of_models(Costs(rates, squares, *_reading()))
    tables.closing()


def by_size(sizes: Sequence[int]) -> tuple[tables.Rates, dict[int, Square]]:
    """Squares of Gaussian float32 elements: `ww_static.spectrum`, and its two stages alone."""
    rates = tables.opening("CPU seconds against n, n x n")
    squares: dict[int, Square] = {}
    tables.header(
        "n", "CPU s", "exponent", "x of the gemm bound", "peak MiB", "CPU s, W^T W", "share of dgemm speed", "CPU s, eigenvalues",
        "exponent", "kappa",
    )  # fmt: skip
    for n in sizes:
        with calls.own(models.CACHE / "ours.err") as ours:
            found = calls.alternating([(ours, "esd_ours")], (n, n), 1)[0]
        one = squares[n] = Square(*esd.stage_seconds(n, n, 1), found.cpu)
        half = squares.get(n // 2)
        tables.row(
            str(n), f"{one.whole:.4f}", _exponent(one.whole, half.whole) if half else "",
            f"{one.whole * rates.double / (7 / 3 * n**3):.2f}", f"{found.rise / measure.MIB:.0f}", f"{one.products:.4f}",
            f"{n**3 / rates.double / one.products:.2f}", f"{one.values:.4f}",
            _exponent(one.values, half.values) if half else "", f"{one.values * rates.double / n**3:.2f}",
        )  # fmt: skip
    print(
        "\nThe bound: 7/3 n^3 operations at the dgemm rate. The exponent is log2 of the time over that of half the size. kappa: "
        "the eigenvalues take as long as kappa n^3 operations of a product (4/3 would be the limit). The whole is more than "
        "the two stages where the smallest singular values are refined."
    )
    return rates, squares


def _exponent(seconds: float, of_half: float) -> str:
    return f"{math.log2(seconds / of_half):.2f}"


def by_count(counts: Sequence[int]) -> None:
    """Files of many tensors of 256 x 256: one worker, and as many as there are processors."""
    tables.opening("CPU seconds against the number of layers, 256 x 256 each, BF16")
    tables.header("layers", "--jobs", "CPU s", "CPU ms per further layer", "wall s", "peak private MiB", "exit")
    for jobs in ("1", "auto"):
        found = [_analyzed(count, jobs) for count in counts]
        for place, (count, one) in enumerate(zip(counts, found, strict=True)):
            rise = (one.cpu - found[place - 1].cpu) / (count - counts[place - 1]) if place else math.nan
            tables.row(
                str(count), jobs, f"{one.cpu:.2f}", f"{rise * 1e3:.2f}" if place else "", f"{one.wall:.2f}",
                f"{one.peak.total / measure.MIB:.0f}", str(one.exit_code),
            )  # fmt: skip


def _analyzed(count: int, jobs: str, *words: str) -> measure.Measurement:
    path = models.written(f"small-{count}.safetensors", models.small(count))
    out = models.CACHE / "scaling.parquet"
    command = [end.COMMAND, "analyze", str(path), "-o", str(out), "--jobs", jobs, *words]
    return measure.run(command, models.CACHE / "scaling.log")


def of_models(costs: Costs) -> None:
    """What models of 1B, 7B and 70B would take: computed, from what this run measured."""
    print("\n### The cost model on tall matrices: measured against computed\n")
    tables.header("N x M", "CPU s, measured", "CPU s, computed", "measured over computed")
    for n, m in _CHECKS:
        with calls.own(models.CACHE / "ours.err") as ours:
            found = calls.alternating([(ours, "esd_ours")], (n, m), 1)[0].cpu
        computed = costs.products(n, m) + costs.values(n, m)
        tables.row(f"{n} x {m}", f"{found:.3f}", f"{computed:.3f}", f"{found / computed:.2f}")
    print(
        f"\n### What large models would take: computed, not measured\n\nMeasured in this run: the table by size, "
        f"{costs.read * 1e9:.1f} CPU ns per BF16 element for reading, hashing and statistics, {costs.start:.2f} CPU s for a start. "
        f"Computed: N M^2 and M^3 operations at the measured speed of the nearest size (up to M = {max(costs.squares)}). "
        "No such model was run. One BLAS thread per worker; two workers take half of the minutes on two processors.\n"
    )
    tables.header(
        "model", "matrices", "elements", "CPU s reading", "CPU s W^T W", "CPU s eigenvalues", "CPU minutes",
        "CPU minutes at the gemm bound",
    )  # fmt: skip
    for name, parts in shapes.MODELS.items():
        numbers = sum(one.numbers for one in parts)
        products = sum(one.count * costs.products(one.n, one.m) for one in parts)
        values = sum(one.count * costs.values(one.n, one.m) for one in parts)
        bound = sum(one.count * esd.operations(one.n, one.m) for one in parts) / costs.rates.double
        tables.row(
            name, shapes.words(parts), f"{numbers / 1e9:.2f}e9", f"{numbers * costs.read:.0f}", f"{products:.0f}",
            f"{values:.0f}", f"{(costs.start + numbers * costs.read + products + values) / 60:.1f}", f"{bound / 60:.1f}",
        )  # fmt: skip


def _reading() -> tuple[float, float]:
    """CPU seconds per BF16 element for reading, hashing and statistics, and of a run that does little else."""
    words = ("--max-evals", "1")  # every tensor is surveyed, none has a spectrum
    little = _analyzed(1, "1", *words)
    path = models.written(f"squares-{_READ_SQUARES}.safetensors", models.one_tall_and_squares(_READ_SQUARES)[1:])
    command = [end.COMMAND, "analyze", str(path), "-o", str(models.CACHE / "scaling.parquet"), "--jobs", "1", *words]
    found = measure.alternating([lambda: measure.run(command, models.CACHE / "scaling.log")])[0]
    return (found.cpu - little.cpu) / (_READ_SQUARES * 4096**2), little.cpu


if __name__ == "__main__":
    main()
