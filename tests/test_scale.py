"""Files far larger than memory: they are listed in little memory, and analyzed within the budget that was given."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from support import ROOT, load_module

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory of other processes is read from /proc")

MIB = 2**20
LISTED = 150 * MIB
_MEASURED = """
import json, sys
from pathlib import Path
from benchmarks import measure
found = measure.run(sys.argv[2:], Path(sys.argv[1]))
print(json.dumps([found.exit_code, found.peak.total]))
"""


@pytest.fixture(scope="module", name="large")
def _large() -> Callable[..., Path]:
    """Writers of large files, of the benchmarks."""
    sys.path.insert(0, str(ROOT))
    try:
        module = load_module(ROOT / "benchmarks" / "large.py", "benchmarks_large")
    finally:
        sys.path.remove(str(ROOT))

    def write(kind: str, path: Path, count: int, side: int) -> Path:
        made: Path = getattr(module, kind)(path, module.squares(count, side))
        return made

    return write


def _peak(folder: Path, *words: str) -> tuple[int, int, bytes]:
    """Exit code, most private memory of all processes together, and stdout of `ww-static` with these words."""
    log = folder / "log"
    command: Sequence[str] = [sys.executable, "-c", _MEASURED, str(log), sys.executable, "-m", "ww_static", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    code, peak = json.loads(done.stdout)
    return code, peak, log.read_bytes()


@pytest.mark.parametrize(
    ("kind", "name", "count", "side", "gibibytes"),
    [("sparse_onnx", "m.onnx", 48, 4096, 3), ("sparse_safetensors", "m.safetensors", 32, 32_768, 64)],
)
def test_a_file_larger_than_memory_is_listed_in_little(
    tmp_path: Path, large: Callable[..., Path], kind: str, name: str, count: int, side: int, gibibytes: int
) -> None:
    path = large(kind, tmp_path / name, count, side)
    size = path.stat()
    assert size.st_size > gibibytes * 2**30
    if size.st_blocks * 512 > MIB:
        pytest.skip("this file system has no holes")
    code, peak, out = _peak(tmp_path, "describe", str(path), "--format", "json")
    rows = json.loads(out)["tensors"]
    assert (code, len(rows)) == (0, count)
    assert {tuple(row["shape"]) for row in rows} == {(side, side)}
    assert 0 < peak <= LISTED, f"{peak / MIB:.0f} MiB"


def test_a_large_onnx_model_is_analyzed_within_its_budget(tmp_path: Path, large: Callable[..., Path]) -> None:
    """Its values are more than may be held; two of its matrices are selected, so that it ends soon."""
    path = large("written_onnx", tmp_path / "m.onnx", 80, 1024)
    assert path.stat().st_size > 300 * MIB
    words = ("--layers", "layers.[78].weight", "--max-memory", "300MiB", "--format", "json")
    code, peak, out = _peak(tmp_path, "analyze", str(path), *words)
    rows = [row for row in json.loads(out)["layers"] if row["status"] == "success"]
    assert (code, len(rows)) == (0, 2)
    assert 0 < peak <= 300 * MIB, f"{peak / MIB:.0f} MiB"
