"""Rows as Arrow tables, and the plain record of a run that writers and renderers read."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from ww_static import schema
from ww_static.errors import FormatError, utf8
from ww_static.models import Source
from ww_static.rows import TABLES, FileRow, FindingRow
from ww_static.version import __version__

if TYPE_CHECKING:
    import pyarrow as pa

    from ww_static.policies.judgement import Judgement


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """What a run gives: its rows, and the three Arrow tables that are made of them.

    Attributes:
        table: name of the main table: ``layers``, ``tensors`` or ``changes``.
        rows: its rows (`LayerRow`, `TensorRow` or `ChangeRow`), in the order of the table.
        finding_rows, file_rows: the two tables beside it.
        summary: means and counts.
        parameters: the options that numbers depend on.
        exit_code: 0; 1 when the policy of an audit is violated; 3 when something could not be read or there was nothing to analyse; 4 after a
            bug of ours; 130 when the run was stopped.
        errors: what could not be opened, as it was raised; each has a row with status error.
        interrupted: the run was stopped before its end.
        sources: where the models lie, for formats that name files from the working directory.
        judgement: what an audit says; `finding_rows` and `exit_code` are then its own.
    """

    table: str
    rows: tuple[Any, ...]
    finding_rows: tuple[FindingRow, ...]
    file_rows: tuple[FileRow, ...]
    summary: dict[str, Any]
    parameters: dict[str, Any]
    exit_code: int
    errors: tuple[FormatError, ...] = ()
    interrupted: bool = False
    sources: tuple[Source, ...] = ()
    judgement: Judgement | None = None

    @property
    def layers(self) -> pa.Table:
        """The main table: one row per layer view (analyze) or per tensor (describe)."""
        return arrow_table(self.table, self.rows, self._metadata())

    @property
    def tensors(self) -> pa.Table:
        """The main table, by the name it has for `describe`."""
        return self.layers

    @property
    def findings(self) -> pa.Table:
        """One row per finding."""
        return arrow_table("findings", self.finding_rows, self._metadata())

    @property
    def files(self) -> pa.Table:
        """One row per file."""
        return arrow_table("files", self.file_rows, self._metadata())

    @property
    def esd(self) -> pa.Table:
        """Model, name, part and eigenvalues of the rows that carry them (``esd="f64"``)."""
        records = [row for row in self.rows if getattr(row, "esd", None) is not None]
        return arrow_table(self.table, records, self._metadata()).select(["model_id", "name", "part", "esd"])

    def _metadata(self) -> dict[str, str]:
        return {
            "ww_static.engine_version": __version__,
            "ww_static.params": json.dumps(self.parameters, sort_keys=True, separators=(",", ":")),
            "ww_static.inputs": json.dumps([row.sha256 for row in self.file_rows if row.sha256]),
        }

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def arrow_table(table: str, records: Sequence[Any], metadata: dict[str, str] | None = None) -> pa.Table:
    """Rows of one kind as an Arrow table with the documented schema; text that is not UTF-8 is escaped."""
    import pyarrow as pa

    described = schema.arrow_schema(table)
    described = described.with_metadata({**(described.metadata or {}), **(metadata or {})})
    names = [field.name for field in fields(TABLES[table])]
    arrays = [pa.array([_cell(getattr(record, name)) for record in records], type=described.field(name).type) for name in names]
    return pa.Table.from_arrays(arrays, schema=described)


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return utf8(value)
    if isinstance(value, array):
        import numpy as np

        return np.frombuffer(value)
    if isinstance(value, dict):
        return list(value.items())
    return value
