"""smooth and sharpen end to end: components, traps, bytes that stay, storage dtypes, refusals, and nothing left behind."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray

import ww_static as ww
from conftest import Note, Writer
from support import bfloat16_bits, safetensors_bytes
from ww_static import cli, dtypes, memory, models, schema
from ww_static.layout.facts import Facts
from ww_static.layout.layers import layer_table
from ww_static.measuring import reading
from ww_static.options import Options
from ww_static.plan import Settings, plan_model
from ww_static.protocol import Extent, TensorSpec
from ww_static.rows import ChangeRow
from ww_static.spectral.components import trap_count
from ww_static.transforms.placement import placement
from ww_static.transforms.rewriting import Place, Rewrite, bytes_needed, rewrite_tensor
from ww_static.transforms.transform import COUNTS, SHARPEN, Transform, smoothing
from ww_static.workers.executors import InlineExecutor
from ww_static.workers.tasks import Target, close_kept

Values = NDArray[np.float64]


def gaussian(n: int, m: int, seed: int = 0) -> Values:
    return np.random.default_rng(seed).standard_normal((n, m)) / math.sqrt(n)


def heavy(n: int, m: int, seed: int = 0) -> Values:
    return np.random.default_rng(seed).standard_t(2.5, (n, m)) * 0.05


def stored(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Header and the bytes of every tensor of a safetensors file, read without the library under test."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    payload = raw[8 + length :]
    parts = {name: payload[slice(*one["data_offsets"])] for name, one in header.items() if name != "__metadata__"}
    assert sum(map(len, parts.values())) == len(payload)
    return header, parts


def values(path: Path, name: str = "w.weight") -> Values:
    with ww.open(path) as checkpoint:
        spec = checkpoint.spec(name)
        return dtypes.widen(checkpoint.read(spec), spec.dtype)


def smoothed(path: Path, **options: Any) -> tuple[ChangeRow, Path]:
    output = path.with_name("smooth.safetensors")
    (row,) = ww.smooth(path, output, executor=InlineExecutor(), **options)
    return row, output


def truncated(W: Values, k: int) -> Values:
    U, sigma, Vt = np.linalg.svd(W, full_matrices=False)
    found: Values = (U[:, :k] * sigma[:k]) @ Vt[:k]
    return found


@pytest.mark.parametrize("side", [512, pytest.param(4096, marks=pytest.mark.large)])
@pytest.mark.parametrize("percent", [0.2, -0.2])
def test_a_share_of_the_components_stays_or_goes(save: Writer, side: int, percent: float, measured: Note) -> None:
    path = save({"w.weight": gaussian(side, side, 1).astype(np.float32)})
    row, output = smoothed(path, method="svd", percent=percent)
    count = int(0.2 * side)
    expected = count if percent > 0 else side - count  # 819 and 3277 of 4096
    assert np.count_nonzero(ww.spectrum(values(output), method="gram").eigenvalues > 1e-10) == expected
    assert (row.status, row.k, row.removed) == ("changed", int(percent * side), side - expected)
    measured("F8", f"{side}, {percent}: {expected}")


@pytest.mark.parametrize("shape", [(90, 60), (60, 90), (70, 70)])
@pytest.mark.parametrize("percent", [0.1, 0.8, -0.1, -0.8])
def test_what_stays_is_the_truncated_singular_value_decomposition(save: Writer, shape: tuple[int, int], percent: float) -> None:
    W = heavy(*shape)
    row, output = smoothed(save({"w.weight": W}), method="svd", percent=percent)
    k = int(abs(percent) * min(shape))
    expected = truncated(W, k) if percent > 0 else W - truncated(W, k)
    found = values(output)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert row.delta_norm == pytest.approx(float(np.linalg.norm(W - expected)), rel=1e-10)
    assert row.removed_share == pytest.approx(float(np.linalg.norm(W - expected) ** 2 / np.linalg.norm(W) ** 2), rel=1e-10)


@pytest.mark.parametrize("method", sorted(COUNTS))
def test_the_count_is_the_column_of_an_analysis(save: Writer, method: str) -> None:
    W = heavy(200, 120)
    path = save({"w.weight": W})
    (analysed,) = ww.analyze(path)
    row, output = smoothed(path, method=method)
    assert row.k == getattr(analysed, COUNTS[method])
    assert row.k is not None
    np.testing.assert_allclose(values(output), truncated(W, row.k), atol=1e-12)


@pytest.mark.parametrize("percent", [0.3, -0.3])
def test_each_tap_of_a_convolution_gets_its_share_rounded_up(save: Writer, percent: float) -> None:
    kernel = heavy(24 * 9, 40).reshape(24, 40, 3, 3)
    row, output = smoothed(save({"w.weight": kernel}), method="svd", percent=percent)
    each = math.ceil(int(0.3 * 24 * 9) / 9)
    assert row.removed == 9 * ((24 - each) if percent > 0 else each)
    found = values(output)
    for i in range(3):
        for j in range(3):
            tap = kernel[:, :, i, j]
            expected = truncated(tap, each) if percent > 0 else tap - truncated(tap, each)
            np.testing.assert_allclose(found[:, :, i, j], expected, atol=1e-12)


@pytest.mark.parametrize(("percent", "reason"), [(0.001, "k_zero"), (1.0, "all_kept")])
def test_nothing_to_take_out_leaves_the_bytes(save: Writer, percent: float, reason: str) -> None:
    path = save({"w.weight": heavy(90, 60).astype(np.float32)})
    row, output = smoothed(path, method="svd", percent=percent)
    assert (row.status, row.reason, row.removed) == ("unchanged", reason, 0)
    assert stored(path)[1] == stored(output)[1]


def test_a_row_without_the_column_is_unchanged_with_its_reason(save: Writer) -> None:
    path = save({"w.weight": np.eye(40)})
    for method, reason in (("detX", "constant_esd"), ("lambda_min", "constant_esd")):
        row, output = smoothed(path, method=method)
        assert (row.status, row.reason) == ("unchanged", reason)
        assert stored(path)[1] == stored(output)[1]


def everything() -> dict[str, Any]:
    """Tensors of many kinds and dtypes, one of which has a matrix to transform."""
    rng = np.random.default_rng(2)
    nan = np.array([1.0, np.nan, -0.0], np.float32)
    nan.view(np.uint32)[1] |= 1  # a NaN with a payload
    return {
        "a.bias": nan,
        "codes": rng.integers(-9, 9, (40, 30)).astype(np.int8),
        "flags": np.array([True, False, True]),
        "empty": np.zeros((0, 5), np.float32),
        "scalar": np.array(3, np.int64),
        "f4": ("F4", (4, 6), bytes(range(12))),
        "f8.weight": ("F8_E4M3", (3, 5), bytes(range(15))),
        "w.weight": heavy(60, 40).astype(np.float32),
        "odd": ("BF16", (3,), bytes(range(6))),
    }


def test_every_other_tensor_is_equal_byte_for_byte_and_the_metadata_stays(save: Writer) -> None:
    path = save(everything(), metadata={"format": "pt", "note": "\u00e4\n"})
    output = path.with_name("out.safetensors")
    result = ww.smooth(path, output, layers="w.weight", executor=InlineExecutor())
    (before, old), (after, new) = stored(path), stored(output)
    assert before["__metadata__"] == after["__metadata__"]
    assert {name: (one["dtype"], one["shape"]) for name, one in before.items() if name != "__metadata__"} == {
        name: (one["dtype"], one["shape"]) for name, one in after.items() if name != "__metadata__"
    }
    assert {name for name in old if old[name] != new[name]} == {"w.weight"}
    assert result.summary["not_selected"] == len(everything()) - 1
    from safetensors import safe_open

    with safe_open(output, "np") as opened:
        assert set(opened.keys()) == set(everything())


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"])
def test_the_result_is_rounded_to_the_storage_dtype(save: Writer, dtype: str) -> None:
    W = heavy(80, 50).astype(np.float32)
    raw = W.astype(dtypes.numpy_dtype(dtype))
    path = save({"w.weight": (dtype, W.shape, raw.tobytes())})
    row, output = smoothed(path, method="svd", percent=0.5)
    assert row.status == "changed"
    assert stored(output)[0]["w.weight"]["dtype"] == dtype
    exact = truncated(values(path), 25)
    step = dtypes.DTYPES[dtype].epsilon
    smallest = {"F8_E4M3": 2.0**-9, "F8_E5M2": 2.0**-16}.get(dtype, 1e-7 if dtype == "F16" else 0.0)
    assert np.all(np.abs(values(output) - exact) <= np.maximum(0.51 * step * np.abs(exact), smallest / 1.9) + 1e-14)
    bits = bfloat16_bits(W)
    assert np.array_equal(dtypes.store(W.astype(np.float64), "BF16").view(np.uint16), bits)


def test_an_element_that_the_dtype_cannot_hold_leaves_the_tensor(save: Writer) -> None:
    W = (np.sign(gaussian(90, 60)) * 65504).astype(np.float16)
    path = save({"w.weight": W})
    row, output = smoothed(path, method="svd", percent=0.9)
    assert (row.status, row.reason) == ("failed", "out_of_range")
    assert stored(path)[1] == stored(output)[1]


def trapped(n: int = 600, m: int = 300) -> Values:
    W = gaussian(n, m, 21) * 0.03 * math.sqrt(n)
    W[17, 5] = 8.0
    return W


def test_sharpen_takes_a_single_huge_element_out(save: Writer, measured: Note) -> None:
    W = trapped()
    path = save({"w.weight": W})
    output = path.with_name("sharp.safetensors")
    (row,) = ww.sharpen(path, output, executor=InlineExecutor())
    (before,), (after,) = (ww.analyze(one, randomize=True) for one in (path, output))
    assert (before.num_traps, after.num_traps) == (1, 0)
    assert (row.status, row.removed) == ("changed", 1)
    found = values(output)
    assert row.delta_norm is not None
    assert np.linalg.norm(W - found) ** 2 == pytest.approx(row.delta_norm**2, rel=1e-10)
    assert row.removed_share == pytest.approx(row.delta_norm**2 / np.linalg.norm(W) ** 2, rel=1e-10)
    assert abs(found[17, 5]) < 0.1
    again = path.with_name("again.safetensors")
    (second,) = ww.sharpen(output, again, executor=InlineExecutor())
    assert (second.status, second.reason) == ("unchanged", "no_trap"), "the same permutation has no trap any more"
    assert stored(output)[1] == stored(again)[1]
    measured(
        "T31", f"traps {before.num_traps} -> {after.num_traps}, removed {row.delta_norm**2:.4f} of {np.linalg.norm(W) ** 2:.4f}"
    )


def test_sharpen_depends_on_the_seed_and_leaves_what_has_no_trap(save: Writer) -> None:
    path = save({"trap.weight": trapped().astype(np.float32), "noise.weight": gaussian(300, 200, 3).astype(np.float32)})
    outputs = []
    for seed, jobs in ((0, 1), (0, 2), (7, 1)):
        output = path.with_name(f"{seed}-{jobs}.safetensors")
        rows = {row.name: row for row in ww.sharpen(path, output, seed=seed, jobs=jobs)}
        assert rows["noise.weight"].reason == "no_trap"
        outputs.append(output.read_bytes())
        assert stored(output)[1]["noise.weight"] == stored(path)[1]["noise.weight"]
    assert outputs[0] == outputs[1]
    assert outputs[0] != outputs[2]


def test_the_traps_of_taps_are_counted_over_the_pool(save: Writer) -> None:
    kernel = 0.03 * np.random.default_rng(4).standard_normal((64, 80, 3, 3))
    kernel[3, 4, 1, 2] = 8.0
    path = save({"w.weight": kernel})
    output = path.with_name("sharp.safetensors")
    (row,) = ww.sharpen(path, output, executor=InlineExecutor())
    assert (row.status, row.removed) == ("changed", 1)
    difference = np.abs(values(output) - kernel).max(axis=(0, 1))
    assert difference[1, 2] > 7
    difference[1, 2] = 0
    assert not difference.any(), "the other taps stay"


def test_traps_are_above_the_edge_of_the_permuted_matrix_as_it_is() -> None:
    noise = ww.spectrum(gaussian(400, 200)).eigenvalues
    assert trap_count(noise, 400, 1, 1e-12) == 0
    planted = np.sort(np.concatenate([noise[:-3], noise[-1] * np.array([1.5, 3.0, 40.0])]))
    assert trap_count(planted, 400, 1, 1e-12) == 3
    assert trap_count(np.zeros(30), 60, 1, 0.0) == ww.Missing("zero_matrix")


@pytest.mark.parametrize(
    ("name", "shape", "facts"),
    [
        ("dense.weight", (1300, 40), Facts()),
        ("dense.weight", (40, 1300), Facts()),
        ("conv.weight", (12, 8, 3, 3), Facts()),
        ("model.layers.0.mlp.experts.gate_up_proj", (3, 20, 30), Facts()),
        ("attention.query_key_value.weight", (96, 32), Facts(model_type="gpt_neox", num_attention_heads=4, hidden_size=32)),
        ("attn.in_proj_weight", (96, 32), Facts()),
    ],
)
def test_blocks_go_back_to_where_they_came_from(save: Writer, name: str, shape: tuple[int, ...], facts: Facts) -> None:
    W = np.random.default_rng(6).standard_normal(shape).astype(np.float32)
    path = save({name: W})
    with ww.open(path) as checkpoint:
        (spec,) = checkpoint.tensors
        views = [view for view in layer_table([spec], facts) if view.part != "whole"]
        out = np.zeros_like(W)
        for view in views:
            for matrix in view.matrices:
                blocks, n, m = reading.matrix_blocks(checkpoint, spec, matrix)
                whole = reading.stored_matrix(checkpoint, spec, matrix)
                assert whole.shape == (n, m)
                np.testing.assert_array_equal(np.concatenate(list(blocks())), whole)
                reading.put_blocks(out, matrix, reading.blocks_like(shape, matrix, whole))
    np.testing.assert_array_equal(out, W)
    assert isinstance(spec, TensorSpec)


def test_the_parts_of_a_fused_tensor_are_transformed_one_by_one(save: Writer) -> None:
    W = heavy(96, 32)
    path = save({"attn.in_proj_weight": W})
    output = path.with_name("out.safetensors")
    rows = list(ww.smooth(path, output, method="svd", percent=0.25, executor=InlineExecutor()))
    assert [(row.part, row.removed) for row in rows] == [("q", 24), ("k", 24), ("v", 24)]
    found = values(output, "attn.in_proj_weight")
    for start in (0, 32, 64):
        np.testing.assert_allclose(found[start : start + 32], truncated(W[start : start + 32], 8), atol=1e-12)


def test_a_tensor_that_is_not_finite_is_copied_and_the_others_are_transformed(save: Writer) -> None:
    bad = heavy(60, 40).astype(np.float32)
    bad[3, 4] = np.nan
    path = save({"bad.weight": bad, "good.weight": heavy(60, 40).astype(np.float32)})
    output = path.with_name("out.safetensors")
    result = ww.smooth(path, output)
    rows = {row.name: row for row in result}
    assert (rows["bad.weight"].status, rows["bad.weight"].reason) == ("failed", "nonfinite")
    assert rows["good.weight"].status == "changed"
    assert stored(path)[1]["bad.weight"] == stored(output)[1]["bad.weight"]
    assert result.exit_code == 0


def test_what_does_not_fit_into_memory_is_copied(save: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save({"big.weight": heavy(900, 800).astype(np.float32), "small.weight": heavy(60, 40).astype(np.float32)})
    output = path.with_name("out.safetensors")
    monkeypatch.setattr(memory, "private_bytes", lambda: 0)
    result = ww.smooth(path, output, max_memory=memory.BASE_BYTES + 2 * memory.ROW_BYTES + 7 * 2**23)
    rows = {row.name: row for row in result}
    assert (rows["big.weight"].status, rows["big.weight"].reason) == ("failed", "memory_limit")
    assert rows["small.weight"].status == "changed"
    assert stored(path)[1]["big.weight"] == stored(output)[1]["big.weight"]
    assert result.exit_code == 3


def test_numpy_archives_become_safetensors(tmp_path: Path) -> None:
    W, bias = heavy(60, 40), np.arange(5, dtype=">i4")
    for save in (np.savez, np.savez_compressed):
        arrays: Mapping[str, Any] = {"w.weight": np.asfortranarray(W), "bias": bias}
        save(tmp_path / "model.npz", **arrays)
        output = tmp_path / "out.safetensors"
        ww.smooth(tmp_path / "model.npz", output, method="svd", percent=0.5, layers="w.weight")
        np.testing.assert_allclose(values(output), truncated(W, 20), atol=1e-12)
        assert stored(output)[1]["bias"] == np.arange(5, dtype="<i4").tobytes()


def test_shards_become_one_file_with_the_metadata_of_all(tmp_path: Path) -> None:
    for number, name in ((1, "a.weight"), (2, "b.weight")):
        raw = safetensors_bytes({name: heavy(60, 40, number)}, {"format": "pt", f"of{number}": "x"})
        (tmp_path / f"model-{number:05d}-of-00002.safetensors").write_bytes(raw)
    output = tmp_path.parent / f"{tmp_path.name}.safetensors"
    result = ww.smooth(tmp_path, output)
    assert [row.status for row in result] == ["changed", "changed"]
    assert stored(output)[0]["__metadata__"] == {"format": "pt", "of1": "x", "of2": "x"}
    assert result.rows[0].file == "model-00001-of-00002.safetensors"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["-o", "model.safetensors"], "is a file of the model"),
        (["-o", "link.safetensors"], "is a file of the model"),
        (["-o", "out.npz"], "does not end in .safetensors"),
        (["-o", "nowhere/out.safetensors"], "there is no folder"),
        (["-o", "folder.safetensors"], "is a folder"),
        (["-o", "out.safetensors", "--method", "pca"], "--method is detX or svd or rmt or lambda_min, not 'pca'"),
        (["-o", "out.safetensors", "--percent", "0.5"], "--percent is for --method svd, not for detX"),
        (["-o", "out.safetensors", "--method", "svd", "--percent", "-1.5"], "a share between -1 and 1"),
        (["-o", "out.safetensors", "--method", "svd", "--percent", "nan"], "a share between -1 and 1"),
        ([], "Missing option"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(
    save: Writer, arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save({"w.weight": heavy(60, 40)})
    monkeypatch.chdir(path.parent)
    os.symlink(path, "link.safetensors")
    os.mkdir("folder.safetensors")
    before = path.read_bytes()
    assert cli.run(["smooth", "model.safetensors", *arguments]) == 2
    assert problem in capsys.readouterr().err
    assert sorted(os.listdir()) == ["folder.safetensors", "link.safetensors", "model.safetensors"]
    assert path.read_bytes() == before


def test_two_models_are_refused_and_so_is_one_without_a_matrix(save: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    path = save({"w.weight": heavy(60, 40)})
    save({"w.weight": heavy(60, 40)}, "other.safetensors")
    out = path.with_name("x") / "out.safetensors"
    out.parent.mkdir()
    assert cli.run(["sharpen", str(path.parent), "-o", str(out)]) == 2
    assert "holds 2 models" in capsys.readouterr().err
    for tensors, words in (({"b": np.ones(3)}, "no selected tensor holds a matrix"), ({}, "no tensor was selected")):
        lone = save(tensors, "x/lone.safetensors")
        assert cli.run(["sharpen", str(lone), "-o", str(out)]) == 3
        assert words in capsys.readouterr().err
    assert cli.run(["smooth", str(path.with_name("absent.safetensors")), "-o", str(out)]) == 3
    assert not out.exists()


@pytest.mark.parametrize(
    ("spec", "category"),
    [
        (TensorSpec("w", "INT4", (4, 4), "m"), "unsupported_dtype"),
        (TensorSpec("w", "C128", (4, 4), "m"), "unsupported_dtype"),
        (TensorSpec("w", "F4", (4, 4), "m"), "unsupported_dtype"),
        (TensorSpec("w", "F4", (3,), "m", extent=Extent("m", 0, 2)), "unsupported_dtype"),
        (TensorSpec("w", "F32", (4, 4), "m", encoding="absent"), "no_data"),
        (TensorSpec("w", "F32", (4, 4), "m", encoding="unsupported"), "unsupported_layout"),
        (TensorSpec("w", "I8", (4, 4), "m", encoding="quantized"), "unsupported_layout"),
        (TensorSpec("w", "I32", (4, 4), "m", encoding="quantized", extent=Extent("m", 0, 64)), "unsupported_layout"),
        (TensorSpec("w", "I8", (4, 4), "m", encoding="quantized", extent=Extent("m", 0, 8)), "unsupported_layout"),
        (TensorSpec("__metadata__", "F32", (4, 4), "m"), "bad_header"),
        (TensorSpec("w\udc80", "F32", (4, 4), "m"), "bad_header"),
    ],
)
def test_what_safetensors_cannot_hold_is_refused_before_anything_is_written(spec: TensorSpec, category: str) -> None:
    with pytest.raises(ww.FormatError, match=category):
        placement([spec], {})


def test_the_widest_elements_come_first_and_the_framework_is_noted() -> None:
    specs = [TensorSpec(name, dtype, (3,), "m", layout="pt") for name, dtype in (("a", "U8"), ("b", "F64"), ("c", "F16"))]
    found = placement(specs, {})
    header = json.loads(found.head[8:])
    assert header["__metadata__"] == {"format": "pt"}
    assert len(found.head) % 8 == 0
    assert [found.offsets[name] - len(found.head) for name in "bca"] == [0, 24, 30]
    assert found.nbytes == len(found.head) + 33
    assert json.loads(placement(specs, {"a": "b"}).head[8:])["__metadata__"] == {"a": "b"}


def test_the_report_is_a_table_and_a_document_that_follows_its_schema(save: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(everything())
    out = str(path.with_name("out.safetensors"))
    assert cli.run(["smooth", str(path), "-o", out, "--format", "json"]) == 3  # F4 codes are not analysed
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, schema.document_schema())
    assert document["parameters"]["method"] == "detX"
    rows = {row["name"]: row for row in document["changes"]}
    assert rows["w.weight"]["status"] == "changed"
    assert rows["codes"]["reason"] == "integer_tensor"
    assert rows["f4"]["reason"] == "unsupported_dtype"
    assert cli.run(["smooth", str(path), "-o", out, "--layers", "w.weight"]) == 0
    shown = capsys.readouterr().out
    assert "w.weight" in shown
    assert "1 row: 1 changed" in shown
    for kind in ("csv", "jsonl", "markdown"):
        assert cli.run(["sharpen", str(path), "-o", out, "--layers", "w.weight", "--format", kind]) == 0
        assert "w" in capsys.readouterr().out


def test_an_interruption_leaves_nothing_behind_and_the_old_output_as_it_was(save: Writer) -> None:
    path = save({f"{number}.weight": heavy(1500, 1500, number).astype(np.float32) for number in range(6)})
    output = path.with_name("out.safetensors")
    output.write_bytes(b"old")
    call = [sys.executable, "-m", "ww_static", "smooth", str(path), "-o", str(output), "--jobs", "1"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        while not any(name.startswith(".ww-static-") for name in os.listdir(path.parent)):
            assert run.poll() is None, run.communicate()
            time.sleep(0.01)
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=60)
        assert run.returncode == 130
    assert sorted(os.listdir(path.parent)) == ["model.safetensors", "out.safetensors"]
    assert output.read_bytes() == b"old"


@pytest.mark.parametrize("transform", [smoothing("detX", None), smoothing("svd", 0.3), SHARPEN])
@pytest.mark.parametrize("shape", [(2000, 500), (700, 700), (60_000, 40)])
def test_the_memory_of_a_transform_is_what_is_stated(save: Writer, transform: Transform, shape: tuple[int, int]) -> None:
    W = gaussian(*shape)
    W[3, 4] = 40.0
    path = save({"w.weight": W.astype(np.float32)})
    out = path.with_name("out.bin")
    out.write_bytes(bytes(4 * W.size))
    options = Options()
    (view,) = plan_model(models.locate([str(path)])[0], options, Settings()).views
    rewrite = Rewrite((view,), Place(str(out), 0), transform, options, "auto", "auto")
    target = Target(str(path), Settings(), (), "memory")
    try:
        tracemalloc.start()
        (row,) = rewrite_tensor(target, rewrite)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        close_kept("memory")
    assert row.status == "changed"
    assert peak <= bytes_needed(view, transform, "auto")


def test_a_full_disk_is_said_before_anything_is_computed(save: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save({"w.weight": heavy(60, 40)})
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    output = path.with_name("out.safetensors")
    with pytest.raises(OSError, match="No space left"):
        ww.smooth(path, output)
    assert os.listdir(path.parent) == ["model.safetensors"]


def test_a_file_system_that_promises_no_room_is_written_to(save: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(everything())
    plain, output = path.with_name("plain.safetensors"), path.with_name("out.safetensors")
    ww.smooth(path, plain, layers="w.weight")
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(95, "Operation not supported")))
    ww.smooth(path, output, layers="w.weight")
    assert output.read_bytes() == plain.read_bytes()
