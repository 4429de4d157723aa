"""The command line: parses, calls, prints, exits. Results go to stdout, talk goes to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from ww_static.commands import audit as cli_audit
from ww_static.commands import compare as cli_compare
from ww_static.commands import laws as cli_laws
from ww_static.commands import policy as cli_policy
from ww_static.commands import rules as cli_rules
from ww_static.commands import transforms as cli_transforms
from ww_static.commands.options import (
    BaseOption,
    BlasThreadsOption,
    BootstrapOption,
    Color,
    ColorOption,
    ConvOption,
    CrossCheckOption,
    EsdNormOption,
    EsdOption,
    FitOption,
    Format,
    FormatOption,
    FullReplicasOption,
    GofOption,
    JobsOption,
    KindsOption,
    LayersOption,
    MaxEvalsOption,
    MaxMemoryOption,
    MetricsOption,
    MinEvalsOption,
    OutputOption,
    PathsArgument,
    PrecisionOption,
    Progress,
    ProgressOption,
    QuietOption,
    RandomizeOption,
    ReadersOption,
    SchemaFormat,
    SeedOption,
    TimeBudgetOption,
    TimeoutOption,
    TopKOption,
    VectorsOption,
    VerboseOption,
    XmaxOption,
    split,
)
from ww_static.commands.runs import Talk, finish, paths_of, settings_of
from ww_static.errors import INTERRUPTED, FormatError, PolicyError, UsageError, escape
from ww_static.version import __version__
from ww_static.workers import starting

if TYPE_CHECKING:
    from ww_static.options import Options
    from ww_static.plan import Settings

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
readers_app = typer.Typer(
    help="Installed readers, and which one recognizes a file.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(readers_app, name="readers")
app.add_typer(cli_laws.theory_app, name="theory")
app.add_typer(cli_policy.policy_app, name="policy")
app.command()(cli_laws.calibrate)
app.command()(cli_transforms.smooth)
app.command()(cli_transforms.sharpen)
app.command()(cli_audit.audit)
app.add_typer(cli_rules.rules_app, name="rules")
app.command()(cli_compare.compare)
app.command()(cli_compare.trend)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"ww-static {__version__}")
        raise typer.Exit()


@app.command()
def analyze(
    paths: PathsArgument,
    output_format: FormatOption = Format.TABLE,
    output: OutputOption = None,
    metrics: MetricsOption = "default",
    layers: LayersOption = None,
    kinds: KindsOption = None,
    min_evals: MinEvalsOption = None,
    max_evals: MaxEvalsOption = None,
    conv: ConvOption = "pooled",
    esd_norm: EsdNormOption = "none",
    esd: EsdOption = "none",
    fit: FitOption = "PL",
    xmax: XmaxOption = 0,
    top_k: TopKOption = None,
    cross_check: CrossCheckOption = "none",
    base: BaseOption = None,
    precision: PrecisionOption = "exact",
    randomize: RandomizeOption = False,
    full_replicas: FullReplicasOption = False,
    vectors: VectorsOption = False,
    bootstrap: BootstrapOption = False,
    gof: GofOption = False,
    seed: SeedOption = 0,
    jobs: JobsOption = "auto",
    blas_threads: BlasThreadsOption = 1,
    max_memory: MaxMemoryOption = None,
    timeout: TimeoutOption = 30.0,
    time_budget: TimeBudgetOption = None,
    readers: ReadersOption = None,
    progress: ProgressOption = Progress.AUTO,
    color: ColorOption = Color.AUTO,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Analyze the weights of models: one row per layer.

    \b
    ww-static analyze model.safetensors
    ww-static analyze model.safetensors -o layers.parquet
    ww-static analyze models/ --kinds attention --format json | jq .summary
    """  # noqa: D301  (a backslash b keeps the lines apart)
    starting.begin()
    from ww_static.options import Options

    flags = {"randomize": randomize, "vectors": vectors, "bootstrap": bootstrap, "gof": gof}
    options = Options(
        metrics=(*split(metrics), *(group for group, asked in flags.items() if asked)), layers=tuple(layers or ()), kinds=split(kinds),
        min_evals=min_evals, max_evals=max_evals, conv=conv, esd_norm=esd_norm, esd=esd, fit=fit, xmax=xmax, top_k=top_k, cross_check=cross_check, precision=precision, seed=seed,
        full_replicas=full_replicas, blas_threads=blas_threads,
    )  # fmt: skip
    settings = settings_of(jobs, max_memory, readers, timeout, time_budget)
    _analyze(paths, base, options, settings, Talk(output, output_format, progress, color, quiet, verbose))


