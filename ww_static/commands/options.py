"""The options that commands share, each declared once: name, type, help."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Format(StrEnum):
    """What stdout gets."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    MARKDOWN = "markdown"
    PARQUET = "parquet"
    ARROW = "arrow"


class AuditFormat(StrEnum):
    """What stdout gets of an audit."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    MARKDOWN = "markdown"
    SARIF = "sarif"
    JUNIT = "junit"
    GITHUB = "github"
    PARQUET = "parquet"
    ARROW = "arrow"


class ListingFormat(StrEnum):
    """How a small table of numbers is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class Progress(StrEnum):
    """When progress is shown on stderr."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Color(StrEnum):
    """When stdout gets colors."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class SchemaFormat(StrEnum):
    """How a schema is printed."""

    TEXT = "text"
    JSON = "json"
    ARROW = "arrow"
    MARKDOWN = "markdown"


class TextFormat(StrEnum):
    """How a page is printed."""

    TEXT = "text"
    JSON = "json"


class Profile(StrEnum):
    """What an audit computes."""

    FAST = "fast"
    FULL = "full"


class FailOn(StrEnum):
    """The least severity that makes the exit code of an audit 1."""

    NEVER = "never"
    WARN = "warn"
    ERROR = "error"


class Unread(StrEnum):
    """What an audit makes of something that it could not read."""

    FAIL = "fail"
    WARN = "warn"


