"""The commands that say what an audit looks for."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class RuleFormat(StrEnum):
    """How rules are printed."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


rules_app = typer.Typer(
    help="What an audit looks for, and how each rule may be wrong.", no_args_is_help=True, rich_markup_mode=None
)
RuleFormatOption = Annotated[RuleFormat, typer.Option("--format", "-f", help="How it is printed.")]


@rules_app.command("list")
def list_rules(output_format: RuleFormatOption = RuleFormat.TEXT) -> None:
    """All rules: code, severity, the first profile that has what it looks at, name, what it reports.

    \b
    ww-static rules list
    ww-static rules list --format json
    """  # noqa: D301
    import json

    from ww_static.rules import telling
    from ww_static.rules.catalogue import RULES

    if output_format is RuleFormat.JSON:
        print(json.dumps([telling.document(rule) for rule in RULES.values()], indent=1))
    else:
        print((telling.listing if output_format is RuleFormat.TEXT else telling.table)(RULES.values()), end="")


@rules_app.command("explain")
def explain_rule(
    code: Annotated[
        str, typer.Argument(metavar="CODE", help="Of the rule, for instance WW101; or its name, for instance non-finite.")
    ],
    output_format: RuleFormatOption = RuleFormat.TEXT,
) -> None:
    """One rule in full: formula, settings, how it may be wrong, what to do about a finding.

    \b
    ww-static rules explain WW104
    """  # noqa: D301
    import json

    from ww_static.rules import telling
    from ww_static.rules.catalogue import rule_meant

    rule = rule_meant(code)
    if output_format is RuleFormat.JSON:
        print(json.dumps(telling.document(rule), indent=1))
    else:
        print((telling.text if output_format is RuleFormat.TEXT else telling.markdown)(rule), end="")