def _analyze(paths: Sequence[str], base: str | None, options: Options, settings: Settings, talk: Talk) -> NoReturn:
    """What `analyze` does when its options are known."""
    from ww_static import api, engine, planning
    from ww_static.outputs import delivery
    from ww_static.outputs.progress import display
    from ww_static.workers import executors

    delivery.check_outputs(talk.output, talk.output_format.value)
    named = paths_of(paths)
    lines = delivery.Lines() if talk.output_format is Format.JSONL and not talk.output else None
    crew_size = engine.most_workers(settings, options)
    delivery.prepare(talk.output, talk.output_format.value)  # now, while the first worker is being started, a processor is free
    with executors.hired(crew_size, wait=False) as crew, display(talk.progress.value, talk.quiet) as shown:
        sources = planning.locate(named, settings, crew)
        if base is not None:
            sources, options = api.on_base(base, sources, options, settings, crew)
        result = api.analyze_sources(sources, options, settings, crew, progress=shown, on_row=lines, keep_partial=True)
    if lines is not None:
        lines.finish(result)
    finish(result, sources, talk, printed=lines is not None)


@app.command()
def describe(
    paths: PathsArgument,
    output_format: FormatOption = Format.TABLE,
    output: OutputOption = None,
    metrics: MetricsOption = "default",
    layers: LayersOption = None,
    kinds: KindsOption = None,
    min_evals: MinEvalsOption = None,
    max_evals: MaxEvalsOption = None,
    conv: ConvOption = "pooled",
    timeout: TimeoutOption = 30.0,
    readers: ReadersOption = None,
    progress: ProgressOption = Progress.AUTO,
    color: ColorOption = Color.AUTO,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """List the tensors of models from their headers: kinds, shapes, what would be analysed, why not, at which cost.

    \b
    ww-static describe model.safetensors
    ww-static describe model.safetensors.index.json --format csv
    ww-static describe model.safetensors --metrics all --format json | jq .summary.flops
    """  # noqa: D301
    starting.begin()
    from ww_static import api, engine, planning
    from ww_static.options import Options
    from ww_static.outputs import delivery
    from ww_static.outputs.progress import display
    from ww_static.workers import executors

    options = Options(
        metrics=split(metrics), layers=tuple(layers or ()), kinds=split(kinds), min_evals=min_evals, max_evals=max_evals, conv=conv
    )  # fmt: skip
    delivery.check_outputs(output, output_format.value)
    settings = settings_of("auto", None, readers, timeout)
    named = paths_of(paths)
    with executors.hired(engine.most_workers(settings, options), wait=False) as crew, display(progress.value, quiet) as shown:
        sources = planning.locate(named, settings, crew)
        delivery.prepare(output, output_format.value)
        result = api.describe_sources(sources, options, settings, crew, progress=shown)
    finish(result, sources, Talk(output, output_format, progress, color, quiet, verbose))


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


@app.command()
def schema(
    table: Annotated[
        str,
        typer.Argument(
            metavar="layers|tensors|pairs|trend|changes|findings|files|document|all|explain", help="Which table, or explain."
        ),
    ] = "layers",
    column: Annotated[str | None, typer.Argument(metavar="COLUMN", help="With explain: the column.")] = None,
    output_format: Annotated[SchemaFormat, typer.Option("--format", "-f", help="How it is printed.")] = SchemaFormat.TEXT,
) -> None:
    """The columns of the results, with units and definitions; or one column explained.

    \b
    ww-static schema layers
    ww-static schema explain alpha_hill
    """  # noqa: D301
    import json

    from ww_static import rows
    from ww_static import schema as schemas

    if table == "explain":
        return _explain(column, output_format)
    if column is not None:
        raise UsageError(f"'{column}': a column is named after explain only")
    if table not in (*rows.TABLES, "document", "all"):
        raise UsageError(f"table '{table}' is not known; known are: {', '.join(rows.TABLES)}, document, all, explain")
    tables = list(rows.TABLES) if table in ("document", "all") else [table]
    if output_format is SchemaFormat.JSON:
        wanted = schemas.row_schema(table) if table in rows.TABLES else schemas.document_schema()
        print(json.dumps(wanted, indent=1, sort_keys=True))
    elif output_format is SchemaFormat.MARKDOWN:
        print(schemas.markdown(), end="")
    else:
        for name in tables:
            print(f"{name}:" if len(tables) > 1 else "", end="\n" if len(tables) > 1 else "")
            print(schemas.arrow_schema(name) if output_format is SchemaFormat.ARROW else _columns_text(name))


def _explain(column: str | None, output_format: SchemaFormat) -> None:
    import json

    from ww_static import explaining

    if column is None:
        raise UsageError("which column is to be explained, for instance `ww-static schema explain alpha`")
    found = explaining.explain(column)
    if output_format is SchemaFormat.JSON:
        print(json.dumps(explaining.document(found), indent=1))
    elif output_format is SchemaFormat.TEXT:
        print(explaining.text(found))
    else:
        raise UsageError(f"an explanation is printed as text or json, not {output_format.value}")


def _columns_text(table: str) -> str:
    from ww_static import schema as schemas

    lines = []
    for one in schemas.columns(table):
        unit = f" [{one.unit}]" if one.unit not in ("", "1") else ""
        lines.append(f"{one.name:22} {one.type:20} {one.doc}{unit}")
    return "\n".join(lines)


@app.command()
def doctor() -> None:
    """Versions, BLAS and its threads, memory and processor limits, installed readers; nothing leaves this machine."""
    from ww_static import doctor as checks

    for name, value in checks.report():
        print(f"{name:22} {value}")


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
