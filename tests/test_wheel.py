"""The wheel and the image in an empty environment: no repository beside it, the same numbers, a size within the budget."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import ww_static
from conftest import Writer
from support import ROOT

BUDGET = 350 * 2**20
# No network, and nothing to write to but memory, for root too.
SEAL = 'mount -t tmpfs none /dev/shm && mount -o remount,bind,ro / && ! touch . 2>/dev/null && exec env -i "$@"'
UNSHARE = ["unshare", "--map-root-user", "--mount", "--net"]


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project and its dependencies in a folder of their own, put there as the Dockerfile does it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("ww_static", "readers", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("*.whl")
    install = ["sh", str(ROOT / "ci" / "install.sh"), str(folder / "site"), str(wheel)]
    done = subprocess.run(install, env=os.environ | {"PYTHON": sys.executable}, capture_output=True, text=True)
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"pip cannot install the dependencies: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    return folder / "site"


def test_install_stays_within_its_budget(installed: Path) -> None:
    print(f"installed: {_size(installed) / 2**20:.0f} MiB")
    assert _size(installed) <= BUDGET
    assert not {"torch", "tensorflow", "keras", "jax"} & set(os.listdir(installed))
    assert [*installed.rglob("*.pyc"), *installed.rglob("tests")] == []


def _instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_image_is_made_in_stages_and_runs_without_a_shell_and_not_as_root() -> None:
    instructions = _instructions()
    stages = [place for place, (word, _) in enumerate(instructions) if word == "FROM"]
    assert len(stages) == 2
    assert ("RUN", '["sh", "/source/ci/install.sh", "/opt/ww-static", "/source"]') in instructions
    last = dict(instructions[stages[1] :])
    assert not {"RUN", "ADD", "EXPOSE", "VOLUME"} & set(last)
    assert last["COPY"] == "--from=build /opt/ww-static /opt/ww-static"
    assert all(int(number) > 0 for number in last["USER"].split(":"))
    assert last["WORKDIR"] == "/"
    assert json.loads(last["ENTRYPOINT"])[:2] == ["python", "-P"]


def test_the_context_of_the_image_holds_what_the_build_needs_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert lines[0] == "*"
    assert kept == {"ww_static", "readers", "pyproject.toml", "README.md", "LICENSE", "ci/install.sh"}
    assert all((ROOT / name).exists() for name in kept)


@pytest.mark.parametrize(("damaged", "code"), [(False, 0), (True, 1)])
def test_the_image_audits_without_an_environment_a_network_or_anything_to_write_to(
    damaged: bool, code: int, installed: Path, save: Writer, tmp_path: Path
) -> None:
    if not shutil.which("unshare") or subprocess.run([*UNSHARE, "true"], capture_output=True).returncode:
        pytest.skip("this user may not make a namespace")
    values = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    if damaged:
        values[3, 4] = np.nan
    save({"a.weight": values}, "m.safetensors")
    last = dict(_instructions()[-6:])
    settings = last["ENV"].replace("/opt/ww-static", str(installed)).split()
    python, *words = json.loads(last["ENTRYPOINT"])
    assert python == "python"
    command = [os.path.realpath(sys.executable), *words, "audit", "--profile", "fast", "--format", "json", "m.safetensors"]
    sealed = [*UNSHARE, "sh", "-c", SEAL, "sh", *settings, *command]
    done = subprocess.run(sealed, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    assert [one["code"] for one in json.loads(done.stdout)["findings"]] == ["WW101"] * damaged
    assert os.listdir(tmp_path) == ["m.safetensors"]


def test_installed_wheel_gives_the_same_rows(installed: Path, minilm: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-m", "ww_static", "analyze", str(minilm), "--layers", "*layer.0*", "-o", "out.parquet"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    table = pq.read_table(tmp_path / "out.parquet")
    expected = ww_static.analyze(minilm, layers="*layer.0*").layers
    for column in ("name", "status", "content_hash", "n_tail", "matrix_rank"):
        assert table[column].to_pylist() == expected[column].to_pylist()
    for column in ("alpha", "xmin", "D", "norm"):
        numbers = [[value or 0.0 for value in one[column].to_pylist()] for one in (table, expected)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-12)


def test_wheel_ships_types_and_no_tests(installed: Path) -> None:
    assert (installed / "ww_static" / "py.typed").is_file()
    assert (installed / "ww_static_readers" / "safetensors.py").is_file()
    assert not (installed / "tests").exists()
    assert not (installed / "readers").exists()
