"""The spectrum of s B A against a dense SVD: dtypes, ranks, scales, convolutions, memory."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import ww_static as ww
from conftest import Note
from lora_files import CONFIG, MODULE, convolution, delta_row, delta_rows, dense, factors, pair, write
from support import bfloat16_bits
from ww_static.layout import layers
from ww_static.layout.facts import Facts
from ww_static.measuring import analysis, surveys
from ww_static.protocol import TensorSpec
from ww_static.seam import open_checkpoint
from ww_static.spectral.gram import blocks_of
from ww_static.spectral.powerlaw import TailFit


@pytest.mark.parametrize(
    ("out", "inner", "r"), [(64, 48, 8), (48, 64, 8), (3000, 40, 5), (40, 3000, 16), (24, 30, 24), (2, 9, 1)]
)
def test_the_core_has_the_singular_values_of_the_product(tmp_path: Path, out: int, inner: int, r: int) -> None:
    a, b = factors(out, inner, r)
    row = delta_row(write(tmp_path, pair(a, b), CONFIG | {"r": r}), esd="f64")
    expected = dense(16 / r * (b.astype(float) @ a.astype(float)), r)
    assert row.esd == pytest.approx(expected, rel=1e-10)
    assert (row.status, row.part, row.method, row.lora_scale) == ("success", "delta", "lowrank", 16 / r)
    assert (row.shape, row.numel, row.N, row.M, row.num_evals) == (
        (out, inner),
        out * inner,
        max(out, inner),
        min(out, inner),
        r,
    )
    assert (row.rf, row.esd_scale, row.n_missing_evals, row.orientation) == (1, 1.0, 0, "out,in")
    assert row.norm == pytest.approx(expected.sum(), rel=1e-12)


def test_rank_eight_with_alpha_sixteen(tmp_path: Path, measured: Note) -> None:
    """T25."""
    a, b = factors(96, 80, 8, seed=25)
    row = delta_row(write(tmp_path, pair(a.astype(np.float64), b.astype(np.float64))), esd="f64")
    assert np.sqrt(np.asarray(row.esd)) == pytest.approx(np.sqrt(dense(2.0 * b.astype(float) @ a.astype(float), 8)), rel=1e-12)
    assert (row.matrix_rank, row.rank_loss, row.dtype) == (8, 0, "F64")
    measured("T25", f"rank {row.matrix_rank}, equal singular values")


def test_a_rank_above_a_side_gives_all_eigenvalues_of_that_side(tmp_path: Path) -> None:
    a, b = factors(12, 40, 32)
    row = delta_row(write(tmp_path, pair(a, b), CONFIG | {"r": 32}), esd="f64")
    assert row.num_evals == 12
    assert row.esd == pytest.approx(dense(0.5 * (b.astype(float) @ a.astype(float)), 12), rel=1e-10)
    a, b = factors(40, 12, 32)
    row = delta_row(write(tmp_path, pair(a, b), CONFIG | {"r": 32}), esd="f64")
    assert row.esd == pytest.approx(dense(0.5 * (b.astype(float) @ a.astype(float)), 12), rel=1e-10)


def test_bfloat16_factors(tmp_path: Path) -> None:
    a, b = (bfloat16_bits(one) for one in factors(64, 48, 8))
    wide = [(one.astype(np.uint32) << 16).view(np.float32) for one in (a, b)]
    tensors = pair(("BF16", a.shape, a.tobytes()), ("BF16", b.shape, b.tobytes()))
    row = delta_row(write(tmp_path, tensors), esd="f64")
    assert row.dtype == "BF16"
    assert row.esd == pytest.approx(dense(2.0 * wide[1].astype(float) @ wide[0].astype(float), 8), rel=1e-10)


def test_a_rank_deficient_product_counts_its_rank(tmp_path: Path) -> None:
    a, b = factors(64, 48, 8)
    a[5] = a[2]
    b[:, 7] = 0
    row = delta_row(write(tmp_path, pair(a, b)), esd="f64")
    expected = dense(2.0 * b.astype(float) @ a.astype(float), 8)
    assert (row.matrix_rank, row.rank_loss, row.num_evals) == (6, 2, 8)
    assert "rank_loss" in (row.warning_codes or ())
    assert np.asarray(row.esd)[2:] == pytest.approx(expected[2:], rel=1e-10)
    assert max(np.asarray(row.esd)[:2]) <= (row.spectral_floor or 0)


def test_factors_that_cancel_do_not_pass_for_a_product_of_full_rank(tmp_path: Path) -> None:
    """|B| |A| is 1e13 times |B A|: what rounding leaves is no eigenvalue."""
    rng = np.random.default_rng(3)
    q = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    b = rng.standard_normal((64, 4)) @ q[:, :4].T + 1e-13 * rng.standard_normal((64, 8))
    a = q[:, 4:] @ rng.standard_normal((4, 48))
    row = delta_row(write(tmp_path, pair(a, b)))
    assert row.matrix_rank is None
    assert (row.null_reasons or {})["matrix_rank"] == "below_spectral_floor"


@pytest.mark.parametrize(("scale_a", "scale_b"), [(1e200, 1e150), (1e-200, 1e-150), (1e300, 1e-300), (1e-160, 1.0)])
def test_extreme_factors_leave_no_range(tmp_path: Path, scale_a: float, scale_b: float) -> None:
    a, b = (one.astype(np.float64) for one in factors(64, 48, 8))
    plain = delta_row(write(tmp_path, pair(a, b)))
    row = delta_row(write(tmp_path, pair(a * scale_a, b * scale_b)))
    assert row.status == "success"
    expected = (plain.log_norm or 0) + 2 * (math.log10(scale_a) + math.log10(scale_b))
    assert row.log_norm == pytest.approx(expected, abs=1e-9)
    assert row.stable_rank == pytest.approx(plain.stable_rank, rel=1e-9)


def test_a_fit_looks_at_the_eigenvalues_that_are_not_zero_by_construction(tmp_path: Path) -> None:
    a, b = factors(256, 200, 32, seed=7)
    row = delta_row(write(tmp_path, pair(a * 3, b), CONFIG | {"r": 32, "lora_alpha": 32}))
    esd = dense((b.astype(float) @ (a * 3).astype(float)), 32)
    fit = ww.tail(esd)
    assert isinstance(fit, TailFit)
    assert (row.n_fit, row.n_below_cut) == (32, 0)
    assert row.alpha == pytest.approx(fit.alpha, rel=1e-9)
    assert row.k_gavish_donoho is None
    assert (row.null_reasons or {})["k_gavish_donoho"] == "not_applicable"


@pytest.mark.parametrize("side", [0, 1])
def test_a_nan_in_either_factor_fails_the_row_and_nothing_else(tmp_path: Path, side: int) -> None:
    bad = [one.copy() for one in factors(64, 48, 8)]
    bad[side][3, 2], bad[side][0, 0] = np.nan, np.inf
    other = f"{MODULE[:-6]}v_proj"
    result = ww.analyze(write(tmp_path, pair(bad[0], bad[1]) | pair(*factors(64, 48, 8), other)))
    found = {row.name: row for row in delta_rows(result)}
    row = found[f"{MODULE}.lora_A.weight"]
    assert (row.status, row.reason, row.n_nan, row.n_inf) == ("failed", "nonfinite", 1, 1)
    assert row.message == "1 NaN and 1 infinite elements in the two factors"
    assert found[f"{other}.lora_A.weight"].status == "success"


def test_an_untrained_adapter_is_a_zero_matrix(tmp_path: Path) -> None:
    a, b = factors(64, 48, 8)
    row = delta_row(write(tmp_path, pair(a, np.zeros_like(b))))
    assert (row.status, row.reason, row.norm, row.matrix_rank) == ("success", "zero_matrix", 0.0, 0)


def test_equal_factors_are_computed_once_and_other_scales_are_not_equal(tmp_path: Path) -> None:
    a, b = factors(64, 48, 8)
    tensors = pair(a, b, "m.q_proj") | pair(a, b, "m.k_proj") | pair(a, b, "m.v_proj")
    rows = {
        row.name: row for row in delta_rows(ww.analyze(write(tmp_path, tensors, CONFIG | {"alpha_pattern": {"v_proj": 8}})))
    }
    k, q, v = (rows[f"m.{name}_proj.lora_A.weight"] for name in "kqv")
    assert (k.tied_to, q.tied_to, v.tied_to) == (None, "m.k_proj.lora_A.weight", None)
    assert q.content_hash == k.content_hash != v.content_hash
    assert (q.lora_scale, v.lora_scale) == (2.0, 1.0)
    assert v.norm == pytest.approx((q.norm or 0) / 4, rel=1e-12)


def test_factors_of_an_embedding(tmp_path: Path) -> None:
    a, b = factors(32, 500, 8)
    module = "base_model.model.model.embed_tokens"
    row = delta_row(write(tmp_path, {f"{module}.lora_embedding_A": a, f"{module}.lora_embedding_B": b}), esd="f64")
    assert (row.shape, row.orientation, row.name) == ((500, 32), "rows,features", f"{module}.lora_embedding_A")
    assert row.esd == pytest.approx(dense(2.0 * b.astype(float) @ a.astype(float), 8), rel=1e-10)


@pytest.mark.parametrize(("kernel", "scale", "axes"), [((3, 3), 0.5, "OIHW"), ((5,), 1.0, "OIW"), ((3, 1, 2), 1.0, "OIDHW")])
def test_factors_of_a_convolution_pooled(tmp_path: Path, kernel: tuple[int, ...], scale: float, axes: str) -> None:
    a, b, W = convolution(kernel)
    row = delta_row(write(tmp_path, pair(a, b, "m.conv"), CONFIG | {"r": 4}), esd="f64")
    taps = [W[(slice(None), slice(None), *place)] for place in np.ndindex(*kernel)]
    expected = np.sort(np.concatenate([dense(tap, 4) for tap in taps])) * scale
    assert row.esd == pytest.approx(expected, rel=1e-10)
    assert (row.shape, row.orientation, row.rf, row.esd_scale, row.N, row.M) == (W.shape, axes, len(taps), scale, 20, 12)
    assert row.num_evals == 4 * len(taps)


def test_factors_of_a_convolution_flat_and_by_tap(tmp_path: Path) -> None:
    a, b, W = convolution((3, 3))
    path = write(tmp_path, pair(a, b, "m.conv"), CONFIG | {"r": 4})
    flat = delta_row(path, conv="flatten", esd="f64")
    assert flat.esd == pytest.approx(dense(W.reshape(20, -1), 4), rel=1e-10)
    assert (flat.N, flat.M, flat.num_evals, flat.part) == (108, 20, 4, "delta")
    taps = {row.part: row for row in delta_rows(ww.analyze(path, conv="slices", esd="f64"))}
    assert len(taps) == 9
    assert taps["delta.tap_1_2"].esd == pytest.approx(dense(W[:, :, 1, 2], 4) * 4.5, rel=1e-10)


def test_a_product_that_is_a_vector_is_too_small(tmp_path: Path) -> None:
    assert delta_row(write(tmp_path, pair(*factors(1, 48, 8)))).reason == "too_small"


def test_workers_give_the_same_rows(tmp_path: Path) -> None:
    tensors = pair(*factors(64, 48, 8)) | pair(*factors(64, 48, 8, 1), f"{MODULE[:-6]}v_proj")
    path = write(tmp_path, tensors)
    assert list(ww.analyze(path, jobs=2)) == list(ww.analyze(path, jobs=1))


def test_the_limits_of_the_user_count_the_eigenvalues_of_the_core(tmp_path: Path) -> None:
    path = write(tmp_path, pair(*factors(64, 48, 8)))
    assert delta_row(path, min_evals=9).reason == "size_limit"
    assert delta_row(path, min_evals=8).status == "success"


@pytest.mark.parametrize(
    ("out", "inner", "r"), [(6000, 4000, 64), (40_000, 64, 128), (64, 40_000, 16), (4, 4, 200_000), (600, 500, 900)]
)
def test_the_memory_that_is_planned_holds_what_is_needed(tmp_path: Path, out: int, inner: int, r: int) -> None:
    a, b = factors(out, inner, r)
    path = write(tmp_path, pair(a, b), CONFIG | {"r": r})
    with open_checkpoint(path) as checkpoint:
        views = layers.layer_table(checkpoint.tensors, Facts())
        view = next(view for view in views if view.kind == "lora_delta")
        found = {spec.name: analysis.survey(checkpoint, spec) for spec in checkpoint.tensors}
        survey = surveys.joined(view, found)
        assert isinstance(survey, surveys.Survey)
        tracemalloc.start()
        analysis._products(checkpoint, view, survey)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak <= analysis.memory_needed(view)
    assert analysis.memory_wanted(view) == analysis.memory_needed(view)


def test_a_product_that_does_not_fit_into_memory_is_a_row(tmp_path: Path) -> None:
    spec = {"A": ("F32", (60_000, 70_000)), "B": ("F32", (80_000, 60_000))}
    specs = [TensorSpec(f"m.lora_{side}.weight", dtype, shape, "f") for side, (dtype, shape) in spec.items()]
    view = next(view for view in layers.layer_table(specs, Facts()) if view.kind == "lora_delta")
    assert analysis.memory_needed(view) > 24 * 60_000 * 70_000
    a, b = factors(3000, 2500, 2000)
    result = ww.analyze(write(tmp_path, pair(a, b), None), max_memory="256MiB")
    (row,) = delta_rows(result)
    assert (row.status, row.reason, result.exit_code) == ("skipped", "memory_limit", 3)


def test_blocks_of_the_triangle_are_those_of_one_qr() -> None:
    from ww_static.spectral.eigen import triangle

    W = np.random.default_rng(1).standard_normal((9000, 7))
    blocks, _, m = blocks_of(W)
    R = triangle(blocks, m)
    assert np.abs(R) == pytest.approx(np.abs(np.linalg.qr(W, mode="r")), rel=1e-12)
