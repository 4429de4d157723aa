"""The catalogue of rules in words: commands, settings, the page of the docs."""

from __future__ import annotations

import json

import pytest

from support import ROOT
from ww_static import cli
from ww_static.auditing import PROFILES
from ww_static.rules import telling
from ww_static.rules.catalogue import RULES


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.run(arguments) == 0
    return capsys.readouterr().out


def test_the_list_has_one_line_per_rule(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "rules", "list").splitlines()
    assert [line.split()[0] for line in lines] == list(RULES)
    listed = json.loads(printed(capsys, "rules", "list", "--format", "json"))
    assert [one["code"] for one in listed] == list(RULES)
    assert {one["severity"] for one in listed} <= {"error", "warn", "info", "off"}
    assert printed(capsys, "rules", "list", "--format", "markdown").count("\n") == len(RULES) + 2


def test_a_rule_is_explained_with_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(capsys, "rules", "explain", "WW104")
    assert "[rules.WW104]" in shown
    assert "min_rank_share = 0.1  (number >= 0, <= 1): least share of num_evals" in shown
    document = json.loads(printed(capsys, "rules", "explain", "WW104", "--format", "json"))
    assert [one["name"] for one in document["settings"]] == ["min_rank_share", "min_evals", "severity", "kinds"]
    assert printed(capsys, "rules", "explain", "WW104", "-f", "markdown").startswith("## WW104 rank-collapse\n")


def test_a_rule_that_needs_a_spectrum_says_of_which_matrices_the_fast_profile_takes_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    largest = PROFILES["fast"].max_m
    assert {code for code in RULES if code < "WW300" and telling.since(RULES[code]) == f"fast (M <= {largest})"} == {"WW108", "WW201", "WW202", "WW203", "WW205", "WW206"}  # fmt: skip
    assert f"from profile  fast (M <= {largest})" in printed(capsys, "rules", "explain", "WW203")
    assert "from profile  full" in printed(capsys, "rules", "explain", "WW204")


@pytest.mark.parametrize("word", ["ww101", "Ww101", "non-finite", "Non-Finite"])
def test_a_rule_is_explained_by_its_code_in_any_case_and_by_its_name(capsys: pytest.CaptureFixture[str], word: str) -> None:
    assert printed(capsys, "rules", "explain", word) == printed(capsys, "rules", "explain", "WW101")


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("WW110", "did you mean WW210 (aggregate)?"),
        ("all-zeros", "did you mean WW102 (all-zero)?"),
        ("non-finit", "did you mean WW101 (non-finite)?"),
        ("?", ""),
    ],
)
def test_a_misspelt_code_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str], code: str, hint: str) -> None:
    assert cli.run(["rules", "explain", code]) == 2
    said = capsys.readouterr().err
    assert f"rule '{code}' is not known" in said
    assert ("did you mean" in said) is bool(hint)
    assert hint in said
    assert "`ww-static rules list` shows them all" in said


@pytest.mark.parametrize("code", sorted(RULES))
def test_a_rule_says_all_that_a_reader_needs(code: str) -> None:
    rule = RULES[code]
    assert all(len(words) > 5 for words in (rule.title, rule.formula, rule.wrong, rule.fix))
    assert not rule.title.endswith(".")
    for one in telling.settings(rule):
        assert one.meaning
        assert one.valid not in ("number", "integer"), f"{one.name} has no range"


def test_the_page_has_every_rule_once() -> None:
    page = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    assert [code for code in RULES if page.count(f"### {code} ") != 1] == []
