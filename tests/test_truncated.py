"""--top-k: the largest eigenvalues alone, equal to those of a full SVD; exact sums; everything else null with its reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from numpy.typing import NDArray

import ww_static as ww
from conftest import Note, Writer
from ww_static import cli, truncating
from ww_static.errors import NotConvergedError
from ww_static.metrics import METRICS
from ww_static.rows import LayerRow
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


def test_xmin_at_the_end_of_what_is_known_is_said(tmp_path: Path) -> None:
    values = np.arange(1.0, 301.0) ** -0.8  # a power law throughout: the tail goes on
    np.save(
        tmp_path / "m.npy", np.diag(np.sqrt(values)) @ np.linalg.qr(np.random.default_rng(2).standard_normal((300, 300)))[0]
    )
    row = row_of(tmp_path / "m.npy", top_k=40)
    at_end = row.xmin is not None and row.xmin <= np.sort(values)[-40:][1]
    assert ("xmin_at_truncation" in (row.warning_codes or ())) == at_end
    assert "truncated_spectrum" in (row.warning_codes or ())


def test_small_rows_and_rows_of_several_matrices_are_computed_in_full(save: Writer) -> None:
    rng = np.random.default_rng(3)
    path = save(
        {
            "dense.weight": rng.standard_normal((90, 80)).astype(np.float32),
            "conv.weight": rng.standard_normal((64, 60, 3, 3)).astype(np.float32),
            "large.weight": rng.standard_normal((120, 81)).astype(np.float32),
        }
    )
    plain, some = (ww.analyze(path, top_k=k).rows for k in (None, 20))
    for one, other in zip(plain, some, strict=True):
        assert isinstance(one, LayerRow)
        assert isinstance(other, LayerRow)
        assert other.n_missing_evals == (61 if one.name == "large.weight" else 0)
        if one.name != "large.weight":
            assert other.alpha == one.alpha


def test_every_start_is_seeded(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.random.default_rng(4).standard_normal((150, 120)))
    first, again = (row_of(tmp_path / "m.npy", top_k=10, esd="f64") for _ in range(2))
    assert first == again


def test_groups_that_need_all_eigenvalues_say_why(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.random.default_rng(4).standard_normal((150, 120)))
    row = row_of(tmp_path / "m.npy", top_k=25, randomize=True, vectors=True, bootstrap=True)
    reasons = row.null_reasons or {}
    assert reasons["num_traps"] == reasons["tail_mean_ipr"] == "truncated_spectrum"
    assert row.alpha_ci_lo is not None


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


def test_its_memory_is_admitted(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.random.default_rng(4).standard_normal((3000, 900)))
    row = row_of(tmp_path / "m.npy", top_k=100, max_memory=205 * 2**20)
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
