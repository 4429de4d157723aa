"""Two checkpoints compared through the whole program: pairing, rows, summaries, formats, exit codes, interruption."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pytest

import ww_static as ww
from conftest import Note, Writer
from support import bfloat16_bits
from ww_static import planning, rows, schema
from ww_static.engine import Progress
from ww_static.layout.facts import Facts
from ww_static.layout.layers import LayerView, layer_table
from ww_static.options import Options
from ww_static.pairs import comparing, comparison, pairing
from ww_static.pairs.comparison import Comparison
from ww_static.pairs.differing import MEASURED
from ww_static.plan import Settings
from ww_static.protocol import TensorSpec
from ww_static.workers.executors import InlineExecutor


def pairs_of(old: Path, new: Path, **options: Any) -> dict[str, Any]:
    with InlineExecutor() as here:
        return {row.name: row for row in ww.compare(old, new, executor=here, **options)}


def random(seed: int, *shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ww_static", "compare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture
def both(save: Writer) -> tuple[Path, Path]:
    """Two checkpoints with a layer that stayed, some that changed, one that grew, one that went and one that came."""
    old = {f"layer.{i}.weight": random(i, 60, 40) for i in range(3)}
    old |= {"conv.weight": random(3, 24, 16, 3, 3), "norm.weight": random(4, 40), "old.weight": random(5, 30, 20)}
    new = {name: values + 0.01 * random(6, *values.shape) for name, values in old.items()}
    new |= {"layer.0.weight": old["layer.0.weight"], "layer.2.weight": random(7, 50, 40), "new.weight": random(8, 30, 20)}
    del new["old.weight"]
    return save(old, "old.safetensors"), save(new, "new.safetensors")


def test_ones_less_zeros(save: Writer, measured: Note) -> None:
    old = save({"w.weight": np.zeros((200, 100), np.float32)}, "zeros.safetensors")
    new = save({"w.weight": np.ones((200, 100), np.float32)}, "ones.safetensors")
    row = pairs_of(old, new)["w.weight"]
    assert row.delta_norm == pytest.approx(math.sqrt(20_000), rel=1e-12)
    assert row.delta_norm**2 == pytest.approx(20_000, rel=1e-12)  # the sum of the elements, each of which is one
    assert row.delta_spectral == pytest.approx(math.sqrt(20_000), rel=1e-12)
    assert row.delta_stable_rank == pytest.approx(1, rel=1e-12)
    assert row.null_reasons["rel_delta"] == row.null_reasons["cosine"] == row.null_reasons["cka"] == "zero_matrix"
    assert row.null_reasons["overlap_l"] == "degenerate"
    measured("F7", f"delta_norm {row.delta_norm!r} = sqrt({row.delta_norm**2:.9g})")


def test_every_view_has_one_row_that_says_what_became_of_it(both: tuple[Path, Path]) -> None:
    found = pairs_of(*both)
    assert [(name, row.status, row.reason, row.side, row.identical) for name, row in found.items()] == [
        ("conv.weight", "success", None, None, False),
        ("layer.0.weight", "success", None, None, True),
        ("layer.1.weight", "success", None, None, False),
        ("layer.2.weight", "skipped", "shape_mismatch", None, False),
        ("new.weight", "skipped", "no_pair", "new", None),
        ("norm.weight", "skipped", "one_dimensional", None, False),
        ("old.weight", "skipped", "no_pair", "old", None),
    ]
    assert (found["layer.2.weight"].shape_old, found["layer.2.weight"].shape) == ((60, 40), (50, 40))
    same = found["layer.0.weight"]
    assert (same.delta_norm, same.delta_spectral, same.d_alpha, same.cosine) == (0, 0, 0, pytest.approx(1))
    assert same.null_reasons["sqnr_db"] == same.null_reasons["delta_stable_rank"] == "zero_delta"
    assert found["norm.weight"].rel_delta == pytest.approx(0.01, rel=0.3)


def test_every_null_of_a_measured_row_has_a_reason(both: tuple[Path, Path]) -> None:
    for row in pairs_of(*both).values():
        if row.status == "success":
            columns = [*MEASURED, "alpha_z", *(f"d_{name}" for name in rows.DELTAS)]
            assert {name for name in columns if getattr(row, name) is None} == set(row.null_reasons)


def test_changes_are_those_of_two_analyses(both: tuple[Path, Path]) -> None:
    with InlineExecutor() as here:
        old, new = ({row.name: row for row in ww.analyze(path, executor=here, bootstrap=True)} for path in both)
    row = pairs_of(*both, bootstrap=True)["layer.1.weight"]
    a, b = old["layer.1.weight"], new["layer.1.weight"]
    for name in ("alpha", "norm", "num_spikes", "alpha_sigma_boot"):
        assert getattr(row, f"d_{name}") == getattr(b, name) - getattr(a, name)
    assert row.alpha_z == pytest.approx((b.alpha - a.alpha) / math.hypot(a.alpha_sigma_boot, b.alpha_sigma_boot))
    assert row.null_reasons["d_num_traps"] == "not_requested"
    assert pairs_of(*both)["layer.1.weight"].null_reasons["alpha_z"] == "not_requested"


def test_taps_are_summed_and_spaces_need_one_matrix(both: tuple[Path, Path]) -> None:
    pooled = pairs_of(*both)["conv.weight"]
    (flat,) = (row for name, row in pairs_of(*both, conv="flatten").items() if name == "conv.weight")
    with InlineExecutor() as here:
        taps = [row for row in ww.compare(*both, conv="slices", executor=here) if row.name == "conv.weight"]
    assert len(taps) == 9
    assert pooled.delta_norm == pytest.approx(flat.delta_norm, rel=1e-12)
    assert pooled.delta_norm**2 == pytest.approx(math.fsum(tap.delta_norm**2 for tap in taps), rel=1e-12)
    assert pooled.delta_spectral == max(tap.delta_spectral for tap in taps)
    assert pooled.null_reasons["overlap_l"] == pooled.null_reasons["cka"] == "not_applicable"
    assert flat.overlap_l is not None
    assert all(tap.overlap_l is not None for tap in taps)
    assert pooled.spectral_l2_rel <= pooled.rel_delta


def test_extreme_weights_are_compared_as_ordinary_ones(save: Writer) -> None:
    old, new = random(1, 40, 30).astype(np.float64), random(2, 40, 30).astype(np.float64)
    plain = pairs_of(save({"w.weight": old}, "a.safetensors"), save({"w.weight": new}, "b.safetensors"))["w.weight"]
    scale = 2.0**600
    huge = pairs_of(save({"w.weight": old * scale}, "c.safetensors"), save({"w.weight": new * scale}, "d.safetensors"))[
        "w.weight"
    ]
    assert huge.delta_norm == plain.delta_norm * scale
    for name in ("rel_delta", "cosine", "overlap_l", "cka", "spectral_l2_rel", "delta_stable_rank", "sqnr_db"):
        assert getattr(huge, name) == pytest.approx(getattr(plain, name), rel=1e-9)


def views(*names: str) -> list[LayerView]:
    return layer_table([TensorSpec(name, "F32", (20, 20), "f") for name in names], Facts())


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (["a.weight"], ["a.weight"], {("a.weight", "a.weight")}),
        (["a.weight", "b.weight"], ["model.a.weight", "model.b.weight", "head.weight"],
         {("a.weight", "model.a.weight"), ("b.weight", "model.b.weight")}),
        (["bert.x.weight", "cls.weight"], ["x.weight", "cls.weight"],
         {("bert.x.weight", "x.weight"), ("cls.weight", "cls.weight")}),
        (["x.weight"], ["a.x.weight", "b.x.weight"], set()),  # two prefixes: which one is meant?
        (["m.x.weight", "y.weight"], ["x.weight", "m.y.weight"], set()),  # on both sides
        (["x.weight"], ["xx.weight"], set()),  # the rest of a word is no prefix
    ],
)  # fmt: skip
def test_names_pair_when_equal_or_after_the_one_prefix(old: list[str], new: list[str], expected: set[tuple[str, str]]) -> None:
    a, b = views(*old), views(*new)
    found = pairing.pairs(a, b)
    assert {
        (a[one.old].spec.name, b[one.new].spec.name) for one in found if one.old is not None and one.new is not None
    } == expected
    assert sorted(one.old for one in found if one.old is not None) == list(range(len(a)))
    assert sorted(one.new for one in found if one.new is not None) == list(range(len(b)))


def test_the_row_says_how_it_was_paired(save: Writer) -> None:
    old = save({"x.weight": random(1, 30, 20), "same.weight": random(2, 30, 20)}, "old.safetensors")
    new = save({"model.x.weight": random(1, 30, 20), "same.weight": random(2, 30, 20)}, "new.safetensors")
    found = pairs_of(old, new)
    assert found["model.x.weight"].pairing == "name without prefix 'model.' of new"
    assert (found["model.x.weight"].name_old, found["model.x.weight"].identical) == ("x.weight", True)
    assert found["same.weight"].pairing == "name"


def test_two_architectures_are_shown_side_by_side(save: Writer) -> None:
    old = save({"a.weight": random(1, 60, 40)}, "old.safetensors")
    new = save({f"b.{i}.weight": random(i, 50, 50) for i in range(2)}, "new.safetensors")
    done = run(old, new)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 pairs" in done.stdout
    assert "nothing pairs: both models side by side" in done.stdout
    lines = {
        line.rsplit(maxsplit=2)[0].strip(): line.split()[-2:] for line in done.stdout.splitlines() if len(line.split()) > 2
    }
    assert lines["layers analysed"] == ["1", "2"]
    document = json.loads(run(old, new, "--format", "json").stdout)
    jsonschema.validate(document, schema.document_schema())
    assert (document["summary"]["paired"], document["summary"]["unpaired"]) == (0, {"new": 2, "old": 1})
    assert {row["reason"] for row in document["pairs"]} == {"no_pair"}
    for side, count in (("old", 1), ("new", 2)):
        assert sum(document["summary"][side]["alpha_counts"].values()) == count


@pytest.mark.parametrize("damaged", ["old", "new"])
def test_a_damaged_file_exits_3_and_names_it(both: tuple[Path, Path], damaged: str) -> None:
    paths = dict(zip(("old", "new"), both, strict=True))
    paths[damaged].write_bytes(paths[damaged].read_bytes()[:-100])
    done = run(*both)
    assert done.returncode == 3
    assert f"{paths[damaged]}: truncated" in done.stderr
    document = json.loads(run(*both, "--format", "json").stdout)
    assert document["exit"] == 3
    assert {row["model_id"] for row in document["pairs"]} == {"old", "new"}
    (error,) = (row for row in document["pairs"] if row["status"] == "error")
    assert (error["model_id"], error["category"]) == (damaged, "truncated")
    with pytest.raises(ww.FormatError, match="truncated"):
        pairs_of(*both)


def test_both_damaged_files_are_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    done = run(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert done.returncode == 3
    assert all(str(tmp_path / f"{name}.safetensors") in done.stderr for name in ("a", "b"))


def test_wrong_usage_exits_2(both: tuple[Path, Path], tmp_path: Path) -> None:
    done = run(both[0], tmp_path)
    assert done.returncode == 2
    assert f"'{tmp_path}' holds 2 models, and one is wanted" in done.stderr
    assert run(both[0]).returncode == 2


def test_a_matrix_with_a_nan_fails_alone(save: Writer) -> None:
    old = {"a.weight": random(1, 30, 20), "b.weight": random(2, 30, 20)}
    new = {name: values.copy() for name, values in old.items()}
    new["b.weight"][3, 4] = np.nan
    done = run(save(old, "old.safetensors"), save(new, "new.safetensors"), "--format", "json")
    assert done.returncode == 0
    found = {row["name"]: row for row in json.loads(done.stdout)["pairs"]}
    assert (found["a.weight"]["status"], found["b.weight"]["status"], found["b.weight"]["reason"]) == (
        "success",
        "failed",
        "nonfinite",
    )


def test_a_model_is_identical_with_itself(both: tuple[Path, Path]) -> None:
    done = run(both[0], both[0], "--format", "json")
    summary = json.loads(done.stdout)["summary"]
    assert (done.returncode, summary["paired"], summary["identical"], summary["changed"]) == (0, 6, 6, 0)


def test_a_pair_that_does_not_fit_says_so(save: Writer) -> None:
    paths = [save({"w.weight": random(i, 1200, 1100)}, f"{i}.safetensors") for i in range(2)]
    done = run(*paths, "--format", "json", "--max-memory", "230MiB", "--jobs", "1")
    (row,) = json.loads(done.stdout)["pairs"]
    assert (done.returncode, row["reason"]) == (3, "memory_limit")
    assert "bytes of private memory" in row["message"]


def test_the_same_bytes_for_any_number_of_workers(both: tuple[Path, Path], tmp_path: Path) -> None:
    for jobs in (1, 2):
        out = [part for kind in ("parquet", "json", "csv", "md") for part in ("-o", tmp_path / f"{jobs}.{kind}")]
        assert run(*both, "--jobs", jobs, *out).returncode == 0
    for kind in ("parquet", "json", "csv", "md"):
        assert (tmp_path / f"1.{kind}").read_bytes() == (tmp_path / f"2.{kind}").read_bytes()
    table = pq.read_table(tmp_path / "1.parquet")
    assert table.schema.equals(schema.arrow_schema("pairs"))
    assert table.column_names == [field.name for field in fields(rows.PairRow)]
    assert table.schema.field("d_xmin").metadata[b"unit"] == b"weight^2"


@pytest.mark.parametrize("stage", ["analysis", "pairs"])
def test_an_interruption_keeps_what_is_finished(both: tuple[Path, Path], stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, options, begun, calls = Settings(), Options(), False, 0
    perform = Comparison.perform

    def watched(self: Comparison, *given: Any) -> bool:
        nonlocal begun
        begun = True
        return perform(self, *given)

    def interrupt(progress: Progress) -> None:
        nonlocal calls
        calls += begun if stage == "pairs" else progress.done > 0
        if calls == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Comparison, "perform", watched)
    with InlineExecutor() as here:
        sources = planning.locate_each([str(path) for path in both], settings, here)
        result = comparing.compare_sources(sources, options, settings, here, progress=interrupt, keep_partial=True)
    states = [(row.status, row.reason) for row in result.rows]
    assert (result.interrupted, result.exit_code) == (True, 130)
    assert len(states) == 7
    assert ("skipped", "interrupted") in states
    assert any(status == "success" for status, _ in states) == (stage == "pairs")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for the workers in /proc")
def test_ctrl_c_ends_the_command_with_130(save: Writer) -> None:
    paths = [save({f"{i}.weight": random(i + k, 1500, 1500) for i in range(6)}, f"{k}.safetensors") for k in range(2)]
    command = [sys.executable, "-m", "ww_static", "compare", *map(str, paths), "--format", "json", "--jobs", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    last = time.monotonic() + 60
    while seconds_of_workers(process.pid) < 1 and process.poll() is None and time.monotonic() < last:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said


def seconds_of_workers(session: int) -> float:
    """Processor time of the other processes of a session: they have begun to compute when it grows."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state = path.read_text().rpartition(")")[2].split()  # what follows the name
            if int(state[3]) == session != int(path.parent.name):
                ticks += int(state[11]) + int(state[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def test_equal_tensors_are_read_once_and_say_the_same(save: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {"tall.weight": random(1, 60, 40), "wide.weight": random(2, 40, 60), "conv.weight": random(3, 24, 16, 3, 3)}
    one, other = save(tensors, "one.safetensors"), save(tensors, "other.safetensors")
    once = pairs_of(one, other)
    monkeypatch.setattr(comparison, "_cut", lambda view: object())
    twice = pairs_of(one, other)
    assert {row.identical for row in once.values()} == {True}
    for name, row in once.items():
        assert (row.delta_norm, row.delta_spectral, row.spectral_w1, row.intruders) == (0, 0, 0, twice[name].intruders)
        assert row.null_reasons == twice[name].null_reasons
        assert row.null_reasons["delta_stable_rank"] == row.null_reasons["sqnr_db"] == "zero_delta"
        for column in set(MEASURED) - set(row.null_reasons):
            assert getattr(row, column) == pytest.approx(getattr(twice[name], column), abs=1e-7)


@pytest.fixture
def rounded(minilm: Path, save: Writer) -> Path:
    """MiniLM in bfloat16."""
    tensors: dict[str, Any] = {}
    with ww.open(minilm) as checkpoint:
        for spec in checkpoint.tensors:
            if spec.dtype == "F32":
                bits = bfloat16_bits(checkpoint.read(spec))
                tensors[spec.name] = ("BF16", spec.shape, bits.tobytes())
    return save(tensors, "bf16.safetensors")


def test_minilm_and_its_bfloat16_copy(minilm: Path, rounded: Path) -> None:
    result = ww.compare(minilm, rounded, layers="re:layer.[05].*(query|dense).weight")
    measured = [row for row in result if row.status == "success"]
    assert len(measured) == 8
    for row in measured:
        assert row.sqnr_db == pytest.approx(55.6, abs=0.5)
        assert row.spectral_l2_rel <= row.rel_delta < 2.0e-3
        assert row.overlap_l > 0.999
        assert row.intruders == 0
        assert abs(row.d_alpha) < 0.2
        assert (row.dtype_old, row.dtype, row.identical) == ("F32", "BF16", False)
    assert result.summary["dtype_changed"] == 8
