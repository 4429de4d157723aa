"""The audit as a user runs it: one exit code for each kind of file, policies found and named, and messages that say what to do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ww_static
from conftest import Writer
from support import safetensors_bytes
from test_cli import here
from test_engine import _group_is_gone

AUDIT = ("audit", "--profile", "fast", "--no-config", "-j", "1", "-q")


def layers(seed: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {f"layer.{place}.weight": rng.standard_t(3, (60, 40)).astype(np.float32) for place in range(3)} | {
        "norm.weight": np.ones(40, np.float32)
    }


@pytest.fixture
def models(tmp_path: Path, save: Writer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of small real files, one for each end, as the current folder."""
    codes = ("I8", (8, 8), bytes(range(64)))
    save(layers(), "clean.safetensors")
    save(layers() | {"zero.weight": np.zeros((40, 40), np.float32)}, "error.safetensors")
    save(layers() | {"packed.weight": codes}, "codes.safetensors")
    save({"a.bias": np.ones(5, np.float32)}, "bias.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(safetensors_bytes(layers())[:-100])
    (tmp_path / ".git").mkdir()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "rules"),
    [
        (("clean.safetensors",), 0, set()),
        (("error.safetensors",), 1, {"WW102"}),
        (("error.safetensors", "--fail-on", "never"), 0, {"WW102"}),
        (("codes.safetensors",), 3, {"WW002"}),
        (("codes.safetensors", "--on-inconclusive", "warn"), 0, {"WW002"}),
        (("codes.safetensors", "--on-inconclusive", "warn", "--fail-on", "warn"), 1, {"WW002"}),
        (("cut.safetensors", "error.safetensors"), 3, {"WW003", "WW102"}),
        (("cut.safetensors", "--on-unreadable", "warn", "clean.safetensors"), 0, {"WW003"}),
        (("bias.safetensors",), 3, {"WW001"}),
        (("empty",), 3, {"WW001"}),
        (("nowhere.safetensors",), 3, {"WW001"}),
    ],
)
def test_each_kind_of_file_has_its_exit_code(
    models: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, rules: set[str]
) -> None:
    ended, out, _ = here(capsys, *AUDIT, "-f", "json", *arguments)
    found = json.loads(out)
    assert (ended, found["exit"]) == (code, code)
    assert {one["code"] for one in found["findings"]} == rules


