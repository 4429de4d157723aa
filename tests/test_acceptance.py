"""The pages of proof: every acceptance test is measured by a test that exists, and shown as it was measured."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from support import ROOT

DOCS = ROOT / "docs"
FIRST = [f"F{number}" for number in range(1, 14)]
SECOND = ["T20b", "T9b", "T10b", "T10c", "T12b", "T24b", "T24c", *(f"T{number}" for number in range(1, 34))]
THIRD = ["S1", "S2", "S3"]  # what is asked of whole models


def listed() -> dict[str, dict[str, str]]:
    """The acceptance tests by id."""
    tests = tomllib.loads((DOCS / "acceptance.toml").read_text(encoding="utf-8"))["test"]
    assert len({one["id"] for one in tests}) == len(tests)
    return {one["id"]: one for one in tests}


def notes() -> dict[str, dict[str, list[str]]]:
    """What was measured: test -> id -> texts."""
    found: dict[str, dict[str, list[str]]] = json.loads((DOCS / "acceptance.json").read_text(encoding="utf-8"))
    return found


def functions(file: str) -> dict[str, str]:
    """The test functions of a file and their text."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return {
        node.name: ast.get_source_segment(text, node) or ""
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_acceptance_test_is_listed() -> None:
    assert set(listed()) == {*FIRST, *SECOND, *THIRD}


def test_every_acceptance_test_was_measured() -> None:
    measured = {name for by_id in notes().values() for name in by_id}
    assert set(listed()) == measured


@pytest.mark.parametrize("test", sorted(notes()))
def test_every_measurement_is_of_a_test_that_makes_it(test: str) -> None:
    file, _, name = test.partition("::")
    text = functions(file)[name]
    for one, texts in notes()[test].items():
        assert f'measured("{one}"' in re.sub(r"\(\s+", "(", text)
        assert texts
        assert all(texts)


def test_every_test_that_measures_is_in_the_table() -> None:
    found = {
        f"tests/{path.name}::{name}"
        for path in sorted((ROOT / "tests").glob("test_*.py"))
        for name, text in functions(f"tests/{path.name}").items()
        if re.search(r"def test_\w+\([^)]*\bmeasured: Note", text)
    }
    assert found == set(notes()), "run `python3 dev.py accept`"


def test_a_run_writes_what_the_page_says(tmp_path: Path) -> None:
    """Of one file, whose figures are exact; the other tests of the file do not run."""
    path = tmp_path / "measured.json"
    call = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_detx.py", f"--measured={path}"]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = {test: by_id for test, by_id in notes().items() if test.startswith("tests/test_detx.py::")}
    assert json.loads(path.read_text(encoding="utf-8")) == expected
    assert len(expected) == 5
