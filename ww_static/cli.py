"""The command line: parses, calls, prints, exits. Results go to stdout, talk goes to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from ww_static.commands import about, analyze, audit, compare, laws, policy, readers, rules, transforms
from ww_static.errors import INTERRUPTED, FormatError, PolicyError, UsageError, escape
from ww_static.version import __version__

USAGE, UNREADABLE, BUG = 2, 3, 4

_EPILOG = """\
Exit codes: 0 read and analysed; 1 the policy of an audit is violated; 2 usage; 3 something was unreadable, inconclusive, or there
was nothing to analyse; 4 our bug; 130 interrupted."""

app = typer.Typer(
    name="ww-static",
    help="What is inside a model file, without running it: spectra, power-law tails and ranks of serialized weights.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for command in (
    *(analyze.describe, analyze.analyze, audit.audit, compare.compare, compare.trend, transforms.smooth, transforms.sharpen),
    *(laws.calibrate, about.schema, about.doctor),
):
    app.command()(command)
app.add_typer(rules.rules_app, name="rules")
app.add_typer(policy.policy_app, name="policy")
app.add_typer(readers.readers_app, name="readers")
app.add_typer(laws.theory_app, name="theory")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"ww-static {__version__}")
        raise typer.Exit()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits with the documented code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and gives the documented exit code."""
    if sys.stdout is None:  # closed by the caller: there is nobody to talk to
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (it stays open to the end of the program)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    command = typer.main.get_command(app)
    try:
        code = command.main(args=None if arguments is None else list(arguments), prog_name="ww-static", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except PolicyError as error:
        return _say("\n".join(escape(f"{error.path}: {problem}") for problem in error.problems), USAGE)
    except UsageError as error:
        return _say(f"ww-static: {escape(str(error))}", USAGE)
    except FormatError as error:
        return _say(str(error), UNREADABLE)
    except SystemExit:  # how the option parser answers a reader of stdout that has gone: quietly
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at exit
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        place = f"{escape(str(error.filename))}: " if error.filename else ""
        return _say(f"ww-static: {place}{(error.strerror or str(error)).lower()}", UNREADABLE)
    except Exception as error:
        return _click_or_bug(error)


def _click_or_bug(error: Exception) -> int:
    """Usage errors of the option parser have a code and a text of their own; everything else is our bug."""
    code = getattr(error, "exit_code", None)
    if type(error).__name__ == "Abort":
        return INTERRUPTED
    if isinstance(code, int):
        said: Any = error
        if hasattr(said, "show"):
            said.message = escape(said.message)  # an option may be the name of a file, by a glob of the shell
            said.show()
        return code
    if os.environ.get("WW_STATIC_TRACEBACK"):
        raise error
    kind = type(error).__name__
    return _say(f"ww-static: internal error: {kind}: {escape(str(error))}; WW_STATIC_TRACEBACK=1 shows where", BUG)


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code
