"""What drifted since a baseline: each rule on rows that differ in one thing only."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from ww_static.rows import LayerRow
from ww_static.rules.catalogue import RULES
from ww_static.rules.rule import Evidence, Found, Setting

ROW = LayerRow(
    model_id="m", file="m.safetensors", name="h.0.weight", kind="dense", shape=(64, 32), numel=2048, dtype="F32", status="success",
    has_esd=True, mean=0.0, std=0.02, n_nan=0, n_inf=0, alpha=3.0, sigma=0.2, n_tail=20, fit_kind="PL", op_norm=2.0, nuclear_norm=20.0,
    frob_norm=4.0, content_hash="a",
)  # fmt: skip


def found(code: str, old: LayerRow, new: LayerRow, **settings: Any) -> list[Found]:
    """What a rule says of one row before and now."""
    return list(RULES[code].check(Evidence("m", "m.safetensors", (new,), before=(old,)), RULES[code].settings(**settings)))


def test_nothing_drifts_without_a_baseline_or_from_itself() -> None:
    for code in ("WW301", "WW302", "WW303", "WW305"):
        rule = RULES[code]
        assert not list(rule.check(Evidence("m", None, (ROW,)), rule.settings()))
        assert not found(code, ROW, ROW)


def test_alpha_may_move_by_sigmas_where_there_is_no_interval() -> None:
    spread = 3 * math.hypot(0.2, 0.3)
    inside, outside = (replace(ROW, alpha=3 + spread * share, sigma=0.3) for share in (0.99, 1.01))
    assert not found("WW301", ROW, inside)
    (one,) = found("WW301", ROW, outside)
    assert (one.name, one.metric, one.value) == ("h.0.weight", "alpha", outside.alpha)
    assert one.limit == pytest.approx(3 + spread)
    assert found("WW301", ROW, inside, sigmas=2.0)


@pytest.mark.parametrize(("alpha", "drifts"), [(3.9, False), (4.1, True), (2.3, False), (1.9, True)])
def test_alpha_drifts_when_its_intervals_part(alpha: float, drifts: bool) -> None:
    old = replace(ROW, alpha_ci_lo=2.5, alpha_ci_hi=3.5)
    new = replace(ROW, alpha=alpha, alpha_ci_lo=alpha - 0.5, alpha_ci_hi=alpha + 0.5)
    assert bool(found("WW301", old, new)) is drifts


def test_a_small_change_of_a_long_tail_is_no_drift() -> None:
    old, new = replace(ROW, sigma=0.01), replace(ROW, sigma=0.01, alpha=3.4)
    assert not found("WW301", old, new)
    assert found("WW301", old, new, min_change=0.3)


def test_a_tail_that_begins_elsewhere_is_no_drift_unless_a_norm_changed() -> None:
    jumped = replace(ROW, alpha=9.0, sigma=0.5, n_tail=9)
    assert not found("WW301", ROW, jumped)
    assert found("WW301", ROW, replace(jumped, n_tail=11))
    assert found("WW301", ROW, replace(jumped, nuclear_norm=20.5))
    assert found("WW301", ROW, replace(jumped, nuclear_norm=None))


def test_fits_of_different_laws_are_not_compared() -> None:
    assert not found("WW301", ROW, replace(ROW, alpha=30.0, fit_kind="TPL"))


def test_tensors_that_were_added_or_are_missing_are_named() -> None:
    other = replace(ROW, name="h.1.weight", file="old.safetensors")
    missing, added = (
        list(RULES["WW302"].check(Evidence("m", "m.safetensors", rows, before=before), Setting()))
        for rows, before in (((ROW,), (ROW, other)), ((ROW, other), (ROW,)))
    )
    assert [(one.name, one.file) for one in missing] == [("h.1.weight", "m.safetensors")]
    assert "[64, 32] is missing" in missing[0].message
    assert [one.name for one in added] == ["h.1.weight"]
    assert "not in the baseline" in added[0].message


def test_a_shape_is_graver_than_a_dtype() -> None:
    (shape,) = found("WW303", ROW, replace(ROW, shape=(32, 64), dtype="BF16"))
    (dtype,) = found("WW303", ROW, replace(ROW, dtype="BF16"))
    assert (shape.severity, dtype.severity) == (None, "info")
    assert (shape.message, dtype.message) == ("shape [32, 64] was [64, 32]", "dtype BF16 was F32")


def test_a_converted_model_gives_one_finding_for_each_change_of_dtype() -> None:
    before = [replace(ROW, name=f"h.{number}.weight", dtype="F32" if number else "F64") for number in range(9)]
    now = [replace(row, dtype="BF16") for row in before]
    evidence = Evidence("m", "m.safetensors", tuple(now), before=tuple(before))
    messages = {one.name: one.message for one in RULES["WW303"].check(evidence, RULES["WW303"].settings())}
    assert messages == {
        "h.0.weight": "dtype BF16 was F64",
        None: "dtype BF16 was F32 in 8 tensors, the first of them 'h.1.weight'",
    }


@pytest.mark.parametrize(
    ("change", "metric"),
    [
        ({"std": 0.0203}, None),
        ({"op_norm": 1.97}, "op_norm"),
        ({"nuclear_norm": 20.3}, "nuclear_norm"),
        ({"op_norm": 2.03, "nuclear_norm": 40.0}, "nuclear_norm"),
        ({"std": 0.0}, None),
        ({"std": 0.03, "op_norm": 3.0, "nuclear_norm": 30.0 * (1 + 1e-12)}, None),
    ],
)
def test_the_norm_that_drifted_most_is_told(change: dict[str, float], metric: str | None) -> None:
    (one,) = found("WW305", ROW, replace(ROW, **change))  # type: ignore[arg-type]
    assert (one.name, one.metric) == ("h.0.weight", metric)
    assert one.value is not None
    assert one.limit is not None


def test_rounding_to_bfloat16_is_no_drift_of_norms() -> None:
    rounding = 2.0**-8  # most that the Frobenius norm can change
    assert not found("WW305", ROW, replace(ROW, std=0.02 * (1 + rounding), op_norm=2 * (1 - rounding)))


def test_tensors_without_a_spectrum_have_a_norm_too() -> None:
    bias = LayerRow(name="h.0.bias", kind="bias", shape=(32,), numel=32, dtype="F32", status="skipped", mean=0.5, std=0.0)
    (one,) = found("WW305", bias, replace(bias, mean=1.0))
    assert one.metric is None  # the column frob_norm is of a spectrum
    assert one.message.startswith("Frobenius norm ")
    assert one.value == pytest.approx(math.sqrt(32))
    assert not found("WW305", replace(bias, dtype="I64"), replace(bias, dtype="I64", mean=1.0))  # steps, not weights
    assert not found("WW305", bias, replace(bias, mean=1.0, n_nan=1))  # another rule says so


def test_integers_that_were_dequantized_are_weights() -> None:
    codes = replace(ROW, dtype="I8", quantized=True, op_norm=None, nuclear_norm=None)
    assert [one.metric for one in found("WW305", codes, replace(codes, std=0.03))] == [None]


def test_numbers_that_were_computed_otherwise_are_not_compared() -> None:
    new = replace(ROW, alpha=30.0, std=1.0, shape=(8, 8))
    evidence = Evidence("m", "f", (new,), before=(ROW,), comparable=False)
    for code, count in (("WW301", 0), ("WW305", 0), ("WW303", 1)):
        assert len(list(RULES[code].check(evidence, RULES[code].settings()))) == count


def test_equal_values_are_told_when_asked_for() -> None:
    assert RULES["WW306"].settings().severity == "off"
    assert [one.name for one in found("WW306", ROW, ROW)] == ["h.0.weight"]
    assert not found("WW306", ROW, replace(ROW, content_hash="b"))
