"""Small PyTorch archives around one storage of 24 floats, opened or refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import torch_files as tf
from torch_files import stored, tensor, zipped
from ww_static.errors import FormatError
from ww_static.protocol import Limits
from ww_static.seam import OpenCheckpoint, open_checkpoint

VALUES = np.arange(24, dtype=np.float32)
FLOATS = stored("FloatStorage", "0", 24)
FULL = tensor(FLOATS, (4, 6))
FULL_1 = tensor(stored("FloatStorage", "1", 24), (4, 6))


def save(folder: Path, root: Any, records: Mapping[str, bytes] | None = None, more: Mapping[str, bytes] | None = None) -> Path:
    path = folder / "model.pt"
    path.write_bytes(zipped(tf.members(root, {"0": VALUES.tobytes()} if records is None else records, more=more)))
    return path


def opened(
    folder: Path, root: Any, records: Mapping[str, bytes] | None = None, more: Mapping[str, bytes] | None = None
) -> OpenCheckpoint:
    return open_checkpoint(save(folder, root, records, more))


def found(folder: Path, root: Any) -> set[str]:
    with opened(folder, root) as checkpoint:
        return {one.category for one in checkpoint.findings}


def refused(folder: Path, root: Any, match: str, limits: Limits | None = None) -> None:
    with pytest.raises(FormatError, match=match):
        open_checkpoint(save(folder, root), limits)
