"""The wheel in an empty environment: no repository beside it, the same numbers, a size within the budget."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import ww_static
from support import ROOT

BUDGET = 410 * 2**20


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project and its dependencies in a folder of their own."""
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
    done = subprocess.run(
        [*pip, "install", "--no-compile", "--target", str(folder / "site"), str(wheel)], capture_output=True, text=True
    )
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"pip cannot install the dependencies: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    return folder / "site"


def test_install_stays_within_its_budget(installed: Path) -> None:
    assert _size(installed) <= BUDGET
    assert not {"torch", "tensorflow", "keras", "jax"} & set(os.listdir(installed))


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
