"""Moments and counts of a tensor in one streaming pass: partial results of blocks are merged pairwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the record itself is read where numpy is not loaded
    import numpy as np
    from numpy.typing import NDArray

_PIECE = 2**14  # elements looked at together: what is made of them stays in cache, and needs no fresh pages


@dataclass(frozen=True, slots=True)
class Moments:
    """What one pass leaves behind; central sums of the finite elements, ddof 0.

    Attributes:
        count: elements, finite or not.
        finite: elements that are finite.
        zeros, nans, infinities: how many of each.
        low, high: extremes of the finite elements; inf and -inf when there is none.
        mean: mean of the finite elements.
        m2, m3, m4: sum of (x - mean)^2, ^3, ^4 over the finite elements.
    """

    count: int = 0
    finite: int = 0
    zeros: int = 0
    nans: int = 0
    infinities: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    mean: float = 0.0
    m2: float = 0.0
    m3: float = 0.0
    m4: float = 0.0

    @property
    def abs_max(self) -> float:
        """Largest |element| among the finite ones; 0 when there is none."""
        return max(abs(self.low), abs(self.high)) if self.finite else 0.0

    @property
    def mean_square(self) -> float:
        """Mean of the squares of the finite elements; 0 when there is none."""
        return self.mean * self.mean + self.m2 / self.finite if self.finite else 0.0

    @property
    def constant(self) -> bool:
        """All elements are finite and equal."""
        return self.finite == self.count > 0 and self.low == self.high


def moments(block: NDArray[np.float64]) -> Moments:
    """The moments of one block, float64, any shape."""
    import numpy as np

    x = block.reshape(-1)
    count = len(x)
    if count == 0:
        return Moments()
    low, high = float(x.min()), float(x.max())  # NaN in either when there is one anywhere
    nans = infinities = 0
    if not (np.isfinite(low) and np.isfinite(high)):
        nans, infinities = int(np.isnan(x).sum()), int(np.isinf(x).sum())
        x = x[np.isfinite(x)]
        if len(x) == 0:
            return Moments(count, 0, 0, nans, infinities)
        low, high = float(x.min()), float(x.max())
    zeros = len(x) - int(np.count_nonzero(x))
    with np.errstate(over="ignore", invalid="ignore"):
        mean = low if low == high else float(x.mean())
        m2, m3, m4 = _central_sums(x, mean)
    return Moments(count, len(x), zeros, nans, infinities, low, high, mean, m2, m3, m4)


def nonfinite(block: NDArray[Any]) -> Moments:
    """Only the counts of elements that are NaN or infinite in either part, of one block of complex numbers."""
    import numpy as np

    nan = np.isnan(block)
    return Moments(block.size, nans=int(nan.sum()), infinities=int((np.isinf(block) & ~nan).sum()))


def _central_sums(x: NDArray[np.float64], mean: float) -> tuple[float, float, float]:
    """Sums of (x - mean)^2, ^3, ^4."""
    import numpy as np

    buffers = np.empty((2, min(len(x), _PIECE)))
    m2 = m3 = m4 = 0.0
    for start in range(0, len(x), _PIECE):
        piece = x[start : start + _PIECE]
        deviation, squares = buffers[:, : len(piece)]
        np.subtract(piece, mean, out=deviation)
        np.multiply(deviation, deviation, out=squares)
        m2 += float(squares.sum())
        m3 += float(squares @ deviation)
        m4 += float(squares @ squares)
    return m2, m3, m4


def merged(a: Moments, b: Moments) -> Moments:
    """The moments of two blocks together. Source: Pebay 2008 (SAND2008-6212), eq. 2.1 and 3.1."""
    import numpy as np

    if a.finite == 0 or b.finite == 0:
        full = a if b.finite == 0 else b
        mean, m2, m3, m4 = full.mean, full.m2, full.m3, full.m4
        finite = full.finite
    else:
        na, nb = a.finite, b.finite
        finite = na + nb
        with np.errstate(over="ignore", invalid="ignore"):
            mean, m2, m3, m4 = _merged_sums(a, b, na, nb, finite)
    return Moments(
        a.count + b.count, finite, a.zeros + b.zeros, a.nans + b.nans, a.infinities + b.infinities,
        min(a.low, b.low), max(a.high, b.high), mean, m2, m3, m4,
    )  # fmt: skip


def _merged_sums(a: Moments, b: Moments, na: int, nb: int, n: int) -> tuple[float, float, float, float]:
    import numpy as np

    d = np.float64(b.mean - a.mean)
    m2 = a.m2 + b.m2 + d**2 * na * nb / n
    m3 = a.m3 + b.m3 + d**3 * na * nb * (na - nb) / n**2 + 3 * d * (na * b.m2 - nb * a.m2) / n
    m4 = (
        a.m4 + b.m4 + d**4 * na * nb * (na**2 - na * nb + nb**2) / n**3
        + 6 * d**2 * (na**2 * b.m2 + nb**2 * a.m2) / n**2 + 4 * d * (na * b.m3 - nb * a.m3) / n
    )  # fmt: skip
    return float(a.mean + d * nb / n), float(m2), float(m3), float(m4)
