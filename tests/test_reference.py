"""Our rows for real weights against the rows that weightwatcher 0.7.7 gave for them, and against an SVD of our own."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import ww_static as ww
from conftest import Note
from support import bfloat16_bits, safetensors_bytes
from ww_static.rows import LayerRow

REFERENCE = Path(__file__).parent / "reference" / "minilm.csv"
CLOSE = (
    "alpha", "xmin", "D", "sigma", "norm", "log_norm", "lambda_max", "spectral_norm", "log_spectral_norm", "stable_rank",
    "alpha_weighted", "log_alpha_norm", "entropy", "sv_max", "sv_min", "detX_val", "detX_val_unrescaled", "xmax", "Q",
)  # fmt: skip
EXACT = (
    "num_pl_spikes",
    "matrix_rank",
    "rank_loss",
    "weak_rank_loss",
    "detX_num",
    "num_ERG_spikes",
    "ERG_gap",
    "N",
    "M",
    "num_evals",
    "rf",
    "warning",
)


def expected_rows() -> dict[str, dict[str, str]]:
    with REFERENCE.open(newline="") as stream:
        return {row["tensor"]: row for row in csv.DictReader(stream)}


@pytest.fixture(scope="module")
def result(minilm: Path) -> ww.Result:
    return ww.analyze(minilm)


def by_name(result: ww.Result) -> dict[str, LayerRow]:
    return {row.name: row for row in result}


def test_every_tensor_of_minilm_has_one_row(result: ww.Result) -> None:
    assert len(result) == 104
    assert len(by_name(result)) == 104
    with_alpha = [row for row in result if row.alpha is not None]
    assert len(with_alpha) == 39
    assert all(row.reason for row in result if row.alpha is None)
    assert result.exit_code == 0


@pytest.mark.parametrize("column", CLOSE)
def test_minilm_equals_weightwatcher_to_1e_9(result: ww.Result, column: str, measured: Note) -> None:
    rows = by_name(result)
    expected = {name: float(row[column]) for name, row in expected_rows().items()}
    assert {name: getattr(rows[name], column) for name in expected} == pytest.approx(expected, rel=1e-9, abs=0)
    if column in ("alpha", "xmin", "D", "norm", "entropy", "detX_val"):
        worst = max(abs(getattr(rows[name], column) / value - 1) for name, value in expected.items())
        measured("F12", f"MiniLM {column}: {worst:.0e}")


@pytest.mark.parametrize("column", EXACT)
def test_minilm_equals_weightwatcher_exactly(result: ww.Result, column: str) -> None:
    rows = by_name(result)
    for name, expected in expected_rows().items():
        assert str(getattr(rows[name], column)) == expected[column], name


def test_rows_with_few_eigenvalues_have_norms_and_ranks_and_no_fit(result: ww.Result) -> None:
    row = by_name(result)["embeddings.token_type_embeddings.weight"]
    assert row.status == "success"
    assert row.reason == "too_few_evals"
    assert row.null_reasons is not None
    assert row.null_reasons["alpha"] == "too_few_evals"
    assert row.matrix_rank == 2
    assert row.norm is not None


def test_buffer_of_indices_is_skipped_with_its_statistics(result: ww.Result) -> None:
    row = by_name(result)["embeddings.position_ids"]
    assert (row.status, row.reason, row.kind) == ("skipped", "buffer", "buffer")
    assert (row.min, row.max) == (0, 511)


def _brute_force(x: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    """alpha, xmin, D of the best candidate by the textbook expressions, one after the other."""
    best = (2.0, 0.0, 0.0)
    for i in range(len(x) - 1):
        points, k = x[i:], len(x) - i
        a = 1 + k / np.log(points / x[i]).sum()
        D = float(np.max(np.abs(1 - (points / x[i]) ** (1 - a) - np.arange(k) / k)))
        if D < best[0] - 1e-13:
            best = (D, float(a), float(x[i]))
    return best[1], best[2], best[0]


def _from_svd(W: np.ndarray[Any, Any]) -> dict[str, float]:
    """The compared columns of one matrix by the plain formulas, from the singular values of a float64 SVD."""
    sigma = np.sort(np.linalg.svd(W, compute_uv=False))
    lam = sigma**2
    alpha, xmin, D = _brute_force(lam[lam > 1e-5])
    tail = int(np.count_nonzero(lam >= xmin))
    p = lam / lam.sum() + 1e-10
    products = np.cumsum(np.log(lam[::-1] / lam.mean()))
    kept = int(np.flatnonzero(products < 0)[0]) + 1
    rank = int(np.count_nonzero(sigma > sigma[-1] * max(W.shape) * 2.0**-52))
    return {
        "alpha": alpha, "xmin": xmin, "D": D, "sigma": (alpha - 1) / np.sqrt(tail), "norm": float(lam.sum()),
        "log_norm": float(np.log10(lam.sum())), "lambda_max": float(lam[-1]), "log_spectral_norm": float(np.log10(lam[-1])),
        "stable_rank": float(lam.sum() / lam[-1]), "alpha_weighted": float(alpha * np.log10(lam[-1])),
        "log_alpha_norm": float(np.log10(np.sum(lam**alpha))), "entropy": float(-np.sum(p * np.log(p)) / np.log(rank + 1e-10)),
        "sv_max": float(sigma[-1]), "detX_val": float(lam[len(lam) - kept]), "num_pl_spikes": tail, "matrix_rank": rank,
        "rank_loss": len(lam) - rank, "detX_num": kept, "N": max(W.shape), "M": min(W.shape), "num_evals": len(lam),
    }  # fmt: skip


def test_bf16_copy_equals_a_float64_svd_of_the_widened_values(minilm: Path, tmp_path: Path) -> None:
    tensors: dict[str, Any] = {}
    with ww.open(minilm) as checkpoint:
        for name in expected_rows():
            values = ww.widen(checkpoint.read(checkpoint.spec(name)), "F32").astype(np.float32)
            bits = bfloat16_bits(values)
            tensors[name] = ("BF16", bits.shape, bits.tobytes())
    path = tmp_path / "bf16.safetensors"
    path.write_bytes(safetensors_bytes(tensors))
    rows = by_name(ww.analyze(path))
    with ww.open(path) as checkpoint:
        for name in tensors:
            expected = _from_svd(ww.widen(checkpoint.read(checkpoint.spec(name)), "BF16"))
            assert rows[name].dtype == "BF16"
            found = {column: getattr(rows[name], column) for column in expected}
            assert found == pytest.approx(expected, rel=1e-9, abs=0), name


def _shards(minilm: Path, folder: Path, index: bool) -> Path:
    """A copy in three shards, the tensors dealt out in turn."""
    folder.mkdir()
    dealt: list[dict[str, Any]] = [{}, {}, {}]
    with ww.open(minilm) as checkpoint:
        for number, spec in enumerate(checkpoint.tensors):
            dealt[number % 3][spec.name] = (spec.dtype, spec.shape, checkpoint.read(spec).tobytes())
    names = [f"model-{number:05d}-of-00003.safetensors" for number in (1, 2, 3)]
    for name, tensors in zip(names, dealt, strict=True):
        (folder / name).write_bytes(safetensors_bytes(tensors, {"format": "pt"}))
    shutil.copy(minilm.parent / "config.json", folder)
    if not index:
        return folder / names[1]
    path = folder / "model.safetensors.index.json"
    weight_map = {tensor: name for name, tensors in zip(names, dealt, strict=True) for tensor in tensors}
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


@pytest.mark.parametrize("index", [True, False])
def test_three_shards_give_identical_rows_apart_from_file(result: ww.Result, minilm: Path, tmp_path: Path, index: bool) -> None:
    sharded = ww.analyze(_shards(minilm, tmp_path / "shards", index))
    assert set(sharded.layers["file"].to_pylist()) == {f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)}
    places = ["file", "offset"]
    assert sharded.layers.drop_columns(places).equals(result.layers.drop_columns(places))
    assert ww.analyze(tmp_path / "shards").layers.equals(sharded.layers)


def test_hugging_face_cache_layout_gives_identical_rows(result: ww.Result, minilm: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--sentence-transformers--all-MiniLM-L6-v2"
    snapshot = repository / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abcd")
    for name, blob in (("model.safetensors", "53aa51"), ("config.json", "c0ff33")):
        os.link(minilm.parent / name, repository / "blobs" / blob)
        (snapshot / name).symlink_to(f"../../blobs/{blob}")
    for path in (snapshot / "model.safetensors", snapshot, repository):
        assert ww.analyze(path).layers.equals(result.layers)


def test_parquet_is_byte_identical_across_runs_and_jobs(minilm: Path, tmp_path: Path) -> None:
    written: list[bytes] = []
    for jobs in ("1", "2", "1"):
        path = tmp_path / f"{len(written)}.parquet"
        command = [sys.executable, "-m", "ww_static", "analyze", str(minilm), "--jobs", jobs, "-o", str(path), "--esd", "f64"]
        subprocess.run(command, check=True, capture_output=True)
        written.append(path.read_bytes())
    assert written[0] == written[1] == written[2]
    table = pq.read_table(tmp_path / "0.parquet")
    assert table.num_rows == 104
    assert table.schema.field("alpha").metadata[b"definition"] == b"alpha.csn.v1"
