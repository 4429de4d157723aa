"""Rows and a policy in, findings with codes and an exit code out: the audit itself, a pure function."""

from __future__ import annotations

import datetime
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ww_static.policies import baselines, gate, suppressions
from ww_static.policies.baselines import Baseline
from ww_static.policies.policy import Policy
from ww_static.rows import FileRow, FindingRow, LayerRow
from ww_static.rules.aggregates import exceeded
from ww_static.rules.bookkeeping import coverage
from ww_static.rules.catalogue import RULES
from ww_static.rules.rule import Evidence, Found, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What an audit says.

    Attributes:
        findings: in the order of the models, the gravest first.
        exit_code: 0, 1, 3, 4 or 130.
        reasons: why it is not 0; all that apply.
        policy: by which it was judged.
        counts: findings by severity, without the suppressed ones.
        suppressed: how many are.
        coverage: of each model, the bytes of weights that were analysed, and of those that nobody could.
        against: findings by their status against the baseline: new, changed, unchanged, fixed; None without a baseline.
    """

    findings: tuple[FindingRow, ...]
    exit_code: int
    reasons: tuple[str, ...]
    policy: Policy
    counts: dict[str, int]
    suppressed: int
    coverage: dict[str | None, tuple[float, float]]
    against: dict[str, int] | None = None


def judge(
    rows: Sequence[LayerRow],
    findings: Sequence[FindingRow],
    files: Sequence[FileRow],
    policy: Policy,
    today: datetime.date,
    baseline: Baseline | None = None,
    parameters: Mapping[str, Any] = MappingProxyType({}),
    interrupted: bool = False,
) -> Judgement:
    """What a policy makes of the rows of a run on a day, which decides what has expired.

    Args:
        rows, findings, files: of the run.
        policy: what is wrong, and how wrong.
        today: the day.
        baseline: what the run is compared with.
        parameters: the options of the run, to hold against those of the baseline.
        interrupted: whether the run was stopped before its end.
    """
    models = evidences(rows, findings, files)
    if baseline is not None:
        baseline = baselines.spelled(baseline, models)
        models = baselines.set_beside(models, baseline, parameters)
    found = [suppressions.suppressed(one, policy, today) for evidence in models for one in _of_model(evidence, policy)]
    if policy.severity("WW090") != "off":
        nothing = Evidence(None, None, ())
        stale = suppressions.stale(policy, models, found, today, parameters)
        found += [_row(nothing, RULES["WW090"], one, policy.severity("WW090")) for one in stale]
    if baseline is not None:
        found = baselines.marked(
            found, _earlier(baseline, policy, today), models, baseline, not baseline.differences(parameters)
        )
    why = gate.reasons(found, policy, len(models), interrupted)
    statuses = Counter(one.baseline for one in found)
    return Judgement(
        findings=tuple(found),
        exit_code=gate.exit_code(why),
        reasons=why,
        policy=policy,
        counts=dict(Counter(one.severity or "" for one in found if one.suppressed is None and one.baseline != "fixed")),
        suppressed=sum(one.suppressed is not None for one in found),
        coverage={one.model_id: coverage(one) for one in models},
        against=None if baseline is None else {status: statuses[status] for status in baselines.STATUSES},
    )


def _earlier(baseline: Baseline, policy: Policy, today: datetime.date) -> list[FindingRow]:
    """The findings of a baseline that the policy of today still looks for; of one that was never judged, what it makes of its rows."""
    found = baseline.findings
    if not baseline.audited:
        found = judge(baseline.rows, baseline.findings, baseline.files, policy, today).findings
    return [one for one in found if one.code in RULES and policy.severity(one.code) != "off"]


def evidences(rows: Sequence[LayerRow], findings: Sequence[FindingRow], files: Sequence[FileRow]) -> list[Evidence]:
    """The rows of a run by model, in the order of the run."""
    models: dict[str | None, tuple[list[LayerRow], list[FindingRow], list[FileRow]]] = {}
    for layer in rows:
        models.setdefault(layer.model_id, ([], [], []))[0].append(layer)
    for finding in findings:
        models.setdefault(finding.model_id, ([], [], []))[1].append(finding)
    for file in files:
        models.setdefault(file.model_id, ([], [], []))[2].append(file)
    return [_evidence(model, *tables) for model, tables in models.items()]


def _evidence(
    model: str | None, rows: Sequence[LayerRow], findings: Sequence[FindingRow], files: Sequence[FileRow]
) -> Evidence:
    shown = [row.file for row in files] + [row.file for row in rows]
    return Evidence(model, shown[0] if shown else None, tuple(rows), tuple(findings))


def _of_model(evidence: Evidence, policy: Policy) -> list[FindingRow]:
    kinds = {row.name: row.kind for row in (*(evidence.before or ()), *evidence.rows)}
    found = []
    for code, rule in RULES.items():
        settings, severity = policy.rules[code], policy.severity(code)
        limits = policy.aggregate if severity != "off" else ()
        defects = exceeded(evidence, limits) if code == "WW210" else rule.check(evidence, settings)
        for one in defects:
            shown = severity if severity == "off" else one.severity or severity
            if one.outcome != "violation":  # no setting of a rule hides what is unread: the gate and suppressions may
                shown = severity if severity != "off" else rule.settings().severity
            elif shown == "off" or (settings.kinds and one.name is not None and kinds.get(one.name) not in settings.kinds):
                continue
            found.append(_row(evidence, rule, one, gate.softened(code, one.category, one.outcome, shown, policy)))
    return sorted(found, key=lambda one: (-gate.LEVELS[one.severity or "info"], one.code or ""))


def _row(evidence: Evidence, rule: Rule, found: Found, severity: str) -> FindingRow:
    return FindingRow(
        model_id=evidence.model_id, file=found.file or evidence.file, name=found.name, part=found.part, code=rule.code, severity=severity,
        category=found.category or rule.name, where=found.where or "", message=found.message, metric=found.metric, value=found.value,
        limit=found.limit, inconclusive=found.outcome != "violation", outcome=found.outcome, fingerprint=fingerprint(evidence.model_id, rule.code, found),
    )  # fmt: skip


def fingerprint(model: str | None, code: str, found: Found) -> str:
    """What a finding is known by from run to run: model, tensor, part and code, and the place in a file; no value."""
    place = found.where if found.name is None else ""
    words = (model or "", code, found.name or "", found.part or "", place or "")
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogatepass")).hexdigest()[:32]
