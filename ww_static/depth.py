"""What the layers of one model say together: how alpha runs along the depth, and how much each could be pruned."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ww_static.rows import LayerRow

SPARSITY = 0.7  # share of all elements that the budget removes
SPREAD = 0.3  # how far the shares of layers lie from it, at most, relative


def correlation_flow(alphas: Sequence[float]) -> dict[str, Any]:
    """Slope of alpha against the place of its layer, by least squares, and roughness: the mean |difference| of neighbours.

    Args:
        alphas: in the order of the layers. Fewer than two have neither.
    """
    if len(alphas) < 2:
        return {"n": len(alphas), "slope": None, "roughness": None}
    roughness = statistics.fmean(abs(after - before) for before, after in pairwise(alphas))
    return {"n": len(alphas), "slope": statistics.linear_regression(range(len(alphas)), alphas).slope, "roughness": roughness}


def pruning_budget(rows: Sequence[LayerRow]) -> dict[str, Any] | None:
    """The share s = eta g of each layer's elements to prune: more where alpha_hill is larger, 70 % of all elements together.

    g = (a - min a)/(max a - min a) 2 e + 1 - e with e = 0.3, and eta such that sum n s = 0.7 sum n over layers of n elements, none pruned
    by more than all. Source: AlphaPruning, arXiv 2410.10912.

    Returns:
        The constants, eta, and the layers with their shares; None without two layers that have alpha_hill.
    """
    found = [(row, row.alpha_hill, (row.N or 0) * (row.M or 0) * (row.rf or 0)) for row in rows if row.alpha_hill is not None]
    if len(found) < 2:
        return None
    lowest, highest = (choose(alpha for _, alpha, _ in found) for choose in (min, max))
    width = highest - lowest
    weights = [(alpha - lowest) / width * 2 * SPREAD + 1 - SPREAD if width > 0 else 1.0 for _, alpha, _ in found]
    sizes = [size for _, _, size in found]
    eta = _eta(weights, sizes)
    layers = [
        {"name": row.name, "part": row.part, "elements": size, "alpha_hill": alpha, "share": min(1.0, eta * weight)}
        for (row, alpha, size), weight in zip(found, weights, strict=True)
    ]
    return {"sparsity": SPARSITY, "spread": SPREAD, "eta": eta, "layers": layers}


def _eta(weights: Sequence[float], sizes: Sequence[int]) -> float:
    """eta with sum n min(1, eta g) = SPARSITY sum n: layers that reach 1 leave the rest to the others."""
    eta, capped = 0.0, set[int]()
    while True:
        wanted = SPARSITY * sum(sizes) - sum(sizes[place] for place in capped)
        free = [place for place in range(len(sizes)) if place not in capped]
        eta = wanted / math.fsum(sizes[place] * weights[place] for place in free)
        over = {place for place in free if eta * weights[place] > 1}
        if not over:
            return eta
        capped |= over
