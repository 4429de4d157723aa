"""Results as something to read: the terminal table, plain text, Markdown, HTML. Every name is escaped here."""

from __future__ import annotations

import html as html_module
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ww_static.errors import escape
from ww_static.outputs.texts import Line, counted, inert, shortened, wrapped

if TYPE_CHECKING:
    from rich.console import Console

    from ww_static.tables import Tables

NAME_WIDTH = 52
NARROW_NAME = 44
PLAIN_WIDTH = 100  # of output that goes to no terminal
_DISPENSABLE = (
    "dtype",
    "kind_source",
    "log_norm",
    "kind",
    "xmin",
    "orientation",
    "shape",
    "stable_rank",
    "D",
    "alpha_weighted",
    "overlap_r",
    "cka",
    "delta_stable_rank",
)  # in this order
_COUNTS = ("intruders", "k", "removed", "n_tail", "N", "M", "num_evals", "rows")
_MARKDOWN_ROWS = 1000
_OPEN = ("shape_mismatch", "memory_limit", "interrupted")  # why a pair that was not compared is shown


@dataclass(frozen=True, slots=True)
class Shown:
    """A column of a table that people read: field, heading, digits after the point for numbers."""

    field: str
    heading: str
    digits: int | None = None


_LAYERS = (
    Shown("name", "layer"), Shown("kind", "kind"), Shown("shape", "shape"), Shown("dtype", "dtype"),
    Shown("alpha", "alpha", 3), Shown("alpha_ci_lo", "from", 2), Shown("alpha_ci_hi", "to", 2), Shown("gof_p", "p", 2),
    Shown("D", "D", 3), Shown("xmin", "xmin", 4), Shown("n_tail", "tail"),
    Shown("stable_rank", "s-rank", 1), Shown("log_norm", "log norm", 3), Shown("alpha_weighted", "alpha-hat", 3),
    Shown("phase", "phase"), Shown("verdict", "verdict"), Shown("reason", "reason"),
)  # fmt: skip
_TENSORS = (
    Shown("name", "tensor"), Shown("kind", "kind"), Shown("kind_source", "evidence"), Shown("orientation", "axes"),
    Shown("shape", "shape"), Shown("dtype", "dtype"), Shown("N", "N"), Shown("M", "M"), Shown("num_evals", "evals"),
    Shown("rows", "rows"), Shown("status", "status"), Shown("reason", "reason"),
)  # fmt: skip
_CHANGES = (
    Shown("name", "tensor"), Shown("kind", "kind"), Shown("shape", "shape"), Shown("dtype", "dtype"), Shown("status", "status"),
    Shown("k", "k"), Shown("removed", "removed"), Shown("removed_share", "share", 6), Shown("delta_norm", "change", 4),
    Shown("reason", "reason"),
)  # fmt: skip
_PAIRS = (
    Shown("name", "layer"), Shown("kind", "kind"), Shown("shape", "shape"), Shown("dtype", "dtype"), Shown("alpha_old", "alpha old", 3),
    Shown("alpha", "new", 3), Shown("rel_delta", "rel delta", 5), Shown("delta_stable_rank", "s-rank", 1), Shown("cosine", "cosine", 5),
    Shown("overlap_l", "overlap l", 3), Shown("overlap_r", "overlap r", 3), Shown("intruders", "intr."), Shown("cka", "cka", 4),
    Shown("reason", "reason"),
)  # fmt: skip
_TREND = (
    Shown("model_id", "checkpoint"), Shown("accuracy", "accuracy", 4), Shown("alpha", "alpha", 3), Shown("alpha_weighted", "alpha-hat", 3),
    Shown("log_norm", "log norm", 3), Shown("stable_rank", "s-rank", 1), Shown("rel_delta", "rel delta", 5), Shown("d_alpha", "d alpha", 3),
    Shown("cosine", "cosine", 5), Shown("overlap_l", "overlap l", 3), Shown("intruders", "intr."),
)  # fmt: skip
_SHOWN = {"layers": _LAYERS, "tensors": _TENSORS, "trend": _TREND, "pairs": _PAIRS, "changes": _CHANGES}


