"""Whether a file that a policy run would obey lies inside what is audited, where whoever made the models may have put it."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence


def folder_around(path: str, audited: Sequence[str]) -> str | None:
    """The audited folder that a path lies in, or goes through on its way over links; None where there is none.

    Args:
        path: the file.
        audited: paths, folders and glob patterns.
    """
    for folder in _folders(audited):
        tree = os.path.realpath(folder)
        if any(os.path.commonpath([place, tree]) == tree for place in _places(path)):
            return folder
    return None


def _folders(audited: Sequence[str]) -> Iterator[str]:
    for one in audited:
        if "\0" not in one:
            paths = [one] if os.path.lexists(one) or not glob.has_magic(one) else glob.glob(one)
            yield from (path for path in paths if os.path.isdir(path))


def _places(path: str) -> set[str]:
    """Where a path lies, and every link that is followed to open it, each in a folder whose own path has no link."""
    found: set[str] = set()
    left = [os.path.abspath(path)]
    while left:
        above, name = os.path.split(left.pop())
        place = os.path.join(os.path.realpath(above), name)
        if not name or place in found:
            continue
        found.add(place)
        left.append(above)
        if os.path.islink(place):
            left.append(os.path.normpath(os.path.join(os.path.dirname(place), os.readlink(place))))
    return {*found, os.path.realpath(path)}
