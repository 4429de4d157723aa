"""Every name that means something in a PyTorch pickle: one exact table, by group; whatever is not in it is foreign.

Names are matched whole, as (module, name), never by prefix. The prefixes of `HARMLESS` decide only how a foreign class is
graded, never what it means. Source: torch/_utils.py, torch/storage.py and torch/serialization.py of torch 2.13.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from ww_static.errors import FormatError
from ww_static.protocol import Finding
from ww_static_readers import _torch_rebuild as rules
from ww_static_readers._pickle import Machine
from ww_static_readers._pickle_nodes import Global, Opaque
from ww_static_readers._torch_rebuild import Rule
from ww_static_readers._torch_values import BYTE, DTYPES, STORAGES, Array, Element, Plain, Storage, is_count

# A name that is kept as it is: a type, a flag, or an object in which nothing is looked for.
QUIET: Rule | None = None
_CORES = ("numpy.core", "numpy._core")  # before and since numpy 2
_TENSOR_CLASSES = ("Tensor", *(f"{kind}Tensor" for kind in STORAGES if not kind.startswith("Q")))
_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
_SCRIPT_LISTS = ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist", "restore_type_tag")

TABLE: Mapping[str, Mapping[tuple[str, str], Rule | None]] = {
    "containers": {
        ("collections", "OrderedDict"): rules.dictionary,
        ("collections", "Counter"): rules.dictionary,
        ("collections", "defaultdict"): rules.default_dictionary,
        ("builtins", "set"): rules.sequence,
        ("builtins", "frozenset"): rules.sequence,
        ("builtins", "dict"): rules.dictionary,
        ("builtins", "list"): rules.sequence,
        ("builtins", "tuple"): rules.fixed,
        ("builtins", "bytearray"): rules.byte_array,
        ("builtins", "complex"): QUIET,
        ("builtins", "slice"): QUIET,
        ("builtins", "object"): QUIET,
        ("_codecs", "encode"): rules.encoded,
        ("copyreg", "_reconstructor"): rules.reconstructed,
    },
    "storages": {
        **{(module, f"{kind}Storage"): QUIET for module in ("torch", "torch.cuda") for kind in STORAGES},
        ("torch.storage", "UntypedStorage"): QUIET,
        ("torch.storage", "TypedStorage"): QUIET,
    },
    "rebuilds": {
        **rules.REBUILDS,
        ("torch._tensor", "_rebuild_from_type_v2"): rules.from_type,
        ("torch.nn.parameter", "Parameter"): rules.same,
        **{("torch", name): QUIET for name in _TENSOR_CLASSES},
        **{("torch.cuda", name): QUIET for name in _TENSOR_CLASSES[1:]},
        ("torch", "Size"): rules.fixed,
        ("torch", "device"): QUIET,
        ("torch.serialization", "_get_layout"): QUIET,
    },
    "dtypes and schemes": {("torch", name): QUIET for name in (*DTYPES, *rules.SCHEMES)},
    "numpy": {
        ("numpy", "dtype"): rules.plain_dtype,
        ("numpy", "ndarray"): QUIET,
        **{(f"{core}.multiarray", "_reconstruct"): rules.empty_array for core in _CORES},
        **{(f"{core}.multiarray", "scalar"): QUIET for core in _CORES},
        **{(f"{core}.numeric", "_frombuffer"): rules.from_buffer for core in _CORES},
    },
    # classes of the index of a distributed checkpoint; elsewhere they are foreign
    "distributed": {
        **{
            ("torch.distributed.checkpoint.metadata", name): QUIET
            for name in (
                "BytesStorageMetadata",
                "ChunkStorageMetadata",
                "Metadata",
                "MetadataIndex",
                "StorageMeta",
                "TensorProperties",
                "TensorStorageMetadata",
                "_MEM_FORMAT_ENCODING",
            )
        },
        ("torch.distributed.checkpoint.filesystem", "_StorageInfo"): QUIET,
        **{
            ("torch.distributed._shard.sharded_tensor.metadata", name): QUIET
            for name in ("MEM_FORMAT_ENCODING", "TensorProperties")
        },
        **{(module, name): QUIET for module in ("pathlib", "pathlib._local") for name in _PATHS},
    },
    # functions by which TorchScript writes lists; their first argument is the list
    "script": {("torch.jit._pickle", name): rules.sequence for name in _SCRIPT_LISTS},
}
_NAMES = {pair: rule for group, names in TABLE.items() if group != "distributed" for pair, rule in names.items()}
Container = Literal["archive", "script", "stream", "bare", "distributed"]

# Packages whose classes are common in checkpoints: rebuilt from their state they are no more than their state.
HARMLESS = (
    "omegaconf", "transformers.training_args", "pytorch_lightning", "lightning", "torch.nn.modules", "torch.ao.nn",
    "torch.distributed.checkpoint", "torch.distributed.tensor", "torch.distributed.device_mesh",
    "torch.distributed._mesh_layout", "torchao",
)  # fmt: skip
_NAMESPACE = ("argparse", "Namespace")
# Classes that are made by a call of plain arguments: paths, dates, members of enumerations.
_CALLED = frozenset(
    {(module, name) for module in ("pathlib", "pathlib._local") for name in _PATHS}
    | {("datetime", name) for name in ("date", "time", "datetime", "timedelta", "timezone")}
    | {("torch.distributed.checkpoint.metadata", "_MEM_FORMAT_ENCODING")}
    | {("torchao.quantization.quant_primitives", name) for name in ("MappingType", "ZeroPointDomain", "TorchAODType")}
    | {("transformers.training_args", "OptimizerNames"), ("transformers.training_args", "ParallelMode")}
    | {("transformers.trainer_utils", name) for name in (
        "EvaluationStrategy", "FSDPOption", "HubStrategy", "IntervalStrategy", "SaveStrategy", "SchedulerType")}
)  # fmt: skip
SCRIPT = "__torch__"  # the root of TorchScript's own class names


class TorchMeaning:
    """The table, for one pickle.

    Attributes:
        storages: every storage that was referred to, by key.

    Args:
        container: what the pickle lies in. Where there are storages, persistent identifiers are looked up; in TorchScript
            its own classes are part of the format, in the index of a distributed checkpoint those of the index.
    """

    def __init__(self, container: Container) -> None:
        self.storages: dict[str, Storage] = {}
        self._stored = container in ("archive", "script", "stream")
        self._scripted = container == "script"
        self._names = {**_NAMES, **TABLE["distributed"]} if container == "distributed" else _NAMES

    def known(self, name: Global) -> bool:
        """Whether the name is in the table."""
        return (name.module, name.name) in self._names or self._is_script(name)

    def inert(self, name: Global, called: bool) -> bool:
        """Whether a foreign object is harmless."""
        pair = (name.module, name.name)
        if pair in _CALLED:
            return True
        if called or not name.name.isidentifier() or not name.name.lstrip("_")[:1].isupper():
            return False
        return pair == _NAMESPACE or any(name.module == one or name.module.startswith(one + ".") for one in HARMLESS)

    def call(self, name: Global, arguments: tuple[Any, ...], machine: Machine) -> Any:
        """The plain value that a call stands for."""
        rule = self._names.get((name.module, name.name))
        if rule is None:
            return Opaque(name, arguments)
        try:
            return rule(arguments, machine)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError, OverflowError) as error:
            raise machine.bad(f"calls '{name}' with arguments that do not fit") from error

    def build(self, value: Any, state: Any) -> bool:
        """State of numpy's dtypes and arrays; the attributes of dictionaries and tensors say nothing about weights."""
        if isinstance(value, Plain) and isinstance(state, tuple) and len(state) > 1:
            value.swapped = state[1] == ">"
        elif isinstance(value, Array) and isinstance(state, tuple) and len(state) == 5:
            _, shape, dtype, fortran, data = state
            if isinstance(dtype, Plain) and isinstance(shape, tuple) and isinstance(data, bytes):
                rules.filled(value, shape, dtype, bool(fortran), data)
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
        if not isinstance(kind, Global) or not isinstance(key, str) or not is_count(numel):
            raise machine.bad("a storage has no type, key or number of elements")
        element = _storage_element(kind)
        if element is None:
            problem = f"storage type '{kind!s:.200}' is not known"
            raise machine.blamed(FormatError("unknown_dtype", machine.where, problem))
        made = Storage(element, key, numel)
        first = self.storages.setdefault(key, made)
        if first.numel * first.element.size != numel * element.size:
            raise machine.bad(f"storage '{key:.200}' has two sizes")
        view = identifier[5] if len(identifier) == 6 else None
        if view is None:
            return made
        if not isinstance(view, tuple) or len(view) != 3 or not is_count(view[1]) or not is_count(view[2]):
            raise machine.bad("the view of a storage has no offset and size")
        if view[1] + view[2] > numel:
            raise machine.bad(f"the view of a storage ends at element {view[1] + view[2]} of {numel}")
        return replace(made, begin=view[1] * element.size, length=view[2])

    def _is_script(self, name: Global) -> bool:
        return self._scripted and (name.module == SCRIPT or name.module.startswith(SCRIPT + "."))


def _storage_element(kind: Global) -> Element | None:
    if kind.module == "torch.storage" and kind.name in ("UntypedStorage", "TypedStorage"):
        return BYTE
    if kind.module in ("torch", "torch.cuda") and kind.name.endswith("Storage"):
        return STORAGES.get(kind.name.removesuffix("Storage"))
    return None
