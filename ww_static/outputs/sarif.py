"""The findings of an audit as SARIF 2.1.0 (OASIS, errata 01): what code scanning services read.

Deterministic: no clock, no host, no absolute path. Keys without a value are omitted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ww_static.errors import escape
from ww_static.models import Source
from ww_static.outputs.placing import from_here, inside, sources_of, uri
from ww_static.rows import FindingRow
from ww_static.rules.catalogue import RULES
from ww_static.rules.rule import SEVERITIES, Rule
from ww_static.tables import Tables
from ww_static.version import __version__

MOST_RESULTS = 5000  # services take or show no more of one run
_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {"error": "error", "warn": "warning", "info": "note", "off": "none"}
_BASELINES = {"new": "new", "changed": "updated", "unchanged": "unchanged", "fixed": "absent"}
_ROOT = "%SRCROOT%"
_INDEX = {code: number for number, code in enumerate(sorted(RULES))}


def log(result: Tables) -> dict[str, Any]:
    """A judged result as a SARIF log of one run."""
    found = sorted(result.finding_rows, key=lambda one: SEVERITIES.index(one.severity or "info"))
    kept = found[:MOST_RESULTS]
    sources = sources_of(result)
    suppressions = any(one.suppressed is not None for one in found)
    run = {
        "tool": {
            "driver": {"name": "ww-static", "version": __version__, "rules": [_descriptor(RULES[code]) for code in _INDEX]}
        },
        "originalUriBaseIds": {
            _ROOT: {"description": {"text": "The working directory of the audit: the root of the repository."}}
        },
        "invocations": [_invocation(result, sources, len(found) - len(kept))],
        "results": [_result(sources.get(one.model_id), _placed(one, result), suppressions) for one in kept],
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _placed(one: FindingRow, result: Tables) -> FindingRow:
    """A finding about the policy is in its file: services refuse results that are nowhere."""
    if one.file is not None or result.judgement is None or result.judgement.policy.source is None:
        return one
    source = result.judgement.policy.source
    return replace(one, file=inside(source) or os.path.basename(source))


def _descriptor(rule: Rule) -> dict[str, Any]:
    severity = rule.settings().severity
    text = f"{rule.title}.\n\nFound by: {rule.formula}\n\nHow it may be wrong: {rule.wrong}\n\nWhat to do: {rule.fix}"
    configuration = {"level": _LEVELS[severity]} | ({"enabled": False} if severity == "off" else {})
    return {
        "id": rule.code,
        "name": rule.name,
        "shortDescription": {"text": _literal(rule.title)},
        "fullDescription": {"text": _literal(f"{rule.title}: {rule.formula}")},
        "help": {"text": _literal(text)},
        "defaultConfiguration": configuration,
    }


def _result(source: Source | None, one: FindingRow, suppressions: bool) -> dict[str, Any]:
    code = one.code or ""
    found: dict[str, Any] = {
        "ruleId": code,
        "level": _LEVELS[one.severity or "info"],
        "message": {"text": _words(one)},
        # the first is the only one that GitHub reads; it would else make one of the line, the same for all tensors
        "partialFingerprints": {"primaryLocationLineHash": one.fingerprint, "wwStatic/v1": one.fingerprint},
    }
    location = _location(source, one)
    if location:
        found["locations"] = [location]
    if code in _INDEX:
        found["ruleIndex"] = _INDEX[code]
    if one.baseline is not None:
        found["baselineState"] = _BASELINES[one.baseline]
    if suppressions:  # the standard wants it at all results or at none
        found["suppressions"] = [] if one.suppressed is None else [_suppression(one.suppressed)]
    return found


def _suppression(reason: str) -> dict[str, Any]:
    return {"kind": "external", "status": "accepted", "justification": escape(reason)}


def _location(source: Source | None, one: FindingRow) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if one.file is not None:
        place = {"uri": uri(from_here(source, one.file)), "uriBaseId": _ROOT}
        found["physicalLocation"] = {"artifactLocation": place, "region": {"startLine": 1}}
    if one.name is not None:
        found["logicalLocations"] = [{"fullyQualifiedName": tensor(one)}]
    return found


def tensor(one: FindingRow) -> str:
    """The tensor of a finding, with the part of it, escaped."""
    return escape(one.name or "") + (f" [{escape(one.part)}]" if one.part else "")


def _words(one: FindingRow) -> str:
    place = f"tensor '{tensor(one)}'" if one.name is not None else escape(one.where or "")
    return _literal(": ".join(part for part in (place, escape(one.message or "")) if part))


def _literal(text: str) -> str:
    """Text of a message in which nothing is a link or a placeholder (sections 3.11.5 and 3.11.6)."""
    return text.replace("{", "{{").replace("}", "}}").replace("](", "]\\x28")


def _invocation(result: Tables, sources: Mapping[str | None, Source], cut: int) -> dict[str, Any]:
    unread = [one for one in result.finding_rows if one.outcome in ("unreadable", "internal_error")]
    notes = [_notification(sources.get(one.model_id), one) for one in unread[:MOST_RESULTS]]
    if cut:
        words = f"{cut} further results are left out; the other formats have them all"
        notes.append({"level": "warning", "message": {"text": words}})
    found: dict[str, Any] = {"executionSuccessful": not unread and not result.interrupted, "exitCode": result.exit_code}
    if result.judgement is not None and result.judgement.reasons:
        found["exitCodeDescription"] = ", ".join(result.judgement.reasons)
    return found | ({"toolExecutionNotifications": notes} if notes else {})


def _notification(source: Source | None, one: FindingRow) -> dict[str, Any]:
    location = _location(source, one)
    found: dict[str, Any] = {"level": "error", "message": {"text": _words(one)}, "descriptor": {"id": one.category or ""}}
    return found | ({"locations": [location]} if location else {})
