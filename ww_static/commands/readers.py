"""The commands about readers: which are installed, which one recognizes a file."""

from __future__ import annotations

from typing import Annotated

import typer

from ww_static.commands.options import (
    ReadersOption,
    split,
)
from ww_static.errors import escape
from ww_static.workers import starting

readers_app = typer.Typer(
    help="Installed readers, and which one recognizes a file.", no_args_is_help=True, rich_markup_mode=None
)


@readers_app.command("list")
def readers_list() -> None:
    """The installed readers: format, package, version, code."""
    from ww_static import registry

    for entry in registry.installed():
        print(f"{entry.name:16} {entry.package} {entry.version}  {entry.target}")


@readers_app.command("check")
def readers_check(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A model file.")], readers: ReadersOption = None
) -> None:
    """Which reader recognizes a file, and whether its header can be read."""
    starting.begin()
    from ww_static import planning
    from ww_static.models import Source
    from ww_static.options import Options
    from ww_static.plan import Settings
    from ww_static.workers import executors

    settings = Settings(jobs=1, readers=split(readers) or None)
    with executors.hired(1, wait=False) as crew:
        (plan,) = planning.plan_models([Source(path, path, path)], Options(), settings, crew, 1)
    if plan.error is not None:
        raise plan.error
    print(f"{escape(path)}: {plan.reader}, {len(plan.specs)} tensors, {len(plan.findings)} findings")
    for finding in plan.findings:
        print(f"{escape(path)}: {finding.category}: {escape(finding.where)}: {escape(finding.problem)}")
