"""What other systems run: the GitHub Action step by step as a runner would, and the pre-commit hook with files as arguments."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from conftest import Writer
from support import ROOT
from ww_static.version import __version__

ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
INSTALL, AUDIT = ACTION["runs"]["steps"]
(HOOK,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
PROGRAM = str(Path(sys.executable).with_name("ww-static"))
HOSTILE = "$(touch ran); `touch ran` 'a\" & ::error::b\n::set-output name=c::d\n-o e.safetensors"


@dataclass(frozen=True, slots=True)
class Ran:
    """What a step left behind."""

    code: int
    log: str
    outputs: dict[str, str]
    summary: str


def runs(step: dict[str, Any], workspace: Path, outputs: dict[str, str] | None = None, **inputs: str) -> Ran:
    """Runs a step as a runner does: a script file, a bare environment, expressions replaced in `env` and nowhere else."""
    assert step["shell"] == "bash"
    known = {f"inputs.{name}": one.get("default", "") for name, one in ACTION["inputs"].items()}
    known |= {f"inputs.{name.replace('_', '-')}": value for name, value in inputs.items()}
    known |= {f"steps.install.outputs.{name}": value for name, value in (outputs or {}).items()}
    runner = workspace.parent / "runner"
    runner.mkdir(exist_ok=True)
    script, told, summary = runner / "script.sh", runner / "output", runner / "summary"
    script.write_text(step["run"], encoding="utf-8")
    told.write_text("")
    summary.write_text("before\n")
    environment = {
        name: re.sub(r"\$\{\{ (\S+) \}\}", lambda found: known[found[1]], text) for name, text in step["env"].items()
    }
    environment |= {"PATH": os.environ["PATH"], "CI": "true", "GITHUB_ACTION_PATH": str(ROOT), "RUNNER_TEMP": str(runner)}
    environment |= {"GITHUB_OUTPUT": str(told), "GITHUB_STEP_SUMMARY": str(summary)}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)], cwd=workspace, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False,
    )  # fmt: skip
    lines = told.read_text(encoding="utf-8").splitlines()
    pairs = dict(line.split("=", 1) for line in lines)
    assert len(pairs) == len(lines)
    return Ran(done.returncode, done.stdout.decode(), pairs, summary.read_text(encoding="utf-8"))


def audited(workspace: Path, **inputs: str) -> Ran:
    return runs(AUDIT, workspace, {"python": sys.executable}, **inputs)


@pytest.fixture
def workspace(save: Writer, tmp_path: Path) -> Path:
    """A workspace with a sound model, a damaged one, and modules that would harm who imports them."""
    values = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    save({"a.weight": values}, "workspace/clean.safetensors")
    save({"a.weight": values}, f"workspace/{HOSTILE}")
    values[3, 4] = np.nan
    save({"a.weight": values}, "workspace/damaged.safetensors")
    for name in ("json", "subprocess", "venv", "pip", "numpy", "ww_static"):
        (tmp_path / "workspace" / f"{name}.py").write_text(f"open('{name}.ran', 'w').close()\n")
    return tmp_path / "workspace"


def untouched(workspace: Path) -> bool:
    """Whether nothing of the workspace was run, and nothing was written there."""
    return sorted({path.suffix for path in workspace.iterdir()}) == [".py", ".safetensors"]


def test_no_expression_becomes_text_of_a_shell_and_no_other_action_is_used() -> None:
    assert ACTION["runs"]["using"] == "composite"
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step["run"]
        assert "uses" not in step
    assert set(ACTION["inputs"]) == {"path", "policy", "baseline", "version", "args", "sarif", "fail-on", "profile"}
    used = {
        name for step in ACTION["runs"]["steps"] for text in step["env"].values() for name in re.findall(r"inputs\.(\S+)", text)
    }
    assert used == set(ACTION["inputs"])
    assert {name: one["value"] for name, one in ACTION["outputs"].items()} == {
        name: f"${{{{ steps.audit.outputs.{name} }}}}" for name in ("exit-code", "findings", "result")
    }


def test_the_action_passes_a_sound_model_whatever_its_name(workspace: Path) -> None:
    ran = audited(workspace, path=HOSTILE)
    assert (ran.code, ran.outputs["exit-code"], ran.outputs["findings"]) == (0, "0", "0"), ran.log
    (file,) = json.loads(Path(ran.outputs["result"]).read_text(encoding="utf-8"))["files"]
    assert "touch ran" in file["file"]
    assert ran.summary.startswith("before\n## ww-static audit: passed\n")
    assert untouched(workspace)


def test_the_action_fails_on_a_damaged_model_and_says_where(workspace: Path) -> None:
    ran = audited(workspace, path="*d.safetensors", args="--profile full -o 'of its own.json'")
    assert (ran.code, ran.outputs["exit-code"], ran.outputs["findings"]) == (1, "1", "1"), ran.log
    for text in (ran.log, ran.summary):
        assert all(words in text for words in ("damaged", "WW101", "1 NaN"))
    found = json.loads((workspace / "of its own.json").read_text(encoding="utf-8"))["findings"]
    assert found == json.loads(Path(ran.outputs["result"]).read_text(encoding="utf-8"))["findings"]


def test_what_a_file_says_is_no_command_of_the_runner(workspace: Path) -> None:
    (workspace / HOSTILE).write_bytes(b"")
    ran = audited(workspace, path=HOSTILE)
    assert (ran.code, ran.outputs["exit-code"], ran.outputs["findings"]) == (3, "3", "1"), ran.log
    lines = ran.log.splitlines()
    token = lines[0].removeprefix("::stop-commands::")
    assert re.fullmatch(r"[0-9a-f]{32}", token)
    assert lines[-1] == f"::{token}::"
    assert [line for line in lines[1:-1] if line.startswith(("::", "##["))] == []
    assert untouched(workspace)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"path": ""}, "the input `path` is empty"),
        ({"path": "clean.safetensors", "args": "-o 'unfinished"}, "the input `args` cannot be split into words"),
        ({"path": "clean.safetensors", "args": "--no-such-option"}, "--no-such-option"),
        ({"path": "clean.safetensors", "args": "$(touch ran)"}, "touch"),
        ({"path": "damaged.safetensors", "args": "--help"}, "the audit left no result"),
    ],
)
def test_wrong_inputs_are_refused(inputs: dict[str, str], words: str, workspace: Path) -> None:
    ran = audited(workspace, **inputs)
    assert ran.code in (2, 3)
    assert words in ran.log
    assert ("Nothing was audited" in ran.summary) == (ran.code == 2 and "exit-code" in ran.outputs)
    assert untouched(workspace)


def test_the_action_installs_into_an_environment_of_the_job(workspace: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(tmp_path / "index"), str(ROOT)], check=True)
    # what is installed here is not run: tests/test_wheel.py installs the dependencies too
    settings = {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "index")}
    ran = runs(INSTALL | {"env": INSTALL["env"] | settings}, workspace, version=__version__)
    assert ran.code == 0, ran.log
    python = Path(ran.outputs["python"])
    assert python.is_relative_to(tmp_path / "runner")
    assert python.with_name("ww-static").is_file()
    assert untouched(workspace)


def test_a_version_is_a_version(workspace: Path) -> None:
    for version in ("--index-url=x", "0.1; touch ran", "latest"):
        ran = runs(INSTALL, workspace, version=version)
        assert (ran.code, ran.outputs) == (2, {})
        assert "write it like 0.1.0" in ran.log
    assert untouched(workspace)


def test_the_action_says_when_there_is_no_python(workspace: Path) -> None:
    bash = Path("/bin/bash")
    script = INSTALL["run"]
    done = subprocess.run(
        [str(bash), "-e", "-c", script], env={"PATH": "", "GITHUB_ACTION_PATH": "."}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "Python 3.11 or later is needed" in done.stderr


def hooked(workspace: Path, *files: str, args: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    """The hook as pre-commit calls it: the words of `entry`, then `args`, then files."""
    words = HOOK["entry"].split()
    assert words[0] == "ww-static"
    command = [PROGRAM, *words[1:], *(HOOK["args"] if args is None else args), *files]
    return subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=False)


def test_the_hook_takes_the_files_of_its_formats() -> None:
    assert (HOOK["language"], HOOK["require_serial"]) == ("python", True)
    pattern = re.compile(HOOK["files"])
    taken = ("a.safetensors", "b/c.onnx", "d.h5", "e.hdf5", "f.keras", "g.pt", "h.pth", "i.gguf")
    assert all(pattern.search(name) for name in taken)
    assert not any(pattern.search(name) for name in ("a.safetensors.json", "onnx", "b.txt", "c.ptx"))


def test_the_hook_judges_the_files_that_it_is_given(workspace: Path) -> None:
    assert hooked(workspace, "clean.safetensors", HOSTILE).returncode == 0
    done = hooked(workspace, "clean.safetensors", "damaged.safetensors")
    assert done.returncode == 1
    assert re.search(r"(?m)^FAILED  damaged.*WW101", done.stdout)
    (workspace / "damaged.safetensors").rename(workspace / "--fail-on=never.safetensors")
    assert hooked(workspace, "--fail-on=never.safetensors").returncode == 1


def test_the_hook_fails_on_a_pointer_of_git_lfs_unless_it_is_told_to_warn(workspace: Path) -> None:
    (workspace / "lfs.safetensors").write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 99\n")
    failed = hooked(workspace, "lfs.safetensors")
    assert failed.returncode == 3
    assert "Git LFS pointer to 99 bytes" in failed.stdout
    assert hooked(workspace, "lfs.safetensors", args=["--on-lfs-pointers", "warn", "--"]).returncode == 0


PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
BLOCKS = re.findall(
    r"(?ms)^```(\w+)\n(.*?)^```$", PAGE + (ROOT / "README.md").read_text(encoding="utf-8").partition("## In CI")[2]
)
RECIPES = [yaml.safe_load(text) for language, text in BLOCKS if language == "yaml"]
COMMAND = re.compile(r"(?m)(?<![\w\"])ww-static (audit (?:[^\n'|>\\]|\\\n)*)")
SCRIPTS = sorted({tuple(one.strip() for one in COMMAND.findall(text)) for _, text in BLOCKS} - {()})  # commands block by block


def steps(recipe: Any) -> list[dict[str, Any]]:
    """All mappings in a recipe that name an action."""
    if isinstance(recipe, list):
        return [found for one in recipe for found in steps(one)]
    if not isinstance(recipe, dict):
        return []
    return ([recipe] if "uses" in recipe else []) + [found for one in recipe.values() for found in steps(one)]


def test_recipes_use_the_action_and_the_hook_as_they_are() -> None:
    assert len(RECIPES) >= 5
    used = [step["with"] for step in steps(RECIPES) if "/ww-static@" in step["uses"]]
    assert len(used) >= 2
    for inputs in used:
        assert set(inputs) <= set(ACTION["inputs"])
        assert "path" in inputs
    (hooks,) = [recipe["repos"] for recipe in RECIPES if "repos" in recipe]
    assert [hook["id"] for repo in hooks for hook in repo["hooks"]] == [HOOK["id"]]
    uploading = [recipe for recipe in RECIPES if any("upload-sarif" in step["uses"] for step in steps(recipe))]
    assert [recipe["permissions"]["security-events"] for recipe in uploading] == ["write"]


def test_every_input_and_output_of_the_action_is_documented() -> None:
    assert {name for name in (*ACTION["inputs"], *ACTION["outputs"]) if f"`{name}`" not in PAGE} == set()


@pytest.mark.parametrize("commands", SCRIPTS, ids=" + ".join)
def test_the_commands_of_recipes_run_and_write_what_they_name(commands: tuple[str, ...], workspace: Path) -> None:
    folder = workspace / "models"
    folder.mkdir()
    (workspace / "clean.safetensors").rename(folder / "m.safetensors")
    for command in commands:
        words = [str(folder) if word == "/models" else word for word in shlex.split(command)]
        done = subprocess.run([PROGRAM, *words], cwd=workspace, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert [name for flag, name in pairwise(words) if flag == "-o" and not (workspace / name).stat().st_size] == []
