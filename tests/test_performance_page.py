"""docs/performance.md promises what fits into which memory: the command keeps it, at the limit and one MiB below."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT, load_module
from ww_static.spectral import lapack

MIB = 2**20
# precision, and the place of its columns
WAYS = [("exact", 1)] if lapack.backend_name() == lapack.NUMPY else [("exact", 0), ("fast", 2)]


def table(name: str) -> list[list[str]]:
    """The cells of a generated table, without its head."""
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    found = re.search(rf"(?s)<!-- {name} -->\n(.*?)<!-- end of {name} -->", text)
    assert found is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()[2:]]


def square(path: Path, m: int) -> Path:
    """A BF16 matrix of m x m zeros that takes no disk."""
    header = json.dumps({"layer.weight": {"dtype": "BF16", "shape": [m, m], "data_offsets": [0, 2 * m * m]}}).encode()
    with path.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        stream.truncate(8 + len(header) + 2 * m * m)
    return path


def outcome(path: Path, limit: int, precision: str) -> tuple[int, str, str | None]:
    """Exit code, status and reason of the one row under a limit in bytes."""
    words = ["analyze", str(path), "--max-memory", f"{limit}B", "--precision", precision, "--format", "json"]
    done = subprocess.run([sys.executable, "-m", "ww_static", *words], capture_output=True, text=True, check=False)
    row = json.loads(done.stdout)["layers"][0]
    return done.returncode, row["status"], row.get("reason")


@pytest.mark.parametrize(("precision", "place"), WAYS)
@pytest.mark.parametrize(
    "cells", [cells for cells in table("matrices") if int(cells[0]) <= 2048], ids=lambda cells: f"M={cells[0]}"
)
def test_a_matrix_is_computed_at_its_least_limit_and_not_a_mib_below(
    cells: list[str], precision: str, place: int, tmp_path: Path
) -> None:
    path, least = square(tmp_path / "m.safetensors", int(cells[0])), int(cells[2 + 2 * place])
    assert outcome(path, least * MIB, precision)[:2] == (0, "success")
    assert outcome(path, (least - 1) * MIB, precision) == (3, "skipped", "memory_limit")


@pytest.mark.parametrize(("precision", "place"), WAYS)
@pytest.mark.parametrize("cells", table("containers"), ids=lambda cells: cells[0])
def test_one_column_more_than_a_container_admits_is_refused(
    cells: list[str], precision: str, place: int, tmp_path: Path
) -> None:
    generate = load_module(ROOT / "docs" / "generate.py", "docs_generate")
    size = {"MiB": 1, "GiB": 1024}[cells[0].split()[1]] * int(cells[0].split()[0])
    total, m = int(generate.memory.SHARE * size * MIB), int(cells[2 + place])
    assert generate.largest_side(total, generate.WAYS[place]) == m
    assert outcome(square(tmp_path / "m.safetensors", m + 1), total, precision) == (3, "skipped", "memory_limit")