def shown_columns(result: Tables) -> tuple[Shown, ...]:
    """The columns of the table that people read."""
    if result.table in ("pairs", "trend"):
        return _SHOWN[result.table]
    columns = _SHOWN[result.table]
    if result.table == "layers":
        judged = any(row.verdict is not None for row in result.rows)
        columns = tuple(one for one in _LAYERS if one.field != ("reason" if judged else "verdict"))
    several = len({row.model_id for row in result.rows}) > 1
    return (columns[0], Shown("model_id", "model"), *columns[1:]) if several else columns


def cell(row: Any, column: Shown, width: int = NAME_WIDTH) -> str:
    """One cell as escaped text; names are cut in the middle; a row without a verdict says the reason."""
    field = "reason" if column.field == "verdict" and row.verdict is None else column.field
    value = getattr(row, field)
    if field == "name":
        name = f"{value} [{row.part}]" if getattr(row, "part", None) else (value if value is not None else row.file or "")
        return shortened(escape(name), width)
    if field == "reason" and row.status == "error":
        return escape(f"{row.category}: {row.message}")
    if value is None:
        return ""
    if field == "shape":
        return "x".join(map(str, value)) or "scalar"
    if column.digits is not None and isinstance(value, float):
        return f"{value:.{column.digits}f}" if abs(value) < 1e6 else f"{value:.3e}"
    return escape(str(value))


def visible(result: Tables, everything: bool) -> Sequence[Any]:
    """The rows to show: without `everything`, only the layers that were analysed, failed or could not be read."""
    if result.table == "changes" and not everything:
        return [row for row in result.rows if row.status != "skipped"]
    if result.table == "pairs" and not everything:
        measured = [row for row in result.rows if row.status in ("success", "failed") or row.side or row.reason in _OPEN]
        return measured if any(row.pairing for row in measured) else []
    if everything or result.table != "layers":
        return [row for row in result.rows if row.status != "error"]  # errors have a line of their own on stderr
    return [row for row in result.rows if row.status in ("success", "failed") or row.reason == "memory_limit"]


def findings_lines(result: Tables) -> list[str]:
    """One line per finding: file, category, place, fact."""
    return [
        ": ".join(escape(part) for part in (row.file, row.category, row.where, row.message) if part)
        for row in result.finding_rows
    ]


def footer(result: Tables) -> list[str]:
    """What was counted: analysed, failed, skipped by reason, means, alphas by range, phases and verdicts."""
    summary = result.summary
    if result.table == "changes":
        words = [f"{summary[status]} {status}" for status in ("changed", "unchanged", "failed") if summary[status]]
        return [f"{counted(len(result.rows), 'row')}: " + ", ".join(words) + _reasons(summary["skipped"])]
    if result.table == "pairs":
        return _pairs_footer(summary)
    if result.table == "trend":
        return _trend_footer(summary)
    if result.table == "tensors":
        planned = [row for row in result.rows if row.status == "planned"]
        unread = sum(row.status == "error" for row in result.rows)
        line = f"{counted(len(result.rows) - unread, 'tensor')}, {len(planned)} to analyse{_reasons(summary['skipped'])}"
        largest = max((row.memory_bytes for row in planned), default=0)
        cost = f"about {summary['flops'] / 1e9:.3g} Gflop, {largest / 2**20:.3g} MiB for the largest matrix"
        return [line + (f", {counted(unread, 'file')} unreadable" if unread else ""), *([cost] if planned else [])]
    parts = [f"{counted(len(result.rows), 'row')}: {summary['analysed']} analysed, {summary['with_alpha']} with alpha"]
    for key, word in (("n_failed", "failed"), ("errors", "unreadable"), ("not_selected", "not selected")):
        if summary.get(key):
            parts.append(f"{summary[key]} {word}")
    lines = [", ".join(parts) + _reasons(summary["skipped"])]
    alpha = summary["metrics"]["alpha"]
    if alpha["n"]:
        weighted = summary["metrics"]["alpha_weighted"]["mean"]
        lines.append(
            f"alpha: mean {alpha['mean']:.3f}, median {alpha['median']:.3f} over {alpha['n']}; alpha-hat: mean {weighted:.3f}"
        )
        below, to_4, to_6, above = summary["alpha_counts"].values()
        flow = summary["correlation_flow"]
        steps = f"; from layer to layer {flow['roughness']:.3f} apart" if flow and flow["n"] > 1 else ""
        lines.append(f"alpha below 2: {below}, 2 to 4: {to_4}, 4 to 6: {to_6}, above 6: {above}{steps}")
    for name in ("phases", "verdicts"):
        if summary[name]:
            lines.append(f"{name}: " + ", ".join(f"{word} {count}" for word, count in summary[name].items()))
    return lines


