"""`python -m ww_static` and `ww-static`: the command line, quiet when it is interrupted before it has begun."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Loads and runs the command line."""
    _hold_standard_streams()
    try:
        from ww_static.workers import starting

        sys.meta_path.insert(0, starting.NoPandas())
        if starting.reads_files(sys.argv[1:]):
            starting.begin()
        from ww_static.cli import run

        starting.leave(run())
    except KeyboardInterrupt:
        sys.exit(130)


def _hold_standard_streams() -> None:
    """Puts /dev/null where the caller closed stdin, stdout or stderr, so that no pipe of ours takes their numbers."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free


if __name__ == "__main__":
    main()
