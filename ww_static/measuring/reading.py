"""Tensors as streams: windows in row-major order for one pass over the values, row blocks of a matrix for its spectrum."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ww_static import dtypes
from ww_static.layout.geometry import Matrix, Taps, whole_window
from ww_static.layout.layers import LayerView
from ww_static.protocol import Limits, TensorSpec, Window
from ww_static.seam import OpenCheckpoint
from ww_static.spectral.gram import Blocks, block_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ENTRY_BYTES = 48  # of an entry of a sparse matrix that a reader holds, in two orders
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
    for lead in _positions(shape[:axis]):
        for start in range(0, shape[axis], step):
            yield (*(slice(i, i + 1) for i in lead), slice(start, min(start + step, shape[axis])))


def value_dtype(spec: TensorSpec) -> str:
    """The dtype that `widen` has to be told: float32 for a quantized weight, which reads dequantized."""
    return "F32" if spec.encoding == "quantized" else spec.dtype


def most_entries(spec: TensorSpec) -> int:
    """Most entries that a sparse matrix can have."""
    return min(math.prod(spec.shape), Limits().sparse_entries)


def held_bytes(spec: TensorSpec) -> int:
    """Private memory in which a reader may hold a deflated or sparse tensor, so that it need not read it for every block."""
    if spec.encoding == "sparse":
        return _ENTRY_BYTES * most_entries(spec)
    size = dtypes.nbytes(spec.dtype, math.prod(spec.shape)) or 0
    return size if spec.encoding == "compressed" and size <= Limits().inflated_bytes else 0


def matrix_blocks(
    checkpoint: OpenCheckpoint, spec: TensorSpec, matrix: Matrix, single: bool = False
) -> tuple[Blocks, int, int]:
    """Row blocks of one matrix of a tensor, longer side streamed, widened to float64, or to float32 when `single`.

    Returns:
        The blocks (each of shape (k, M), about 8 MiB, in the order of the axes of the tensor), N, M.
    """
    tall = matrix.shape[0] >= matrix.shape[1]
    blocks = streamed_blocks(checkpoint, spec, matrix, "rows" if tall else "columns", single)
    return blocks, max(matrix.shape), min(matrix.shape)


def view_blocks(checkpoint: OpenCheckpoint, view: LayerView, number: int) -> Blocks:
    """Row blocks of one matrix of a view, float64, shape (k, M), longer side streamed; those of a product s B A are formed.

    Blocks of two views of the same kind and shape have the same heights.
    """
    if view.left is None:
        return matrix_blocks(checkpoint, view.spec, view.matrices[number])[0]
    return _product_blocks(checkpoint, view, view.matrices[number])


def _product_blocks(checkpoint: OpenCheckpoint, view: LayerView, matrix: Matrix) -> Blocks:
    """s B A in row blocks, or its transpose when it is wide."""
    assert view.left is not None  # the caller has looked
    tensors, left, factor = view.tensors, view.left, 1.0 if view.factor is None else view.factor
    tall = left.shape[0] >= matrix.shape[1]

    def blocks() -> Iterator[NDArray[Any]]:
        B, A = product_factors(checkpoint, tensors, left, matrix)
        long, short = (B, A) if tall else (A, B)
        for start in range(0, len(long), step := block_rows(len(short))):
            yield factor * (long[start : start + step] @ short.T)

    return blocks


def product_factors(
    checkpoint: OpenCheckpoint, tensors: Sequence[TensorSpec], left: Matrix, matrix: Matrix
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The factors of a product, float64: B of shape (out, r), and A^T of shape (in, r).

    Args:
        checkpoint: what holds them.
        tensors: A and B.
        left: where B lies.
        matrix: where A lies.
    """
    import numpy as np

    a, b = tensors
    B = np.concatenate(list(streamed_blocks(checkpoint, b, left, "rows")()))
    A = np.concatenate(list(streamed_blocks(checkpoint, a, matrix, "columns")()))
    return B, A


