"""One schema: rows, Arrow types, metadata, JSON Schema and metrics agree; a written table keeps all of it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pytest

import ww_static as ww
from conftest import Writer
from ww_static import rows, schema
from ww_static.measuring.metrics import METRICS
from ww_static.tables import arrow_table


@pytest.mark.parametrize("table", sorted(rows.TABLES))
def test_every_column_has_a_meaning_and_a_type(table: str) -> None:
    described = schema.columns(table)
    assert [one.name for one in described] == [field.name for field in fields(rows.TABLES[table])]
    for one in described:
        assert len(one.doc) > 3
        assert one.since
    assert schema.arrow_schema(table).names == [one.name for one in described]
    jsonschema.Draft202012Validator.check_schema(schema.row_schema(table))


def test_every_metric_is_a_column_of_its_group() -> None:
    groups = {one.name: one.group for one in schema.columns("layers")}
    assert {name: metric.group for name, metric in METRICS.items()} == {
        name: group for name, group in groups.items() if group != "identity"
    }
    for one in schema.columns("layers"):
        assert one.group != "default" or one.definition.endswith(".v1")


def test_empty_tables_keep_their_schema() -> None:
    for table in rows.TABLES:
        assert arrow_table(table, []).schema.names == [one.name for one in schema.columns(table)]


def test_parquet_keeps_metadata_and_types(save: Writer, tmp_path: Path) -> None:
    path = save({"w.weight": np.random.default_rng(1).standard_normal((40, 30)).astype(np.float32)})
    ww.analyze(path, esd="f64").write(tmp_path / "r.parquet")
    table = pq.read_table(tmp_path / "r.parquet")
    assert table.schema.equals(schema.arrow_schema("layers"))
    field = table.schema.field("xmin")
    assert field.metadata[b"unit"] == b"weight^2"
    assert field.metadata[b"doc"]
    metadata = table.schema.metadata
    assert metadata[b"ww_static.schema_version"] == b"1"
    assert b'"esd":"f64"' in metadata[b"ww_static.params"]
    assert len(metadata[b"ww_static.inputs"]) == 68
    assert len(table["esd"][0]) == 30


def test_two_writes_are_byte_identical(save: Writer, tmp_path: Path) -> None:
    path = save({"w.weight": np.random.default_rng(2).standard_normal((40, 30)).astype(np.float32)})
    for name in ("a", "b"):
        ww.analyze(path, metrics="all").write(tmp_path / f"{name}.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_options_have_names_of_their_own(save: Writer) -> None:
    path = save({"w.weight": np.eye(9, dtype=np.float32)})
    ids = {ww.analyze(path, **options).rows[0].params_id for options in ({}, {"esd_norm": "1/N"}, {"conv": "flatten"})}  # type: ignore[arg-type]
    assert len(ids) == 3