PathsArgument = Annotated[
    list[str], typer.Argument(metavar="PATH...", help="Files, folders, globs, or - for a list of paths on stdin.")
]
FormatOption = Annotated[Format, typer.Option("--format", "-f", help="What stdout gets.")]
AuditFormatOption = Annotated[
    AuditFormat, typer.Option("--format", "-f", help="What stdout gets; github: annotations of a workflow.")
]
ListingFormatOption = Annotated[ListingFormat, typer.Option("--format", "-f", help="What stdout gets.")]
TextFormatOption = Annotated[TextFormat, typer.Option("--format", "-f", help="What stdout gets.")]
OutputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write to FILE, by suffix, or to all tables in DIR/; repeatable; silences stdout.",
    ),
]
LayersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--layers", metavar="PATTERN", help="Shell glob on the tensor name, or a regular expression after re:; repeatable."
    ),
]
KindsOption = Annotated[
    str | None, typer.Option("--kinds", metavar="KIND,...", help="Only these kinds, for instance attention,embedding.")
]
MinEvalsOption = Annotated[
    int | None, typer.Option("--min-evals", metavar="N", help="Skip rows with fewer eigenvalues (default: no fit below 8).")
]
MaxEvalsOption = Annotated[int | None, typer.Option("--max-evals", metavar="N", help="Skip rows with more eigenvalues.")]
ConvOption = Annotated[
    str,
    typer.Option(
        "--conv", metavar="pooled|slices|flatten", help="Kernel taps pooled in one row, one row per tap, or one flat matrix."
    ),
]
ReadersOption = Annotated[
    str | None, typer.Option("--readers", metavar="NAME,...", help="Use only these readers; nothing else is loaded.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="On stderr only the files that could not be read.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Every row in the table, skipped tensors too.")]
ColorOption = Annotated[Color, typer.Option("--color", help="When stdout gets colors.")]

MetricsOption = Annotated[
    str,
    typer.Option(
        "--metrics",
        metavar="GROUP,...",
        help="Column groups: default, tail, alternatives, randomize, vectors, bootstrap, gof, esd, all.",
    ),
]
FurtherMetricsOption = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="GROUP,...",
        help="Column groups beside those of the profile, e.g. bootstrap: an interval for drift.",
    ),
]
EsdNormOption = Annotated[str, typer.Option("--esd-norm", metavar="none|1/N", help="Eigenvalues of W^T W, or divided by N.")]
EsdOption = Annotated[str, typer.Option("--esd", metavar="none|f64|f32", help="Keep eigenvalues and their curves in the rows.")]
FitOption = Annotated[
    str,
    typer.Option(
        "--fit", metavar="PL|TPL|E_TPL", help="Law of alpha: power law, or with a cut-off, from anywhere or from the peak on."
    ),
]
XmaxOption = Annotated[
    int, typer.Option("--xmax", metavar="-K", help="Leave out the K largest eigenvalues before the tail is fitted.")
]
TopKOption = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        metavar="K",
        help="Only the K largest eigenvalues; where there are over 4 K by Lanczos, for sparse matrices.",
    ),
]
CrossCheckOption = Annotated[
    str,
    typer.Option(
        "--cross-check", metavar="none|powerlaw", help="Fit every tail once more with the powerlaw package, an extra."
    ),
]
BaseOption = Annotated[
    str | None,
    typer.Option(
        "--base", metavar="FILE", help="The model these were made from: rows of W - W_base; of an adapter, W_base + s B A too."
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision", metavar="exact|fast", help="float64; or float32 from 512 columns on: tail and norms only, twice as fast."
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
RandomizeOption = Annotated[
    bool,
    typer.Option(
        "--randomize",
        help="Compare with 5, 3 or 1 permuted copies of each matrix, the first with all its eigenvalues; a group of columns.",
    ),
]
FullReplicasOption = Annotated[
    bool, typer.Option("--full-replicas", help="All eigenvalues of every permuted copy, not of the first one only.")
]
VectorsOption = Annotated[
    bool,
    typer.Option(
        "--vectors",
        help="How localized the eigenvectors of bulk and tail are: all vectors of each matrix, no fit; a group of columns.",
    ),
]
BootstrapOption = Annotated[
    bool,
    typer.Option(
        "--bootstrap", help="How much alpha varies over 200 samples of the eigenvalues: 200 fits; a group of columns."
    ),
]
GofOption = Annotated[
    bool,
    typer.Option(
        "--gof", help="Test the tail against 100 samples of the fitted power law, for a verdict: 101 fits; a group of columns."
    ),
]
JobsOption = Annotated[
    str,
    typer.Option(
        "--jobs", "-j", metavar="N|auto", help="Most worker processes, one BLAS thread each; fewer when memory is short."
    ),
]
BlasThreadsOption = Annotated[
    int,
    typer.Option(
        "--blas-threads",
        metavar="N",
        help="BLAS threads of each worker, for a lone huge matrix on an idle machine; more than 1 change the last bits.",
    ),
]
MaxMemoryOption = Annotated[
    str | None, typer.Option("--max-memory", metavar="SIZE", help="Private memory of all processes together, e.g. 600MiB.")
]
TimeoutOption = Annotated[
    float,
    typer.Option("--timeout", metavar="SECONDS", help="How long a file may keep a worker busy beyond what its size explains."),
]
TimeBudgetOption = Annotated[
    float | None,
    typer.Option(
        "--time-budget",
        metavar="SECONDS",
        help="Begin no spectrum that would not end in time; what is left out says time_limit and is inconclusive.",
    ),
]
PolicyOption = Annotated[
    str | None,
    typer.Option("--policy", metavar="FILE", help="Obey this file, not the nearest ww-static.toml or pyproject.toml upwards."),
]
NoConfigOption = Annotated[bool, typer.Option("--no-config", help="Obey no file: the defaults and these options.")]
ProfileOption = Annotated[Profile | None, typer.Option("--profile", help="What is computed (default: full).")]
FailOnOption = Annotated[
    FailOn | None, typer.Option("--fail-on", help="The least severity that makes the exit code 1 (default: error).")
]
OnUnreadableOption = Annotated[
    Unread | None,
    typer.Option("--on-unreadable", help="A file that could not be read: exit code 3, or a warning (default: fail)."),
]
OnInconclusiveOption = Annotated[
    Unread | None,
    typer.Option(
        "--on-inconclusive",
        help="What nobody could look at, not what is wrong: exit code 3, or a warning (default: fail).",
    ),
]
OnLfsPointersOption = Annotated[
    Unread | None,
    typer.Option("--on-lfs-pointers", help="A file that Git LFS has not fetched: exit code 3, or a warning (default: fail)."),
]
SelectOption = Annotated[str | None, typer.Option("--select", metavar="CODE,...", help="Only these rules.")]
IgnoreOption = Annotated[str | None, typer.Option("--ignore", metavar="CODE,...", help="All but these rules.")]
BaselineOption = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        metavar="PATH",
        help="An earlier result, .json or .parquet, or an older model: what it has does not fail, what drifted since does.",
    ),
]
WriteBaselineOption = Annotated[
    str | None,
    typer.Option("--write-baseline", metavar="FILE", help="Write the result as a baseline, .json, whatever the exit code."),
]
NoBaselineOption = Annotated[bool, typer.Option("--no-baseline", help="Use no baseline, even if the policy names one.")]
StrictOption = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="A baseline of other options or of another major version, or none, is an error, before anything is read.",
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="PATTERN", help="Shell glob on paths below a folder that are left out; repeatable."),
]
ProgressOption = Annotated[Progress, typer.Option("--progress", help="When progress is shown on stderr.")]


def split(text: str | None) -> tuple[str, ...]:
    """The words of a list with commas."""
    return tuple(part for piece in (text or "").split(",") if (part := piece.strip()))
