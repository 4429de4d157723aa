"""Where constants live in an ONNX model, what they are called, and which operators use them.

Identity is the path of the scope and the name in it: ``If_0/then_branch/W``. A constant is followed through operators
that only pass it on, to the one that says what it is. Source: the operator pages of ONNX and of com.microsoft.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from ww_static.errors import FormatError, LimitError
from ww_static.protocol import Limits
from ww_static_readers._onnx_calls import Called, called, callers_first
from ww_static_readers._onnx_roles import (
    AUXILIARY,
    CODES,
    OTHER_AXES,
    PARTIAL,
    RECURRENT,
    ROLES,
    SAME_AXES,
    SIBLING,
    TRANSPOSABLE,
)
from ww_static_readers._onnx_wire import Attribute, Function, Graph, Model, Node, Sparse, Tensor

_LONGEST_LABEL = 128
_MOST_ORIGINS = 64
_INDICES = (6, 7)  # data types int32 and int64


@dataclass(slots=True)
class Codes:
    """How stored codes become values: (code - zero point) * scale.

    Attributes:
        axis: of a scale that is a vector.
        block: elements along `axis` that share a scale; 0 when the scale is a number or a vector.
        matrix: rows, columns and bits of MatMulNBits, whose codes are packed per block.
    """

    scale: Constant
    zero: Constant | None
    axis: int
    block: int = 0
    matrix: tuple[int, int, int] | None = None


@dataclass(slots=True, eq=False)
class Constant:
    """One tensor of the model, under its scoped name, with what the graph says of it."""

    name: str
    tensor: Tensor
    unnamed: bool = False
    sparse: Sparse | None = None
    role: str | None = None
    axes: tuple[str, ...] | None = None
    operator: str | None = None
    auxiliary: bool = False
    codes: Codes | None = None
    undecided: bool = False

    @property
    def shape(self) -> Sequence[int]:
        """Elements along each axis, as they are declared."""
        return self.sparse.dims if self.sparse else self.tensor.dims


@dataclass(frozen=True, slots=True)
class _Origin:
    """A constant behind a value: `axes` is the constant's axis at each axis of the value, None when that is lost."""

    constant: Constant
    axes: tuple[int, ...] | None
    whole: bool = True


@dataclass(slots=True)
class _Scope:
    """Names of one graph. Inner graphs see outer names, not the reverse."""

    path: str
    parent: _Scope | None
    nodes: Sequence[Node]
    graph: Graph | None
    values: dict[str, tuple[_Origin, ...]] = field(default_factory=dict)
    constants: dict[str, Constant] = field(default_factory=dict)
    one_hot: set[str] = field(default_factory=set)

    def is_one_hot(self, name: str) -> bool:
        """Whether a value is one where an index is, and zero elsewhere."""
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.one_hot:
                return True
            scope = scope.parent
        return False

    def find(self, name: str) -> tuple[_Origin, ...]:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.parent
        return ()

    def sibling(self, name: str) -> Constant | None:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.constants:
                return scope.constants[name]
            scope = scope.parent
        return None


def constants_of(model: Model, limits: Limits) -> list[Constant]:
    """Every constant of a model: initializers, Constant nodes, attributes, in all subgraphs and functions.

    Raises:
        FormatError: ``bad_header``, ``duplicate_name``, ``limit``.
    """
    if model.graph is None:
        raise FormatError("bad_header", "model", "has no graph")
    return _Collector(limits).run(model, model.graph)


