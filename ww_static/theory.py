"""The laws of noise as numbers: Marchenko-Pastur, Tracy-Widom, and what one singular value adds (Baik, Ben Arous, Peche)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ww_static.errors import UsageError
from ww_static.listing import Cell, Listing, numbers
from ww_static.spectral import hill, marchenko_pastur, spiked, tracy_widom

LEVELS = (0.05, 0.01, 0.001)
MOST_POINTS = 100_000
MOST_ASPECT = 1e6  # beyond it the distribution loses digits


def mp(*, q: float, sigma: float = 1.0, n_points: int = 100) -> Listing:
    """The Marchenko-Pastur law of the eigenvalues of W^T W / N: edges, mean, median, and density and distribution at points.

    Args:
        q: aspect ratio N/M, at least 1.
        sigma: standard deviation of the elements of W.
        n_points: from the lower to the upper edge, evenly spaced, both included.

    Returns:
        Facts ``edge_lo``, ``edge_hi``, ``mean``, ``median``, ``mean_ln`` (of ln x), ``alpha_hill_null``; columns ``x``, ``density``,
        ``cdf``. The density is None at x = 0, where it is infinite (q = 1).

    Raises:
        UsageError: an argument means nothing.
    """
    c, variance = 1 / _aspect(q), _deviation(sigma) ** 2
    if type(n_points) is not int or not 2 <= n_points <= MOST_POINTS:
        raise UsageError(f"--n-points is a number from 2 to {MOST_POINTS}, not {n_points!r}")
    low, high = marchenko_pastur.edges(c)
    x = np.linspace(low, high, n_points)
    density = np.zeros(n_points)
    positive = x > 0
    density[positive] = marchenko_pastur.density(x[positive], c) / variance
    (median,) = marchenko_pastur.quantiles((0.5,), c)
    facts: dict[str, Cell] = {
        "law": "Marchenko-Pastur", "of": "eigenvalues of W^T W / N", "q": float(q), "sigma": float(sigma),
        "edge_lo": variance * low, "edge_hi": variance * high, "mean": variance, "median": variance * float(median),
        "mean_ln": marchenko_pastur.mean_log(c) + math.log(variance), "alpha_hill_null": hill.hill_of_noise(q),
    }  # fmt: skip
    shown = [float(value) if there else None for value, there in zip(density, positive, strict=True)]
    rows = zip(map(float, variance * x), shown, map(float, marchenko_pastur.distribution(x, c)), strict=True)
    return Listing(tuple(facts.items()), ("x", "density", "cdf"), tuple(rows))


def tw(*, n: int, m: int, sigma: float = 1.0, level: str | Sequence[float] = LEVELS) -> Listing:
    """The Tracy-Widom law of the largest eigenvalue of W^T W for noise W: where it lies, and what it exceeds how rarely.

    Args:
        n, m: sides of W, in either order, at least 2.
        sigma: standard deviation of the elements.
        level: probabilities of the upper tail, each at most 0.1.

    Returns:
        Facts ``mu``, ``tau`` (center and width), ``mean``, ``sd``, ``mp_edge_hi`` (the limit); columns ``level``, ``z`` (quantile of the
        law), ``edge`` = sigma^2 (mu + z tau), and ``edge_1_N`` = edge/N.

    Raises:
        UsageError: an argument means nothing.
    """
    for name, side in (("n", n), ("m", m)):
        if type(side) is not int or not 2 <= side <= 10**12:
            raise UsageError(f"--{name} is a number from 2 on, not {side!r}")
    n, m = max(n, m), min(n, m)
    variance = _deviation(sigma) ** 2
    levels = numbers(level, "level")
    for one in levels:
        if not 1e-12 <= one <= tracy_widom.MOST:
            raise UsageError(f"--level is a probability of the upper tail, from 1e-12 to {tracy_widom.MOST}, not {one:g}")
    mu, tau = variance * tracy_widom.center(n, m), variance * tracy_widom.width(n, m)
    facts: dict[str, Cell] = {
        "law": "Tracy-Widom, beta = 1", "of": "largest eigenvalue of W^T W", "n": n, "m": m, "sigma": float(sigma),
        "mu": mu, "tau": tau, "mean": mu + tracy_widom.MEAN * tau, "sd": tracy_widom.SD * tau,
        "mp_edge_hi": variance * n * marchenko_pastur.edges(m / n)[1],
    }  # fmt: skip
    edges = [(one, tracy_widom.quantile(one), variance * tracy_widom.edge(n, m, one)) for one in levels]
    rows = tuple((one, z, edge, edge / n) for one, z, edge in edges)
    return Listing(tuple(facts.items()), ("level", "z", "edge", "edge_1_N"), rows)


def bbp(*, q: float, theta: str | Sequence[float]) -> Listing:
    """What a singular value theta adds to noise: G + theta u v^T, elements of G of variance 1/N.

    Args:
        q: aspect ratio N/M, at least 1.
        theta: strengths, positive.

    Returns:
        Facts ``threshold`` = q^(-1/4) and ``edge_hi`` of the bulk; columns ``theta``, ``eigenvalue`` of W^T W above the bulk (None: there
        is none), ``overlap_M`` and ``overlap_N``: squared cosines between its vectors and v, u (0 where there is none).

    Raises:
        UsageError: an argument means nothing.
    """
    c = 1 / _aspect(q)
    strengths = numbers(theta, "theta")
    if not all(0 < one < 1e100 for one in strengths):
        raise UsageError(f"--theta are positive numbers, not {theta!r}")
    least = spiked.threshold(c)
    facts: dict[str, Cell] = {
        "law": "Baik, Ben Arous, Peche", "of": "eigenvalues of W^T W, W = G + theta u v^T, variance of G 1/N", "q": float(q),
        "threshold": least, "edge_hi": marchenko_pastur.edges(c)[1],
    }  # fmt: skip
    rows = tuple(_spike(np.float64(one), c) if one > least else (one, None, 0.0, 0.0) for one in strengths)
    return Listing(tuple(facts.items()), ("theta", "eigenvalue", "overlap_M", "overlap_N"), rows)


def _spike(theta: np.float64, c: float) -> tuple[Cell, ...]:
    t: NDArray[np.float64] = np.asarray(theta)
    on_M, on_N = spiked.overlaps(t, c)
    return float(theta), float(spiked.position(t, c)), float(on_M), float(on_N)


def _aspect(q: float) -> float:
    """A ratio of sides.

    Raises:
        UsageError: it is below 1, or none.
    """
    if not 1 <= q <= MOST_ASPECT:
        raise UsageError(f"--q is N/M, the longer side over the shorter one: a number from 1 to {MOST_ASPECT:g}, not {q:g}")
    return q


def _deviation(sigma: float) -> float:
    if not 1e-100 <= sigma <= 1e100:
        raise UsageError(f"--sigma is a positive standard deviation, not {sigma:g}")
    return sigma
