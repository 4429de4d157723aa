"""What every table begins with: the machine, its load and the speed of matrix products in this run; and Markdown rows."""

from __future__ import annotations

from dataclasses import dataclass

from threadpoolctl import threadpool_info

from benchmarks import calls, measure, models

_GEMM = (3072, 3072)


@dataclass(frozen=True, slots=True)
class Rates:
    """Floating-point operations per CPU second of matrix products, one thread, n = 3072.

    Attributes:
        double: of float64.
        single: of float32.
    """

    double: float
    single: float


def opening(title: str) -> Rates:
    """Prints a heading and where and when this was measured; the rates of products are of this moment."""
    import numpy  # noqa: F401  (its BLAS is what is named)

    models.CACHE.mkdir(parents=True, exist_ok=True)
    with calls.own(models.CACHE / "rates.err") as ours:
        double, single = (calls.alternating([(ours, name)], _GEMM)[0].cpu for name in ("dgemm", "sgemm"))
    flops = 2 * _GEMM[0] ** 3
    rates = Rates(flops / double, flops / single)
    blas: dict[str, object] = next((one for one in threadpool_info() if one["user_api"] == "blas"), {})
    print(f"\n### {title}\n\n{measure.machine()}; {blas.get('internal_api')} {blas.get('version')}, ", end="")
    print(f"core {blas.get('architecture')}; dgemm {rates.double / 1e9:.1f}, sgemm {rates.single / 1e9:.1f} GF/s ", end="")
    print(f"(n = {_GEMM[0]}, one thread, CPU time)\n", flush=True)
    return rates


def header(*names: str) -> None:
    """Prints the head of a table."""
    row(*names)
    print("|" + "---|" * len(names))


def row(*cells: str) -> None:
    """Prints one line of a table."""
    print("| " + " | ".join(cells) + " |", flush=True)


def closing() -> None:
    """Prints the load at the end: what ran beside a table is part of it."""
    print(f"\nload at the end: {measure.machine()}", flush=True)