def _pairs_footer(summary: dict[str, Any]) -> list[str]:
    """The counts of a comparison, and both models side by side."""
    alone = summary["unpaired"]
    parts = [
        f"{counted(summary['paired'], 'pair')}: {summary['measured']} compared, {summary['identical']} identical, {summary['changed']} changed"
    ]
    parts += [f"{alone[side]} in the {side} model only" for side in ("old", "new") if alone.get(side)]
    lines = [", ".join(parts) + _reasons(summary["not_measured"], "not compared")]
    if not summary["paired"]:
        lines.append("nothing pairs: both models side by side")
    table = [("", "old", "new"), *_side_by_side((summary["old"], summary["new"]))]
    widths = [max(len(line[place]) for line in table) for place in range(3)]
    return lines + [f"{name:{widths[0]}}  {a:>{widths[1]}}  {b:>{widths[2]}}" for name, a, b in table]


def _trend_footer(summary: dict[str, Any]) -> list[str]:
    """How many checkpoints there are, and how their means go with the accuracies."""
    lines = [counted(summary["checkpoints"], "checkpoint")]
    for name, found in (summary["accuracy"] or {}).items():
        parts = [f"{name} against accuracy, n {found['n']}:"]
        for word in ("spearman", "kendall"):
            one = found[word]
            interval = f" [{one['low']:.2f}, {one['high']:.2f}]" if one["low"] is not None else ""
            parts.append(
                f"{word} {one['value']:.2f}{interval}" if one["value"] is not None else f"{word} null ({one['reason']})"
            )
        lines.append(" ".join(parts))
    return lines