class _Collector:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._found: list[Constant] = []
        self._names: set[str] = set()
        self._name_bytes = 0
        self._functions: Sequence[Function] = ()
        self._called: Called = {}
        self._arguments: dict[int, dict[str, tuple[_Origin, ...]]] = {}

    def run(self, model: Model, graph: Graph) -> list[Constant]:
        self._functions, self._called = model.functions, called(model.functions)
        self._walk(_Scope("", None, graph.nodes, graph))
        labels: set[str] = set()
        names = [":".join(part for part in (one.domain, one.name) if part) for one in model.functions]
        paths = [_label(name, "function", number, labels) + "/" for number, name in enumerate(names)]
        for number in callers_first(model.functions, self._called):
            given = self._arguments.get(number, {})
            self._walk(_Scope(paths[number], None, model.functions[number].nodes, None, given))
        return self._found

    def _walk(self, outer: _Scope) -> None:
        scopes = deque([outer])
        while scopes:
            scopes.extend(self._scope(scopes.popleft()))

    def _call(self, scope: _Scope, node: Node) -> None:
        """Hands the constants among the arguments of a call on to the names that they have in the function."""
        number = self._called.get((node.domain, node.operator))
        if number is None:
            return
        given = self._arguments.setdefault(number, {})
        for own, name in zip(self._functions[number].inputs, node.inputs, strict=False):
            if own and name and len(given.get(own, ())) < _MOST_ORIGINS and (origins := scope.find(name)):
                given[own] = (*given.get(own, ()), *origins)[:_MOST_ORIGINS]

    def _scope(self, scope: _Scope) -> Iterator[_Scope]:
        """Adds what one graph holds; gives its subgraphs."""
        for number, tensor in enumerate(scope.graph.initializers if scope.graph else ()):
            self._add(scope, tensor, tensor.name, f"initializer_{number}")
        for number, sparse in enumerate(scope.graph.sparse if scope.graph else ()):
            values = sparse.values or Tensor()
            self._add(scope, values, values.name, f"sparse_initializer_{number}", sparse)
        labels: set[str] = set()
        for number, node in enumerate(scope.nodes):
            label = _label(node.name, node.operator or "node", number, labels)
            for attribute in node.attributes:
                yield from self._attribute(scope, node, attribute, label)
            self._use(scope, node, label)

    def _attribute(self, scope: _Scope, node: Node, attribute: Attribute, label: str) -> Iterator[_Scope]:
        place = f"{label}/{attribute.name[:_LONGEST_LABEL]}"
        graphs = [(place, attribute.graph)] if attribute.graph is not None else []
        graphs += [(f"{place}_{number}", graph) for number, graph in enumerate(attribute.graphs)]
        for path, graph in graphs:
            yield _Scope(f"{scope.path}{path}/", scope, graph.nodes, graph)
        tensors = [attribute.tensor] if attribute.tensor is not None else []
        if attribute.single is not None and node.operator == "Constant":
            tensors.append(Tensor(data_type=1, floats=[attribute.single]))
        if attribute.floats and node.operator == "Constant":
            numbers = sum((run.end - run.start) // (4 + run.tag) for run in attribute.floats)
            tensors.append(Tensor(dims=[numbers], data_type=1, floats=attribute.floats))
        output = node.outputs[0] if node.operator == "Constant" and node.outputs else ""
        for tensor in tensors:
            self._add(scope, tensor, output or ("" if node.operator == "Constant" else place), place)
        for number, tensor in enumerate(attribute.tensors):
            self._add(scope, tensor, f"{place}_{number}", place)
        if attribute.sparse is not None:
            self._add(scope, attribute.sparse.values or Tensor(), output or place, place, attribute.sparse)

    def _add(self, scope: _Scope, tensor: Tensor, name: str, instead: str, sparse: Sparse | None = None) -> None:
        if tensor.data_type == 8:  # text is no weight
            return
        if len(self._found) >= self._limits.tensors:
            raise LimitError("limit", "model", f"more than {self._limits.tensors} tensors")
        if name and name in scope.constants:
            raise FormatError("duplicate_name", f"tensor '{scope.path}{name}'", "its graph holds two of this name")
        constant = Constant(self._unique(scope.path + (name or instead)), tensor, not name, sparse)
        rank = len(constant.shape)
        if rank > self._limits.rank:
            raise LimitError("limit", f"tensor '{constant.name}'", f"{rank} dimensions, limit {self._limits.rank}")
        self._found.append(constant)
        if name:
            scope.constants[name] = constant
            scope.values[name] = (_Origin(constant, tuple(range(rank))),)

    def _unique(self, name: str) -> str:
        """`name`, told apart from the same text that came about in another scope."""
        self._spend(name)
        wanted, number = name, 1
        while wanted in self._names:
            number += 1
            wanted = f"{name}#{number}"
        self._names.add(wanted)
        return wanted

    def _spend(self, text: str) -> None:
        self._name_bytes += len(text)
        if self._name_bytes > self._limits.header_bytes:
            raise LimitError("limit", "names", f"more than {self._limits.header_bytes} characters of scoped names")

    def _use(self, scope: _Scope, node: Node, label: str) -> None:
        """What one operator says about the constants that reach it."""
        self._call(scope, node)
        if node.domain not in ("", "ai.onnx", "com.microsoft"):
            return
        passes = node.operator in SAME_AXES or node.operator in OTHER_AXES or node.operator == "Transpose"
        path: str | None = None
        for number, name in enumerate(node.inputs):
            origins = scope.find(name) if name else ()
            if origins and path is None:
                path = scope.path + (node.name or label)
                self._spend(path)
            for origin in origins:
                _note(origin, node, number, path, passes and (number == 0 or node.operator == "Concat"))
        _find_codes(scope, node)
        self._one_hot(scope, node, path, passes)
        if passes and node.outputs:
            count = len(node.inputs) if node.operator == "Concat" else 1
            handed: dict[tuple[int, tuple[int, ...] | None, bool], _Origin] = {}
            for name in node.inputs[:count]:
                for origin in scope.find(name):
                    if len(handed) < _MOST_ORIGINS:
                        one = _passed(origin, node)
                        handed[id(one.constant), one.axes, one.whole] = one
            for output in node.outputs if handed else ():
                scope.values.setdefault(output, tuple(handed.values()))

    def _one_hot(self, scope: _Scope, node: Node, path: str | None, passes: bool) -> None:
        """Follows one-hot values to the weight that they choose rows of: an embedding in disguise."""
        if not node.inputs:
            return
        made = node.operator == "OneHot" or (node.operator == "Equal" and any(map(_is_range, map(scope.find, node.inputs))))
        if made or (passes and node.operator != "Concat" and scope.is_one_hot(node.inputs[0])):
            scope.one_hot.update(node.outputs)
        if path is None or len(node.inputs) < 2 or not scope.is_one_hot(node.inputs[0]):
            return
        for origin in scope.find(node.inputs[1]):
            if ROLES.get((node.operator, 1), ("",))[0] == "dense" and origin.constant.operator == path:
                origin.constant.role = "one_hot"


def _is_range(origins: Sequence[_Origin]) -> bool:
    """Whether a value may be the indices that others are compared with: several constant integers."""
    return (
        len(origins) == 1 and origins[0].constant.tensor.data_type in _INDICES and max(origins[0].constant.shape, default=1) > 1
    )


def _label(name: str, instead: str, number: int, taken: set[str]) -> str:
    """The name of a node as a part of a path, told apart from its siblings."""
    label = name if name and len(name) <= _LONGEST_LABEL else f"{instead[:_LONGEST_LABEL]}_{number}"
    if label in taken:
        label = f"{label}_{number}"
    taken.add(label)
    return label


def _integer(node: Node, name: str, otherwise: int) -> int:
    return next((one.number for one in node.attributes if one.name == name), otherwise)


def _note(origin: _Origin, node: Node, number: int, path: str | None, passes: bool) -> None:
    constant = origin.constant
    if number in AUXILIARY.get(node.operator, ()):
        constant.auxiliary = True
    role = ROLES.get((node.operator, number))
    other = (node.operator == "Gather" and _integer(node, "axis", 0) != 0) or (
        node.operator == "Attention" and node.domain != "com.microsoft"  # ONNX has another one, with keys at this input
    )
    if role is None or constant.role is not None or other:
        if constant.operator is None and not passes:
            constant.operator = path
        return
    kind, axes = role
    constant.operator = path
    constant.role = "recurrent" if kind in RECURRENT and not origin.whole else kind
    trans = TRANSPOSABLE.get(node.operator, {}).get(number)
    if trans is not None and _integer(node, trans, 0):
        axes = (*axes[:-2], axes[-1], axes[-2])
    if origin.axes is not None:
        constant.axes = _placed(axes, origin.axes)


def _placed(axes: tuple[str, ...], places: tuple[int, ...]) -> tuple[str, ...] | None:
    """The names of a value's axes, at the axes of the constant behind it."""
    rank = len(places)
    if axes[:1] == ("...",):
        axes = ("batch",) * (rank - 2) + axes[1:]
    elif axes[-1:] == ("*",):
        axes = axes[:-1] + ("kernel",) * (rank - 2)
    if len(axes) != rank or sorted(places) != list(range(rank)):
        return None
    named = [""] * rank
    for axis, place in zip(axes, places, strict=True):
        named[place] = axis
    return tuple(named)


def _passed(origin: _Origin, node: Node) -> _Origin:
    if node.operator in PARTIAL:
        origin = replace(origin, whole=False)
    if node.operator in SAME_AXES or origin.axes is None:
        return origin
    if node.operator != "Transpose":
        return replace(origin, axes=None)
    order = next((one.numbers for one in node.attributes if one.name == "perm"), None)
    rank = len(origin.axes)
    order = list(range(rank))[::-1] if order is None else order
    known = sorted(order) == list(range(rank))
    return replace(origin, axes=tuple(origin.axes[axis] for axis in order) if known else None)


def _find_codes(scope: _Scope, node: Node) -> None:
    """Ties codes to the scale and zero point that an operator takes with them."""
    if node.operator in CODES:
        codes, scale_input, zero_input, axis = CODES[node.operator]
        scale = _plain(scope, node, scale_input)
    elif node.operator in SIBLING:
        codes, zero_input, axis = SIBLING[node.operator]
        stem = node.inputs[codes].removesuffix("_quantized") if len(node.inputs) > codes else ""
        scale = scope.sibling(f"{stem}_scale") if stem else None
        if scale is not None:
            scale.auxiliary = True
    else:
        return
    origins = scope.find(node.inputs[codes]) if len(node.inputs) > codes else ()
    if len(origins) != 1 or not origins[0].whole:
        for origin in origins:
            origin.constant.undecided = True
        return
    constant = origins[0].constant
    zero_given = len(node.inputs) > zero_input and node.inputs[zero_input] != ""
    zero = _plain(scope, node, zero_input)
    found = _codes(node, origins[0], scale, zero, axis) if scale is not None and (zero is not None or not zero_given) else None
    same = constant.codes is None or constant.codes == found
    constant.undecided |= found is None or not same
    constant.codes = constant.codes or found


def _codes(node: Node, origin: _Origin, scale: Constant, zero: Constant | None, axis: int) -> Codes | None:
    rank = len(origin.constant.shape)
    if node.operator == "MatMulNBits":
        columns, rows = _integer(node, "K", 0), _integer(node, "N", 0)
        block, bits = _integer(node, "block_size", 0), _integer(node, "bits", 4)
        reordered = len(node.inputs) > 4 and node.inputs[4] != ""  # g_idx: columns in another order
        plain = not reordered and origin.axes is not None
        return Codes(scale, zero, 1, block, (rows, columns, bits)) if plain else None
    if node.operator == "DequantizeLinear":
        axis = _integer(node, "axis", axis)
    if node.operator == "QGemm" and _integer(node, "transB", 0):
        axis = 0
    if not scale.shape or list(scale.shape) == [1]:
        return Codes(scale, zero, 0)
    if origin.axes is None or not -rank <= axis < rank:
        return None
    return Codes(scale, zero, origin.axes[axis], _integer(node, "block_size", 0))


def _plain(scope: _Scope, node: Node, number: int) -> Constant | None:
    """The constant at an input, when it gets there as it is."""
    origins = scope.find(node.inputs[number]) if len(node.inputs) > number and node.inputs[number] else ()
    plain = len(origins) == 1 and origins[0].whole and origins[0].axes == tuple(range(len(origins[0].constant.shape)))
    return origins[0].constant if plain else None
