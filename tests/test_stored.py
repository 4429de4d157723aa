"""Baselines as files: what is written is what is read, and what is no baseline is refused before anything is read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ww_static
from support import bfloat16_bits, safetensors_bytes
from ww_static.auditing import audit
from ww_static.cli import main
from ww_static.errors import UsageError
from ww_static.outputs.writers import record
from ww_static.policies import stored
from ww_static.policies.policy import Policy
from ww_static.results import Result


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    rng = np.random.default_rng(0)
    scales = rng.pareto(2.0, (4, 40)).astype(np.float32) + 0.1
    return {f"h.{number}.weight": rng.standard_normal((80, 40)).astype(np.float32) * scales[number] for number in range(4)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, Any]) -> Path:
    """A model in a folder of its own."""
    root = tmp_path_factory.mktemp("baselines")
    (root / "model").mkdir()
    (root / "model" / "model.safetensors").write_bytes(safetensors_bytes(weights))
    return root


@pytest.fixture(scope="module", autouse=True)
def analysis(folder: Path) -> Result:
    """Its rows; its audit lies beside it as a baseline in every form."""
    found = ww_static.analyze(folder / "model", metrics=["default", "randomize"])
    found.write(folder / "analysis.json")
    found.write(folder / "layers.parquet")
    audit(found).write(folder / "audit.json")
    return found


def changed(folder: Path, **tensors: Any) -> Path:
    """A copy of the model with other tensors, in a folder elsewhere."""
    path = folder / "elsewhere" / f"{len(list(folder.rglob('*')))}" / "model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(safetensors_bytes(tensors))
    return path.parent


def codes(result: Result) -> set[tuple[str | None, str | None, str | None]]:
    return {(row.code, row.name, row.severity) for row in result.finding_rows if row.baseline not in ("unchanged", "fixed")}


@pytest.mark.parametrize("name", ["audit.json", "analysis.json", "layers.parquet"])
def test_a_model_does_not_differ_from_its_own_baseline(folder: Path, analysis: Result, name: str) -> None:
    result = audit(analysis, baseline=folder / name)
    assert (result.exit_code, codes(result)) == (0, set())
    assert [record(row) for row in stored.read(str(folder / name)).rows] == [record(row) for row in result.rows]


def test_a_bfloat16_copy_passes_and_a_damaged_layer_is_named(folder: Path, weights: dict[str, Any]) -> None:
    copy = changed(folder, **{name: ("BF16", W.shape, bfloat16_bits(W).tobytes()) for name, W in weights.items()})
    passed = audit(copy, baseline=folder / "audit.json")
    assert (passed.exit_code, codes(passed)) == (0, {("WW303", None, "info")})
    damaged = changed(folder, **weights | {"h.2.weight": weights["h.2.weight"] * np.float32(1.5)})
    failed = audit(damaged, baseline=folder / "audit.json")
    assert failed.exit_code == 1
    assert ("WW305", "h.2.weight", "error") in codes(failed)
    assert {name for _, name, _ in codes(failed)} == {"h.2.weight"}


def here(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    """The command in this process: code, stdout, stderr."""
    with pytest.raises(SystemExit) as ended:
        main(["audit", *map(str, arguments), "-q", "-f", "json"])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_the_command_writes_reads_and_refuses_baselines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, written = folder / "model", folder / "written.json"
    assert here(capsys, model, "--profile", "fast", "--write-baseline", written)[0] == 0
    code, out, _ = here(capsys, model, "--profile", "full", "--baseline", written)
    (mismatch,) = (row for row in json.loads(out)["findings"] if row["code"] == "WW091")
    assert (code, mismatch["severity"]) == (0, "warn")
    assert "metrics was ['default'], and is ['default', 'randomize']" in mismatch["message"]
    code, out, err = here(capsys, model, "--profile", "full", "--baseline", written, "--strict")
    assert (code, out) == (2, "")
    assert "does not match the options" in err
    assert here(capsys, model, "--profile", "fast", "--baseline", written, "--strict")[0] == 0
    for arguments, words in (
        (("--baseline", written, "--no-baseline"), "leave one of them out"),
        (("--write-baseline", folder / "b.parquet"), "ends in something else than .json"),
        (("--write-baseline", folder / "gone" / "b.json"), "there is no folder"),
        (("--strict",), "--strict is about a baseline, and there is none; name one with --baseline PATH"),
        (("--baseline", folder / "gone.json"), "cannot be read: No such file"),
    ):
        code, out, err = here(capsys, model, *arguments)
        assert (code, out) == (2, "")
        assert words in err


def _document(folder: Path, change: Callable[[dict[str, Any]], Any]) -> bytes:
    document = json.loads((folder / "audit.json").read_text())
    change(document)
    return json.dumps(document).encode()


def _table(folder: Path, name: str, value: Any) -> bytes:
    """The layers table with one value in all rows of a column."""
    table = pq.read_table(folder / "layers.parquet")
    number = table.column_names.index(name)
    sink = pa.BufferOutputStream()
    pq.write_table(table.set_column(number, table.field(name), pa.array([value] * len(table), table.field(name).type)), sink)
    return bytes(sink.getvalue().to_pybytes())


def _parameters(folder: Path, text: bytes) -> bytes:
    table = pq.read_table(folder / "layers.parquet")
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"ww_static.params": text}), sink)
    return bytes(sink.getvalue().to_pybytes())


def _finding(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda one: one["findings"].append({"code": "WW101", "severity": "error", "outcome": "violation", **values})


def _layer(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda one: one["layers"][0].update(values)


def _foreign(_: Path) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"name": ["w"]}), sink)
    return bytes(sink.getvalue().to_pybytes())


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda folder: b"", "is no result of ww-static"),
        (lambda folder: b"\xff\xfe{}", "is no result of ww-static"),
        (lambda folder: b"[" * 100_000, "is no result of ww-static"),
        (lambda folder: b'{"a": 1}', "missing required field"),
        (lambda folder: (folder / "model" / "model.safetensors").read_bytes(), "is no result of ww-static"),
        (lambda folder: _document(folder, lambda one: one.pop("layers")), "missing required field `layers`"),
        (lambda folder: _document(folder, lambda one: one.update(schema_version="9")), "has schema version '9'"),
        (lambda folder: _document(folder, lambda one: one["layers"][0].update(alpha="3")), "layers[0].alpha"),
        (_foreign, "is no layers table of ww-static"),
        (lambda folder: (folder / "layers.parquet").read_bytes()[:-200], "is no result of ww-static"),
        (lambda folder: _document(folder, _finding(severity="evil")), "severity is 'evil'"),
        (lambda folder: _document(folder, _finding(outcome="evil")), "outcome is 'evil'"),
        (lambda folder: _document(folder, _finding(baseline="evil")), "baseline is 'evil'"),
        (lambda folder: _document(folder, _layer(status="evil")), "row 0: status is 'evil'"),
        (lambda folder: _document(folder, _layer(dtype="\x1b[2J")), "row 0: dtype is '\\x1b[2J'"),
        (lambda folder: _document(folder, _layer(numel=-4)), "row 0: numel is -4"),
        (lambda folder: _document(folder, _layer(numel=10**400)), "row 0: numel is 1000"),
        (lambda folder: _document(folder, _layer(shape=[-1, 4])), "row 0: shape is (-1, 4)"),
        (lambda folder: _table(folder, "numel", -5), "row 0: numel is -5"),
        (lambda folder: _table(folder, "mean", float("nan")), "row 0: mean is nan"),
        (lambda folder: _table(folder, "alpha", float("inf")), "row 0: alpha is inf"),
        (lambda folder: _table(folder, "dtype", "??"), "row 0: dtype is '??'"),
        (lambda folder: _parameters(folder, b"[" * 200_000), "is no result of ww-static"),
    ],
)
def test_what_is_no_baseline_is_refused(folder: Path, tmp_path: Path, made: Callable[[Path], bytes], words: str) -> None:
    path = tmp_path / "b\x1b[31m.json"
    path.write_bytes(made(folder))
    with pytest.raises(UsageError) as refused:
        stored.read(str(path))
    assert words in str(refused.value)
    assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize("name", ["audit.json", "layers.parquet"])
def test_a_baseline_that_is_too_large_is_not_read(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "MAX_BYTES", 1000)
    with pytest.raises(UsageError, match="bytes, limit 1000"):
        stored.read(str(folder / name))


def test_a_table_that_unpacks_to_too_much_is_not_read(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pq.read_table(folder / "layers.parquet")
    pq.write_table(pa.concat_tables([table] * 500), tmp_path / "many.parquet", use_dictionary=False, compression="zstd")
    monkeypatch.setattr(stored, "MAX_BYTES", 2 * (tmp_path / "many.parquet").stat().st_size)
    with pytest.raises(UsageError, match="unpacks to"):
        stored.read(str(tmp_path / "many.parquet"))


def test_a_policy_that_names_no_path_at_all_is_refused() -> None:
    for name in ("", "\0"):
        with pytest.raises(UsageError, match="baseline of the policy"):
            stored.chosen(None, False, Policy(baseline=name), ["m.safetensors"])
    with pytest.raises(UsageError, match="an empty baseline was given"):
        stored.chosen("", False, Policy(), ["m.safetensors"])


def test_what_is_no_regular_file_is_no_baseline(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for path in (folder, tmp_path / "pipe.json"):
        with pytest.raises(UsageError, match="is no regular file"):
            stored.read(str(path))


def test_a_policy_names_no_baseline_in_the_audited_folder(folder: Path, tmp_path: Path) -> None:
    inside = folder / "model" / "b.json"
    inside.write_bytes((folder / "audit.json").read_bytes())
    (tmp_path / "link.json").symlink_to(inside)
    for name in (str(inside), str(tmp_path / "link.json")):
        with pytest.raises(UsageError, match="keep it elsewhere, or name it yourself"):
            stored.chosen(None, False, Policy(baseline=name), [str(folder / "mod*")])
    assert stored.chosen(str(inside), False, Policy(), [str(folder / "model")]) == str(inside)  # the user knows where it lies
    assert stored.chosen(None, True, Policy(baseline=str(inside)), [str(folder / "model")]) is None
    beside = stored.chosen(
        None, False, Policy(baseline="audit.json", source=str(folder / "ww-static.toml")), [str(folder / "model")]
    )
    assert beside == str(folder / "audit.json")
    inside.unlink()
    (folder / "away").mkdir()
    inside.symlink_to(folder / "audit.json")  # out of the audited folder
    (folder / "model" / "to").symlink_to(folder / "away")
    (folder / "away" / "b.json").symlink_to(folder / "audit.json")
    (tmp_path / "over.json").symlink_to(inside)
    for path in (inside, folder / "model" / "to" / "b.json", tmp_path / "over.json"):
        with pytest.raises(UsageError, match="keep it elsewhere, or name it yourself"):
            stored.chosen(None, False, Policy(baseline=str(path)), [str(folder / "model")])
    with pytest.raises(UsageError, match="keep it elsewhere, or name it yourself"):
        audit(ww_static.analyze(folder / "model"), policy=Policy(baseline=str(inside)))
    inside.unlink()
    (folder / "model" / "to").unlink()
    assert stored.chosen(None, False, Policy(), [str(folder)]) is None  # though one lies there
