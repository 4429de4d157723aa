"""Tensors as streams: windows in row-major order for one pass over the values, row blocks of a matrix for its spectrum."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ww_static import dtypes
from ww_static.geometry import Matrix
from ww_static.protocol import TensorSpec, Window
from ww_static.seam import OpenCheckpoint
from ww_static.spectral.gram import Blocks, block_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PASS_ELEMENTS = 2**18  # two MiB of float64: stays in cache while it is looked at several times


def windows(shape: Sequence[int], most: int = PASS_ELEMENTS) -> Iterator[Window]:
    """Windows of at most about `most` elements that cover a tensor in row-major order."""
    if 0 in shape:
        return
    axis = 0
    while axis < len(shape) - 1 and math.prod(shape[axis + 1 :]) > most:
        axis += 1
    if not shape:
        yield ()
        return
    step = max(1, most // max(1, math.prod(shape[axis + 1 :])))
    for lead in itertools.product(*(range(size) for size in shape[:axis])):
        for start in range(0, shape[axis], step):
            yield (*(slice(i, i + 1) for i in lead), slice(start, min(start + step, shape[axis])))


def value_dtype(spec: TensorSpec) -> str:
    """The dtype that `widen` has to be told: float32 for a quantized weight, which reads dequantized."""
    return "F32" if spec.encoding == "quantized" else spec.dtype


def matrix_blocks(checkpoint: OpenCheckpoint, spec: TensorSpec, matrix: Matrix) -> tuple[Blocks, int, int]:
    """Row blocks of one matrix of a tensor, longer side streamed, widened to float64.

    Returns:
        The blocks (each of shape (k, M), about 8 MiB), N, M.
    """
    n, m = max(matrix.shape), min(matrix.shape)
    columns = tuple(axis for axis in range(len(spec.shape)) if axis not in matrix.rows)
    tall = matrix.shape[0] >= matrix.shape[1]
    streamed, kept = (matrix.rows, columns) if tall else (columns, matrix.rows)
    groups = [(piece,) for piece in matrix.pieces] if tall else [matrix.pieces]  # a wide block needs the rows of all pieces

    def blocks() -> Iterator[NDArray[np.float64]]:
        import numpy as np

        for group in groups:
            for cut in _cuts(spec.shape, group[0], streamed, block_rows(m)):
                axis, chosen = cut
                parts = [
                    _flat(checkpoint, spec, (*piece[:axis], chosen, *piece[axis + 1 :]), streamed, kept) for piece in group
                ]
                yield parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    return blocks, n, m


def _cuts(shape: Sequence[int], piece: Window, streamed: Sequence[int], rows: int) -> Iterator[tuple[int, slice]]:
    """Slices of the longest streamed axis, so that each block has about `rows` rows."""
    counts = {axis: range(*piece[axis].indices(shape[axis])) for axis in streamed}
    axis = max(streamed, key=lambda one: len(counts[one]))
    steps = counts[axis]
    others = math.prod(len(counts[one]) for one in streamed if one != axis)
    length = max(1, rows // others)
    for start in range(0, len(steps), length):
        taken = steps[start : start + length]
        yield axis, slice(taken.start, taken.stop, taken.step)


def _flat(
    checkpoint: OpenCheckpoint, spec: TensorSpec, window: Window, streamed: Sequence[int], kept: Sequence[int]
) -> NDArray[Any]:
    stored = checkpoint.read(spec, window).transpose((*streamed, *kept))
    rows = math.prod(stored.shape[: len(streamed)])
    return dtypes.widen(stored, value_dtype(spec)).reshape(rows, -1)
