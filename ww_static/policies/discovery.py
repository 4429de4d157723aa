"""Which policy a run obeys: the one that is named, else the nearest upwards from a folder, unless it lies in what is audited."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from ww_static.errors import UsageError
from ww_static.policies import loading
from ww_static.policies.audited import folder_around
from ww_static.policies.policy import Policy

NAME = "ww-static.toml"


def chosen(named: str | None, start: str | None, audited: Sequence[str] = ()) -> Policy:
    """The policy of a run, before its options.

    Args:
        named: the file that the user named.
        start: the folder to search from, upwards, when none was named; None gives the defaults.
        audited: paths, folders and glob patterns that are to be judged by it.

    Raises:
        PolicyError: the file cannot be obeyed.
        UsageError: a policy was found, and whoever made what is audited may have put it there.
    """
    if named is not None and start is None:
        raise UsageError("--policy names a file and --no-config asks for none; use one of them")
    if named is not None:
        return loading.load(named)
    path = None if start is None else found(start)
    if path is None:
        return Policy()
    shown = os.path.relpath(path, start)
    folder = folder_around(path, audited)
    if folder is not None:
        raise UsageError(
            f"the policy '{shown}' lies inside '{folder}', which is to be audited: whoever made that folder could silence "
            f"every finding with it; obey it with --policy {shown}, or use none with --no-config"
        )
    return loading.load(path, shown=shown)


def found(start: str) -> str | None:
    """The nearest policy file: a ``ww-static.toml`` before a ``pyproject.toml`` with a table, in `start`, in the folder above
    it, and so on to the root of the repository, or of the file system where there is none.

    Raises:
        PolicyError: a ``pyproject.toml`` on the way cannot be read.
    """
    for folder in _upwards(os.path.realpath(start)):
        own, shared = os.path.join(folder, NAME), os.path.join(folder, loading.PYPROJECT)
        if os.path.lexists(own):
            return own
        if os.path.lexists(shared) and loading.tables(shared, os.path.relpath(shared, start)) is not None:
            return shared
    return None


def _upwards(folder: str) -> Iterator[str]:
    while True:
        yield folder
        above = os.path.dirname(folder)
        if above == folder or os.path.lexists(os.path.join(folder, ".git")):
            return
        folder = above
