"""The memory that a worker may take to read a file: more is an error of that file."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import ww_static as ww
from support import safetensors_bytes
from ww_static.errors import LimitError
from ww_static.protocol import Limits


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA counts private maps on Linux only")
def test_limit_reading_bytes(tmp_path: Path) -> None:
    path = tmp_path / "many.safetensors"
    path.write_bytes(safetensors_bytes({f"t{i}.weight": np.ones(1, np.float32) for i in range(30_000)}))
    assert len(ww.describe(path)) == 30_000
    with pytest.raises(LimitError, match="limit: header: does not fit into 4194304 bytes of memory"):
        ww.describe(path, limits=Limits(reading_bytes=4 * 2**20))
