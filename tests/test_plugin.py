"""A third-party reader as a wheel of its own: built, installed beside, found by its entry point, tested with the suite."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "ww-static-rawf"
version = "0.7"

[project.entry-points."ww_static.readers"]
rawf = "ww_static_rawf"

[tool.hatch.build.targets.wheel]
include = ["ww_static_rawf.py"]
"""

READER = '''\
"""rawf: `RAWF | u32 little-endian header length | lines "name rows columns" | float32 payload of each`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ww_static import storage
from ww_static.errors import FormatError, LimitError
from ww_static.protocol import Extent, Finding, Limits, TensorSpec, Window

_MAGIC = b"RAWF"


def sniff(path: Path, head: bytes) -> bool:
    return head.startswith(_MAGIC)


def open(path: Path, limits: Limits) -> RawCheckpoint:
    descriptor = storage.open_file(path)
    try:
        return RawCheckpoint(path, _tensors(descriptor, path, limits))
    finally:
        os.close(descriptor)


class RawCheckpoint:
    findings: Sequence[Finding] = ()

    def __init__(self, path: Path, tensors: Sequence[TensorSpec]) -> None:
        self.path = path
        self.tensors = tensors

    def read(self, spec: TensorSpec, window: Window = ()) -> Any:
        assert spec.extent is not None
        descriptor = storage.open_file(self.path)
        try:
            return storage.window_of(descriptor, spec.extent.offset, spec.dtype, spec.shape, window)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        pass


def _tensors(descriptor: int, path: Path, limits: Limits) -> list[TensorSpec]:
    size = os.fstat(descriptor).st_size
    start = storage.read_at(descriptor, 0, 8, "header")
    if start[:4] != _MAGIC:
        raise FormatError("bad_header", "header", f"begins with {start[:4]!r}")
    length = int.from_bytes(start[4:], "little")
    if length > limits.header_bytes:
        raise LimitError("limit", "header", f"{length} bytes, limit {limits.header_bytes}")
    if 8 + length > size:
        raise FormatError("truncated", "header", f"ends at byte {8 + length}, file has {size}")
    text = storage.read_at(descriptor, 8, length, "header").decode("latin-1")
    offset = 8 + length
    tensors: dict[str, TensorSpec] = {}
    for line in text.split("\\n")[:-1]:
        name, *counts = line.split(" ")
        where = f"tensor '{name}'"
        if len(counts) != 2 or not all(count.isascii() and count.isdecimal() and len(count) < 10 for count in counts):
            raise FormatError("bad_header", where, "its line is not a name and two counts")
        if name in tensors:
            raise FormatError("duplicate_name", where, "appears twice")
        rows, columns = (int(count) for count in counts)
        extent = Extent(os.fspath(path), offset, 4 * rows * columns)
        tensors[name] = TensorSpec(name, "F32", (rows, columns), path.name, axes=("out", "in"), extent=extent)
        offset += extent.nbytes
    if offset != size:
        raise FormatError("size_mismatch", "payload", f"file has {size} bytes, its tensors end at {offset}")
    return list(tensors.values())
'''

SUITE = """\
import struct

import ww_static_rawf
from ww_static.testing import ReaderSuite


class TestRawf(ReaderSuite):
    reader = ww_static_rawf
    shapes = ((4, 6), (1, 1), (0, 3), (3, 0))
    names = ("w", "layer/../0.weight")

    def write(self, folder, tensors):
        lines = "".join("%s %d %d\\n" % (name, *stored.array.shape) for name, stored in tensors.items()).encode()
        path = folder / "model.rawf"
        path.write_bytes(b"RAWF" + struct.pack("<I", len(lines)) + lines + b"".join(s.array.tobytes() for s in tensors.values()))
        return path
"""


def _run(*arguments: str, beside: Path | None = None, cwd: Path) -> str:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    if beside is not None:
        environment["PYTHONPATH"] = os.fspath(beside)
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed plugin, and nothing else."""
    root = tmp_path_factory.mktemp("plugin")
    source = root / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "ww_static_rawf.py").write_text(READER)
    (source / "test_rawf.py").write_text(SUITE)
    offline = ["--no-deps", "--no-index", "--quiet"]
    _run("-m", "pip", "wheel", *offline, "--no-build-isolation", "-w", "wheels", "./source", cwd=root)
    (wheel,) = (root / "wheels").glob("*.whl")
    _run("-m", "pip", "install", *offline, "--target", "installed", os.fspath(wheel), cwd=root)
    return root / "installed"


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    weights = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    path = tmp_path / "model.rawf"
    header = b"layer.0.weight 40 30\n"
    path.write_bytes(b"RAWF" + struct.pack("<I", len(header)) + header + weights.tobytes())
    return path, weights


Model = tuple[Path, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]


def test_the_plugin_passes_the_suite_with_its_own_tests(beside: Path) -> None:
    tests = os.fspath(beside.parent / "source" / "test_rawf.py")
    text = _run(
        "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", tests, beside=beside, cwd=beside.parent / "source"
    )
    assert re.search(r"\b[12]\d passed", text)


def test_open_reads_with_the_plugin(beside: Path, model: Model) -> None:
    path, weights = model
    program = (
        "import sys, json, ww_static\n"
        "with ww_static.open(sys.argv[1]) as checkpoint:\n"
        "    spec, = checkpoint.tensors\n"
        "    window = checkpoint.read(spec, (slice(3, 5), slice(None, None, -7)))\n"
        "    print(json.dumps([checkpoint.reader, spec.name, spec.axes, window.tolist()]))\n"
    )
    reader, name, axes, values = json.loads(_run("-c", program, os.fspath(path), beside=beside, cwd=path.parent))
    assert (reader, name, axes) == ("rawf", "layer.0.weight", ["out", "in"])
    np.testing.assert_array_equal(np.array(values, np.float32), weights[3:5, ::-7])


def test_the_list_of_readers_names_the_plugin_and_its_package(beside: Path, tmp_path: Path) -> None:
    lines = _run("-m", "ww_static", "readers", "list", beside=beside, cwd=tmp_path).splitlines()
    assert [line.split() for line in lines if line.startswith("rawf")] == [["rawf", "ww-static-rawf", "0.7", "ww_static_rawf"]]
    assert any(line.startswith("safetensors") for line in lines)


def test_analyze_gives_rows_of_a_format_that_only_the_plugin_knows(beside: Path, model: Model) -> None:
    path, weights = model
    _run("-m", "ww_static", "analyze", os.fspath(path), "-o", "out.parquet", beside=beside, cwd=path.parent)
    (row,) = pq.read_table(path.parent / "out.parquet").to_pylist()
    assert (row["status"], row["reader"], row["name"], row["shape"]) == ("success", "rawf", "layer.0.weight", [40, 30])
    assert row["lambda_max"] == pytest.approx(np.linalg.norm(weights.astype(float), 2) ** 2, rel=1e-12)


def test_a_plugin_that_is_not_allowed_is_never_imported(beside: Path, model: Model) -> None:
    program = (
        "import sys, ww_static\n"
        "try:\n"
        "    ww_static.open(sys.argv[1], readers=['safetensors'])\n"
        "except ww_static.UnknownFormatError as error:\n"
        "    print(error.category, 'ww_static_rawf' in sys.modules)\n"
    )
    assert _run("-c", program, os.fspath(model[0]), beside=beside, cwd=model[0].parent).split() == ["unsupported", "False"]
