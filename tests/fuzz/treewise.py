"""Damage that keeps a text whole: one value of a JSON document or of a Python literal becomes another."""

from __future__ import annotations

import ast
import json
from random import Random
from typing import Any

from fuzz import bytewise
from ww_static import dtypes

_TEXTS = (
    *sorted(dtypes.DTYPES), "<f4", ">f4", "<f8", "|i1", "|b1", "<c8", ">i2", "|O", "<V2", "|S3", "<M8[ns]", "", "\x00", "a/../b", "\ud800",
    "__metadata__", "shape", "dtype", "data_offsets", "format", "model-00002-of-00002.safetensors", "/etc/hostname", "é" * 40,
)  # fmt: skip


def damaged(data: bytes, chance: Random) -> bytes | None:
    """`data` with one value changed; None when it is neither JSON nor a literal."""
    try:
        text = data.decode("latin-1")
        literal = "'" in text
        tree = ast.literal_eval(text.strip()) if literal else json.loads(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    changed = _changed(tree, chance, _leaves(tree))
    try:
        return repr(changed).encode() if literal else json.dumps(changed, separators=(",", ":")).encode()
    except (ValueError, TypeError, RecursionError):
        return None


def _leaves(tree: Any) -> list[Any]:
    """Every value of a tree, and every key."""
    found: list[Any] = []
    waiting = [tree]
    while waiting and len(found) < 500:
        one = waiting.pop()
        if isinstance(one, dict):
            found.extend(one)
            waiting.extend(one.values())
        elif isinstance(one, (list, tuple)):
            waiting.extend(one)
        found.append(one)
    return found


def _changed(tree: Any, chance: Random, pool: list[Any]) -> Any:
    inside = chance.random() < 0.9
    if isinstance(tree, dict) and tree:
        return _changed_dict(dict(tree), chance, pool, inside)
    if isinstance(tree, (list, tuple)) and tree:
        kind = type(tree)
        items = list(tree)
        at = chance.randrange(len(items))
        if inside:
            items[at] = _changed(items[at], chance, pool)
        else:
            edits = (items[:at] + items[at + 1 :], [*items, items[at]], items[::-1], [*items, 1], [0, *items], items * 3)
            items = chance.choice(edits)
        return kind(items)
    return _other(tree, chance, pool)


def _changed_dict(tree: dict[Any, Any], chance: Random, pool: list[Any], inside: bool) -> dict[Any, Any]:
    key = chance.choice(list(tree))
    if inside:
        tree[key] = _changed(tree[key], chance, pool)
        return tree
    kind = chance.randrange(4)
    if kind == 0:
        del tree[key]
    elif kind == 1:
        other = chance.choice(list(tree))
        tree[key], tree[other] = tree[other], tree[key]
    else:
        name = chance.choice((*_TEXTS, f"{key}2"))
        tree[name] = tree[key] if kind == 2 else tree.pop(key)
    return tree


def _other(value: Any, chance: Random, pool: list[Any]) -> Any:
    if chance.random() < 0.05:
        return chance.choice(pool)
    if isinstance(value, bool):
        return chance.choice((not value, not value, not value, None, 1))
    if isinstance(value, int):
        near = (
            value - 1,
            value + 1,
            value * 2,
            value // 2,
            chance.randrange(64),
            chance.choice(bytewise.NUMBERS),
            -value,
            True,
            1.5,
        )
        return chance.choice(near)
    if isinstance(value, str):
        return chance.choice((chance.choice(_TEXTS), value + "x", value[:-1], value[::-1], 7))
    return chance.choice((None, [], {}, 0, "", [[]]))
