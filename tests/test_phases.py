"""Phases: families of known phase, each threshold on both sides, what leaves them alone, and how storage rounds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper
from threadpoolctl import threadpool_limits

import onnx_support
import ww_static as ww
from conftest import Note, Writer
from phase_families import FAMILIES, SINGLE, drawn, half_rank, noise, orthonormal, phase_of
from support import bfloat16_bits
from ww_static import Missing, TailFit
from ww_static.rows import LayerRow
from ww_static.spectral.bulk import Bulk
from ww_static.spectral.phases import Phase, phase, tail_class
from ww_static.spectral.steps import squared_steps
from ww_static.spectral.zeros import rounded_share, rounding_of_floats, zero_share

SHAPES = ((256, 128), (600, 300), (800, 200), (300, 300))
COLUMNS = ("phase", "phase_margin", "phase_runner_up", "tail_class")


def misjudged(most: int, few: int, seed: int) -> tuple[list[tuple[str, int, int, int, str]], int]:
    """T28: the matrices with another phase than that of their family, and how many there were."""
    repeats = [(n, m, most) for n, m in SHAPES] + [(1000, 500, few)]
    cases = [(family, n, m, run) for family in FAMILIES for n, m, count in repeats for run in range(count)]
    with threadpool_limits(1):  # small matrices: threads cost more than they give
        found = [(family.name, n, m, run, phase_of(drawn(family, n, m, seed, run)).name) for family, n, m, run in cases]
    wrong = [one for one, (family, *_) in zip(found, cases, strict=True) if one[-1] != family.phase]
    return wrong, len(cases)


def test_phases_of_synthetic_families(measured: Note) -> None:
    wrong, count = misjudged(5, 2, seed=0)
    assert count == 176
    assert len(wrong) <= 0.03 * count, wrong
    measured("T28", f"{count - len(wrong)} of {count}")


@pytest.mark.large
@pytest.mark.parametrize("seed", [1, 2])
def test_phases_of_all_synthetic_families(seed: int, measured: Note) -> None:
    wrong, count = misjudged(20, 6, seed)
    assert count == 688
    assert len(wrong) <= 0.03 * count, wrong
    measured("T28", f"{count - len(wrong)} of {count} (seed {seed})")


def bulk_of(**values: float) -> Bulk:
    """A bulk with nothing outside, and what is given."""
    nothing = np.array([])
    numbers: dict[str, float] = {
        "mp_sigma2": 1.0, "mp_shape_spread": 0.1, "mp_edge_lo": 0.1, "mp_edge_hi": 2.0, "tw_edge": 2.1, "tw_p": 0.5, "outlier_edge": 2.2,
        "frac_out": 0.0, "mass_out": 0.0, "D_bulk": 0.01,
    }  # fmt: skip
    return Bulk(**(numbers | values), num_spikes=0, spike_theta=nothing, spike_overlap_M=nothing, spike_overlap_N=nothing)


def fit_of(alpha: float, D: float) -> TailFit:
    return TailFit(alpha, 1.0, D, 300, 100, near_tie=False)


def decided(**values: float) -> Phase:
    """The phase of numbers that are those of noise but for the given ones; `largest`, `zeros`, `alpha`, `D`, `m` are not of the bulk."""
    own = {"largest": 2.0, "zeros": 0.0, "alpha": 3.0, "D": 0.05, "m": 300.0} | {
        name: values.pop(name) for name in list(values) if name in ("largest", "zeros", "alpha", "D", "m")
    }
    found = phase(int(own["m"]), own["zeros"], own["largest"], bulk_of(**values), fit_of(own["alpha"], own["D"]), int(own["m"]))
    assert isinstance(found, Phase)
    return found


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "random-like"),
        ({"m": 49}, "undetermined"),
        ({"m": 50}, "random-like"),
        ({"zeros": 0.05}, "rank-collapse"),
        ({"zeros": 0.0499}, "random-like"),
        ({"D_bulk": 0.03}, "random-like"),
        ({"D_bulk": 0.0301}, "bulk-decay"),
        ({"D_bulk": 0.06, "m": 100}, "random-like"),  # 6/m is more than 0.03
        ({"D_bulk": 0.0601, "m": 100}, "bulk-decay"),
        ({"largest": 2.2}, "random-like"),
        ({"largest": 2.21, "frac_out": 0.003}, "bleeding-out"),
        ({"largest": 2.99, "frac_out": 0.05}, "bleeding-out"),
        ({"largest": 3.0, "frac_out": 0.05}, "bulk+spikes"),
        ({"largest": 9.0, "frac_out": 0.0501}, "bulk-decay"),
        ({"D_bulk": 0.15}, "bulk-decay"),
        ({"D_bulk": 0.1501}, "heavy-tailed"),
        ({"D_bulk": 0.1, "mass_out": 0.4999}, "bulk-decay"),
        ({"D_bulk": 0.1, "mass_out": 0.5}, "heavy-tailed"),
        ({"D_bulk": 0.2, "alpha": 6.0}, "heavy-tailed"),
        ({"D_bulk": 0.2, "alpha": 6.01}, "bulk-decay"),
        ({"D_bulk": 0.2, "D": 0.12}, "heavy-tailed"),
        ({"D_bulk": 0.2, "D": 0.1201}, "bulk-decay"),
        ({"largest": 9.0, "frac_out": 0.06, "mass_out": 0.5}, "heavy-tailed"),  # beside a bulk
        ({"zeros": 0.05, "D_bulk": 0.2}, "rank-collapse"),  # the rank is asked first
    ],
)  # fmt: skip
def test_the_thresholds(values: dict[str, float], name: str) -> None:
    assert decided(**values).name == name


def near(found: Phase | Missing) -> tuple[str, float | None, str | None]:
    """Name, margin to twelve digits, runner-up."""
    assert isinstance(found, Phase)
    return found.name, None if found.margin is None else round(found.margin, 12), found.runner_up


def test_the_margin_is_the_least_change_that_gives_the_runner_up() -> None:
    assert near(decided(largest=2.31, frac_out=0.01)) == ("bleeding-out", 0.05, "random-like")
    assert near(decided(largest=2.97, frac_out=0.01)) == ("bleeding-out", 0.01, "bulk+spikes")
    assert near(decided(D_bulk=0.18, alpha=5.7)) == ("heavy-tailed", 0.05, "bulk-decay")
    # neither the mass alone nor alpha alone would make it heavy-tailed: the farther of the two counts
    assert near(decided(D_bulk=0.1, mass_out=0.4, alpha=6.6)) == ("bulk-decay", 0.2, "heavy-tailed")
    assert near(decided(zeros=0.06)) == ("rank-collapse", 0.2, "random-like")
    assert near(decided(m=49)) == ("undetermined", None, None)


def test_what_is_missing_matters_only_where_it_decides() -> None:
    few = Missing("too_few_evals")
    assert near(phase(300, 0.5, 2.0, few, few, 300)) == ("rank-collapse", 9.0, None)
    assert phase(300, 0.0, 2.0, few, fit_of(3, 0.1), 300) == few
    none = Missing("all_below_cut")
    noisy = phase(300, 0.0, 2.0, bulk_of(), none, 300)
    assert isinstance(noisy, Phase)
    assert noisy.name == "random-like"
    assert phase(300, 0.0, 9.0, bulk_of(D_bulk=0.2), none, 300) == none
    decay = phase(300, 0.0, 9.0, bulk_of(D_bulk=0.1), none, 300)
    assert isinstance(decay, Phase)
    assert decay.name == "bulk-decay"


def test_classes_of_tails() -> None:
    heavy, decay, noisy = (Phase(name, 0.1, None) for name in ("heavy-tailed", "bulk-decay", "random-like"))
    found = [tail_class(heavy, fit_of(alpha, 0.1)) for alpha in (1.99, 2.0, 6.0)]
    assert found == ["very_heavy", "fat", "fat"]
    assert tail_class(decay, fit_of(6.01, 0.1)) == "weak"
    assert tail_class(noisy, fit_of(3, 0.1)) == Missing("not_applicable")
    assert tail_class(decay, Missing("too_few_evals")) == Missing("too_few_evals")


def rows(path: Path, **options: object) -> dict[str, LayerRow]:
    return {row.name or "": row for row in ww.analyze(path, jobs=1, **options).rows}  # type: ignore[arg-type]


def test_phases_do_not_depend_on_scale_orientation_or_order(save: Writer) -> None:
    """T22: W -> c W, W^T, permuted rows and columns, rotated; all stored as float64."""
    rng = np.random.default_rng(5)
    W = drawn(FAMILIES[5], 400, 200, 3).astype(np.float64)
    variants = {
        "plain": W, "scaled": 7.5 * W, "transposed": W.T.copy(), "shuffled": W[rng.permutation(400)][:, rng.permutation(200)],
        "rotated": orthonormal(rng, 400, 400) @ W @ orthonormal(rng, 200, 200),
    }  # fmt: skip
    found = rows(save(variants))
    plain = found["plain"]
    assert (plain.phase, plain.tail_class) == ("heavy-tailed", "fat")
    for name, row in found.items():
        assert (row.phase, row.phase_runner_up, row.tail_class) == (plain.phase, plain.phase_runner_up, plain.tail_class), name
        assert row.phase_margin == pytest.approx(plain.phase_margin, rel=1e-9), name
        assert row.alpha_robust == pytest.approx(plain.alpha_robust, rel=1e-9), name
        assert row.D_robust == pytest.approx(plain.D_robust, rel=1e-9), name
        assert row.n_tail_robust == plain.n_tail_robust, name
    assert rows(save(variants), esd_norm="1/N")["plain"].phase == plain.phase


def test_phases_of_matrices_with_traps(save: Writer) -> None:
    """T21: one huge entry or a mean is an eigenvalue outside the bulk; heavy entries are a heavy tail."""
    rng = np.random.default_rng(0)
    plain, entry = noise(rng, 600, 300), noise(rng, 600, 300)
    entry[17, 4] = 8.0
    heavy = (rng.pareto(1.0, (600, 300)) + 1) * rng.choice((-1.0, 1.0), (600, 300))
    found = rows(save({"plain": plain, "entry": entry, "mean": plain + 0.2 / np.sqrt(600), "heavy": heavy}))
    assert {name: row.phase for name, row in found.items()} == {
        "plain": "random-like", "entry": "bulk+spikes", "mean": "bulk+spikes", "heavy": "heavy-tailed",
    }  # fmt: skip
    assert found["heavy"].tail_class == "very_heavy"


def test_rows_without_a_phase_say_why(save: Writer) -> None:
    rng = np.random.default_rng(2)
    path = save(
        {
            "zero.weight": np.zeros((80, 60), np.float32),
            "constant.weight": np.full((80, 60), 0.5, np.float32),
            "small.weight": noise(rng, 60, 49).astype(np.float32),
            "conv.weight": noise(rng, 1024, 81).reshape(64, 16, 9, 9).astype(np.float32),
            "wide.weight": noise(rng, 600, 520).astype(np.float32),
        }
    )
    found = rows(path)
    reasons = {name: (row.null_reasons or {}).get("phase") for name, row in found.items()}
    assert reasons["zero.weight"] == "zero_matrix"
    assert [found[f"{name}.weight"].phase for name in ("small", "conv")] == ["undetermined"] * 2
    assert found["constant.weight"].phase == "rank-collapse"
    assert found["wide.weight"].phase == "random-like"
    assert (found["wide.weight"].null_reasons or {})["tail_class"] == "not_applicable"
    fast = rows(path, precision="fast")["wide.weight"]
    assert {(fast.null_reasons or {})[name] for name in (*COLUMNS, "alpha_robust", "D_robust")} == {"precision"}


def test_zero_eigenvalues_are_counted_at_the_precision_of_the_storage(save: Writer) -> None:
    W = half_rank(np.random.default_rng(4), 400, 200)
    full = noise(np.random.default_rng(5), 400, 200)
    found = rows(
        save(
            {
                "double": W,
                "single": W.astype(np.float32),
                "half": ("F16", W.shape, W.astype(np.float16).tobytes()),
                "brain": ("BF16", W.shape, bfloat16_bits(W.astype(np.float32)).tobytes()),
                "full": ("BF16", full.shape, bfloat16_bits(full.astype(np.float32)).tobytes()),
            }
        )
    )
    phases = {name: row.phase for name, row in found.items()}
    assert phases == dict.fromkeys(("double", "single", "half", "brain"), "rank-collapse") | {"full": "random-like"}


def test_sixteen_bits_leave_the_phases_of_real_weights_alone(save: Writer, minilm: Path) -> None:
    with ww.open(minilm) as checkpoint:
        weights = {
            one.name: checkpoint.read(one) for one in checkpoint.tensors if "attention.self" in one.name and len(one.shape) == 2
        }
    halves = {name: ("BF16", W.shape, bfloat16_bits(W).tobytes()) for name, W in weights.items()}
    full, half = rows(save(weights, "full.safetensors")), rows(save(halves, "half.safetensors"))
    assert len(full) == 18
    assert {name: row.phase for name, row in half.items()} == {name: row.phase for name, row in full.items()}
    assert not any("quant_floor" in (row.warning_codes or ()) for row in half.values())


def decibels(W: NDArray[np.float64], stored: NDArray[np.float64]) -> float:
    return float(10 * np.log10(np.mean(W**2) / np.mean((stored - W) ** 2)))


def test_the_rounding_of_floats_is_that_of_gaussian_elements() -> None:
    """T24c, as a variance."""
    W = np.random.default_rng(0).standard_normal((512, 512))
    for epsilon, stored in ((2.0**-7, _brain(W)), (2.0**-10, W.astype(np.float16).astype(np.float64))):
        rounding = rounding_of_floats(epsilon)
        assert rounding is not None
        assert -10 * np.log10(rounding) == pytest.approx(decibels(W, stored), abs=0.3)
    assert rounding_of_floats(SINGLE) is None


def _brain(W: NDArray[np.float64]) -> NDArray[np.float64]:
    bits = bfloat16_bits(W.astype(np.float32)).astype(np.uint32) << 16
    return bits.view(np.float32).astype(np.float64)


def test_steps_are_found_in_the_values() -> None:
    """Of one scale, of one per row, of one per column; where scales are mixed along both axes, at most the truth."""
    rng = np.random.default_rng(1)
    codes = rng.integers(-127, 128, (300, 500)).astype(np.float64)
    rows_, columns = rng.uniform(0.01, 0.1, (300, 1)), rng.uniform(0.01, 0.1, (1, 500))
    for scale in (np.full((1, 1), 0.25), rows_, columns):
        values = (codes * scale).astype(np.float32).astype(np.float64)
        assert squared_steps(values).max() == pytest.approx(float(np.mean(scale**2)), rel=1e-3)
    mixed = squared_steps(codes * rows_ * columns)
    assert 0 < mixed.max() < np.mean((rows_ * columns) ** 2)
    assert list(squared_steps(np.ones((4, 3)))) == [0, 0]
    assert list(squared_steps(np.array([1.0, 1.5]))) == [0]


@pytest.mark.parametrize("per_row", [False, True])
def test_a_quantized_weight_of_low_rank_has_collapsed(tmp_path: Path, per_row: bool) -> None:
    """T24b: rank 100 of 800 x 400 after int8 has 400 singular values that are not zero."""
    rng = np.random.default_rng(6)
    low = rng.standard_normal((800, 100)) @ rng.standard_normal((100, 400)) / 10
    tensors, nodes = [], []
    for name, W in (("low", low), ("full", rng.standard_normal((400, 400)))):
        scale = (np.abs(W).max(axis=1) if per_row else np.abs(W).max()) / 127
        codes = np.rint(W / (scale[:, None] if per_row else scale)).astype(np.int8)
        tensors += [onnx_support.named(name, codes), onnx_support.named(f"{name}_s", np.float32(scale))]
        nodes.append(helper.make_node("DequantizeLinear", [name, f"{name}_s"], [f"{name}_d"], axis=0))
        nodes.append(helper.make_node("MatMul", [f"{name}_x", f"{name}_d"], [f"{name}_y"]))
    found = rows(onnx_support.save(tmp_path / "model.onnx", onnx_support.model_of(nodes, tensors)))
    assert (found["low"].quantized, found["low"].matrix_rank) == (True, 400)
    assert (found["low"].phase, found["full"].phase) == ("rank-collapse", "random-like")


def test_zero_shares() -> None:
    values = np.array([1e-20, 1e-9, 1e-3, 1.0])
    assert zero_share(values, 100, SINGLE, 0.0) == 0.25  # (100 2^-23)^2 is 1.4e-10
    assert zero_share(values, 100, 2.0**-52, 0.0) == 0
    assert zero_share(values, 100, 2.0**-52, 1e-8) == 0.5
    square = np.sort(np.linalg.svd(np.random.default_rng(0).standard_normal((400, 400)), compute_uv=False) ** 2)
    four_bits = 10**-1.42  # 14.2 dB: a quarter of the eigenvalues of square noise is as small
    assert np.mean(square < 3 * four_bits * square.mean()) > 0.2
    assert rounded_share(square, 1.0, four_bits) < 0.02
    assert rounded_share(np.concatenate([np.zeros(200), square[200:]]), 1.0, four_bits) > 0.25
