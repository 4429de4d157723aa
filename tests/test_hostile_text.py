"""One hostile text as every name, path and message there is, through every format: inert in each."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import markdown_it
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from audits import audited, layer, nan_layer, undecoded, unread
from conftest import Writer
from ww_static.cli import main
from ww_static.commands.options import AuditFormat, Format
from ww_static.errors import utf8
from ww_static.models import Source
from ww_static.outputs import delivery, render, writers
from ww_static.policies.policy import Policy, Suppression
from ww_static.results import Result
from ww_static.rows import FindingRow

HOSTILE = (
    "=1+1\x1b[31m[bold]x[/bold]<script>alert(1)</script><img src=x onerror=y>|a\\|`b``c`*_~[d](javascript:e)\\](f) {0} @user #1 GH-1 "
    "deadbeefdeadbeefdeadbeefdeadbeefdeadbeef http://e.example www.e.example ##[error]g ##vso[task.complete]h ##teamcity[i]%0A::error::j"
    "\r\n::warning::k\n  ::stop-commands::l\n##[group]m\n]]>&lt;\u202e\u2066\u200f\u2028\ufeff\x00\x07\x85\x9b31m\ud800\udce9 " + "Z" * 5000
)  # fmt: skip
BEGINNINGS = (
    "",
    "::error::",
    "##[error]",
    "\n::add-mask::",
    "+",
    "-",
    "@",
    "|",
    "`",
    "<!--",
    "\t=",
    "﹫@",
    "﻿::set-output ",
    "&#64;",
)


def hostile(text: str) -> Result:
    """An audit in which everything that can be text from outside is `text`, with every outcome, and a suppressed finding."""
    values = {"file": text, "part": text, "kind": text, "message": text}
    rows = [layer("sound", text, **values), nan_layer(text, text, **values), nan_layer("known", text, **values)]
    codes, left = undecoded(text, text)
    said = FindingRow(model_id=text, file=text, category=text, where=text, message=text, inconclusive=True)
    broken = unread(f"{text} ", file=text, category=text, message=text)
    policy = Policy(suppress=(Suppression(code="WW101", tensor="known", reason=text),), source=text)
    sources = [Source(f"models/{text}", text, text), Source(f"models/{text} ", text, f"{text} ")]
    return audited([*rows, codes, broken], [left, said], policy, sources)


def runner_commands(text: str) -> list[str]:
    """The lines that a CI runner obeys: ``::name::`` at the beginning of a line, ``##[``, ``##vso[`` anywhere in it."""
    lines = re.split(r"\r\n|\n|\r", text)
    return [line for line in lines if re.match(r"\s*::.*::", line) or re.search(r"##\w*\[", line)]


