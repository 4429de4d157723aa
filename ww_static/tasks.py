"""What a worker is asked to do: a path, a tensor and options in, plain records out; no array crosses a process border."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence

from ww_static import analysis, seam, storage
from ww_static.analysis import Survey
from ww_static.errors import FormatError
from ww_static.layers import LayerView
from ww_static.options import Options
from ww_static.plan import Settings
from ww_static.rows import LayerRow
from ww_static.seam import Identity, OpenCheckpoint


def survey_tensors(
    path: str, settings: Settings, identities: tuple[Identity, ...], names: Sequence[str]
) -> list[Survey | FormatError]:
    """One pass over each of some tensors of a model (a task; runs in any process); a failure costs its tensor only."""
    checkpoint = open_planned(path, settings, identities)
    found: list[Survey | FormatError] = []
    for name in names:
        try:
            found.append(analysis.survey(checkpoint, checkpoint.spec(name)))
        except FormatError as error:
            checkpoint.check_unchanged()  # a file that changes is told from one that never held the bytes
            found.append(error)
    checkpoint.check_unchanged()
    return found


def spectrum_of_view(
    path: str,
    settings: Settings,
    identities: tuple[Identity, ...],
    view: LayerView,
    tensor: Survey,
    options: Options,
    grant: int,
) -> LayerRow:
    """The row of one view (a task; runs in any process)."""
    checkpoint = open_planned(path, settings, identities)
    row = analysis.analyze_view(checkpoint, view, tensor, options, grant)
    checkpoint.check_unchanged()
    return row


def hash_file(path: str) -> str:
    """sha256 of a whole file, by positional reads (a task)."""
    descriptor = storage.open_file(path)
    try:
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise storage.io_error(error) from error
    finally:
        os.close(descriptor)


class _Kept(threading.local):
    """The model that the last task of this thread was about, kept open for the next one."""

    key: tuple[str, Settings, tuple[Identity, ...]] | None = None
    checkpoint: OpenCheckpoint | None = None


_kept = _Kept()
_every: list[OpenCheckpoint] = []  # of all threads, so that a run can close them at its end


def open_planned(path: str, settings: Settings, identities: tuple[Identity, ...]) -> OpenCheckpoint:
    """The model that was planned, opened in this thread; one is kept open per thread, until `close_kept`."""
    key = (path, settings, identities)
    if _kept.checkpoint in _every:
        assert _kept.checkpoint is not None
        if _kept.key == key:
            return _kept.checkpoint
        _kept.checkpoint.close()
        _every.remove(_kept.checkpoint)
    checkpoint = seam.open_checkpoint(path, settings.limits, settings.readers)
    _kept.key, _kept.checkpoint = key, checkpoint
    _every.append(checkpoint)
    for planned in identities:
        seam.check_same(planned, seam.identify(planned.path))
    return checkpoint


def close_kept() -> None:
    """Closes what the threads of this process keep open; a task that comes later opens it again."""
    while _every:
        _every.pop().close()
