"""The commands about the program itself: the columns of its results, and the machine it runs on."""

from __future__ import annotations

from typing import Annotated

import typer

from ww_static.commands.options import (
    SchemaFormat,
)
from ww_static.errors import UsageError


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


def doctor() -> None:
    """Versions, BLAS and its threads, memory and processor limits, installed readers; nothing leaves this machine."""
    from ww_static import doctor as checks

    for name, value in checks.report():
        print(f"{name:22} {value}")
