"""How far a run is, on stderr: a bar on a terminal, a plain line every 30 seconds elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from ww_static import memory
from ww_static.errors import escape

if TYPE_CHECKING:
    from ww_static.engine import Progress

HEARTBEAT_SECONDS = 30.0
WISHED_SECONDS = 5.0  # where progress was asked for and there is no terminal


class Display(Protocol):
    """Something that shows progress while it is open; call it with each `Progress`."""

    def __enter__(self) -> Display: ...

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None: ...

    def __call__(self, progress: Progress) -> None: ...


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def __call__(self, progress: Progress) -> None:
        pass


class Heartbeat:
    """A line every 30 seconds from a thread of its own: jobs that say nothing are killed."""

    def __init__(self, seconds: float = HEARTBEAT_SECONDS) -> None:
        self._seconds = seconds
        self._started = time.monotonic()
        self._latest: Progress | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def __call__(self, progress: Progress) -> None:
        self._latest = progress

    def _beat(self) -> None:
        while not self._ended.wait(self._seconds):
            print(f"ww-static: {self.line()}", file=sys.stderr, flush=True)

    def line(self) -> str:
        """Time spent, share done, time left, last layer, memory."""
        spent = time.monotonic() - self._started
        held = f"{memory.private_bytes() / 2**20:.0f} MiB"
        latest = self._latest
        if latest is None or latest.done <= 0:
            return f"{spent:.0f} s, {held}"
        left = spent * (latest.total - latest.done) / latest.done
        share = latest.done / latest.total
        return f"{spent:.0f} s, {share:.0%} done, about {left:.0f} s left, after {escape(latest.label)[:80]}, {held}"


class Bar:
    """A bar with the layer, the share of the estimated work, the remaining time and the memory of this process."""

    def __init__(self) -> None:
        from rich import progress as rich_progress
        from rich.console import Console

        self._bar: Any = rich_progress.Progress(
            rich_progress.TextColumn("{task.fields[label]}", markup=False),
            rich_progress.BarColumn(),
            rich_progress.TaskProgressColumn(),
            rich_progress.TimeRemainingColumn(),
            rich_progress.TextColumn("{task.fields[held]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: Any = None

    def __enter__(self) -> Bar:
        self._bar.start()
        self._task = self._bar.add_task("", total=None, label="reading headers", held="")
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        held = f"{memory.private_bytes() / 2**20:.0f} MiB"
        label = escape(progress.label)[-40:]
        self._bar.update(self._task, total=progress.total, completed=progress.done, label=label, held=held)


def display(wish: str, quiet: bool) -> Display:
    """The display for `auto`, `on` or `off`: a bar on a terminal that is not a CI log, else the heartbeat."""
    if wish == "off" or quiet:
        return Silent()
    terminal = sys.stderr.isatty() and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"
    if terminal:
        return Bar()
    return Heartbeat(WISHED_SECONDS if wish == "on" else HEARTBEAT_SECONDS)
