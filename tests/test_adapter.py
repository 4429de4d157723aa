"""Which tensors of an adapter make a pair, what adapter_config.json says of it, and what is said when they make none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ww_static as ww
from conftest import Writer
from lora_files import CONFIG, MODULE, convolution, delta_row, delta_rows, dense, factors, pair, write
from support import safetensors_bytes
from torch_files import archive
from ww_static.layout import adapter, layers
from ww_static.layout.facts import Facts
from ww_static.protocol import Limits, TensorSpec
from ww_static.testing import Stored
from ww_static_readers import pytorch


def test_the_factors_stay_listed(tmp_path: Path) -> None:
    a, b = factors(64, 48, 8)
    found = {(row.name, row.part): row for row in ww.analyze(write(tmp_path, pair(a, b)))}
    assert list(found) == [
        (f"{MODULE}.lora_A.weight", None),
        (f"{MODULE}.lora_A.weight", "delta"),
        (f"{MODULE}.lora_B.weight", None),
    ]
    for (_, part), row in found.items():
        if part is None:
            assert (row.status, row.reason, row.kind) == ("skipped", "lora_part", "lora")
            assert row.content_hash is not None
            assert row.lora_scale is None


def test_the_base_model_is_named_and_an_adapter_is_clean(tmp_path: Path) -> None:
    result = ww.analyze(write(tmp_path, pair(*factors(64, 48, 8))))
    assert result.exit_code == 0
    assert [(one.category, one.message, one.inconclusive) for one in result.finding_rows] == [
        ("base_model", "an adapter of 'org/base', which is not looked at", False)
    ]


def test_without_a_configuration_the_scale_is_one_and_said_to_be_unknown(tmp_path: Path) -> None:
    a, b = factors(64, 48, 8)
    row = delta_row(write(tmp_path, pair(a, b), None), esd="f64")
    assert row.esd == pytest.approx(dense(b.astype(float) @ a.astype(float), 8), rel=1e-10)
    assert row.lora_scale == 1.0
    assert "scale_unknown" in (row.warning_codes or ())


@pytest.mark.parametrize(
    ("change", "scale"),
    [
        ({}, 2.0),
        ({"use_rslora": True}, 16 / math.sqrt(8)),
        ({"lora_alpha": 0.5}, 0.0625),
        ({"lora_alpha": -16}, -2.0),
        ({"alpha_pattern": {"q_proj": 4}}, 0.5),
        ({"alpha_pattern": {"model.layers.0.self_attn.q_proj": 4}}, 0.5),
        ({"alpha_pattern": {"^model.layers.0.self_attn.q_proj": 4}}, 0.5),
        ({"alpha_pattern": {r"layers\.0\.self_attn\.q_proj$": 4}}, 0.5),
        ({"alpha_pattern": {"q.proj": 4}}, 0.5),
        ({"alpha_pattern": {"^model.layers.0.self.attn.q.proj$": 4}}, 0.5),
        ({"alpha_pattern": {r"q\.proj": 4}}, 2.0),
        ({"alpha_pattern": {r"self_attn\.q.proj": 4}}, 0.5),
        ({"alpha_pattern": {"self.attn.q.proj": 4, "q_proj": 8}}, 0.5),
        ({"alpha_pattern": {"q..proj": 4, ".q_proj": 4}}, 2.0),
        ({"alpha_pattern": {"^q_proj": 4}}, 2.0),
        ({"alpha_pattern": {"_proj": 4}}, 2.0),
        ({"alpha_pattern": {"k_proj": 4}}, 2.0),
        ({"alpha_pattern": {"self_attn.q_proj": 4, "q_proj": 8}}, 0.5),
        ({"alpha_pattern": {"q_proj": 8, "self_attn.q_proj": 4}}, 1.0),
        ({"alpha_pattern": {"q_proj": 8, ".*": 4}}, 1.0),
        ({"r": 4, "rank_pattern": {"q_proj": 8}}, 2.0),
        ({"r": 4, "rank_pattern": {"q_proj": 8}, "alpha_pattern": {"q_proj": 32}, "use_rslora": True}, 32 / math.sqrt(8)),
        ({"r": 4, "rank_pattern": {".*q_proj": 8}}, 2.0),
        ({"r": None}, 2.0),
    ],
    ids=str,
)
def test_the_scale_is_that_of_the_configuration(tmp_path: Path, change: dict[str, Any], scale: float) -> None:
    a, b = factors(64, 48, 8)
    row = delta_row(write(tmp_path, pair(a, b), CONFIG | change))
    assert row.lora_scale == pytest.approx(scale, rel=1e-15)
    assert "scale_unknown" not in (row.warning_codes or ())
    assert row.norm == pytest.approx(scale**2 * float(((b.astype(float) @ a.astype(float)) ** 2).sum()), rel=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        {"alpha_pattern": {".*q_proj": 4}}, {"alpha_pattern": {"(a+)+$": 4, "q_proj": 8}}, {"lora_alpha": None}, {"lora_alpha": "16"},
        {"lora_alpha": 1e308}, {"lora_alpha": 10**400}, {"lora_alpha": True}, {"lora_alpha": float("nan")}, {"lora_alpha": float("inf")},
        {"alpha_pattern": [4]}, {"alpha_pattern": {"q_proj": "4"}}, {"alpha_pattern": {"x" * 2000: 4}}, {"alpha_pattern": {"": 4}},
    ],
    ids=lambda change: str(change)[:60],
)  # fmt: skip
def test_a_scale_that_is_not_certain_is_one_and_said_to_be_unknown(tmp_path: Path, change: dict[str, Any]) -> None:
    result = ww.analyze(write(tmp_path, pair(*factors(64, 48, 8)), CONFIG | change))
    (row,) = delta_rows(result)
    assert (row.status, row.lora_scale) == ("success", 1.0)
    assert "scale_unknown" in (row.warning_codes or ())
    assert change == {"lora_alpha": None} or "bad_config" in {one.category for one in result.finding_rows}
    assert all(len(one.message or "") < 200 for one in result.finding_rows)


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b'{"r": ' + b"9" * 100_000 + b"}", b'"x"', b"\x00" * 100],
    ids=range(8),
)
def test_a_configuration_that_is_no_json_object_is_a_finding(tmp_path: Path, raw: bytes) -> None:
    result = ww.analyze(write(tmp_path, pair(*factors(64, 48, 8)), raw))
    assert [(one.category, one.where) for one in result.finding_rows] == [("bad_config", "adapter_config.json")]
    (row,) = delta_rows(result)
    assert (row.status, row.lora_scale) == ("success", 1.0)


def test_many_hostile_patterns_cost_no_time_and_are_never_run(tmp_path: Path) -> None:
    """Each of the keys would take for ever as a regular expression on these names, were it run; 40,000 literal ones are looked up."""
    a, b = factors(4, 4, 2)
    tensors: dict[str, Any] = {}
    for number in range(50):
        tensors |= pair(a, b, f"base_model.model.{'a' * 60}.{'a.' * 40}{number}")
    bombs = {f"({'a*' * 30})*{number}b": 4 for number in range(50)}
    patterns = {f"{number}.{'a.' * 20}x": 4 for number in range(40_000)}
    path = write(tmp_path, tensors, CONFIG | {"r": 2, "rank_pattern": bombs, "alpha_pattern": patterns | bombs})
    rows = delta_rows(ww.analyze(path))
    assert len(rows) == 50
    assert all("scale_unknown" in (row.warning_codes or ()) for row in rows)


def test_keys_of_too_many_shapes_are_unread_and_could_decide_for_any_module() -> None:
    shapes = {"x" * length: 4 for length in range(1, 257)}
    known, findings = adapter.parse({"r": 2, "lora_alpha": 2, "alpha_pattern": shapes})
    assert (known.scale("xx", 2), known.scale("q_proj", 2), findings) == (2.0, 1.0, ())
    known, findings = adapter.parse({"r": 2, "lora_alpha": 2, "alpha_pattern": shapes | {"x" * 257: 4}})
    assert (known.scale("xx", 2), known.scale("q_proj", 2)) == (2.0, None)
    assert [one.category for one in findings] == ["bad_config"]


def test_a_dot_of_a_key_stands_for_no_line_feed_and_not_for_none() -> None:
    known, _ = adapter.parse({"r": 2, "lora_alpha": 2, "alpha_pattern": {"q.proj": 4, "^k.proj": 8}})
    modules = ("q_proj", "a.qxproj", "qproj", "q__proj", "k_proj", "a.k_proj")
    assert [known.scale(module, 2) for module in modules] == [2.0, 2.0, 1.0, 1.0, 4.0, 1.0]
    assert known.scale("q\nproj", 2) is None


def test_a_long_configuration_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, pair(*factors(64, 48, 8)), CONFIG)
    result = ww.analyze(path, limits=Limits(config_bytes=20))
    assert [(one.category, one.where) for one in result.finding_rows] == [("bad_config", "adapter_config.json")]
    assert delta_rows(result)[0].lora_scale == 1.0


@pytest.mark.parametrize("base", [7, "x" * 201, ["org/base"]])
def test_a_base_model_that_is_no_short_text_is_not_repeated(tmp_path: Path, base: object) -> None:
    result = ww.analyze(write(tmp_path, pair(*factors(64, 48, 8)), CONFIG | {"base_model_name_or_path": base}))
    assert [one.category for one in result.finding_rows] == ["bad_config"]


@pytest.mark.parametrize("side", ["A", "B"])
def test_half_a_pair_is_a_row_that_leaves_something_unread(tmp_path: Path, side: str) -> None:
    a, b = factors(64, 48, 8)
    tensors = {f"{MODULE}.lora_{side}.weight": a if side == "A" else b, "score.weight": b @ a}
    result = ww.analyze(write(tmp_path, tensors))
    (row,) = delta_rows(result)
    assert (row.status, row.reason, row.name, row.part) == ("skipped", "no_pair", f"{MODULE}.lora_{side}.weight", "delta")
    assert row.message == f"there is no factor {'B' if side == 'A' else 'A'} beside it"
    assert result.exit_code == 3
    assert [one.category for one in result.finding_rows if one.inconclusive] == ["no_pair"]
    assert ww.describe(tmp_path / "adapter_model.safetensors").exit_code == 3


@pytest.mark.parametrize(
    ("a", "b"),
    [((8, 48), (64, 4)), ((8, 48), (8,)), ((8, 48), (64, 8, 1, 1)), ((8,), (64, 8)), ((8, 4, 3, 3), (64, 8, 3, 3)),
     ((8, 4, 3), (64, 8)), ((0, 48), (64, 0)), ((8, 48, 1, 1, 1, 1), (64, 8, 1, 1, 1, 1)), ((), ())],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_a_row_that_says_so(tmp_path: Path, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    tensors = pair(np.ones(a, np.float32), np.ones(b, np.float32)) | {"score.weight": factors(20, 16, 9)[0]}
    result = ww.analyze(write(tmp_path, tensors))
    (row,) = delta_rows(result)
    assert (row.status, row.reason) == ("skipped", "shape_mismatch")
    assert row.message == f"A is {list(a)} and B is {list(b)}"
    assert result.exit_code == 3


def test_a_rank_that_the_configuration_denies_is_a_mismatch(tmp_path: Path) -> None:
    """A stack of experts keeps `[experts * r, in]`: B A is then not what is added to any of them."""
    row = delta_row(write(tmp_path, pair(*factors(64, 48, 32))))
    assert (row.reason, row.message) == ("shape_mismatch", "rank 32 in the file, 8 in the configuration")


@pytest.mark.parametrize("change", [{"peft_type": "ADALORA"}, {"use_qalora": True}])
def test_methods_that_add_something_else_are_not_multiplied(tmp_path: Path, change: dict[str, Any]) -> None:
    result = ww.analyze(write(tmp_path, pair(*factors(64, 48, 8)), CONFIG | change))
    (row,) = delta_rows(result)
    assert (row.status, row.reason, result.exit_code) == ("skipped", "unsupported_layout", 3)


def test_a_diagonal_between_the_factors_is_recognized_without_a_configuration(tmp_path: Path) -> None:
    tensors = pair(*factors(64, 48, 8)) | {f"{MODULE}.lora_E": np.ones((8, 1), np.float32)}
    assert delta_row(write(tmp_path, tensors, None)).reason == "unsupported_layout"


def test_integers_are_not_multiplied(tmp_path: Path) -> None:
    a, b = factors(64, 48, 8)
    result = ww.analyze(write(tmp_path, pair((a * 10).astype(np.int32), b)))
    (row,) = delta_rows(result)
    assert (row.status, row.reason, result.exit_code) == ("skipped", "unsupported_dtype", 3)


def test_transposed_weights_are_named_so(tmp_path: Path) -> None:
    row = delta_row(write(tmp_path, pair(*factors(64, 48, 8)), CONFIG | {"fan_in_fan_out": True}))
    assert (row.shape, row.orientation, row.N, row.M) == ((48, 64), "in,out", 64, 48)


def test_adapters_of_a_training_checkpoint_keep_their_names_apart(tmp_path: Path) -> None:
    a, b = factors(64, 48, 8)
    tensors = {
        f"{MODULE}.lora_A.default.weight": a, f"{MODULE}.lora_B.default.weight": b,
        f"{MODULE}.lora_A.other.weight": a[:4], f"{MODULE}.lora_B.other.weight": b[:, :4],
        f"{MODULE}.base_layer.weight": b @ a, "base_model.model.score.modules_to_save.default.weight": b[:9],
        "optimizer.exp_avg.lora_A.weight": a, f"{MODULE}.lora_B.default.bias": b[:, 0],
    }  # fmt: skip
    result = ww.analyze(write(tmp_path, tensors, None))
    rows = {row.name: row for row in delta_rows(result)}
    assert set(rows) == {f"{MODULE}.lora_A.default.weight", f"{MODULE}.lora_A.other.weight"}
    assert [row.num_evals for row in rows.values()] == [8, 4]
    ordinary = {row.name: row.status for row in result if row.kind in ("dense", "attention", "head")}
    assert ordinary == {
        f"{MODULE}.base_layer.weight": "success",
        "base_model.model.score.modules_to_save.default.weight": "success",
    }
    assert result.exit_code == 0


def test_names_of_other_trainers_make_pairs_of_unknown_scale(tmp_path: Path) -> None:
    a, b = factors(64, 48, 8)
    tensors = {"lora_unet_mid_to_q.lora_down.weight": a, "lora_unet_mid_to_q.lora_up.weight": b}
    row = delta_row(write(tmp_path, tensors, None))
    assert (row.status, row.name, row.num_evals) == ("success", "lora_unet_mid_to_q.lora_down.weight", 8)
    assert "scale_unknown" in (row.warning_codes or ())


@pytest.mark.parametrize(
    "suffix", ["lora_magnitude_vector", "lora_magnitude_vector.weight", "lora_magnitude_vector.default.weight"]
)
def test_a_magnitude_vector_is_listed_and_not_applied(tmp_path: Path, suffix: str) -> None:
    a, b = factors(64, 48, 8)
    result = ww.analyze(write(tmp_path, pair(a, b) | {f"{MODULE}.{suffix}": np.ones(64, np.float32)}))
    (row,) = delta_rows(result)
    assert "without_magnitude" in (row.warning_codes or ())
    assert row.norm == pytest.approx(4 * float(((b.astype(float) @ a.astype(float)) ** 2).sum()), rel=1e-12)
    assert {row.reason for row in result if row.name == f"{MODULE}.{suffix}"} == {"lora_part"}


def test_limits_hold_for_the_taps_of_a_product(tmp_path: Path) -> None:
    a, b, _ = convolution((3, 3))
    path = write(tmp_path, pair(a, b, "m.conv"), CONFIG | {"r": 4})
    assert delta_row(path, limits=Limits(matrices=8)).reason == "limit"
    assert delta_row(path, conv="slices", limits=Limits(rows=8)).reason == "limit"
    assert delta_row(path, limits=Limits(rows=8)).status == "success"


@pytest.mark.parametrize(
    ("a", "b", "reason"), [((4, 1, 3, 3), (20, 4, 1, 1), "depthwise"), ((4, 12, 3, 3), (1, 4, 1, 1), "vector_taps")]
)
def test_taps_that_are_vectors_are_skipped(tmp_path: Path, a: tuple[int, ...], b: tuple[int, ...], reason: str) -> None:
    row = delta_row(write(tmp_path, pair(np.ones(a, np.float32), np.ones(b, np.float32), "m.conv"), CONFIG | {"r": 4}))
    assert (row.status, row.reason) == ("skipped", reason)


def test_an_adapter_in_a_torch_file(tmp_path: Path) -> None:
    a, b = factors(64, 48, 8)
    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG))
    path = tmp_path / "adapter_model.bin"
    path.write_bytes(archive({name: Stored("F32", array) for name, array in pair(a, b).items()}))
    row = delta_row(path, esd="f64")
    assert (row.lora_scale, row.reader) == (2.0, "pytorch")
    assert row.esd == pytest.approx(dense(2.0 * b.astype(float) @ a.astype(float), 8), rel=1e-10)
    same = delta_row(write(tmp_path, pair(a, b)))
    assert same.content_hash == row.content_hash


def test_a_folder_with_an_adapter_is_one_model(tmp_path: Path) -> None:
    write(tmp_path, pair(*factors(64, 48, 8)))
    assert [row.part for row in ww.analyze(tmp_path)] == [None, "delta", None]


def test_factors_kept_as_inputs_by_outputs(save: Writer) -> None:
    a, b = factors(48, 48, 8)
    tensors = {"m.lora_A.kernel": np.ascontiguousarray(a.T), "m.lora_B.kernel": np.ascontiguousarray(b.T)}
    row = delta_row(save(tensors), esd="f64")
    assert row.esd == pytest.approx(dense(b.astype(float) @ a.astype(float), 8), rel=1e-10)


def test_kinds_select_the_products_alone(tmp_path: Path) -> None:
    path = write(tmp_path, pair(*factors(64, 48, 8)))
    (row,) = ww.analyze(path, kinds=("lora_delta",))
    assert (row.status, row.part) == ("success", "delta")
    (described,) = ww.describe(path, layers=("*lora_A*",))
    assert (described.name, described.parts, described.rows) == (f"{MODULE}.lora_A.weight", ("delta",), 2)
    assert described.memory_bytes > 0


def test_the_table_of_an_adapter_of_many_pairs_is_made_in_one_pass() -> None:
    """Every tensor is looked at a fixed number of times, whatever the number of pairs."""
    looked = 0

    class Counted(str):
        __slots__ = ()

        def __contains__(self, part: object) -> bool:
            nonlocal looked
            looked += 1
            return super().__contains__(part)  # type: ignore[operator]

    specs = [TensorSpec(Counted(f"m.{i}.lora_{side}.weight"), "F32", (4, 4), "f") for i in range(500) for side in "AB"]
    views = layers.layer_table(specs, Facts())
    assert len(views) == 1500
    assert looked <= 4 * len(specs)


def test_the_configuration_is_about_the_adapter_and_no_other_model_of_the_folder(tmp_path: Path) -> None:
    A, B = factors(40, 30, 8)
    write(tmp_path, pair(A, B))
    W = np.random.default_rng(1).standard_normal((40, 30)).astype(np.float32)
    (tmp_path / "base.safetensors").write_bytes(safetensors_bytes({"layer.weight": W}))
    found = ww.analyze(tmp_path).finding_rows
    assert [(one.model_id, one.category) for one in found] == [("adapter_model", "base_model")]


def test_an_adapter_beside_another_model_is_a_model(tmp_path: Path) -> None:
    names = ["adapter_model.bin", "adapter_config.json", "other.safetensors", "pytorch_model.bin", "extra.bin"]
    assert [one.file for one in pytorch.models(names)] == ["adapter_model.bin", "pytorch_model.bin", "extra.bin"]
    twins = ["adapter_model.safetensors", "model-00001-of-00002.safetensors", "extra.fp16.safetensors"]
    assert pytorch.models([*names, *twins]) == []
