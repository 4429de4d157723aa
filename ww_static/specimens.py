"""Specimens for the conformance suite: tensors to write, windows of them, damaged copies, first bytes of other formats."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ww_static import dtypes
from ww_static.protocol import TensorSpec, Window

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# First bytes of files that are something else: name -> head.
FOREIGN_HEADS: dict[str, bytes] = {
    "zip": b"PK\x03\x04\x00\x00\x00\x00\x08\x08" + bytes(20) + b"archive/data.pkl",
    "hdf5": b"\x89HDF\r\n\x1a\n\x00\x00\x00\x00\x00\x08\x08\x00" + bytes(64),
    "gguf": b"GGUF\x03\x00\x00\x00" + bytes(16),
    "npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }",
    "pickle": b"\x80\x02}q\x00(X\x01\x00\x00\x00wq\x01K\x01u.",
    "torch legacy": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
    "safetensors": b'\x38\x00\x00\x00\x00\x00\x00\x00{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  ',
    "onnx": b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\x10\x0a\x0e",
    "tflite": b"\x1c\x00\x00\x00TFL3" + bytes(24),
    "gzip": b"\x1f\x8b\x08\x00" + bytes(16),
    "html": b"<!DOCTYPE html><html><head><title>Not found</title>",
    "git lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:",
    "json": b'{"architectures": ["BertModel"], "hidden_size": 384}',
    "elf": b"\x7fELF\x02\x01\x01" + bytes(9),
    "text": b"epoch,loss\n1,0.5\n2,0.25\n",
}


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A tensor to write: its storage dtype, and the array that `read` must give back, bit for bit.

    Attributes:
        dtype: storage dtype name.
        array: of `ww_static.dtypes.numpy_dtype(dtype)`; one uint8 code per element for packed types.
    """

    dtype: str
    array: NDArray[Any]


def seeded(seed: int) -> np.random.Generator:
    """The generator of one test."""
    import numpy as np

    return np.random.default_rng(seed)


def stored(dtype: str, shape: tuple[int, ...], seed: int) -> Stored:
    """A tensor of any bits at all: values, infinities, NaN payloads."""
    import numpy as np

    generator = seeded(seed)
    storage, element = dtypes.storage_dtype(dtype), dtypes.numpy_dtype(dtype)
    if storage.packed:
        return Stored(dtype, generator.integers(0, 1 << storage.bits, shape).astype(np.uint8))
    if storage.family == "boolean":
        return Stored(dtype, generator.integers(0, 2, shape).astype(np.bool_))
    raw = np.frombuffer(generator.bytes(math.prod(shape) * element.itemsize), element)
    return Stored(dtype, raw.reshape(shape))


def windows(shape: tuple[int, ...], generator: np.random.Generator) -> list[Window]:
    """Every odd cut of each axis, fewer slices than axes, and a sample of the combinations."""
    along = [cuts(size) for size in shape]
    chosen: list[Window] = [()]
    for axis in range(len(shape)):
        chosen += [(slice(None),) * axis + (cut,) for cut in along[axis]]
    for _ in range(60 if shape else 0):
        axes = int(generator.integers(1, len(shape) + 1))
        chosen.append(tuple(along[axis][int(generator.integers(len(along[axis])))] for axis in range(axes)))
    return chosen


def cuts(size: int) -> list[slice]:
    """Slices of an axis of `size` elements: inside, at and beyond its ends, forwards and backwards."""
    far = sys.maxsize
    bounds = [
        (None, None), (0, 0), (1, None), (None, -1), (-2, None), (-far, far), (far, None), (size, None), (size - 1, size), (3, 1),
        (1, 2),
    ]  # fmt: skip
    ends = [(None, None), (size - 1, None), (-1, None), (far, -far), (4, 0), (0, 4), (1, None)]
    forward = [slice(start, stop, step) for start, stop in bounds for step in (None, 2, size + 5, far)]
    return forward + [slice(start, stop, step) for start, stop in ends for step in (-1, -3, -(size + 5), -far)]


def same(array: Any, expected: NDArray[Any], spec: TensorSpec, window: Window) -> None:
    """Fails when an array is not what was promised, bit for bit."""
    import numpy as np

    where = f"'{spec.name}' {spec.dtype} {spec.shape} window {window}"
    promised = np.dtype(np.float32) if spec.encoding == "quantized" else dtypes.numpy_dtype(spec.dtype)
    assert isinstance(array, np.ndarray), f"{where}: a {type(array).__name__}"
    assert array.dtype.newbyteorder("<") == promised, f"{where}: {array.dtype} where {promised} was promised"
    assert array.shape == expected.shape, f"{where}: shape {array.shape}, not {expected.shape}"
    assert array.astype(promised).tobytes() == expected.astype(promised).tobytes(), f"{where}: other values"


def mutated(original: bytes, generator: np.random.Generator) -> bytes:
    """`original` with a few bytes changed, taken out or put in, more often near the start, where headers are."""
    data = bytearray(original)
    for _ in range(int(generator.integers(1, 5))):
        near = len(data) if generator.random() < 0.3 else min(len(data), 256)
        place = int(generator.integers(0, max(near, 1)))
        kind = int(generator.integers(0, 5))
        if kind == 0:
            data[place : place + 1] = generator.bytes(1)
        elif kind == 1 and place < len(data):
            data[place] ^= 1 << int(generator.integers(0, 8))
        elif kind == 2:
            del data[place : place + int(generator.integers(1, 9))]
        elif kind == 3:
            data[place:place] = generator.bytes(int(generator.integers(1, 9)))
        else:
            data[place:place] = data[place // 2 : place // 2 + int(generator.integers(1, 33))]
    return bytes(data)
