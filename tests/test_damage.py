"""Real weights, damaged in one layer: what a baseline sees, and what the guide says it does not."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ww_static
from support import bfloat16_bits, fetched, safetensors_bytes
from ww_static.policies.baselines import Baseline
from ww_static.policies.judgement import Judgement, judge
from ww_static.policies.policy import Policy
from ww_static.results import Result

Weights = NDArray[np.float32]
Damage = Callable[[Weights, np.random.Generator], None]
LAYER = "encoder.layer.3."
DAMAGED = f"{LAYER}attention.output.dense.weight"


def _rows_of_noise(W: Weights, rng: np.random.Generator) -> None:
    W[:19] = rng.normal(0, W.std(), (19, 384))


def _block(size: int) -> Damage:
    def damage(W: Weights, _: np.random.Generator) -> None:
        W[:size, :size] = 0

    return damage


def _times(factor: float) -> Damage:
    def damage(W: Weights, _: np.random.Generator) -> None:
        W *= np.float32(factor)

    return damage


def _noise(share: float) -> Damage:
    def damage(W: Weights, rng: np.random.Generator) -> None:
        W += rng.normal(0, share * W.std(), W.shape).astype(np.float32)

    return damage


def _permuted(W: Weights, rng: np.random.Generator) -> None:
    W[:] = W[rng.permutation(384)]


def _shuffled(W: Weights, rng: np.random.Generator) -> None:
    W[:] = rng.permutation(W.ravel()).reshape(W.shape)


SEEN: dict[str, Damage] = {
    "rows of noise": _rows_of_noise, "block": _block(76), "times 1.1": _times(1.1), "times 1.5": _times(1.5), "noise": _noise(0.2),
    "shuffled": _shuffled,
}  # fmt: skip
UNSEEN: dict[str, Damage] = {"permuted": _permuted, "sign": _times(-1), "small block": _block(38), "little noise": _noise(0.1)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer of MiniLM as it is, as BF16, and with each damage."""
    folder = tmp_path_factory.mktemp("damage")
    with ww_static.open(fetched("minilm")) as model:
        weights = {one.name: np.array(model.read(one)) for one in model.tensors if one.name.startswith(LAYER)}
    for name, damage in {**SEEN, **UNSEEN}.items():
        W = weights[DAMAGED].copy()
        damage(W, np.random.default_rng(0))
        (folder / f"{name}.safetensors").write_bytes(safetensors_bytes(weights | {DAMAGED: W}))
    rounded = {name: ("BF16", W.shape, bfloat16_bits(W).tobytes()) for name, W in weights.items()}
    (folder / "bf16.safetensors").write_bytes(safetensors_bytes(rounded))
    (folder / "whole.safetensors").write_bytes(safetensors_bytes(weights))
    return folder


@pytest.fixture(scope="module")
def copies(folder: Path) -> Result:
    return ww_static.analyze(folder)


def against_the_whole(result: Result, name: str, pairs: Sequence[Any] = ()) -> Judgement:
    """The judgement of one model of a result, with the rows of the whole one as the baseline, and pairs of both."""
    rows = tuple(row for row in result.rows if row.model_id == "whole")
    baseline = Baseline(shown="whole.json", rows=rows, parameters=result.parameters, audited=False, pairs=tuple(pairs))
    now = [row for row in result.rows if row.model_id == name]
    found = [row for row in result.finding_rows if row.model_id == name]
    return judge(now, found, (), Policy(), datetime.date(2026, 1, 1), baseline, result.parameters)


def new(judgement: Judgement) -> set[tuple[str | None, str | None]]:
    """Code and tensor of errors that the whole has not."""
    return {(one.code, one.name) for one in judgement.findings if one.baseline == "new" and one.severity == "error"}


def test_a_bfloat16_copy_of_real_weights_passes(folder: Path, copies: Result) -> None:
    sure = ww_static.analyze([folder / "whole.safetensors", folder / "bf16.safetensors"], bootstrap=True)
    assert any(row.alpha_ci_lo is not None for row in sure)
    for result in (copies, sure):
        judgement = against_the_whole(result, "bf16")
        assert judgement.exit_code == 0
        assert {one.code for one in judgement.findings if one.baseline == "new"} == {"WW303"}


@pytest.mark.parametrize("name", SEEN)
def test_a_damaged_layer_fails_and_is_named(copies: Result, name: str) -> None:
    judgement = against_the_whole(copies, name)
    assert judgement.exit_code == 1
    assert new(judgement) == {("WW305", DAMAGED)}


@pytest.mark.parametrize("name", UNSEEN)
def test_what_keeps_all_norms_is_not_seen_as_the_guide_says(copies: Result, name: str) -> None:
    assert against_the_whole(copies, name).exit_code == 0


@pytest.mark.parametrize("name", UNSEEN)
def test_what_keeps_all_norms_is_seen_beside_the_file_that_it_was(folder: Path, copies: Result, name: str) -> None:
    pairs = ww_static.compare(folder / "whole.safetensors", folder / f"{name}.safetensors", layers=DAMAGED).rows
    judgement = against_the_whole(copies, name, pairs)
    assert [(one.code, one.name) for one in judgement.findings if one.baseline == "new"] == [("WW304", DAMAGED)]


def test_a_bfloat16_copy_of_real_weights_passes_beside_the_file_that_it_was(folder: Path, copies: Result) -> None:
    pairs = ww_static.compare(folder / "whole.safetensors", folder / "bf16.safetensors").rows
    assert sum(pair.overlap_l is not None for pair in pairs) >= 6
    judgement = against_the_whole(copies, "bf16", pairs)
    assert {one.code for one in judgement.findings if one.baseline == "new"} == {"WW303"}
