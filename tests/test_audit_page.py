"""What people and scripts read of an audit: the page, its limits, Markdown, the object audit in JSON, annotations, stderr."""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import markdown_it
import numpy as np
import pytest

import ww_static as ww
from audits import audited, layer, nan_layer, undecoded, unread
from conftest import Writer
from ww_static import schema
from ww_static.cli import main
from ww_static.models import Source
from ww_static.outputs import audit_page, delivery, render, writers
from ww_static.outputs.texts import inert, wrapped
from ww_static.policies.policy import Policy, Suppression
from ww_static.results import Result
from ww_static.rows import FindingRow

KNOWN = Policy(suppress=(Suppression(code="WW101", tensor="known", reason="masks of the attention"),))


def mixed() -> Result:
    codes, left = undecoded("codes", "quantized")
    rows = [
        *(layer("sound", "good"), layer("steep", "good", alpha=9.0), nan_layer("known", "good")),
        *(layer("sound", "bad"), nan_layer("nan", "bad", part="q"), layer("steep", "bad", alpha=9.0)),
        *(codes, layer("sound", "quantized"), unread("cut")),
    ]
    return audited(rows, [left], KNOWN)


def printed(result: Result, everything: bool = False) -> str:
    from io import StringIO

    from rich.console import Console

    out = StringIO()
    render.terminal(result, Console(file=out, width=100, color_system=None), everything)
    return out.getvalue()


def test_the_page_says_verdicts_findings_and_counts() -> None:
    text = printed(mixed())
    one_line = re.sub(r"\n {16}", " ", re.sub(r"(alpha 9\.00)[^\n]*(?:\n {16}[^\n]+)*", r"\1", text))
    assert one_line.splitlines() == [
        "UNREAD  4 models: 1 failed, 2 unread, 1 passed",
        "PASSED  good.safetensors: 1 warning (WW201), 1 suppressed",
        "  warn   WW201 alpha-above: steep: alpha 9.00",
        "FAILED  bad.safetensors: 1 error, 1 warning (WW101, WW201)",
        "  error  WW101 non-finite: nan [q]: 3 NaN and 0 infinite of 400 elements",
        "  warn   WW201 alpha-above: steep: alpha 9.00",
        "UNREAD  quantized.safetensors: something could not be judged; 2 errors (WW002, WW010)",
        "  error  WW002 unsupported: codes: I8 codes",
        "  error  WW010 coverage: 50.0 % of the bytes of its weights were judged, at least 95 % have to be",
        "UNREAD  cut.safetensors: something could not be read; 1 error (WW003)",
        "  error  WW003 malformed: 12 bytes for 96",
        "9 rows: 5 analysed, 5 with alpha, 2 failed, 1 unreadable, 1 skipped (quantized 1)",
        "findings: 4 errors, 2 warnings, 0 notes, 1 suppressed",
        "coverage: 87.5 % of the bytes of weights in readable files were judged",
        "profile full, no policy file, fails on error: exit code 3 (something could not be read; something",
        "  could not be judged; the policy is violated)",
    ]
    assert text == printed(mixed())
    assert "sound" not in text


def test_verbose_adds_layers_and_what_is_suppressed() -> None:
    text = printed(mixed(), True)
    assert "known: 3 NaN and 0 infinite of 400 elements (suppressed: masks of the attention)" in " ".join(text.split())
    assert len(re.findall(r"(?m)^sound +", text)) == 3
    assert text.startswith(printed(mixed())[:100])


def test_one_model_has_one_verdict() -> None:
    lines = printed(audited([layer("sound")])).splitlines()
    assert lines[0] == "PASSED  model.safetensors: no findings"
    assert lines[-1] == "profile full, no policy file, fails on error: exit code 0"


def test_nothing_to_audit_is_not_passed() -> None:
    result = audited([])
    assert printed(result).splitlines()[0] == "UNREAD  0 models"
    assert result.exit_code == 3


def test_a_policy_that_fails_by_itself_is_told_first() -> None:
    stale = Suppression(code="WW101", reason="old", expires=datetime.date(2020, 1, 1))
    result = audited([layer("sound")], (), Policy(suppress=(stale,), fail_on="warn"))
    assert printed(result).splitlines()[0] == "FAILED  1 model: 1 passed, policy failed"


def test_the_gravest_of_many_findings_are_shown() -> None:
    rows = [layer(f"steep.{place}", "one", alpha=9.0) for place in range(100)]
    rows += [nan_layer(f"nan.{place}", "two") for place in range(50)]
    text = printed(audited(rows))
    assert (text.count("WW101 non-finite"), text.count("WW201 alpha-above")) == (50, 10)
    assert "  90 further findings: -v shows all, -o writes all" in text
    assert printed(audited(rows), True).count("WW201 alpha-above") == 100


def test_notes_are_counted_and_shown_on_request() -> None:
    said = [
        FindingRow(model_id="model", category="duplicate_variant", where=f"{place}.onnx", message="not read")
        for place in range(3)
    ]
    text = printed(audited([layer("sound")], said))
    assert text.splitlines()[:2] == ["PASSED  model.safetensors: 3 notes (WW011)", "  3 notes: -v shows all, -o writes all"]
    assert printed(audited([layer("sound")], said), True).count("info   WW011") == 3


