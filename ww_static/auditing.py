"""The function that Python users call to audit models, and the result that the command prints."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

from ww_static import against, engine, planning
from ww_static.api import Paths, analyze_sources, paths_of, settings_of, texts
from ww_static.errors import UsageError, escape
from ww_static.models import Source
from ww_static.options import Options
from ww_static.plan import Settings
from ww_static.policies import stored
from ww_static.policies.baselines import Baseline
from ww_static.policies.judgement import judge
from ww_static.policies.loading import load, verified
from ww_static.policies.policy import Policy
from ww_static.protocol import Limits
from ww_static.results import Result
from ww_static.rows import LayerRow
from ww_static.rules.rule import FAST_M
from ww_static.workers import executors

PROFILES = {
    "fast": Options(max_m=FAST_M),
    "full": Options(metrics=("default", "randomize")),
}


def options_of(profile: str, metrics: Sequence[str] = (), seed: int = 0) -> Options:
    """What a profile computes, and further groups of columns."""
    chosen = PROFILES[profile]
    return replace(chosen, metrics=(*chosen.metrics, *metrics), seed=seed)


def audit(
    paths: Paths | Result,
    *,
    policy: Policy | str | os.PathLike[str] | None = None,
    baseline: str | os.PathLike[str] | None = None,
    strict: bool = False,
    metrics: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    seed: int = 0,
    jobs: int | str = 1,
    max_memory: int | str | None = None,
    readers: Sequence[str] | None = None,
    limits: Limits | None = None,
    timeout: float = 30.0,
    time_budget: float | None = None,
    executor: Executor | None = None,
    progress: Callable[[engine.Progress], None] | None = None,
) -> Result:
    """Models judged by a policy: findings with codes, and an exit code.

    Args:
        paths: files, folders or glob patterns; or a `Result` of `analyze` of all layers, which is judged as it is.
        policy: a file, or what one makes; None for the defaults. No file is searched for.
        baseline: what to compare with: an earlier result (the JSON document of an audit or an analysis, or a layers table as Parquet), or
            one older model (any other file, or a folder), which is then analysed, too, and in the profile ``full`` compared view by view.
        strict: a baseline of other options, or of another major version, is an error; so is none.
        metrics: groups of columns beside those of the profile, for instance ``bootstrap``, which gives drift of alpha an interval.
        exclude: shell globs on paths below a folder that are left out.
        seed, jobs, max_memory, readers, limits, timeout, time_budget, executor, progress: as for `analyze`.

    Returns:
        The layer rows; `findings` are those of the audit, `judgement` and `exit_code` what they mean.

    Raises:
        PolicyError: the policy means nothing.
        UsageError: an option means nothing.
        FormatError: the baseline is a model that cannot be read.
    """
    chosen = Policy() if policy is None else verified(policy) if isinstance(policy, Policy) else load(os.fspath(policy))
    named = [one.root for one in paths.sources if one.root is not None] if isinstance(paths, Result) else paths_of(paths)
    options = options_of(chosen.profile, texts(metrics), seed)
    asked = paths.parameters if isinstance(paths, Result) else json.loads(options.canonical())
    before = baseline_of(None if baseline is None else os.fspath(baseline), False, chosen, named, asked, strict)
    if isinstance(paths, Result):
        if paths.table != "layers":
            raise UsageError(f"an audit judges the rows of an analysis, not a table of {paths.table}")
        if any(paths.parameters.get(name) for name in ("layers", "kinds")) or paths.summary.get("not_selected"):
            raise UsageError(
                "the result is of a part of its models (layers or kinds were chosen), and an audit judges all of a model: "
                "analyze it without them, and accept what is known by suppressions"
            )
        if isinstance(before, str):
            raise UsageError(
                f"the baseline '{escape(before)}' is a model, and a result has no weights to compare with it: audit the file"
            )
        return judged(paths, chosen, datetime.date.today(), before)
    memory = chosen.limits.memory if max_memory is None else max_memory
    budget = chosen.limits.seconds if time_budget is None else time_budget
    settings = settings_of(jobs, memory, readers, limits, timeout, budget)
    with executors.hired(engine.most_workers(settings, options), executor) as crew:
        sources = planning.locate(named, settings, crew, texts(exclude))
        return audit_sources(sources, chosen, options, settings, crew, progress=progress, baseline=before)


def baseline_of(
    named: str | None, without: bool, policy: Policy, paths: Sequence[str], parameters: Mapping[str, Any], strict: bool
) -> Baseline | str | None:
    """The baseline of a run: a result, read and checked before anything else is; or the path of a model, which is read with the others.

    Args:
        named: the path, when the command names one.
        without: whether one of the policy is passed over.
        policy, paths, parameters: of the run.
        strict: refuse one of other options, and none.

    Raises:
        UsageError: it is none, or may not be used.
    """
    path = stored.chosen(named, without, policy, paths)
    if strict and path is None:
        raise UsageError(
            "--strict is about a baseline, and there is none; name one with --baseline PATH, or leave --strict out"
        )
    if path is None or stored.is_model(path):
        return path
    baseline = stored.read(path)
    if strict:
        stored.refuse_other_options(baseline, parameters)
    return baseline


def audit_sources(
    sources: Sequence[Source],
    policy: Policy,
    options: Options,
    settings: Settings,
    executor: Executor,
    *,
    progress: Callable[[engine.Progress], None] | None = None,
    on_row: Callable[[LayerRow], None] | None = None,
    keep_partial: bool = False,
    baseline: Baseline | str | None = None,
) -> Result:
    """`audit` for models that are already located."""
    if isinstance(baseline, str):
        result, baseline = against.analyze_against(
            sources, baseline, options, settings, executor, vectors=policy.profile == "full" and policy.severity("WW304") != "off",
            progress=progress, on_row=on_row, keep_partial=keep_partial,
        )  # fmt: skip
    else:
        result = analyze_sources(
            sources, options, settings, executor, progress=progress, on_row=on_row, keep_partial=keep_partial
        )
    return judged(result, policy, datetime.date.today(), baseline)


def judged(result: Result, policy: Policy, today: datetime.date, baseline: Baseline | None = None) -> Result:
    """What a policy makes of the result of an analysis, and of what it was before."""
    tables = result.rows, result.finding_rows, result.file_rows
    judgement = judge(*tables, policy, today, baseline, result.parameters, result.interrupted)
    return replace(result, finding_rows=judgement.findings, exit_code=judgement.exit_code, judgement=judgement)
