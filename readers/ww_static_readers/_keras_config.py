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
# Where Keras lives: what its modules begin with, and components that only lead to them.
_HOMES = (("tensorflow", "python", "keras"), ("tensorflow", "keras"), ("tf_keras",), ("keras",))
_INNER = ("src", "api", "_tf_keras", "_v1", "_v2", "keras")
# Modules of it whose classes make up a model. Others, such as keras.utils, hold functions that fetch, load and write.
_CLASSES = frozenset(
    [
        "activations",
        "constraints",
        "distillation",
        "dtype_policies",
        "engine",
        "experimental",
        "initializers",
        "layers",
        "losses",
        "metrics",
        "mixed_precision",
        "models",
        "ops",
        "optimizers",
        "premade_models",
        "quantizers",
        "random",
        "regularizers",
    ]
)
_TOP = frozenset(
    [
        "DTypePolicy",
        "FloatDTypePolicy",
        "Function",
        "Functional",
        "Initializer",
        "InputSpec",
        "KerasTensor",
        "Layer",
        "Loss",
        "Metric",
        "Model",
        "Operation",
        "Optimizer",
        "Quantizer",
        "Regularizer",
        "Sequential",
        "Variable",
    ]
)
# Modules whose functions compute, and do nothing else but these three, which turn text into objects.
_FUNCTIONS = frozenset(["activations", "constraints", "initializers", "losses", "metrics", "ops", "random", "regularizers"])
_MAKERS = frozenset(("deserialize", "serialize", "get"))
# Functions that Keras 3.0 to 3.6 writes as members of `builtins`, as it does those of the user.
_COMPUTING = frozenset(
    [
        "celu",
        "elu",
        "exponential",
        "gelu",
        "glu",
        "hard_shrink",
        "hard_sigmoid",
        "hard_silu",
        "hard_swish",
        "hard_tanh",
        "leaky_relu",
        "linear",
        "log_sigmoid",
        "log_softmax",
        "mish",
        "relu",
        "relu6",
        "selu",
        "sigmoid",
        "silu",
        "soft_shrink",
        "softmax",
        "softplus",
        "softsign",
        "sparse_plus",
        "sparse_sigmoid",
        "sparsemax",
        "squareplus",
        "swish",
        "tanh",
        "tanh_shrink",
        "threshold",
        "binary_accuracy",
        "binary_crossentropy",
        "binary_focal_crossentropy",
        "categorical_accuracy",
        "categorical_crossentropy",
        "categorical_focal_crossentropy",
        "categorical_hinge",
        "cosine_similarity",
        "ctc",
        "dice",
        "hinge",
        "huber",
        "kl_divergence",
        "log_cosh",
        "mae",
        "mape",
        "mean_absolute_error",
        "mean_absolute_percentage_error",
        "mean_squared_error",
        "mean_squared_logarithmic_error",
        "mse",
        "msle",
        "poisson",
        "sparse_categorical_accuracy",
        "sparse_categorical_crossentropy",
        "sparse_top_k_categorical_accuracy",
        "squared_hinge",
        "top_k_categorical_accuracy",
        "tversky",
    ]
)
# Layers that hold code of another kind, or load it.
_CARRIERS = frozenset(("torchmodulewrapper", "jaxlayer", "flaxlayer", "tfsmlayer"))


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
    folded = kind.lower() if isinstance(kind, str) else ""
    if folded == "lambda":
        yield f"{called} is a Lambda, which holds code or refers to a function"
    elif folded == "__lambda__":
        if not _is_marshalled(one.get("config")):  # that has a finding of its own
            yield "a function is given as marshalled code"
    elif folded in _CARRIERS:
        yield f"{called} is a {kind}, which holds or loads code" if name else f"{called} holds or loads code"
    elif kind is None and _is_marshalled(one):
        yield "a function is given as marshalled code"
    elif kind == "function":
        if not _computes(module, one.get("config")):
            yield f"refers to the function '{one.get('config')!s:.80}'" + (
                f" of '{module:.80}'" if isinstance(module, str) else ""
            )
    elif isinstance(module, str) and (inner := _inner(module)) is None:
        yield f"{called} comes from module '{module:.80}', which is not part of Keras"
    elif isinstance(module, str) and isinstance(kind, str) and not _is_class(inner or (), kind):
        yield f"refers to '{module:.80}.{kind:.80}', which is no class that Keras makes models of"
    elif isinstance(registered, str) and ">" in registered and registered.lower().split(">")[0].split(".")[0] != "keras":
        yield f"{called} is registered as '{registered:.80}', which is not part of Keras"


def _is_marshalled(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("code"), str) and "closure" in one


def _inner(module: str) -> tuple[str, ...] | None:
    """The components of a module of Keras, below what only leads to it; None for one of others."""
    parts = tuple(module.split("."))
    home = next((one for one in _HOMES if parts[: len(one)] == one), None)
    if home is None:
        return None
    inner = parts[len(home) :]
    while inner and inner[0] in _INNER:
        inner = inner[1:]
    return inner[2:] if inner[:1] == ("backend",) and len(inner) > 2 else inner  # what a framework's backend has of its own


def _is_class(inner: tuple[str, ...], kind: str) -> bool:
    """Whether a class of this name may stand in a module, by the way that Keras names its classes."""
    return (inner[0] in _CLASSES and kind[:1].isupper()) if inner else kind in _TOP


def _computes(module: Any, function: Any) -> bool:
    """Whether a function is one of Keras's own that does nothing but compute."""
    if not isinstance(module, str) or not isinstance(function, str) or function in _MAKERS:
        return False
    inner = _inner(module)
    return module == "builtins" and function in _COMPUTING if inner is None else bool(inner) and inner[0] in _FUNCTIONS


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
