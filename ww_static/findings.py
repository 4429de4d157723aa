"""Rows about files: what a file gave away, what its values show, which files there were."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from ww_static.dtypes import storage_dtype
from ww_static.errors import FormatError
from ww_static.models import Source
from ww_static.plan import Plan
from ww_static.protocol import Finding
from ww_static.rows import FileRow, FindingRow, LayerRow

# Reasons of skipped rows that leave something unread, so that the file cannot pass as clean. A failed row always does,
# unless its values were read and are not finite.
INCONCLUSIVE = frozenset(
    (
        "quantized",
        "unsupported_dtype",
        "unsupported_rank",
        "unsupported_layout",
        "limit",
        "memory_limit",
        "time_limit",
        "interrupted",
        "no_data",
        "no_pair",
        "shape_mismatch",
    )
)
# Findings of readers about parts of a file that they left out.
_LEFT_OUT = INCONCLUSIVE | {
    "unsafe_pickle", "unsupported", "corrupt", "size_mismatch", "truncated", "crc_mismatch", "bomb", "missing_part", "unread_part",
}  # fmt: skip
# Of a factor without its other half these leave something unread; of a tensor that a base does not have they say all there is.
_UNPAIRED = ("no_pair", "shape_mismatch")
_BLOB = re.compile(r"/blobs/([0-9a-f]{64})$")
_LINKS = ("path_escape", "unsafe_link")
_EMPTY = ("nothing_to_analyse", "no_tensors")
# Reasons that are worth a finding: reason -> its category.
_FOUND = {
    "quantized": "quantized", "integer_tensor": "non_float", "memory_limit": "budget_exceeded", "nonfinite": "nonfinite",
    "zero_matrix": "degenerate", "constant_esd": "degenerate",
}  # fmt: skip


def plan_findings(plan: Plan) -> list[FindingRow]:
    """What the file itself gave away."""
    return [
        FindingRow(
            model_id=plan.source.model_id, file=plan.source.shown, name=finding.tensor, category=finding.category,
            where=finding.where, message=finding.problem, inconclusive=_leaves_out(finding),
        )
        for finding in plan.findings
    ]  # fmt: skip


def _leaves_out(finding: Finding) -> bool:
    """Whether something is unread because of it: a link that leads out of the file is, when a tensor would be behind it."""
    return finding.category in _LEFT_OUT or (finding.category in _LINKS and finding.tensor is not None)


def planned_findings(plan: Plan) -> list[FindingRow]:
    """What the header alone shows: tensors that nobody can read yet, and models with nothing to analyse."""
    rows = [LayerRow(name=view.spec.name, kind=view.kind, kind_source=view.kind_source, status="skipped", reason=view.reason, dtype=view.spec.dtype, shape=view.spec.shape,
                     message=view.message, has_esd=view.reason is None) for view in plan.views]  # fmt: skip
    skipped = [row for row in rows if row.reason is not None and row.reason in INCONCLUSIVE]
    found = row_findings(plan, skipped) if skipped and any(row.has_esd for row in rows) else row_findings(plan, rows)
    return [one for one in found if one.inconclusive and (one.category not in _EMPTY or not any(row.has_esd for row in rows))]


def checksum_findings(plan: Plan, files: Sequence[FileRow]) -> list[FindingRow]:
    """Files of the Hugging Face cache that are not what their names say: a blob is called by the sha256 of its content."""
    found = []
    for identity, row in zip(plan.identities, files, strict=False):
        blob = _BLOB.search(os.path.realpath(identity.path)) if row.sha256 is not None else None
        if blob is not None and blob[1] != row.sha256:
            message = f"the sha256 is {row.sha256}, and the cache has it under {blob[1]}"
            found.append(
                FindingRow(
                    model_id=row.model_id,
                    file=row.file,
                    category="checksum_mismatch",
                    where="",
                    message=message,
                    inconclusive=False,
                )
            )
    return found


def row_findings(plan: Plan, rows: Sequence[LayerRow]) -> list[FindingRow]:
    """What the values of the tensors show, one finding per tensor and category."""
    found: dict[tuple[str | None, str], FindingRow] = {}
    for row in rows:
        category = _category(row)
        if category is None:
            continue
        found.setdefault(
            (row.name, category),
            FindingRow(
                model_id=plan.source.model_id, file=plan.source.shown, name=row.name, category=category,
                where=f"tensor '{row.name}'", message=row.message or _words(row), inconclusive=_inconclusive(row),
            ),
        )  # fmt: skip
    analysed = any(row.has_esd or row.reason in ("nonfinite", "profile") for row in rows)
    if plan.error is None and not analysed:
        found[(None, "nothing_to_analyse")] = _nothing(plan, rows)
    return list(found.values())


def _nothing(plan: Plan, rows: Sequence[LayerRow]) -> FindingRow:
    category = "nothing_to_analyse" if plan.specs else "no_tensors"
    count = len({row.name for row in rows})
    tensors = f"{count} tensor" + ("" if count == 1 else "s")
    words = f"{tensors}, none of them a matrix of at least 2 x 2 after squeezing"
    if any(_inconclusive(row) or row.reason == "size_limit" for row in rows):
        words = f"{tensors}, none of them could be analysed"
    if plan.not_selected and not rows:
        words = f"none of {plan.not_selected} tensors was selected"
    return FindingRow(
        model_id=plan.source.model_id, file=plan.source.shown, category=category, where="", inconclusive=True,
        message=words if plan.specs else "the file holds no tensors",
    )  # fmt: skip


def _inconclusive(row: LayerRow) -> bool:
    if row.status == "failed":
        return row.reason != "nonfinite"
    return row.status == "skipped" and row.reason in INCONCLUSIVE and not _is_without_base(row)


def _is_without_base(row: LayerRow) -> bool:
    """Whether a tensor has nothing in the base that it could be subtracted from."""
    return row.reason in _UNPAIRED and row.kind != "lora_delta"


def _category(row: LayerRow) -> str | None:
    if _inconclusive(row):
        return _FOUND.get(row.reason or "", row.reason)
    if row.reason in _FOUND:
        return _FOUND[row.reason]
    if _is_without_base(row):
        return row.reason
    if "constant_tensor" in (row.warning_codes or ()) or _rank_one(row):
        return "degenerate"
    return None


def _rank_one(row: LayerRow) -> bool:
    """One singular value holds everything but what rounding to the storage dtype leaves."""
    if row.stable_rank is None or row.dtype is None or (row.num_evals or 0) < 2:
        return False
    return row.stable_rank - 1 <= max(storage_dtype(row.dtype).spacing ** 2, 1e-14)


def _words(row: LayerRow) -> str:
    if row.reason == "nonfinite":
        return f"{row.n_nan} NaN and {row.n_inf} infinite of {row.numel} elements"
    if row.reason == "quantized":
        if row.kind_source == "name":
            return f"{row.dtype} codes by their name, without scales beside them"
        return f"{row.dtype} codes with scales beside them, decoder not available in this release"
    if row.reason == "integer_tensor":
        return f"{row.dtype} values are codes or indices, not weights"
    if row.reason == "zero_matrix":
        return "the product s B A is zero" if row.kind == "lora_delta" else "every element is zero"
    if row.reason == "constant_esd":
        return "all eigenvalues are equal"
    if "constant_tensor" in (row.warning_codes or ()):
        return "all elements are equal"
    if _is_without_base(row):
        lacks = "no tensor of this name" if row.reason == "no_pair" else "another shape of it"
        return f"{row.dtype} of shape {list(row.shape or ())}, and the base has {lacks}"
    if row.has_esd:
        return f"rank 1 of {row.num_evals if row.kind == 'lora_delta' else row.M} at the precision of {row.dtype}"
    return f"{row.dtype} of shape {list(row.shape or ())}: {row.reason}"


def error_row(plan: Plan) -> LayerRow:
    """The one row of a model that could not be read."""
    error = plan.error
    assert error is not None
    message = f"{error.where}: {error.problem}" if error.where else error.problem
    return LayerRow(
        model_id=plan.source.model_id, file=plan.source.shown, status="error", category=error.category, message=message
    )


def file_rows(plan: Plan, hashes: Mapping[str, str | BaseException]) -> list[FileRow]:
    """One row per file of a model."""
    source = plan.source
    if plan.error is not None:
        row = error_row(plan)
        return [
            FileRow(model_id=source.model_id, file=source.shown, status="error", category=row.category, message=row.message)
        ]
    folder = os.path.dirname(source.shown)
    held = Counter(os.path.basename(spec.extent.path) if spec.extent is not None else spec.file for spec in plan.specs)
    rows = []
    for identity in plan.identities:
        digest = hashes.get(identity.path)
        error = digest if isinstance(digest, BaseException) else None
        rows.append(
            FileRow(
                model_id=source.model_id,
                file=_shown(identity.path, source, folder),
                nbytes=identity.size,
                sha256=digest if isinstance(digest, str) else None,
                reader=plan.reader,
                tensors=held[os.path.basename(identity.path)],
                status="ok" if error is None else "error",
                category=error.category if isinstance(error, FormatError) else None if error is None else "reader_crash",
                message=None if error is None else str(error),
            )
        )
    return rows


def _shown(path: str, source: Source, folder: str) -> str:
    """A file of a model relative to what the user named; that of a base elsewhere by its name alone."""
    relative = os.path.relpath(path, os.path.dirname(source.path) or ".")
    if source.base is not None and relative.startswith(os.pardir):
        return os.path.basename(path)
    return os.path.normpath(os.path.join(folder, relative))
