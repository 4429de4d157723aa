"""`python -m ww_static` and `ww-static`: the command line, quiet when it is interrupted before it has begun."""

from __future__ import annotations

import sys


def main() -> None:
    """Loads and runs the command line."""
    try:
        from ww_static.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
