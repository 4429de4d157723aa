"""What a worker is asked to do: a path, a tensor and options in, plain records out; no array crosses a process border."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import lru_cache

from ww_static import analysis, seam, storage
from ww_static.analysis import Survey
from ww_static.layers import LayerView
from ww_static.options import Options
from ww_static.plan import Settings
from ww_static.rows import LayerRow
from ww_static.seam import Identity, OpenCheckpoint


def survey_tensors(path: str, settings: Settings, identities: tuple[Identity, ...], names: Sequence[str]) -> list[Survey]:
    """One pass over each of some tensors of a model (a task; runs in any process)."""
    checkpoint = open_planned(path, settings, identities)
    found = [analysis.survey(checkpoint, checkpoint.spec(name)) for name in names]
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


@lru_cache(maxsize=1)
def open_planned(path: str, settings: Settings, identities: tuple[Identity, ...]) -> OpenCheckpoint:
    """The model that was planned, opened in this process; kept for the next task on the same model."""
    checkpoint = seam.open_checkpoint(path, settings.limits, settings.readers)
    for planned in identities:
        seam.check_same(planned, seam.identify(planned.path))
    return checkpoint
