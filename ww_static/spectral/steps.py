"""The steps of a quantized weight, found in its values: how far apart neighbouring levels are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def squared_steps(block: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the slices along each axis of the squared smallest difference of two values of the slice.

    Where every slice along an axis has a scale of its own, that difference is its step, if it has two neighbouring codes.
    Where a slice mixes scales it is smaller. So the largest of these means is the mean squared step, or less.

    Args:
        block: dequantized values, float64, at least one axis, no axis empty.

    Returns:
        float64, shape (ndim,), one per axis; 0 for slices whose values are all equal.
    """
    found = []
    for axis in range(block.ndim):
        slices = np.sort(np.moveaxis(block, axis, 0).reshape(block.shape[axis], -1), axis=1)
        gaps = np.diff(slices, axis=1)
        least = np.where(gaps > 0, gaps, np.inf).min(axis=1, initial=np.inf)
        found.append(float(np.mean(np.where(np.isfinite(least), least, 0.0) ** 2)))
    return np.array(found)
