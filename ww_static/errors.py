"""Every deliberate exception of the project, one small tree; each survives pickling."""

from __future__ import annotations

import re

INTERRUPTED = 130  # the exit code of a run that was stopped before its end


class WWStaticError(Exception):
    """Root of the tree: catch this to catch everything that ww-static raises on purpose."""


class UsageError(WWStaticError, ValueError):
    """An option or argument that cannot be meant; nothing was read."""


class PolicyError(UsageError):
    """A policy file that cannot be obeyed; nothing was read.

    Args:
        path: the file as it is shown.
        problems: what is wrong with it, each with its place.
    """

    def __init__(self, path: str, problems: tuple[str, ...]) -> None:
        super().__init__(path, problems)
        self.path = path
        self.problems = problems

    def __str__(self) -> str:
        return "; ".join(f"{self.path}: {problem}" for problem in self.problems)


class NonFiniteError(WWStaticError, ValueError):
    """A matrix holds a NaN or an infinity, so it has no spectrum."""


class NotConvergedError(WWStaticError, ArithmeticError):
    """LAPACK gave up on a matrix, so it has no spectrum."""


class FormatError(WWStaticError, ValueError):
    """A file that cannot be read as a model, or not safely.

    Args:
        category: one of the categories listed in docs/formats.md, for instance ``truncated``.
        where: the part of the file, for instance ``tensor 'w'``; may be empty.
        problem: what was asked against what is allowed, lower case, no full stop.
        path: the file as the user named it; filled in where it is known.
    """

    def __init__(self, category: str, where: str, problem: str, path: str | None = None) -> None:
        super().__init__(category, where, problem, path)
        self.category = category
        self.where = where
        self.problem = problem
        self.path = path

    def __str__(self) -> str:
        return ": ".join(escape(part) for part in (self.path, self.category, self.where, self.problem) if part)

    def at(self, path: str) -> FormatError:
        """The same error, naming the file it came from."""
        return type(self)(self.category, self.where, self.problem, self.path or path)


class UnknownFormatError(FormatError):
    """No installed reader recognizes the content of the file."""


class LimitError(FormatError):
    """The file asks for more than a field of ``Limits`` allows."""


class UnsafeFileError(FormatError):
    """The file reaches outside its folder, or is not a regular file."""


class ReaderError(FormatError):
    """A reader broke its contract, or died."""


class WorkerDiedError(ReaderError):
    """The process that read the file is gone: a signal, a limit of the operating system, or too much time."""


def as_format_error(error: BaseException) -> FormatError:
    """`error` as what is wrong with a file: a bug of ours costs that file, is called ``internal_error``, and goes on.

    Raises:
        BaseException: `error` itself, when it is no error at all but an interruption.
    """
    if isinstance(error, FormatError):
        return error
    if not isinstance(error, Exception):
        raise error
    return FormatError("internal_error", "", f"{type(error).__name__}: {error}; this is a bug of ww-static"[:500])


# What CI runners take for commands: ::error:: at the beginning of a line, ##[error], ##vso[ and ##teamcity[ anywhere in it.
_COMMAND = re.compile(r"^(\s*)([:#])(?=\2)|(#)(?=#\w*\[)")


def escape(text: str) -> str:
    """`text` with control, bidirectional and undecodable characters written as escapes, on one line.

    Names and paths in model files are hostile text: everything that reaches a terminal, a log or a table cell
    goes through here. What a CI runner would take for a command is broken.
    """
    if not (text.isascii() and text.isprintable()):
        text = "".join(_escape_character(character) for character in text)
    return _COMMAND.sub(lambda found: f"{found[1] or ''}\\x{ord(found[2] or found[3]):02x}", text)


def _escape_character(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8 (surrogateescape)
        return f"\\x{code - 0xDC00:02x}"
    if character.isprintable():  # false for control, format (bidi marks), surrogate and separator characters
        return character
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def utf8(text: str) -> str:
    """`text` with the bytes of names that are not UTF-8 written as escapes; everything else verbatim."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "".join(escape(c) if 0xD800 <= ord(c) <= 0xDFFF else c for c in text)
    return text