def test_many_models_that_pass_are_counted() -> None:
    text = printed(audited([layer("sound", f"model-{place:03}") for place in range(200)]))
    assert text.count("PASSED  model-") == 60
    assert "PASSED  140 further models: no findings" in text


def test_what_is_known_of_a_baseline_is_on_the_page() -> None:
    result = audited([nan_layer("nan")])
    assert result.judgement is not None
    found = (replace(result.judgement.findings[0], baseline="new"),)
    against = {"new": 1, "changed": 0, "unchanged": 2, "fixed": 3}
    shown = printed(replace(result, judgement=replace(result.judgement, findings=found, against=against)))
    assert "WW101 non-finite (new): nan:" in shown
    assert "against the baseline: 1 new, 0 changed, 2 unchanged, 3 fixed" in shown


def test_models_are_named_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path, shown, said in (
        (str(tmp_path / "m/a/model.safetensors"), "a/model.safetensors", "m/a/model.safetensors"),
        ("m/x.safetensors", "x.safetensors", "model (m/x.safetensors)"),
        ("../elsewhere/model.safetensors", "model.safetensors", "model.safetensors"),
    ):
        text = printed(audited([layer("sound")], sources=[Source(path, shown, "model")]))
        assert text.startswith(f"PASSED  {said}: ")


def test_coverage_is_never_rounded_up_to_all() -> None:
    codes, left = undecoded("codes")
    text = printed(audited([layer("big", numel=10**9), codes], [left]))
    assert "coverage: 99.9 % of" in text


def test_markdown_has_the_same_content_as_tables() -> None:
    text = writers.text(mixed(), "markdown")
    assert text.startswith("## ww-static audit: unread\n")
    assert "| failed | bad.safetensors | 1 error, 1 warning (WW101, WW201) |" in text
    assert "| error | WW101 | non-finite | bad.safetensors | `nan [q]` | 3 NaN and 0 infinite of 400 elements |" in text
    rows = re.findall(r"(?m)^\| (error|warn) \|", text)
    assert rows == ["error"] * 4 + ["warn"] * 2
    tables = [token for token in markdown_it.MarkdownIt("commonmark").enable("table").parse(text) if token.type == "table_open"]
    assert len(tables) == 2


def test_markdown_stays_below_a_mebibyte_and_counts_what_is_cut() -> None:
    said = [
        FindingRow(
            model_id=f"model-{place % 400}", category="malformed", where=f"byte {place}", message="層." * 400, inconclusive=True
        )
        for place in range(2000)
    ]
    text = writers.text(audited([layer("sound", f"model-{place}") for place in range(400)], said), "markdown")
    assert 800_000 < len(text.encode()) < 2**20
    verdicts, kept = text.count("\n| unread |"), text.count("\n| error |")
    cut = [int(count) for count in re.findall(r"(?m)^(\d+) further (?:models|findings) are not shown\.$", text)]
    assert verdicts + kept + sum(cut) == 400 + 2000
    assert kept < 2000
    assert text.rstrip().endswith("exit code 3 (something could not be judged)")


@pytest.mark.parametrize("text", ["layer.0.attn_q.weight", "rank 3 of 40: effective", "I8 codes, 95 %", "12 bytes (of 96)"])
def test_harmless_text_stays_plain_in_markdown(text: str) -> None:
    assert inert(text) == text


@pytest.mark.parametrize(
    "text",
    ["@user", "#12", "GH-12", "a/b#1", "www.x.org", "http://x", "a@b.org", "`x`", "``", "_x_", "*x*", "<b>", "&amp;", "x|y", "[x](y)", "~~x~~",
     "$x$", ":tada:", "\\|", "-- \\", "deadbeefdeadbeefdeadbeefdeadbeefdeadbeef", " `", "` ", "1638400"],
)  # fmt: skip
def test_everything_else_is_code_in_markdown(text: str) -> None:
    tokens = markdown_it.MarkdownIt("commonmark").enable("table").parse(f"| a | b |\n|---|---|\n| x | {inert(text)} |\n")
    cells = [token.children for token in tokens if token.type == "inline"][3:]
    assert [[child.type for child in cell or ()] for cell in cells] == [["code_inline"]]
    assert (cells[0] or [])[0].content.strip() == text.replace("|", "\\x7c").strip()


@pytest.mark.parametrize("width", [12, 20, 40, 100])
def test_wrapped_lines_fit_and_lose_nothing(width: int) -> None:
    text = "  error  WW101: " + "x" * 130 + " a b " + "層" * 70 + " ::error:: " * 9
    lines = wrapped(text, width, 8).split("\n")
    from rich.cells import cell_len

    assert max(map(cell_len, lines[1:])) <= width
    assert "".join(lines).replace(" ", "").replace("\\x3a", ":") == text.replace(" ", "")
    assert not [line for line in lines if line.lstrip().startswith("::")]


