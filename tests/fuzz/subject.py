"""One input given to one reader: opened through the seam, every tensor read in bounded windows, closed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fuzz.mutate import Input
from fuzz.seed import Seed
from ww_static.errors import FormatError, ReaderError
from ww_static.protocol import Limits, TensorSpec, Window
from ww_static.seam import OpenCheckpoint, open_checkpoint

OPENED = "opened"
FAILED = "failed"
_WHOLE = 2**16  # elements up to which a tensor is read whole
_TENSORS = 200  # of one file that are read
_SMALL = Limits(tensors=10_000, protobuf_fields=100_000, pickle_opcodes=100_000)


class BrokenPromiseError(AssertionError):
    """A reader gave other values for a window than for the whole."""


def written(one: Input, folder: Path) -> Path:
    """The file to open, after all files of the input have been written below `folder`."""
    for name, data in one.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # a map of the last input is of another file
        path.write_bytes(data)
    return folder / one.main


def outcome(path: Path, reader: str) -> tuple[str, str]:
    """What came of a file: (``opened``, ''), (category, message) of a refusal, or (``failed``, what is wrong).

    ``opened`` with a category after a plus sign means that it was opened, and then values were refused.
    """
    try:
        with open_checkpoint(path, _SMALL, (reader,)) as checkpoint:
            refused = {_read(checkpoint, spec) for spec in checkpoint.tensors[:_TENSORS]} - {None}
            return (f"{OPENED}+{min(map(str, refused))}" if refused else OPENED), ""
    except ReaderError as error:
        return FAILED, str(error)
    except FormatError as error:
        str(error)
        return error.category, str(error)
    except Exception as error:
        return FAILED, f"{type(error).__name__}: {error}"


def _read(checkpoint: OpenCheckpoint, spec: TensorSpec) -> str | None:
    """Reads one tensor; the category of the refusal, when its values are refused."""
    try:
        window = _window(spec.shape)
        part = checkpoint.read(spec, window)
        if math.prod(spec.shape) > _WHOLE:
            checkpoint.read(spec, (slice(-1, None),) * len(spec.shape))
            return None
        whole = checkpoint.read(spec)
    except ReaderError:
        raise
    except FormatError as error:
        return error.category
    if spec.encoding == "compressed":  # again and again backwards, so that it is held
        for start in range(12, 0, -1):
            window = (slice(None),) * (len(spec.shape) - 1) + (slice(start, start + 2),) * bool(spec.shape)
            part = checkpoint.read(spec, window)
    if not _same(whole[window], part):
        raise BrokenPromiseError(f"tensor '{spec.name:.80}': window {window} differs from the whole {spec.dtype} {spec.shape}")
    return None


def _window(shape: tuple[int, ...]) -> Window:
    """At most some thousand elements: every second of a few indices in the middle of each axis."""
    most = max(2, int(4096 ** (1 / max(len(shape), 1))))
    return tuple(slice(size // 3, size // 3 + 2 * most, 2) for size in shape)


def _same(one: Any, other: Any) -> bool:
    return bool(one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes())


def warm_up(seeds: Sequence[Seed], reader: str, folder: Path) -> None:
    """Reads every seed: modules are imported, and a seed that is no valid file is noticed.

    Raises:
        AssertionError: a seed is refused, or some of its values.
    """
    for seed in seeds:
        found = outcome(written(Input(seed.name, seed.main, seed.files()), folder), reader)
        assert found[0] in (OPENED, *seed.also), f"seed '{seed.name}' of {reader}: {found}"
