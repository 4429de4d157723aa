"""What names mean in a PyTorch pickle: an exact table, and the tensors that its rebuild functions describe.

Names are matched whole, as (module, name), never by prefix; the few prefixes below only decide how a foreign class is
graded, never what it means. Source: torch/_utils.py, torch/storage.py and torch/serialization.py of torch 2.13.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ww_static.errors import FormatError
from ww_static.protocol import Finding
from ww_static_readers._pickle import Machine
from ww_static_readers._pickle_nodes import Global, Opaque


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a storage: the storage dtype that it is read as (None: none of ours), and its bytes."""

    dtype: str | None
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """A run of elements: the record `key` from byte `begin` on; `numel` elements were promised for the whole record."""

    element: Element
    key: str
    numel: int
    begin: int = 0
    length: int | None = None

    @property
    def elements(self) -> int:
        """Elements that a view may reach."""
        return self.numel if self.length is None else self.length


@dataclass(frozen=True, slots=True)
class PerTensor:
    """(code - zero point) * scale."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True, eq=False)
class PerChannel:
    """The same with one scale and one zero point for each index of `axis`."""

    scales: Tensor
    zero_points: Tensor
    axis: int


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A view of a storage; offset and strides in elements. `encoding` says why there is none."""

    element: Element
    storage: Storage | None
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    encoding: str = "raw"
    quantizer: PerTensor | PerChannel | None = None


@dataclass(slots=True, eq=False)
class Array:
    """A numpy array; its bytes stand in the pickle itself."""

    element: Element | None = None
    shape: tuple[int, ...] = ()
    fortran: bool = False
    swapped: bool = False
    data: bytes = b""

    @property
    def encoding(self) -> str:
        """Of the bytes in the pickle."""
        return "raw"


@dataclass(slots=True, eq=False)
class Plain:
    """A numpy dtype."""

    code: str
    swapped: bool = False


