"""While hostile files are read nothing is imported, executed, written, started or connected, and no other folder is opened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from fuzz.seeds import NEEDS_ISOLATION, SEEDS
from support import load_module

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"
CASES: list[dict[str, Any]] = json.loads((CORPUS / "manifest.json").read_text())["cases"]
# Formats whose files may kill the process, because a reader stands on a C library that crashes: reader -> folders.
MAY_KILL = {case["format"] for case in CASES if case["format"] == "hdf5" and "keras" in NEEDS_ISOLATION}


def _clean(folder: Path) -> Path:
    """A folder with valid files of every reader."""
    for reader, seeds in SEEDS.items():
        for number, seed in enumerate(seeds()):
            for name, data in seed.files().items():
                path = folder / reader / str(number) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    return folder


def _audited(clean: Path, paths: list[Path], cwd: Path, more: Path | None = None) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, lines and stderr of one audited process."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*([str(more)] if more else []), *filter(None, sys.path)])}
    command = [sys.executable, str(HERE / "audit.py"), str(clean), *(os.fsencode(path).hex() for path in paths)]
    try:
        done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, timeout=300, check=False)
    except subprocess.TimeoutExpired as error:
        return -1, [json.loads(line) for line in (error.stdout or b"").splitlines() if line.endswith(b"}")], "no end"
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


def test_reading_the_hostile_corpus_raises_no_event_of_another_kind(tmp_path: Path) -> None:
    root = tmp_path / "copy" / "corpus"
    made = load_module(CORPUS / "make_special.py", "make_special").make(root)
    cases = [case for case in CASES if "driver" not in case.get("needs", []) and not made.get(case["id"])]
    waiting = [(root / case["file"], case["format"]) for case in cases]
    clean, empty = _clean(tmp_path / "clean"), tmp_path / "empty"
    empty.mkdir()
    found: list[dict[str, Any]] = []
    while waiting:
        code, lines, errors = _audited(clean, [path for path, _ in waiting], empty)
        done = [line for line in lines if "file" in line]
        found += done
        if code == 0:
            assert lines[-1] == {"frameworks": []}
            break
        path, kind = waiting[len(done)]  # the one that ended the process
        assert kind in MAY_KILL, f"{path}: exit code {code}: {errors}"
        waiting = waiting[len(done) + 1 :]
    assert {event for line in found for event in line["events"]} == set()
    assert len(found) > 250
    assert sum(line["tensors"] for line in found) > 150
    assert list(empty.iterdir()) == []


BAD_READER = """
import os, socket, subprocess, sys
from ww_static.errors import FormatError

def sniff(path, head):
    return head.startswith(b"BAD!")

def open(path, limits):
    text = path.read_text()[4:]
    if text:
        ACTS[text](path)
    raise FormatError("bad_header", "", "as always")

def _swallowed(path):
    try:
        __import__("colorsys")
    except BaseException:
        pass

ACTS = {
    "import": lambda path: __import__("pyclbr"),
    "exec": lambda path: exec("1"),
    "compile": lambda path: compile("1", "x", "eval"),
    "eval": lambda path: eval("1"),
    "open": lambda path: path.open(encoding="ascii") and __builtins__["open"]("/etc/hostname"),
    "above": lambda path: os.open(path.parent / ".." / "other", os.O_RDONLY),
    "write": lambda path: path.with_name("made").write_bytes(b""),
    "append": lambda path: os.open(path.with_name("kept"), os.O_RDWR | os.O_APPEND | os.O_CREAT),
    "list": lambda path: os.listdir("/"),
    "scan": lambda path: os.scandir(path.parent.parent),
    "system": lambda path: os.system("true"),
    "popen": lambda path: subprocess.Popen(["true"]).wait(),
    "spawn": lambda path: os.posix_spawn("/bin/true", ["true"], {}),
    "fork": lambda path: os.fork() or os._exit(0),
    "execv": lambda path: os.fork() or os.execv("/bin/true", ["true"]),
    "socket": lambda path: socket.socket().close(),
    "dlopen": lambda path: sys.modules["ctypes"].CDLL(None),
    "pickle": lambda path: sys.modules["pickle"].loads(b"cbuiltins\\nprint\\n."),
    "marshal": lambda path: sys.modules["marshal"].loads(b"N"),
    "remove": lambda path: os.remove(path.with_name("kept")),
    "putenv": lambda path: os.putenv("HDF5_PLUGIN_PATH", "/tmp"),
    "swallowed": _swallowed,
}
import ctypes, marshal, pickle
"""
ACTS = {
    "import": "import", "exec": "exec", "compile": "compile", "eval": "compile", "open": "open", "above": "open", "write": "open",
    "append": "open", "list": "os.listdir", "scan": "os.scandir", "system": "os.system", "popen": "subprocess.Popen",
    "spawn": "os.posix_spawn", "fork": "os.fork", "execv": "os.fork", "socket": "socket.__new__", "dlopen": "ctypes.dlopen",
    "pickle": "pickle.find_class", "marshal": "marshal.loads", "remove": "os.remove", "putenv": "os.putenv", "swallowed": "import",
}  # fmt: skip


def test_a_reader_that_does_what_it_must_not_is_caught(tmp_path: Path) -> None:
    installed, clean, files = tmp_path / "installed", tmp_path / "clean", tmp_path / "files"
    (installed / "bad_reader-1.dist-info").mkdir(parents=True)
    (installed / "bad_reader.py").write_text(BAD_READER)
    (installed / "bad_reader-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-reader\nVersion: 1\n")
    (installed / "bad_reader-1.dist-info" / "entry_points.txt").write_text("[ww_static.readers]\nbad = bad_reader\n")
    clean.mkdir()
    (clean / "good").write_text("BAD!")
    paths = []
    for act in ("", *ACTS):
        folder = files / f"for_{act}"
        folder.mkdir(parents=True)
        paths.append(folder / "model")
        paths[-1].write_text(f"BAD!{act}")
        (folder / "kept").write_text("kept")
    (files / "other").write_text("other")
    code, lines, errors = _audited(clean, paths, tmp_path, installed)
    assert code == 0, errors
    caught = {act: {event.split(" ")[0] for event in line["events"]} for act, line in zip(("", *ACTS), lines, strict=False)}
    assert caught[""] == set()
    for act, event in ACTS.items():
        assert event in caught[act], act