def plain(text: str) -> None:
    """What every text has to be: no control, bidi or broken character, no command, none of them cut off but by design."""
    assert not {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n"}
    assert runner_commands(text) == []


def page(text: str) -> None:
    plain(text)
    assert max(map(len, text.splitlines())) <= 100


def colored(result: Result) -> None:
    out = io.StringIO()
    render.terminal(result, Console(file=out, force_terminal=True, width=90, color_system="truecolor"), True)
    text = re.sub("\x1b\\[[0-9;]*m", "", out.getvalue())
    assert text != out.getvalue()
    plain(text)


def json_document(text: str) -> None:
    plain(text)
    document = json.loads(text)
    assert {one["model_id"] for one in document["audit"]["models"]} == {row["model_id"] for row in document["layers"]}


def json_lines(text: str) -> None:
    plain(text)
    records = [json.loads(line) for line in text.splitlines()]
    assert {"layer", "finding", "file", "summary"} == {one["record"] for one in records}


def csv_table(text: str) -> None:
    plain(text.replace("\r\n", "\n"))
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert len(rows) == 6
    assert not [
        cell for row in rows for cell in row if re.match(r"[=+\-@＝＋－＠\t\r]", cell) and not re.fullmatch(r"-[\d.]+", cell)
    ]


def markdown_page(text: str) -> None:
    plain(text)
    tokens = markdown_it.MarkdownIt("commonmark").enable("table").parse(text)
    inline = [child for token in tokens if token.type == "inline" for child in token.children or ()]
    assert {child.type for child in inline} <= {"text", "code_inline", "softbreak"}
    # services look for these in all text that is no code: mentions, issues, commits, links, markup, formulas
    outside = "\n".join(child.content for child in inline if child.type == "text")
    assert re.findall(r"[@#<>\[\]|`*~$&\\]|://|www\.|GH-\d|\b[0-9a-f]{40}\b", outside) == []
    assert {token.type for token in tokens if token.type.endswith("_open")} <= {
        "heading_open", "paragraph_open", "table_open", "thead_open", "tbody_open", "tr_open", "th_open", "td_open",
    }  # fmt: skip
    assert "html_block" not in {token.type for token in tokens}
    widths = {line.count(" | ") for line in text.splitlines() if re.match(r"\| (error|warn|info) \|", line)}
    assert widths == {5}


def sarif_log(text: str) -> None:
    plain(text)
    (run,) = json.loads(text)["runs"]
    places = [place for one in run["results"] for place in one["locations"]]
    uris = {place["physicalLocation"]["artifactLocation"]["uri"] for place in places if "physicalLocation" in place}
    assert uris
    assert all(re.fullmatch(r"[\w.~%/-]+", uri, re.ASCII) and uri.startswith("models/") for uri in uris)
    messages = [one["message"]["text"] for one in (*run["results"], *run["invocations"][0]["toolExecutionNotifications"])]
    assert not [one for one in messages if "](" in one or re.search(r"(?<!\{)(?:\{\{)*\{(?!\{)", one)]
    reasons = [one["justification"] for found in run["results"] for one in found["suppressions"]]
    names = [one["fullyQualifiedName"] for place in places for one in place.get("logicalLocations", ())]
    assert reasons
    assert names
    for told in (*messages, *reasons, *names):  # a viewer shows what the JSON stands for
        plain(told)
        assert "\n" not in told


def junit_report(text: str) -> None:
    plain(text)
    tags = {element.tag for element in ET.fromstring(text).iter()}
    assert tags <= {"testsuites", "testsuite", "testcase", "failure", "error", "skipped", "system-out"}


def workflow_lines(text: str) -> None:
    lines = text.splitlines()
    assert len(lines) == 5
    assert runner_commands(text) == lines
    for line in lines:
        plain(line[2:])
        _, command, *rest = line.split("::", 2)
        assert re.fullmatch(r"(error|warning|notice) (file=[^:,]+,)?title=[^:,]+", command), command
        assert rest[0]


def parquet_bytes(data: bytes) -> None:
    arrow_table(pq.read_table(io.BytesIO(data)))


def arrow_bytes(data: bytes) -> None:
    arrow_table(pa.ipc.open_file(data).read_all())


def arrow_table(table: pa.Table) -> None:
    """Data keeps names as they are; only what is no text at all is escaped."""
    names = table["model_id"].to_pylist()
    assert len(names) == 5
    assert {name.rstrip(" ") for name in names} <= {utf8(text).rstrip(" ") for text in (HOSTILE, *BEGINNINGS)} | {
        utf8(one + HOSTILE).rstrip(" ") for one in BEGINNINGS
    }


class Tags(html.parser.HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert attrs == []
        self.seen.add(tag)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


def notebook(text: str) -> None:
    plain(text)
    tags = Tags()
    tags.feed(text)
    assert tags.seen == {"table", "thead", "tbody", "tr", "th", "td", "p"}


def text_of(kind: str, check: Callable[[str], None]) -> Callable[[Result], None]:
    return lambda result: check(writers.text(result, kind))


def bytes_of(kind: str, check: Callable[[bytes], None]) -> Callable[[Result], None]:
    return lambda result: check(writers.binary(result, kind))


CHECKS: dict[str, Callable[[Result], None]] = {
    "table": text_of("table", page),
    "terminal": colored,
    "repr": lambda result: page(repr(result)),
    "html": lambda result: notebook(result._repr_html_()),
    "json": text_of("json", json_document),
    "jsonl": text_of("jsonl", json_lines),
    "csv": text_of("csv", csv_table),
    "markdown": text_of("markdown", markdown_page),
    "sarif": text_of("sarif", sarif_log),
    "junit": text_of("junit", junit_report),
    "github": text_of("github", workflow_lines),
    "parquet": bytes_of("parquet", parquet_bytes),
    "arrow": bytes_of("arrow", arrow_bytes),
    "folder": lambda result: arrow_table(result.findings.slice(0, 5)),
}
CASES = [HOSTILE, *(beginning + HOSTILE for beginning in BEGINNINGS)]


def test_no_format_is_without_a_check() -> None:
    known = {*writers.SUFFIXES.values(), *writers.OF_AUDITS, *writers.BINARY, *(one.value for one in (*AuditFormat, *Format))}
    assert known | {"terminal", "repr", "html", "folder"} == set(CHECKS)


@pytest.mark.parametrize("kind", sorted(CHECKS))
def test_hostile_text_is_inert(kind: str) -> None:
    for text in CASES:
        CHECKS[kind](hostile(text))


@pytest.mark.parametrize("kind", ["table", "json"])
@pytest.mark.parametrize("quiet", [True, False])
def test_hostile_text_is_inert_on_the_streams(kind: str, quiet: bool, capsys: pytest.CaptureFixture[str]) -> None:
    for text in CASES:
        result = hostile(text)
        delivery.deliver(result, result.sources, output=None, stdout=kind, color="never", verbose=True, quiet=quiet)
        out, err = capsys.readouterr()
        plain(out)
        plain(err)
        assert out
        assert bool(err) == (kind != "table")


def test_hostile_names_of_a_real_file_are_inert_in_every_output(
    save: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = HOSTILE[:180].replace("/", "\u2044").replace("\0", "")
    damaged = np.full((20, 30), np.nan, np.float32)
    save({name: damaged, "::error::": damaged, "##[error]x": damaged}, f"{name}.safetensors")
    (tmp_path / "::error::b.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    files = [f"r{suffix}" for suffix in writers.SUFFIXES]
    outputs = [word for file in files for word in ("-o", file)]
    for words in (outputs, ["-f", "github"], ["-v"]):
        with pytest.raises(SystemExit) as ended:
            main(["audit", ".", "--no-config", *words])
        assert ended.value.code == 3
        out, err = capsys.readouterr()
        plain(err)
        if words == ["-f", "github"]:
            assert len(runner_commands(out)) == len(out.splitlines()) > 3
        else:
            plain(out)
    for file in files:
        data = Path(file).read_bytes()
        if not file.endswith((".parquet", ".arrow", ".feather")):
            plain(data.decode("utf-8").replace("\r\n", "\n"))


@pytest.mark.parametrize("words", ["--x", "-f", "--profile=", "--seed=", "--output=", "--policy="])
def test_a_file_name_that_is_taken_for_an_option_gives_no_command(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("\n::error::x", "##[error]x", "a\n##[group]\x1b[31m"):
        with pytest.raises(SystemExit) as ended:
            main(["audit", "model.safetensors", words + text])
        assert ended.value.code == 2
        out, err = capsys.readouterr()
        assert out == ""
        plain(err)
