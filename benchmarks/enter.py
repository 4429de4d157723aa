"""Enters what a benchmark printed into a page: `python -m benchmarks.NAME | python -m benchmarks.enter docs/performance.md NAME`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Passes stdin on to stdout, then puts it between the marks of the page; 2 when there is nothing, or no such place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, help="a Markdown file")
    parser.add_argument("name", help="of the place: <!-- measured NAME --> to <!-- end of NAME -->")
    arguments = parser.parse_args()
    lines = []
    for line in sys.stdin:
        print(line, end="", flush=True)
        lines.append(line.rstrip())
    try:
        text = entered(arguments.page.read_text(encoding="utf-8"), arguments.name, "\n".join(lines))
    except ValueError as error:
        print(f"{arguments.page}: {error}", file=sys.stderr)
        return 2
    arguments.page.write_text(text, encoding="utf-8")
    return 0


def entered(page: str, name: str, measured: str) -> str:
    """The page with something else between the marks of a name.

    Raises:
        ValueError: nothing was measured, or the page has no such place.
    """
    if "|---|" not in measured:
        raise ValueError("no table was printed, nothing is entered")
    start, stop = f"<!-- measured {name} -->\n", f"<!-- end of {name} -->"
    before, mark, rest = page.partition(start)
    _, end, after = rest.partition(stop)
    if not (mark and end):
        raise ValueError(f"no place for '{name}'")
    return f"{before}{mark}\n{measured.strip()}\n\n{end}{after}"


if __name__ == "__main__":
    sys.exit(main())
