"""Eigenvectors end to end: closed forms, weightwatcher's formulas, both sides of xmin, rows that stay, memory, what has none."""

from __future__ import annotations

import dataclasses
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ww_static as ww
from conftest import Note, Writer
from lora_files import delta_row, factors, pair, write
from ww_static import memory, models
from ww_static.errors import NonFiniteError
from ww_static.measuring import analysis
from ww_static.measuring.metrics import METRICS
from ww_static.options import Options
from ww_static.plan import Settings, plan_model
from ww_static.rows import LayerRow
from ww_static.spectral.eigenvectors import eigenvectors
from ww_static.spectral.gram import blocks_of
from ww_static.spectral.localization import Localization, joined, localization

COLUMNS = [name for name, metric in METRICS.items() if metric.group == "vectors"]
Values = NDArray[np.float64]


def gaussian(n: int, m: int, seed: int = 0) -> Values:
    return np.random.default_rng(seed).standard_normal((n, m)) / math.sqrt(n)


def heavy(n: int, m: int, seed: int = 0) -> Values:
    return np.random.default_rng(seed).standard_t(2.5, (n, m)) * 0.05


def one(save: Writer, W: Any, **options: Any) -> LayerRow:
    row: LayerRow
    (row,) = ww.analyze(save({"w.weight": W}), **{"vectors": True, **options})
    return row


def single(v: Values) -> dict[str, float]:
    found = localization(v[:, None])
    return {field.name: float(getattr(found, field.name)[0]) for field in dataclasses.fields(Localization)}


def test_equal_elements_and_a_single_element_have_their_closed_forms(measured: Note) -> None:
    uniform, hot = single(np.full(100, 0.1)), single(np.eye(100)[3])
    assert uniform["loc_ratio"] == pytest.approx(100, abs=1e-4)
    assert uniform["part_ratio"] == pytest.approx(3.1623, abs=1e-4)
    assert 1 / uniform["ipr"] == pytest.approx(100, abs=1e-4)
    assert uniform["shannon"] == pytest.approx(math.log(100), abs=1e-4)
    assert uniform["vec_entropy"] == 0
    assert single(np.full(100, 0.1) * (1 + 1e-15 * np.arange(100)))["vec_entropy"] == 0
    assert (hot["loc_ratio"], hot["part_ratio"], hot["ipr"], hot["shannon"]) == (1, 1, 1, 0)
    assert hot["rejected"] == 1
    measured(
        "T17",
        f"uniform: {uniform['loc_ratio']:.4f}, {uniform['part_ratio']:.4f}, {1 / uniform['ipr']:.4f}, {uniform['shannon']:.4f}",
    )
    measured("T17", f"one-hot: {hot['loc_ratio']:g}, {hot['part_ratio']:g}, {hot['ipr']:g}, {hot['shannon']:g}")


def test_random_directions_have_the_means_of_the_sphere(measured: Note) -> None:
    n, digamma = 1024, 6.2028  # psi(n/2 + 1) - psi(3/2)
    found = joined([localization(np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]) for seed in range(4)])
    assert 1 / found.ipr.mean() == pytest.approx((n + 2) / 3, rel=5e-3)
    assert found.part_ratio.mean() == pytest.approx(4.300, rel=5e-3)
    assert found.shannon.mean() == pytest.approx(digamma, rel=5e-3)
    assert found.loc_ratio.mean() == pytest.approx(240, abs=22)
    assert found.rejected.mean() == pytest.approx(0.01, abs=0.005)
    assert np.median(found.distance) < 1 / math.sqrt(n)
    measured(
        "T17",
        f"Haar: {1 / found.ipr.mean():.1f}, {found.part_ratio.mean():.3f}, {found.shannon.mean():.4f}, {found.loc_ratio.mean():.0f}",
    )


def test_the_distance_from_the_normal_distribution_is_that_of_the_textbook() -> None:
    v = np.random.default_rng(3).standard_t(3, 200)
    v /= np.linalg.norm(v)
    x = np.sort(math.sqrt(200) * v)
    F = np.array([(1 + math.erf(one / math.sqrt(2))) / 2 for one in x])
    expected = max(np.max(F - np.arange(200) / 200), np.max(np.arange(1, 201) / 200 - F))
    assert single(v)["distance"] == pytest.approx(expected, abs=1e-7)


def weightwatcher_numbers(v: Values) -> tuple[float, float, float]:
    """Its formulas for one vector: entropy of the density histogram in 100 bins, localization and participation ratio."""
    size = np.abs(v)
    density = np.histogram(size - size.mean(), density=True, bins=100)[0] + 1e-10
    p = density / density.sum()
    norms = {order: np.linalg.norm(v, order) for order in (1, 2, 4, np.inf)}
    return float(-np.sum(p * np.log(p))), float(norms[1] / norms[np.inf]), float(norms[2] / norms[4])


