"""The commands about policies: check one, show what is in force, write a commented one, its schema."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ww_static.commands.options import (
    FailOnOption,
    IgnoreOption,
    NoConfigOption,
    OnInconclusiveOption,
    OnLfsPointersOption,
    OnUnreadableOption,
    PolicyOption,
    ProfileOption,
    SelectOption,
    TextFormat,
    TextFormatOption,
    split,
)
from ww_static.errors import UsageError, escape

policy_app = typer.Typer(
    help="The policy of audits: check it, show what is in force, write one.", no_args_is_help=True, rich_markup_mode=None
)


@policy_app.command("check")
def policy_check(
    path: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="A policy file; without it the nearest one upwards is checked.")
    ] = None,
) -> None:
    """Check a policy file, and say what it holds; exit code 2 with every problem when it means nothing.

    \b
    ww-static policy check
    ww-static policy check ww-static.toml
    """  # noqa: D301
    import datetime

    from ww_static.policies import discovery

    policy = discovery.chosen(path, os.getcwd())
    if policy.source is None:
        print(
            f"no policy: no {discovery.NAME} and no pyproject.toml with [tool.ww-static] from here upwards; the defaults hold"
        )
        return
    today = datetime.date.today()
    rules = sorted({key.split(".")[1] for key in policy.origins if key.startswith("rules.")})
    print(f"{escape(policy.source)}: valid; values that are set: {len(policy.origins)}")
    print(f"rules: {', '.join(rules) or 'none'}; aggregates: {len(policy.aggregate)}; suppressions: {len(policy.suppress)}")
    for number, one in enumerate(policy.suppress):
        if one.expires is not None and one.expires <= today:
            print(f"suppress[{number}] of {one.code} expired on {one.expires}: it no longer holds")


@policy_app.command("show")
def policy_show(
    policy_file: PolicyOption = None,
    no_config: NoConfigOption = False,
    profile: ProfileOption = None,
    fail_on: FailOnOption = None,
    on_unreadable: OnUnreadableOption = None,
    on_inconclusive: OnInconclusiveOption = None,
    on_lfs_pointers: OnLfsPointersOption = None,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    output_format: TextFormatOption = TextFormat.TEXT,
) -> None:
    """Every value that an audit from here with these options would obey, and where it comes from.

    \b
    ww-static policy show
    ww-static policy show --policy ww-static.toml --fail-on warn --format json
    """  # noqa: D301
    from ww_static.policies import discovery, effective
    from ww_static.policies.policy import overridden

    policy = overridden(
        discovery.chosen(policy_file, None if no_config else os.getcwd()), profile=profile, fail_on=fail_on,
        on_unreadable=on_unreadable, on_inconclusive=on_inconclusive, on_lfs_pointers=on_lfs_pointers,
        select=split(select), ignore=split(ignore),
    )  # fmt: skip
    print(effective.document(policy) if output_format is TextFormat.JSON else effective.text(policy), end="")


@policy_app.command("init")
def policy_init(
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Write it to FILE, which must not exist yet.")
    ] = None,
) -> None:
    """A policy file that changes nothing yet: every rule and its default, as comments.

    \b
    ww-static policy init -o ww-static.toml
    """  # noqa: D301
    from ww_static.policies import template

    text = template.commented()
    if output is None:
        print(text, end="")
        return
    try:
        with open(output, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UsageError(f"output '{output}': it exists; name another file, or remove this one") from error
    except OSError as error:
        raise UsageError(f"output '{output}': {(error.strerror or str(error)).lower()}") from error


@policy_app.command("schema")
def policy_schema() -> None:
    """The JSON Schema of the policy file, for editors and checks of your own."""
    import json

    from ww_static.policies import template

    print(json.dumps(template.json_schema(), indent=1, sort_keys=True))
