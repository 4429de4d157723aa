"""The sampled minor of a large matrix: its rank, whatever the windows in which the values pass."""

from __future__ import annotations

import numpy as np
import pytest

import ww_static as ww
from conftest import Writer
from ww_static.auditing import audit
from ww_static.policies.policy import Policy
from ww_static.spectral.minor import LEAST, SIDE, Minor

RNG = np.random.default_rng(12)


def rank_of(W: np.ndarray, piece: int = 1000, epsilon: float = 2.0**-52) -> int | None:
    minor = Minor(W.shape)
    flat = W.reshape(-1)
    for start in range(0, flat.size, piece):
        minor.take(flat[start : start + piece])
    return minor.rank(epsilon)


@pytest.mark.parametrize("piece", [1, 7, 700, 701, 50_000, 10**6])
def test_the_rank_of_a_product_is_found_in_any_windows(piece: int) -> None:
    W = RNG.standard_normal((520, 5)) @ RNG.standard_normal((5, 700))
    if piece == 1:
        W = W[:LEAST, :LEAST]
    assert rank_of(W, piece) == 5


@pytest.mark.parametrize(
    ("shape", "rank"), [((LEAST, LEAST), SIDE), ((LEAST - 1, 900), None), ((900,), None), ((600, 64, 3, 3), SIDE)]
)
def test_noise_has_full_rank_and_small_tensors_have_no_sample(shape: tuple[int, ...], rank: int | None) -> None:
    assert rank_of(RNG.standard_normal(shape)) == rank


def test_zero_is_of_rank_zero_and_a_nan_in_the_sample_gives_none() -> None:
    W = np.zeros((600, 600))
    assert rank_of(W) == 0
    W[0, 0] = np.nan
    assert rank_of(W) is None


@pytest.mark.parametrize(("dtype", "epsilon"), [(np.float16, 2.0**-10), (np.float32, 2.0**-23)])
def test_rounding_to_the_storage_dtype_adds_no_rank(dtype: type, epsilon: float) -> None:
    W = np.outer(RNG.standard_normal(2048), RNG.standard_normal(1024)).astype(dtype).astype(np.float64)
    assert rank_of(W, epsilon=epsilon) == 1
    noise = RNG.standard_normal((2048, 1024)).astype(dtype).astype(np.float64)
    assert rank_of(noise, epsilon=epsilon) == SIDE


def test_rows_carry_it_whether_they_have_a_spectrum_or_not(save: Writer) -> None:
    low = (RNG.standard_normal((800, 3)) @ RNG.standard_normal((3, 770))).astype(np.float32)
    path = save({"low.weight": low, "small.weight": RNG.standard_normal((40, 30))})
    for row in ww.analyze(path):
        assert (row.status, row.rank_sample) == ("success", 3 if row.name == "low.weight" else None)


def test_the_fast_profile_reads_the_values_of_large_matrices_and_takes_no_spectra_of_them(save: Writer) -> None:
    low = (RNG.standard_normal((800, 3)) @ RNG.standard_normal((3, 770))).astype(np.float32)
    result = audit(save({"low.weight": low}), policy=Policy(profile="fast"))
    (row,) = result
    assert (row.status, row.reason, row.rank_sample, row.has_esd) == ("skipped", "profile", 3, False)
    assert row.std == pytest.approx(low.std(), rel=1e-6)
    assert result.exit_code != 3
