"""Windows of a dataset: mapped where its values lie flat, else chunk by chunk; libhdf5 gives places, we read bytes.

Chunks that are plain, or made by deflate, shuffle and fletcher32, are undone here, so that a chunk can never inflate to more
than it declares. What other filters made (lzf, szip, nbit, scaleoffset), and compact datasets, libhdf5 decodes, one chunk at a
time. The last chunk is kept, for windows that come in order.
"""

from __future__ import annotations

import itertools
import math
import zlib
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from ww_static import dtypes, storage
from ww_static.errors import FormatError, LimitError
from ww_static.protocol import Limits, Window
from ww_static_readers import _hdf5
from ww_static_readers._hdf5 import Dataset
from ww_static_readers._hdf5_file import Library, Stretch, guarded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_OURS = (_hdf5.DEFLATE, _hdf5.SHUFFLE, _hdf5.FLETCHER32)
# What libhdf5 gives a fill value as, where h5py has no name for the type in the file: nothing is lost but the bits of a NaN.
_KNOWN = {"BF16": "f4", "BOOL": "i1"}
_SUM_BLOCK = 2**12  # words of a checksum that are added at once: far from 64 bits, and little memory
# Where one run of a window lies: number of the chunk, indices inside it, indices of the result.
_Run = tuple[int, slice, slice]


class Values:
    """The values of the datasets of one file.

    Args:
        stretch: where the file lies.
        limits: how many chunks a dataset may have.
    """

    def __init__(self, stretch: Stretch, limits: Limits) -> None:
        self._stretch = stretch
        self._limits = limits
        self._library: Library | None = None
        self._chunks: _Chunks | None = None

    def read(self, found: Dataset, window: Window) -> NDArray[Any]:
        """``whole[window]``, little-endian.

        Raises:
            FormatError: ``corrupt``, ``truncated``, ``crc_mismatch``.
            LimitError: ``limit``.
        """
        import numpy as np

        if found.offset is not None or found.nbytes == 0:
            offset = self._stretch.begin + (found.offset or 0)
            mapped = storage.window_of(self._stretch.source, offset, found.dtype, found.shape, window)
            return mapped.byteswap() if found.swapped else mapped
        ranges = [range(*cut.indices(size)) for cut, size in zip(window, found.shape, strict=False)]
        ranges += [range(size) for size in found.shape[len(ranges) :]]
        result = np.empty(tuple(len(steps) for steps in ranges), dtypes.numpy_dtype(found.dtype))
        if result.size == 0:
            return result
        if self._chunks is None or self._chunks.found != found:
            self._chunks = None  # what it keeps goes before the next one keeps anything
            if self._library is None:
                self._library = Library(self._stretch)
            self._chunks = _Chunks(self._library, self._stretch, found, self._limits)
        turned: Any = (*(slice(None, None, -1 if steps.step < 0 else 1) for steps in ranges), ...)  # with it always a view
        ascending = [steps[::-1] if steps.step < 0 else steps for steps in ranges]
        self._chunks.fill(result[turned], ascending)
        return result.byteswap(inplace=True) if found.swapped else result

    def close(self) -> None:
        """Closes the file in libhdf5, where it was needed."""
        self._chunks = None
        if self._library is not None:
            self._library.close()
            self._library = None


