"""What the commands that read models share: how a run is set up from the options, and how its result leaves."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import typer

from ww_static.commands.options import AuditFormat, Color, Format, Progress, split
from ww_static.errors import UsageError

if TYPE_CHECKING:
    from ww_static.models import Source
    from ww_static.plan import Settings
    from ww_static.results import Result


@dataclass(frozen=True, slots=True)
class Talk:
    """Where a result goes, and what is said on the way."""

    output: Sequence[str] | None
    output_format: Format | AuditFormat
    progress: Progress
    color: Color
    quiet: bool
    verbose: bool


def settings_of(
    jobs: str, max_memory: str | int | None, readers: str | None, timeout: float, time_budget: float | None = None
) -> Settings:
    """How a run is carried out, from what the options say."""
    from ww_static import api

    return api.settings_of(jobs, max_memory, split(readers) or None, None, timeout, time_budget)


def paths_of(paths: Sequence[str]) -> list[str]:
    """The paths that a command was given; ``-`` stands for those on stdin.

    Raises:
        UsageError: there is none, or no file can be called by one of them.
    """
    from ww_static.options import path_text

    found: list[str] = []
    for path in paths:
        if path == "-":
            lines = sys.stdin.buffer.read().splitlines() if sys.stdin is not None else []
            found.extend(os.fsdecode(line) for line in lines if line.strip())
        else:
            found.append(path)
    if not found:
        raise UsageError("no path was given")
    return [path_text(path) for path in found]


def codes_of(text: str | None, option: str) -> tuple[str, ...]:
    """The words of a list with commas that has at least one, where it is given.

    Raises:
        UsageError: it is empty, which would not mean none but all.
    """
    found = split(text)
    if text is not None and not found:
        raise UsageError(f"{option} names nothing; give at least one code, or leave the option out")
    return found


@contextmanager
def unheard(code: int) -> Iterator[None]:
    """Ends a command quietly with this exit code when whoever read its output has gone; tables say so by `SystemExit`."""
    try:
        yield
    except (BrokenPipeError, SystemExit):
        from ww_static.outputs import delivery

        delivery.fall_silent()
        raise typer.Exit(code) from None


def finish(result: Result, sources: Sequence[Source], talk: Talk, *, printed: bool = False) -> NoReturn:
    """Delivers a result and exits with its code; `printed` when stdout has its rows already."""
    from ww_static.outputs import delivery

    delivery.deliver(
        result, sources, output=talk.output, stdout=None if printed else talk.output_format.value, color=talk.color.value,
        verbose=talk.verbose, quiet=talk.quiet,
    )  # fmt: skip
    raise typer.Exit(result.exit_code)
