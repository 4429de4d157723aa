"""Results as files: one function per format, every file complete or absent."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from array import array
from collections.abc import Callable
from dataclasses import fields
from typing import IO, TYPE_CHECKING, Any

from ww_static import atomic, rows
from ww_static.errors import UsageError, escape, utf8
from ww_static.outputs import render
from ww_static.tables import Tables
from ww_static.version import __version__

if TYPE_CHECKING:
    import pyarrow as pa

_ROW_GROUP = 65_536
_FORMULA = tuple("=+-@＝＋－＠")  # what spreadsheets begin a formula with
SUFFIXES = {
    ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".csv": "csv", ".md": "markdown", ".markdown": "markdown", ".txt": "table", ".sarif": "sarif", ".sarif.json": "sarif", ".xml": "junit",
}  # fmt: skip
BINARY = frozenset(("parquet", "arrow"))
OF_AUDITS = {
    "sarif": "SARIF",
    "junit": "JUnit XML",
    "github": "an annotation",
}  # formats that say what a policy made of a model


def format_of(path: str) -> str:
    """The format that a path's suffix means; ``folder`` for a path that ends in a slash or is a folder.

    Raises:
        UsageError: the suffix means nothing.
    """
    if path.endswith(("/", os.sep)) or os.path.isdir(path):
        return "folder"
    name = os.path.basename(path).lower()
    suffix = ".sarif.json" if name.endswith(".sarif.json") else os.path.splitext(name)[1]
    if suffix not in SUFFIXES:
        raise UsageError(f"output '{path}' ends in none of: {', '.join(SUFFIXES)}, or / for a folder")
    return SUFFIXES[suffix]


def unaudited(kind: str) -> UsageError:
    """What is said to who wants an output that only an audit has."""
    return UsageError(f"{OF_AUDITS[kind]} says what an audit found; `ww-static audit` writes it")


def write(result: Tables, path: str) -> None:
    """Writes a result to `path`, by suffix; see `Result.write`."""
    kind = format_of(path)
    if kind == "folder":
        os.makedirs(path, exist_ok=True)
        for name, table in ((result.table, result.layers), ("findings", result.findings), ("files", result.files)):
            with atomic.replacing(os.path.join(path, f"{name}.parquet")) as stream:
                _parquet(table, stream)
        return
    with atomic.replacing(path) as stream:
        if kind == "parquet":
            _parquet(result.layers, stream)
        elif kind == "arrow":
            _arrow(result.layers, stream)
        else:
            stream.write(text(result, kind).encode("utf-8"))


def text(result: Tables, kind: str) -> str:
    """A result as text: ``json``, ``jsonl``, ``csv``, ``markdown`` or ``table``; of an audit also ``sarif``, ``junit``, ``github``."""
    if kind in OF_AUDITS:
        if result.judgement is None:
            raise unaudited(kind)
        from ww_static.outputs import junit, sarif, workflow

        audits: dict[str, Callable[[Tables], str]] = {
            "sarif": lambda judged: _dumped(sarif.log(judged), 1) + "\n", "junit": junit.document, "github": workflow.commands,
        }  # fmt: skip
        return audits[kind](result)
    makers: dict[str, Callable[[Tables], str]] = {
        "json": document, "jsonl": lines, "csv": flat, "markdown": render.markdown, "table": render.plain_text,
    }  # fmt: skip
    return makers[kind](result)


def binary(result: Tables, kind: str) -> bytes:
    """A result as ``parquet`` or ``arrow`` bytes."""
    stream = io.BytesIO()
    (_parquet if kind == "parquet" else _arrow)(result.layers, stream)
    return stream.getvalue()


def _parquet(table: pa.Table, stream: IO[bytes]) -> None:
    """Fixed options, so that equal rows give equal bytes. BYTE_STREAM_SPLIT takes a quarter off the ESD."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    doubles = [
        field.name for field in table.schema if pa.types.is_list(field.type) and pa.types.is_float64(field.type.value_type)
    ]
    paths = [f"{name}.list.element" for name in doubles]
    words = [field.name for field in table.schema if pa.types.is_string(field.type)]
    pq.write_table(
        table,
        stream,
        compression="zstd",
        row_group_size=_ROW_GROUP,
        use_dictionary=words,
        column_encoding=dict.fromkeys(paths, "BYTE_STREAM_SPLIT") or None,
        version="2.6",
        store_schema=True,
    )


def _arrow(table: pa.Table, stream: IO[bytes]) -> None:
    import pyarrow as pa

    with pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)


def record(row: Any) -> dict[str, Any]:
    """A row as a JSON object; nothing in it is NaN or infinite."""
    return {field.name: _json(getattr(row, field.name)) for field in fields(row)}


def _json(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return utf8(value)
    if isinstance(value, (tuple, list, array)):
        return [_json(item) for item in value]
    return {name: _json(item) for name, item in value.items()} if isinstance(value, dict) else value


def document(result: Tables) -> str:
    """The whole result as one JSON document, keys sorted; its schema is `ww_static.schema.document_schema`."""
    whole = {
        "schema_version": rows.SCHEMA_VERSION,
        "tool": {"name": "ww-static", "version": __version__},
        "parameters": result.parameters,
        "summary": result.summary,
        "exit": result.exit_code,
        result.table: [record(row) for row in result.rows],
        "findings": [record(row) for row in result.finding_rows],
        "files": [record(row) for row in result.file_rows],
    }
    return _dumped(whole | _audit(result), 1) + "\n"


def _audit(result: Tables) -> dict[str, Any]:
    """What an audit adds to a document; nothing when there was none."""
    if result.judgement is None:
        return {}
    from ww_static.policies import record as audits

    return {"audit": _json(audits.record(result.judgement, result.rows, result.file_rows))}


def _dumped(value: Any, indent: int | None = None) -> str:
    """JSON, keys sorted; no ## is left in it, which CI runners take for a command in any place of a line."""
    return re.sub("#(?=#)", r"\\u0023", json.dumps(value, sort_keys=True, indent=indent, allow_nan=False))


def line(kind: str, row: Any) -> str:
    """A row as one line of JSON, with what it is in the field ``record``."""
    return _dumped({"record": kind, **record(row)}) + "\n"


def lines(result: Tables) -> str:
    """Every row of every table as a line of JSON, then the summary."""
    kinds = (result.table.removesuffix("s"), result.rows), ("finding", result.finding_rows), ("file", result.file_rows)
    body = [line(kind, row) for kind, table in kinds for row in table]
    return "".join(body) + summary_line(result)


def summary_line(result: Tables) -> str:
    """The last line of the JSON lines: the summary, what an audit says, and the exit code."""
    last = {"record": "summary", "summary": result.summary, "parameters": result.parameters, "exit": result.exit_code}
    return _dumped(last | _audit(result)) + "\n"


def flat(result: Tables) -> str:
    """The main table as CSV (RFC 4180): missing is empty, lists and maps are JSON, text is escaped, formula cells start with a quote."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    names = [field.name for field in fields(rows.TABLES[result.table])]
    writer.writerow(names)
    for row in result.rows:
        writer.writerow([_csv(getattr(row, name)) for name in names])
    return out.getvalue()


def _csv(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (tuple, array, dict)):
        return json.dumps(_json(value), sort_keys=True)
    if isinstance(value, str):
        shown = escape(value)
        return "'" + shown if shown[:1] in _FORMULA else shown
    return repr(value)
