"""A base model: rows of what a fine-tune changed, and of what an adapter makes of its base."""

from __future__ import annotations

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
from support import safetensors_bytes
from ww_static.executors import InlineExecutor

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
    assert done.returncode == 3
    assert '"base": "old"' in done.stdout


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
