"""The configuration of a Keras model: JSON that is looked at and never deserialized; what it would run, which classes it names.

A configuration names classes, functions and modules that a program would import, and may hold compiled code. Here it is text:
what goes beyond the classes of Keras is a finding, and the names of layers with their classes are evidence for kinds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ww_static.errors import FormatError
from ww_static.protocol import Finding, Limits
from ww_static_readers._strict_json import parse_json

_MOST_FINDINGS = 100
_HOMES = ("keras.", "tensorflow.keras.", "tensorflow.python.keras.", "tf_keras.")


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer, or the one that it wraps: its class, and the equation of one that has it."""

    kind: str
    equation: str | None = None


@dataclass(slots=True)
class Config:
    """What a configuration says.

    Attributes:
        layers: name of a layer -> what it is; None where two layers disagree.
        findings: what it would run, or why it was not understood.
    """

    layers: dict[str, Layer | None] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def looked_at(raw: bytes, where: str, limits: Limits) -> Config:
    """Scans a configuration; whatever is wrong with it is the finding ``bad_config``."""
    config = Config()
    items = sum(raw.count(mark) for mark in (b",", b"{", b"["))
    if items > limits.config_items or len(raw) > limits.attribute_bytes:
        words = f"{len(raw)} bytes with {items} items, limits {limits.attribute_bytes} and {limits.config_items}"
        config.findings.append(Finding("bad_config", where, words))
        return config
    try:
        document = parse_json(raw, where)
    except FormatError as error:
        config.findings.append(Finding("bad_config", where, error.problem))
        return config
    if not isinstance(document, dict):
        config.findings.append(Finding("bad_config", where, f"is a JSON {type(document).__name__}, not an object"))
        return config
    for one in _objects(document):
        for words in _code(one):
            if len(config.findings) < _MOST_FINDINGS:
                config.findings.append(Finding("embedded_code", where, words))
        _note(one, config.layers)
    return config


def _objects(document: Any) -> Iterator[dict[str, Any]]:
    """Every object of a document, in its order."""
    waiting = [document]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting.extend(value for value in reversed(one.values()) if isinstance(value, dict | list))
        elif isinstance(one, list):
            waiting.extend(value for value in reversed(one) if isinstance(value, dict | list))


def _code(one: dict[str, Any]) -> Iterator[str]:
    """What deserializing an object would run or import, beyond the classes of Keras."""
    kind, module, registered = one.get("class_name"), one.get("module"), one.get("registered_name")
    name = _name(one)
    called = f"layer '{name:.80}'" if name else f"an object of class '{kind!s:.80}'"
    if kind == "Lambda":
        yield f"{called} is a Lambda, which holds code or refers to a function"
    elif isinstance(module, str) and not (module + ".").startswith(_HOMES):
        yield f"{called} comes from module '{module:.80}', which is not part of Keras"
    elif isinstance(registered, str) and ">" in registered and not registered.lower().startswith("keras"):
        yield f"{called} is registered as '{registered:.80}', which is not part of Keras"
    elif kind is None and isinstance(one.get("code"), str) and "closure" in one:
        yield "a function is given as marshalled code"
    elif kind == "function" and not isinstance(module, str):
        yield f"refers to the function '{one.get('config')!s:.80}'"


def _name(one: dict[str, Any]) -> str | None:
    inner = one.get("config")
    name = inner.get("name") if isinstance(inner, dict) else None
    return name if isinstance(name, str) else None


def _note(one: dict[str, Any], layers: dict[str, Layer | None]) -> None:
    """Name and class of a layer; a wrapper (bidirectional, distributed over time, a cell in a loop) has the class inside it."""
    kind, name, inner = one.get("class_name"), _name(one), one.get("config")
    if not isinstance(kind, str) or name is None or not isinstance(inner, dict):
        return
    for _ in range(8):  # wrappers of wrappers
        wrapped = inner.get("layer") or inner.get("cell") or inner.get("forward_layer")
        if not isinstance(wrapped, dict) or not isinstance(wrapped.get("class_name"), str):
            break
        kind, inner = wrapped["class_name"], wrapped.get("config")
        if not isinstance(inner, dict):
            break
    equation = inner.get("equation") if isinstance(inner, dict) else None
    layer = Layer(kind, equation if isinstance(equation, str) else None)
    layers[name] = layer if layers.get(name, layer) == layer else None
