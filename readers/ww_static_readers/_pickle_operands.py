"""Operands of pickle opcodes: numbers and texts, counted and bounded before they are taken from the source.

Source: CPython, Lib/pickletools.py.
"""

from __future__ import annotations

import codecs
import re
import struct

from ww_static.errors import FormatError, LimitError
from ww_static.protocol import Limits
from ww_static_readers._source import Source

_INTEGER = re.compile(rb"[+-]?[0-9]+")
_FLOAT = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?|inf|nan)")


class Operands:
    """What follows an opcode. Widths are bytes of a little-endian number, signed when there are four of them."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self.source = source
        self._limits = limits

    def bad(self, problem: str) -> FormatError:
        """A pickle that is not one."""
        return FormatError("bad_header", self.source.where, problem)

    def count(self, width: int) -> int:
        """A number that is never negative."""
        return int.from_bytes(self.source.take(width), "little")

    def integer(self, width: int) -> int:
        """A number."""
        return int.from_bytes(self.source.take(width), "little", signed=width == 4)

    def long(self, width: int) -> int:
        """The length of a number, then the number."""
        count = self.integer(width)
        if count < 0:
            raise self.bad(f"a number of {count} bytes")
        if count > self.source.left:
            raise self._short(f"a number of {count} bytes")
        if count > self._limits.pickle_digits:
            raise self._limit(f"a number of {count} bytes")
        return int.from_bytes(self.source.take(count), "little", signed=True)

    def real(self) -> float:
        """A big-endian double."""
        value: float = struct.unpack(">d", self.source.take(8))[0]
        return value

    def data(self, width: int) -> bytes:
        """A length, then so many bytes."""
        count = self.count(width)
        if count > self.source.left:
            raise self._short(f"a text of {count} bytes")
        return self.source.take(count)

    def text(self, width: int) -> str:
        """A length, then UTF-8, in which half a pair of surrogates may stand."""
        try:
            return self.data(width).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise self.bad("a text is not UTF-8") from error

    def old_text(self, width: int) -> str:
        """A length, then a text of Python 2."""
        count = self.integer(width)
        if count < 0:
            raise self.bad(f"a text of {count} bytes")
        if count > self.source.left:
            raise self._short(f"a text of {count} bytes")
        return self.source.take(count).decode("latin-1")

    def line(self) -> bytes:
        """Bytes up to a newline."""
        return self.source.line(self._limits.pickle_line)

    def decimal(self) -> int:
        """A number as a line of text."""
        return self._decimal(self.line())

    def decimal_or_truth(self) -> int | bool:
        """The same; ``00`` and ``01`` are False and True."""
        text = self.line()
        return {b"00": False, b"01": True}[text] if text in (b"00", b"01") else self._decimal(text)

    def long_decimal(self) -> int:
        """The same, with the ``L`` of Python 2."""
        return self._decimal(self.line().removesuffix(b"L"))

    def real_line(self) -> float:
        """A floating-point number as a line of text."""
        text = self.line()
        if len(text) > self._limits.pickle_digits:
            raise self._limit(f"a number of {len(text)} digits")
        if not _FLOAT.fullmatch(text):
            raise self.bad(f"{text[:40]!r} is not a number")
        return float(text)

    def quoted_line(self) -> str:
        """A text in quotes, as Python 2 wrote it."""
        text = self.line().strip()
        if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
            raise self.bad("a text is not quoted")
        try:
            return codecs.escape_decode(text[1:-1])[0].decode("latin-1")
        except ValueError as error:
            raise self.bad("a text has a broken escape") from error

    def unicode_line(self) -> str:
        """A text with escapes."""
        try:
            return codecs.raw_unicode_escape_decode(self.line())[0]
        except UnicodeDecodeError as error:
            raise self.bad("a text has a broken escape") from error

    def names(self) -> tuple[str, str]:
        """The two lines of a global: its module, its name."""
        try:
            return self.line().decode("utf-8"), self.line().decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.bad("the name of a global is not UTF-8") from error

    def _decimal(self, text: bytes) -> int:
        if len(text) > self._limits.pickle_digits:
            raise self._limit(f"a number of {len(text)} digits")
        if not _INTEGER.fullmatch(text):
            raise self.bad(f"{text[:40]!r} is not a number")
        return int(text)

    def _short(self, problem: str) -> FormatError:
        return FormatError("truncated", self.source.where, f"{problem}, {self.source.left} are left")

    def _limit(self, problem: str) -> LimitError:
        return LimitError("limit", self.source.where, f"{problem}, limit {self._limits.pickle_digits}")
