"""--top-k: the largest eigenvalues alone, equal to those of a full SVD; exact sums; everything else null with its reason."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from numpy.typing import NDArray

import ww_static as ww
from conftest import Note, Writer
from ww_static import Missing, cli, detx, memory, models
from ww_static.errors import NotConvergedError
from ww_static.measuring import analysis, truncating
from ww_static.measuring.metrics import METRICS
from ww_static.options import Options
from ww_static.plan import Settings, plan_model
from ww_static.rows import LayerRow
from ww_static.spectral import lapack
from ww_static.spectral.truncated import largest_eigenvalues

Array = NDArray[np.float64]


def sparse(seed: int, shape: tuple[int, int], density: float) -> Array:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.pareto(2.0, shape) * (rng.random(shape) < density))


def row_of(path: Path, **options: object) -> LayerRow:
    (row,) = ww.analyze(path, **options).rows  # type: ignore[arg-type]
    assert isinstance(row, LayerRow)
    return row


def low_rank(rng: np.random.Generator) -> Array:
    return np.asarray(rng.standard_normal((120, 7)) @ rng.standard_normal((7, 90)))


MATRICES: dict[str, tuple[Callable[[np.random.Generator], Array], int]] = {
    "noise": (lambda rng: rng.standard_normal((400, 300)), 20),
    "heavy": (lambda rng: rng.standard_t(2.5, (500, 300)), 70),
    "wide gaps": (lambda rng: rng.standard_normal((200, 150)) * np.logspace(0, -8, 150), 30),
    "sparse": (lambda rng: sparse(int(rng.integers(99)), (400, 300), 0.01), 40),
    "threefold": (lambda rng: np.diag(np.repeat(np.arange(40.0, 0, -1), 3)), 10),
    "rank 7": (low_rank, 12),
    "zero": (lambda rng: np.zeros((30, 20)), 4),
    "all of them": (lambda rng: rng.standard_normal((60, 40)), 40),
}


@pytest.mark.parametrize("name", sorted(MATRICES))
def test_the_largest_are_those_of_a_full_svd(name: str, measured: Note) -> None:
    make, k = MATRICES[name]
    W = np.asarray(make(np.random.default_rng(17)))
    found = largest_eigenvalues(lambda v: W.T @ (W @ v), W.shape[1], k, np.random.default_rng(1))
    expected = np.linalg.svd(W, compute_uv=False)[:k][::-1]
    assert (np.diff(found) >= 0).all()
    known = expected > 1e-6 * expected[-1]  # the others are zero to the rounding of W^T W
    np.testing.assert_allclose(np.sqrt(found[known]), expected[known], rtol=1e-8)
    assert (np.sqrt(found[~known]) <= 1e-6 * expected[-1]).all()
    if known.any():
        worst = float(np.max(np.abs(np.sqrt(found[known]) / expected[known] - 1)))
        measured("T32", f"top {k} of {name}: {worst:.0e}")


def test_too_many_equal_eigenvalues_are_an_error_and_no_wrong_number() -> None:
    with pytest.raises(NotConvergedError, match="equal eigenvalues among the largest 20"):
        largest_eigenvalues(lambda v: v, 80, 20, np.random.default_rng(1))


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "dense"])
def test_a_row_of_the_largest_eigenvalues(tmp_path: Path, form: str) -> None:
    W = sparse(5, (260, 420), 0.05)
    path = tmp_path / ("m.npy" if form == "dense" else "m.npz")
    if form == "dense":
        np.save(path, W)
    else:
        scipy.sparse.save_npz(path, scipy.sparse.coo_matrix(W).asformat(form))
    row = row_of(path, top_k=60, esd="f64", metrics=("default", "tail", "alternatives"))
    full = np.linalg.svd(W, compute_uv=False)[::-1] ** 2
    assert row.esd is not None
    np.testing.assert_allclose(np.sqrt(row.esd), np.sqrt(full[-60:]), rtol=1e-8)
    assert (row.method, row.num_evals, row.n_missing_evals, row.M, row.N) == ("lanczos", 60, 200, 260, 420)
    assert row.norm == pytest.approx(float((W**2).sum()), rel=1e-14)
    assert row.stable_rank == pytest.approx(float(full.sum() / full[-1]), rel=1e-9)
    assert row.frob_norm == pytest.approx(float(np.linalg.norm(W)), rel=1e-13)
    assert row.explained_k is not None
    np.testing.assert_allclose(row.explained_k, np.cumsum(full[::-1])[:60] / full.sum(), rtol=1e-9)
    fit = ww.tail(np.asarray(full[-60:], np.float64))
    assert isinstance(fit, ww.TailFit)
    assert row.alpha == pytest.approx(fit.alpha, rel=1e-7)
    assert row.n_tail == fit.k
    assert row.tail_frac == pytest.approx(fit.k / 260)
    assert "truncated_spectrum" in (row.warning_codes or ())
    reasons = row.null_reasons or {}
    for name in METRICS:
        if name not in truncating.KEPT and reasons.get(name) != "not_requested":
            assert getattr(row, name) is None, name
            assert reasons[name] == "truncated_spectrum", name
    for name in (
        "matrix_rank",
        "entropy",
        "mp_sigma2",
        "detX_num",
        "alpha_hill",
        "alpha_farms",
        "phase",
        "sv_min",
        "log_alpha_norm",
    ):
        assert reasons[name] == "truncated_spectrum", name


def of_eigenvalues(values: Array) -> Array:
    rotated = np.linalg.qr(np.random.default_rng(2).standard_normal((len(values), len(values))))[0]
    return np.asarray(np.sqrt(values)[:, None] * rotated)


def test_xmin_at_the_end_of_what_is_known_is_said(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", of_eigenvalues(np.arange(1.0, 301.0) ** -0.8))  # a power law throughout: the tail goes on
    assert {"truncated_spectrum", "xmin_at_truncation"} <= set(row_of(tmp_path / "m.npy", top_k=40).warning_codes or ())


def test_a_tail_that_ends_among_what_is_known_is_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    tail = 3 * (1 - rng.random(40)) ** (-1 / 1.5)
    np.save(tmp_path / "m.npy", of_eigenvalues(np.concatenate([tail, rng.uniform(0.5, 3, 160), rng.uniform(0, 0.5, 250)])))
    row = row_of(tmp_path / "m.npy", top_k=100)
    assert row.n_tail is not None
    assert row.n_tail < 60
    assert "truncated_spectrum" in (row.warning_codes or ())
    assert "xmin_at_truncation" not in (row.warning_codes or ())


@pytest.mark.parametrize("k", [40, 100])
def test_the_space_is_given_where_it_ends_among_what_is_known(tmp_path: Path, k: int) -> None:
    """34 of 300 eigenvalues, searched for and left out of all; then more than are known."""
    values = np.arange(1.0, 301.0) ** -2
    np.save(tmp_path / "m.npy", of_eigenvalues(values))
    plain, row = row_of(tmp_path / "m.npy"), row_of(tmp_path / "m.npy", top_k=k)
    assert (row.method, row.n_missing_evals) == ("lanczos" if k == 40 else plain.method, 300 - k)
    assert (row.detX_num, row.num_ERG_spikes) == (plain.detX_num, plain.num_ERG_spikes) == (34, 34)
    for name in ("detX_val", "detX_val_unrescaled", "detX_frac", "norm", "stable_rank", "lambda_max"):
        assert getattr(row, name) == pytest.approx(getattr(plain, name), rel=1e-9), name
    assert row.n_tail is not None
    assert row.xmin is not None
    assert row.ERG_gap == 34 - row.n_tail
    assert row.delta_lambda_min == pytest.approx((row.xmin - values[33]) * 300 / values.sum(), rel=1e-9)
    fewer = row_of(tmp_path / "m.npy", top_k=33)
    reasons = fewer.null_reasons or {}
    for name in ("detX_num", "detX_val", "detX_frac", "ERG_gap", "delta_lambda_min"):
        assert getattr(fewer, name) is None
        assert reasons[name] == "truncated_spectrum"


def test_equal_eigenvalues_have_no_space_whatever_is_known(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.eye(60))
    for k in (3, 30):
        assert (row_of(tmp_path / "m.npy", top_k=k).null_reasons or {})["detX_num"] == "constant_esd"
    assert detx(np.array([3.0, 3.0]), missing=1, total=8.0) == Missing("truncated_spectrum")
    with pytest.raises(ValueError, match="the sum of all eigenvalues is not that of some"):
        detx(np.array([3.0, 3.0]), missing=1)


def test_k_is_k_for_every_single_matrix_and_nothing_for_several(save: Writer) -> None:
    rng = np.random.default_rng(3)
    tensors = {
        "dense.weight": rng.standard_normal((90, 80)).astype(np.float32),
        "conv.weight": rng.standard_normal((64, 60, 3, 3)).astype(np.float32),
        "large.weight": rng.standard_normal((120, 81)).astype(np.float32),
        "small.weight": rng.standard_normal((120, 20)).astype(np.float32),
    }
    plain, some = (ww.analyze(save(tensors), top_k=k, esd="f64").rows for k in (None, 20))
    missing = {"dense.weight": 60, "large.weight": 61, "small.weight": 0, "conv.weight": 0}
    for one, other in zip(plain, some, strict=True):
        assert isinstance(one, LayerRow)
        assert isinstance(other, LayerRow)
        assert one.name is not None
        assert other.n_missing_evals == missing[one.name]
        assert other.method == ("lanczos" if one.name == "large.weight" else one.method)
        assert one.esd is not None
        assert other.esd is not None
        np.testing.assert_allclose(other.esd, np.asarray(one.esd)[missing[one.name] :], rtol=1e-9)
        assert other.norm == pytest.approx(one.norm, rel=1e-14)
        if not missing[one.name]:
            assert other == replace(one, params_id=other.params_id)
            continue
        fit = ww.tail(np.asarray(one.esd)[missing[one.name] :])
        assert isinstance(fit, ww.TailFit)
        assert other.alpha == pytest.approx(fit.alpha, rel=1e-7)
        assert other.n_tail == fit.k
        assert "truncated_spectrum" in (other.warning_codes or ())


def test_a_sparse_matrix_that_is_computed_whole_keeps_the_largest(tmp_path: Path) -> None:
    """As the 5000 largest of a matrix of 11314 documents and 20000 terms."""
    W = sparse(5, (260, 420), 0.05)
    scipy.sparse.save_npz(tmp_path / "m.npz", scipy.sparse.csr_matrix(W))
    row = row_of(tmp_path / "m.npz", top_k=115, esd="f64")
    full = np.linalg.svd(W, compute_uv=False)[::-1] ** 2
    assert row.method in ("gram", "svd")
    assert (row.num_evals, row.n_missing_evals, row.M) == (115, 145, 260)
    assert row.esd is not None
    assert row.explained_k is not None
    np.testing.assert_allclose(row.esd, full[-115:], rtol=1e-9)
    np.testing.assert_allclose(row.explained_k, np.cumsum(full[::-1])[:115] / full.sum(), rtol=1e-9)
    assert row.norm == pytest.approx(float((W**2).sum()), rel=1e-13)
    assert row.tail_frac == pytest.approx((row.n_tail or 0) / 260)


@pytest.mark.parametrize("k", [25, 100])
def test_what_needs_all_eigenvalues_is_not_computed_for_some(tmp_path: Path, k: int) -> None:
    np.save(tmp_path / "m.npy", np.random.default_rng(4).standard_normal((150, 120)))
    asked = Options(metrics=("default", "tail", "randomize", "vectors"), top_k=k)
    (view,) = plan_model(models.locate([str(tmp_path / "m.npy")])[0], asked, Settings()).views
    need = analysis.need(view, asked)
    assert (need.copies, need.permuting) == (0, 0)
    assert need.plain.groups == (("crosscheck", 0),)
    assert (need.parts, need.flops) == ((0, truncating.needed_flops(view, asked)) if k == 25 else (1, analysis.flops(view)))


def test_every_start_is_seeded(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.random.default_rng(4).standard_normal((150, 120)))
    first, again = (row_of(tmp_path / "m.npy", top_k=10, esd="f64") for _ in range(2))
    assert first == again


@pytest.mark.parametrize("k", [25, 100])
def test_groups_that_need_all_eigenvalues_say_why(tmp_path: Path, k: int) -> None:
    np.save(tmp_path / "m.npy", np.random.default_rng(4).standard_normal((150, 120)))
    row = row_of(tmp_path / "m.npy", top_k=k, randomize=True, vectors=True, bootstrap=True)
    reasons = row.null_reasons or {}
    assert reasons["num_traps"] == reasons["tail_mean_ipr"] == reasons["num_spikes"] == "truncated_spectrum"
    assert row.alpha_ci_lo is not None


def test_where_the_search_gives_up_the_largest_come_from_all(save: Writer) -> None:
    """Thirty equal leading eigenvalues are more than there are starts; of a matrix in memory all are computed."""
    sigma = np.concatenate([np.full(30, 9.0), np.linspace(8, 1, 570)])
    (row,) = ww.analyze(save({"w": np.diag(sigma)}), top_k=40, esd="f64")
    assert (row.status, row.n_missing_evals, row.method) == ("success", 560, "gram")
    assert np.asarray(row.esd) == pytest.approx(np.sort(sigma**2)[-40:], rel=1e-9)
    assert row.norm == pytest.approx(float(sigma @ sigma), rel=1e-9)


def test_a_nan_fails_the_row(tmp_path: Path) -> None:
    W = np.random.default_rng(4).standard_normal((150, 120))
    W[3, 4] = np.nan
    np.save(tmp_path / "m.npy", W)
    assert (row_of(tmp_path / "m.npy", top_k=10).status, row_of(tmp_path / "m.npy", top_k=10).reason) == ("failed", "nonfinite")


def test_weights_near_the_end_of_float64_keep_their_logarithms(tmp_path: Path) -> None:
    W = np.random.default_rng(4).standard_normal((150, 120))
    np.save(tmp_path / "m.npy", W * 1e200)
    np.save(tmp_path / "n.npy", W)
    large, plain = (row_of(tmp_path / name, top_k=20) for name in ("m.npy", "n.npy"))
    assert large.norm is None
    assert large.log_norm == pytest.approx((plain.log_norm or 0) + 400, rel=1e-12)


@pytest.mark.parametrize(
    ("form", "shape", "k"),
    [("dense", (3000, 700), 20), ("dense", (700, 3000), 150), ("deflated", (2000, 600), 20), ("csr", (900, 600), 10), ("csc", (900, 600), 10)],
)  # fmt: skip
def test_its_memory_is_what_is_stated(tmp_path: Path, form: str, shape: tuple[int, int], k: int) -> None:
    """The matrix once, and what finds its eigenvalues; a sparse matrix has no zero here, the most that it can hold."""
    W = np.random.default_rng(4).standard_normal(shape)
    path = tmp_path / ("m.npy" if form == "dense" else "m.npz")
    if form == "dense":
        np.save(path, W)
    elif form == "deflated":
        np.savez_compressed(path, w=W)
    else:
        scipy.sparse.save_npz(path, scipy.sparse.coo_matrix(W).asformat(form))
    options = Options(top_k=k)
    (view,) = plan_model(models.locate([str(path)])[0], options, Settings()).views
    with ww.open(path) as checkpoint:
        survey = analysis.survey(checkpoint, view.spec)
    with ww.open(path) as checkpoint:
        tracemalloc.start()
        row = analysis.analyze_view(checkpoint, view, survey, options)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert row.method == "lanczos"
    assert 0.25 * truncating.needed_bytes(view, options) < peak <= truncating.needed_bytes(view, options)


def test_its_memory_is_admitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.npy"
    np.save(path, np.random.default_rng(4).standard_normal((300, 200)))
    (view,) = plan_model(models.locate([str(path)])[0], Options(top_k=10), Settings()).views
    needed = max(truncating.needed_bytes(view, Options(top_k=10)), analysis.memory_needed(view, lapack.backend_name()))
    monkeypatch.setattr(memory, "private_bytes", lambda: 0)
    fixed = memory.BASE_BYTES + memory.ROW_BYTES
    assert row_of(path, top_k=10, max_memory=fixed + needed).method == "lanczos"
    row = row_of(path, top_k=10, max_memory=fixed + needed - 1)
    assert (row.status, row.reason) == ("skipped", "memory_limit")


@pytest.mark.parametrize(
    ("options", "problem"),
    [(["--top-k", "0"], "--top-k is a positive number, not 0"), (["--top-k", "5", "--precision", "fast"], "--top-k needs")],
)
def test_what_means_nothing_is_a_usage_error(
    tmp_path: Path, options: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "m.npy", np.eye(9))
    assert cli.run(["analyze", str(tmp_path / "m.npy"), *options]) == 2
    assert problem in capsys.readouterr().err