def test_the_document_of_an_audit_meets_its_schema() -> None:
    document = json.loads(writers.text(mixed(), "json"))
    jsonschema.validate(document, schema.document_schema())
    said = document["audit"]
    assert (said["verdict"], said["exit"], said["reasons"]) == ("unread", 3, ["unreadable", "inconclusive", "violated"])
    assert (said["counts"], said["suppressed"], said["coverage"]) == ({"error": 4, "warn": 2, "info": 0}, 1, 0.875)
    assert [(one["model_id"], one["verdict"], one["coverage"]) for one in said["models"]] == [
        ("good", "passed", 1.0), ("bad", "failed", 1.0), ("quantized", "unread", 0.5), ("cut", "unread", None),
    ]  # fmt: skip
    assert said["policy"]["suppress"][0]["reason"] == "masks of the attention"
    assert said["policy"]["rules"]["WW101"] == {"severity": "error", "kinds": []}
    assert {one["code"] for one in document["findings"]} == {"WW101", "WW201", "WW002", "WW010", "WW003"}
    for broken in ({"verdict": "fine"}, {"more": 1}, {"coverage": 1.5}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document | {"audit": said | broken}, schema.document_schema())
    assert "audit" not in json.loads(writers.text(replace(mixed(), judgement=None), "json"))


def test_json_lines_of_an_audit_have_every_record(
    save: Writer, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save({"a.weight": np.full((20, 30), np.nan, np.float32), "b.weight": np.eye(20, dtype=np.float32)})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["audit", "model.safetensors", "-f", "jsonl", "--no-config", "-o", "r.jsonl"])
    assert ended.value.code == 1
    with pytest.raises(SystemExit):
        main(["audit", "model.safetensors", "-f", "jsonl", "--no-config"])
    out, err = capsys.readouterr()
    assert out == Path("r.jsonl").read_text()
    assert err.splitlines() == ["FAILED  model.safetensors: 1 error (WW101)"] * 2
    records = [json.loads(line) for line in out.splitlines()]
    assert [one["record"] for one in records] == ["layer", "layer", "finding", "file", "summary"]
    assert records[2]["code"] == "WW101"
    assert records[-1]["audit"]["verdict"] == "failed"


def test_a_log_says_which_models_do_not_pass(capsys: pytest.CaptureFixture[str]) -> None:
    sources = [Source(f"m/{name}.safetensors", f"{name}.safetensors", name) for name in ("good", "bad", "quantized", "cut")]
    for quiet in (False, True):
        delivery.deliver(
            replace(mixed(), sources=tuple(sources)),
            sources,
            output=None,
            stdout="json",
            color="never",
            verbose=False,
            quiet=quiet,
        )
    unreadable = "m/cut.safetensors: truncated: 12 bytes for 96"
    assert capsys.readouterr().err.splitlines() == [
        unreadable,
        "FAILED  m/bad.safetensors: 1 error, 1 warning (WW101, WW201)",
        "UNREAD  m/quantized.safetensors: something could not be judged; 2 errors (WW002, WW010)",
        "UNREAD  m/cut.safetensors: something could not be read; 1 error (WW003)",
        unreadable,
    ]


def test_annotations_are_commands_with_errors_first() -> None:
    said = FindingRow(
        model_id="good", file="good.safetensors", category="corrupt", where="50%, half", message="a\nb", inconclusive=True
    )
    rows = [layer("steep", "good", alpha=9.0), nan_layer("known", "good"), nan_layer("a:b,c%", "bad")]
    lines = writers.text(audited(rows, [said], KNOWN), "github").splitlines()
    assert [re.sub("(alpha 9.00).*", r"\1", line) for line in lines] == [
        "::error file=good.safetensors,title=WW003 corrupt::50%25, half: a\\x0ab",
        "::error file=bad.safetensors,title=WW101 non-finite::tensor 'a:b,c%25': 3 NaN and 0 infinite of 400 elements",
        "::warning file=good.safetensors,title=WW201 alpha-above::tensor 'steep': alpha 9.00",
    ]
    (escaped,) = writers.text(audited([replace(nan_layer("n"), file="a:b,c%.safetensors")]), "github").splitlines()
    assert escaped.startswith("::error file=a%3Ab%2Cc%25.safetensors,title=WW101 non-finite::tensor 'n'")


@pytest.mark.parametrize(("state", "count"), [("new", 1), ("changed", 1), ("unchanged", 0), ("fixed", 0)])
def test_annotations_are_of_what_is_news_against_a_baseline(state: str, count: int) -> None:
    result = audited([nan_layer("n")])
    told = replace(result, finding_rows=tuple(replace(one, baseline=state) for one in result.finding_rows))
    assert len(writers.text(told, "github").splitlines()) == count


def test_a_result_in_python_has_the_page_and_the_notebook(save: Writer) -> None:
    path = save({"a.weight": np.full((20, 30), np.nan, np.float32), "b.weight": np.eye(20, dtype=np.float32)})
    result = ww.audit(path)
    assert repr(result).splitlines()[0].startswith("FAILED  ")
    assert "<p>FAILED  " in result._repr_html_()
    assert audit_page.verdict_lines(result) == [repr(result).splitlines()[0]]