def test_bulk_and_tail_are_weightwatchers_formulas_on_a_non_symmetric_eigensolver(save: Writer) -> None:
    W = heavy(128, 96, 42).astype(np.float32).astype(np.float64)
    row = one(save, W)
    values, V = np.linalg.eig(W.T @ W)
    assert np.abs(V.imag).max() == 0
    numbers = np.array([weightwatcher_numbers(v) for v in V.T])
    assert row.xmin is not None
    tail = values.real >= row.xmin * (1 - 1e-9)
    assert tail.sum() == row.n_tail
    for side, chosen in (("bulk", ~tail), ("tail", tail)):
        for place, name in enumerate(("vec_entropy", "loc_ratio", "part_ratio")):
            of_side = numbers[chosen, place]
            assert getattr(row, f"{side}_mean_{name}") == pytest.approx(of_side.mean(), rel=1e-9), (side, name)
            assert getattr(row, f"{side}_var_{name}") == pytest.approx(of_side.var(), rel=1e-9), (side, name)


# bulk mean, bulk var, tail mean, tail var of that matrix by weightwatcher 0.7.7 itself, analyze(vectors=True)
WEIGHTWATCHER = {
    "vec_entropy": (3.7697542159399955, 0.010994359777999911, 3.6027882924819052, 0.0927805586862062),
    "loc_ratio": (27.283864227982733, 16.432100900445917, 22.44595105553746, 41.07201682873478),
    "part_ratio": (2.362383938162629, 0.009875585733278451, 2.185829975638737, 0.07910656594799594),
}


def test_the_columns_are_those_of_weightwatcher(save: Writer) -> None:
    row = one(save, heavy(128, 96, 42).astype(np.float32))
    for name, expected in WEIGHTWATCHER.items():
        found = [getattr(row, f"{side}_{moment}_{name}") for side in ("bulk", "tail") for moment in ("mean", "var")]
        assert found == pytest.approx(list(expected), rel=1e-9), name


@pytest.mark.parametrize("shape", [(120, 80), (80, 120), (90, 90)])
def test_the_vectors_are_orthonormal_and_belong_to_the_shorter_side(shape: tuple[int, int]) -> None:
    W = gaussian(*shape)
    blocks, _, m = blocks_of(W)
    found = eigenvectors(blocks, m)
    tall = W if shape[0] >= shape[1] else W.T
    assert found.V.shape == (min(shape), min(shape))
    np.testing.assert_allclose(found.V.T @ found.V, np.eye(m), atol=1e-13)
    np.testing.assert_allclose(tall.T @ (tall @ found.V), found.V * found.eigenvalues, atol=1e-13)
    assert found.unique.all()
    scaled = eigenvectors(lambda: [tall * 2.0**600], m, 600)
    np.testing.assert_array_equal(np.abs(scaled.V), np.abs(eigenvectors(lambda: [tall], m).V))
    with pytest.raises(NonFiniteError):
        eigenvectors(lambda: [np.full((3, 2), np.nan)], 2)


def test_nothing_else_in_a_row_changes(save: Writer) -> None:
    path = save({"a.weight": heavy(300, 200).astype(np.float32), "c.weight": heavy(24 * 9, 40).reshape(24, 40, 3, 3)})
    groups = ("default", "tail", "alternatives", "randomize")
    for plain, full in zip(ww.analyze(path, metrics=groups), ww.analyze(path, metrics=(*groups, "vectors")), strict=True):
        assert plain.status == full.status == "success"
        same = {field.name for field in dataclasses.fields(plain)} - {*COLUMNS, "params_id", "null_reasons"}
        assert {name: getattr(plain, name) for name in same} == {name: getattr(full, name) for name in same}
        assert {plain.null_reasons[name] for name in COLUMNS} == {"not_requested"}
        assert all(getattr(full, name) is not None for name in COLUMNS)


def test_the_number_of_workers_changes_nothing(save: Writer) -> None:
    path = save({"a.weight": heavy(300, 200).astype(np.float32), "c.weight": heavy(24 * 9, 40).reshape(24, 40, 3, 3)})
    first, second = (list(ww.analyze(path, vectors=True, jobs=jobs)) for jobs in (1, 2))
    assert first == second


def test_the_taps_of_a_convolution_are_pooled(save: Writer) -> None:
    kernel = heavy(24 * 9, 40).reshape(24, 40, 3, 3)
    row = one(save, kernel)
    taps = [kernel[:, :, i, j] for i in range(3) for j in range(3)]
    pairs = [np.linalg.eigh(tap @ tap.T) for tap in taps]  # the outputs are the shorter side
    values = np.concatenate([0.5 * pair[0] for pair in pairs])
    ipr = np.concatenate([np.sum(pair[1] ** 4, axis=0) for pair in pairs])
    assert row.xmin is not None
    tail = values >= row.xmin * (1 - 1e-9)
    assert tail.sum() == row.n_tail
    assert row.bulk_mean_ipr == pytest.approx(ipr[~tail].mean(), rel=1e-9)
    assert row.tail_mean_ipr == pytest.approx(ipr[tail].mean(), rel=1e-9)
    assert row.k_loc_elbow is not None
    assert 0 < row.k_loc_elbow <= 24 * 9