class _Chunks:
    """The chunks of one dataset; a compact dataset is one chunk."""

    def __init__(self, library: Library, stretch: Stretch, found: Dataset, limits: Limits) -> None:
        self.found = found
        self._where = f"tensor '{found.name:.200}'"
        self._h5py = library.h5py
        self._stretch = stretch
        self._limits = limits
        self._shape = found.chunk or found.shape
        self._grid = tuple(-(-size // step) for size, step in zip(found.shape, self._shape, strict=True))
        self._steps = storage.row_major(self._grid)
        self._stored = dtypes.numpy_dtype(found.dtype)
        self._nbytes = math.prod(self._shape) * self._stored.itemsize
        self._last: tuple[tuple[int, ...], NDArray[Any]] | None = None
        self._dataset = self._opened(library)
        self._ours = bool(found.chunk) and all(code in _OURS for code, _ in found.filters)
        self._places = self._indexed() if self._ours else None

    def fill(self, out: NDArray[Any], ranges: Sequence[range]) -> None:
        """Fills `out` with the elements of ascending `ranges`, chunk after chunk."""
        runs = [_runs(steps, size) for steps, size in zip(ranges, self._shape, strict=True)]
        for pieces in itertools.product(*runs):
            chunk = self._chunk(tuple(number for number, _, _ in pieces))
            inner: Any = (*(source for _, source, _ in pieces), ...)
            place: Any = (*(target for _, _, target in pieces), ...)
            out[place] = chunk[inner]

    def _opened(self, library: Library) -> Any:
        """The dataset, by names that must still be hard links."""
        one = library.root()
        with guarded(self._where):
            for part in self.found.raw:
                if one.links.get_info(part).type != self._h5py.h5l.TYPE_HARD:
                    raise FormatError("unsafe_link", self._where, "is not a hard link any more")
                one = self._h5py.h5o.open(one, part)
        return one

    def _indexed(self) -> NDArray[np.int64]:
        """Number in the grid, byte of the stretch, stored bytes and filter mask of each chunk, by number: shape (chunks, 4)."""
        import numpy as np

        numbers = array("q")
        problems: list[FormatError] = []

        def note(info: Any) -> bool | None:  # an error that passes through h5py's iteration would be lost
            try:
                if len(numbers) >= 4 * self._limits.hdf5_chunks:
                    raise LimitError("limit", self._where, f"more than {self._limits.hdf5_chunks} chunks")
                numbers.extend(self._entry(info))
            except FormatError as error:
                problems.append(error)
                return True
            return None

        with guarded(self._where):
            self._dataset.chunk_iter(note)
        if problems:
            raise problems[0]
        table = np.frombuffer(numbers, np.int64).reshape(-1, 4) if numbers else np.zeros((0, 4), np.int64)
        table = table[np.argsort(table[:, 0])]
        if (table[1:, 0] == table[:-1, 0]).any():
            raise FormatError("corrupt", self._where, "a chunk appears twice")
        return table

    def _entry(self, info: Any) -> tuple[int, int, int, int]:
        begin = tuple(int(place) for place in info.chunk_offset)
        offset, size, mask = int(info.byte_offset), int(info.size), int(info.filter_mask)
        place = [divmod(one, step) for one, step in zip(begin, self._shape, strict=True)]
        inside = all(0 <= number < most and not rest for (number, rest), most in zip(place, self._grid, strict=True))
        if not inside or offset < 0 or offset + size > self._stretch.size:
            problem = f"a chunk of {size} bytes at byte {offset} for place {list(begin)} cannot be"
            raise FormatError("corrupt", self._where, problem)
        number = sum(one * step for (one, _), step in zip(place, self._steps, strict=True))
        return number, offset, size, mask

    def _chunk(self, numbers: tuple[int, ...]) -> NDArray[Any]:
        if self._last is None or self._last[0] != numbers:
            self._last = None
            self._last = (numbers, self._decoded(numbers) if self._ours else self._from_library(numbers))
        return self._last[1]

    def _decoded(self, numbers: tuple[int, ...]) -> NDArray[Any]:
        import numpy as np

        assert self._places is not None  # made for every dataset whose chunks are decoded here
        number = sum(one * step for one, step in zip(numbers, self._steps, strict=True))
        row = int(np.searchsorted(self._places[:, 0], number))
        if row == len(self._places) or self._places[row, 0] != number:
            return np.broadcast_to(self._fill_value(), self._shape)
        _, offset, size, mask = (int(value) for value in self._places[row])
        if size > self._nbytes + max(self._nbytes, 2**16):
            raise FormatError("corrupt", self._where, f"a chunk of {self._nbytes} bytes is stored in {size}")
        raw = self._stretch.read(offset, size, self._where)
        raw = undone(raw, self.found.filters, mask, self._nbytes, self._where)
        return np.frombuffer(raw, self._stored).reshape(self._shape)

    def _fill_value(self) -> NDArray[Any]:
        """What stands where no chunk was ever written, in the byte order of the file."""
        import numpy as np

        order: Literal["<", ">"] = ">" if self.found.swapped else "<"
        known = np.dtype(_KNOWN.get(self.found.dtype, self._stored)).newbyteorder(order)
        value = np.zeros((), known)
        with guarded(self._where):
            plan = self._dataset.get_create_plist()
            if plan.fill_value_defined() == self._h5py.h5d.FILL_VALUE_USER_DEFINED:
                plan.get_fill_value(value)
        if self.found.dtype != "BF16":
            return value.view(self._stored)
        bits = int(value.view(f"{order}u4"))
        if bits & 0xFFFF:
            raise FormatError("unsupported", self._where, "its fill value cannot be had as it is stored")
        return np.array(bits >> 16, f"{order}u2").view(self._stored)

    def _from_library(self, numbers: tuple[int, ...]) -> NDArray[Any]:
        """One chunk as libhdf5 decodes it, cut at the ends of the dataset; the bytes as they are stored."""
        import numpy as np

        begin = tuple(number * size for number, size in zip(numbers, self._shape, strict=True))
        bounds = zip(begin, self._shape, self.found.shape, strict=True)
        count = tuple(min(size, most - start) for start, size, most in bounds)
        result = np.empty(count, self._stored)
        with guarded(self._where):
            space = self._dataset.get_space()
            memory = self._h5py.h5s.create_simple(count) if count else self._h5py.h5s.create(self._h5py.h5s.SCALAR)
            if count:
                space.select_hyperslab(begin, count)
            self._dataset.read(memory, space, result, self._dataset.get_type())
        return result


def _runs(steps: range, size: int) -> list[_Run]:
    """The runs of an ascending range in chunks of `size`."""
    runs = []
    taken = 0
    while taken < len(steps):
        number, place = divmod(steps[taken], size)
        count = min(len(steps) - taken, (size - place - 1) // steps.step + 1)
        last = place + (count - 1) * steps.step
        runs.append((number, slice(place, last + 1, min(steps.step, size)), slice(taken, taken + count)))
        taken += count
    return runs


def undone(raw: bytes, filters: Sequence[tuple[int, tuple[int, ...]]], mask: int, nbytes: int, where: str) -> bytes:
    """The content of a chunk, from what its filters made of it.

    Args:
        raw: the stored bytes.
        filters: code and parameters, in the order in which they were applied: deflate, shuffle and fletcher32 only.
        mask: a bit for every filter that was left out for this chunk.
        nbytes: of the content.
        where: for the message.

    Raises:
        FormatError: ``corrupt``, ``crc_mismatch``.
    """
    room = nbytes + 4 * sum(code == _hdf5.FLETCHER32 for code, _ in filters)
    undo = [(code, values) for number, (code, values) in enumerate(filters) if not mask & (1 << number)]
    while undo:
        code, values = undo.pop()
        if code == _hdf5.DEFLATE:
            left = sum(one == _hdf5.DEFLATE for one, _ in undo)  # what was deflated before may have grown by it
            raw = _inflated(raw, room + left * (nbytes // 1000 + 64), where)
        elif code == _hdf5.SHUFFLE:
            raw = _unshuffled(raw, values[0] if values else 1)
        else:
            raw = _checked(raw, where)
    if len(raw) != nbytes:
        raise FormatError("corrupt", where, f"a chunk of {nbytes} bytes decodes to {len(raw)}")
    return raw


def _inflated(raw: bytes, room: int, where: str) -> bytes:
    decoder = zlib.decompressobj()
    try:
        found = decoder.decompress(raw, room + 1)
    except zlib.error as error:
        raise FormatError("corrupt", where, f"a chunk of {len(raw)} stored bytes cannot be inflated") from error
    if len(found) > room or not decoder.eof:
        raise FormatError("corrupt", where, f"a chunk does not end within {room} inflated bytes")
    return found


def _unshuffled(raw: bytes, size: int) -> bytes:
    """The first bytes of all elements came first, then the second ones, and so on; what is left over stays behind."""
    import numpy as np

    count = len(raw) // size if size > 1 else 0
    if count < 2:
        return raw
    planes = np.frombuffer(raw, np.uint8, count * size).reshape(size, count)
    return planes.T.tobytes() + raw[count * size :]


def _checked(raw: bytes, where: str) -> bytes:
    """Content before the four bytes of its checksum."""
    body, stored = raw[:-4], int.from_bytes(raw[-4:], "little")
    if len(raw) < 4:
        raise FormatError("corrupt", where, f"a chunk of {len(raw)} bytes has no room for its checksum")
    high, low = _fletcher32(body)
    if (stored >> 16) % 65535 != high or (stored & 0xFFFF) % 65535 != low:
        raise FormatError("crc_mismatch", where, f"the checksum of a chunk is not the {stored:08x} that is declared")
    return body


def _fletcher32(body: bytes) -> tuple[int, int]:
    """Sum of the sums, and sum, of the big-endian words of `body`, modulo 65535; 0 and 65535 are the same number."""
    import numpy as np

    words = np.frombuffer(body + b"\0" * (len(body) % 2), ">u2")
    low = high = 0
    for start in range(0, len(words), _SUM_BLOCK):
        part = words[start : start + _SUM_BLOCK].astype(np.int64)
        high += low * len(part) + int((part * np.arange(len(part), 0, -1)).sum())
        low += int(part.sum())
    return high % 65535, low % 65535
