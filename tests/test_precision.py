"""--precision fast: float32 spectra, what is kept of them, and the error that is stated for it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ww_static as ww
from conftest import Writer
from support import ROOT
from ww_static import spectrum
from ww_static.measuring.measured import measure
from ww_static.measuring.metrics import METRICS, OF_FAST
from ww_static.options import Options
from ww_static.spectral import eigen, gram, lapack
from ww_static.spectral.missing import Missing
from ww_static.spectral.powerlaw import TailFit, candidates
from ww_static.spectral.unresolved import least_distance

Matrix = NDArray[np.float64]
CUT = 1e-5


def families(m: int, seed: int) -> Iterator[tuple[str, Matrix]]:
    rng = np.random.default_rng(seed)
    yield "gaussian", rng.standard_normal((m, m))
    yield "tall", rng.standard_normal((8 * m, m))
    yield "heavy", rng.standard_t(2.5, (2 * m, m))
    spiked = rng.standard_normal((2 * m, m))
    spiked[:, :3] *= 30
    yield "spiked", spiked
    yield "low rank", rng.standard_normal((2 * m, m // 8)) @ rng.standard_normal((m // 8, m))
    Q = np.linalg.qr(rng.standard_normal((m, m)))[0]
    yield "graded", (Q * np.geomspace(1, 1e-5, m)) @ np.linalg.qr(rng.standard_normal((m, m)))[0]
    yield "shifted", rng.standard_normal((4 * m, m)) + 1
    yield "signs", np.sign(rng.standard_normal((6 * m, m))) * 0.1
    one = rng.standard_normal((3 * m, m))
    one[5, 7] = 1e4
    yield "one element", one
    yield "equal", np.full((20 * m, m), 0.1)


def fitted(found: eigen.Spectrum) -> TailFit | Missing:
    return measure((found,), 1.0, Options(precision=found.precision)).fit


@pytest.mark.parametrize("backend", [lapack.BEST, lapack.NUMPY])
@pytest.mark.parametrize("m", [512, 600])
def test_errors_stay_below_what_is_stated(m: int, backend: str) -> None:
    same = 0
    for name, W in families(m, m):
        W = W.astype(np.float32)
        exact, fast = spectrum(W, "gram"), spectrum(W, precision="fast", backend=backend)
        assert (fast.precision, fast.method) == ("fast", "gram")
        assert fast.floor == pytest.approx(eigen.single_error(max(W.shape), m) * fast.eigenvalues[-1])
        assert np.abs(fast.eigenvalues - exact.eigenvalues).max() <= fast.floor, name
        a, b = fitted(fast), fitted(exact)
        if isinstance(a, Missing):
            continue
        assert isinstance(b, TailFit), name
        if a.k == b.k:
            same += 1
            assert abs(a.alpha - b.alpha) <= a.alpha_error(fast.floor), name
            assert abs(a.D - b.D) <= a.distance_error(fast.floor), name
        else:
            assert a.near_tie, name
    assert same >= 5


@pytest.mark.parametrize("seed", range(6))
def test_a_tail_that_may_begin_below_the_noise_of_float32_is_not_fitted(seed: int) -> None:
    """A few large values, and a bulk below the rounding errors where the best tail begins."""
    rng = np.random.default_rng(seed)
    m, r = 520, 3 + 3 * seed
    W = rng.standard_normal((m, r)) @ rng.standard_normal((r, m))
    for noise in (0.0, 1e-4, 1e-3):
        found = spectrum((W + noise * rng.standard_normal((m, m))).astype(np.float32), precision="fast")
        assert fitted(found) == Missing("below_spectral_floor")


def test_the_distance_of_such_a_tail_is_never_less_than_its_bound() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        x = np.sort(rng.pareto(rng.uniform(0.5, 4), 300) + 1) * rng.choice([1.0, 1e-3])
        unknown = int(rng.integers(1, 60))
        bound = least_distance(x[unknown:], unknown)
        lower = x.copy()
        for lowest in (x[0], 1e-3 * x[0], 0.999 * x[unknown]):  # whatever the unknown values are
            lower[:unknown] = np.sort(rng.uniform(lowest, x[unknown], unknown))
            assert candidates(lower).D[:unknown].min() >= bound
    assert least_distance(np.linspace(1.0, 2.0, 200), 3) > 0.03  # no power law comes near these


def test_matrices_below_512_columns_are_exact(save: Writer) -> None:
    W = np.random.default_rng(7).standard_normal((600, 511)).astype(np.float32)
    found = spectrum(W, precision="fast")
    assert found.precision == "exact"
    assert np.array_equal(found.eigenvalues, spectrum(W).eigenvalues)
    (row,) = ww.analyze(save({"w.weight": W[:80, :40]}), precision="fast")
    assert (row.precision, row.sv_min is not None) == ("exact", True)


def test_matrices_of_seven_families_stay_below_the_stated_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    found = list(importlib.import_module("benchmarks.accuracy").fast_cases(14))
    assert max(case.eigenvalues for case in found) < 1
    assert max(max(case.alpha, case.D) for case in found if case.alpha is not None) < 1
    assert all(case.excuse for case in found if case.alpha is None)
    assert sum(case.alpha is not None for case in found) >= 7


def test_two_stages_in_single_precision_begin_at_512_columns() -> None:
    assert [lapack.is_two_stage(m, np.float32) for m in (511, 512)] == [False, True]
    assert [lapack.band_width(m, np.float32) for m in (1023, 1024, 3071, 3072, 5120)] == [32, 64, 64, 96, 128]


def test_float32_takes_half_the_memory() -> None:
    for backend in ("openblas two-stage", lapack.NUMPY):
        assert gram.gram_bytes(8192, backend, np.float32) < 0.6 * gram.gram_bytes(8192, backend)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(900, 520), (520, 900)])
def test_any_storage_dtype_and_orientation(dtype: type[np.floating[Any]], shape: tuple[int, int], save: Writer) -> None:
    W = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    path = save({"w.weight": W})
    (row,) = ww.analyze(path, precision="fast")
    (exact,) = ww.analyze(path)
    assert row.precision == "fast"
    assert row.spectral_floor is not None
    assert row.alpha_error is not None
    assert row.alpha == pytest.approx(exact.alpha, abs=row.alpha_error)
    assert row.lambda_max == pytest.approx(exact.lambda_max, abs=row.spectral_floor)
    assert row.content_hash == exact.content_hash
    assert row.params_id != exact.params_id


def test_metrics_of_small_eigenvalues_are_null_and_say_why(save: Writer) -> None:
    W = np.random.default_rng(2).standard_t(3, (800, 520)).astype(np.float32)
    (row,) = ww.analyze(save({"w.weight": W}), precision="fast", metrics="all")
    reasons = row.null_reasons or {}
    for name, metric in METRICS.items():
        if metric.group == "crosscheck":  # no group of `all`: another package is asked
            assert reasons[name] == "not_requested"
        elif name == "Lambda":
            assert reasons[name] == "not_applicable", "a power law has no cut-off"
        elif name in OF_FAST:
            assert getattr(row, name) is not None, name
        else:
            assert (getattr(row, name), reasons[name]) == (None, "precision"), name


def test_a_tail_below_the_noise_of_float32_is_not_fitted(save: Writer) -> None:
    """One huge singular value: the other eigenvalues, where the tail begins, are below its rounding errors."""
    rng = np.random.default_rng(3)
    W = rng.standard_normal((620, 520))
    W += 3e4 * np.outer(rng.standard_normal(620), rng.standard_normal(520))
    path = save({"w.weight": W.astype(np.float32)})
    (row,) = ww.analyze(path, precision="fast")
    assert ww.analyze(path).rows[0].alpha is not None
    assert (row.alpha, (row.null_reasons or {})["alpha"]) == (None, "below_spectral_floor")
    assert row.lambda_max is not None


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e30, 1e200])
def test_extreme_weights_are_scaled_by_a_power_of_two(scale: float, save: Writer) -> None:
    W = np.random.default_rng(4).standard_t(3, (700, 520))
    path = save({"w.weight": W * scale})
    (row,) = ww.analyze(path, precision="fast")
    assert row.status == "success"
    assert row.op_norm == pytest.approx(np.linalg.norm(W, 2) * scale, rel=1e-5)
    found = spectrum(W * scale, precision="fast")
    assert np.ldexp(np.sqrt(found.eigenvalues[-1]), found.exponent) == pytest.approx(row.op_norm, rel=1e-6)


def test_a_bad_element_is_seen(save: Writer) -> None:
    W = np.ones((620, 520), np.float32)
    W[3, 4] = np.inf
    (row,) = ww.analyze(save({"w.weight": W}), precision="fast")
    assert (row.status, row.reason, row.n_inf) == ("failed", "nonfinite", 1)


def test_taps_and_rows_are_the_same_for_any_number_of_workers(save: Writer) -> None:
    rng = np.random.default_rng(5)
    path = save({
        "conv.weight": rng.standard_normal((24, 40, 3, 3)).astype(np.float32),
        "big.weight": rng.standard_normal((700, 600)).astype(np.float32),
    })  # fmt: skip
    alone, both = (ww.analyze(path, precision="fast", jobs=jobs) for jobs in (1, 2))
    assert next(row for row in alone if row.kind != "conv2d").precision == "fast"
    assert both.layers.equals(alone.layers)
    conv = next(row for row in alone if row.kind == "conv2d")
    assert (conv.num_evals, conv.precision) == (216, "exact")
    assert conv.alpha == pytest.approx(next(row for row in ww.analyze(path) if row.kind == "conv2d").alpha, rel=1e-4)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="exact or fast"):
        spectrum(np.eye(3), precision="single")
    with pytest.raises(ww.UsageError, match="--precision is exact or fast, not 'single'"):
        ww.analyze("x.safetensors", precision="single")


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "F64", "F8_E4M3", "I8"])
def test_narrowing_rounds_what_widening_gives(name: str) -> None:
    from ww_static import dtypes

    rng = np.random.default_rng(6)
    stored = dtypes.numpy_dtype(name)
    values = rng.standard_normal((6, 10)) * 3
    array = values.astype(np.int8) if name == "I8" else values.astype(stored)
    for block in (array, array[:, ::2], array.T):
        assert dtypes.narrow(block, name).dtype == np.float32
        assert np.array_equal(dtypes.narrow(block, name), dtypes.widen(block, name).astype(np.float32))
    bits = array.view(f"u{array.itemsize}")
    assert np.array_equal(dtypes.narrow(bits, name), dtypes.narrow(array, name))
