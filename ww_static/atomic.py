"""Files that appear under their name when they are complete, and not before."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO


@contextmanager
def replacing(path: str) -> Iterator[IO[bytes]]:
    """A stream whose content appears under `path` when it is complete: temporary file (its `name`), sync, rename."""
    folder = os.path.dirname(os.path.abspath(path))
    temporary = os.path.join(folder, f".ww-static-{uuid.uuid4().hex}.tmp")
    stream = open(temporary, "xb")  # noqa: SIM115  (what fails here has left nothing behind)
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename is None:
            raise OSError(error.errno, error.strerror or str(error), path) from error
        raise
