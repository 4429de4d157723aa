"""Bytes of a pickle, taken piece by piece: nothing is allocated for what is not there."""

from __future__ import annotations

from ww_static import storage
from ww_static.errors import FormatError, LimitError

_CHUNK = 65_536


class Source:
    """Bytes of a pickle: a stretch of a file that is read ahead a little, or bytes that are at hand."""

    def __init__(self, where: str, data: bytes | None = None, descriptor: int = -1, begin: int = 0, end: int = 0) -> None:
        self.where = where
        self._descriptor = descriptor
        self._buffer = data or b""
        self._place = 0
        self._next = begin if data is None else 0  # where the byte after the buffer lies in the file
        self._end = end if data is None else 0

    @property
    def left(self) -> int:
        """Bytes that are still there."""
        return len(self._buffer) - self._place + self._end - self._next

    @property
    def position(self) -> int:
        """In the file, when the source is one."""
        return self._next - (len(self._buffer) - self._place)

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes; nothing is allocated for what is not there."""
        if self._place + count > len(self._buffer):
            self._fill(count)
        piece = self._buffer[self._place : self._place + count]
        self._place += count
        return piece

    def line(self, most: int) -> bytes:
        """Bytes before the next newline, which is taken too."""
        found = self._buffer.find(b"\n", self._place)
        if found < 0:
            self._fill(min(self.left, most + 1))
            found = self._buffer.find(b"\n", self._place)
        if found < 0 and self.left <= most:
            raise FormatError("truncated", self.where, "the pickle ends inside a line of text")
        if found < 0 or found - self._place > most:
            raise LimitError("limit", self.where, f"a line of text of more than {most} bytes")
        piece = self._buffer[self._place : found]
        self._place = found + 1
        return piece

    def _fill(self, count: int) -> None:
        if count > self.left:
            raise FormatError("truncated", self.where, f"the pickle needs {count} bytes and has {self.left} left")
        kept = self._buffer[self._place :]
        length = min(max(count - len(kept), _CHUNK), self._end - self._next)
        more = storage.read_at(self._descriptor, self._next, length, self.where) if length > 0 else b""
        self._buffer, self._place = kept + more, 0
        self._next += length
