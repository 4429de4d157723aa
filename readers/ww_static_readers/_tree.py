"""From the object that a pickle describes to named tensors: names joined with dots, each one once, no recursion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from ww_static.errors import LimitError
from ww_static.protocol import Limits
from ww_static_readers._pickle_nodes import Opaque
from ww_static_readers._torch_values import Array, Tensor

# Where a pickled module keeps its tensors: no part of their names.
_TRANSPARENT = ("_parameters", "_buffers", "_modules")
_CONTAINERS = (dict, list, tuple, Opaque)
# A key and what stands above it: joined only for tensors.
_Path: TypeAlias = "tuple[_Path, str] | None"


def named_tensors(root: Any, where: str, limits: Limits) -> Iterator[tuple[str, Tensor | Array]]:
    """Every tensor below `root` with a name that no other has, in the order of the file.

    A container that is reached twice, or contains itself, is walked once.

    Raises:
        LimitError: ``limit``; containers are nested too deeply, or the names are too long or too many.
    """
    taken: set[str] = set()
    letters = 0
    for path, value in _leaves(root, where, limits):
        letters += len(path)
        name = wanted = path.encode("utf-8", "backslashreplace").decode("utf-8")
        count = 1
        while name in taken:
            count += 1
            name = f"{wanted}#{count}"
        taken.add(name)
        if len(taken) > limits.tensors:
            raise LimitError("limit", where, f"more than {limits.tensors} tensors")
        if letters > limits.header_bytes:
            raise LimitError("limit", where, f"names of more than {limits.header_bytes} characters together")
        yield name, value


def _leaves(root: Any, where: str, limits: Limits) -> Iterator[tuple[str, Tensor | Array]]:
    seen: set[int] = set()
    waiting: list[tuple[_Path, Any, int]] = [(None, root, 0)]
    while waiting:
        path, value, depth = waiting.pop()
        if isinstance(value, Tensor | Array):
            yield _joined(path, where, limits), value
        elif isinstance(value, _CONTAINERS) and id(value) not in seen:
            seen.add(id(value))
            if depth > limits.pickle_nesting:
                raise LimitError("limit", where, f"more than {limits.pickle_nesting} containers inside each other")
            inner = [
                (path if key is None else (path, key), one, depth + 1)
                for key, one in _children(value)
                if isinstance(one, (*_CONTAINERS, Tensor, Array))
            ]
            waiting.extend(reversed(inner))


def _joined(path: _Path, where: str, limits: Limits) -> str:
    """The name that a path means; only tensors get one, so that a long key above many of them costs nothing."""
    if path is None:
        return "tensor"
    keys = []
    while path is not None:
        path, key = path
        keys.append(key)
    length = sum(len(key) + 1 for key in keys)
    if length > limits.header_bytes:
        raise LimitError("limit", where, f"a name of {length} characters, limit {limits.header_bytes}")
    return ".".join(reversed(keys))


def _children(value: Any) -> Iterator[tuple[Any, Any]]:
    """Keys and values; a key of None adds nothing to the name."""
    if isinstance(value, dict):
        yield from ((_shown(key, place), one) for place, (key, one) in enumerate(value.items()))
    elif isinstance(value, list | tuple):
        yield from ((str(place), one) for place, one in enumerate(value))
    else:
        yield from ((None, one) for one in (value.arguments, *value.states) if isinstance(one, Opaque | Tensor | Array))
        yield from _of_tuple(value.arguments)
        for state in value.states:
            for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
                yield from _of_state(part)
        yield from ((str(place) if key is None else _shown(key, place), one) for place, (key, one) in enumerate(value.parts))


def _of_tuple(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, tuple | list):
        yield from ((None if len(value) == 1 else str(place), one) for place, one in enumerate(value))


def _of_state(state: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(state, dict):
        for place, (key, one) in enumerate(state.items()):
            yield (None if key in _TRANSPARENT else _shown(key, place)), one
    else:
        yield from _of_tuple(state)


def _shown(key: Any, place: int) -> str:
    if isinstance(key, str):
        return key
    return str(key) if isinstance(key, int | float | None) and abs(key or 0) < 2**64 else f"<key {place}>"
