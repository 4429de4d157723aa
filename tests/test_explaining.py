"""Every column is explained: one definition per id, true null rules, one source for the command line and the documentation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import ww_static as ww
from conftest import Writer
from ww_static import cli, explaining, rows, schema
from ww_static.definitions.differences import DIFFERENCES
from ww_static.definitions.entry import ANY_METRIC, NO_FIT, SOURCES

COLUMNS = {(table, column.name): column for table in rows.TABLES for column in schema.columns(table)}


def test_every_measured_column_has_a_definition() -> None:
    missing = {
        column.definition or f"no id at all: {table}.{name}"
        for (table, name), column in COLUMNS.items()
        if (column.definition or column.group != "identity") and column.definition not in explaining.DEFINITIONS
    }
    assert missing == set(), "add Definition(formula, tells, null, source) under this id to a table in ww_static/definitions/"


def test_every_definition_belongs_to_a_column() -> None:
    used = {column.definition for column in COLUMNS.values()}
    assert set(explaining.DEFINITIONS) - used == set()
    assert sum(len(section) for section in explaining.SECTIONS.values()) == len(explaining.DEFINITIONS)


@pytest.mark.parametrize("name", sorted(explaining.DEFINITIONS))
def test_a_definition_says_something(name: str) -> None:
    one = explaining.DEFINITIONS[name]
    assert len(one.formula) > 3
    assert one.tells.endswith(".")
    assert "\n" not in one.formula + one.tells + one.null + one.source
    assert set(re.findall(r"\[(\w+)\](?!\()", one.source)) <= set(SOURCES)


def test_every_source_is_cited() -> None:
    page = (Path(__file__).parents[1] / "docs" / "mathematics.md").read_text().partition("<!-- end of sources -->")[2]
    assert {key for key in SOURCES if f"[{key}]" not in page} == set()


def test_every_column_of_every_table_can_be_explained() -> None:
    for _, name in COLUMNS:
        found = explaining.explain(name)
        shown = explaining.text(found)
        assert shown.startswith(f"column      {name}\n")
        assert " ".join(found.column.doc.split()) in re.sub(r"\s+", " ", shown)


@pytest.mark.parametrize("table", sorted(rows.TABLES))
def test_the_meaning_of_a_column_can_be_read_alone(table: str) -> None:
    """None leans on the column above it, which `schema explain` does not print."""
    leaning = re.compile(
        r"(its|their|them|it|the same|that|this|these|those|of (it|them)|the \w+ of them)\b|.*\bof (it|them|that|these)\b"
    )
    assert {column.name: column.doc for column in schema.columns(table) if leaning.match(column.doc)} == {}


def test_differences_name_columns() -> None:
    names = {name for _, name in COLUMNS}
    for one in DIFFERENCES:
        assert set(one.columns) <= names, one.subject
        assert all((one.subject, one.theirs, one.ours, one.why)), one.subject


def allowed(name: str, group: str) -> set[str]:
    """The reasons that the definition of a column gives for a null, and those of every metric."""
    definition = explaining.explain(name).definition
    assert definition is not None
    found = set(re.findall(r"`([a-z_]+)`", definition.null)) | set(ANY_METRIC)
    return found | set(NO_FIT) if "no fit" in definition.null else found


def test_the_null_rules_are_true_of_matrices_that_break_columns(save: Writer) -> None:
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((60, 40))
    path = save(
        {
            "zeros.weight": np.zeros((40, 30), np.float32),
            "identity.weight": np.eye(64, dtype=np.float32),
            "constant.weight": np.full((40, 30), 0.5, np.float32),
            "small.weight": rng.standard_normal((9, 4)).astype(np.float32),
            "few.weight": rng.standard_normal((30, 12)).astype(np.float32),
            "tiny.weight": (1e-7 * noise).astype(np.float32),
            "huge.weight": 1e200 * noise,
            "rank_one.weight": np.outer(noise[:, 0], noise[0]),
            "noise.weight": noise.astype(np.float32),
            "wide.weight": rng.standard_normal((700, 520)).astype(np.float32),
            "tail.weight": (rng.pareto(1.5, (300, 120)) + 1).astype(np.float32),
            "taps.weight": rng.standard_normal((24, 16, 3, 3)).astype(np.float32),
        }
    )
    groups = {name: column.group for (table, name), column in COLUMNS.items() if table == "layers"}
    seen: set[str] = set()
    for options in ({"metrics": "all"}, {}, {"precision": "fast", "metrics": ("default", "tail", "alternatives")}):
        for row in ww.analyze(path, **options).rows:
            assert isinstance(row, rows.LayerRow)
            for name, reason in (row.null_reasons or {}).items():
                seen.add(reason)
                assert reason in allowed(name, groups[name]), f"{name} is null: {reason}; its definition does not say so"
    assert {
        "zero_matrix",
        "constant_esd",
        "too_few_evals",
        "all_below_cut",
        "out_of_range",
        "precision",
        "not_applicable",
    } <= seen


def test_the_command_explains_a_column(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["schema", "explain", "sv_min"]) == 0
    text = capsys.readouterr().out
    assert "definition  sv.v1" in text
    assert "differs     sv_min of several matrices. weightwatcher: the maximum" in text
    assert cli.run(["schema", "explain", "alpha", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["column"] == "alpha"
    assert found["source"].startswith("Clauset, Shalizi, Newman 2009 eq. 3.1")
    assert "constant_esd" in found["null"]
    assert found["differences"][0]["subject"] == "failed fit"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["explain"], "which column"),
        (["explain", "alpa"], "column 'alpa' is not known; close are: alpha"),
        (["explain", "zzzzzz"], "`ww-static schema all` lists them"),
        (["explain", "alpha", "--format", "arrow"], "printed as text or json, not arrow"),
        (["layers", "alpha"], "after explain only"),
        (["layer"], "table 'layer' is not known"),
    ],
)
def test_what_cannot_be_explained_is_a_usage_error(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["schema", *arguments]) == 2
    assert problem in capsys.readouterr().err
