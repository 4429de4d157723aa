"""What a worker is asked to do: a path, a tensor and options in, plain records out; no array crosses a process border."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from ww_static import analysis, seam, storage
from ww_static.analysis import Permute, Survey
from ww_static.errors import FormatError, LimitError
from ww_static.layers import LayerView
from ww_static.options import Options
from ww_static.plan import Settings
from ww_static.rows import LayerRow
from ww_static.seam import Identity, OpenCheckpoint
from ww_static.spectral import lapack
from ww_static.spectral.eigen import Method


@dataclass(frozen=True, slots=True)
class Target:
    """A model as it was planned, for the tasks of one run.

    Attributes:
        path: the file to open.
        settings: limits and readers.
        identities: its files as they were.
        run: name of the run; a model is kept open for tasks of the same run only.
    """

    path: str
    settings: Settings
    identities: tuple[Identity, ...]
    run: str


def survey_tensors(target: Target, names: Sequence[str]) -> list[Survey | FormatError]:
    """One pass over each of some tensors of a model (a task; runs in any process); a failure costs its tensor only."""
    checkpoint = open_planned(target)
    found: list[Survey | FormatError] = []
    for name in names:
        try:
            found.append(analysis.survey(checkpoint, checkpoint.spec(name)))
        except FormatError as error:
            checkpoint.check_unchanged()  # a file that changes is told from one that never held the bytes
            found.append(error)
        except MemoryError:
            found.append(LimitError("memory_limit", f"tensor '{name}'", "ran out of memory"))
    checkpoint.check_unchanged()
    return found


def find_backend() -> str:
    """What computes spectra fastest and rightly here (a task): it calls foreign routines for the first time, and may crash."""
    return lapack.backend_name()


def spectrum_of_view(
    target: Target, view: LayerView, tensor: Survey, options: Options, method: Method, backend: str, permute: Permute = "fits"
) -> LayerRow:
    """The row of one view (a task; runs in any process)."""
    checkpoint = open_planned(target)
    row = analysis.analyze_view(checkpoint, view, tensor, options, method, backend, permute)
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

    target: Target | None = None
    checkpoint: OpenCheckpoint | None = None


_kept = _Kept()
_lock = threading.Lock()
_of_run: dict[str, list[OpenCheckpoint]] = {}  # what the threads of this process keep open


def open_planned(target: Target) -> OpenCheckpoint:
    """The model that was planned, opened in this thread; one is kept open per thread, until its run ends."""
    if _kept.target == target and _kept.checkpoint is not None and _is_open(target.run, _kept.checkpoint):
        return _kept.checkpoint
    if _kept.target is not None and _kept.checkpoint is not None and _is_open(_kept.target.run, _kept.checkpoint):
        _of_run[_kept.target.run].remove(_kept.checkpoint)
        _kept.checkpoint.close()
    for planned in target.identities:
        seam.check_same(planned, seam.identify(planned.path))
    checkpoint = seam.open_checkpoint(target.path, target.settings.limits, target.settings.readers)
    _kept.target, _kept.checkpoint = target, checkpoint
    with _lock:
        _of_run.setdefault(target.run, []).append(checkpoint)
    for planned in target.identities:
        seam.check_same(planned, seam.identify(planned.path))
    return checkpoint


def _is_open(run: str, checkpoint: OpenCheckpoint) -> bool:
    return checkpoint in _of_run.get(run, ())


def close_kept(run: str) -> None:
    """Closes what the threads of this process keep open for a run that has ended."""
    with _lock:
        ended = _of_run.pop(run, [])
    for checkpoint in ended:
        checkpoint.close()
