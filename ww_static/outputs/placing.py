"""Where a file of a result lies, seen from the working directory: the name that annotations of a repository need."""

from __future__ import annotations

import os
from urllib.parse import quote

from ww_static.errors import utf8
from ww_static.models import Source
from ww_static.tables import Tables


def sources_of(result: Tables) -> dict[str | None, Source]:
    """The models of a run by name."""
    return {one.model_id: one for one in result.sources}


def from_here(source: Source | None, file: str) -> str:
    """A file relative to the working directory, with forward slashes; as it is when it lies elsewhere.

    Args:
        source: the model that it belongs to; None when nobody knows.
        file: relative to what was named, as results have it.
    """
    if source is None:
        return file
    path = source.path
    if file != source.shown:
        beside = os.path.relpath(file, os.path.dirname(source.shown) or ".")
        path = os.path.join(os.path.dirname(source.path), beside)
    return inside(path) or file


def inside(path: str) -> str | None:
    """A path relative to the working directory, with forward slashes; None when it leads elsewhere."""
    path = os.path.relpath(path)
    return None if path.split(os.sep)[0] == os.pardir else path.replace(os.sep, "/")


def uri(path: str) -> str:
    """A relative path as a URI reference: percent-encoded bytes."""
    return quote(utf8(path) if _lone(path) else os.fsencode(path))


def _lone(path: str) -> bool:
    """Whether a path holds surrogates that stand for no byte."""
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return True
    return False
