"""The object ``audit`` of a JSON document: verdict, reasons, counts, and the policy as it was in effect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ww_static.policies import gate
from ww_static.policies.judgement import Judgement
from ww_static.policies.policy import Policy
from ww_static.policies.standing import Standing, covered, standings, verdict
from ww_static.rows import FileRow, LayerRow

_COUNTS = {"type": "object", "additionalProperties": {"type": "integer"}}
_VERDICT = {"enum": ["passed", "failed", "unread"]}
_SHARE = {"type": ["number", "null"], "minimum": 0, "maximum": 1, "description": "of the bytes of weights, analysed"}
_REASONS = {"type": "array", "items": {"type": "string"}}
_MODEL = {
    "model_id": {"type": ["string", "null"]}, "file": {"type": ["string", "null"]}, "verdict": _VERDICT, "reasons": _REASONS,
    "counts": _COUNTS, "suppressed": {"type": "integer"}, "coverage": _SHARE,
}  # fmt: skip
_AUDIT = {
    "verdict": _VERDICT, "exit": {"type": "integer"}, "reasons": _REASONS, "counts": _COUNTS, "suppressed": {"type": "integer"},
    "profile": {"enum": ["fast", "full"]}, "policy": {"type": "object", "required": sorted(Policy.__struct_fields__)},
    "coverage": _SHARE, "baseline": {"oneOf": [{"type": "null"}, _COUNTS]},
    "models": {"type": "array", "items": {"type": "object", "additionalProperties": False, "required": sorted(_MODEL), "properties": _MODEL}},
}  # fmt: skip


def record(judgement: Judgement, rows: Sequence[LayerRow], files: Sequence[FileRow]) -> dict[str, Any]:
    """What an audit of these rows says, as JSON values; `record_schema` describes it."""
    models = standings(judgement, rows, files)
    return {
        "verdict": verdict(judgement.reasons),
        "exit": judgement.exit_code,
        "reasons": list(judgement.reasons),
        "counts": {severity: judgement.counts.get(severity, 0) for severity in gate.LEVELS},
        "coverage": covered(judgement),
        "suppressed": judgement.suppressed,
        "baseline": judgement.against,
        "profile": judgement.policy.profile,
        "policy": msgspec.to_builtins(judgement.policy),
        "models": [_model(one) for one in models],
    }


def _model(one: Standing) -> dict[str, Any]:
    return {
        "model_id": one.model_id,
        "file": one.file,
        "verdict": one.verdict,
        "reasons": list(one.reasons),
        "counts": one.counts,
        "suppressed": len(one.suppressed),
        "coverage": one.coverage,
    }


def record_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of `record`."""
    return {"type": "object", "additionalProperties": False, "required": sorted(_AUDIT), "properties": _AUDIT}
