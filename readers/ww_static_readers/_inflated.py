"""Windows of a tensor that lies deflated in an archive: inflated past, and only the window kept.

A deflated stream has one direction. Windows that come in file order cost one pass together. When one lies before the
last, or cuts across the order of the file as the blocks of a wide or column-major matrix do, a pass begins anew; a reader
that sees this happen again and again inflates the tensor into private memory (`Held`), so that any number of windows costs
a few passes together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ww_static import dtypes
from ww_static.errors import FormatError
from ww_static.protocol import Limits, Window
from ww_static_readers import _zip
from ww_static_readers._zip import Member

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SPAN = 65_536  # bytes of content that are cut up at once


class Stream:
    """The content of one member, read forward.

    Args:
        descriptor: of the archive.
        member: what to read.
        limits: what it may inflate to.
        end: byte of the content behind which nothing is asked for; once it is reached, the rest is checked.
    """

    def __init__(self, descriptor: int, member: Member, limits: Limits, end: int) -> None:
        self.member = member
        self.start = 0  # of the piece that is held; what lies before it is gone
        self._piece = b""
        self._pieces = _zip.inflate(descriptor, member, limits)
        self._end = end

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes of the content at `offset`, which is not below `start`.

        Raises:
            FormatError: what `_zip.inflate` refuses. The stream is of no use afterwards.
        """
        found = bytearray()
        while len(found) < length:
            begin = offset + len(found) - self.start
            if begin >= len(self._piece):
                self.start += len(self._piece)
                self._piece = b""
                self._piece = next(self._pieces, b"")
                if not self._piece:
                    raise FormatError("corrupt", f"member '{self.member.name:.200}'", f"ends at byte {self.start}")
                continue
            found += self._piece[begin : begin + length - len(found)]
        if offset + length >= self._end:
            for _ in self._pieces:  # the checks of size and checksum stand at its end
                pass
        return bytes(found)


class Held:
    """The content of one member up to a byte, inflated into private memory.

    Args:
        descriptor: of the archive.
        member: what to read.
        limits: what it may inflate to.
        end: byte of the content behind which nothing is kept.

    Raises:
        FormatError: what `_zip.inflate` refuses.
    """

    def __init__(self, descriptor: int, member: Member, limits: Limits, end: int) -> None:
        self._content = bytearray(end)
        place = 0
        for piece in _zip.inflate(descriptor, member, limits):  # to its end, where size and checksum are compared
            kept = piece[: max(end - place, 0)]
            self._content[place : place + len(kept)] = kept
            place += len(kept)

    def window_of(self, offset: int, dtype: str, shape: Sequence[int], window: Window, strides: Sequence[int]) -> NDArray[Any]:
        """``whole[window]`` as an array of its own; the arguments are those of the function."""
        import numpy as np

        stored = dtypes.numpy_dtype(dtype)
        steps = tuple(stride * stored.itemsize for stride in strides)
        return np.ndarray(tuple(shape), stored, self._content, offset, steps)[window].copy()


def window_of(
    stream: Stream, offset: int, dtype: str, shape: Sequence[int], window: Window, strides: Sequence[int]
) -> NDArray[Any]:
    """``whole[window]`` of the tensor at `offset` of the content.

    Args:
        stream: where to read; not beyond the first byte of the window.
        offset: first byte of the tensor in the content of the member.
        dtype: storage dtype name, of whole bytes.
        shape: of the whole tensor.
        window: one slice per leading axis; missing ones mean the whole axis.
        strides: elements between neighbours along each axis, in row-major or column-major order.

    Returns:
        An array of its own, C order.

    Raises:
        FormatError: what `_zip.inflate` refuses.
    """
    import numpy as np

    ranges = [range(*cut.indices(size)) for cut, size in zip(window, shape, strict=False)]
    ranges += [range(size) for size in shape[len(ranges) :]]
    result = np.empty(tuple(len(steps) for steps in ranges), dtypes.numpy_dtype(dtype))
    if result.size == 0:
        return result
    turned: Any = (*(slice(None, None, -1 if steps.step < 0 else 1) for steps in ranges), ...)  # with it always a view
    _fill(stream, offset, result[turned], [_ascending(steps) for steps in ranges], strides)
    return result


def first_byte(offset: int, dtype: str, shape: Sequence[int], window: Window, strides: Sequence[int]) -> int:
    """Where in the content a window that is not empty begins."""
    ranges = [range(*cut.indices(size)) for cut, size in zip(window, shape, strict=False)]
    lowest = sum(_ascending(steps)[0] * stride for steps, stride in zip(ranges, strides, strict=False) if steps)
    return offset + lowest * dtypes.numpy_dtype(dtype).itemsize


def _ascending(steps: range) -> range:
    if len(steps) == 1:
        return range(steps[0], steps[0] + 1)  # a lone step may exceed any buffer
    return steps[::-1] if steps.step < 0 else steps


def _fill(stream: Stream, offset: int, out: NDArray[Any], ranges: Sequence[range], strides: Sequence[int]) -> None:
    """Fills `out` in file order, a span of the content at a time."""
    import numpy as np

    itemsize = out.dtype.itemsize
    first = sum(steps[0] * stride for steps, stride in zip(ranges, strides, strict=True))
    reach = [(steps[-1] - steps[0]) * stride for steps, stride in zip(ranges, strides, strict=True)]
    if (sum(reach) + 1) * itemsize <= _SPAN:
        raw = stream.read(offset + first * itemsize, (sum(reach) + 1) * itemsize)
        jumps = tuple(steps.step * stride * itemsize for steps, stride in zip(ranges, strides, strict=True))
        out[...] = np.ndarray(out.shape, out.dtype, raw, strides=jumps)
        return
    axis = max((axis for axis, steps in enumerate(ranges) if len(steps) > 1), key=lambda axis: strides[axis])
    step = ranges[axis].step * strides[axis]
    count = max(1, (_SPAN // itemsize - 1 - sum(reach) + reach[axis]) // step + 1)
    for start in range(0, len(ranges[axis]), count):
        inner = [*ranges[:axis], ranges[axis][start : start + count], *ranges[axis + 1 :]]
        if len(inner[axis]) == 1:
            inner[axis] = _ascending(inner[axis])
        _fill(stream, offset, out[(slice(None),) * axis + (slice(start, start + count),)], inner, strides)
