"""syrk and the two-stage eigenvalues of numpy's own library: against closed forms, numpy, and libraries that are wrong."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ww_static as ww
from conftest import Writer
from support import ROOT
from ww_static import NonFiniteError, spectrum
from ww_static.layout.geometry import Matrix as Part
from ww_static.measuring import reading
from ww_static.measuring.metrics import METRICS
from ww_static.spectral import eigen, gram, lapack, library
from ww_static.spectral.eigen import spectrum_of_blocks
from ww_static.workers import tasks
from ww_static.workers.executors import WorkerExecutor

Matrix = NDArray[np.float64]
EPS = 2.0**-52
NAME = lapack.backend_name()
WHEEL = list(Path(np.__file__).parent.parent.glob("numpy.libs/*openblas*"))
direct = pytest.mark.skipif(NAME == lapack.NUMPY, reason="this numpy has another LAPACK")


def found() -> library.Routines:
    own = lapack.routines()
    assert own is not None
    return own


def symmetric(m: int, seed: int = 1) -> Matrix:
    A = np.random.default_rng(seed).standard_normal((m, m))
    return A + A.T


def values_of(X: Matrix, band: int = 48) -> Matrix:
    values = lapack.two_stage_eigenvalues(found(), X.copy(), band)
    assert values is not None
    return values


@pytest.mark.skipif(not WHEEL or not sys.platform.startswith("linux"), reason="numpy is not from a Linux wheel")
def test_the_wheel_of_numpy_has_all_routines() -> None:
    assert NAME.startswith("openblas-")
    assert NAME.endswith(" two-stage")


@direct
@pytest.mark.parametrize(("m", "band"), [(60, 8), (97, 48), (400, 48), (1700, 48)])
def test_eigenvalues_of_diagonal_rank_one_and_path_graph_are_their_closed_forms(m: int, band: int) -> None:
    rng = np.random.default_rng(m)
    d = rng.standard_normal(m)
    assert values_of(np.diag(d), band) == pytest.approx(np.sort(d), abs=4 * EPS * np.abs(d).max())
    v = rng.standard_normal(m)
    expected = np.append(np.zeros(m - 1), v @ v)
    assert values_of(np.outer(v, v), band) == pytest.approx(expected, abs=20 * EPS * float(v @ v))
    L = 2 * np.eye(m) - np.eye(m, k=1) - np.eye(m, k=-1)
    L[0, 0] = L[-1, -1] = 1
    P = rng.permutation(m)  # else it is tridiagonal already
    assert values_of(L[P][:, P], band) == pytest.approx(2 - 2 * np.cos(np.pi * np.arange(m) / m), abs=100 * EPS * 4)


@direct
@pytest.mark.parametrize(("m", "band"), [(49, 48), (97, 16), (500, 64), (1800, 48)])
def test_trace_and_frobenius_norm_are_kept(m: int, band: int) -> None:
    X = symmetric(m)
    values = values_of(X, band)
    scale = float(np.abs(values).max())
    assert values.sum() == pytest.approx(np.trace(X), abs=m * EPS * scale)
    assert (values**2).sum() == pytest.approx((X**2).sum(), rel=1e-13)


@direct
@pytest.mark.parametrize("m", [49, 50, 97, 1599, 1600, 1601])
def test_both_routes_agree_on_both_sides_of_the_border(m: int) -> None:
    A = np.random.default_rng(2).standard_normal((m, m))
    X = A.T @ A
    expected = np.linalg.eigvalsh(X)
    assert values_of(X) == pytest.approx(expected, abs=100 * EPS * expected[-1])


@pytest.mark.parametrize("m", [1, 2, 47, 48, 49, 50, 97, 1599, 1600, 1601, 2200])
def test_spectra_of_both_backends_agree(m: int) -> None:
    W = np.random.default_rng(m).standard_t(3, (m + m // 3, m))
    fast, plain = spectrum(W, "gram"), spectrum(W, "gram", "numpy")
    assert (fast.backend, plain.backend, fast.method, plain.method) == (NAME, "numpy", "gram", "gram")
    assert fast.eigenvalues == pytest.approx(plain.eigenvalues, abs=100 * EPS * plain.eigenvalues[-1])
    assert fast.floor == pytest.approx(plain.floor, rel=1e-13)


@direct
@pytest.mark.parametrize("m", [97, 1650])
def test_the_other_triangle_is_neither_read_nor_written(m: int) -> None:
    below = np.tril_indices(m, -1)
    W = np.random.default_rng(3).standard_normal((m, m))
    X = np.zeros((m, m))
    X[below] = np.nan
    lapack.add_gram(found(), X, W)
    assert np.isnan(X[below]).all()
    values = lapack.two_stage_eigenvalues(found(), X, 48)
    assert np.isnan(X[below]).all()
    expected = np.linalg.svd(W, compute_uv=False)[::-1] ** 2
    assert values == pytest.approx(expected, abs=100 * EPS * expected[-1])


def orders(block: Matrix) -> dict[str, Matrix]:
    """The same numbers as they may lie in memory."""
    k, m = block.shape
    wide = np.zeros((k, 2 * m + 3))
    wide[:, 2 : m + 2] = block
    tall = np.zeros((2 * k + 3, m), order="F")
    tall[1 : k + 1] = block
    spread = np.zeros((2 * k, 3 * m))
    spread[::2, ::3] = block
    raw = np.frombuffer(b"\0" * 3 + block.tobytes(), np.uint8)
    return {
        "C": np.ascontiguousarray(block), "Fortran": np.asfortranarray(block), "part of C": wide[:, 2 : m + 2],
        "part of Fortran": tall[1 : k + 1], "every second": spread[::2, ::3], "upside down": np.ascontiguousarray(block[::-1])[::-1],
        "mirrored": np.ascontiguousarray(block[:, ::-1])[:, ::-1], "odd address": raw[3:].view(np.float64).reshape(k, m),
        "big-endian": block.astype(">f8"),
    }  # fmt: skip


@direct
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (3, 5), (1000, 300), (300, 1000), (0, 4)])
def test_gram_by_syrk_is_a_product_within_rounding_however_the_block_lies(shape: tuple[int, int]) -> None:
    block = np.random.default_rng(4).standard_normal(shape)
    k, m = shape
    bound = 4 * k * EPS * (np.abs(block).T @ np.abs(block))
    upper = np.triu_indices(m)
    for order, same in orders(block).items():
        X = np.zeros((m, m))
        lapack.add_gram(found(), X, same)
        assert np.all(np.abs(X - block.T @ block)[upper] <= bound[upper]), order


@direct
def test_rows_that_repeat_without_memory_of_their_own_are_counted_each() -> None:
    row = np.random.default_rng(5).standard_normal(40)
    X = np.zeros((40, 40))
    lapack.add_gram(found(), X, np.broadcast_to(row, (7, 40)))
    assert np.triu(X) == pytest.approx(np.triu(7 * np.outer(row, row)))


@direct
@pytest.mark.parametrize("step", [1, 7, 100, 333, 1000])
def test_blocks_add_up_whatever_their_heights(step: int) -> None:
    W = np.random.default_rng(6).standard_normal((1000, 90))
    blocks = [W[start : start + step] for start in range(0, 1000, step)]
    expected = W.T @ W
    for backend in (lapack.BEST, lapack.NUMPY):
        assert np.triu(gram.gram(blocks.copy, 90, backend)) == pytest.approx(np.triu(expected), abs=1e-11)


@pytest.mark.parametrize("backend", [lapack.BEST, lapack.NUMPY])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("shape", [(900, 300), (300, 900)])
def test_one_bad_element_is_seen_on_the_diagonal(backend: str, bad: float, shape: tuple[int, int]) -> None:
    W = np.ones(shape)
    W[217, 250] = bad
    blocks, n, m = gram.blocks_of(W)
    with pytest.raises(NonFiniteError):
        spectrum_of_blocks(blocks, n, m, backend=backend)


def test_a_wide_matrix_is_streamed_by_columns_and_never_transposed() -> None:
    for W in (np.ones((30, 5000), np.float32), np.ones((30, 5000))):
        blocks, n, m = gram.blocks_of(W)
        assert (n, m) == (5000, 30)
        for block in blocks():
            assert block.strides[0] == 8  # neighbours in a row of W are neighbours in the block


def test_a_wide_tensor_of_a_file_is_streamed_by_columns_and_never_transposed(save: Writer) -> None:
    W = np.random.default_rng(7).standard_normal((30, 60_000)).astype(np.float32)
    with ww.open(save({"w.weight": W})) as checkpoint:
        part = Part(((slice(0, 30), slice(0, 60_000)),), (0,), (30, 60_000))
        blocks, n, m = reading.matrix_blocks(checkpoint, checkpoint.spec("w.weight"), part)
        found_blocks = list(blocks())
    assert (n, m) == (60_000, 30)
    assert all(block.strides[0] == 8 for block in found_blocks)
    assert np.array_equal(np.concatenate(found_blocks), W.T)


@direct
def test_smallest_singular_value_is_refined_after_two_stages() -> None:
    """Between 1600 and 2048 columns X is destroyed, but for the triangle that the refinement takes."""
    W = np.random.default_rng(8).standard_normal((1700, 1620))
    W[:, 0] *= 1e-3  # the smallest eigenvalue is below 1e-5 of the largest
    one = spectrum(W)
    expected = np.linalg.svd(W, compute_uv=False)[::-1]
    assert (one.method, one.backend) == ("gram", NAME)
    assert one.eigenvalues[0] < 1e-5 * one.eigenvalues[-1]
    assert np.sqrt(one.eigenvalues[0]) == pytest.approx(expected[0], rel=1e-10)
    assert np.sqrt(one.eigenvalues) == pytest.approx(expected, rel=1e-9)


class Double:
    """numpy's library with some functions replaced, or missing."""

    def __init__(self, replaced: dict[str, Callable[..., None] | None]) -> None:
        self._real = ctypes.CDLL(importlib.import_module("numpy.linalg._umath_linalg").__file__)
        self._replaced = replaced

    def __getattr__(self, name: str) -> Any:
        for part, function in self._replaced.items():
            if part in name:
                if function is None:
                    raise AttributeError(name)
                return function
        return getattr(self._real, name)


