"""The corpus of hostile files: each case ends as its manifest says, nothing runs, nothing outside is read."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ww_static
from support import load_module, safetensors_bytes
from ww_static import api, models
from ww_static.errors import escape
from ww_static.options import Options
from ww_static.plan import Settings
from ww_static.results import Result
from ww_static.rows import LayerRow
from ww_static.workers.executors import WorkerExecutor

HERE = Path(__file__).resolve().parent / "corpus"
CASES: list[dict[str, Any]] = json.loads((HERE / "manifest.json").read_text())["cases"]
READ = ("safetensors", "pytorch", "pickle", "npz", "onnx", "hdf5", "numerics", "ops")
OURS = [case for case in CASES if case["format"] in READ]
OTHERS = [case for case in CASES if case["format"] not in READ]
REJECTS = [  # those that have no other right answer
    case
    for case in OURS
    if case["expected"] == "reject"
    and "driver" not in case.get("needs", [])
    and all(answer.startswith("reject") for answer in case.get("also_ok", []))
]

# Our category -> the corpus's, where they differ.
CATEGORIES: dict[str, str] = {}
# The corpus's name of a quantized dtype -> the storage dtype of its codes.
CODES = {"QI8": "I8", "QU8": "U8", "QI32": "I32"}
# Statuses of layers: they say something about values, and are no flag on a case that is to be accepted (pass rule 5).
LAYER_STATUSES = {"too_small", "degenerate", "non_float", "unsupported_rank", "nothing_to_analyse", "no_tensors"}
BAIT = "1234.5"
# What a format that has no reader yet, or a folder, a stand-in or a stub of it, is refused as.
REFUSALS = {"unsupported", "lfs_pointer", "truncated", "not_regular_file", "bad_header", "limit", "io_error", "missing_part"}
MOST_BYTES = 2**28  # larger tensors are listed, not hashed


@dataclass(frozen=True)
class Corpus:
    """A working copy, and why this platform lacks some of its special cases."""

    root: Path
    missing: dict[str, str | None]

    def path(self, case: dict[str, Any]) -> str:
        if "driver" in case.get("needs", []):
            pytest.skip("needs a driver that changes the file while it is read: a test of its own")
        if reason := self.missing.get(case["id"]):
            pytest.skip(f"this platform cannot have it: {reason}")
        return os.path.join(self.root, case["file"])


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    root = tmp_path_factory.mktemp("hostile") / "corpus"
    made = load_module(HERE / "make_special.py", "make_special").make(root)
    yield Corpus(root, made)
    assert _executed(root) == []


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test runs in an empty folder, and leaves no trace of a payload there or in the temporary folder."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield
    assert [name for name in (*os.listdir(folder), *os.listdir("/tmp")) if name.startswith("WWS_PWNED")] == []


def _executed(root: Path) -> list[str]:
    """Traces of payloads in the copy and the folders above it."""
    inside = [os.path.join(here, name) for here, folders, files in os.walk(root) for name in (*folders, *files)]
    above = [os.path.join(parent, name) for parent in list(root.parents)[:-1] for name in os.listdir(parent)]
    return [path for path in inside + above if os.path.basename(path).startswith("WWS_PWNED")]


@pytest.fixture(scope="session")
def workers() -> Iterator[WorkerExecutor]:
    pool = WorkerExecutor(2)
    yield pool
    pool.shutdown(cancel_futures=True)


def _analyzed(path: str, workers: WorkerExecutor) -> Result:
    return api.analyze_sources(models.locate([path]), Options(), Settings(jobs=2), workers)


def _category(name: str | None) -> str:
    return CATEGORIES.get(name or "", name or "")


def _outcome(result: Result) -> tuple[str, set[str]]:
    """accept, flag or reject, and the categories that go with it."""
    errors = [row for row in result.rows if row.status == "error"]
    if errors:
        assert len(result.rows) == 1, "a refusal is one row"
        assert result.exit_code == 3
        return "reject", {_category(row.category) for row in errors}
    assert result.exit_code != 4, "a bug of ours"
    found = {_category(row.category) for row in result.finding_rows}
    found |= {row.reason for row in result.rows if row.reason in LAYER_STATUSES}
    return ("flag" if found else "accept"), found


def _passes(case: dict[str, Any], outcome: str, found: set[str]) -> bool:
    flags = found - LAYER_STATUSES if outcome == "flag" else found
    for answer in [f"{case['expected']}:{case.get('category', '')}".rstrip(":"), *case.get("also_ok", [])]:
        wanted, _, category = answer.partition(":")
        if wanted == "accept" and outcome != "reject" and not flags:
            return True
        if wanted == outcome and wanted != "accept" and (not category or category in found):
            return True
    return False


@pytest.mark.parametrize("case", OURS, ids=lambda case: case["id"])
def test_a_case_ends_as_the_corpus_says(corpus: Corpus, workers: WorkerExecutor, case: dict[str, Any]) -> None:
    path = corpus.path(case)
    result = _analyzed(path, workers)
    outcome, found = _outcome(result)
    assert _passes(case, outcome, found), f"{case['wrong']}: {outcome} {sorted(found)}"
    assert "unsafe_pickle" not in found or result.exit_code == 3, "what can run code elsewhere is never clean"
    if not _is_bait(corpus, case):
        assert BAIT not in repr(result.rows)
    if outcome != "reject" and case.get("tensors"):
        _check_tensors(path, case["tensors"])


def _is_bait(corpus: Corpus, case: dict[str, Any]) -> bool:
    """Whether a file of the case has the bait for another of its names: then its numbers were not got by reading outside."""
    bait = [path for path in (corpus.root / "_outside").iterdir() if path.is_file()]
    own = [corpus.root / one for one in case.get("companions", [])]
    return any(os.path.samefile(one, path) for one in own for path in bait if one.is_file() and not one.is_symlink())


def _check_tensors(path: str, expected: dict[str, dict[str, Any]]) -> None:
    with ww_static.open(path) as checkpoint:
        for name, tensor in expected.items():
            spec = checkpoint.spec(Path(path).stem if path.endswith(".npy") else name)  # a bare array is called as its file
            assert list(spec.shape) == tensor["shape"]
            assert spec.dtype == CODES.get(tensor["dtype"], tensor["dtype"])
            digest = tensor.get("values_sha256")
            if digest is None or (spec.extent is not None and spec.extent.nbytes > MOST_BYTES):
                continue
            values = np.ascontiguousarray(ww_static.widen(checkpoint.read(spec), spec.dtype), dtype="<f8")
            assert hashlib.sha256(values.tobytes()).hexdigest() == digest, name


def _command(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "ww_static", *arguments], capture_output=True, timeout=60, check=False)


def _check_line(line: str, path: str) -> None:
    assert line.isprintable()
    assert re.match(re.escape(escape(path)) + r": [a-z_]+: .", line), line
    assert "Traceback" not in line


def test_a_refusal_is_exit_code_3_and_one_line_on_stderr(corpus: Corpus, tmp_path: Path) -> None:
    one_per_category = {case["category"]: os.path.join(corpus.root, case["file"]) for case in REJECTS}
    outputs = {path: tmp_path / f"{category}.json" for category, path in one_per_category.items()}
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda path: _command("analyze", path, "-o", os.fspath(outputs[path])), outputs))
    for (path, output), process in zip(outputs.items(), done, strict=True):
        assert process.returncode == 3, process.stderr
        assert process.stdout == b""
        line, end = process.stderr.decode("utf-8").split("\n")
        assert end == ""
        _check_line(line, path)
        assert [row["status"] for row in json.loads(output.read_bytes())["layers"]] == ["error"]


def test_many_refusals_are_one_row_and_one_line_each(corpus: Corpus, tmp_path: Path) -> None:
    paths = [os.path.join(corpus.root, case["file"]) for case in REJECTS if not corpus.missing.get(case["id"])]
    process = _command("analyze", *paths, "-o", os.fspath(tmp_path / "all.json"))
    assert process.returncode == 3
    assert process.stdout == b""
    lines = process.stderr.decode("utf-8").split("\n")
    assert lines.pop() == ""
    for line, path in zip(lines, paths, strict=True):
        _check_line(line, path)
    rows = json.loads((tmp_path / "all.json").read_bytes())["layers"]
    assert [row["status"] for row in rows] == ["error"] * len(paths)


def test_control_characters_in_names_are_escaped_wherever_they_are_printed(tmp_path: Path) -> None:
    tensor = safetensors_bytes({"w\n\x1b[31m\u202e": np.eye(9, dtype=np.float32)})
    good, bad = tmp_path / "a\n\x1b[31m\u202e.safetensors", tmp_path / "b\n\x1b[31m\u202e.safetensors"
    good.write_bytes(tensor)
    bad.write_bytes(tensor[:-1])
    for output_format in ("table", "markdown", "csv"):
        process = _command("analyze", os.fspath(good), os.fspath(bad), "--format", output_format)
        assert process.returncode == 3
        for stream in (process.stdout, process.stderr):
            text = stream.decode("utf-8").replace("\r\n", "\n")
            assert all(line.isprintable() for line in text.split("\n")), text
            assert "x1b" in text
        assert "b\\x0a\\x1b[31m\\u202e" in process.stderr.decode("utf-8")


def test_files_of_other_formats_each_end_as_one_row_and_nothing_runs(corpus: Corpus, workers: WorkerExecutor) -> None:
    cases = {
        os.path.join(corpus.root, case["file"]): case
        for case in OTHERS
        if "driver" not in case.get("needs", []) and not corpus.missing.get(case["id"])
    }
    sources = [models.Source(path, os.path.basename(path), path) for path in cases]
    before = _heavy()
    result = api.analyze_sources(sources, Options(), Settings(readers=("safetensors",)), workers)
    assert _heavy() == before
    assert _executed(corpus.root) == []
    assert BAIT not in repr(result.rows)
    rows: dict[str | None, list[Any]] = {}
    for row in result.rows:
        rows.setdefault(row.model_id, []).append(row)
    assert set(rows) == set(cases)
    for path, found in rows.items():
        case = cases[str(path)]
        if found[0].status == "error":
            assert len(found) == 1, path
            assert found[0].category in REFUSALS, path
        else:  # content decides: a few files are safetensors under another suffix
            assert case["expected"] == "accept", path
            _check_tensors(str(path), case["tensors"])


def _heavy() -> set[str]:
    return {name for name in sys.modules if name.partition(".")[0] in ("torch", "tensorflow", "keras", "jax", "onnx", "h5py")}


def test_one_scan_of_everything_gives_each_file_the_rows_it_has_alone(corpus: Corpus, workers: WorkerExecutor) -> None:
    cases = [case for case in CASES if "driver" not in case.get("needs", []) and not corpus.missing.get(case["id"])]
    cases = [case for case in cases if not case["file"].endswith("huge_dir")]
    paths = [os.path.join(corpus.root, case["file"]) for case in cases]
    sources = models.locate(paths)
    together = api.analyze_sources(sources, Options(), Settings(jobs=2), workers)
    assert together.exit_code == 3
    assert _executed(corpus.root) == []
    rows: dict[str | None, list[Any]] = {}
    for row in together.rows:
        rows.setdefault(row.model_id, []).append(_comparable(row))
    for source in sources:
        alone = api.analyze_sources([source], Options(), Settings(jobs=2), workers)
        assert [_comparable(row) for row in alone.rows] == rows.get(source.model_id, []), source.path


def _comparable(row: LayerRow) -> LayerRow:
    """The row without what the company of other models changes: its name, and the memory that is left at the moment."""
    return replace(row, model_id=None, message=None if row.reason == "memory_limit" else row.message)


def test_listing_the_whole_folder_is_valid_utf8_and_no_crash(corpus: Corpus) -> None:
    process = _command("describe", os.fspath(corpus.root), "--format", "json")
    assert process.returncode == 3
    rows = json.loads(process.stdout.decode("utf-8"))["tensors"]
    assert sum(row["status"] == "error" for row in rows) >= 30
    assert all(line.isprintable() for line in process.stderr.decode("utf-8").splitlines())
    assert b"Traceback" not in process.stderr


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads memory from /proc")
def test_one_command_over_the_whole_corpus_stays_small(corpus: Corpus, tmp_path: Path) -> None:
    """Bombs included: the parent holds at most 300 MB, each worker 1 GiB; one line and one row for what is refused."""
    out = tmp_path / "all.json"
    command = [sys.executable, "-m", "ww_static", "analyze", os.fspath(corpus.root), "-j", "2", "-q", "-o", os.fspath(out)]
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        most: dict[int, int] = {}
        while process.poll() is None:
            for pid in _family(process.pid):
                most[pid] = max(most.get(pid, 0), _resident_peak(pid))
            time.sleep(0.01)
    assert process.returncode == 3
    assert most.pop(process.pid) <= 300 * 10**6
    assert len(most) >= 3, "the server and two workers at least"
    assert max(most.values()) <= 2**30
    document = json.loads(out.read_bytes())
    refused = [row["file"] for row in document["layers"] if row["status"] == "error"]
    lines = (tmp_path / "said").read_text("utf-8").splitlines()
    assert len(refused) == len(set(refused)) == len(lines)
    assert all(line.isprintable() and "Traceback" not in line for line in lines)
    assert not [row for row in document["layers"] if row["category"] == "internal_error" or row["reason"] == "internal_error"]
    inside = [row for row in document["layers"] if not row["file"].startswith("_outside/")]
    baited = {row["file"] for row in inside if BAIT in json.dumps(row)}
    assert baited <= {one for case in CASES if _is_bait(corpus, case) for one in case["companions"]}
    assert _executed(corpus.root) == []


def _family(pid: int) -> list[int]:
    """The process and all below it, as far as they are still there."""
    found = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                found += _family(int(child))
    except OSError:
        pass
    return found


def _resident_peak(pid: int) -> int:
    """VmHWM in bytes; 0 for a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
