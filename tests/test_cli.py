"""The command line as a user meets it: streams, formats, exit codes, one clear line per error, nothing torn."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ww_static
from conftest import Writer
from support import ROOT, safetensors_bytes
from ww_static import schema
from ww_static.cli import main
from ww_static.errors import escape
from ww_static.spectral import lapack

HOSTILE = "=cmd|'x'!A1\x1b[31m\u202e<script>alert(1)</script>|`*[b](x)*`\n::error::%0A"


@pytest.fixture
def model(save: Writer) -> Path:
    rng = np.random.default_rng(1)
    tensors: dict[str, Any] = {f"layer.{i}.weight": rng.standard_t(3, (40, 30)).astype(np.float32) for i in range(3)}
    return save(tensors | {"norm.weight": np.ones(30, np.float32), HOSTILE: rng.standard_normal((20, 30)).astype(np.float32)})


def run(*arguments: Any, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real program in a process of its own."""
    command = [sys.executable, "-m", "ww_static", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, input=stdin, env=os.environ | environment, timeout=120)


def here(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    """The same in this process: code, stdout, stderr."""
    with pytest.raises(SystemExit) as ended:
        main([str(one) for one in arguments])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_version_and_help_load_no_numpy() -> None:
    for arguments in (["--version"], ["--help"], ["analyze", "--help"]):
        script = (
            "import sys\nfrom ww_static.cli import main\n"
            f"try: main({arguments!r})\nexcept SystemExit as end: assert not end.code, end.code\n"
            "assert not {'numpy', 'pyarrow', 'torch'} & set(sys.modules), set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert run("--version").stdout == f"ww-static {ww_static.__version__}\n"


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "table"])
def test_the_process_that_shares_out_the_work_loads_no_numpy(model: Path, kind: str) -> None:
    script = (
        "import sys\nfrom ww_static.cli import main\n"
        f"try: main(['analyze', {str(model)!r}, '-f', {kind!r}])\nexcept SystemExit as end: assert not end.code, end.code\n"
        "assert not {'numpy', 'pyarrow', 'ml_dtypes'} & set(sys.modules), set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_import_loads_no_numpy_and_analysis_loads_no_framework(model: Path) -> None:
    script = (
        "import sys, ww_static\nassert 'numpy' not in sys.modules\n"
        f"result = ww_static.analyze({str(model)!r})\nassert 'numpy' not in sys.modules\nresult.layers\n"
        "assert not {'torch', 'tensorflow', 'jax', 'keras', 'scipy', 'polars'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "markdown", "table", "parquet", "arrow"])
def test_stdout_has_the_result_and_nothing_else(model: Path, kind: str) -> None:
    command = [sys.executable, "-m", "ww_static", "analyze", str(model), "--format", kind]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stderr == b""
    if kind == "parquet":
        assert pq.read_table(io.BytesIO(done.stdout)).num_rows == 5
    elif kind == "arrow":
        assert pa.ipc.open_file(done.stdout).read_all().num_rows == 5
    else:
        text = done.stdout.decode()
        assert "layer.0.weight" in text
        assert "\x1b" not in text
        assert "\u202e" not in text or kind in ("json", "jsonl")


def test_json_document_meets_its_schema(model: Path) -> None:
    document = json.loads(run("analyze", model, "--format", "json", "--esd", "f64").stdout)
    jsonschema.validate(document, schema.document_schema())
    assert [row["name"] for row in document["layers"]][-1] == "norm.weight"
    assert document["exit"] == 0
    assert list(document) == sorted(document)
    described = json.loads(run("describe", model, "--format", "json").stdout)
    jsonschema.validate(described, schema.document_schema())
    assert len(described["tensors"]) == 5


def test_the_estimate_holds_the_groups_of_columns(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cost = {}
    for groups in ("default", "default,esd", "default,bootstrap", "all"):
        code, out, _ = here(capsys, "describe", model, "--metrics", groups, "--format", "json")
        assert code == 0
        cost[groups] = json.loads(out)["summary"]["flops"]
    assert cost["default"] == cost["default,esd"] == ww_static.describe(model).summary["flops"]
    assert (
        cost["default"] < cost["default,bootstrap"] < cost["all"] == ww_static.describe(model, metrics="all").summary["flops"]
    )


def test_json_lines_carry_every_record(model: Path) -> None:
    records = [json.loads(line) for line in run("analyze", model, "--format", "jsonl").stdout.splitlines()]
    assert [one["record"] for one in records] == ["layer"] * 5 + ["file", "summary"]
    assert records[-1]["exit"] == 0


def test_csv_is_flat_and_formulas_are_inert(model: Path) -> None:
    done = run("analyze", model, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout, newline="")))
    assert len(rows) == 5
    assert rows[0]["alpha"]
    names = [row["name"] for row in rows]
    assert "'" + escape(HOSTILE) in names
    assert rows[names.index("norm.weight")]["alpha"] == ""


def test_hostile_name_is_inert_in_what_people_read(model: Path) -> None:
    result = ww_static.analyze(model)
    for text in (
        repr(result),
        result._repr_html_(),
        run("analyze", model, "--format", "markdown").stdout,
        run("analyze", model).stdout,
    ):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "\n::error" not in text
    assert "<script>" not in result._repr_html_()
    assert "<script>" not in run("analyze", model, "--format", "markdown").stdout


def test_outputs_go_by_suffix_and_silence_stdout(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    arguments = [
        item for suffix in ("parquet", "arrow", "json", "jsonl", "csv", "md", "txt") for item in ("-o", out / f"r.{suffix}")
    ]
    done = run("analyze", model, *arguments, "-o", f"{out}/all/")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert pq.read_table(out / "r.parquet").num_rows == 5
    assert pq.read_table(out / "all" / "files.parquet").num_rows == 1
    assert pq.read_table(out / "all" / "findings.parquet").num_rows == 0
    assert not [name for name in os.listdir(out) if name.endswith(".tmp")]


def test_failed_write_leaves_what_was_there(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "r.parquet"
    target.write_text("before")
    result = ww_static.analyze(model)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        result.write(target)
    assert target.read_text() == "before"
    assert not list(tmp_path.glob(".ww-static-*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["analyze"], "Missing argument"),
        (["analyze", "MODEL", "--no-such-option"], "No such option"),
        (["nonsense"], "No such command"),
        (["analyze", "MODEL", "--metrics", "nope"], "metric group 'nope' is not known"),
        (["analyze", "MODEL", "--conv", "cubes"], "--conv is pooled or slices or flatten"),
        (["analyze", "MODEL", "--jobs", "zero"], "jobs is a positive number or auto"),
        (["analyze", "MODEL", "--max-memory", "huge"], "'huge' is not a size"),
        (["analyze", "MODEL", "--layers", "re:("], "not a regular expression"),
        (["analyze", "MODEL", "-o", "result.xlsx"], "ends in none of"),
        (["analyze", "MODEL", "-o", "/nowhere/at/all/r.json"], "there is no folder"),
        (["analyze", "MODEL", "--min-evals", "0"], "--min-evals is a positive number"),
        (["analyze", "MODEL", "--readers", "nope"], "reader 'nope' is not installed"),
        (["analyze", "MODEL", "--format", "xml"], "xml"),
        (["describe", "MODEL", "--conv", "cubes"], "--conv is"),
        (["analyze", "MODEL", "--kinds", "bogus"], "kind 'bogus' is not known"),
        (["schema", "nope"], "table 'nope' is not known"),
    ],
)  # fmt: skip
def test_wrong_usage_exits_2_and_says_what_is_meant(
    capsys: pytest.CaptureFixture[str], model: Path, arguments: list[str], words: str
) -> None:
    code, out, err = here(capsys, *(str(model) if one == "MODEL" else one for one in arguments))
    assert code == 2
    assert out == ""
    assert words in " ".join(err.split())
    assert "Traceback" not in err


def test_unreadable_files_exit_3_with_one_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad\n\x1b[31m.safetensors"
    bad.write_bytes(b"\xff" * 8)
    done = run("analyze", bad, "--format", "json")
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        f"{tmp_path}/bad\\x0a\\x1b[31m.safetensors: limit: header: 18446744073709551615 bytes, limit 100000000"
    ]
    document = json.loads(done.stdout)
    assert [row["status"] for row in document["layers"]] == ["error"]
    jsonschema.validate(document, schema.document_schema())
    missing = run("analyze", tmp_path / "missing.safetensors")
    words = "io_error: no such file or directory; check the path: a relative one begins in the current folder"
    assert (missing.returncode, missing.stderr) == (3, f"{tmp_path}/missing.safetensors: {words}\n")
    assert run("readers", "check", tmp_path / "missing.safetensors").returncode == 3


def test_inconclusive_tensors_exit_3(save: Writer) -> None:
    path = save(
        {
            "a.weight": np.ones((8, 8), np.int8),
            "a.weight_scale": np.ones((8, 1), np.float32),
            "b.weight": np.eye(9, dtype=np.float32),
        }
    )
    done = run("analyze", path, "--format", "json")
    assert done.returncode == 3
    assert "quantized: tensor 'a.weight': I8 codes with scales beside them" in done.stderr
    assert run("describe", path).returncode == 3


def test_one_bad_file_of_several_keeps_the_others(model: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"")
    done = run("analyze", bad, model, "--format", "json")
    assert done.returncode == 3
    assert [row["status"] for row in json.loads(done.stdout)["layers"]].count("success") == 4


def test_paths_come_from_stdin_globs_and_folders(model: Path) -> None:
    for arguments, stdin in (([model.parent], None), ([f"{model.parent}/*.safetensors"], None), (["-"], f"{model}\n")):
        done = run("describe", *arguments, "--format", "csv", stdin=stdin)
        assert done.returncode == 0
        assert done.stdout.count("layer.0.weight") == 1
    assert run("analyze", "-", stdin="").returncode == 2


@pytest.mark.parametrize(
    "command", ["analyze MODEL -f json --esd f64", "analyze MODEL -f jsonl --esd f64 -j 2", "describe MODEL -v"]
)
def test_broken_pipe_ends_quietly(save: Writer, command: str) -> None:
    tensors = {f"a.{i}.weight": np.random.default_rng(i).standard_normal((40, 30)).astype(np.float32) for i in range(600)}
    words = command.replace("MODEL", str(save(tensors)))
    script = f"{sys.executable} -m ww_static {words} | head -c 10; echo ${{PIPESTATUS[0]}}"  # more than a pipe holds
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stdout.endswith("0\n")
    assert done.stderr == ""


def test_internal_errors_are_one_line_and_exit_4(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ww_static import planning

    monkeypatch.setattr(planning, "locate", lambda paths, settings, executor: 1 / 0)
    code, _, err = here(capsys, "describe", model)
    assert code == 4
    assert err == "ww-static: internal error: ZeroDivisionError: division by zero; WW_STATIC_TRACEBACK=1 shows where\n"
    monkeypatch.setenv("WW_STATIC_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        main(["describe", str(model)])


def test_every_row_is_shown_on_request(model: Path) -> None:
    assert "norm.weight" not in run("analyze", model).stdout
    assert "norm.weight" in run("analyze", model, "-v").stdout


def test_colors_and_width_are_obeyed(model: Path) -> None:
    assert "\x1b[" in run("analyze", model, "--color", "always").stdout
    assert "\x1b[" not in run("analyze", model, "--color", "never").stdout
    assert max(map(len, run("describe", model, COLUMNS="80").stdout.splitlines())) <= 80


def test_heartbeat_speaks_where_there_is_no_terminal(model: Path) -> None:
    from ww_static.engine import Progress
    from ww_static.outputs.progress import Bar, Heartbeat, Silent, display

    with Heartbeat(0.01) as beat:
        beat(Progress(1.0, 4.0, "layer\x1b.0"))
        line = beat.line()
    assert "25% done" in line
    assert "after layer\\x1b.0" in line
    assert isinstance(display("auto", quiet=False), Heartbeat)
    assert isinstance(display("off", quiet=False), Silent)
    assert isinstance(display("on", quiet=True), Silent)
    assert isinstance(display("on", quiet=False), Heartbeat)
    with Bar() as shown:
        shown(Progress(1.0, 4.0, "layer.0"))


def test_readers_schema_and_doctor_answer(model: Path) -> None:
    assert "safetensors" in run("readers", "list").stdout
    assert "safetensors, 5 tensors, 0 findings" in run("readers", "check", model).stdout
    assert "power-law exponent" in run("schema", "layers").stdout
    assert json.loads(run("schema", "findings", "--format", "json").stdout)["type"] == "object"
    assert "alpha: double" in run("schema", "layers", "--format", "arrow").stdout
    assert run("schema", "all", "--format", "markdown").stdout == (ROOT / "docs" / "columns.md").read_text()
    said = run("doctor").stdout
    assert "numpy" in said
    assert "blas" in said
    assert f"of the Gram matrix, by {lapack.backend_name()};" in said


def test_result_in_python(model: Path, tmp_path: Path) -> None:
    result = ww_static.analyze(model)
    assert pa.table(result).equals(result.layers)
    assert result.to_pandas().shape[0] == len(result) == 5
    assert result.to_polars().height == 5
    assert next(iter(result)).name == result.rows[0].name
    assert "rows: 4 analysed" in repr(result)
    result.write(tmp_path / "r.parquet")
    with pytest.raises(ww_static.UsageError, match="ends in none of"):
        result.write(tmp_path / "r.xyz")
    assert ww_static.describe(model).tensors.num_rows == 5
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        ww_static.nope  # noqa: B018
    assert set(ww_static.__all__) <= set(dir(ww_static))


def test_names_that_are_not_utf_8_are_escaped_everywhere(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.safetensors"
    Path(os.fsdecode(path)).write_bytes(safetensors_bytes({"w.weight": np.eye(9, dtype=np.float32)}))
    for kind in ("json", "csv", "table", "markdown"):
        command = [sys.executable.encode(), b"-m", b"ww_static", b"analyze", path, b"-f", kind.encode()]
        assert subprocess.run(command, capture_output=True).returncode == 0
    assert ww_static.analyze(os.fsdecode(path)).layers["file"][0].as_py() == "caf\\xe9.safetensors"


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_error(model: Path, tmp_path: Path, redirection: str) -> None:
    for words in (f"analyze {model} -o {tmp_path}/r.json", f"describe {model}", "--version"):
        done = subprocess.run(["bash", "-c", f"{sys.executable} -m ww_static {words} {redirection}"], capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads((tmp_path / "r.json").read_text())["exit"] == 0


def test_full_disk_names_the_file(model: Path) -> None:
    done = run("analyze", model, "-o", "/dev/full/x.json")
    assert done.returncode == 2
    script = f"{sys.executable} -m ww_static analyze {model} -f json > /dev/full"
    full = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert full.returncode == 3
    assert full.stderr == "ww-static: no space left on device\n"


@pytest.mark.parametrize("path", ["", "a\0b", "\ud800"])
def test_what_no_file_can_be_called_is_refused_before_anything_is_read(model: Path, path: str) -> None:
    for call in (ww_static.analyze, ww_static.describe, ww_static.audit):
        for paths in (path, [str(model), path]):
            with pytest.raises(ww_static.UsageError, match=r"empty path was given|by the path"):
                call(paths)


@pytest.mark.parametrize("command", ["analyze", "describe", "audit"])
def test_an_empty_path_is_a_wrong_argument(model: Path, command: str) -> None:
    done = run(command, str(model), "")
    assert (done.returncode, done.stdout) == (2, "")
    assert "an empty path was given; name a file or a folder" in done.stderr


def test_paths_on_stdin_may_hold_any_bytes(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.safetensors"
    Path(os.fsdecode(path)).write_bytes(safetensors_bytes({"w.weight": np.eye(9, dtype=np.float32)}))
    command = [sys.executable, "-m", "ww_static", "describe", "-"]
    done = subprocess.run(
        command, input=path + b"\r\n", capture_output=True, env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_several_models_are_told_apart_in_the_table(model: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / "m" / folder).mkdir(parents=True)
        (tmp_path / "m" / folder / "model.safetensors").write_bytes(model.read_bytes())
    shown = run("analyze", tmp_path / "m").stdout
    assert "a/model" in shown
    assert "b/model" in shown
    result = ww_static.analyze(tmp_path / "m")
    assert (
        {row.file for row in result} == {"a/model.safetensors", "b/model.safetensors"} == {row.file for row in result.file_rows}
    )
