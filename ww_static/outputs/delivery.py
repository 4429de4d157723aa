"""A finished result on its way out: files first, then stdout, and one line on stderr for everything unread."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from importlib import import_module

from ww_static.errors import UsageError, escape
from ww_static.models import Source
from ww_static.outputs import render, writers
from ww_static.rows import LayerRow
from ww_static.tables import Tables


def check_outputs(output: Sequence[str] | None, stdout: str, *, audited: bool = False) -> None:
    """Refuses before anything is read what could not be written after everything is."""
    for path in output or ():
        kind = writers.format_of(path)
        if kind in writers.OF_AUDITS and not audited:
            raise UsageError(f"output '{path}': {writers.unaudited(kind)}")
        folder = path if kind == "folder" else os.path.dirname(os.path.abspath(path))
        if kind != "folder" and not os.path.isdir(folder):
            raise UsageError(f"output '{path}': there is no folder '{folder}'")
        if os.path.isdir(folder) and not os.access(folder, os.W_OK):
            raise UsageError(f"output '{path}': folder '{folder}' cannot be written to")
    if not output and stdout in writers.BINARY and sys.stdout.isatty():
        raise UsageError(f"{stdout} is not for a terminal; use -o FILE or redirect stdout")


def check_baseline(path: str | None) -> None:
    """Refuses before anything is read a baseline that could not be written."""
    if path is None:
        return
    if writers.format_of(path) != "json":
        raise UsageError(f"--write-baseline '{path}' ends in something else than .json")
    check_outputs([path], "json")


def write_baseline(result: Tables, path: str | None) -> None:
    """Writes a result as a baseline, unless it is of a part of what was asked for."""
    if path is not None and result.interrupted:
        print(f"baseline '{escape(path)}' was not written: the run was interrupted", file=sys.stderr)
    elif path is not None:
        writers.write(result, path)


def prepare(output: Sequence[str] | None, stdout: str) -> None:
    """Begins to load what writes Arrow tables, in a thread, when some are asked for: there is time while workers compute."""
    kinds = {writers.format_of(path) for path in output} if output else {stdout}
    if kinds & (writers.BINARY | {"folder"}):
        threading.Thread(target=import_module, args=("pyarrow.parquet",), daemon=True).start()


def deliver(
    result: Tables,
    sources: Sequence[Source],
    *,
    output: Sequence[str] | None,
    stdout: str | None,
    color: str,
    verbose: bool,
    quiet: bool,
) -> None:
    """Writes a result to its files, prints it unless there are any, and says on stderr what could not be read.

    Args:
        result: the tables of a run.
        sources: the models, to name files as the user named them.
        output: files to write, by suffix; they silence stdout.
        stdout: the format that stdout gets; None when it has been printed already.
        color: ``auto``, ``always`` or ``never``.
        verbose: show every row of the table.
        quiet: say on stderr only which files could not be read, not which tensors.
    """
    for path in output or ():
        writers.write(result, path)
    table = stdout == "table" and not output
    if result.judgement is None:
        _complain(result, sources, everything=not table and not quiet)
    elif not table:  # the page of an audit says all of this itself
        _say_verdicts(result, sources, quiet)
    if output or stdout is None:
        return
    if table:
        _print_table(result, color, verbose)
    elif stdout in writers.BINARY:
        sys.stdout.buffer.write(writers.binary(result, stdout))
    else:
        put(writers.text(result, stdout))


class Lines:
    """Rows as JSON lines on stdout, each as soon as it is there: call it with a row, then finish it with the result.

    Args:
        lasting: go on when nobody reads stdout any more.
    """

    def __init__(self, lasting: bool = False) -> None:
        self._put, self._lasting = 0, lasting

    def __call__(self, row: LayerRow) -> None:
        try:
            put(writers.line("layer", row))
        except BrokenPipeError:
            if not self._lasting:
                raise
            fall_silent()
        self._put += 1

    def finish(self, result: Tables) -> None:
        """The rows that an interruption kept back, the other tables, and the summary."""
        for kind, table in (("layer", result.rows[self._put :]), ("finding", result.finding_rows), ("file", result.file_rows)):
            for row in table:
                put(writers.line(kind, row))
        put(writers.summary_line(result))


def _complain(result: Tables, sources: Sequence[Source], everything: bool) -> None:
    """One line on stderr per file that could not be read; with `everything`, per inconclusive finding too."""
    named = {source.model_id: source.path for source in sources}
    for row in result.rows:
        if row.status == "error":
            print(f"{escape(named[row.model_id])}: {escape(row.category)}: {escape(row.message)}", file=sys.stderr)
    for finding in result.finding_rows:
        if everything and finding.inconclusive:
            shown = named.get(finding.model_id or "", finding.file)
            parts = (shown, finding.category, finding.where, finding.message)
            print(": ".join(escape(part) for part in parts if part), file=sys.stderr)
    if not sources:
        print("ww-static: no model was found", file=sys.stderr)


def _say_verdicts(result: Tables, sources: Sequence[Source], quiet: bool) -> None:
    """One line on stderr per model that does not pass: a log shows why the command ended as it did."""
    from ww_static.outputs import audit_page

    _complain(result, sources, everything=False)
    for line in () if quiet else audit_page.verdict_lines(result):
        print(escape(line), file=sys.stderr)


def _print_table(result: Tables, color: str, verbose: bool) -> None:
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else render.PLAIN_WIDTH
    forced = {"always": True, "never": False}.get(color)
    console = Console(force_terminal=forced, no_color=True if color == "never" else None, width=width, highlight=False)
    render.terminal(result, console, verbose)


def fall_silent() -> None:
    """Sends whatever else goes to stdout nowhere: its reader has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def put(text: str) -> None:
    """Text on stdout as UTF-8, at once, whatever the locale says."""
    sys.stdout.buffer.write(text.encode("utf-8"))
    sys.stdout.buffer.flush()
