"""Rows of single layers: weightwatcher's figures, bad tensors, parts and taps against plain numpy."""

from __future__ import annotations

import math
from array import array
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ww_static as ww
from conftest import Note, Writer
from support import bfloat16_bits
from ww_static.measuring.metrics import METRICS
from ww_static.rows import LayerRow


def rows(path: Path, **options: Any) -> dict[str, LayerRow]:
    return {row.name if row.part is None else f"{row.name}[{row.part}]": row for row in ww.analyze(path, **options)}


def values(row: LayerRow, names: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names.split()}


def test_heavy_tailed_dense_and_conv_layers_equal_weightwatcher(save: Writer, measured: Note) -> None:
    """F1 and F2."""
    rng = np.random.default_rng(42)
    dense = (rng.standard_t(2.5, (128, 96)) * 0.05).astype(np.float32)
    conv = (rng.standard_t(2.5, (24, 40, 3, 3)) * 0.05).astype(np.float32)
    found = rows(save({"fc.weight": dense, "conv.weight": conv}))
    expected = {
        "alpha": 3.64623177346406, "xmin": 1.9684281872878746, "D": 0.12819150341612806, "sigma": 0.5401597988439295,
        "norm": 118.84275971226093, "lambda_max": 5.585257501232943, "alpha_weighted": 2.723892653853488,
        "log_alpha_norm": 3.3211166679673294, "stable_rank": 21.27793744263831, "entropy": 0.9037730468946008,
        "detX_val": 0.26973850522528564, "erank_lambda": 61.87615156526978, "delta_lambda_min": 1.3721846402156905,
    }  # fmt: skip
    row = found["fc.weight"]
    assert {name: getattr(row, name) for name in expected} == pytest.approx(expected, rel=1e-9)
    assert (row.n_tail, row.num_pl_spikes, row.detX_num, row.ERG_gap) == (24, 24, 72, 48)
    expected = {
        "alpha": 2.489193923204607, "xmin": 0.20416751500802643, "D": 0.0857899409643017, "sigma": 0.1805912894823692,
        "norm": 43.43928212018736, "lambda_max": 1.6586351187180453, "entropy": 0.8886411018428219,
        "detX_val": 0.05718212931613483,
    }  # fmt: skip
    row = found["conv.weight"]
    assert {name: getattr(row, name) for name in expected} == pytest.approx(expected, rel=1e-9)
    assert (row.num_evals, row.n_tail, row.detX_num, row.rf, row.esd_scale, row.N, row.M) == (216, 68, 147, 9, 0.5, 40, 24)
    assert row.sv_min == pytest.approx(0.0718740, abs=5e-8)  # the smallest, not weightwatcher's 0.1087862
    row = found["fc.weight"]
    measured("F1", f"alpha {row.alpha!r}, entropy {row.entropy!r}, detX_num {row.detX_num}")
    row = found["conv.weight"]
    measured("F2", f"alpha {row.alpha!r}, entropy {row.entropy!r}, detX_num {row.detX_num}, sv_min {row.sv_min:.7f}")


def test_layer_below_the_cut_has_no_fit_and_no_warning(save: Writer, measured: Note) -> None:
    """F11."""
    W = np.random.default_rng(1).standard_normal((64, 48)).astype(np.float32) * 1e-4
    row = rows(save({"fc.weight": W}))["fc.weight"]
    assert (row.alpha, row.warning, row.reason) == (None, None, "all_below_cut")
    assert row.n_fit == 0
    assert row.n_below_cut == 48
    assert row.stable_rank is not None
    measured("F11", f"alpha {row.alpha}, {row.reason}, warning {row.warning}")


def test_orthonormal_columns_in_the_one_over_n_convention(save: Writer, measured: Note) -> None:
    """T1."""
    W = np.linalg.qr(np.random.default_rng(1).standard_normal((300, 100)))[0]
    row = rows(save({"w.weight": W}), esd_norm="1/N", esd="f64")["w.weight"]
    assert row.esd == pytest.approx([1 / 300] * 100, rel=1e-12)
    assert row.stable_rank == pytest.approx(100, rel=1e-12)
    assert row.entropy == pytest.approx(1, abs=1e-7)
    assert (row.alpha, row.reason, row.esd_norm) == (None, "constant_esd", "1/N")
    assert row.null_reasons is not None
    assert row.null_reasons["detX_num"] == "constant_esd"
    assert row.frob_norm == pytest.approx(10, rel=1e-12)
    measured("T1", f"stable_rank {row.stable_rank:.12g}, entropy {row.entropy:.7f}, {row.reason}")


