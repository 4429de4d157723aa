"""The page of capabilities names what exists: tests, columns, options, commands, keys of the summary."""

from __future__ import annotations

import re

from support import ROOT
from test_acceptance import functions
from test_docs import documented, page
from ww_static.summary import summarize


def lines() -> dict[int, list[str]]:
    """The cells of the table by their number."""
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in page("docs/capabilities.md").splitlines()]
    return {int(cells[0]): cells for cells in found if cells[0].isdigit()}


def test_every_capability_has_a_line() -> None:
    assert set(lines()) == set(range(1, 58))
    assert all(len(cells) == 4 and all(cells) for cells in lines().values())


def test_every_test_that_is_named_exists() -> None:
    for number, cells in lines().items():
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", cells[3])
        assert named, number
        for file, name in named:
            assert (ROOT / "tests" / file).is_file(), (number, file)
            assert name in functions(f"tests/{file}"), (number, name)


def test_every_name_that_serves_exists() -> None:
    columns = documented(page("docs/columns.md"))
    commands = page("docs/cli.md")
    summary = set(summarize(()))
    for number, cells in lines().items():
        named = re.findall(r"`([^`]+)`", cells[2])
        assert named, number
        for name in named:
            if name.startswith("ww-static "):
                assert f"\n## {name}\n" in commands, (number, name)
            elif name.startswith("--"):
                assert re.search(rf"{name}\b", commands), (number, name)
            else:
                assert name in columns | summary, (number, name)
