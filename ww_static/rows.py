"""The rows of the result: every column's name, type, unit and meaning, once. Arrow types, Parquet metadata, the JSON
Schema and the column page of the docs are generated from these classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any

from ww_static.columns.alternatives import AlternativesColumns
from ww_static.columns.bulk import BulkColumns
from ww_static.columns.certainty import CertaintyColumns
from ww_static.columns.column import column
from ww_static.columns.crosscheck import CrosscheckColumns
from ww_static.columns.curves import CurvesColumns
from ww_static.columns.fit import FitColumns
from ww_static.columns.identity import IdentityColumns
from ww_static.columns.norms import NormsColumns
from ww_static.columns.origin import OriginColumns
from ww_static.columns.pairs import ComparedColumns, DifferenceColumns, PairColumns
from ww_static.columns.phases import PhasesColumns
from ww_static.columns.randomized import RandomizedColumns
from ww_static.columns.space import SpaceColumns
from ww_static.columns.trend import TrendRow
from ww_static.columns.variants import VariantsColumns
from ww_static.columns.vectors import VectorsColumns

SCHEMA_VERSION = "1"
DEFINITIONS_VERSION = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow(  # a dataclass takes the fields of its last base first
    OriginColumns,
    CurvesColumns,
    CrosscheckColumns,
    VectorsColumns,
    AlternativesColumns,
    CertaintyColumns,
    VariantsColumns,
    RandomizedColumns,
    PhasesColumns,
    BulkColumns,
    SpaceColumns,
    FitColumns,
    NormsColumns,
    IdentityColumns,
):
    """One row per view of a tensor: a matrix, the pooled taps of a convolution, a part, a skipped tensor, or a file
    that could not be read (status error)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRow:
    """One row per tensor, from headers only: what is there and what an analysis would do with it."""

    model_id: str | None = column("name of the model")
    file: str | None = column("file or shard that holds the tensor")
    name: str | None = column("scoped tensor name, verbatim")
    kind: str | None = column("what the tensor is")
    kind_source: str | None = column("evidence for the kind: graph, file, config, name or shape")
    confidence: str | None = column("how sure the kind is: high, medium or low")
    orientation: str | None = column("what the axes are, or ambiguous")
    layer_type: str | None = column("weightwatcher's word for the kind")
    shape: tuple[int, ...] | None = column("elements along each axis")
    numel: int | None = column("elements", "1")
    nbytes: int | None = column("bytes in the file", "byte")
    offset: int | None = column("first byte in the file", "byte")
    dtype: str | None = column("storage dtype")
    quantized: bool | None = column("the tensor holds codes that need a scale")
    status: str | None = column("planned, skipped or error")
    reason: str | None = column("why it would not be analysed")
    category: str | None = column("status error: category of the refusal")
    message: str | None = column("status error: what is wrong with the file")
    parts: tuple[str, ...] | None = column("rows beside the unsplit one: q, k, v, expert_0 ...")
    rows: int | None = column("rows that an analysis gives", "1")
    N: int | None = column("longer side of one matrix", "1")
    M: int | None = column("shorter side of one matrix", "1")
    Q: float | None = column("aspect ratio N/M", "1")
    rf: int | None = column("matrices per row", "1")
    num_evals: int | None = column("eigenvalues of the first row", "1")
    flops: float | None = column("estimated floating-point operations of all rows", "1")
    memory_bytes: int | None = column("private memory that the largest matrix needs, at most", "byte")
    tied_to: str | None = column("first tensor whose bytes these are")
    reader: str | None = column("reader that opened the file")


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRow:
    """One row per finding: something that a file gave away, or that its values show."""

    model_id: str | None = column("name of the model")
    file: str | None = column("file as it was named")
    name: str | None = column("tensor that it is about, when it is about one")
    category: str | None = column("what kind of finding: docs/formats.md lists them")
    where: str | None = column("part of the file")
    message: str | None = column("the fact")
    inconclusive: bool | None = column("something was left unread, so that the file cannot pass as clean")
    code: str | None = column("rule of an audit that reports it: WW101 ...")
    severity: str | None = column("error, warn or info, by the policy of the audit")
    outcome: str | None = column("violation; or what it leaves unread: unreadable, inconclusive, internal_error")
    part: str | None = column("view of the tensor: q, k, v, gate_i, tap_0_1, expert_7, delta ...")
    metric: str | None = column("column that was judged")
    value: float | None = column("what it was")
    limit: float | None = column("limit that it passed")
    suppressed: str | None = column("why the policy accepts it; null when it does not")
    baseline: str | None = column("against the baseline: new, changed, unchanged, or fixed for one that is gone")
    fingerprint: str | None = column("32 hexadecimal digits of model, rule, tensor and part, the same from run to run")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """One row per file that was read or refused."""

    model_id: str | None = column("name of the model that the file belongs to")
    file: str | None = column("file, relative to what was named")
    nbytes: int | None = column("size", "byte")
    sha256: str | None = column("sha256 of the whole file; null when nothing was analysed")
    reader: str | None = column("reader that opened it")
    tensors: int | None = column("tensors in it", "1")
    status: str | None = column("ok or error")
    category: str | None = column("category of the refusal")
    message: str | None = column("what is wrong with it")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRow:
    """One row per view of a tensor that smooth or sharpen was asked to transform: what was taken out of it, or why nothing."""

    model_id: str | None = column("name of the model")
    file: str | None = column("file or shard that the tensor was read from")
    name: str | None = column("scoped tensor name, verbatim")
    part: str | None = column("null for the tensor itself, else q, k, v, gate_i, expert_7 ...")
    kind: str | None = column("what the tensor is")
    shape: tuple[int, ...] | None = column("elements along each axis")
    dtype: str | None = column("storage dtype, in both files")
    status: str | None = column("changed, unchanged, skipped or failed; all but the first are copied bit for bit")
    reason: str | None = column("why it was not changed")
    message: str | None = column("more about the reason")
    N: int | None = column("longer side of one matrix", "1")
    M: int | None = column("shorter side of one matrix", "1")
    rf: int | None = column("matrices of the view (kernel taps)", "1")
    transform: str | None = column("smooth or sharpen")
    method: str | None = column("how smooth counts the components to keep: detX, svd, rmt, lambda_min")
    k: int | None = column(
        "components that smooth keeps, over all matrices; negative: how many of the largest go", "1", "transform.k.v1"
    )
    removed: int | None = column("singular components that were taken out, over all matrices", "1", "transform.removed.v1")
    removed_share: float | None = column(
        "share of what was taken out of the sum of squared singular values", "1", "transform.removed.v1"
    )
    delta_norm: float | None = column(
        "Frobenius norm of the change, before it is rounded to the storage dtype", "weight", "transform.delta_norm.v1"
    )