def test_channel_orders_give_one_multiset(save: Writer, measured: Note) -> None:
    """T23: (3, 3, 64, 64) as OIHW and as HWIO."""
    last = np.random.default_rng(23).standard_normal((3, 3, 64, 64)).astype(np.float32)
    first = np.ascontiguousarray(last.transpose(3, 2, 0, 1))
    found = rows(save({"first.weight": first, "last.kernel": last}), esd="f64")
    assert (found["first.weight"].rf, found["first.weight"].num_evals) == (9, 576)
    assert found["first.weight"].esd == pytest.approx(found["last.kernel"].esd, rel=1e-12)
    expected = np.sort(
        np.concatenate([np.linalg.svd(last[i, j].astype(float), compute_uv=False) ** 2 for i in range(3) for j in range(3)])
    )
    assert found["last.kernel"].esd == pytest.approx(expected / 2, rel=1e-10)
    measured("T23", f"{found['last.kernel'].rf} taps, {found['last.kernel'].num_evals} values, the same")


def test_taps_flat_and_pooled(save: Writer) -> None:
    W = np.random.default_rng(2).standard_normal((20, 12, 3, 5)).astype(np.float32)
    path = save({"conv.weight": W})
    taps = rows(path, conv="slices", esd="f64")
    assert len(taps) == 15
    expected = np.sort(np.linalg.svd(W[:, :, 1, 4].astype(float), compute_uv=False) ** 2) * 7.5
    assert taps["conv.weight[tap_1_4]"].esd == pytest.approx(expected, rel=1e-10)
    flat = rows(path, conv="flatten", esd="f64")["conv.weight"]
    assert (flat.N, flat.M, flat.esd_scale) == (180, 20, 1.0)
    assert flat.esd == pytest.approx(np.sort(np.linalg.svd(W.reshape(20, -1).astype(float), compute_uv=False) ** 2), rel=1e-10)


@pytest.mark.parametrize(("shape", "kernel"), [((24, 16, 5), 5), ((24, 16, 3, 2, 2), 12)])
def test_conv1d_and_conv3d_have_no_factor(save: Writer, shape: tuple[int, ...], kernel: int) -> None:
    W = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    row = rows(save({"conv.weight": W}))["conv.weight"]
    assert (row.rf, row.esd_scale, row.num_evals) == (kernel, 1.0, 16 * kernel)
    assert row.norm == pytest.approx(float((W.astype(float) ** 2).sum()), rel=1e-12)


def bad_tensors() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(4)
    good = rng.standard_normal((64, 48)).astype(np.float32)
    nan, inf = good.copy(), good.copy()
    nan[7, 3], inf[0, 0] = np.nan, np.inf
    return {
        "good.weight": good, "nan.weight": nan, "inf.weight": inf, "zero.weight": np.zeros((32, 32), np.float32),
        "constant.weight": np.full((64, 32), 0.3, np.float32), "rank1.weight": np.outer(good[:, 0], good[0]).astype(np.float32),
        "one_row.weight": good[:1], "identity.weight": np.eye(40, dtype=np.float32),
        "huge.weight": good.astype(np.float64) * 1e200, "tiny.weight": good.astype(np.float64) * 1e-200,
        "nine.weight": good[:9, :9], "half.weight": (good * 1e4).astype(np.float16),
    }  # fmt: skip


def test_one_bad_tensor_is_a_row_and_ends_nothing(save: Writer) -> None:
    path = save(bad_tensors())
    result = ww.analyze(path)
    found = {row.name: row for row in result}
    assert len(found) == 12
    outcome = {name.split(".")[0]: (row.status, row.reason) for name, row in found.items()}
    assert outcome == {
        "good": ("success", None), "nan": ("failed", "nonfinite"), "inf": ("failed", "nonfinite"),
        "zero": ("success", "zero_matrix"), "constant": ("success", "too_few_evals"), "rank1": ("success", "too_few_evals"),
        "one_row": ("skipped", "too_small"), "identity": ("success", "constant_esd"), "huge": ("success", None),
        "tiny": ("success", "all_below_cut"), "nine": ("success", None), "half": ("success", None),
    }  # fmt: skip
    assert found["nan.weight"].n_nan == 1
    assert found["inf.weight"].n_inf == 1
    assert found["constant.weight"].matrix_rank == 1
    assert found["rank1.weight"].stable_rank == pytest.approx(1, abs=1e-13)  # float32 rounding of the products fills the rank
    assert (found["constant.weight"].rank_loss, found["zero.weight"].rank_loss) == (31, 32)
    assert "constant_tensor" in (found["constant.weight"].warning_codes or ())
    assert "zero_matrix" in (found["zero.weight"].warning_codes or ())
    assert found["constant.weight"].std == 0
    categories = {(row.name, row.category) for row in result.finding_rows}
    assert categories == {
        ("nan.weight", "nonfinite"), ("inf.weight", "nonfinite"), ("zero.weight", "degenerate"),
        ("constant.weight", "degenerate"), ("rank1.weight", "degenerate"), ("identity.weight", "degenerate"),
    }  # fmt: skip
    assert result.exit_code == 0