def stacked_taps(checkpoint: OpenCheckpoint, spec: TensorSpec, taps: Taps) -> NDArray[np.float64]:
    """All taps of a convolution kernel at once, float64, shape (taps, rows, columns); the tensor is read once."""
    values = dtypes.widen(checkpoint.read(spec, whole_window(spec.shape)), value_dtype(spec))
    inputs = [axis for axis in range(len(spec.shape)) if axis not in (*taps.kernel, taps.outputs)]
    return values.transpose(*taps.kernel, taps.outputs, *inputs).reshape(len(taps), *taps[0].shape)


def streamed_blocks(
    checkpoint: OpenCheckpoint, spec: TensorSpec, matrix: Matrix, side: Literal["rows", "columns"], single: bool = False
) -> Blocks:
    """The same with the given side streamed: blocks of rows, or of columns as rows."""
    columns = tuple(axis for axis in range(len(spec.shape)) if axis not in matrix.rows)
    by_rows = side == "rows"
    streamed, kept = (matrix.rows, columns) if by_rows else (columns, matrix.rows)

    def blocks() -> Iterator[NDArray[Any]]:
        for places in _places(spec.shape, matrix, streamed, kept):
            yield _side_by_side([_flat(checkpoint, spec, window, streamed, kept, single) for window in places])

    return blocks


def stored_matrix(checkpoint: OpenCheckpoint, spec: TensorSpec, matrix: Matrix) -> NDArray[Any]:
    """One matrix of a tensor in its storage dtype, longer side first, shape (N, M): its rows in the order of `matrix_blocks`."""
    import numpy as np

    streamed, kept = _sides(spec.shape, matrix)
    whole = np.empty((max(matrix.shape), min(matrix.shape)), dtypes.numpy_dtype(value_dtype(spec)))
    start = 0
    for places in _places(spec.shape, matrix, streamed, kept):
        parts = [checkpoint.read(spec, window).transpose((*streamed, *kept)) for window in places]
        rows = math.prod(parts[0].shape[: len(streamed)])
        whole[start : start + rows] = _side_by_side([part.reshape(rows, -1) for part in parts])
        start += rows
    return whole


def put_blocks(out: NDArray[Any], matrix: Matrix, blocks: Iterable[NDArray[Any]]) -> None:
    """Writes what `matrix_blocks` of a tensor gave, or something of the same shapes, back to where it comes from.

    Args:
        out: the tensor, changed in place.
        matrix: which matrix of it.
        blocks: of shape (k, M) each, of the dtype of `out`.
    """
    streamed, kept = _sides(out.shape, matrix)
    for places, block in zip(_places(out.shape, matrix, streamed, kept), blocks, strict=True):
        start = 0
        for window in places:
            part = out[window].transpose((*streamed, *kept))
            width = math.prod(part.shape[len(streamed) :])
            part[...] = block[:, start : start + width].reshape(part.shape)
            start += width


