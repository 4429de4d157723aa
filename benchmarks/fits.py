"""The power-law fit of n eigenvalues: `ww_static.tail` against WWFit, and against powerlaw where it is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks import calls, measure, models, tables

_TAILS = (64, 512, 4096, 16384)
_POWERLAW_MOST = 4096  # above, one fit by powerlaw takes a quarter of a minute
_FAMILIES = {
    "pareto": "pure power law", "bulk": "uniform bulk, Pareto fifth", "noise": "Gaussian noise", "student": "heavy elements",
}  # fmt: skip


def fits(python: Path) -> None:
    """The table."""
    with calls.Side(python, models.CACHE / "peer.err") as other:
        version = ".".join(f"{part:g}" for part in other.call("powerlaw_version", (0, 0)).values)
    powerlaw = f"powerlaw {version}" if version else "powerlaw"
    tables.opening("power-law fit of n eigenvalues")
    tables.header(
        "values", "n", "full distances", "CPU ms, ours", "CPU ms, WWFit", "ratio to WWFit", f"CPU ms, {powerlaw}",
        f"ratio to {powerlaw}", "peak MiB, ours", "peak MiB, WWFit", "largest relative difference",
    )  # fmt: skip
    for family, title in _FAMILIES.items():
        for n in _TAILS:
            tables.row(title, str(n), *_fit(python, family, n, with_powerlaw=bool(version) and n <= _POWERLAW_MOST))
    tables.closing()


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
