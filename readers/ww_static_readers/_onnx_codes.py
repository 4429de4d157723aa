"""Quantized ONNX weights as numbers: (code - zero point) * scale, window by window.

Source: DequantizeLinear of ONNX (per tensor, per axis, blocked), MatMulNBits of com.microsoft.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ww_static import dtypes
from ww_static.protocol import TensorSpec, Window
from ww_static_readers._onnx_graph import Codes, Constant

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Read = Callable[[str, Window], "NDArray[Any]"]
Form = tuple[str, tuple[int, ...]]

# TensorProto.DataType -> storage dtype of what may be a scale, and of what may be a zero point.
SCALES = {1: "F32", 10: "F16", 11: "F64", 16: "BF16", 24: "F8_E8M0"}
ZEROS = {
    **SCALES, 2: "U8", 3: "I8", 4: "U16", 5: "I16", 6: "I32", 17: "F8_E4M3", 18: "F8_E4M3FNUZ", 19: "F8_E5M2",
    20: "F8_E5M2FNUZ", 21: "UINT4", 22: "INT4", 23: "F4",
}  # fmt: skip
_NBITS = {4: "UINT4", 8: "U8"}


def decoded_form(codes: Codes, stored: Form) -> Form | None:
    """Dtype of the codes and shape of the values; None when scale and codes do not fit each other."""
    _, shape = stored
    scale, zero = codes.scale, codes.zero
    if scale.sparse or scale.tensor.data_type not in SCALES or scale.codes is not None:
        return None
    if zero is not None and (zero.sparse or zero.tensor.data_type not in ZEROS or zero.codes is not None):
        return None
    if codes.matrix is not None:
        return _packed_form(codes, stored)
    wanted = _scale_shape(codes, shape)
    fits = all(one is None or _shape(one) == wanted or (not wanted and _shape(one) == (1,)) for one in (scale, zero))
    return stored if fits else None


def _shape(constant: Constant) -> tuple[int, ...]:
    return tuple(constant.shape)


def _scale_shape(codes: Codes, shape: tuple[int, ...]) -> tuple[int, ...]:
    if math.prod(codes.scale.shape) == 1 and len(codes.scale.shape) < 2 and not codes.block:
        return ()
    if not codes.block:
        return (shape[codes.axis],)
    return tuple(-(-size // codes.block) if axis == codes.axis else size for axis, size in enumerate(shape))


def _packed_form(codes: Codes, stored: Form) -> Form | None:
    """MatMulNBits: codes `[N, blocks, block * bits / 8]`, scales `[N, blocks]`, zero points packed per row, or floats."""
    assert codes.matrix is not None
    rows, columns, bits = codes.matrix
    if bits not in _NBITS or codes.block < 1 or codes.block * bits % 8 or rows < 1 or columns < 1:
        return None
    blocks = -(-columns // codes.block)
    if stored != ("U8", (rows, blocks, codes.block * bits // 8)) or not _per_row(codes.scale, rows, blocks):
        return None
    if codes.zero is not None and not _per_row(codes.zero, rows, _zero_columns(codes.zero, blocks, bits)):
        return None
    return _NBITS[bits], (rows, columns)


def _zero_columns(zero: Constant, blocks: int, bits: int) -> int:
    return -(-blocks * bits // 8) if zero.tensor.data_type == 2 else blocks


def _per_row(constant: Constant, rows: int, columns: int) -> bool:
    return _shape(constant) in ((rows, columns), (rows * columns,))


def dequantized(spec: TensorSpec, codes: Codes, stored: Form, window: Window, read: Read) -> NDArray[np.float32]:
    """``whole[window]`` of the values, float32.

    Args:
        spec: of the values.
        codes: scale, zero point, and which elements share them.
        stored: dtype and shape of the codes.
        window: of the values.
        read: gives a window of the stored values of a tensor, by its name.
    """
    import numpy as np

    window = (*window, *(slice(None) for _ in range(len(spec.shape) - len(window))))
    if codes.matrix is not None:
        return _packed_window(spec, codes, window, read)
    values = dtypes.widen(read(spec.name, window), stored[0])
    if codes.zero is not None:
        values -= _beside(codes.zero, ZEROS, codes, spec.shape, window, read)
    with np.errstate(over="ignore", invalid="ignore"):
        values *= _beside(codes.scale, SCALES, codes, spec.shape, window, read)
        return values.astype(np.float32)


def _beside(
    constant: Constant, known: dict[int, str], codes: Codes, shape: Sequence[int], window: Window, read: Read
) -> NDArray[np.float64]:
    """Scale or zero point of each element of a window, in a shape that broadcasts."""
    import numpy as np

    dtype = known[constant.tensor.data_type]
    rank = len(window)
    if not _scale_shape(codes, tuple(shape)):
        return dtypes.widen(read(constant.name, ()), dtype).reshape((1,) * rank)
    if not codes.block:
        along = dtypes.widen(read(constant.name, (window[codes.axis],)), dtype)
        return along.reshape((1,) * codes.axis + (-1,) + (1,) * (rank - codes.axis - 1))
    whole = tuple(slice(None) if axis == codes.axis else cut for axis, cut in enumerate(window))
    blocks = np.array([place // codes.block for place in range(*window[codes.axis].indices(shape[codes.axis]))], np.intp)
    return np.take(dtypes.widen(read(constant.name, whole), dtype), blocks, axis=codes.axis)


def _packed_window(spec: TensorSpec, codes: Codes, window: Window, read: Read) -> NDArray[np.float32]:
    import numpy as np

    assert codes.matrix is not None
    bits, block = codes.matrix[2], codes.block
    rows, columns = (range(*cut.indices(size)) for cut, size in zip(window, spec.shape, strict=True))
    if not len(rows) or not len(columns):
        return np.empty((len(rows), len(columns)), np.float32)
    first, last = min(columns[0], columns[-1]) // block, max(columns[0], columns[-1]) // block + 1
    packed = np.ascontiguousarray(read(spec.name, (window[0], slice(first, last))))
    flat = dtypes.unpack(packed.reshape(-1), "UINT4") if bits == 4 else packed
    values = flat.reshape(len(rows), last - first, block).astype(np.float32)
    blocks = -(-spec.shape[1] // block)
    zero: NDArray[Any] | float = float(1 << (bits - 1))
    if codes.zero is not None:
        zero = _rows_of(codes.zero, ZEROS, rows, _zero_columns(codes.zero, blocks, bits), read)
        if codes.zero.tensor.data_type == 2 and bits == 4:
            zero = dtypes.unpack(zero.astype(np.uint8).reshape(-1), "UINT4").reshape(len(rows), -1)
        zero = zero[:, first:last, None].astype(np.float32)
    scale = _rows_of(codes.scale, SCALES, rows, blocks, read)[:, first:last, None].astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        matrix: NDArray[np.float32] = ((values - zero) * scale).reshape(len(rows), -1)
    start = columns[0] - first * block
    return matrix[:, [start + place * columns.step for place in range(len(columns))]]


def _rows_of(constant: Constant, known: dict[int, str], rows: range, columns: int, read: Read) -> NDArray[np.float64]:
    """The chosen rows of a table with `columns` columns, which may be stored flat."""
    low, high = min(rows[0], rows[-1]), max(rows[0], rows[-1]) + 1
    cut = slice(low * columns, high * columns) if len(constant.shape) == 1 else slice(low, high)
    table = dtypes.widen(read(constant.name, (cut,)), known[constant.tensor.data_type]).reshape(high - low, columns)
    return table[[row - low for row in rows]]
