"""Singular components taken out of a matrix by its eigenvectors: W - W V V^T, block of rows after block of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ww_static.spectral.bulk import bulk
from ww_static.spectral.eigenvectors import Eigenvectors
from ww_static.spectral.missing import Missing


@dataclass(frozen=True, slots=True)
class Cut:
    """What is left of W when some of its singular components are taken out.

    Attributes:
        V: right singular vectors, float64, shape (m, count), orthonormal columns: of those that go or of those that stay,
            whichever are fewer.
        stays: whether they are of those that stay.
        removed: sum of lambda of those that go, in the units of the eigenvalues it was made from.
    """

    V: NDArray[np.float64]
    stays: bool
    removed: float

    def apply(self, block: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same rows of what is left. float64, shape (k, m)."""
        inside = (block @ self.V) @ self.V.T
        return inside if self.stays else block - inside


def without_smallest(pairs: Eigenvectors, count: int) -> Cut:
    """W without its `count` smallest components: the best approximation of rank m - count (Eckart, Young 1936)."""
    return _cut(pairs, 0, count)


def without_largest(pairs: Eigenvectors, count: int) -> Cut:
    """W without its `count` largest components."""
    m = len(pairs.eigenvalues)
    return _cut(pairs, m - count, m)


def _cut(pairs: Eigenvectors, first: int, stop: int) -> Cut:
    removed = float(np.maximum(pairs.eigenvalues[first:stop], 0.0).sum())
    if 2 * (stop - first) <= len(pairs.eigenvalues):
        return Cut(pairs.V[:, first:stop].copy(), False, removed)
    kept = pairs.V[:, stop:] if first == 0 else pairs.V[:, :first]
    return Cut(kept.copy(), True, removed)


def trap_count(eigenvalues: NDArray[np.float64], n: int, matrices: int, floor: float) -> int | Missing:
    """How many eigenvalues of permuted matrices are above their Tracy-Widom edge (1 %), the edge of them as they are.

    Args:
        eigenvalues: float64, shape (m,), ascending, those of several matrices of one shape pooled.
        n: longer side of one matrix.
        matrices: how many are pooled.
        floor: of the eigenvalues.

    Returns:
        The count; or Missing: the reason of `bulk`.
    """
    found = bulk(eigenvalues, n, matrices, floor)
    return found if isinstance(found, Missing) else found.num_spikes
