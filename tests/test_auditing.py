"""The audit from Python: of files, and of a result that is there already."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import ww_static as ww
from conftest import Writer
from ww_static.auditing import PROFILES
from ww_static.policies.policy import Bounds

RNG = np.random.default_rng(4)


@pytest.fixture
def damaged(save: Writer) -> Path:
    broken = RNG.standard_normal((40, 30))
    broken[3, 4] = np.nan
    return save({"a.weight": RNG.standard_normal((60, 50)), "b.weight": broken})


def test_a_result_is_judged_as_the_files_it_came_from(damaged: Path) -> None:
    audited = ww.audit(damaged)
    judged = ww.audit(ww.analyze(damaged, metrics=PROFILES["full"].metrics))
    assert audited.finding_rows == judged.finding_rows
    assert [row.code for row in audited.finding_rows if row.severity == "error"] == ["WW101"]
    assert (audited.exit_code, judged.exit_code) == (1, 1)
    assert isinstance(audited.judgement, ww.Judgement)
    assert audited.judgement == judged.judgement


def test_a_policy_is_a_file_or_what_one_makes(damaged: Path, tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('schema = 1\nfail_on = "never"\n')
    assert ww.audit(damaged, policy=file).exit_code == 0
    assert ww.audit(damaged, policy=ww.Policy(fail_on="never")).exit_code == 0


def test_limits_of_a_policy_hold_unless_others_are_given(damaged: Path) -> None:
    short = ww.Policy(limits=Bounds(seconds=1e-9))
    assert "time_limit" in {row.reason for row in ww.audit(damaged, policy=short)}
    assert "time_limit" not in {row.reason for row in ww.audit(damaged, policy=short, time_budget=600)}


def test_a_result_is_compared_with_its_baseline_under_its_own_options(damaged: Path, tmp_path: Path) -> None:
    ww.audit(damaged).write(tmp_path / "before.json")
    result = ww.audit(ww.analyze(damaged, metrics=PROFILES["full"].metrics), baseline=tmp_path / "before.json", strict=True)
    assert result.exit_code == 0
    assert [row.baseline for row in result.finding_rows if row.code == "WW101"] == ["unchanged"]
    with pytest.raises(ww.UsageError, match="metrics"):
        ww.audit(ww.analyze(damaged), baseline=tmp_path / "before.json", strict=True)


def test_further_groups_of_columns_are_computed(damaged: Path) -> None:
    result = ww.audit(damaged, policy=ww.Policy(profile="fast"), metrics="bootstrap")
    assert result.parameters["metrics"] == ["default", "bootstrap"]
    assert next(row for row in result if row.name == "a.weight").alpha_ci_lo is not None
    assert json.loads(json.dumps(result.parameters)) == result.parameters


def test_a_table_that_is_no_analysis_is_refused(damaged: Path) -> None:
    with pytest.raises(ww.UsageError, match="a table of tensors"):
        ww.audit(ww.describe(damaged))


def test_a_result_of_a_part_of_a_model_is_refused(damaged: Path) -> None:
    for part in ({"layers": "a.*"}, {"kinds": "dense"}):
        with pytest.raises(ww.UsageError, match="analyze it without them"):
            ww.audit(ww.analyze(damaged, **part))  # type: ignore[arg-type]