def nothing(*_: Any) -> None:
    """Leaves what it should compute as it was."""


def gives_up(*arguments: Any) -> None:
    """Reports that the algorithm did not converge."""
    info = next(one for one in reversed(arguments) if not isinstance(one, int))
    info._obj.value = 3


ROUTINES = [
    "cblas_dsyrk", "dsytrd_sy2sb", "dsytrd_sb2st", "dpotrf", "dpotrs",
    "cblas_ssyrk", "ssytrd_sy2sb", "ssytrd_sb2st", "spotrf", "spotrs", "dsterf",
]  # fmt: skip


@direct
@pytest.mark.parametrize("name", ROUTINES)
def test_a_library_without_one_of_the_routines_is_not_used(name: str) -> None:
    assert library.find(Double({name: None})) is None


@direct
@pytest.mark.parametrize("name", ROUTINES)
@pytest.mark.parametrize("wrong", [nothing, gives_up])
def test_a_library_that_gives_wrong_numbers_fails_the_self_test(name: str, wrong: Callable[..., None]) -> None:
    if wrong is gives_up and ("syrk" in name or "potrs" in name):
        pytest.skip("it reports nothing, or nothing but bad arguments")
    routines = library.find(Double({name: wrong}))
    assert routines is not None
    assert not lapack.agrees_with_numpy(routines)
    right = library.find(Double({}))
    assert right is not None
    assert lapack.agrees_with_numpy(right)


