"""The first and the last instant of a command: what is loaded when, what never, and what ends the process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import Writer
from ww_static.workers import starting


@pytest.fixture
def model(save: Writer) -> Path:
    rng = np.random.default_rng(1)
    return save({f"layer.{i}.weight": rng.standard_t(3, (40, 30)).astype(np.float32) for i in range(3)})


PROGRAM = """
import sys
from ww_static import __main__
from ww_static.workers import starting

begin, leave = starting.begin, starting.leave

def begun():
    print("begins:", *sorted(sys.modules), file=sys.stderr)
    begin()

def left(code):
    print("leaves:", *sorted(sys.modules), file=sys.stderr)
    leave(code)

starting.begin, starting.leave = begun, left
__main__.main()
"""


def loaded(*arguments: str) -> list[set[str]]:
    """Modules of the process of a command: when it starts the server, when it would start it again, when it leaves."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    first, second, last = (line.split() for line in done.stderr.splitlines())
    assert (first[0], second[0], last[0]) == ("begins:", "begins:", "leaves:")
    return [set(first), set(second), set(last)]


def test_only_commands_that_read_files_start_the_server() -> None:
    assert starting.reads_files(["analyze", "m.safetensors"])
    assert starting.reads_files(["audit", "m.safetensors", "--profile", "fast"])
    assert starting.reads_files(["describe", "-q", "m.safetensors"])
    assert starting.reads_files(["smooth", "m.safetensors", "-o", "n.safetensors"])
    for arguments in (
        [],
        ["analyze"],
        ["analyze", "--help"],
        ["describe", "m", "-h"],
        ["--version"],
        ["doctor", "x"],
        ["schema"],
    ):
        assert not starting.reads_files(arguments)


def test_the_server_is_started_before_the_command_line_is_loaded(model: Path) -> None:
    first, second, last = loaded("analyze", str(model), "-f", "json")
    assert not {"typer", "ww_static.cli", "ww_static.engine", "pebble"} & first
    assert "typer" in second
    assert not {"numpy", "pyarrow", "ml_dtypes"} & last


def test_a_parquet_file_is_written_without_pandas(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    *_, last = loaded("analyze", str(model), "-o", str(tmp_path / "x.parquet"))
    assert "pyarrow.parquet" in last
    assert not any(name.split(".")[0] == "pandas" for name in last)


def test_everything_is_written_before_the_process_leaves(model: Path) -> None:
    """Stdout is a pipe, which Python buffers; the code is that of the command."""
    script = "import sys\nfrom ww_static.workers import starting\nsys.stdout.write('x' * 100_000)\nstarting.leave(7)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (len(done.stdout), done.stderr, done.returncode) == (100_000, "", 7)
    command = [sys.executable, "-m", "ww_static", "analyze", str(model), "-f", "json"]
    assert len(json.loads(subprocess.check_output(command, timeout=60))["layers"]) == 3


def test_a_thread_that_never_ends_holds_up_no_command() -> None:
    script = (
        "import threading\nfrom ww_static.workers import starting\nstarting._PATIENCE = 0.2\n"
        "threading.Thread(target=threading.Event().wait).start()\nprint('done')\nstarting.leave(130)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (130, "done\n")


def test_what_was_registered_for_the_end_happens(tmp_path: Path) -> None:
    script = (
        "import atexit, threading, time\nfrom ww_static.workers import starting\n"
        "atexit.register(lambda: print('registered', flush=True))\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('thread', flush=True))).start()\nstarting.leave(0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=os.environ)
    assert (done.stdout.split(), done.returncode) == (["thread", "registered"], 0)
