"""Attention of Keras: the four projections of a layer are `[D, H, d]` and `[H, d, D]`, if their shapes agree to that.

The names of the projections alone prove nothing: a layer of another author may call a kernel `query_dense` and order its axes
in its own way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

# Query, key, value and output, as their groups are called; Keras 3 also writes them with an underscore before them.
_FORMS = (("query_dense", "key_dense", "value_dense", "output_dense"), ("query", "key", "value", "attention_output"))
_NUMBERS = re.compile(r"(?:_\d+)+$")
_INPUTS, _OUTPUT = ("in", "out", "out"), ("in", "in", "out")


def is_projection(part: str) -> bool:
    """Whether a group of this name may hold one of the four."""
    return any(_bare(part) in form for form in _FORMS)


def axes_of(inner: Sequence[str], tail: str, shapes: Mapping[str, tuple[int, ...]], known: bool) -> tuple[str, ...] | None:
    """The axes of the kernel of a projection; None when the shapes beside it do not agree.

    Args:
        inner: path of the group of the projection.
        tail: what follows in the path of the kernel.
        shapes: path of every tensor -> its shape.
        known: whether the class of the layer is one of Keras; then nothing must speak against it, else query and output
            must be there and fit.
    """
    part = inner[-1]
    bare = _bare(part)
    form = next(form for form in _FORMS if bare in form)
    above = "/".join(inner[:-1])
    beside = [shapes.get(f"{above}/{part.replace(bare, name, 1)}/{tail}".lstrip("/")) for name in form]
    if any(shape is not None and len(shape) != 3 for shape in beside) or not _agree(beside, known):
        return None
    return _OUTPUT if bare == form[-1] else _INPUTS


def _bare(part: str) -> str:
    return _NUMBERS.sub("", part).lstrip("_")


def _agree(beside: Sequence[tuple[int, ...] | None], known: bool) -> bool:
    """Query `[D, H, d]`, key `[D', G, d]`, value `[D'', G, e]`, output `[H, e, D]`, where G divides H."""
    query, key, value, output = beside
    if not known and (query is None or output is None or query[0] != output[2] or query[0] == query[1]):
        return False  # with as many heads as inputs, nobody can tell which axis is which
    heads = query[1] if query else output[0] if output else None
    size = value[2] if value else query[2] if query and not known else None
    groups = [shape[1] for shape in (key, value) if shape]
    return (
        (query is None or output is None or query[1] == output[0])
        and (query is None or key is None or query[2] == key[2])
        and (output is None or size is None or output[1] == size)
        and len(set(groups)) < 2
        and all(group > 0 and (heads is None or heads % group == 0) for group in groups)
    )
