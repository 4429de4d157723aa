"""Where each model of an audit stands: its verdict, the reasons, and how many findings it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ww_static.policies import gate
from ww_static.policies.judgement import Judgement
from ww_static.rows import FileRow, FindingRow, LayerRow

_VERDICTS = {0: "passed", 1: "failed"}


@dataclass(frozen=True, slots=True)
class Standing:
    """One model of an audit.

    Attributes:
        model_id: None for findings that are about no model, such as those about the policy itself.
        file: as results show it.
        reasons: why it does not pass; empty when it does.
        findings: what counts, the gravest first.
        suppressed: what the policy accepts.
        coverage: share of the bytes of its weights that was analysed; None where there are none.
    """

    model_id: str | None
    file: str | None
    reasons: tuple[str, ...]
    findings: tuple[FindingRow, ...]
    suppressed: tuple[FindingRow, ...]
    coverage: float | None

    @property
    def verdict(self) -> str:
        """``passed``, ``failed`` by the policy, or ``unread`` when something could not be judged."""
        return verdict(self.reasons)

    @property
    def counts(self) -> dict[str, int]:
        """Findings by severity."""
        found = Counter(one.severity or "" for one in self.findings)
        return {severity: found[severity] for severity in gate.LEVELS}


def verdict(reasons: Iterable[str]) -> str:
    """The word for what an exit code of these reasons means."""
    return _VERDICTS.get(gate.exit_code(reasons), "unread")


def standings(judgement: Judgement, rows: Sequence[LayerRow], files: Sequence[FileRow]) -> tuple[Standing, ...]:
    """Every model of a run in its order, and what is about no model at the end."""
    first: dict[str | None, str | None] = {}
    known: tuple[FileRow | LayerRow, ...] = (*files, *rows)
    for row in known:
        first.setdefault(row.model_id, row.file)
    grouped: dict[str | None, list[FindingRow]] = {model: [] for model in first}
    for one in judgement.findings:
        grouped.setdefault(one.model_id, []).append(one)
    return tuple(_standing(model, first.get(model), found, judgement) for model, found in grouped.items())


def covered(judgement: Judgement) -> float | None:
    """The share of the bytes of all weights that was analysed; None where there are none."""
    return _share(judgement.coverage.values())


def _share(parts: Iterable[tuple[float, float]]) -> float | None:
    known = list(parts)
    total = sum(analysed + left_out for analysed, left_out in known)
    return sum(analysed for analysed, _ in known) / total if total else None


def _standing(model: str | None, file: str | None, found: Sequence[FindingRow], judgement: Judgement) -> Standing:
    return Standing(
        model,
        file or next((one.file for one in found), None),
        gate.reasons(found, judgement.policy, 1),
        tuple(one for one in found if one.suppressed is None and one.baseline != "fixed"),
        tuple(one for one in found if one.suppressed is not None),
        _share([judgement.coverage[model]] if model in judgement.coverage else []),
    )
