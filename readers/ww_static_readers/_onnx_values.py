"""Values of ONNX tensors that do not lie flat: typed fields as varints, or one by one with tags between them.

A first read counts the numbers once and remembers where every few thousand of them begin; after that a window costs
the pieces that it touches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ww_static import dtypes, storage
from ww_static.errors import FormatError
from ww_static.protocol import Window
from ww_static_readers._onnx_wire import Run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PIECE = 2**12


@dataclass(slots=True)
class Typed:
    """Numbers of one typed field.

    Attributes:
        runs: where they lie.
        width: bytes of one number; 0 for varints.
        dtype: storage dtype name of the elements.
        count: how many numbers the shape asks for; a number holds two elements of a 4-bit type.
    """

    runs: Sequence[Run]
    width: int
    dtype: str
    count: int
    _pieces: list[tuple[int, int, int, int]] = field(default_factory=list)  # first number, start, end, tag

    def check(self) -> None:
        """Raises FormatError ``size_mismatch`` when the bytes cannot hold the numbers; reads nothing."""
        held = sum(run.end - run.start for run in self.runs)
        if self.width:
            counts = [divmod(run.end - run.start, run.tag + self.width) for run in self.runs]
            if any(rest for _, rest in counts) or sum(count for count, _ in counts) != self.count:
                raise FormatError("size_mismatch", "", f"{held} bytes of typed data for {self.count} numbers of {self.width}")
        elif not self.count <= held <= sum(20 if run.tag else 10 for run in self.runs[:1]) * self.count:
            raise FormatError("size_mismatch", "", f"{held} bytes of typed data for {self.count} numbers")

    def read(self, descriptor: int, shape: Sequence[int], window: Window) -> NDArray[Any]:
        """``whole[window]`` as a new array."""
        import numpy as np

        if not self._pieces:
            self._pieces = list(self._index(descriptor))
        ranges = [range(*cut.indices(size)) for cut, size in zip(window, shape, strict=False)]
        ranges += [range(size) for size in shape[len(ranges) :]]
        result_shape = tuple(len(steps) for steps in ranges)
        result = np.empty(result_shape, dtypes.numpy_dtype(self.dtype)).reshape(-1)
        if result.size:
            self._gather(descriptor, _places(ranges, shape), result)
        backward: tuple[Any, ...] = tuple(slice(None, None, -1 if steps.step < 0 else 1) for steps in ranges)
        return result.reshape(result_shape)[(*backward, ...)]

    def _gather(self, descriptor: int, places: NDArray[np.int64], result: NDArray[Any]) -> None:
        """Fills `result` with the elements at `places`, which ascend."""
        import bisect

        import numpy as np

        per = 8 // dtypes.DTYPES[self.dtype].bits if dtypes.DTYPES[self.dtype].packed else 1
        starts = [piece[0] for piece in self._pieces]
        done = 0
        while done < len(places):
            piece = self._pieces[bisect.bisect_right(starts, int(places[done]) // per) - 1]
            elements = self._elements(descriptor, piece)
            first = piece[0] * per
            stop = done + int(np.searchsorted(places[done:], first + len(elements)))
            result[done:stop] = elements[places[done:stop] - first]
            done = stop

    def _index(self, descriptor: int) -> Iterator[tuple[int, int, int, int]]:
        number = 0
        for run in self.runs:
            start = run.start
            while start < run.end:
                count, end = self._piece(descriptor, start, run)
                yield number, start, end, run.tag
                number, start = number + count, end
        if number != self.count:
            raise FormatError("size_mismatch", "", f"{number} numbers of typed data for {self.count}")

    def _piece(self, descriptor: int, start: int, run: Run) -> tuple[int, int]:
        """How many numbers the piece that begins at `start` holds, and where it ends."""
        import numpy as np

        if self.width:
            count = min(_PIECE // (run.tag + self.width), (run.end - start) // (run.tag + self.width))
            return count, start + count * (run.tag + self.width)
        raw = np.frombuffer(storage.read_at(descriptor, start, min(_PIECE, run.end - start), ""), np.uint8)
        ends = np.flatnonzero(raw < 0x80)
        if run.tag:  # tag, number, tag, number
            ends = ends[: len(ends) // 2 * 2]
        if not len(ends) or (start + len(raw) == run.end and len(raw) != ends[-1] + 1):
            raise FormatError("corrupt", "", f"a number at byte {start} does not end")
        return len(ends) // (2 if run.tag else 1), start + int(ends[-1]) + 1

    def _elements(self, descriptor: int, piece: tuple[int, int, int, int]) -> NDArray[Any]:
        import numpy as np

        _, start, end, tag = piece
        raw = np.frombuffer(storage.read_at(descriptor, start, end - start, ""), np.uint8)
        stored = dtypes.numpy_dtype(self.dtype)
        if self.width:
            flat = np.ascontiguousarray(raw.reshape(-1, tag + self.width)[:, tag:]).reshape(-1)
            numbers: NDArray[Any] = flat.view(f"<u{self.width}")
        else:
            numbers = _varints(raw)[1::2] if tag else _varints(raw)
        storage_dtype = dtypes.DTYPES[self.dtype]
        if storage_dtype.family == "boolean":
            truth: NDArray[np.bool_] = numbers != 0
            return truth
        if storage_dtype.packed:
            return dtypes.unpack(numbers.astype(np.uint8), self.dtype)
        return numbers.astype(f"<u{stored.itemsize}").view(stored)


def _places(ranges: Sequence[range], shape: Sequence[int]) -> NDArray[np.int64]:
    """Row-major places of a window's elements, ascending whatever the direction of its steps."""
    import numpy as np

    places = np.zeros((1,) * len(ranges), np.int64)
    stride = 1
    for axis in range(len(shape) - 1, -1, -1):
        steps = ranges[axis] if ranges[axis].step > 0 else ranges[axis][::-1]
        along = np.fromiter((step * stride for step in steps), np.int64, len(steps))
        places = places + along.reshape((-1,) + (1,) * (len(shape) - 1 - axis))
        stride *= shape[axis]
    return places.reshape(-1)


def _varints(raw: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Numbers of seven bits a byte, lowest first; the last byte of each is below 0x80."""
    import numpy as np

    ends = np.flatnonzero(raw < 0x80)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    longest = int(lengths.max(initial=0))
    if longest > 10:
        raise FormatError("corrupt", "", "a number has more than 10 bytes")
    values = np.zeros(len(ends), np.uint64)
    for place in range(longest):
        chosen = lengths > place
        values[chosen] |= (raw[starts[chosen] + place] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * place)
    return values