def test_a_large_column_localizes_the_tail_and_noise_has_no_localized_side(save: Writer) -> None:
    W = gaussian(400, 200)
    noise = one(save, W)
    W[:, 7] *= 30
    planted = one(save, W)
    assert noise.tail_mean_ipr is not None
    assert planted.tail_mean_ipr is not None
    assert noise.pt_reject is not None
    assert noise.tail_mean_ipr < 0.03
    assert noise.pt_reject <= 0.02
    assert planted.tail_mean_ipr > noise.tail_mean_ipr
    found = eigenvectors(blocks_of(W)[0], 200)
    assert localization(found.V[:, -1:]).loc_ratio[0] < 2
    assert localization(found.V[:, -1:]).ipr[0] > 0.99


def test_the_elbow_is_where_localized_leading_vectors_end(save: Writer) -> None:
    n, m, k = 400, 200, 40
    rng = np.random.default_rng(5)
    V = np.eye(m)
    V[k:, k:] = np.linalg.qr(rng.standard_normal((m - k, m - k)))[0]
    sigma = np.concatenate([np.linspace(9, 8, k), np.linspace(2, 1, m - k)])
    W = np.linalg.qr(rng.standard_normal((n, m)))[0] * sigma @ V.T
    assert one(save, W).k_loc_elbow == pytest.approx(k, abs=2)


def test_vectors_that_are_not_unique_cost_their_side_only(save: Writer) -> None:
    W = heavy(300, 200)
    W[:, :3] = 0  # three equal eigenvalues, in the bulk
    row = one(save, W)
    reasons = row.null_reasons
    assert reasons is not None
    bulk = [name for name in COLUMNS if name.startswith(("bulk", "pt"))]
    assert {reasons[name] for name in (*bulk, "k_loc_elbow")} == {"degenerate"}
    assert all(getattr(row, name) is not None for name in COLUMNS if name.startswith("tail"))
    W[:, 2] = heavy(300, 1, 9)[:, 0]
    W[:, 1] = heavy(300, 1, 8)[:, 0]
    assert one(save, W).bulk_mean_ipr is not None  # a single zero has one vector


def test_rows_without_a_fit_or_without_stored_elements_have_a_reason(save: Writer, tmp_path: Path) -> None:
    for W, reason in (
        (np.zeros((40, 30)), "zero_matrix"),
        (np.eye(40), "constant_esd"),
        (gaussian(40, 6), "too_few_evals"),
        (1e-4 * gaussian(40, 30), "all_below_cut"),
    ):
        row = one(save, W)
        assert row.null_reasons is not None
        assert {row.null_reasons[name] for name in COLUMNS} == {reason}
    adapter = delta_row(write(tmp_path, pair(*factors(64, 48, 8))), vectors=True)
    assert adapter.null_reasons is not None
    assert {adapter.null_reasons[name] for name in COLUMNS} == {"not_applicable"}
    fast = one(save, gaussian(700, 520).astype(np.float32), precision="fast")
    assert fast.null_reasons is not None
    assert {fast.null_reasons[name] for name in COLUMNS} == {"precision"}


def test_no_room_for_the_vectors_costs_their_columns_only(save: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save({"w.weight": heavy(400, 300).astype(np.float32)})
    options = Options(metrics=("default", "vectors"))
    (view,) = plan_model(models.locate([str(path)])[0], options, Settings()).views
    plain, more = analysis.memory_wanted(view), analysis.memory_of_vectors(view, options)
    assert more >= analysis.memory_needed(view) + 2 * 8 * 300**2
    assert analysis.need(view, options).further > analysis.flops(view)
    monkeypatch.setattr(memory, "private_bytes", lambda: 0)
    fixed = memory.BASE_BYTES + memory.ROW_BYTES
    assert more > plain, "else the limit below would cost the row"
    for room, fits in ((more, True), (more - 1, False)):
        (row,) = ww.analyze(path, vectors=True, max_memory=fixed + room)
        assert row.alpha is not None
        assert (row.tail_mean_ipr is not None) == fits
        assert fits or {row.null_reasons[name] for name in COLUMNS} == {"memory_limit"}


@pytest.mark.parametrize("shape", [(3000, 700), (900, 900)])
def test_the_memory_of_vectors_is_what_is_stated(save: Writer, shape: tuple[int, int]) -> None:
    path = save({"w.weight": gaussian(*shape).astype(np.float32)})
    options = Options(metrics=("default", "vectors"))
    (view,) = plan_model(models.locate([str(path)])[0], options, Settings()).views
    with ww.open(path) as checkpoint:
        survey = analysis.survey(checkpoint, view.spec)
        tracemalloc.start()
        analysis.analyze_view(checkpoint, view, survey, options)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak <= max(analysis.memory_wanted(view), analysis.memory_of_vectors(view, options))
