"""The user's table of accuracies: which checkpoint reached which, read strictly."""

from __future__ import annotations

import csv
import io
import math
import os
import stat
from collections.abc import Sequence

from ww_static.errors import UsageError, escape
from ww_static.models import Source

_HEADER = ["checkpoint", "accuracy"]
_MOST_BYTES = 2**24


def accuracies(path: str, sources: Sequence[Source]) -> list[float]:
    """The accuracy of each checkpoint, in their order.

    Args:
        path: a CSV file with the columns checkpoint and accuracy; a checkpoint is named by its model_id, its file name, or its path.
        sources: the checkpoints.

    Raises:
        UsageError: the file is no such table, or does not say one number for each checkpoint and nothing about others.
        OSError: it cannot be read.
    """
    known = _names(sources)
    found: dict[int, float] = {}
    try:
        lines = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
        header = [one.strip() for one in next(lines, [])]
        if header != _HEADER:
            raise UsageError(f"{escape(path)}: the first line is '{escape(','.join(header))[:80]}', not 'checkpoint,accuracy'")
        for line in lines:
            if line:
                _take(line, f"{escape(path)}, line {lines.line_num}", known, found)
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{escape(path)}: is no CSV table: {error}") from error
    for number, source in enumerate(sources):
        if number not in found:
            raise UsageError(f"{escape(path)}: says nothing about checkpoint '{escape(source.model_id)}'")
    return [found[number] for number in range(len(sources))]


def _text(path: str) -> str:
    """The text of a regular file of at most 16 MiB."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would be waited for
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UsageError(f"{escape(path)}: is no regular file")
        read = stream.read(_MOST_BYTES + 1)
    if len(read) > _MOST_BYTES:
        raise UsageError(f"{escape(path)}: more than {_MOST_BYTES} bytes")
    return read.decode("utf-8-sig")


def _names(sources: Sequence[Source]) -> dict[str, int | None]:
    """The names of every checkpoint; None for one that two of them have."""
    known: dict[str, int | None] = {}
    for number, source in enumerate(sources):
        for name in {source.model_id, source.shown, source.path, os.path.basename(source.path)}:
            known[name] = number if known.get(name, number) == number else None
    return known


def _take(line: Sequence[str], where: str, known: dict[str, int | None], found: dict[int, float]) -> None:
    """One line of the table into what was found."""
    if len(line) != len(_HEADER):
        raise UsageError(f"{where}: {len(line)} fields for 2")
    name, text = line[0].strip(), line[1].strip()
    if name not in known:
        raise UsageError(f"{where}: '{escape(name)[:80]}' is none of the checkpoints")
    number = known[name]
    if number is None:
        raise UsageError(f"{where}: '{escape(name)[:80]}' is the name of several checkpoints")
    if number in found:
        raise UsageError(f"{where}: checkpoint '{escape(name)[:80]}' has an accuracy already")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{where}: accuracy '{escape(text)[:40]}' is no finite number")
    found[number] = value