def _side_by_side(both: tuple[dict[str, Any], dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Lines of two summaries: counts, means, the histogram of alpha."""

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}"

    lines = [
        ("layers analysed", *(str(one["analysed"]) for one in both)),
        ("with alpha", *(str(one["with_alpha"]) for one in both)),
    ]
    for name in ("alpha", "alpha_weighted", "log_norm", "stable_rank"):
        lines.append((f"mean {name}", *(number(one["metrics"][name]["mean"]) for one in both)))
    lines.append(("median alpha", *(number(one["metrics"]["alpha"]["median"]) for one in both)))
    for key in both[0]["alpha_counts"]:
        lines.append((f"alpha {key.replace('_', ' ')}", *(str(one["alpha_counts"][key]) for one in both)))
    edges, bins = both[0]["alpha_histogram"]["edges"], [one["alpha_histogram"]["counts"] for one in both]
    for low, high, *of_both in zip(edges, edges[1:], *bins, strict=False):
        if any(of_both):
            lines.append((f"alpha from {low:g} to {high:g}", *map(str, of_both)))
    for phase in sorted({*both[0]["phases"], *both[1]["phases"]}):
        lines.append((phase, *(str(one["phases"].get(phase, 0)) for one in both)))
    return [(name, a, b) for name, a, b in lines]


def _reasons(skipped: dict[str, int], word: str = "skipped") -> str:
    if not skipped:
        return ""
    listed = ", ".join(f"{reason} {count}" for reason, count in skipped.items())
    return f", {sum(skipped.values())} {word} ({listed})"


def terminal(result: Tables, console: Console, everything: bool = False) -> None:
    """The table on a terminal: findings first, then the rows, then the counts; of an audit the rows only with `everything`."""
    from rich.text import Text

    def put(lines: Sequence[Line]) -> None:
        for line in lines:
            text = wrapped(line.text, console.width, line.indent) if line.indent else line.text
            console.print(Text(text), style=line.style, soft_wrap=True)

    counts = [Line(line) for line in footer(result)]
    if result.judgement is not None:
        from ww_static.outputs import audit_page

        put(audit_page.lines(result, everything))
        if not everything:
            return put([replace(counts[0], indent=2), *audit_page.closing(result)])
        counts += audit_page.closing(result)
    else:
        put([Line(line, "yellow") for line in findings_lines(result)])
    columns = shown_columns(result)
    rows = visible(result, everything)
    if rows:
        head, *body = _lines(console.width, rows, columns)
        console.print(Text(head, style="bold"), soft_wrap=True)
        console.out("\n".join(body), highlight=False)
    put(counts)


def _lines(width: int, rows: Sequence[Any], columns: Sequence[Shown]) -> list[str]:
    """The heading and one line per row, in aligned columns. By hand: a table of rich takes a second per 1,500 rows."""
    from rich.cells import cell_len

    used, room = _fitted(width, [[cell(row, one, NAME_WIDTH) for one in columns] for row in rows], columns)
    grid = [[one.heading for one in used], *([cell(row, one, room) for one in used] for row in rows)]
    widths = [max(cell_len(line[place]) for line in grid) for place in range(len(used))]
    right = [one.digits is not None or one.field in _COUNTS for one in used]
    lines = []
    for line in grid:
        blanks = [" " * (wide - cell_len(text)) for text, wide in zip(line, widths, strict=True)]
        padded = [blank + text if flush else text + blank for text, blank, flush in zip(line, blanks, right, strict=True)]
        lines.append("  ".join(padded).rstrip())
    return lines


def _fitted(width: int, cells: Sequence[Sequence[str]], columns: Sequence[Shown]) -> tuple[list[Shown], int]:
    """The columns that say something and leave room for the names, and that room."""
    widths = {one: max(len(line[place]) for line in cells) for place, one in enumerate(columns)}
    used = [one for one in columns if widths[one]]
    widths = {one: max(len(one.heading), wide) for one, wide in widths.items()}
    longest = widths[columns[0]]
    for field in (*_DISPENSABLE, None):
        room = width - sum(2 + widths[one] for one in used[1:])
        if room >= min(longest, NARROW_NAME) or field is None:
            break
        used = [one for one in used if one.field != field]
    return used, max(16, min(longest, NAME_WIDTH, room))


def plain_text(result: Tables) -> str:
    """The same table as plain text, 100 columns, no color."""
    import io

    from rich.console import Console

    out = io.StringIO()
    terminal(result, Console(file=out, width=PLAIN_WIDTH, color_system=None, force_terminal=False, legacy_windows=False))
    return out.getvalue()


def markdown(result: Tables) -> str:
    """A Markdown table for step summaries and reviews: findings, the first rows, the counts."""
    if result.judgement is not None:
        from ww_static.outputs import audit_page

        return audit_page.markdown(result, footer(result)[:1])
    lines = [f"- {inert(line)}" for line in findings_lines(result)]
    columns = shown_columns(result)
    rows = visible(result, False)
    if rows:
        lines += ["", "| " + " | ".join(one.heading for one in columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(inert(cell(row, one)) for one in columns) + " |" for row in rows[:_MARKDOWN_ROWS]]
    if len(rows) > _MARKDOWN_ROWS:
        lines += ["", f"{len(rows) - _MARKDOWN_ROWS} further rows are not shown."]
    return "\n".join([*lines, "", *(inert(line) for line in footer(result))]).lstrip("\n") + "\n"


def html(result: Tables) -> str:
    """An escaped table for notebooks; no script, no style sheet, no request."""
    columns = shown_columns(result)
    head = "".join(f"<th>{html_module.escape(one.heading)}</th>" for one in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html_module.escape(cell(row, one))}</td>" for one in columns) + "</tr>"
        for row in visible(result, False)
    )
    if result.judgement is not None:
        from ww_static.outputs import audit_page

        before, after = audit_page.lines(result, False), [*footer(result), *(line.text for line in audit_page.closing(result))]
        opening = "".join(f"<p>{html_module.escape(line.text)}</p>" for line in before)
    else:
        opening, after = "", [*findings_lines(result), *footer(result)]
    notes = "".join(f"<p>{html_module.escape(line)}</p>" for line in after)
    return f"{opening}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"