def test_a_policy_is_found_named_overridden_and_left_alone(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ("audit", "--profile", "fast", "-j", "1", "-q", "-f", "json")

    def audited(*arguments: str) -> tuple[int, list[Any]]:
        code, out, _ = here(capsys, *quick, *arguments)
        return code, [one["suppressed"] for one in json.loads(out)["findings"] if one["code"] == "WW102"]

    text = 'schema = 1\n[[suppress]]\ncode = "WW102"\nmodel = "error"\ntensor = "zero.*"\nreason = "switched off on purpose"\n'
    Path("ww-static.toml").write_text(text)
    Path("named.toml").write_text("schema = 1\n[rules.WW102]\nseverity = 'warn'\n")
    assert audited("error.safetensors") == (0, ["switched off on purpose"])
    assert audited("error.safetensors", "--no-config") == (1, [None])
    assert audited("error.safetensors", "--policy", "named.toml") == (0, [None])
    assert audited("error.safetensors", "--policy", "named.toml", "--fail-on", "warn") == (1, [None])
    code, out, err = here(capsys, *quick, str(models))
    assert (code, out) == (2, "")
    assert "obey it with --policy ww-static.toml, or use none with --no-config" in err
    assert audited(str(models), "--policy", "ww-static.toml") == (3, ["switched off on purpose"])


def test_limits_of_a_policy_hold_for_the_run(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("small.toml").write_text('schema = 1\n[limits]\nmemory = "1MB"\n')
    code, out, err = here(capsys, "audit", "-q", "-f", "json", "--policy", "small.toml", "clean.safetensors")
    assert code != 0
    assert "memory" in out + err
    assert (
        here(capsys, "audit", "-q", "-f", "json", "--policy", "small.toml", "--max-memory", "1GiB", "clean.safetensors")[0] == 0
    )
    Path("short.toml").write_text("schema = 1\n[limits]\nseconds = 1e-9\n")
    short = ("audit", "-q", "-f", "json", "--policy", "short.toml", "clean.safetensors")
    code, out, _ = here(capsys, *short)
    assert (code, {one["reason"] for one in json.loads(out)["layers"]} >= {"time_limit"}) == (3, True)
    assert here(capsys, *short, "--time-budget", "600")[0] == 0
    for option, words in (("--time-budget", "positive number of seconds"), ("--max-memory", "a size must be positive")):
        code, out, err = here(capsys, *short, option, "0")
        assert (code, out) == (2, "")
        assert words in err
    zeros: list[dict[str, Any]] = [{"time_budget": 0}, {"max_memory": 0}]
    for wrong in zeros:
        with pytest.raises(ww_static.UsageError, match="positive"):
            ww_static.audit("clean.safetensors", **wrong)


def test_an_empty_selection_does_not_select_all(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("", " , "):
        code, out, err = here(capsys, "audit", "--select", text, "clean.safetensors")
        assert (code, out) == (2, "")
        assert "--select names nothing" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument 'PATH...'"),
        (("clean.safetensors", "--fail-on", "fatal"), "'fatal' is not one of 'never', 'warn', 'error'"),
        (("clean.safetensors", "--on-unreadable", "ignore"), "'ignore' is not one of 'fail', 'warn'"),
        (("clean.safetensors", "--profile", "quick"), "'quick' is not one of 'fast', 'full'"),
        (("clean.safetensors", "--falon", "warn"), "No such option: --falon"),
        (("clean.safetensors", "--select", "WW1O2"), "rule 'WW1O2' is not known; did you mean WW102 (all-zero)? `ww-static rules list` shows them all"),
        (("clean.safetensors", "--ignore", "all-zero"), "rule 'all-zero' is not known; did you mean WW102 (all-zero)?"),
        (("clean.safetensors", "--ignore", "?"), "rule '?' is not known; `ww-static rules list` shows them all"),
        (("clean.safetensors", "--policy", "nowhere.toml"), "nowhere.toml: no such file or directory; `ww-static policy init -o FILE` writes one"),
        (("clean.safetensors", "--policy", "."), ".: is a directory"),
        (("clean.safetensors", "--policy", "clean.safetensors"), "clean.safetensors: not "),
        (("clean.safetensors", "--policy", "a.toml", "--no-config"), "--policy names a file and --no-config asks for none; use one of them"),
        (("clean.safetensors", "-o", "nowhere/x.json"), "there is no folder"),
        (("clean.safetensors", "-o", "x.exe"), "ends in none of"),
    ],
)  # fmt: skip
def test_wrong_options_are_told_before_anything_is_read(
    models: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = here(capsys, "audit", *arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_ctrl_c_ends_with_130_and_what_is_finished_is_judged(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {f"a{place:02}.weight": rng.standard_normal((1500, 1500)).astype(np.float32) for place in range(12)}
    path, out, baseline = (tmp_path / name for name in ("slow.safetensors", "out.jsonl", "baseline.json"))
    path.write_bytes(safetensors_bytes(tensors | {"zero.weight": np.zeros((8, 8), np.float32)}))
    command = [sys.executable, "-m", "ww_static", "audit", str(path), "--profile", "full", "--no-config", "-j", "1", "-q",
               "-f", "jsonl", "--write-baseline", str(baseline)]  # fmt: skip
    for _ in range(3):  # a signal that comes with the last row is too late to stop anything
        baseline.unlink(missing_ok=True)
        with out.open("w") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=subprocess.PIPE, text=True, start_new_session=True)
            for _ in range(600):
                if "\n" in out.read_text():  # one of many seconds of rows is there
                    break
                time.sleep(0.1)
            os.killpg(process.pid, signal.SIGINT)
            _, err = process.communicate(timeout=60)
        if process.returncode == 130:
            break
    assert process.returncode == 130, err
    assert "Traceback" not in err
    records = [json.loads(line) for line in out.read_text().splitlines()]
    layers = [one for one in records if one["record"] == "layer"]
    assert {"success", "skipped"} <= {one["status"] for one in layers}
    assert "interrupted" in {one["reason"] for one in layers}
    assert {one["code"] for one in records if one["record"] == "finding"} >= {"WW001"}
    audited = records[-1]["audit"]
    assert (audited["exit"], audited["verdict"], audited["reasons"][0]) == (130, "unread", "interrupted")
    assert not baseline.exists()
    assert "was not written: the run was interrupted" in err
    assert _group_is_gone(process.pid)


@pytest.mark.parametrize("more", ["", "-v", "-f json", "-f jsonl", "-f jsonl -j 2"])
def test_a_reader_that_goes_away_does_not_open_the_gate(save: Writer, more: str) -> None:
    tensors: dict[str, Any] = {f"a.{i}.weight": np.zeros((20, 20), np.float32) for i in range(400)}
    words = f"{' '.join(AUDIT)} {more} {save(tensors, 'zeros.safetensors')}"
    script = f"set -o pipefail; {sys.executable} -m ww_static {words} | head -c 1 > /dev/null; echo $?"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (done.stdout, [line for line in done.stderr.splitlines() if "zeros" not in line]) == ("1\n", [])