def _deltas() -> list[tuple[str, Any, Any]]:
    """d_<column> = b - a of every number of a layer row, with its unit, definition and group."""
    found = []
    for one in fields(LayerRow):
        if one.metadata["group"] not in ("identity", "esd") and one.type in ("float | None", "int | None"):
            described = dict(one.metadata) | {"doc": f"change of {one.name}, new - old", "definition": "change.v1"}
            found.append((f"d_{one.name}", one.type, field(default=None, metadata=described)))
    return found


_DELTAS = _deltas()
PairRow: type[Any] = make_dataclass(
    "PairRow",
    _DELTAS,
    bases=(ComparedColumns, DifferenceColumns, PairColumns),
    namespace={
        "__module__": __name__,
        "__doc__": """One row per pair of views of the same name in two models, and one per view that has no counterpart.""",
    },
    frozen=True,
    slots=True,
    kw_only=True,
)
DELTAS = tuple(name.removeprefix("d_") for name, _, _ in _DELTAS)  # the columns of a layer row whose change a pair has

TABLES: dict[str, type[Any]] = {
    "layers": LayerRow,
    "tensors": TensorRow,
    "pairs": PairRow,
    "trend": TrendRow,
    "findings": FindingRow,
    "files": FileRow,
    "changes": ChangeRow,
}
