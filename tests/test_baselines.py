"""Baselines: which findings are known, what a run is compared with, and what is said when it cannot be."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from ww_static.policies.baselines import Baseline, _status
from ww_static.policies.judgement import Judgement, judge
from ww_static.policies.policy import Policy, Suppression
from ww_static.rows import FindingRow, LayerRow
from ww_static.rules.catalogue import RULES

TODAY = datetime.date(2026, 1, 1)
OPTIONS = {"metrics": ["default"], "conv": "pooled", "seed": 0}
GOOD = LayerRow(
    model_id="m", file="m.safetensors", name="good.weight", kind="dense", shape=(64, 32), numel=2048, dtype="F32", status="success",
    has_esd=True, mean=0.0, std=0.02, abs_max=0.1, min=-0.1, max=0.1, n_nan=0, n_inf=0, op_norm=2.0, nuclear_norm=20.0, content_hash="a",
)  # fmt: skip
BAD = replace(GOOD, name="bad.weight", content_hash="b", n_nan=3, status="failed", reason="nonfinite", has_esd=False)


def run(
    rows: Sequence[LayerRow], baseline: Baseline | None = None, findings: Sequence[FindingRow] = (), options: Mapping[str, Any] = OPTIONS,
    policy: Policy | None = None,
) -> Judgement:  # fmt: skip
    """The judgement of rows."""
    return judge(rows, findings, (), policy or Policy(), TODAY, baseline, options)


def written(
    rows: Sequence[LayerRow], findings: Sequence[FindingRow] = (), policy: Policy | None = None, **more: Any
) -> Baseline:
    """A baseline that was written after rows were judged."""
    told = run(rows, None, findings, OPTIONS, policy).findings
    return Baseline(shown="last.json", rows=tuple(rows), findings=told, **{"parameters": OPTIONS} | more)


def statuses(judgement: Judgement) -> dict[tuple[str | None, str | None], str | None]:
    return {(one.code, one.name): one.baseline for one in judgement.findings}


def test_a_known_finding_does_not_fail_and_a_new_one_does() -> None:
    known = run([GOOD, BAD], written([GOOD, BAD]))
    assert (known.exit_code, statuses(known)) == (0, {("WW101", "bad.weight"): "unchanged"})
    assert known.against == {"new": 0, "changed": 0, "unchanged": 1, "fixed": 0}
    fresh = run([GOOD, BAD], written([GOOD, replace(BAD, n_nan=0, status="success", reason=None, has_esd=True)]))
    assert (fresh.exit_code, statuses(fresh)) == (1, {("WW101", "bad.weight"): "new"})
    assert run([GOOD, BAD]).against is None


def test_a_finding_that_grew_has_changed_and_one_that_shrank_has_not() -> None:
    baseline = written([GOOD, BAD])
    assert run([GOOD, replace(BAD, n_nan=4)], baseline).exit_code == 1
    assert statuses(run([GOOD, replace(BAD, n_nan=4)], baseline)) == {("WW101", "bad.weight"): "changed"}
    extreme = FindingRow(code="WW105", severity="error", metric="abs_max", value=2000.0, limit=1000.0)
    graded = [_status(extreme, replace(extreme, value=value)) for value in (1500.0, 2050.0, 2200.0)]
    assert graded == ["unchanged", "unchanged", "changed"]


def test_a_known_defect_of_values_hides_no_other_values() -> None:
    constant = replace(GOOD, name="one.weight", min=1.0, max=1.0, abs_max=1.0, mean=1.0, std=0.0)
    for known, code in ((BAD, "WW101"), (constant, "WW103")):
        baseline = written([GOOD, known])
        assert statuses(run([GOOD, known], baseline)) == {(code, known.name): "unchanged"}
        judgement = run([GOOD, replace(known, content_hash="c")], baseline)
        assert (judgement.exit_code, statuses(judgement)[code, known.name]) == (1, "changed")
    fewer = run([GOOD, replace(BAD, n_nan=2)], written([GOOD, BAD]))
    assert (fewer.exit_code, statuses(fewer)) == (1, {("WW101", "bad.weight"): "changed"})


def test_a_graver_finding_has_changed() -> None:
    rules = {code: rule.settings() for code, rule in RULES.items()}
    lenient = Policy(rules=rules | {"WW101": RULES["WW101"].settings(severity="warn")})
    baseline = written([GOOD, BAD], policy=lenient)
    assert run([GOOD, BAD], baseline).exit_code == 1
    assert run([GOOD, BAD], baseline, policy=lenient).exit_code == 0


def test_drift_that_a_baseline_had_from_its_own_is_neither_known_nor_fixed() -> None:
    drifted = replace(GOOD, op_norm=3.0)
    told = run([drifted], written([GOOD])).findings
    second = Baseline(shown="second.json", rows=(drifted,), findings=told, parameters=OPTIONS)
    again = run([replace(GOOD, op_norm=4.0)], second)
    assert (again.exit_code, statuses(again)) == (1, {("WW305", "good.weight"): "new"})
    assert not run([drifted], second).findings


def test_what_was_suppressed_is_not_thereby_known() -> None:
    suppress = Suppression(code="WW101", reason="known", expires=datetime.date(2026, 6, 1))
    policy = Policy(suppress=(suppress,))
    baseline = written([GOOD, BAD], policy=policy)
    assert run([GOOD, BAD], baseline, policy=policy).exit_code == 0
    expired = Policy(suppress=(msgspec.structs.replace(suppress, expires=TODAY),))
    assert run([GOOD, BAD], baseline, policy=expired).exit_code == 1


def test_a_finding_that_is_gone_is_fixed_and_does_not_count() -> None:
    mended = replace(BAD, n_nan=0, status="success", reason=None, has_esd=True)
    fixed = run([GOOD, mended], written([GOOD, BAD]))
    assert (fixed.exit_code, statuses(fixed)) == (0, {("WW101", "bad.weight"): "fixed"})
    assert (fixed.counts, fixed.against) == ({}, {"new": 0, "changed": 0, "unchanged": 0, "fixed": 1})
    again = Baseline(shown="b", rows=(GOOD, mended), findings=fixed.findings, parameters=OPTIONS)
    assert not run([GOOD, mended], again).findings  # what was fixed then is no finding of that baseline


def test_what_was_not_looked_at_is_not_fixed() -> None:
    baseline = written([GOOD, BAD])
    ignoring = Policy(ignore=("WW101",))
    mended = replace(BAD, n_nan=0, status="success", reason=None, has_esd=True)
    assert not run([GOOD, mended], baseline, policy=ignoring).findings
    fewer = run([GOOD, mended], baseline, options=OPTIONS | {"metrics": ["default", "randomize"]})
    assert statuses(fewer) == {("WW091", None): None}
    unread = FindingRow(
        model_id="m", file="m.safetensors", name="bad.weight", category="quantized", message="x", inconclusive=True
    )
    skipped = replace(GOOD, name="bad.weight", status="skipped", reason="quantized", has_esd=False, mean=None, std=None)
    assert "fixed" not in statuses(run([GOOD, skipped], baseline, [unread])).values()


def test_what_is_unread_is_never_accepted() -> None:
    unread = FindingRow(model_id="m", file="m.safetensors", name="q", category="quantized", message="x", inconclusive=True)
    judgement = run([GOOD], written([GOOD], [unread]), [unread])
    assert statuses(judgement)["WW002", "q"] == "unchanged"
    assert judgement.exit_code == 3


def test_a_model_that_cannot_be_read_has_lost_no_tensors() -> None:
    broken = LayerRow(model_id="m", file="m.safetensors", status="error", category="truncated", message="short")
    judgement = run([broken], written([GOOD, BAD]))
    assert (judgement.exit_code, statuses(judgement)) == (3, {("WW003", None): "new"})
    later = run([GOOD], written([broken]))
    assert [one.message for one in later.findings] == [
        "the model could not be read when the baseline was written: nothing was compared"
    ]


def test_the_only_model_of_both_may_have_another_name() -> None:
    renamed = [replace(row, model_id="epoch-2", file="epoch-2.safetensors") for row in (GOOD, BAD)]
    assert run(renamed, written([GOOD, BAD])).exit_code == 0
    damaged = run([replace(renamed[0], op_norm=3.0), renamed[1]], written([GOOD, BAD]))
    assert (damaged.exit_code, statuses(damaged)["WW305", "good.weight"]) == (1, "new")


def test_a_model_whose_name_grew_is_known_by_its_file() -> None:
    old = replace(GOOD, model_id="model", file="text_encoder/model.safetensors")
    rows = [
        replace(GOOD, model_id=f"{part}/model", file=f"{part}/model.safetensors", op_norm=3.0)
        for part in ("text_encoder", "vae")
    ]
    judgement = run(rows, written([old]))
    assert {(one.code, one.model_id) for one in judgement.findings} == {("WW305", "text_encoder/model"), ("WW091", "vae/model")}
    moved = [replace(row, file=f"snapshots/{row.file}") for row in rows]
    assert {(one.code, one.model_id) for one in run(moved, written(rows)).findings} == set()  # by their names


def test_names_that_are_no_text_are_known_by_their_escapes() -> None:
    raw = [replace(row, model_id="m\udcff", file="m\udcff.npz", name=f"\udcfe{row.name}") for row in (GOOD, BAD)]
    stored = [replace(row, model_id="m\\xff", file="m\\xff.npz", name=f"\\xfe{row.name}") for row in (GOOD, BAD)]
    judgement = run(raw, written([*stored, replace(GOOD, model_id="n", file="n.npz")]))
    assert statuses(judgement) == {("WW101", raw[1].name): "unchanged", ("WW091", None): None}


def test_an_option_that_did_not_exist_was_what_it_is_by_default() -> None:
    assert not run([GOOD], written([GOOD]), options=OPTIONS | {"xmax": 0, "fit": "PL"}).findings
    assert run([GOOD], written([GOOD]), options=OPTIONS | {"xmax": -1}).findings


def test_models_that_only_one_of_both_has_are_errors() -> None:
    two = [replace(GOOD, model_id=model) for model in ("a", "b")]
    judgement = run([replace(GOOD, model_id=model) for model in ("a", "c")], written(two))
    assert [(one.code, one.model_id, one.message) for one in judgement.findings] == [
        ("WW091", "a", "model 'b' of the baseline was not audited"),
        ("WW091", "c", "the model is not in the baseline: nothing was compared"),
    ]
    assert (judgement.exit_code, {one.severity for one in judgement.findings}) == (1, {"error"})
    meant = Policy(rules={**Policy().rules, "WW091": RULES["WW091"].settings(models="warn")})  # type: ignore[call-arg]
    lenient = run([replace(GOOD, model_id=model) for model in ("a", "c")], written(two), policy=meant)
    assert (lenient.exit_code, {one.severity for one in lenient.findings}) == (0, {"warn"})


@pytest.mark.parametrize(
    ("more", "fact", "drifts"),
    [
        ({"parameters": OPTIONS | {"conv": "flatten"}}, "conv was flatten, and is pooled; drift of numbers was not judged", 0),
        (
            {"parameters": OPTIONS | {"metrics": ["default", "randomize"]}},
            "metrics was ['default', 'randomize'], and is ['default']",
            1,
        ),
        ({"version": "0.0.9"}, "version 0.0.9 wrote it", 0),
    ],
)
def test_other_options_are_told_and_numbers_compared_only_where_they_may_be(
    more: dict[str, Any], fact: str, drifts: int
) -> None:
    judgement = run([replace(GOOD, op_norm=3.0)], written([GOOD], **more))
    (mismatch,) = (one for one in judgement.findings if one.code == "WW091")
    assert fact in (mismatch.message or "")
    assert mismatch.severity == "warn"
    assert sum(one.code == "WW305" for one in judgement.findings) == drifts


def test_rows_without_findings_are_judged_by_the_policy_of_today() -> None:
    table = Baseline(shown="last.parquet", rows=(GOOD, BAD), parameters=OPTIONS, audited=False)
    assert run([GOOD, BAD], table).exit_code == 0
    assert run([GOOD, BAD], replace(table, audited=True)).exit_code == 1


def test_a_dtype_alone_is_information() -> None:
    judgement = run([replace(GOOD, dtype="BF16", content_hash="b")], written([GOOD]))
    assert [(one.code, one.severity) for one in judgement.findings] == [("WW303", "info")]
    assert judgement.exit_code == 0
