"""An audit whose baseline is an older model: what it says beside a baseline of rows, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ww_static as ww
from support import safetensors_bytes
from ww_static import against, auditing, engine, planning
from ww_static.cli import main
from ww_static.options import Options
from ww_static.pairs.comparison import Comparison, Shown, sides
from ww_static.plan import Settings
from ww_static.workers.executors import InlineExecutor

Weights = dict[str, NDArray[np.float32]]
TURNED = "h.1.weight"


@pytest.fixture(scope="module")
def weights() -> Weights:
    """Matrices whose ten leading singular values stand apart from the rest."""
    rng = np.random.default_rng(6)
    made: Weights = {"norm.weight": rng.uniform(0.5, 1.5, 40).astype(np.float32)}
    for number in range(3):
        U, V = (np.linalg.qr(rng.standard_normal((size, 40)))[0] for size in (80, 40))
        values = np.concatenate([np.linspace(9, 6, 10), np.linspace(3, 1, 30)])
        made[f"h.{number}.weight"] = ((U * values) @ V.T).astype(np.float32)
    return made


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory, weights: Weights) -> Path:
    return saved(tmp_path_factory.mktemp("old"), weights)


def saved(folder: Path, tensors: Any, name: str = "model.safetensors") -> Path:
    (folder / name).write_bytes(safetensors_bytes(tensors))
    return folder / name


def said(result: ww.Result) -> set[tuple[str | None, str | None, str | None, str | None]]:
    return {(row.code, row.name, row.outcome, row.baseline) for row in result.finding_rows if row.code != "WW205"}


def test_a_model_that_turned_is_named_and_nothing_else_of_it(tmp_path: Path, old: Path, weights: Weights) -> None:
    new = saved(tmp_path, weights | {TURNED: weights[TURNED][np.random.default_rng(0).permutation(80)]})
    result = ww.audit(new, baseline=old)
    (one,) = (row for row in result.finding_rows if row.code == "WW304")
    assert (one.model_id, one.name, one.severity, one.baseline) == ("model", TURNED, "warn", "new")
    assert one.metric in ("cosine", "overlap_l")
    assert one.value is not None
    assert one.limit is not None
    assert one.value < one.limit
    assert result.exit_code == 0
    assert ww.audit(new, baseline=old, policy=ww.Policy(fail_on="warn", select=("WW304",))).exit_code == 1


def test_the_rows_are_those_of_a_plain_audit_and_the_old_ones_the_baseline(tmp_path: Path, old: Path, weights: Weights) -> None:
    broken = weights["h.2.weight"].copy()
    broken[3, 4] = np.nan
    new = saved(tmp_path, {name: W for name, W in weights.items() if name != "h.0.weight"} | {"h.2.weight": broken})
    result, plain = ww.audit(new, baseline=old), ww.audit(new)
    assert result.rows == plain.rows
    assert result.file_rows == plain.file_rows
    assert (result.summary, result.parameters) == (plain.summary, plain.parameters)
    codes = {(row.code, row.name, row.baseline) for row in result.finding_rows if row.severity == "error"}
    assert codes == {("WW302", "h.0.weight", "new"), ("WW101", "h.2.weight", "new")}
    back = ww.audit(old, baseline=new)
    assert ("WW101", "h.2.weight", "fixed") in {(row.code, row.name, row.baseline) for row in back.finding_rows}
    assert {row.model_id for row in back.finding_rows} == {"model"}


def test_a_model_beside_itself_has_nothing_new(old: Path, weights: Weights, tmp_path: Path) -> None:
    noise = np.random.default_rng(1)
    near = {name: (W * (1 + noise.normal(0, 0.01, W.shape))).astype(np.float32) for name, W in weights.items()}
    for new in (old, saved(tmp_path, near)):
        result = ww.audit(new, baseline=old.parent)
        assert {row.baseline for row in result.finding_rows if row.severity != "info"} <= {"unchanged"}
        assert result.exit_code == 0


def test_the_fast_profile_compares_rows_only(tmp_path: Path, old: Path, weights: Weights) -> None:
    new = saved(tmp_path, weights | {TURNED: -weights[TURNED], "h.2.weight": 2 * weights["h.2.weight"]})
    result = ww.audit(new, baseline=old, policy=ww.Policy(profile="fast"))
    drift = {(row.code, row.name) for row in result.finding_rows if (row.code or "").startswith("WW3")}
    assert drift == {("WW305", "h.2.weight")}


def test_what_the_old_model_leaves_unread_is_told(tmp_path: Path, weights: Weights) -> None:
    codes = ("I8", (80, 40), np.arange(3200, dtype=np.int8).tobytes())
    old = saved(tmp_path, weights | {TURNED: codes}, "old.safetensors")
    new = saved(tmp_path, weights, "new.safetensors")
    for profile in ("fast", "full"):
        result = ww.audit(new, baseline=old, policy=ww.Policy(profile=profile))
        (one,) = (row for row in result.finding_rows if row.outcome == "inconclusive")
        assert (one.code, one.name, result.exit_code) == ("WW091", TURNED, 3)
        assert "not compared with the baseline" in (one.message or "")
    back = ww.audit(old, baseline=new)
    assert {row.code for row in back.finding_rows if row.name == TURNED and row.outcome == "inconclusive"} == {"WW002"}


def test_a_pair_for_which_no_time_is_left_is_told(old: Path) -> None:
    options = Options()
    with InlineExecutor() as executor:
        sources = planning.locate_each([str(old), str(old)], Settings(), executor)
        run = engine.run(sources, options, Settings(), executor)
        before, now = sides(run)
        comparison = Comparison(before, now, options, Settings(time_budget=1.0), run.backend, Shown(None), deadline=0.0)
        assert not comparison.perform(executor, keep_partial=True)
    empty = engine.Run((), (), ())
    found = against.not_compared(empty, empty, comparison.rows)
    assert {(one.name, one.category) for one in found} == {(row.name, "time_limit") for row in now.rows}
    assert all("beyond 1 s" in (one.message or "") for one in found)


def test_a_run_that_is_stopped_among_the_pairs_keeps_what_it_has(old: Path) -> None:
    totals: list[float] = []

    def stop(progress: engine.Progress) -> None:
        totals.append(progress.total)
        if len(set(totals)) == 3:  # of headers, of rows, of pairs
            raise KeyboardInterrupt

    policy, options = ww.Policy(), auditing.options_of("full")
    with InlineExecutor() as executor:
        sources = planning.locate([str(old)], Settings(), executor)
        given = sources, policy, options, Settings(), executor
        result = auditing.audit_sources(*given, progress=stop, keep_partial=True, baseline=str(old))
    assert result.exit_code == 130
    assert not [row for row in result.rows if row.reason == "interrupted"]
    unread = {(row.code, row.category) for row in result.finding_rows if row.outcome == "inconclusive"}
    assert unread == {("WW091", "interrupted")}


def here(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    """The command in this process: code, stdout, stderr."""
    with pytest.raises(SystemExit) as ended:
        main(["audit", *map(str, arguments), "-q"])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_the_command_writes_the_rows_of_the_new_model_only(
    tmp_path: Path, old: Path, weights: Weights, capsys: pytest.CaptureFixture[str]
) -> None:
    new, written = saved(tmp_path, weights | {TURNED: -weights[TURNED]}, "new.safetensors"), tmp_path / "written.json"
    code, out, _ = here(capsys, new, "--baseline", old, "--strict", "-f", "jsonl", "--write-baseline", written)
    lines = [json.loads(line) for line in out.splitlines()]
    rows = [line for line in lines if line["record"] == "layer"]
    assert (code, {row["model_id"] for row in rows}, len(rows)) == (0, {"new"}, len(weights))
    assert [line["name"] for line in lines if line["record"] == "finding" and line["code"] == "WW304"] == [TURNED]
    assert {row["model_id"] for row in json.loads(written.read_text())["layers"]} == {"new"}
    assert here(capsys, new, "--baseline", written, "--strict", "-f", "json")[0] == 0


def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, old: Path, weights: Weights, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path, weights, "a.safetensors")
    code, out, err = here(capsys, tmp_path, old, "--baseline", old)
    assert (code, out) == (2, "")
    assert "one model is compared with one; audit each" in err
    saved(tmp_path, weights, "b.safetensors")
    code, out, err = here(capsys, old, "--baseline", tmp_path)
    assert (code, out) == (2, "")
    assert "holds 2 models, and one is wanted" in err
    (tmp_path / "cut.safetensors").write_bytes(old.read_bytes()[:-7])
    code, out, err = here(capsys, old, "--baseline", tmp_path / "cut.safetensors")
    assert (code, out) == (3, "")
    assert "cut.safetensors" in err
    with pytest.raises(ww.UsageError, match="audit the file"):
        ww.audit(ww.analyze(old), baseline=old)
    with pytest.raises(ww.FormatError, match="truncated"):
        ww.audit(old, baseline=tmp_path / "cut.safetensors")


def test_an_unread_new_model_is_its_own_finding(tmp_path: Path, old: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(old.read_bytes()[:-7])
    result = ww.audit(tmp_path / "cut.safetensors", baseline=old)
    assert result.exit_code == 3
    assert {row.model_id for row in result.finding_rows} == {"cut"}
