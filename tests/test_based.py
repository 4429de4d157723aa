"""A base model: rows of what a fine-tune changed, and of what an adapter makes of its base."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ww_static as ww
from conftest import Writer
from lora_files import CONFIG, MODULE, factors, pair, write
from support import bfloat16_bits, safetensors_bytes
from ww_static import based
from ww_static.budget import budget_of
from ww_static.measuring import reading
from ww_static.memory import BASED_BYTES
from ww_static.models import Source
from ww_static.options import Options
from ww_static.plan import Settings, plan_model
from ww_static.protocol import Limits
from ww_static.seam import OpenCheckpoint
from ww_static.workers.executors import InlineExecutor

WEIGHT = f"{MODULE.removeprefix('base_model.model.')}.weight"


def random(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def rows_of(path: Path, base: Path, **options: Any) -> dict[str, Any]:
    with InlineExecutor() as here:
        return {f"{row.name}{row.part or ''}": row for row in ww.analyze(path, base=base, executor=here, **options)}


def test_rows_are_those_of_the_difference(save: Writer) -> None:
    old = {"a.weight": random(1, 60, 40), "conv.weight": random(2, 16, 12, 3, 3), "norm.weight": random(3, 40)}
    new = {name: values + random(9, *values.shape) / 8 for name, values in old.items()}
    found = rows_of(save(new, "new.safetensors"), save(old, "old.safetensors"), metrics="all")
    exact = {name: new[name].astype(np.float64) - old[name].astype(np.float64) for name in old}
    with InlineExecutor() as here:
        direct = {row.name: row for row in ww.analyze(save(exact, "exact.safetensors"), metrics="all", executor=here)}
    for name, row in found.items():
        assert (row.status, row.alpha, row.norm, row.num_traps) == (
            direct[name].status,
            direct[name].alpha,
            direct[name].norm,
            direct[name].num_traps,
        )
        assert (row.mean, row.content_hash, row.dtype) == (direct[name].mean, direct[name].content_hash, "F64")
    assert found["a.weight"].frob_norm == pytest.approx(float(np.linalg.norm(exact["a.weight"])))


def test_what_the_base_does_not_have_is_skipped_with_a_reason(save: Writer) -> None:
    old = {"a.weight": random(1, 30, 20), "b.weight": random(2, 30, 20), "same.weight": random(3, 30, 20)}
    new = {"same.weight": old["same.weight"], "b.weight": random(2, 30, 22), "c.weight": random(4, 30, 20), "ids": np.arange(5)}
    base, path = save(old, "old.safetensors"), save(new, "new.safetensors")
    found = rows_of(path, base)
    assert {name: (row.status, row.reason) for name, row in found.items()} == {
        "b.weight": ("skipped", "shape_mismatch"),
        "c.weight": ("skipped", "no_pair"),
        "ids": ("skipped", "integer_tensor"),
        "same.weight": ("success", "zero_matrix"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "ww_static", "analyze", str(path), "--base", str(base), "-f", "json"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0  # what the base lacks is known, not unread
    document = json.loads(done.stdout)
    assert document["parameters"]["base"] == "old"
    assert {
        (one["name"], one["category"], one["inconclusive"], one["message"]) for one in document["findings"] if one["name"]
    } >= {
        ("c.weight", "no_pair", False, "F32 of shape [30, 20], and the base has no tensor of this name"),
        ("b.weight", "shape_mismatch", False, "F32 of shape [30, 22], and the base has another shape of it"),
    }


def adapter_and_base(folder: Path, out: int = 60, inner: int = 40) -> tuple[Path, Path, Any, Any]:
    W = random(5, out, inner)
    a, b = factors(out, inner, 8)
    folder.mkdir(exist_ok=True)
    base = folder.parent / "base.safetensors"
    base.write_bytes(safetensors_bytes({WEIGHT: W, "other.weight": random(6, 30, 20)}))
    return write(folder, pair(a, b)), base, W.astype(np.float64), 2.0 * b.astype(np.float64) @ a.astype(np.float64)


@pytest.mark.parametrize(("out", "inner"), [(60, 40), (40, 60)])
def test_an_adapter_has_rows_of_the_sum_and_of_the_product(tmp_path: Path, out: int, inner: int) -> None:
    adapter, base, W, delta = adapter_and_base(tmp_path / "adapter", out, inner)
    found = rows_of(adapter, base, esd="f64")
    merged = found[WEIGHT]
    expected = np.linalg.svd(W + delta, compute_uv=False)[::-1] ** 2
    assert np.array(merged.esd) == pytest.approx(expected, rel=1e-10)
    assert (merged.num_evals, merged.kind, merged.status) == (min(out, inner), "attention", "success")
    (product,) = (row for row in found.values() if row.kind == "lora_delta")
    assert product.num_evals == 8
    assert product.frob_norm == pytest.approx(float(np.linalg.norm(delta)))
    assert len(found) == 4


def test_an_adapter_is_compared_with_its_base(tmp_path: Path) -> None:
    adapter, base, W, delta = adapter_and_base(tmp_path / "adapter")
    with InlineExecutor() as here:
        found = {row.name: row for row in ww.compare(base, adapter, adapter=True, executor=here)}
    row = found[WEIGHT]
    assert row.pairing == "name"
    assert row.delta_norm == pytest.approx(float(np.linalg.norm(delta)), rel=1e-12)
    assert row.rel_delta == pytest.approx(float(np.linalg.norm(delta) / np.linalg.norm(W)), rel=1e-12)
    assert row.delta_spectral == pytest.approx(float(np.linalg.norm(delta, 2)), rel=1e-9)
    assert row.delta_stable_rank <= 8
    left = np.linalg.svd(W)[0][:, :10].T @ np.linalg.svd(W + delta)[0][:, :10]
    assert row.overlap_l == pytest.approx(float((left**2).sum()) / 10, abs=1e-9)
    assert found["other.weight"].reason == "no_pair"


def test_an_adapter_of_another_base_is_a_finding(tmp_path: Path) -> None:
    adapter, base, _, _ = adapter_and_base(tmp_path / "adapter")
    for tensors, category in (
        ({"other.weight": random(6, 30, 20)}, "no_pair"),
        ({WEIGHT: random(6, 30, 20)}, "shape_mismatch"),
    ):
        base.write_bytes(safetensors_bytes(tensors))
        with InlineExecutor() as here:
            result = ww.analyze(adapter, base=base, executor=here)
        assert category in [row.category for row in result.finding_rows]
        assert result.exit_code == 3
        assert WEIGHT not in [row.name for row in result]


def test_transposed_weights_take_the_transposed_product(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    a, b = factors(60, 40, 8)
    W = random(7, 40, 60)  # [in, out], as GPT-2 keeps it
    base = tmp_path / "base.safetensors"
    base.write_bytes(safetensors_bytes({WEIGHT: W}))
    adapter = write(folder, pair(a, b), CONFIG | {"fan_in_fan_out": True})
    delta = 2.0 * b.astype(np.float64) @ a.astype(np.float64)
    row = rows_of(adapter, base)[WEIGHT]
    assert row.frob_norm == pytest.approx(float(np.linalg.norm(W + delta.T)), rel=1e-10)


def test_a_base_that_cannot_be_read_is_named(save: Writer, tmp_path: Path) -> None:
    path = save({"a.weight": random(1, 30, 20)})
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(ww.FormatError, match=r"base 'broken\.safetensors'"):
        rows_of(path, broken)
    done = subprocess.run(
        [sys.executable, "-m", "ww_static", "analyze", str(path), "--base", str(broken)], capture_output=True, text=True
    )
    assert done.returncode == 3
    assert "base 'broken.safetensors'" in done.stderr


def test_workers_give_the_same_rows(save: Writer) -> None:
    old = {f"{i}.weight": random(i, 60, 40) for i in range(4)}
    new = {name: values * np.float32(1.5) for name, values in old.items()}
    base, path = save(old, "old.safetensors"), save(new, "new.safetensors")
    assert ww.analyze(path, base=base, jobs=1).rows == ww.analyze(path, base=base, jobs=2).rows
    row = rows_of(path, base)["1.weight"]
    assert math.isclose(row.frob_norm, 0.5 * float(np.linalg.norm(old["1.weight"].astype(np.float64))), rel_tol=1e-6)


def bfloat16(W: Any) -> tuple[str, tuple[int, ...], bytes]:
    return "BF16", W.shape, bfloat16_bits(W).tobytes()


def test_the_rounding_of_both_tensors_is_told_from_what_was_learnt(save: Writer) -> None:
    rng = np.random.default_rng(4)
    W = 0.02 * rng.standard_normal((300, 200))
    low = W + 0.0002 * rng.standard_normal((300, 4)) @ rng.standard_normal((4, 200))
    full = W + 0.002 * rng.standard_normal((300, 200))
    old = {
        name: store(W) for name, store in (("bf16", bfloat16), ("f32", np.float32), ("full", np.float32), ("same", np.float32))
    }
    new = {"bf16": bfloat16(low), "f32": low.astype(np.float32), "full": full.astype(np.float32), "same": bfloat16(W)}
    found = rows_of(save(new, "new.safetensors"), save(old, "old.safetensors"))
    for name in ("bf16", "f32"):
        assert (found[name].phase, "quant_floor" in found[name].warning_codes) == ("rank-collapse", True)
    assert (found["full"].phase, "quant_floor" in found["full"].warning_codes) == ("random-like", False)
    assert "quant_floor" in found["same"].warning_codes  # nothing but rounding, which looks like noise


def test_a_part_that_did_not_change_is_rounding_beside_one_that_did(save: Writer) -> None:
    W = random(6, 300, 100) / 50
    new = W.copy()
    new[:100] += random(7, 100, 100) / 50  # q
    name = "self_attn.in_proj_weight"
    found = rows_of(save({name: bfloat16(new)}, "new.safetensors"), save({name: W}, "old.safetensors"))
    assert {row.part: "quant_floor" in row.warning_codes for row in found.values() if row.part in ("q", "k", "v")} == {
        "q": False, "k": True, "v": True,
    }  # fmt: skip


def test_the_rounding_of_the_base_stays_when_an_adapter_is_put_on_it(tmp_path: Path) -> None:
    adapter, base, _, _ = adapter_and_base(tmp_path / "adapter", 300, 200)
    rng = np.random.default_rng(5)
    low = (rng.standard_normal((300, 20)) @ rng.standard_normal((20, 200))).astype(np.float32)
    phases = {}
    for name, W in (("low", low), ("full", random(5, 300, 200))):
        base.write_bytes(safetensors_bytes({WEIGHT: bfloat16(W)}))
        row = rows_of(adapter, base)[WEIGHT]
        phases[name] = row.phase == "rank-collapse", "quant_floor" in (row.warning_codes or ())
    assert phases == {"low": (True, True), "full": (False, False)}


def test_one_prefix_may_be_missing_in_the_base(save: Writer) -> None:
    old = {"a.weight": random(1, 30, 20), "b.weight": random(2, 30, 20)}
    new = {f"model.{name}": 2 * values for name, values in old.items()}
    found = rows_of(save(new, "new.safetensors"), save(old, "old.safetensors"))
    assert {name: row.status for name, row in found.items()} == {"model.a.weight": "success", "model.b.weight": "success"}
    assert found["model.a.weight"].frob_norm == pytest.approx(float(np.linalg.norm(old["a.weight"])))


def test_the_factors_of_a_tensor_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, base, _, _ = adapter_and_base(tmp_path / "adapter", 700, 600)
    calls, factors_of = 0, reading.product_factors

    def counted(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        return factors_of(*given)

    monkeypatch.setattr(reading, "product_factors", counted)
    assert rows_of(adapter, base)[WEIGHT].status == "success"
    assert calls == 1


def test_room_is_kept_for_the_factors(tmp_path: Path) -> None:
    adapter, base, _, _ = adapter_and_base(tmp_path / "adapter")
    source = Source(str(adapter), adapter.name, "adapter", base=str(base))
    plan = plan_model(source, Options(base="base"), Settings())
    with_base, without = (budget_of(plan.views, options, 2**30).overhead for options in (Options(base="base"), Options()))
    assert with_base - without == BASED_BYTES + 2 * 8 * 8 * (60 + 40)


@pytest.mark.parametrize("refusing", ["_Adapted", "_Both"])
def test_both_files_are_closed_when_they_make_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusing: str) -> None:
    adapter, base, _, _ = adapter_and_base(tmp_path / "adapter")
    closed: list[str] = []
    close = OpenCheckpoint.close

    def noted(self: OpenCheckpoint) -> None:
        closed.append(self.path.name)
        close(self)

    def refuse(*_: Any) -> None:
        raise ww.FormatError("limit", "header", "too much")

    monkeypatch.setattr(OpenCheckpoint, "close", noted)
    monkeypatch.setattr(based, refusing, refuse)
    with pytest.raises(ww.FormatError, match="too much"):
        based.open_model(str(adapter), Limits(), None, str(base))
    assert sorted(closed) == sorted([adapter.name, base.name])
