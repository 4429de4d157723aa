"""What a worker is asked to do: a path, a tensor and options in, plain records out; no array crosses a process border.

What computes is loaded by the tasks themselves: a process that hands them to others needs no numpy.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ww_static import based, seam, storage
from ww_static.errors import FormatError, LimitError
from ww_static.layout.layers import LayerView
from ww_static.measuring.surveys import Survey
from ww_static.options import Options
from ww_static.plan import Settings
from ww_static.rows import LayerRow
from ww_static.seam import Identity, OpenCheckpoint
from ww_static.workers import confinement

if TYPE_CHECKING:
    from ww_static.spectral.eigen import Method
    from ww_static.spectral.missing import Missing
    from ww_static.spectral.randomized import Randomized


@dataclass(frozen=True, slots=True)
class Target:
    """A model as it was planned, for the tasks of one run.

    Attributes:
        path: the file to open.
        settings: limits and readers.
        identities: its files as they were.
        run: name of the run; a model is kept open for tasks of the same run only.
        base: the file of the model that it was made from, when the two are read together.
    """

    path: str
    settings: Settings
    identities: tuple[Identity, ...]
    run: str
    base: str | None = None


def survey_tensors(target: Target, names: Sequence[str]) -> list[Survey | FormatError]:
    """One pass over each of some tensors of a model (a task; runs in any process); a failure costs its tensor only."""
    from ww_static.measuring import analysis

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
    from ww_static.spectral import lapack

    return lapack.backend_name()


@dataclass(frozen=True, slots=True)
class Job:
    """A row to compute.

    Attributes:
        view, tensor: which matrices, and the survey of their tensor.
        method: how.
        lacking: column groups that do not fit into memory.
        shares: what `spectra_of_matrices` gave, for all of its matrices in their order; nothing when they are to be taken.
        replicas: what `replica_of_view` gave, for all of its replicas in their order; nothing when they are to be taken.
    """

    view: LayerView
    tensor: Survey
    method: Method
    lacking: tuple[str, ...] = ()
    shares: tuple[bytes, ...] = ()
    replicas: tuple[bytes, ...] = ()


def spectra_of_views(target: Target, jobs: Sequence[Job], options: Options, backend: str) -> list[LayerRow]:
    """The rows of some views (a task; runs in any process); when one of several fails as a whole, each is tried alone."""
    from ww_static.measuring import analysis

    checkpoint = open_planned(target)
    rows = []
    with confinement.blas_threads(options.blas_threads):
        for job in jobs:
            known = [spectrum for share in job.shares for spectrum in pickle.loads(share)]
            permuted = _joined_replicas(job)
            row = analysis.analyze_view(
                checkpoint, job.view, job.tensor, options, job.method, backend, known, job.lacking, permuted
            )
            checkpoint.check_unchanged()
            rows.append(row)
    return rows


def spectra_of_matrices(target: Target, job: Job, part: slice, options: Options, backend: str) -> bytes:
    """The spectra of some matrices of a view, in a form that passes unopened through a process without numpy (a task)."""
    from ww_static.measuring import analysis

    checkpoint = open_planned(target)
    with confinement.blas_threads(options.blas_threads):
        spectra = analysis.spectra_of(
            checkpoint, job.view, job.view.matrices[part], job.tensor, job.method, backend, options.precision
        )
    checkpoint.check_unchanged()
    return pickle.dumps(spectra)


def replica_of_view(target: Target, job: Job, number: int, options: Options, backend: str) -> bytes:
    """One permuted copy of a view's matrices, in such a form (a task); those after the first need it among `Job.replicas`."""
    from ww_static.measuring import randomizing
    from ww_static.spectral.missing import Missing

    checkpoint = open_planned(target)
    with confinement.blas_threads(options.blas_threads):
        if number == 0:
            found = pickle.dumps(randomizing.first_replica(checkpoint, job.view, job.tensor, options, backend))
        else:
            first = pickle.loads(job.replicas[0])
            if isinstance(first, Missing):
                return job.replicas[0]
            found = pickle.dumps(randomizing.further(checkpoint, job.view, job.tensor, options, backend, number, first))
    checkpoint.check_unchanged()
    return found


def _joined_replicas(job: Job) -> Randomized | Missing | None:
    """The replicas of a view that have been taken already."""
    if not job.replicas:
        return None
    from ww_static.measuring import randomizing
    from ww_static.spectral.missing import Missing

    first, *others = (pickle.loads(one) for one in job.replicas)
    return first if isinstance(first, Missing) else randomizing.joined(job.view, first, others)


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
    """The models that the last task of this thread was about, kept open for the next one."""

    def __init__(self) -> None:
        self.models: dict[Target, OpenCheckpoint] = {}


_kept = _Kept()
_lock = threading.Lock()
_of_run: dict[str, list[OpenCheckpoint]] = {}  # what the threads of this process keep open


def open_planned(target: Target, beside: Target | None = None) -> OpenCheckpoint:
    """The model that was planned, opened in this thread, and kept open until its run ends or a task is about another.

    Args:
        target: the model.
        beside: another one that the same task reads, and that stays open too.
    """
    for other, checkpoint in list(_kept.models.items()):
        is_open = _is_open(other.run, checkpoint)
        if is_open and other == target:
            return checkpoint
        if not is_open or other != beside:
            del _kept.models[other]
            if is_open:
                _of_run[other.run].remove(checkpoint)
                checkpoint.close()
    for planned in target.identities:
        seam.check_same(planned, seam.identify(planned.path))
    checkpoint = based.open_model(target.path, target.settings.limits, target.settings.readers, target.base)
    _kept.models[target] = checkpoint
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