def blocks_like(shape: Sequence[int], matrix: Matrix, whole: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """A matrix of shape (N, M) cut into the blocks that `matrix_blocks` gives and `put_blocks` takes."""
    streamed, kept = _sides(shape, matrix)
    start = 0
    for places in _places(shape, matrix, streamed, kept):
        rows = math.prod(len(range(*places[0][axis].indices(shape[axis]))) for axis in streamed)
        yield whole[start : start + rows]
        start += rows


def matrix_windows(shape: Sequence[int], matrix: Matrix) -> Iterator[Window]:
    """Windows of a tensor that cover one matrix of it, each element once."""
    for places in _places(shape, matrix, *_sides(shape, matrix)):
        yield from places


def _sides(shape: Sequence[int], matrix: Matrix) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes along the longer side of a matrix, which is streamed, and the others."""
    columns = tuple(axis for axis in range(len(shape)) if axis not in matrix.rows)
    return (matrix.rows, columns) if matrix.shape[0] >= matrix.shape[1] else (columns, matrix.rows)


def _places(shape: Sequence[int], matrix: Matrix, streamed: Sequence[int], kept: Sequence[int]) -> Iterator[list[Window]]:
    """The windows of each block of a matrix; side by side they are the block."""
    by_rows = tuple(streamed) == tuple(matrix.rows)
    groups = [(piece,) for piece in matrix.pieces] if by_rows else [matrix.pieces]  # a wide block needs the rows of all pieces
    width = matrix.shape[1] if by_rows else matrix.shape[0]
    for group in groups:
        for cut in _cuts(shape, group[0], streamed, block_rows(width)):
            yield [_narrowed(piece, cut, streamed) for piece in group]


def _side_by_side(parts: list[NDArray[Any]]) -> NDArray[Any]:
    import numpy as np

    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def stored_blocks(checkpoint: OpenCheckpoint, spec: TensorSpec, matrix: Matrix, most: int = 2**18) -> Iterator[NDArray[Any]]:
    """The stored values of one matrix as unsigned integers, each once, in pieces of about `most`; in an order that depends on
    the shape alone.
    """
    import numpy as np

    for piece in matrix.pieces:
        sizes = [len(range(*part.indices(size))) for part, size in zip(piece, spec.shape, strict=True)]
        cut_axis = 0  # the first one whose rows are small enough: what is read at a time lies together
        while math.prod(sizes[cut_axis + 1 :]) > most:
            cut_axis += 1
        rows = max(1, most // math.prod(sizes[cut_axis + 1 :]))
        for cut in _cuts(spec.shape, piece, range(cut_axis + 1), rows):
            block = np.ascontiguousarray(checkpoint.read(spec, cut)).reshape(-1)
            if not block.dtype.isnative:
                block = block.astype(block.dtype.newbyteorder("="))
            yield block.view(f"u{block.itemsize}")


def _positions(sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every index of an array of these sizes, last axis fastest; nothing is held, however many there are."""
    for number in range(math.prod(sizes)):
        place = []
        for size in reversed(sizes):
            number, index = divmod(number, size)
            place.append(index)
        yield tuple(reversed(place))


def _cuts(shape: Sequence[int], piece: Window, streamed: Sequence[int], rows: int) -> Iterator[Window]:
    """Parts of a window that cover it, each with about `rows` rows along the streamed axes."""
    counts = {axis: range(*piece[axis].indices(shape[axis])) for axis in streamed}
    longest = max(streamed, key=lambda one: len(counts[one]))
    whole = [axis for axis in streamed if axis != longest]
    single: list[int] = []
    while math.prod(len(counts[axis]) for axis in whole) > rows:
        single.append(whole.pop(0))  # one index at a time along this axis
    length = max(1, rows // math.prod(len(counts[axis]) for axis in whole))
    for place in _positions([len(counts[axis]) for axis in single]):
        cut = list(piece)
        for axis, index in zip(single, place, strict=True):
            cut[axis] = slice(counts[axis][index], counts[axis][index] + 1)
        for start in range(0, len(counts[longest]), length):
            taken = counts[longest][start : start + length]
            cut[longest] = slice(taken.start, taken.stop, taken.step)
            yield tuple(cut)


def _narrowed(piece: Window, cut: Window, axes: Sequence[int]) -> Window:
    """`piece` with the slices of `cut` along some axes."""
    return tuple(cut[axis] if axis in axes else own for axis, own in enumerate(piece))


def _flat(
    checkpoint: OpenCheckpoint, spec: TensorSpec, window: Window, streamed: Sequence[int], kept: Sequence[int], single: bool
) -> NDArray[Any]:
    stored = checkpoint.read(spec, window)
    values = dtypes.narrow if single else dtypes.widen
    rows = math.prod(stored.shape[axis] for axis in streamed)
    if (*kept, *streamed) == tuple(range(stored.ndim)):  # columns as rows: a view says that, nothing is transposed
        return values(stored, value_dtype(spec)).reshape(-1, rows).T
    return values(stored.transpose((*streamed, *kept)), value_dtype(spec)).reshape(rows, -1)
