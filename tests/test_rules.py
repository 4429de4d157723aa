"""Every rule on rows that it reports, and on rows near them that it leaves alone."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from support import ROOT
from ww_static.measuring.codes import CODES
from ww_static.rows import FindingRow, LayerRow
from ww_static.rules.catalogue import RULES
from ww_static.rules.files import CODE_OF, NOBODYS
from ww_static.rules.rule import Evidence, Found
from ww_static.rules.spectra import BLOCKING
from ww_static.rules.values import extremity

OURS = tuple(code for code in RULES if code < "WW300" and code not in ("WW010", "WW090", "WW091", "WW210"))
SOUND = LayerRow(
    model_id="m", file="m.safetensors", name="layers.0.mlp.weight", kind="dense", shape=(600, 300), numel=180_000, offset=96, dtype="F32",
    status="success", N=600, M=300, Q=2.0, rf=1, num_evals=300, has_esd=True, mean=0.0, std=0.05, min=-0.25, max=0.25, abs_max=0.25,
    zero_fraction=0.0, n_nan=0, n_inf=0, excess_kurtosis=0.1, matrix_rank=300, erank_sigma=210.0, stable_rank=30.0, alpha=3.0, sigma=0.2,
    D=0.04, n_tail=100, alpha_robust=3.1, phase="heavy-tailed", tw_p=1e-9, ww_softrank=0.1, warning_codes=(), content_hash="0" * 64, reader="safetensors",
)  # fmt: skip


def row(**changes: Any) -> LayerRow:
    return replace(SOUND, **changes)


def vector(**changes: Any) -> LayerRow:
    return row(**({"status": "skipped", "reason": "one_dimensional", "has_esd": False, "kind": "norm", "shape": (300,), "numel": 300, "alpha": None, "phase": None} | changes))  # fmt: skip


def skipped(reason: str, **changes: Any) -> LayerRow:
    return LayerRow(
        model_id="m",
        file="m.safetensors",
        status="skipped",
        reason=reason,
        has_esd=False,
        shape=(64, 64),
        numel=4096,
        **changes,
    )


def unseen(**changes: Any) -> LayerRow:
    """A matrix of which a profile reads the values alone."""
    nothing = dict.fromkeys(("N", "M", "num_evals", "matrix_rank", "erank_sigma", "stable_rank", "alpha", "phase", "tw_p"))
    return row(**(nothing | {"status": "skipped", "reason": "profile", "has_esd": False} | changes))


def found(code: str, *rows: LayerRow, findings: tuple[FindingRow, ...] = ()) -> list[Found]:
    """What one rule says about a model with its default settings."""
    rule = RULES[code]
    return list(rule.check(Evidence("m", "m.safetensors", rows, findings), rule.settings()))


def layers(*stds: float) -> tuple[LayerRow, ...]:
    """The same matrix of several layers with these standard deviations."""
    return tuple(row(name=f"layers.{n}.mlp.weight", std=std, offset=n, content_hash=str(n)) for n, std in enumerate(stds))


def of(category: str, inconclusive: bool = False) -> FindingRow:
    return FindingRow(
        model_id="m", file="m.safetensors", category=category, where="header", message="x", inconclusive=inconclusive
    )


SPIKE = 500.0
SPIKED = row(max=SPIKE, abs_max=SPIKE, std=(0.05**2 + SPIKE**2 / 180_000) ** 0.5,
             excess_kurtosis=(SPIKE**4 / 180_000) / (0.05**2 + SPIKE**2 / 180_000) ** 2 - 3)  # fmt: skip
TWIN = row(name="layers.1.mlp.weight", offset=720_096)
EMBEDDING = row(name="embed.weight", kind="embedding")
# code -> models that it reports: its rows, and the findings of its readers
POSITIVE: dict[str, list[tuple[tuple[LayerRow, ...], tuple[FindingRow, ...]]]] = {
    **{code: [((SOUND,), (of(category),))] for category, code in CODE_OF.items()},
    "WW101": [
        ((row(n_nan=1, status="failed", reason="nonfinite", has_esd=False),), ()),
        ((vector(n_inf=1),), ()),
        ((row(n_inf=180_000, abs_max=None, min=None, max=None, has_esd=False),), ()),
        ((vector(n_nan=300, abs_max=None, kind="buffer"),), ()),
        ((row(n_inf=1000, abs_max=0.0, status="failed", reason="nonfinite", has_esd=False),), ()),
        ((row(n_inf=1000, abs_max=0.0, status="failed", reason="nonfinite", has_esd=False, kind="buffer"),), ()),
        ((unseen(n_inf=1, abs_max=0.0),), ()),
        ((unseen(n_inf=1, abs_max=0.0, kind="buffer", reason="fixed_transform"),), ()),
        ((vector(n_inf=1, abs_max=0.0),), ()),
    ],
    "WW102": [
        ((row(min=0.0, max=0.0, abs_max=0.0, reason="zero_matrix"),), ()),
        ((row(part="whole"), row(part="expert_1", reason="zero_matrix")), ()),
        ((skipped("fixed_transform", name="fft.weight", kind="buffer", abs_max=0.0),), ()),
        ((skipped("gradient", name="grads.weight", kind="optimizer", abs_max=0.0),), ()),
        ((skipped("not_applicable", name="a.bias", kind="bias", kind_source="name", abs_max=0.0),), ()),
        ((vector(name="a._fsdp.flat_param", numel=70_000, shape=(70_000,), abs_max=0.0),), ()),
    ],
    "WW103": [((skipped("gradient", name="grads.weight", abs_max=0.5, min=0.5, max=0.5),), ()), ((row(min=0.5, max=0.5, abs_max=0.5, std=0.0, excess_kurtosis=None),), ())],
    "WW104": [((row(matrix_rank=1),), ()), ((row(erank_sigma=1.0),), ()), ((row(num_evals=8, matrix_rank=1),), ()), ((unseen(rank_sample=1),), ())],
    "WW105": [((SPIKED,), ()), ((row(max=1e200, abs_max=1e200, std=None, excess_kurtosis=None),), ()), ((replace(SPIKED, status="skipped", reason="profile", has_esd=False),), ())],
    "WW106": [(layers(0.05, 0.05, 50.0, 0.06), ()), (layers(0.05, 0.05, 0.05, 5e-5), ())],
    "WW107": [((SOUND, TWIN), ()), ((SOUND, replace(TWIN, offset=None)), ()), ((SOUND, replace(TWIN, offset=96, file="other")), ()),
              ((unseen(), unseen(name="b", offset=7)), ())],
    "WW108": [((row(warning_codes=("quant_floor",)),), ())],
    "WW201": [((row(alpha=8.0, alpha_robust=7.5),), ())],
    "WW202": [((row(alpha=1.5, alpha_robust=1.6, sigma=0.05),), ())],
    "WW203": [((row(phase="random-like", tw_p=0.4),), ())],
    "WW204": [((row(warning_codes=("trap_element",), ww_softrank=0.9),), ())],
    "WW205": [((row(warning_codes=("tail_lt_50",)),), ()), ((row(D=0.2),), ())],
    "WW206": [((row(stable_rank=1.1),), ())],
}  # fmt: skip
# code -> models that look like the above and are left alone; the sound matrix is one for each
NEGATIVE: dict[str, list[tuple[LayerRow, ...]]] = {
    "WW101": [
        (vector(n_inf=190, abs_max=0.0, kind="buffer"),),
        (vector(n_inf=1, numel=1, abs_max=None, reader="onnx", kind="scale"),),
    ],
    "WW102": [(vector(abs_max=0.0, reason="one_dimensional"),), (skipped("buffer", name="b", abs_max=0.0),),
              (vector(name="flat_param", abs_max=0.0),), (vector(numel=70_000, shape=(70_000,), abs_max=0.0),),
              (skipped("not_applicable", name="gru.bias", kind="bias", kind_source="file", abs_max=0.0),),
              *((skipped(reason, name="b", abs_max=0.0),) for reason in ("lora_part", "quant_aux", "optimizer_state"))],
    "WW103": [(vector(min=1.0, max=1.0),)],
    "WW104": [(row(num_evals=4, matrix_rank=1),), (row(kind="lora_delta", matrix_rank=1),), (row(abs_max=0.0, matrix_rank=0),), (unseen(rank_sample=64),), (unseen(rank_sample=0, zero_fraction=0.99),)],
    "WW105": [
        (row(max=8.7, abs_max=8.7, excess_kurtosis=1582.0),),  # the largest outlier of MiniLM: 174 times the root mean square
        (row(std=1.0, min=-1.0, max=1.0, abs_max=1.0, excess_kurtosis=-2.0),),  # signs
        (row(std=0.01, min=-1.0, max=1.0, abs_max=1.0, zero_fraction=0.9999, excess_kurtosis=1e4 - 3),),  # sparse signs
    ],
    "WW106": [layers(0.05, 50.0), layers(0.05, 4.15, 0.05), layers(0.05, 0.4, 0.01, 0.1), layers(0.05, 0.05, 0.05, 0.0)],
    "WW107": [
        (SOUND, replace(TWIN, offset=96)),
        (EMBEDDING, row(name="lm_head.weight", kind="head", offset=7)),
        (EMBEDDING, row(name="cls.predictions.decoder.weight", offset=7)),
        (row(min=1.0, max=1.0), replace(TWIN, min=1.0, max=1.0)),
        (row(reason="constant_esd"), replace(TWIN, reason="constant_esd")),
        (vector(), vector(name="b", offset=7)),
        (unseen(), unseen(name="b", offset=7, content_hash="1" * 64)),
        (unseen(zero_fraction=1 - 300 / 180_000), unseen(name="b", offset=7, zero_fraction=1 - 300 / 180_000)),  # like the identity
    ],
    "WW201": [
        (row(alpha=8.0, alpha_robust=2.4),),
        (row(alpha=8.0, alpha_robust=8.0, sigma=1.1),),
        (row(alpha=8.0, alpha_robust=8.0, phase="random-like"),),
        (row(alpha=8.0, alpha_robust=8.0, D=0.2),),
        (row(alpha=8.0, alpha_robust=8.0, warning_codes=("tail_lt_50",)),),
    ],
    "WW202": [(row(alpha=1.5, alpha_robust=1.6, phase="bulk-decay"),), (row(alpha=1.9, sigma=0.1),), (row(alpha=1.5, alpha_robust=2.1),)],
    "WW203": [(row(phase="random-like", tw_p=0.001),), (row(phase="random-like", tw_p=0.4, M=64),), (row(tw_p=0.4),)],
    "WW204": [
        (row(warning_codes=("trap_element",), ww_softrank=0.3),),
        (row(warning_codes=("trap_element",), ww_softrank=0.9, rf=9),),
        (row(warning_codes=("trap_mean",), ww_softrank=0.9),),
    ],
    "WW205": [(row(phase="random-like", D=0.2),), (row(num_evals=50, D=0.2),)],
    "WW206": [(row(stable_rank=1.1, rf=9),), (row(num_evals=2, stable_rank=1.0),), (row(kind="lora_delta", stable_rank=1.1),)],
}  # fmt: skip


@pytest.mark.parametrize("code", OURS)
def test_a_rule_reports_what_it_is_about(code: str) -> None:
    assert POSITIVE[code]
    for rows, findings in POSITIVE[code]:
        reported = found(code, *rows, findings=findings)
        assert len(reported) == 1, (rows, reported)
        assert reported[0].message


@pytest.mark.parametrize("code", OURS)
def test_a_rule_leaves_its_neighbours_alone(code: str) -> None:
    for rows in [(SOUND,), *NEGATIVE.get(code, [])]:
        assert not found(code, *rows), rows


def test_a_rule_names_the_tensor_that_is_wrong() -> None:
    assert [(one.name, one.metric, one.value) for one in found("WW106", *layers(0.05, 0.05, 50.0, 0.06))] == [
        ("layers.2.mlp.weight", None, 50.0)
    ]
    assert [one.name for one in found("WW107", SOUND, TWIN)] == [TWIN.name]
    assert [one.part for one in found("WW102", row(part="whole"), row(part="expert_1", reason="zero_matrix"))] == ["expert_1"]
    assert [one.name for one in found("WW105", SOUND, replace(SPIKED, name="b"))] == ["b"]


@pytest.mark.parametrize("spikes", [1, 2, 5])
def test_several_equal_spikes_do_not_hide_each_other(spikes: int) -> None:
    m2 = 0.05**2 + spikes * SPIKE**2 / 180_000
    kurtosis = (3 * 0.05**4 + spikes * SPIKE**4 / 180_000) / m2**2 - 3
    ratio = extremity(row(max=SPIKE, abs_max=SPIKE, std=m2**0.5, excess_kurtosis=kurtosis))
    assert ratio == pytest.approx(SPIKE / 0.05, rel=1e-3)


def test_an_alpha_is_never_judged_under_a_code_that_blocks_a_verdict() -> None:
    assert {name for name, code in CODES.items() if code.blocks == "verdict"} == BLOCKING


def test_every_category_has_a_code_or_is_nobodys() -> None:
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"(?m)^\| `([a-z_]+)` \|", text.partition("## Categories")[2].partition("## Reason codes")[0]))
    assert len(listed) > 30
    assert listed <= set(CODE_OF) | set(NOBODYS)
    assert not set(CODE_OF) & set(NOBODYS)


def test_codes_are_in_order_and_names_are_unique() -> None:
    assert list(RULES) == sorted(RULES)
    assert all(code == rule.code and re.fullmatch(r"WW[0-3]\d\d", code) for code, rule in RULES.items())
    assert len({rule.name for rule in RULES.values()}) == len(RULES)


def test_defects_are_errors_and_thresholds_on_spectra_are_not() -> None:
    severities = {code: rule.settings().severity for code, rule in RULES.items()}
    assert {severities[code] for code in OURS if "WW101" <= code <= "WW107"} == {"error"}
    assert {severities[code] for code in OURS if "WW201" <= code <= "WW219"} == {"warn", "info"}


@pytest.mark.parametrize(
    ("code", "setting", "value"),
    [("WW104", "min_rank_share", 1.5), ("WW105", "max_ratio", 0), ("WW106", "min_group", 2), ("WW201", "max", 0.5), ("WW010", "min_analysed_share", -1)],
)  # fmt: skip
def test_a_setting_out_of_its_range_is_refused(code: str, setting: str, value: float) -> None:
    with pytest.raises(msgspec.ValidationError, match=setting):
        msgspec.convert({setting: value}, RULES[code].settings)


@pytest.mark.parametrize(
    ("file", "severity"), [("pytorch_model.bin", "warn"), ("old.PT", "warn"), ("weights", "warn"), ("model.onnx", None)]
)
def test_a_variant_that_is_loaded_by_unpickling_is_graver_than_others(file: str, severity: str | None) -> None:
    beside = FindingRow(
        model_id="m", category="duplicate_variant", where=file, message="lies beside the model and was not read"
    )
    (one,) = found("WW011", SOUND, findings=(beside,))
    assert (one.severity, one.where) == (severity, file)
