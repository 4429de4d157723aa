"""From the object that a pickle describes to named tensors: names joined with dots, each one once, no recursion.

What the object says about a tensor beside its name comes along: the class of the module that holds it, and whether it
belongs to a second set of weights (an average of a model that stands beside the model).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from ww_static.errors import LimitError
from ww_static.protocol import Limits
from ww_static_readers._pickle_nodes import Opaque
from ww_static_readers._torch_values import Array, Tensor, Wrapper
from ww_static_readers._unique import UniqueNames

# Where a pickled module keeps its tensors and its parts: no part of their names.
_OWN = ("_parameters", "_buffers")
_TRANSPARENT = (*_OWN, "_modules")
_AGAIN = "_flat_weights"  # where a recurrent module lists its own parameters once more
_CONTAINERS = (dict, list, tuple, Opaque, Wrapper)
_VALUES = (Tensor, Array)
# Modules of torch, eager, quantized or as TorchScript calls them (``__torch__.torch.nn.modules.conv.___torch_mangle_5``).
_MODULES = re.compile(r"(?:__torch__\.)?torch\.(?:ao\.)?nn\.[\w.]+")
# Class of a module -> what its tensor `weight` is used for.
_ROLES = {
    "Linear": "dense", "NonDynamicallyQuantizableLinear": "dense", "LazyLinear": "dense", "Embedding": "embedding",
    "EmbeddingBag": "embedding", "Conv1d": "conv", "Conv2d": "conv", "Conv3d": "conv", "ConvTranspose1d": "conv_transpose",
    "ConvTranspose2d": "conv_transpose", "ConvTranspose3d": "conv_transpose",
}  # fmt: skip
# What a file calls the weights of a model, and what it calls an average of them.
_ROOT = re.compile(r"(?:model|module|net|network|generator|state|weights|params)(?:_(?:state|dict|state_dict))*|state_dict")
_AVERAGE = re.compile(r"(?:.*[_.-])?ema(?:[_.-].*)?", re.IGNORECASE)
# A key and what stands above it: joined only for tensors.
_Path: TypeAlias = "tuple[_Path, str] | None"


@dataclass(frozen=True, slots=True)
class Leaf:
    """A named tensor.

    Attributes:
        name: unique among those of one file.
        value: the tensor.
        role: of a weight, when the class of its module says so.
        reason: why it is not analysed, when its place says so.
    """

    name: str
    value: Tensor | Array
    role: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Visit:
    """Something to look at: where it stands, and what is known about it from above."""

    path: _Path
    value: Any
    depth: int = 0
    owner: str | None = None
    reason: str | None = None


def named_tensors(root: Any, where: str, limits: Limits) -> Iterator[Leaf]:
    """Every tensor below `root` with a name that no other has, in the order of the file.

    A container that is reached twice, or contains itself, is walked once.

    Raises:
        LimitError: ``limit``; containers are nested too deeply, or the names are too long or too many.
    """
    names = UniqueNames()
    letters = 0
    for visit in _leaves(root, where, limits):
        path = _joined(visit.path, where, limits)
        letters += len(path)
        name = names.take(path.encode("utf-8", "backslashreplace").decode("utf-8"))
        if len(names) > limits.tensors:
            raise LimitError("limit", where, f"more than {limits.tensors} tensors")
        if letters > limits.header_bytes:
            raise LimitError("limit", where, f"names of more than {limits.header_bytes} characters together")
        key = visit.path[1] if visit.path else ""
        yield Leaf(name, visit.value, _ROLES.get(visit.owner or "") if key == "weight" else None, visit.reason)


def _leaves(root: Any, where: str, limits: Limits) -> Iterator[_Visit]:
    seen: set[int] = set()
    averages = _averages(root, limits)
    waiting = [_Visit(None, root)]
    while waiting:
        visit = waiting.pop()
        if isinstance(visit.value, _VALUES):
            yield visit
        elif isinstance(visit.value, _CONTAINERS) and id(visit.value) not in seen:
            seen.add(id(visit.value))
            if visit.depth > limits.pickle_nesting:
                raise LimitError("limit", where, f"more than {limits.pickle_nesting} containers inside each other")
            inner = list(_below(visit))
            if visit.depth == 0 and averages:
                inner = [replace(one, reason="ema") if _key(one) in averages else one for one in inner]
            waiting.extend(reversed(inner))


def _key(visit: _Visit) -> str:
    return visit.path[1] if visit.path else ""


def _averages(root: Any, limits: Limits) -> set[str]:
    """Keys of a checkpoint that hold an average of the model beside the model itself; none when there is only one of them."""
    if not isinstance(root, dict):
        return set()
    averages = {key for key in root if isinstance(key, str) and _AVERAGE.fullmatch(key)}
    models = [root[key] for key in root if isinstance(key, str) and key not in averages and _ROOT.fullmatch(key)]
    return averages if averages and _hold_tensors(models, limits) else set()


def _hold_tensors(values: list[Any], limits: Limits) -> bool:
    """Whether a tensor is reached below one of some values; what is nested too deeply is left to the walk itself."""
    seen: set[int] = set()
    waiting = [_Visit(None, value) for value in values]
    while waiting:
        visit = waiting.pop()
        if isinstance(visit.value, _VALUES):
            return True
        if isinstance(visit.value, _CONTAINERS) and id(visit.value) not in seen and visit.depth <= limits.pickle_nesting:
            seen.add(id(visit.value))
            waiting.extend(_below(visit))
    return False


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


def _below(visit: _Visit) -> Iterator[_Visit]:
    """What a container holds of containers and tensors. The class of a module goes on to its own tensors, no further."""
    value, owner, reason = visit.value, None, visit.reason
    held: Iterator[tuple[str | None, Any]]
    if isinstance(value, Wrapper):
        outside = "quantized" if value.scheme else reason
        yield _Visit(visit.path, value.outside, visit.depth + 1, None, outside)
        held, reason = _of_states((value.state,)), "quant_aux" if value.scheme else reason
    elif isinstance(value, Opaque):
        held = ((key, one) for key, one in _of_opaque(value) if key != _AGAIN)
        owner = value.kind.name if value.kind is not None and _MODULES.fullmatch(value.kind.module) else None
    elif isinstance(value, dict):
        held = ((_shown(key, place), one) for place, (key, one) in enumerate(value.items()))
        owner = visit.owner
    else:
        held = ((str(place), one) for place, one in enumerate(value))
    for key, one in held:
        if isinstance(one, (*_CONTAINERS, *_VALUES)):
            path = visit.path if key is None else (visit.path, key)  # a key of None adds nothing to the name
            inherits = key is None or isinstance(one, _VALUES)
            yield _Visit(path, one, visit.depth + 1, owner if inherits else None, reason)


def _of_opaque(value: Opaque) -> Iterator[tuple[str | None, Any]]:
    yield from ((None, one) for one in (value.arguments, *value.states) if isinstance(one, (Opaque, Wrapper, *_VALUES)))
    yield from _of_tuple(value.arguments)
    yield from _of_states(value.states)
    yield from ((str(place) if key is None else _shown(key, place), one) for place, (key, one) in enumerate(value.parts))


def _of_tuple(value: Any) -> Iterator[tuple[str | None, Any]]:
    if isinstance(value, tuple | list):
        yield from ((None if len(value) == 1 else str(place), one) for place, one in enumerate(value))


def _of_states(states: Any) -> Iterator[tuple[str | None, Any]]:
    for state in states:
        for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
            if isinstance(part, dict):
                for place, (key, one) in enumerate(part.items()):
                    yield (None if key in _TRANSPARENT else _shown(key, place)), one
            else:
                yield from _of_tuple(part)


def _shown(key: Any, place: int) -> str:
    if isinstance(key, str):
        return key
    return str(key) if isinstance(key, int | float | None) and abs(key or 0) < 2**64 else f"<key {place}>"
