"""Small matrices computed at once: equal to one at a time, for every layout of taps."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import ww_static as ww
from conftest import Writer
from ww_static import NonFiniteError, models, spectrum
from ww_static.measuring import analysis
from ww_static.options import Options
from ww_static.plan import Settings, plan_model
from ww_static.spectral import stacked
from ww_static.spectral.stacked import stacked_spectra


@pytest.mark.parametrize("shape", [(9, 20, 12), (9, 12, 20), (4, 16, 16), (49, 64, 3), (2, 1, 5), (1, 7, 7)])
@pytest.mark.parametrize("method", ["auto", "gram", "svd"])
def test_each_is_what_it_is_alone(shape: tuple[int, int, int], method: str) -> None:
    stack = np.random.default_rng(1).standard_normal(shape)
    stack[0, :, 0] *= 1e-4  # the smallest eigenvalue of the first is one that the Gram matrix loses
    found = stacked_spectra(stack, method=method)  # type: ignore[arg-type]
    assert len(found) == len(stack)
    for one, W in zip(found, stack, strict=True):
        alone = spectrum(W, method, backend="numpy")  # type: ignore[arg-type]
        assert (one.method, one.n, one.precision) == (alone.method, alone.n, "exact")
        assert one.floor == pytest.approx(alone.floor)
        relative = 1e-9 if one.method == "svd" else 0
        assert one.eigenvalues == pytest.approx(alone.eigenvalues, rel=relative, abs=1e-14 * alone.eigenvalues[-1])


def test_only_those_that_need_it_take_an_svd() -> None:
    stack = np.random.default_rng(2).standard_normal((5, 30, 10))
    stack[3, :, 4] *= 1e-5
    assert [one.method for one in stacked_spectra(stack)] == ["gram", "gram", "gram", "svd", "gram"]
    assert [one.method for one in stacked_spectra(np.zeros((3, 4, 4)))] == ["gram"] * 3


def test_a_power_of_two_is_taken_out() -> None:
    stack = np.random.default_rng(3).standard_normal((4, 9, 6))
    plain, huge = stacked_spectra(stack), stacked_spectra(stack * 2.0**500, 500)
    for one, other in zip(plain, huge, strict=True):
        assert np.array_equal(one.eigenvalues, other.eigenvalues)
        assert other.exponent == 500


def test_a_bad_element_is_seen() -> None:
    stack = np.ones((3, 5, 4))
    stack[1, 2, 3] = np.nan
    with pytest.raises(NonFiniteError):
        stacked_spectra(stack)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("conv.weight", (24, 40, 3, 3)), ("conv.weight", (40, 24, 5)), ("up.conv_transpose.weight", (20, 12, 2, 2))],
)
def test_rows_of_taps_do_not_depend_on_how_they_are_computed(
    name: str, shape: tuple[int, ...], save: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save({name: np.random.default_rng(4).standard_t(3, shape).astype(np.float32)})
    with ww.InlineExecutor() as here:
        (at_once,) = ww.analyze(path, executor=here)
        monkeypatch.setattr(stacked, "LARGEST", 0)
        (one_by_one,) = ww.analyze(path, executor=here)
    for column in ("alpha", "xmin", "D", "norm", "lambda_max", "sv_min", "matrix_rank", "entropy", "detX_val", "nuclear_norm"):
        assert getattr(at_once, column) == pytest.approx(getattr(one_by_one, column), rel=1e-10), column
    assert at_once.rf == int(np.prod(shape[2:]))


def test_an_infinite_tap_is_a_failed_row(save: Writer) -> None:
    W = np.ones((8, 6, 3, 3), np.float32)
    W[0, 0, 1, 1] = np.inf
    (row,) = ww.analyze(save({"conv.weight": W}))
    assert (row.status, row.reason) == ("failed", "nonfinite")


@pytest.mark.parametrize("shape", [(64, 64, 16, 16), (64, 32, 9, 9), (512, 16, 3, 3), (12, 60, 5, 5)])
def test_the_memory_of_a_stack_is_what_is_stated(shape: tuple[int, ...], save: Writer) -> None:
    W = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    W[1] = W[0]  # no tap has full rank: all of them take an SVD
    path = save({"conv.weight": W})
    (view,) = plan_model(models.locate([str(path)])[0], Options(), Settings()).views
    with ww.open(path) as checkpoint:
        survey = analysis.survey(checkpoint, view.spec)
        tracemalloc.start()
        row = analysis.analyze_view(checkpoint, view, survey, Options())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert row.status == "success"
    assert peak <= analysis.memory_needed(view) <= analysis.memory_wanted(view)


@pytest.mark.parametrize("shape", [(22, 20, 7, 7), (300, 300, 3, 3)])
def test_a_kernel_with_one_tap_that_is_not_zero(shape: tuple[int, ...], save: Writer) -> None:
    """As an identity that is written as a convolution: fewer eigenvalues above zero than matrices."""
    W = np.zeros(shape, np.float32)
    middle = shape[2] // 2
    W[:, :, middle, middle] = np.random.default_rng(6).standard_normal(shape[:2])
    (row,) = ww.analyze(save({"conv.weight": W}), randomize=True)
    assert (row.status, row.rf) == ("success", shape[2] * shape[3])
    assert row.alpha is not None
    few = min(shape[:2]) < shape[2] * shape[3]
    assert (row.null_reasons or {}).get("mp_sigma2") == ("too_few_evals" if few else None)
    assert row.max_rand_eval is not None


@pytest.mark.parametrize("columns", [30, 300, 1100])
def test_a_tap_of_zeros_has_an_upper_end(columns: int, save: Writer) -> None:
    W = np.zeros((columns, columns, 2, 2), np.float32)
    W[:, :, 1, 0] = np.random.default_rng(7).standard_normal((columns, columns))
    (row,) = ww.analyze(save({"conv.weight": W}), randomize=True)
    assert row.status == "success"
    assert row.max_rand_eval is not None