def test_values_whose_squares_leave_the_range_keep_their_scale_free_columns(save: Writer) -> None:
    found = rows(save(bad_tensors()), esd="f64")
    huge, good = found["huge.weight"], found["good.weight"]
    same = "alpha D sigma n_tail stable_rank entropy matrix_rank detX_num detX_frac erank_sigma Q"
    assert values(huge, same) == pytest.approx(values(good, same), rel=1e-6)  # float32 values times 1e200 are rounded
    assert huge.warning == good.warning
    assert huge.log_norm == pytest.approx((good.log_norm or 0) + 400, abs=1e-9)
    assert huge.sv_max == pytest.approx((good.sv_max or 0) * 1e200, rel=1e-12)
    assert huge.frob_norm == pytest.approx((good.frob_norm or 0) * 1e200, rel=1e-12)
    assert huge.norm is None
    assert huge.null_reasons is not None
    assert {huge.null_reasons[name] for name in ("norm", "lambda_max", "xmin", "esd", "hist_edges")} == {"out_of_range"}
    tiny = found["tiny.weight"]
    assert tiny.log_norm == pytest.approx((good.log_norm or 0) - 400, abs=1e-9)
    assert tiny.lambda_max is None


def test_no_number_in_any_row_is_nan_or_infinite(save: Writer) -> None:
    for row in ww.analyze(save(bad_tensors()), metrics="all"):
        for field in fields(LayerRow):
            value = getattr(row, field.name)
            for number in value if isinstance(value, (tuple, array)) else [value]:
                assert not isinstance(number, float) or math.isfinite(number), (row.name, field.name)


def test_every_null_metric_of_an_analysed_row_has_a_reason(save: Writer) -> None:
    for row in ww.analyze(save(bad_tensors())):
        if row.has_esd:
            nulls = {name for name in METRICS if getattr(row, name) is None}
            assert nulls == set(row.null_reasons)
        else:
            assert row.reason


def test_one_bad_expert_does_not_hide_the_others(save: Writer) -> None:
    stack = np.random.default_rng(5).standard_normal((3, 40, 24)).astype(np.float32)
    stack[1, 0, 0] = np.nan
    found = rows(save({"mlp.experts.down_proj": stack}))
    assert [row.status for row in found.values()] == ["success", "failed", "success"]


def test_parts_have_the_spectra_of_their_slices(save: Writer) -> None:
    rng = np.random.default_rng(6)
    fused = rng.standard_normal((64, 192)).astype(np.float32)
    gates = rng.standard_normal((160, 24)).astype(np.float32)
    hidden = rng.standard_normal((160, 40)).astype(np.float32)
    path = save({"h.attn.c_attn.weight": fused, "lstm.weight_ih_l0": gates, "lstm.weight_hh_l0": hidden})
    found = rows(path, esd="f64")
    k = np.sort(np.linalg.svd(fused[:, 64:128].astype(float), compute_uv=False) ** 2)
    assert found["h.attn.c_attn.weight[k]"].esd == pytest.approx(k, rel=1e-9)
    f = np.sort(np.linalg.svd(gates[40:80].astype(float), compute_uv=False) ** 2)
    assert found["lstm.weight_ih_l0[gate_f]"].esd == pytest.approx(f, rel=1e-9)


