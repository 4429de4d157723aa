"""Windows of one aspect ratio: where they lie, their eigenvalues by brute force, and the exponent of noise of any shape."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

import ww_static as ww
from conftest import Note, Writer
from ww_static import models
from ww_static.options import Options
from ww_static.plan import Settings, plan_model
from ww_static.spectral.hill import hill
from ww_static.spectral.windows import places, window_side, windowed_eigenvalues

Values = NDArray[np.float64]


def gaussian(n: int, m: int, seed: int = 0) -> Values:
    return np.random.default_rng(seed).standard_normal((n, m))


def brute_force(W: Values) -> Values:
    side = min(100, W.shape[1], W.shape[0] // 2)
    rows = sorted({round(x) for x in np.linspace(0, W.shape[0] - 2 * side, 10)})
    columns = sorted({round(x) for x in np.linspace(0, W.shape[1] - side, 10)})
    parts = [np.linalg.svd(W[i : i + 2 * side, j : j + side], compute_uv=False) ** 2 for i in rows for j in columns]
    return np.sort(np.concatenate(parts))


@pytest.mark.parametrize(("n", "m", "block"), [(130, 40, 7), (70, 70, 64), (90, 50, 90), (41, 20, 1), (500, 24, 333)])
def test_eigenvalues_are_those_of_the_windows(n: int, m: int, block: int) -> None:
    W = gaussian(n, m)
    found = windowed_eigenvalues((W[i : i + block] for i in range(0, n, block)), n, m)
    assert found == pytest.approx(brute_force(W), rel=1e-9, abs=1e-10)


def test_places_are_evenly_spaced_and_each_once() -> None:
    assert places(109, 100).tolist() == list(range(10))
    assert places(100, 100).tolist() == [0]
    assert places(104, 100).tolist() == [0, 1, 2, 3, 4]
    assert places(1000, 100).tolist() == [100 * i for i in range(10)]
    assert (window_side(128, 96), window_side(4096, 4096), window_side(400, 30)) == (64, 100, 30)


@pytest.mark.parametrize(("n", "m", "whole"), [(400, 400, 2.13), (800, 400, 2.72), (1200, 300, 3.49), (2048, 256, 4.48)])
def test_noise_of_any_shape_has_one_exponent(n: int, m: int, whole: float, save: Writer, measured: Note) -> None:
    """T15: 2.70 within 0.03, where the exponent of the whole matrix goes from 2.13 to 4.48."""
    row = ww.analyze(save({"w.weight": gaussian(m, n).astype(np.float32)}), metrics=("tail",)).rows[0]
    assert row.alpha_farms == pytest.approx(2.70, abs=0.03)
    assert row.alpha_hill == pytest.approx(whole, abs=0.05)
    measured("T15", f"{m} x {n}: {row.alpha_farms:.3f}, whole {row.alpha_hill:.2f}")


def test_columns_of_windows(save: Writer) -> None:
    """One matrix, the pooled taps of a kernel, weights whose squares leave float64; and what has none."""
    W, K = gaussian(150, 60), gaussian(24 * 40, 9, seed=1).reshape(24, 40, 3, 3)
    big = np.ldexp(W, 600)
    path = save({"a.weight": W, "b.weight": K, "c.weight": big, "d.weight": W[:, :19].copy()})
    dense, conv, huge, small = ww.analyze(path, metrics=("default", "tail")).rows
    assert dense.alpha_farms == pytest.approx(hill(brute_force(W), 0.0), rel=1e-9)
    assert huge.alpha_farms == pytest.approx(dense.alpha_farms, rel=1e-12)
    taps = np.sort(np.concatenate([brute_force(K[:, :, i, j].T) for i in range(3) for j in range(3)]))
    assert conv.alpha_farms == pytest.approx(hill(taps, 0.0), rel=1e-9)
    assert small.null_reasons is not None
    assert small.null_reasons["alpha_farms"] == "too_few_evals"
    zeros = ww.analyze(save({"w.weight": np.zeros((64, 32), np.float32)}), metrics=("tail",)).rows[0]
    assert zeros.null_reasons is not None
    assert zeros.null_reasons["alpha_farms"] == "zero_matrix"


def test_rows_with_windows_are_expected_to_take_longer(save: Writer) -> None:
    (source,) = models.locate([str(save({"w.weight": gaussian(400, 300).astype(np.float32)}))])
    plain, tail = (plan_model(source, Options(metrics=groups), Settings()).needs[0].further for groups in ((), ("tail",)))
    assert plain == 0
    assert tail > 100 * 100**3
    assert math.isfinite(tail)