@direct
def test_a_library_that_does_not_say_its_version_has_a_name() -> None:
    unknown = library.find(Double({"openblas_get_config": None}))
    assert unknown is not None
    assert unknown.name == "lapack two-stage"


@direct
@pytest.mark.parametrize("name", ["dsytrd_sy2sb", "dsytrd_sb2st", "dsterf"])
def test_a_matrix_that_the_library_gives_up_on_is_computed_by_numpy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    W = np.random.default_rng(9).standard_normal((120, 100))
    monkeypatch.setattr(lapack, "LARGEST_ONE_STAGE", 60)
    good = spectrum(W)
    moody = library.find(Double({name: gives_up}))
    monkeypatch.setattr(lapack, "_own", lambda: moody)
    one = spectrum(W)
    assert (good.backend, one.backend) == (NAME, "numpy")
    assert one.eigenvalues == pytest.approx(good.eigenvalues, abs=100 * EPS * good.eigenvalues[-1])


def test_without_routines_everything_is_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    W = np.random.default_rng(10).standard_normal((120, 100))
    expected = spectrum(W, backend="numpy")
    monkeypatch.setattr(lapack, "_own", lambda: None)
    assert lapack.backend_name() == "numpy"
    one = spectrum(W)
    assert one.backend == "numpy"
    assert np.array_equal(one.eigenvalues, expected.eigenvalues)