_BYTE = Element("U8", 1)
_STORAGES = {
    "Double": Element("F64", 8), "Float": Element("F32", 4), "Half": Element("F16", 2), "BFloat16": Element("BF16", 2),
    "Long": Element("I64", 8), "Int": Element("I32", 4), "Short": Element("I16", 2), "Char": Element("I8", 1), "Byte": _BYTE,
    "Bool": Element("BOOL", 1), "ComplexFloat": Element("C64", 8), "ComplexDouble": Element(None, 16), "QInt8": Element("I8", 1),
    "QUInt8": _BYTE, "QInt32": Element("I32", 4), "QUInt4x2": Element(None, 1), "QUInt2x4": Element(None, 1),
}  # fmt: skip
_DTYPES = {
    "float64": Element("F64", 8), "double": Element("F64", 8), "float32": Element("F32", 4), "float": Element("F32", 4),
    "float16": Element("F16", 2), "half": Element("F16", 2), "bfloat16": Element("BF16", 2), "int64": Element("I64", 8),
    "long": Element("I64", 8), "int32": Element("I32", 4), "int": Element("I32", 4), "int16": Element("I16", 2),
    "short": Element("I16", 2), "int8": Element("I8", 1), "uint8": _BYTE, "uint16": Element("U16", 2), "uint32": Element("U32", 4),
    "uint64": Element("U64", 8), "bool": Element("BOOL", 1), "complex64": Element("C64", 8), "cfloat": Element("C64", 8),
    "complex128": Element(None, 16), "cdouble": Element(None, 16), "complex32": Element(None, 4), "chalf": Element(None, 4),
    "float8_e4m3fn": Element("F8_E4M3", 1), "float8_e5m2": Element("F8_E5M2", 1), "float8_e4m3fnuz": Element("F8_E4M3FNUZ", 1),
    "float8_e5m2fnuz": Element("F8_E5M2FNUZ", 1), "float8_e8m0fnu": Element("F8_E8M0", 1), "float4_e2m1fn_x2": Element(None, 1),
    "qint8": Element("I8", 1), "quint8": _BYTE, "qint32": Element("I32", 4), "quint4x2": Element(None, 1),
    "quint2x4": Element(None, 1), "bits1x8": Element(None, 1), "bits2x4": Element(None, 1), "bits4x2": Element(None, 1),
    "bits8": Element(None, 1), "bits16": Element(None, 2),
    **{f"{sign}int{bits}": Element(None, 1) for sign in ("", "u") for bits in range(1, 8)},
}  # fmt: skip
_NUMPY = {
    "f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8", "u8": "U64", "u4": "U32",
    "u2": "U16", "u1": "U8", "b1": "BOOL", "c8": "C64",
}  # fmt: skip
_UTILS = "torch._utils"
_BUILTINS = ("set", "frozenset", "dict", "list", "tuple", "bytearray", "complex", "slice", "object")
_TENSOR_CLASSES = ("Tensor", *(f"{kind}Tensor" for kind in _STORAGES if not kind.startswith("Q")))
_SCHEMES = (
    "per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric",
    "per_channel_affine_float_qparams",
)  # fmt: skip
# Functions by which TorchScript writes lists; their first argument is the list.
_SCRIPT_LISTS = ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist", "restore_type_tag")
# Values that are kept as inert nodes: nothing in them is looked for but what was put into them.
_QUIET = frozenset(
    {("builtins", name) for name in ("complex", "slice", "object", "bytearray")}
    | {("torch", "device"), ("torch.serialization", "_get_layout"), ("numpy", "ndarray")}
    | {(f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")}
    | {("torch", name) for name in (*_DTYPES, *_SCHEMES, *_TENSOR_CLASSES)}
    | {("torch.cuda", name) for name in _TENSOR_CLASSES[1:]}
    | {("torch.storage", "UntypedStorage"), ("torch.storage", "TypedStorage")}
    | {(module, f"{kind}Storage") for module in ("torch", "torch.cuda") for kind in _STORAGES}
)
# Classes that are common in checkpoints. Rebuilt from their state they are inert; a call is graded like any other.
_COMMON = ("omegaconf", "transformers.training_args", "pytorch_lightning", "lightning", "torch.nn.modules",
           "torch.distributed.checkpoint", "torchao")  # fmt: skip
_COMMON_EXACT = frozenset(
    {("argparse", "Namespace")}
    | {("pathlib", name) for name in ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")}
    | {
        ("pathlib._local", name)
        for name in ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
    }
    | {("datetime", name) for name in ("date", "time", "datetime", "timedelta", "timezone")}
)
_CALLED_TO_BE_MADE = frozenset(name for name in _COMMON_EXACT if name[0] != "argparse")
_SCRIPT = "__torch__"


class TorchMeaning:
    """The exact table, for one pickle.

    Attributes:
        storages: every storage that was referred to, by key.

    Args:
        stored: whether persistent identifiers can be looked up here.
        scripted: the archive is TorchScript: its own classes are part of the format.
    """

    def __init__(self, stored: bool = True, scripted: bool = False) -> None:
        self.storages: dict[str, Storage] = {}
        self._stored = stored
        self._scripted = scripted

    def known(self, name: Global) -> bool:
        """Whether the name is in the table."""
        pair = (name.module, name.name)
        return pair in _CALLS or pair in _QUIET or self._is_script(name)

    def inert(self, name: Global, called: bool) -> bool:
        """Whether a foreign object is harmless."""
        pair = (name.module, name.name)
        if called:
            return pair in _CALLED_TO_BE_MADE
        if not name.name.isidentifier() or not name.name.lstrip("_")[:1].isupper():
            return False
        return pair in _COMMON_EXACT or any(name.module == one or name.module.startswith(one + ".") for one in _COMMON)

    def call(self, name: Global, arguments: tuple[Any, ...], machine: Machine) -> Any:
        """The plain value that a call stands for."""
        function = _CALLS.get((name.module, name.name))
        if function is None:
            return Opaque(None if self.known(name) else name, arguments)
        try:
            return function(arguments, machine)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError, OverflowError) as error:
            raise machine.bad(f"calls '{name}' with arguments that do not fit") from error

    def build(self, value: Any, state: Any) -> bool:
        """State of numpy's dtypes and arrays; the attributes of dictionaries and tensors say nothing about weights."""
        if isinstance(value, Plain) and isinstance(state, tuple) and len(state) > 1:
            value.swapped = state[1] == ">"
        elif isinstance(value, Array) and isinstance(state, tuple) and len(state) == 5:
            _, shape, dtype, fortran, data = state
            if isinstance(dtype, Plain) and isinstance(shape, tuple) and isinstance(data, bytes):
                size = int(dtype.code[1:]) if dtype.code[1:].isdecimal() and len(dtype.code) < 9 else 1
                value.element = Element(_NUMPY.get(dtype.code), size)
                value.shape, value.fortran, value.swapped, value.data = shape, bool(fortran), dtype.swapped, data
        else:
            return False
        return True

    def persistent(self, identifier: Any, machine: Machine) -> Any:
        """``('storage', type, key, location, numel[, view])``, or a class with its source of the oldest files."""
        if not self._stored:
            raise machine.bad("refers to a storage, but a bare pickle has none")
        if isinstance(identifier, tuple) and len(identifier) == 4 and identifier[0] == "module":
            machine.note(Finding("embedded_code", machine.where, "carries the source of a class, which is not read"))
            return identifier[1]
        if not isinstance(identifier, tuple) or len(identifier) not in (5, 6) or identifier[0] != "storage":
            raise machine.bad("a persistent identifier is no storage")
        _, kind, key, _, numel = identifier[:5]
        if not isinstance(kind, Global) or not isinstance(key, str) or not _is_count(numel):
            raise machine.bad("a storage has no type, key or number of elements")
        element = self._storage_element(kind)
        if element is None:
            raise machine.blamed(_unknown_dtype(machine, kind))
        made = Storage(element, key, numel)
        first = self.storages.setdefault(key, made)
        if first.numel * first.element.size != numel * element.size:
            raise machine.bad(f"storage '{key:.200}' has two sizes")
        view = identifier[5] if len(identifier) == 6 else None
        if view is None:
            return made
        if not isinstance(view, tuple) or len(view) != 3 or not _is_count(view[1]) or not _is_count(view[2]):
            raise machine.bad("the view of a storage has no offset and size")
        if view[1] + view[2] > numel:
            raise machine.bad(f"the view of a storage ends at element {view[1] + view[2]} of {numel}")
        return replace(made, begin=view[1] * element.size, length=view[2])

    def _storage_element(self, kind: Global) -> Element | None:
        if kind.module == "torch.storage" and kind.name in ("UntypedStorage", "TypedStorage"):
            return _BYTE
        if kind.module in ("torch", "torch.cuda") and kind.name.endswith("Storage"):
            return _STORAGES.get(kind.name.removesuffix("Storage"))
        return None

    def _is_script(self, name: Global) -> bool:
        return self._scripted and (name.module == _SCRIPT or name.module.startswith(_SCRIPT + "."))


def _unknown_dtype(machine: Machine, kind: Global) -> FormatError:
    return FormatError("unknown_dtype", machine.where, f"storage type '{kind!s:.200}' is not known")


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _element(dtype: Any, machine: Machine) -> Element:
    if not isinstance(dtype, Global) or dtype.module != "torch" or dtype.name not in _DTYPES:
        raise machine.bad("a tensor has no dtype that is known")
    return _DTYPES[dtype.name]


def _integers(values: Any, machine: Machine) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or not all(type(value) is int for value in values):
        raise machine.bad("a shape or stride is not made of integers")
    return tuple(values)


def _view(arguments: tuple[Any, ...], machine: Machine, element: Element | None = None) -> Tensor:
    stored, offset, shape, strides = arguments[:4]
    if not isinstance(stored, Storage) or type(offset) is not int:
        raise machine.bad("a tensor has no storage or no offset")
    return Tensor(element or stored.element, stored, offset, _integers(shape, machine), _integers(strides, machine))


def _with_hooks(place: int) -> Callable[[tuple[Any, ...], Machine], Tensor]:
    """_rebuild_tensor and _v2: storage, offset, size, stride[, requires_grad, hooks]."""

    def rebuild(arguments: tuple[Any, ...], machine: Machine) -> Tensor:
        machine.callables(arguments[place] if len(arguments) > place else None, "hands over to be called")
        return _view(arguments, machine)

    return rebuild


def _third(arguments: tuple[Any, ...], machine: Machine) -> Tensor:
    """_rebuild_tensor_v3: the same, then the dtype; the storage counts bytes, offset and strides count elements."""
    machine.callables(arguments[5], "hands over to be called")
    return _view(arguments, machine, _element(arguments[6], machine))


def _parameter(arguments: tuple[Any, ...], machine: Machine) -> Any:
    machine.callables(arguments[2] if len(arguments) > 2 else None, "hands over to be called")
    return arguments[0] if arguments else Opaque(None)


def _quantized(arguments: tuple[Any, ...], machine: Machine) -> Tensor:
    """_rebuild_qtensor: storage, offset, size, stride, (scheme, scale, zero point[, axis]), requires_grad, hooks."""
    view, scheme = _view(arguments, machine), arguments[4]
    machine.callables(arguments[6] if len(arguments) > 6 else None, "hands over to be called")
    if not isinstance(scheme, tuple) or not isinstance(scheme[0], Global) or scheme[0].name not in _SCHEMES:
        raise machine.bad("a quantized tensor has no scheme that is known")
    if view.element.dtype is None:
        return replace(view, encoding="unsupported")
    if scheme[0].name.startswith("per_tensor"):
        if type(scheme[1]) not in (int, float) or type(scheme[2]) is not int or abs(scheme[2]) >= 2**31:
            raise machine.bad("a quantized tensor has no scale or zero point")
        return replace(view, encoding="quantized", quantizer=PerTensor(float(scheme[1]), scheme[2]))
    scales, zeros, axis = scheme[1:4]
    if not isinstance(scales, Tensor) or not isinstance(zeros, Tensor) or not _is_count(axis) or axis >= len(view.shape):
        raise machine.bad("a quantized tensor has no scales, zero points or axis")
    if scales.shape != zeros.shape or scales.shape != (view.shape[axis],):
        raise machine.bad(f"a quantized tensor has scales of shape {list(scales.shape)} for {view.shape[axis]} channels")
    return replace(view, encoding="quantized", quantizer=PerChannel(scales, zeros, axis))


def _sparse(arguments: tuple[Any, ...], machine: Machine) -> Tensor:
    """_rebuild_sparse_tensor: layout, (indices ..., values, size[, coalesced]); listed, never made dense."""
    parts = arguments[1]
    tensors = [part for part in parts if isinstance(part, Tensor)]
    shapes = [part for part in parts[2:] if isinstance(part, tuple | list)]
    if not tensors or not shapes:
        raise machine.bad("a sparse tensor has no values or no shape")
    return Tensor(tensors[-1].element, None, 0, _integers(shapes[0], machine), (), "unsupported")


def _meta(arguments: tuple[Any, ...], machine: Machine) -> Tensor:
    """_rebuild_meta_tensor_no_storage: dtype, size, stride, requires_grad."""
    return Tensor(_element(arguments[0], machine), None, 0, _integers(arguments[1], machine), (), "absent")


def _wrapper(arguments: tuple[Any, ...], machine: Machine) -> Tensor:
    """_rebuild_wrapper_subclass: class, dtype, size, stride ...; a class of its own, without data."""
    machine.callables(arguments[0], "makes a tensor of class")
    return Tensor(_element(arguments[1], machine), None, 0, _integers(arguments[2], machine), (), "unsupported")


def _nested(arguments: tuple[Any, ...], machine: Machine) -> Tensor:
    """_rebuild_nested_tensor: buffer, sizes, strides, offsets."""
    buffer = arguments[0]
    if not isinstance(buffer, Tensor):
        raise machine.bad("a nested tensor has no buffer")
    return replace(buffer, encoding="unsupported")


def _from_type(arguments: tuple[Any, ...], machine: Machine) -> Any:
    """_rebuild_from_type_v2: function, class, its arguments, state; the function must itself be a rebuild function."""
    function, kind, inner = arguments[:3]
    machine.callables(kind, "makes a tensor of class")
    pair = (function.module, function.name) if isinstance(function, Global) else ("", "")
    if pair not in _REBUILDS or not isinstance(inner, tuple):
        machine.callables(function, "calls")
        return Opaque(None, inner)
    return _REBUILDS[pair](inner, machine)


def _dictionary(arguments: tuple[Any, ...], machine: Machine) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    if arguments and isinstance(arguments[0], dict):
        made.update(arguments[0])
    elif arguments and isinstance(arguments[0], list | tuple):
        for key, value in arguments[0]:
            machine.set_items(made, [key, value])
    return made


def _default_dictionary(arguments: tuple[Any, ...], machine: Machine) -> dict[Any, Any]:
    machine.callables(arguments[0] if arguments else None, "hands over to be called")
    return _dictionary(arguments[1:], machine)


def _sequence(arguments: tuple[Any, ...], machine: Machine) -> list[Any]:
    return list(arguments[0]) if arguments and isinstance(arguments[0], list | tuple | dict) else []


def _fixed(arguments: tuple[Any, ...], machine: Machine) -> tuple[Any, ...]:
    return tuple(_sequence(arguments, machine))


def _encode(arguments: tuple[Any, ...], machine: Machine) -> Any:
    """_codecs.encode(text, 'latin1'): how bytes are written up to protocol 2."""
    text, encoding = (*arguments, "utf-8")[:2]
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8"):
        raise machine.bad("encodes a text in an unknown way")
    return text.encode("latin-1" if encoding.startswith("latin") else "utf-8")


def _reconstructor(arguments: tuple[Any, ...], machine: Machine) -> Opaque:
    """copyreg._reconstructor(class, base, state): an object of a class."""
    kind = arguments[0]
    if isinstance(kind, Global) and not machine.meaning.known(kind):
        machine.made_of(kind, called=False)
    return Opaque(kind if isinstance(kind, Global) else None, arguments[2:])


def _plain(arguments: tuple[Any, ...], machine: Machine) -> Plain:
    """numpy.dtype(code, align, copy)."""
    code = arguments[0] if isinstance(arguments[0], str) else ""
    if code[:1] in ("O", "V"):
        machine.note(
            Finding("unsupported_dtype", machine.where, f"holds numpy arrays of dtype '{code:.40}', which are not read")
        )
    return Plain(code.lstrip("<=|>"), code.startswith(">"))


_REBUILDS: dict[tuple[str, str], Callable[[tuple[Any, ...], Machine], Any]] = {
    (_UTILS, "_rebuild_tensor"): _with_hooks(5), (_UTILS, "_rebuild_tensor_v2"): _with_hooks(5),
    (_UTILS, "_rebuild_tensor_v3"): _third, (_UTILS, "_rebuild_parameter"): _parameter,
    (_UTILS, "_rebuild_parameter_with_state"): _parameter, (_UTILS, "_rebuild_qtensor"): _quantized,
    (_UTILS, "_rebuild_sparse_tensor"): _sparse, (_UTILS, "_rebuild_meta_tensor_no_storage"): _meta,
    (_UTILS, "_rebuild_nested_tensor"): _nested, (_UTILS, "_rebuild_wrapper_subclass"): _wrapper,
    (_UTILS, "_rebuild_device_tensor_from_cpu_tensor"): _parameter,
    (_UTILS, "_rebuild_device_tensor_from_numpy"): _parameter,
}  # fmt: skip
_CALLS: dict[tuple[str, str], Callable[[tuple[Any, ...], Machine], Any]] = {
    **_REBUILDS, ("torch._tensor", "_rebuild_from_type_v2"): _from_type, ("torch.nn.parameter", "Parameter"): _parameter,
    ("torch", "Size"): _fixed, ("collections", "OrderedDict"): _dictionary, ("collections", "Counter"): _dictionary,
    ("collections", "defaultdict"): _default_dictionary, ("builtins", "dict"): _dictionary, ("builtins", "set"): _sequence,
    ("builtins", "frozenset"): _sequence, ("builtins", "list"): _sequence, ("builtins", "tuple"): _fixed,
    ("_codecs", "encode"): _encode, ("copyreg", "_reconstructor"): _reconstructor, ("numpy", "dtype"): _plain,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): lambda arguments, machine: Array() for core in ("core", "_core")},
    **{("torch.jit._pickle", name): _sequence for name in _SCRIPT_LISTS},
}  # fmt: skip
