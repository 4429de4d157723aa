"""The fuzz: thousands of damaged files per reader end as values or as errors of ours; and the fuzz itself notices what does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fuzz import __main__ as command
from fuzz import mutate, runner, subject
from fuzz.seeds import SEEDS
from ww_static import registry
from ww_static.protocol import Limits
from ww_static_readers import safetensors

INPUTS = 2000


def test_every_reader_of_ours_has_seeds() -> None:
    ours = {entry.name for entry in registry.installed() if entry.target.startswith("ww_static_readers.")}
    assert ours == set(SEEDS)


@pytest.mark.parametrize("reader", sorted(SEEDS))
def test_damaged_files_are_read_or_refused_and_nothing_else(reader: str) -> None:
    summary = runner.run(reader, range(INPUTS))
    assert summary.inputs == INPUTS
    assert not summary.failures, command.report(summary)
    opened = sum(count for name, count in summary.counts.items() if name.startswith(subject.OPENED))
    assert opened > INPUTS // 20, "hardly any damaged file is still opened: the fuzz has lost its edge"
    assert len(summary.counts) >= 8, f"hardly any kind of refusal is reached: {summary.counts}"


@pytest.mark.parametrize("reader", sorted(SEEDS))
def test_an_input_is_the_same_in_every_process(reader: str) -> None:
    program = (
        "import hashlib, sys\n"
        "from fuzz import mutate\n"
        "from fuzz.seeds import SEEDS\n"
        "seeds = SEEDS[sys.argv[1]]()\n"
        "print(hashlib.sha256(repr([mutate.made(sys.argv[1], seeds, 1, n) for n in range(40)]).encode()).hexdigest())\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    found = {
        subprocess.run(
            [sys.executable, "-c", program, reader], env=environment | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


# the fuzz notices what a reader must not do


def _broken(act: Callable[[], Any]) -> Callable[[Path, Limits], Any]:
    """A reader's `open` that misbehaves on a part of the inputs."""
    honest = safetensors.open

    def opened(path: Path, limits: Limits) -> Any:
        if b"F16" not in path.read_bytes():
            act()
        return honest(path, limits)

    return opened


def _key_error() -> None:
    raise KeyError("dtype")


def _outcomes(monkeypatch: pytest.MonkeyPatch, folder: Path, act: Callable[[], Any]) -> set[tuple[str, str]]:
    monkeypatch.setattr(safetensors, "open", _broken(act))
    seeds = SEEDS["safetensors"]()
    made = (mutate.made("safetensors", seeds, 0, number) for number in range(60))
    return {subject.outcome(subject.written(one, folder), "safetensors") for one in made}


def test_an_exception_of_another_tree_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert (subject.FAILED, "KeyError") in {
        (kind, message.split("raised ")[-1].split(":")[0]) for kind, message in _outcomes(monkeypatch, tmp_path, _key_error)
    }


def test_more_memory_than_there_may_be_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert any(message.startswith("MemoryError") for _, message in _outcomes(monkeypatch, tmp_path, lambda: bytes(2**60)))


def test_other_values_in_a_window_are_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    honest = safetensors.SafetensorsCheckpoint.read

    def read(self: Any, spec: Any, window: Any = ()) -> Any:
        array = honest(self, spec, window)
        return array.copy() + array.dtype.type(1) if window else array

    monkeypatch.setattr(safetensors.SafetensorsCheckpoint, "read", read)
    assert any(message.startswith("BrokenPromiseError") for _, message in _outcomes(monkeypatch, tmp_path, lambda: None))


DEADLY = """
import os, sys, time
from fuzz import worker, subject
calls = 0
honest = subject.outcome
def outcome(path, reader):
    global calls
    calls += 1
    data = path.read_bytes()
    if len(data) % 50 == 7:
        {act}
    return honest(path, reader)
subject.outcome, held = outcome, subject.warm_up
subject.warm_up = lambda *given: None
worker.main()
"""


@pytest.mark.parametrize(
    ("act", "how"),
    [
        ("os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("os._exit(3)", "exit code 3"),
        ("bytearray(2**33)", "exit code 1"),
        ("time.sleep(60)", "no answer in 1 seconds"),
    ],
)
def test_a_death_or_a_hang_costs_one_input_and_is_blamed_on_it(monkeypatch: pytest.MonkeyPatch, act: str, how: str) -> None:
    if "sleep" in act:
        monkeypatch.setattr(runner, "WALL_SECONDS", 1.0)
    monkeypatch.setattr(runner, "WORKER", ("-c", DEADLY.format(act=act)))
    seeds = SEEDS["safetensors"]()
    numbers = range(60)
    guilty = [
        number for number in numbers if len((one := mutate.made("safetensors", seeds, 0, number)).files[one.main]) % 50 == 7
    ]
    assert guilty
    summary = runner.run("safetensors", numbers)
    assert [one.number for one in summary.failures] == guilty
    assert all(how in one.message for one in summary.failures)
    assert summary.inputs == len(numbers)


def test_the_command_can_be_interrupted_and_says_what_there_is() -> None:
    command_line = [sys.executable, "-m", "fuzz", "--reader", "safetensors", "--inputs", "1000000"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stderr is not None
        assert "of 1000000 inputs" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out.startswith(f"safetensors: {runner.BATCH} inputs")
    assert out.endswith("interrupted\n")
    assert "Traceback" not in errors


def test_the_command_names_a_failure_and_gives_it_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--reader", "safetensors", "--inputs", "30"]) == 0
    assert "safetensors: 30 inputs" in capsys.readouterr().out
    monkeypatch.setattr(runner, "WORKER", ("-c", DEADLY.format(act="os.abort()")))
    assert command.main(["--reader", "safetensors", "--inputs", "60"]) == 1
    printed = capsys.readouterr().out
    assert "SIGABRT, again when alone" in printed
    number = printed.split("--number ")[1].split()[0]
    assert command.main(["--reader", "safetensors", "--number", number, "--save", str(tmp_path / "kept")]) == 0
    assert (tmp_path / "kept").is_dir()
    one = mutate.made("safetensors", SEEDS["safetensors"](), 0, int(number))
    assert (tmp_path / "kept" / one.main).read_bytes() == one.files[one.main]
