"""What tests of an audit's outputs share: rows of a sound and a damaged model, judged in this process."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import Any

from ww_static.auditing import judged
from ww_static.models import Source
from ww_static.policies.policy import Policy
from ww_static.results import Result
from ww_static.rows import FileRow, FindingRow, LayerRow
from ww_static.summary import summarize

TODAY = datetime.date(2026, 11, 22)


def layer(name: str | None, model: str = "model", **values: Any) -> LayerRow:
    """The row of a tensor without a defect, but for `values`."""
    sound: dict[str, Any] = {
        "model_id": model, "file": f"{model}.safetensors", "name": name, "kind": "dense", "dtype": "F32", "shape": (20, 20), "numel": 400,
        "status": "success", "has_esd": True, "N": 20, "M": 20, "rf": 1, "num_evals": 20, "matrix_rank": 20, "abs_max": 1.0, "min": -1.0,
        "max": 1.0, "n_nan": 0, "n_inf": 0, "alpha": 3.0, "alpha_weighted": 4.0, "sigma": 0.2, "D": 0.05, "phase": "heavy-tailed",
    }  # fmt: skip
    return LayerRow(**(sound | values))


def nan_layer(name: str, model: str = "model", **values: Any) -> LayerRow:
    """The row of a tensor with three NaN: an error, WW101."""
    return layer(name, model, status="failed", reason="nonfinite", has_esd=False, n_nan=3, alpha=None, **values)


def unread(model: str, **values: Any) -> LayerRow:
    """The one row of a file that could not be read."""
    told: dict[str, Any] = {"file": f"{model}.safetensors", "category": "truncated", "message": "12 bytes for 96"}
    return LayerRow(model_id=model, status="error", **(told | values))


def undecoded(name: str, model: str = "model") -> tuple[LayerRow, FindingRow]:
    """The row of a tensor that nobody can read, and the finding that says so."""
    row = layer(name, model, status="skipped", reason="quantized", has_esd=False, alpha=None)
    return row, FindingRow(model_id=model, file=row.file, name=name, category="quantized", where=f"tensor '{name}'", message="I8 codes", inconclusive=True)  # fmt: skip


def audited(
    rows: Sequence[LayerRow], findings: Iterable[FindingRow] = (), policy: Policy | None = None, sources: Iterable[Source] = ()
) -> Result:
    """Rows as an audit of today judges them."""
    files = {row.model_id: FileRow(model_id=row.model_id, file=row.file, status="ok") for row in reversed(rows)}
    result = Result(
        table="layers", rows=tuple(rows), finding_rows=tuple(findings), file_rows=tuple(reversed(files.values())),
        summary=summarize(rows) | {"not_selected": 0}, parameters={"seed": 0}, exit_code=0, sources=tuple(sources),
    )  # fmt: skip
    return judged(result, policy or Policy(), TODAY)