def test_a_backend_that_this_process_does_not_have_is_not_replaced_by_another_library() -> None:
    assert lapack.routines("openblas-0.0.0 two-stage") is None
    assert lapack.routines("numpy") is None


def big() -> dict[str, Any]:
    rng = np.random.default_rng(11)
    low = rng.standard_normal((60, 5)) @ rng.standard_normal((5, 50))
    return {
        "big.weight": rng.standard_normal((1640, 1610)).astype(np.float32),
        "low.weight": low, "conv.weight": rng.standard_normal((24, 40, 3, 3)).astype(np.float32), "norm.weight": np.ones(40, "f4"),
    }  # fmt: skip


def test_rows_say_what_computed_them_and_are_the_same_for_any_number_of_workers(save: Writer) -> None:
    path = save(big())
    alone, both = ww.analyze(path, jobs=1), ww.analyze(path, jobs=2)
    assert both.layers.equals(alone.layers)
    said = {row.name: (row.method, row.eig_backend) for row in alone}
    assert said == {
        "big.weight": ("gram", NAME), "conv.weight": ("gram", "numpy"), "low.weight": ("svd", "numpy"), "norm.weight": (None, None),
    }  # fmt: skip


class Fatal(WorkerExecutor):
    """Workers that end when the backend is tried, as one with a wrong library does."""

    def delegate(self, allowance: Any, call: Any, arguments: tuple[Any, ...]) -> Future[Any]:
        return super().delegate(allowance, os.abort if call is tasks.find_backend else call, arguments)


def test_a_worker_that_dies_in_the_self_test_makes_the_whole_run_use_numpy(save: Writer) -> None:
    path = save(big())
    workers = Fatal(2)
    try:
        result = ww.analyze(path, executor=workers)
    finally:
        workers.shutdown(cancel_futures=True)
    assert {row.eig_backend for row in result} == {"numpy", None}
    assert result.exit_code == 0
    numbers = [name for name, metric in METRICS.items() if metric.group == "default"]
    for row, other in zip(result, ww.analyze(path), strict=True):
        for name in numbers:
            expected = getattr(other, name)
            same = pytest.approx(expected, rel=1e-9) if isinstance(expected, (int, float)) else expected
            assert getattr(row, name) == same, name


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory of other processes is read from /proc")
def test_memory_is_one_matrix_a_band_and_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rise of a process that has made its input: X, a quarter of it, and 32 MiB; the formula holds as well."""
    monkeypatch.syspath_prepend(str(ROOT))
    calls = importlib.import_module("benchmarks.calls")
    m = 3000
    with calls.own(tmp_path / "errors") as side:
        taken = side.call("esd_ours", (m, m))
    assert len(taken.values) == m
    assert 8 * m * m < taken.rise <= gram.gram_bytes(m, NAME)
    if NAME != lapack.NUMPY:
        assert gram.gram_bytes(m, NAME) <= 1.25 * 8 * m * m + 2**25


def test_what_a_matrix_needs_is_little_more_than_itself() -> None:
    for m in (3000, 4096, 6144, 12_288):
        assert gram.gram_bytes(m, "openblas two-stage") <= 1.25 * 8 * m * m + 2**25
        assert gram.gram_bytes(m) == pytest.approx(2 * 8 * m * m, rel=0.3)
    assert gram.gram_bytes(1000, "openblas two-stage") == gram.gram_bytes(1000)
    assert [lapack.band_width(m) for m in (1601, 3071, 3072, 5119, 5120, 20_000)] == [48, 48, 64, 64, 96, 96]
    assert eigen.LARGEST_SVD > lapack.LARGEST_ONE_STAGE


def test_fits_are_those_of_an_svd_for_matrices_of_seven_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """alpha, xmin and D to 1e-10 for 70 matrices by two routes; near-ties and fits at the floor may differ, and are few."""
    monkeypatch.syspath_prepend(str(ROOT))
    accuracy = importlib.import_module("benchmarks.accuracy")
    cases = list(accuracy.cases(70))
    assert len(cases) == 70 * (1 if NAME == lapack.NUMPY else 2)
    apart = [case for case in cases if case.difference > accuracy.CLOSE]
    assert [case for case in apart if not case.excuse] == []
    assert len(apart) <= 3
