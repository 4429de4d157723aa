"""Archives of torch.export (.pt2): raw weights, a JSON list that says what they are, a JSON graph that uses them.

`ROOT/archive_format` is pt2; `ROOT/data/weights/NAME_weights_config.json` maps each tensor to `ROOT/data/weights/weight_N`, the
bytes of its storage, with dtype, sizes, strides and offset; constants likewise; `ROOT/models/NAME.json` is the graph. Sample
inputs and custom objects are pickles, and are never opened. Source: torch/export/pt2_archive/_package.py of torch 2.13.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ww_static.errors import FormatError, LimitError, UnknownFormatError
from ww_static.protocol import Finding, Limits
from ww_static_readers import _zip
from ww_static_readers._pickle_nodes import Opaque
from ww_static_readers._strict_json import parse_json
from ww_static_readers._torch_records import Contents, Record, is_big, record_of
from ww_static_readers._torch_values import BYTE, DTYPES, Storage, Tensor, is_count
from ww_static_readers._zip import Member

_FORMAT, _VALUE = "archive_format", b"pt2"
_PARTS = ("weights", "constants")
_CONFIG = "_config.json"
_STRIDED = 7
# ScalarType of torch/_export/serde/schema.py -> dtype of torch
_SCALARS = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64", 9: "complex32",
    10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16", 29: "float8_e4m3fn", 30: "float8_e5m2",
    31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz", 33: "float8_e8m0fnu", 34: "uint32", 35: "uint64",
}  # fmt: skip
# Operator of a graph -> what its argument `weight` is.
_ROLES = {
    "linear": "dense", "embedding": "embedding", "embedding_bag": "embedding", "conv1d": "conv", "conv2d": "conv", "conv3d": "conv",
    "convolution": "conv", "conv_transpose1d": "conv_transpose", "conv_transpose2d": "conv_transpose",
    "conv_transpose3d": "conv_transpose",
}  # fmt: skip
_OPERATORS = "torch.ops.aten."


def root_of(members: Mapping[str, Member]) -> str | None:
    """What the names of an archive of torch.export begin with; None for another archive."""
    return next((name[: -len(_FORMAT)] for name in members if name.split("/", 1)[-1] == _FORMAT), None)


def read_export(descriptor: int, members: Mapping[str, Member], root: str, findings: list[Finding], limits: Limits) -> Contents:
    """What an archive of torch.export says: its lists and graphs are read, no payload, no pickle.

    Raises:
        FormatError: ``bad_header``, ``missing_part``, ``unknown_dtype``, ``duplicate_name``.
        UnknownFormatError: ``unsupported``; there is no list of weights.
        LimitError: ``limit``.
    """
    if _content(descriptor, members[root + _FORMAT], limits) != _VALUE:
        raise FormatError("bad_header", _FORMAT, "is not pt2")
    if any(name.startswith(f"{root}data/aotinductor/") for name in members):
        findings.append(Finding("embedded_code", "zip", "holds compiled code, which is not read"))
    configs = [(name, part) for name in members for part in _PARTS if _is_config(name, root, part)]
    if not any(part == "weights" for _, part in configs):
        raise UnknownFormatError("unsupported", "zip", "an archive of torch.export without a list of weights; export it again")
    made: dict[str, Opaque] = {}
    records: dict[str, Record] = {}
    for name, part in configs:
        model = name[len(f"{root}data/{part}/") : -len(f"_{part}{_CONFIG}")]
        held = made.setdefault(model, Opaque(None)).parts  # pairs, since a weight and a constant may share a name
        for tensor, entry in _entries(descriptor, members[name], limits):
            found = _tensor(tensor, entry, f"{root}data/{part}/", members, findings)
            if found is not None:
                held.append((tensor, found))
                if found.storage is not None:
                    records[found.storage.key] = record_of(members[found.storage.key])
    single = len(made) == 1
    roles: dict[str, str] = {}
    for model in made:
        graph = members.get(f"{root}models/{model}.json")
        if graph is not None:
            roles |= {name if single else f"{model}.{name}": role for name, role in _roles(descriptor, graph, findings, limits)}
    tree = next(iter(made.values())) if single else dict(made)
    big = is_big(descriptor, members.get(f"{root}byteorder"), limits)
    return Contents(tree, "weights", None, records, big, tuple(findings), roles)


def _is_config(name: str, root: str, part: str) -> bool:
    return name.startswith(f"{root}data/{part}/") and name.endswith(f"_{part}{_CONFIG}")


def _content(descriptor: int, member: Member, limits: Limits) -> bytes:
    if member.size > limits.header_bytes:
        raise LimitError("limit", f"member '{member.name:.200}'", f"{member.size} bytes, limit {limits.header_bytes}")
    return b"".join(_zip.inflate(descriptor, member, limits))


def _entries(descriptor: int, member: Member, limits: Limits) -> Iterator[tuple[str, dict[str, Any]]]:
    where = f"member '{member.name:.200}'"
    document = parse_json(_content(descriptor, member, limits), where)
    config = document.get("config") if isinstance(document, dict) else None
    if not isinstance(config, dict) or not all(isinstance(entry, dict) for entry in config.values()):
        raise FormatError("bad_header", where, "config is not a map from tensor names to their places")
    if len(config) > limits.tensors:
        raise LimitError("limit", where, f"{len(config)} tensors, limit {limits.tensors}")
    yield from config.items()


def _tensor(
    name: str, entry: dict[str, Any], folder: str, members: Mapping[str, Member], findings: list[Finding]
) -> Tensor | None:
    """The tensor of one entry; None when it is an object of another kind."""
    where = f"tensor '{name}'"
    path, described = entry.get("path_name"), entry.get("tensor_meta")
    if not isinstance(path, str):
        raise FormatError("bad_header", where, "has no path_name")
    if folder + path not in members:
        raise FormatError("missing_part", where, f"its storage '{path:.200}' is missing")
    if entry.get("use_pickle") is not False:
        findings.append(Finding("unsupported", where, "is a pickled object, which is not opened", name))
        if not isinstance(described, dict):
            return None
    if not isinstance(described, dict):
        raise FormatError("bad_header", where, "has no tensor_meta")
    scalar = described.get("dtype")
    if type(scalar) is not int or scalar not in _SCALARS:
        raise FormatError("unknown_dtype", where, f"scalar type {scalar!r:.40} is not known")
    element = DTYPES[_SCALARS[scalar]]
    shape, strides = _counts(described, "sizes", where), _counts(described, "strides", where)
    (offset,) = _counts({"storage_offset": [described.get("storage_offset")]}, "storage_offset", where)
    member = members[folder + path]
    if entry["use_pickle"] is not False or described.get("layout") != _STRIDED:
        return Tensor(element, None, 0, shape, (), "unsupported")
    if not member.size and 0 not in shape:  # exported without values
        return Tensor(element, None, 0, shape, (), "absent")
    return Tensor(element, Storage(BYTE, member.name, member.size), offset, shape, strides)


def _counts(described: dict[str, Any], field: str, where: str) -> tuple[int, ...]:
    """Numbers that are written as ``{"as_int": 4}``."""
    values = described.get(field)
    numbers = [one.get("as_int") if isinstance(one, dict) else None for one in values] if isinstance(values, list) else [None]
    if not all(is_count(number) for number in numbers):
        raise FormatError("bad_header", where, f"{field} is not a list of counts")
    return tuple(number for number in numbers if number is not None)


def _roles(descriptor: int, member: Member, findings: list[Finding], limits: Limits) -> Iterator[tuple[str, str]]:
    """Tensors and what the graph uses them for; a graph that cannot be read says nothing, and is a finding."""
    try:
        document: Any = parse_json(_content(descriptor, member, limits), f"member '{member.name:.200}'")
        module = document["graph_module"]
        inputs, nodes = module["signature"]["input_specs"], module["graph"]["nodes"]
        names = {spec[kind]["arg"]["name"]: spec[kind][f"{kind}_name"] for spec in inputs for kind in spec if _is_held(kind)}
        used: dict[str, str] = {}
        for node in nodes:
            role = _ROLES.get(str(node["target"]).removeprefix(_OPERATORS).split(".")[0])
            if role == "conv" and "convolution" in node["target"] and _is_transposed(node):
                role = "conv_transpose"
            for argument in node["inputs"] if role else ():
                if argument["name"] == "weight" and isinstance(argument["arg"], dict):
                    used.setdefault(str(argument["arg"].get("as_tensor", {}).get("name")), str(role))
        yield from [(str(names[name]), role) for name, role in used.items() if name in names]
    except FormatError as error:
        findings.append(Finding("bad_config", error.where, f"the graph cannot be read: {error.category}: {error.problem}"))
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        words = f"the graph is not as torch writes it: {type(error).__name__}"
        findings.append(Finding("bad_config", f"member '{member.name:.200}'", words))


def _is_held(kind: str) -> bool:
    return kind in ("parameter", "buffer", "tensor_constant")


def _is_transposed(node: dict[str, Any]) -> bool:
    return any(one["name"] == "transposed" and one["arg"].get("as_bool") is True for one in node["inputs"])
