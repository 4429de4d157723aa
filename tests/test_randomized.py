"""Randomized spectra end to end: traps and their causes, distances, seeds, workers, shards, memory, and what has none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ww_static as ww
from conftest import Note, Writer
from lora_files import delta_row, factors, pair, write
from support import bfloat16_bits, safetensors_bytes
from ww_static import memory, models
from ww_static.measuring import analysis
from ww_static.measuring.metrics import METRICS
from ww_static.options import Options
from ww_static.plan import Settings, plan_model
from ww_static.rows import LayerRow
from ww_static.spectral.randomized import density_distance, replica_count, transport_distance, vector_distance

COLUMNS = [name for name, metric in METRICS.items() if metric.group == "randomize"]
SPREADS = ("rand_distance_sd", "rand_jsd_sd", "w1_rand_distance_sd")
Values = NDArray[np.float64]


def gaussian(n: int, m: int, seed: int = 0) -> Values:
    return np.random.default_rng(seed).standard_normal((n, m)) / math.sqrt(n)


def randomized(path: Path, **options: Any) -> LayerRow:
    row: LayerRow
    (row,) = ww.analyze(path, randomize=True, **options)
    return row


def one(save: Writer, W: Values, **options: Any) -> LayerRow:
    return randomized(save({"w.weight": W.astype(np.float32)}), **options)


def counts(row: LayerRow) -> tuple[int | None, ...]:
    return row.num_traps, row.num_traps_min, row.num_traps_max, row.num_traps_demeaned


def test_traps_and_their_causes(save: Writer) -> None:
    """T21, 600 x 300: which matrices have traps, how large, and whether the mean is the cause."""
    plain = one(save, gaussian(600, 300))
    assert counts(plain) == (0, 0, 0, 0)
    assert plain.rand_replicas == 5
    assert plain.trap_ratio == pytest.approx(1, abs=0.04)
    rng = np.random.default_rng(1)
    scales = np.exp(np.linspace(1.5, -1.5, 300))
    correlated = gaussian(600, 300) @ (np.linalg.qr(rng.standard_normal((300, 300)))[0] * scales).T
    row = one(save, correlated)
    assert (row.num_traps, row.num_traps_demeaned) == (0, 0)
    assert row.num_spikes is not None
    assert row.num_spikes > 10
    assert row.rand_jsd is not None
    assert plain.rand_jsd is not None
    assert row.rand_jsd > plain.rand_jsd + 0.05
    entry = gaussian(600, 300)
    entry[17, 4] = 8.0
    row = one(save, entry)
    assert counts(row) == (1, 1, 1, 1)
    assert row.trap_ratio == pytest.approx(22.5, rel=0.05)
    assert row.warning_codes is not None
    assert [code for code in row.warning_codes if code.startswith("trap")] == ["trap_element"]
    shifted = gaussian(600, 300) + 0.2 / math.sqrt(600)
    row = one(save, shifted)
    assert counts(row) == (1, 1, 1, 0)
    assert row.trap_ratio == pytest.approx(4.75, rel=0.1)
    assert row.warning_codes is not None
    assert [code for code in row.warning_codes if code.startswith("trap")] == ["trap_mean"]
    heavy = rng.pareto(1.0, (600, 300)) + 1
    row = one(save, heavy * rng.choice([-1.0, 1.0], (600, 300)))
    assert row.num_traps is not None
    assert row.num_traps > 90


def test_lanczos_and_full_replicas_agree(save: Writer) -> None:
    """Everything that upper ends give: the same with all eigenvalues of every replica."""
    W = gaussian(500, 300)
    W[3, 3], W[8, 9] = 4.0, 5.0
    path = save({"w.weight": W.astype(np.float32)})
    few, full = randomized(path), randomized(path, full_replicas=True)
    for name in COLUMNS:
        a, b = getattr(few, name), getattr(full, name)
        if name in SPREADS:
            assert (a, few.null_reasons[name]) == (None, "one_replica")  # type: ignore[index]
            assert b > 0
        elif name.startswith(("rand_distance", "rand_jsd", "w1_rand", "rand_")) and name not in (
            "rand_replicas",
            "rand_num_spikes",
        ):
            assert a == pytest.approx(b, rel=0.2), name
        else:
            assert a == pytest.approx(b, rel=1e-8), name
    assert few.params_id != full.params_id


def test_distances_are_their_definitions() -> None:
    rng = np.random.default_rng(0)
    p, q = np.sort(rng.exponential(1, 200)), np.sort(rng.exponential(2, 200))
    a, b = p / p.sum(), q / q.sum()
    m = (a + b) / 2
    assert vector_distance(p, q) == pytest.approx(
        math.sqrt((np.sum(a * np.log(a / m)) + np.sum(b * np.log(b / m))) / 2), rel=1e-12
    )
    assert vector_distance(p, 3 * p) == pytest.approx(0, abs=1e-8)
    assert transport_distance(p, q) == pytest.approx(np.abs(p - q).mean() / p.mean(), rel=1e-12)
    assert density_distance(p, p) == 0
    assert density_distance(p, 1e6 * p) == pytest.approx(math.sqrt(math.log(2)), rel=1e-12)
    with_zeros = np.concatenate([np.zeros(50), p])
    assert density_distance(with_zeros, p) == 0
    assert density_distance(np.zeros(5), p) == ww.Missing("zero_matrix")
    assert density_distance(np.ones(5), np.ones(5)) == ww.Missing("constant_esd")


def test_the_columns_that_compare_with_the_row(save: Writer) -> None:
    row = one(save, gaussian(300, 280) @ np.diag(np.linspace(0.2, 2, 280)))
    assert row.max_rand_eval is not None
    assert row.lambda_max is not None
    assert row.ww_softrank == pytest.approx(row.max_rand_eval / row.lambda_max, rel=1e-12)
    assert row.ww_maxdist == pytest.approx(row.lambda_max - row.max_rand_eval, rel=1e-12)
    assert row.rand_W_scale == pytest.approx(row.W_scale, rel=1e-9), "permuting leaves the norm alone"
    assert row.rand_num_spikes == row.num_traps
    assert row.max_rand_eval_sd is not None
    assert 0 < row.max_rand_eval_sd < 0.1 * row.max_rand_eval


def test_the_seed_decides_and_nothing_else(save: Writer, tmp_path: Path, measured: Note) -> None:
    """T30: workers, executors, neighbours, shards and their order change no byte; seed and name do."""
    tensors = {f"layer.{i}.weight": gaussian(90 + 10 * i, 80, i).astype(np.float32) for i in range(4)}
    tensors["conv.weight"] = np.random.default_rng(9).standard_normal((40, 30, 3, 3)).astype(np.float32)
    path = save(tensors)
    plain = ww.analyze(path, metrics="all").layers
    assert ww.analyze(path, metrics="all", jobs=4).layers.equals(plain)
    for jobs in (1, 4):
        ww.analyze(path, metrics="all", jobs=jobs).write(tmp_path / f"{jobs}.parquet")
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "4.parquet").read_bytes()
    for order in ((0, 1), (1, 0)):
        folder = tmp_path / f"shards{order[0]}"
        folder.mkdir()
        parts: list[dict[str, Any]] = [{}, {}]
        for number, (name, value) in enumerate(tensors.items()):
            parts[order[number % 2]][name] = value
        files = [f"model-0000{part + 1}-of-00002.safetensors" for part in range(2)]
        for file, content in zip(files, parts, strict=True):
            (folder / file).write_bytes(safetensors_bytes(content))
        weight_map = {name: file for file, content in zip(files, parts, strict=True) for name in content}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        shards = ww.analyze(folder, metrics="all").layers
        assert shards.drop_columns(["file", "model_id", "offset"]).equals(plain.drop_columns(["file", "model_id", "offset"]))
    values = {row.name: row.max_rand_eval for row in ww.analyze(path, randomize=True)}
    other = {row.name: row.max_rand_eval for row in ww.analyze(path, randomize=True, seed=1)}
    assert all(values[name] != other[name] for name in tensors)
    renamed = randomized(save({"other.weight": tensors["layer.0.weight"]}, "renamed.safetensors"))
    assert renamed.max_rand_eval != values["layer.0.weight"]
    alone = randomized(save({"layer.0.weight": tensors["layer.0.weight"]}, "alone.safetensors"))
    assert alone.max_rand_eval == values["layer.0.weight"]
    measured("T30", f"{plain.num_rows} rows, all columns: equal for 1 and 4 workers and two orders of shards")


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_values_are_permuted_as_they_are_stored(tmp_path: Path, dtype: str) -> None:
    """Against the largest eigenvalue of matrices that numpy permuted: within five of their standard deviations."""
    W = np.random.default_rng(5).standard_t(5, (400, 300)).astype(np.float32)
    stored: NDArray[Any] = {"F64": W.astype(np.float64), "F32": W, "F16": W.astype(np.float16), "BF16": bfloat16_bits(W)}[dtype]  # type: ignore[assignment]
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes({"w.weight": (dtype, W.shape, stored.tobytes())}))
    row = randomized(path)
    with ww.open(path) as checkpoint:
        values = ww.widen(checkpoint.read(checkpoint.spec("w.weight")), dtype)
    rng = np.random.default_rng(6)
    drawn = [np.linalg.norm(rng.permutation(values.reshape(-1)).reshape(W.shape), 2) ** 2 for _ in range(12)]
    assert row.max_rand_eval == pytest.approx(np.mean(drawn), abs=5 * np.std(drawn))
    assert row.rand_W_scale == pytest.approx(math.sqrt(300 / np.square(values).sum()), rel=1e-9)


@pytest.mark.parametrize("factor", [2.0**-300, 2.0**-60, 2.0**80, 2.0**300])
def test_scale_changes_no_shape(tmp_path: Path, factor: float) -> None:
    W = gaussian(400, 300)
    W[1, 1] = 7.0
    rows = []
    for scale in (1.0, factor):
        path = tmp_path / f"{scale}.safetensors"
        path.write_bytes(safetensors_bytes({"w.weight": W * scale}))
        rows.append(randomized(path))
    a, b = rows
    for name in (
        "trap_ratio",
        "num_traps",
        "num_traps_demeaned",
        "rand_distance",
        "rand_sigma_mp",
        "D_bulk",
        "num_spikes",
        "sigma_mp",
    ):
        assert getattr(b, name) == pytest.approx(getattr(a, name), rel=1e-6), name
    assert b.max_rand_eval == pytest.approx(a.max_rand_eval * factor**2, rel=1e-9)  # type: ignore[operator]
    assert b.W_scale == pytest.approx(a.W_scale / factor, rel=1e-9)  # type: ignore[operator]
    assert b.mp_sigma2 == pytest.approx(a.mp_sigma2 * factor**2, rel=1e-9)  # type: ignore[operator]


def test_taps_are_permuted_one_by_one_and_counted_together(save: Writer) -> None:
    W = np.random.default_rng(2).standard_normal((60, 40, 3, 3)).astype(np.float32)
    row = randomized(save({"conv.weight": W}))
    assert (row.rf, row.esd_scale, row.num_traps) == (9, 0.5, 0)
    largest = [np.linalg.norm(W[:, :, i, j], 2) ** 2 / 2 for i in range(3) for j in range(3)]
    assert row.max_rand_eval == pytest.approx(max(largest), rel=0.15)
    assert row.mp_sigma2 == pytest.approx(1, abs=0.05)
    W[5, 5, 0, 0], W[6, 6, 2, 1] = 60.0, 60.0
    row = randomized(save({"conv.weight": W}))
    assert counts(row) == (2, 2, 2, 2)
    W = np.random.default_rng(2).standard_normal((60, 40, 3, 3)).astype(np.float32)
    W[:, :, 1, 1] += 1.5
    row = randomized(save({"conv.weight": W}))
    assert counts(row) == (1, 1, 1, 0), "the mean of a tap is that of its own elements"
    slices = ww.analyze(save({"conv.weight": W}), randomize=True, conv="slices")
    assert [one.num_traps for one in slices] == [0, 0, 0, 0, 1, 0, 0, 0, 0]


def test_the_1_over_N_convention_divides_edges_and_eigenvalues(save: Writer) -> None:
    path = save({"w.weight": gaussian(300, 200).astype(np.float32)})
    a, b = randomized(path), randomized(path, esd_norm="1/N")
    for name in ("tw_edge", "mp_edge_hi", "bulk_max", "max_rand_eval", "rand_bulk_max", "max_rand_eval_sd"):
        assert getattr(b, name) == pytest.approx(getattr(a, name) / 300, rel=1e-9), name
    for name in ("mp_sigma2", "trap_ratio", "num_spikes", "D_bulk", "mp_softrank", "rand_distance"):
        assert getattr(b, name) == pytest.approx(getattr(a, name), rel=1e-6), name


def test_what_was_not_asked_for_is_null(save: Writer) -> None:
    (row,) = ww.analyze(save({"w.weight": gaussian(60, 40).astype(np.float32)}))
    assert row.null_reasons is not None
    assert {row.null_reasons[name] for name in COLUMNS} == {"not_requested"}
    assert all(getattr(row, name) is None for name in COLUMNS)
    (row,) = ww.analyze(save({"w.weight": gaussian(60, 40).astype(np.float32)}), metrics="randomize")
    assert row.null_reasons is not None
    assert row.null_reasons["tw_edge"] == "not_requested"
    assert row.num_traps == 0
    with pytest.raises(ww.UsageError, match="--full-replicas needs --randomize"):
        Options(full_replicas=True)


def test_rows_without_an_edge_or_a_matrix_say_why(save: Writer, tmp_path: Path) -> None:
    tiny = one(save, gaussian(30, 12))
    assert tiny.null_reasons is not None
    assert {tiny.null_reasons[name] for name in ("tw_edge", "num_traps", "num_traps_demeaned", "trap_ratio")} == {
        "too_few_evals"
    }
    assert tiny.max_rand_eval is not None
    zero = one(save, np.zeros((40, 30)))
    assert zero.null_reasons is not None
    assert {zero.null_reasons[name] for name in (*COLUMNS, "W_scale", "sigma_mp", "tw_edge")} == {"zero_matrix"}
    adapter = delta_row(write(tmp_path, pair(*factors(64, 48, 8))), randomize=True)
    assert adapter.null_reasons is not None
    assert {adapter.null_reasons[name] for name in (*COLUMNS, "sigma_mp", "tw_edge", "level_spacing_r")} == {"not_applicable"}
    constant = one(save, np.ones((60, 40)))
    assert constant.status == "success"
    assert constant.num_traps is None


def test_the_number_of_replicas_depends_on_the_size_alone() -> None:
    sizes = (1, 2**22, 2**22 + 1, 2**24, 2**24 + 1, 2**40)
    assert [replica_count(size) for size in sizes] == [5, 5, 3, 3, 1, 1]


def test_no_room_for_a_permuted_matrix_costs_its_columns_only(save: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save({"tall.weight": gaussian(40_000, 24).astype(np.float32), "small.weight": gaussian(60, 40).astype(np.float32)})
    options = Options(metrics=("default", "randomize"))
    views = plan_model(models.locate([str(path)])[0], options, Settings()).views
    (tall,) = [view for view in views if view.spec.name == "tall.weight"]
    plain, permuted = analysis.memory_wanted(tall), analysis.memory_permuted(tall, options)
    assert permuted > plain + 0.9 * 4 * 40_000 * 24
    assert analysis.need(tall, options).permuting > analysis.flops(tall)
    monkeypatch.setattr(memory, "private_bytes", lambda: 0)
    full = {row.name: row for row in ww.analyze(path, randomize=True)}
    fixed = memory.BASE_BYTES + 2 * memory.ROW_BYTES
    for room, fits in ((permuted, True), (permuted - 1, False)):
        result = ww.analyze(path, randomize=True, max_memory=fixed + room)
        rows = {row.name: row for row in result}
        row = rows["tall.weight"]
        assert row.status == "success"
        assert (row.num_traps is not None) == fits
        for name in ("alpha", "sigma_mp", "tw_edge", "matrix_rank"):
            assert getattr(row, name) == getattr(full["tall.weight"], name)
        if not fits:
            assert row.null_reasons is not None
            assert {row.null_reasons[name] for name in COLUMNS} == {"memory_limit"}
        assert rows["small.weight"].max_rand_eval == full["small.weight"].max_rand_eval
        assert result.exit_code == 0


@pytest.mark.parametrize("shape", [(3000, 700), (900, 900), (60_000, 40)])
def test_the_memory_of_replicas_is_what_is_stated(save: Writer, shape: tuple[int, int]) -> None:
    import tracemalloc

    path = save({"w.weight": gaussian(*shape).astype(np.float32)})
    options = Options(metrics=("default", "randomize"))
    (view,) = plan_model(models.locate([str(path)])[0], options, Settings()).views
    with ww.open(path) as checkpoint:
        survey = analysis.survey(checkpoint, view.spec)
        tracemalloc.start()
        analysis.analyze_view(checkpoint, view, survey, options)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak <= max(analysis.memory_wanted(view), analysis.memory_permuted(view, options))


def test_fast_spectra_have_exact_replicas(save: Writer) -> None:
    W = gaussian(700, 520)
    W[3, 3] = 4.0
    path = save({"w.weight": W.astype(np.float32)})
    exact, fast = randomized(path), randomized(path, precision="fast")
    for name in ("max_rand_eval", "max_rand_eval_sd", "num_traps", "num_traps_demeaned", "trap_ratio", "rand_sigma_mp"):
        assert getattr(fast, name) == getattr(exact, name), name
    assert fast.ww_softrank == pytest.approx(exact.ww_softrank, rel=1e-4)
    assert fast.null_reasons is not None
    assert {fast.null_reasons[name] for name in ("rand_distance", "rand_jsd", "w1_rand_distance", "tw_edge", "sigma_mp")} == {
        "precision"
    }
