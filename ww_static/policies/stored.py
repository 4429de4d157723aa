"""Earlier results as baselines: our JSON document, or a layers table as Parquet; checked before it is believed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Container, Mapping, Sequence
from dataclasses import fields
from typing import Any, get_args

import msgspec

from ww_static.dtypes import DTYPES
from ww_static.errors import UsageError, escape
from ww_static.options import path_text
from ww_static.policies.audited import folder_around
from ww_static.policies.baselines import STATUSES, Baseline
from ww_static.policies.gate import LEVELS
from ww_static.policies.policy import Policy
from ww_static.rows import SCHEMA_VERSION, FileRow, FindingRow, LayerRow
from ww_static.rules.rule import Outcome

MAX_BYTES = 512 * 2**20  # of a baseline, as it lies and as it unpacks
_MAGIC = b"PAR1"
_RESULTS = (".json", ".parquet")
_COLUMNS = frozenset(one.name for one in fields(LayerRow) if one.metadata["group"] != "esd")

_NUMBERS = tuple(one.name for one in fields(LayerRow) if one.type in ("float | None", "int | None"))
_COUNTS = frozenset(
    ("numel", "offset", "N", "M", "Q", "rf", "num_evals", "n_nan", "n_inf", "n_tail", "matrix_rank", "std", "abs_max")
)
_STATUSES = ("success", "skipped", "failed", "error")


class _Tool(msgspec.Struct):
    name: str
    version: str


class _Document(msgspec.Struct):
    """What is read of the JSON document; the rest of it is passed over."""

    schema_version: str
    tool: _Tool
    parameters: dict[str, Any]
    layers: list[LayerRow]
    findings: list[FindingRow]
    files: list[FileRow]
    audit: dict[str, Any] | None = None


def is_model(path: str) -> bool:
    """Whether a baseline is a model: a folder, or a file that does not end as results do; the index of shards is no result."""
    name = os.path.basename(path).lower()
    return os.path.isdir(path) or (os.path.exists(path) and (not name.endswith(_RESULTS) or name.endswith(".index.json")))


def chosen(named: str | None, without: bool, policy: Policy, paths: Sequence[str]) -> str | None:
    """The baseline of a run: the path that the command names, else the one that the policy names; none by itself.

    Args:
        named: by ``--baseline``.
        without: ``--no-baseline``.
        policy: may name one, too, but not below what is audited: whoever made the models may have put it there.
        paths: what is audited.

    Raises:
        UsageError: it may not be one.
    """
    if named is not None and without:
        raise UsageError("--baseline and --no-baseline exclude each other; leave one of them out")
    if named is not None:
        return path_text(named, "baseline")
    if policy.baseline is None or without:
        return None
    path_text(policy.baseline, "baseline of the policy")
    path = os.path.join(os.path.dirname(policy.source or ""), policy.baseline)
    folder = folder_around(path, paths)
    if folder is not None:
        raise UsageError(
            f"the policy names the baseline '{escape(path)}', which lies in the audited folder '{escape(folder)}', where whoever made the "
            "models may have put it; keep it elsewhere, or name it yourself: --baseline PATH"
        )
    return path


def refuse_other_options(baseline: Baseline, parameters: Mapping[str, Any]) -> None:
    """Ends a strict run whose baseline is of other options, before anything is read.

    Raises:
        UsageError: it is.
    """
    found = baseline.differences(parameters)
    if found:
        raise UsageError(
            f"baseline '{baseline.shown}' does not match the options: {escape('; '.join(found))}; write it again with: --write-baseline FILE"
        )


def read(path: str) -> Baseline:
    """The baseline that a file holds.

    Raises:
        UsageError: it cannot be read, is too large, or is no result of this program.
    """
    shown = escape(path)
    if os.path.exists(path) and not os.path.isfile(path):  # to open a pipe would wait for its writer
        raise UsageError(f"baseline '{shown}' is no regular file; name the .json or .parquet file itself")
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > MAX_BYTES:
                raise UsageError(f"baseline '{shown}' has {size} bytes, limit {MAX_BYTES}")
            content = stream.read(MAX_BYTES)
    except OSError as error:
        raise UsageError(f"baseline '{shown}' cannot be read: {error.strerror}") from error
    return _table(content, shown) if content[:4] == _MAGIC else _document(content, shown)


def _document(content: bytes, shown: str) -> Baseline:
    try:
        found = msgspec.json.decode(content, type=_Document)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _none(shown, str(error)) from error
    _check_schema(found.schema_version, shown)
    _check_rows(found.layers, shown)
    _check_findings(found.findings, shown)
    return Baseline(
        shown=shown, rows=tuple(found.layers), findings=tuple(found.findings), files=tuple(found.files),
        parameters=found.parameters, version=found.tool.version,
        audited=found.audit is not None or any(one.code is not None for one in found.findings),
    )  # fmt: skip


def _table(content: bytes, shown: str) -> Baseline:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        metadata = _text(file.schema_arrow.metadata)
        unpacked = sum(file.metadata.row_group(number).total_byte_size for number in range(file.num_row_groups))
        if metadata.get("ww_static.table") != "layers":
            raise _none(shown, "the Parquet file is no layers table of ww-static")
        _check_schema(metadata.get("ww_static.schema_version", ""), shown)
        if unpacked > MAX_BYTES or file.metadata.num_rows > MAX_BYTES // 1000:
            raise UsageError(
                f"baseline '{shown}' unpacks to {unpacked} bytes in {file.metadata.num_rows} rows, limit {MAX_BYTES} bytes"
            )
        names = [name for name in file.schema_arrow.names if name in _COLUMNS]
        rows = msgspec.convert(file.read(columns=names).to_pylist(maps_as_pydicts="strict"), list[LayerRow])
        parameters = json.loads(metadata.get("ww_static.params", "{}"))
    except (pa.ArrowException, msgspec.ValidationError, ValueError, OSError, KeyError, RecursionError) as error:
        if isinstance(error, UsageError):
            raise
        raise _none(shown, str(error)) from error
    _check_rows(rows, shown)
    if not isinstance(parameters, dict):
        raise _none(shown, "the options in its metadata are no table")
    return Baseline(
        shown=shown,
        rows=tuple(rows),
        parameters=parameters,
        version=metadata.get("ww_static.engine_version", ""),
        audited=False,
    )


def _text(metadata: Mapping[bytes, bytes] | None) -> dict[str, str]:
    return {key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, value in (metadata or {}).items()}


def _check_schema(version: str, shown: str) -> None:
    if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise UsageError(
            f"baseline '{shown}' has schema version '{escape(version[:20])}', and this release reads {SCHEMA_VERSION}; write it again"
        )


def _check_rows(rows: Sequence[LayerRow], shown: str) -> None:
    for number, row in enumerate(rows):
        place = f"row {number}"
        _check_word(row.status, _STATUSES, f"{place}: status", shown)
        _check_word(row.dtype, DTYPES, f"{place}: dtype", shown)
        for name in _NUMBERS:
            value = getattr(row, name)
            if value is not None and not (abs(value) <= sys.float_info.max and (value >= 0 or name not in _COUNTS)):
                raise _none(shown, f"{place}: {name} is {value}")
        if row.shape is not None and min(row.shape, default=0) < 0:
            raise _none(shown, f"{place}: shape is {row.shape}")


def _check_findings(findings: Sequence[FindingRow], shown: str) -> None:
    for number, one in enumerate(findings):
        place = f"finding {number}"
        _check_word(one.severity, LEVELS, f"{place}: severity", shown)
        _check_word(one.outcome, get_args(Outcome), f"{place}: outcome", shown)
        _check_word(one.baseline, STATUSES, f"{place}: baseline", shown)


def _check_word(word: str | None, known: Container[str], name: str, shown: str) -> None:
    if word is not None and word not in known:
        raise _none(shown, f"{name} is '{word}'")


def _none(shown: str, why: str) -> UsageError:
    return UsageError(
        f"baseline '{shown}' is no result of ww-static ({escape(why[:200])}); write one with: ww-static audit PATH --write-baseline FILE"
    )
