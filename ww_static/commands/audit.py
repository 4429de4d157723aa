"""The commands that judge models: parsed, called, printed."""

from __future__ import annotations

import os

from ww_static.commands.options import (
    AuditFormat,
    AuditFormatOption,
    BaselineOption,
    Color,
    ColorOption,
    ExcludeOption,
    FailOnOption,
    FurtherMetricsOption,
    IgnoreOption,
    JobsOption,
    MaxMemoryOption,
    NoBaselineOption,
    NoConfigOption,
    OnInconclusiveOption,
    OnLfsPointersOption,
    OnUnreadableOption,
    OutputOption,
    PathsArgument,
    PolicyOption,
    ProfileOption,
    Progress,
    ProgressOption,
    QuietOption,
    ReadersOption,
    SeedOption,
    SelectOption,
    StrictOption,
    TimeBudgetOption,
    TimeoutOption,
    VerboseOption,
    WriteBaselineOption,
    split,
)
from ww_static.commands.runs import Talk, codes_of, finish, paths_of, settings_of, unheard
from ww_static.workers import starting

UNREADABLE = 3  # the exit code


def audit(
    paths: PathsArgument,
    output_format: AuditFormatOption = AuditFormat.TABLE,
    output: OutputOption = None,
    policy_file: PolicyOption = None,
    no_config: NoConfigOption = False,
    profile: ProfileOption = None,
    fail_on: FailOnOption = None,
    on_unreadable: OnUnreadableOption = None,
    on_inconclusive: OnInconclusiveOption = None,
    on_lfs_pointers: OnLfsPointersOption = None,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    baseline: BaselineOption = None,
    write_baseline: WriteBaselineOption = None,
    no_baseline: NoBaselineOption = False,
    strict: StrictOption = False,
    metrics: FurtherMetricsOption = None,
    exclude: ExcludeOption = None,
    seed: SeedOption = 0,
    jobs: JobsOption = "auto",
    max_memory: MaxMemoryOption = None,
    timeout: TimeoutOption = 30.0,
    time_budget: TimeBudgetOption = None,
    readers: ReadersOption = None,
    progress: ProgressOption = Progress.AUTO,
    color: ColorOption = Color.AUTO,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Judge models by a policy: findings with codes, and one exit code.

    \b
    ww-static audit model.safetensors
    ww-static audit models/ -o audit.sarif -o audit.json
    ww-static audit models/ --policy ww-static.toml --fail-on warn
    """  # noqa: D301  (a backslash b keeps the lines apart)
    starting.begin()
    import json

    from ww_static import auditing, engine, planning
    from ww_static.outputs import delivery
    from ww_static.outputs.progress import display
    from ww_static.policies import discovery
    from ww_static.policies.policy import overridden
    from ww_static.workers import executors

    named = paths_of(paths)
    policy = overridden(
        discovery.chosen(policy_file, None if no_config else os.getcwd(), named), profile=profile, fail_on=fail_on,
        on_unreadable=on_unreadable, on_inconclusive=on_inconclusive, on_lfs_pointers=on_lfs_pointers,
        select=codes_of(select, "--select"), ignore=split(ignore),
    )  # fmt: skip
    options = auditing.options_of(policy.profile, split(metrics), seed)
    memory = policy.limits.memory if max_memory is None else max_memory
    budget = policy.limits.seconds if time_budget is None else time_budget
    settings = settings_of(jobs, memory, readers, timeout, budget)
    delivery.check_outputs(output, output_format.value, audited=True)
    delivery.check_baseline(write_baseline)
    before = auditing.baseline_of(baseline, no_baseline, policy, named, json.loads(options.canonical()), strict)
    lines = delivery.Lines(lasting=True) if output_format is AuditFormat.JSONL and not output else None
    crew_of = executors.hired(engine.most_workers(settings, options), wait=False)
    with unheard(UNREADABLE), crew_of as crew, display(progress.value, quiet) as shown:
        sources = planning.locate(named, settings, crew, exclude or ())
        delivery.prepare(output, output_format.value)
        result = auditing.audit_sources(
            sources, policy, options, settings, crew, progress=shown, on_row=lines, keep_partial=True, baseline=before
        )
    with unheard(result.exit_code or 0):  # a gate that opens when its reader goes away would be none
        delivery.write_baseline(result, write_baseline)
        if lines is not None:
            lines.finish(result)
        finish(result, sources, Talk(output, output_format, progress, color, quiet, verbose), printed=lines is not None)
