"""What PyTorch's rebuild functions, and a few of Python's and numpy's, stand for: pure functions of plain data.

Each takes the arguments that the pickle gives and the machine that runs it; what does not fit may raise any of Python's
errors, which the caller turns into ours. Source: torch/_utils.py and torch/_tensor.py of torch 2.13.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ww_static.protocol import Finding
from ww_static_readers._pickle import Machine
from ww_static_readers._pickle_nodes import Global, Opaque
from ww_static_readers._torch_values import (
    DTYPES,
    NUMPY,
    Array,
    Element,
    PerChannel,
    PerTensor,
    Plain,
    Storage,
    Tensor,
    Wrapper,
    is_count,
)

Rule = Callable[[tuple[Any, ...], Machine], Any]
SCHEMES = (
    "per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric",
    "per_channel_affine_float_qparams",
)  # fmt: skip
_MOST_ZERO_POINT = 2**31
_QUANTIZERS = "torchao"  # the package whose tensor classes hold codes and scales


def _element(dtype: Any, machine: Machine) -> Element:
    if not isinstance(dtype, Global) or dtype.module != "torch" or dtype.name not in DTYPES:
        raise machine.bad("a tensor has no dtype that is known")
    return DTYPES[dtype.name]


def _integers(values: Any, machine: Machine) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or not all(type(value) is int for value in values):
        raise machine.bad("a shape or stride is not made of integers")
    return tuple(values)


def _view(arguments: tuple[Any, ...], machine: Machine, element: Element | None = None) -> Tensor:
    stored, offset, shape, strides = arguments[:4]
    if not isinstance(stored, Storage) or type(offset) is not int:
        raise machine.bad("a tensor has no storage or no offset")
    return Tensor(element or stored.element, stored, offset, _integers(shape, machine), _integers(strides, machine))


def _as_it_is(tensor: Tensor, arguments: tuple[Any, ...], place: int) -> Tensor:
    """The tensor, unless its flags say that its values are the negative or the conjugate of what is stored."""
    flags = arguments[place] if len(arguments) > place else None
    turned = isinstance(flags, dict) and any(flags.get(one) for one in ("neg", "conj"))
    return replace(tensor, encoding="unsupported") if turned else tensor


def _hooks(arguments: tuple[Any, ...], place: int, machine: Machine) -> None:
    machine.callables(arguments[place] if len(arguments) > place else None, "hands over to be called")


# tensors


def dense(arguments: tuple[Any, ...], machine: Machine) -> Tensor:
    """_rebuild_tensor and _v2: storage, offset, size, stride[, requires_grad, hooks[, flags]]."""
    _hooks(arguments, 5, machine)
    return _as_it_is(_view(arguments, machine), arguments, 6)


def typed(arguments: tuple[Any, ...], machine: Machine) -> Tensor:
    """_rebuild_tensor_v3: the same with a dtype before the flags; the storage counts bytes, offset and strides elements."""
    _hooks(arguments, 5, machine)
    return _as_it_is(_view(arguments, machine, _element(arguments[6], machine)), arguments, 7)


def same(arguments: tuple[Any, ...], machine: Machine) -> Any:
    """_rebuild_parameter and others that give their first argument back: data, requires_grad, hooks[, state]."""
    _hooks(arguments, 2, machine)
    return arguments[0] if arguments else Opaque(None)


def quantized(arguments: tuple[Any, ...], machine: Machine) -> Tensor:
    """_rebuild_qtensor: storage, offset, size, stride, (scheme, scale, zero point[, axis]), requires_grad, hooks."""
    codes, scheme = _view(arguments, machine), arguments[4]
    _hooks(arguments, 6, machine)
    if not isinstance(scheme, tuple) or not isinstance(scheme[0], Global) or scheme[0].name not in SCHEMES:
        raise machine.bad("a quantized tensor has no scheme that is known")
    if codes.element.dtype is None:
        return replace(codes, encoding="unsupported")
    if scheme[0].name.startswith("per_tensor"):
        if type(scheme[1]) not in (int, float) or type(scheme[2]) is not int or abs(scheme[2]) >= _MOST_ZERO_POINT:
            raise machine.bad("a quantized tensor has no scale or zero point")
        return replace(codes, encoding="quantized", quantizer=PerTensor(float(scheme[1]), scheme[2]))
    scales, zeros, axis = scheme[1:4]
    if not isinstance(scales, Tensor) or not isinstance(zeros, Tensor) or not is_count(axis) or axis >= len(codes.shape):
        raise machine.bad("a quantized tensor has no scales, zero points or axis")
    if scales.shape != zeros.shape or scales.shape != (codes.shape[axis],):
        raise machine.bad(f"a quantized tensor has scales of shape {list(scales.shape)} for {codes.shape[axis]} channels")
    return replace(codes, encoding="quantized", quantizer=PerChannel(scales, zeros, axis))


def sparse(arguments: tuple[Any, ...], machine: Machine) -> Tensor:
    """_rebuild_sparse_tensor: layout, (indices ..., values, size[, coalesced]); listed, never made dense."""
    parts = arguments[1]
    tensors = [part for part in parts if isinstance(part, Tensor)]
    shapes = [part for part in parts[2:] if isinstance(part, tuple | list)]
    if not tensors or not shapes:
        raise machine.bad("a sparse tensor has no values or no shape")
    return Tensor(tensors[-1].element, None, 0, _integers(shapes[0], machine), (), "unsupported")


def meta(arguments: tuple[Any, ...], machine: Machine) -> Tensor:
    """_rebuild_meta_tensor_no_storage: dtype, size, stride, requires_grad."""
    return Tensor(_element(arguments[0], machine), None, 0, _integers(arguments[1], machine), (), "absent")


def nested(arguments: tuple[Any, ...], machine: Machine) -> Tensor:
    """_rebuild_nested_tensor: buffer, sizes, strides, offsets."""
    buffer = arguments[0]
    if not isinstance(buffer, Tensor):
        raise machine.bad("a nested tensor has no buffer")
    return replace(buffer, encoding="unsupported")


def wrapper(arguments: tuple[Any, ...], machine: Machine) -> Tensor:
    """_rebuild_wrapper_subclass: class, dtype, size, stride ...; the outside of a tensor that is made of others."""
    _tensor_class(arguments[0], machine)
    return Tensor(_element(arguments[1], machine), None, 0, _integers(arguments[2], machine), (), "unsupported")


def from_type(arguments: tuple[Any, ...], machine: Machine) -> Any:
    """_rebuild_from_type_v2: function, class, its arguments, state; the function must itself be a rebuild function."""
    function, kind, inner = arguments[:3]
    _tensor_class(kind, machine)
    rule = REBUILDS.get((function.module, function.name)) if isinstance(function, Global) else None
    if rule is None or not isinstance(inner, tuple):
        machine.callables(function, "calls")
        return Opaque(None, inner)
    made = rule(inner, machine)
    if rule is not wrapper or len(arguments) < 4:
        return made
    packed = isinstance(kind, Global) and kind.module.split(".")[0] == _QUANTIZERS
    return Wrapper(made, arguments[3], packed)


def _tensor_class(kind: Any, machine: Machine) -> None:
    """Notes a class of tensors that is neither known nor among those that are harmless."""
    if not isinstance(kind, Global) or not machine.meaning.inert(kind, called=False):
        machine.callables(kind, "makes a tensor of class")


_UTILS = "torch._utils"
REBUILDS: Mapping[tuple[str, str], Rule] = {
    (_UTILS, "_rebuild_tensor"): dense,
    (_UTILS, "_rebuild_tensor_v2"): dense,
    (_UTILS, "_rebuild_tensor_v3"): typed,
    (_UTILS, "_rebuild_parameter"): same,
    (_UTILS, "_rebuild_parameter_with_state"): same,
    (_UTILS, "_rebuild_qtensor"): quantized,
    (_UTILS, "_rebuild_sparse_tensor"): sparse,
    (_UTILS, "_rebuild_meta_tensor_no_storage"): meta,
    (_UTILS, "_rebuild_nested_tensor"): nested,
    (_UTILS, "_rebuild_wrapper_subclass"): wrapper,
    (_UTILS, "_rebuild_device_tensor_from_cpu_tensor"): same,
    (_UTILS, "_rebuild_device_tensor_from_numpy"): same,
}


# containers


def dictionary(arguments: tuple[Any, ...], machine: Machine) -> dict[Any, Any]:
    """dict, OrderedDict or Counter of a dictionary or of pairs."""
    made: dict[Any, Any] = {}
    if arguments and isinstance(arguments[0], dict):
        made.update(arguments[0])
    elif arguments and isinstance(arguments[0], list | tuple):
        for key, value in arguments[0]:
            machine.set_items(made, [key, value])
    return made


def default_dictionary(arguments: tuple[Any, ...], machine: Machine) -> dict[Any, Any]:
    """defaultdict: what makes its values, then as a dictionary."""
    _hooks(arguments, 0, machine)
    return dictionary(arguments[1:], machine)


def sequence(arguments: tuple[Any, ...], machine: Machine) -> list[Any]:
    """list, set or frozenset."""
    return list(arguments[0]) if arguments and isinstance(arguments[0], list | tuple | dict) else []


def fixed(arguments: tuple[Any, ...], machine: Machine) -> tuple[Any, ...]:
    """tuple or torch.Size."""
    return tuple(sequence(arguments, machine))


def encoded(arguments: tuple[Any, ...], machine: Machine) -> bytes:
    """_codecs.encode(text, 'latin1'): how bytes are written up to protocol 2. bytearray(text, 'latin-1') likewise."""
    text, encoding = (*arguments, "utf-8")[:2]
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8"):
        raise machine.bad("encodes a text in an unknown way")
    return text.encode("latin-1" if encoding.startswith("latin") else "utf-8")


def byte_array(arguments: tuple[Any, ...], machine: Machine) -> bytes:
    """bytearray of nothing, of bytes, or of a text and its encoding."""
    if not arguments or (len(arguments) == 1 and isinstance(arguments[0], bytes)):
        return bytes(arguments[0]) if arguments else b""
    return encoded(arguments, machine)


def reconstructed(arguments: tuple[Any, ...], machine: Machine) -> Opaque:
    """copyreg._reconstructor(class, base, state): an object of a class."""
    kind = arguments[0]
    if isinstance(kind, Global) and not machine.meaning.known(kind):
        machine.made_of(kind, called=False)
    return Opaque(kind if isinstance(kind, Global) else None, arguments[2:])


# numpy


def plain_dtype(arguments: tuple[Any, ...], machine: Machine) -> Plain:
    """numpy.dtype(code, align, copy)."""
    code = arguments[0] if isinstance(arguments[0], str) else ""
    if code[:1] in ("O", "V"):
        words = f"holds numpy arrays of dtype '{code:.40}', which are not read"
        machine.note(Finding("unsupported_dtype", machine.where, words))
    return Plain(code.lstrip("<=|>"), code.startswith(">"))


def empty_array(arguments: tuple[Any, ...], machine: Machine) -> Array:
    """numpy.core.multiarray._reconstruct(class, shape, code): an array that its state fills."""
    return Array()


def from_buffer(arguments: tuple[Any, ...], machine: Machine) -> Array:
    """numpy.core.numeric._frombuffer(bytes, dtype, shape, order): how protocol 5 writes an array."""
    data, dtype, shape, order = arguments
    if not isinstance(data, bytes) or not isinstance(dtype, Plain) or not isinstance(shape, tuple) or order not in ("C", "F"):
        raise machine.bad("an array has no bytes, dtype, shape or order")
    return filled(Array(), shape, dtype, order == "F", data)


def filled(array: Array, shape: tuple[Any, ...], dtype: Plain, fortran: bool, data: bytes) -> Array:
    """The array with its shape, dtype and bytes."""
    size = int(dtype.code[1:]) if dtype.code[1:].isdecimal() and len(dtype.code) < 9 else 1
    array.element = Element(NUMPY.get(dtype.code), size)
    array.shape, array.fortran, array.swapped, array.data = shape, fortran, dtype.swapped, data
    return array