def test_wide_matrices_of_several_pieces_are_stacked_by_rows(save: Writer, tmp_path: Path) -> None:
    """Grouped keys of interleaved heads: fewer rows than columns, and every block needs all pieces."""
    (tmp_path / "config.json").write_text(
        '{"model_type": "falcon", "num_attention_heads": 8, "num_kv_heads": 4, "hidden_size": 64, "new_decoder_architecture": true}'
    )
    fused = np.random.default_rng(7).standard_normal((128, 64)).astype(np.float32)
    found = rows(save({"query_key_value.weight": fused}), esd="f64")
    keys = fused.reshape(4, 4, 8, 64)[:, 2].reshape(32, 64)
    assert found["query_key_value.weight[k]"].esd == pytest.approx(
        np.sort(np.linalg.svd(keys.astype(float), compute_uv=False) ** 2), rel=1e-9
    )


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_statistics_are_those_of_numpy(save: Writer, dtype: str) -> None:
    x = (np.random.default_rng(8).standard_t(4, (700, 900)) + 0.3).astype(np.float32)
    x[0, :9] = 0
    stored: Any = {"F64": x.astype(np.float64), "F32": x, "F16": x.astype(np.float16)}.get(dtype)
    if dtype == "BF16":
        bits = bfloat16_bits(x)
        stored, wide = ("BF16", x.shape, bits.tobytes()), (bits.astype(np.uint32) << 16).view(np.float32).astype(float)
    else:
        wide = stored.astype(float)
    row = rows(save({"w.weight": stored}))["w.weight"]
    d = wide - wide.mean()
    expected = {
        "mean": wide.mean(), "std": wide.std(), "min": wide.min(), "max": wide.max(), "abs_max": np.abs(wide).max(),
        "zero_fraction": 9 / wide.size, "excess_kurtosis": (d**4).mean() / (d**2).mean() ** 2 - 3,
    }  # fmt: skip
    assert {name: getattr(row, name) for name in expected} == pytest.approx(expected, rel=1e-10)


def test_fingerprint_is_the_documented_sha256(save: Writer) -> None:
    import hashlib

    W = np.arange(12, dtype=np.float32).reshape(3, 4)
    row = rows(save({"w.weight": W}))["w.weight"]
    assert row.content_hash == hashlib.sha256(b"F32\n3,4\n" + W.tobytes()).hexdigest()


def test_curves_are_what_they_say(save: Writer) -> None:
    W = np.random.default_rng(9).standard_t(3, (200, 120)).astype(np.float32)
    row = rows(save({"w.weight": W}), metrics="all")["w.weight"]
    assert row.hist_counts is not None
    assert sum(row.hist_counts) == 120
    assert len(row.hist_edges or ()) == 101
    assert sum(row.log_hist_counts or ()) == 120
    x, density = np.array(row.kde_x), np.array(row.kde_density)
    assert float(np.sum((density[1:] + density[:-1]) / 2 * np.diff(x))) == pytest.approx(1, abs=1e-3)
    edges, heights = np.array(row.sv_hist_edges), np.array(row.sv_density)
    assert float((heights * np.diff(edges)).sum()) == pytest.approx(1)
    assert (row.survival or ())[0] == 1
    assert (row.explained_k or ())[-1] == pytest.approx(1)
    assert min(row.ks_D or ()) == pytest.approx(row.D)
    assert (row.ks_xmins or ())[int(np.argmin(row.ks_D or ()))] == row.xmin


def test_single_precision_curves_are_rounded(save: Writer) -> None:
    path = save({"w.weight": np.random.default_rng(10).standard_normal((30, 20)).astype(np.float32)})
    double, single = (rows(path, esd=esd)["w.weight"].esd or () for esd in ("f64", "f32"))
    assert list(single) == [float(np.float32(value)) for value in double]
    assert single != double


def test_groups_that_were_not_asked_for_are_null_with_that_reason(save: Writer) -> None:
    path = save({"w.weight": np.random.default_rng(11).standard_normal((30, 20)).astype(np.float32)})
    row = rows(path, metrics="esd")["w.weight"]
    assert row.alpha is None
    assert row.esd is not None
    assert row.null_reasons is not None
    assert row.null_reasons["alpha"] == "not_requested"
    default = rows(path)["w.weight"]
    assert default.null_reasons is not None
    assert default.null_reasons["esd"] == "not_requested"


@pytest.mark.parametrize("side", ["least", "most"])
def test_limits_of_the_user_skip_rows(save: Writer, side: str) -> None:
    tensors = {f"w{m}.weight": np.random.default_rng(m).standard_normal((64, m)).astype(np.float32) for m in (10, 20, 40)}
    path = save(tensors)
    found = rows(path, min_evals=20) if side == "least" else rows(path, max_evals=20)
    skipped = {name for name, row in found.items() if row.reason == "size_limit"}
    assert skipped == ({"w10.weight"} if side == "least" else {"w40.weight"})


def test_warning_words_follow_alpha_alone(save: Writer) -> None:
    rng = np.random.default_rng(12)
    U, V = np.linalg.qr(rng.standard_normal((300, 200)))[0], np.linalg.qr(rng.standard_normal((200, 200)))[0]
    lam = np.sort((1 - rng.random(200)) ** (-1 / 0.5))
    heavy = (U * np.sqrt(lam)) @ V.T
    row = rows(save({"heavy.weight": heavy}))["heavy.weight"]
    assert (row.alpha or 9) < 2
    assert row.warning == "over-trained"
    assert "aspect_q_gt_8" not in (row.warning_codes or ())
