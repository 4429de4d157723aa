"""Seeds of the PyTorch reader: zip archives, TorchScript, legacy streams, bare pickles; views, quantized and sparse tensors."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

import torch_files
from fuzz.seed import Parts, Seed
from torch_files import Raw, call, glob, op, stored, tensor
from ww_static import dtypes
from ww_static.testing import Stored

_VALUES = np.arange(24, dtype=np.float32)
_FULL = tensor(stored("FloatStorage", "0", 24), (4, 6))


def seeds() -> tuple[Seed, ...]:
    """The seeds."""
    values = {"0": _VALUES.tobytes()}
    views = {
        "whole": _FULL, "tied": _FULL, "turned": tensor(stored("FloatStorage", "0", 24), (6, 4), (1, 6)),
        "part": tensor(stored("FloatStorage", "0", 24), (2, 2), (6, 1), 7), "wide": tensor(stored("FloatStorage", "0", 24), (5, 24), (0, 1)),
    }  # fmt: skip
    return (
        _zip("state dict", _nested_root(), values),
        _zip("views", views, values),
        _zip("deflated", {"state_dict": {"module.w": _FULL}, "epoch": 3, "lr": 0.5}, values, deflated=True),
        _zip("zip64", {"model": {"w": _FULL}}, values, wide=True),
        _every_dtype(),
        _zip("torchscript", _script(), values, more={"code/__torch__.py": b"pass", "constants.pkl": b"\x80\x02)."}),
        _zip("quantized", _quantized(), {"0": bytes(range(24)), "1": np.ones(4).tobytes(), "2": bytes(32)}),
        _zip("sparse and meta", _sparse(), values, also=("opened+no_data", "opened+unsupported_layout")),
        _zip("arrays", {"c": _array(False), "f": _array(True)}, {}),
        _zip("whole module", _module(), values),
        _zip("containers", _containers(), values),
        _legacy("legacy", {"w": tensor(stored("FloatStorage", "0", 24, None), (4, 6)), "b": _view()}),
        _bare("bare pickle", {"w": _array(False), "n": 1}),
        _bare("text pickle", Raw(b"(dp0\nVw\np1\n" + _array(True) + b"sVn\nI5\nsVf\nF1.5\nsVl\nL7L\ns")),
    )


def _zip(
    name: str,
    root: Any,
    records: Mapping[str, bytes],
    deflated: bool = False,
    wide: bool = False,
    more: Mapping[str, bytes] | None = None,
    also: tuple[str, ...] = (),
) -> Seed:
    members = torch_files.members(root, records, more=more)
    own: dict[str, bytes] = {
        member: members[member]
        for member in ("archive/data.pkl", "archive/data/0", "archive/constants.pkl")
        if member in members
    }

    def build(parts: Parts) -> dict[str, bytes]:
        return {"m.pt": torch_files.zipped({**members, **parts}, deflated, wide)}

    return Seed(name, "m.pt", own, build, {"archive/data.pkl": "pickle"}, also)


def _nested_root() -> Raw:
    parameter = call("torch._utils", "_rebuild_parameter", _FULL, True, torch_files.ORDERED)
    held = op("encoder.weight") + parameter + op("encoder.bias") + tensor(stored("FloatStorage", "0", 24), (6,))
    return Raw(torch_files.ORDERED + b"q\x05(" + held + b"u" + op({"_metadata": torch_files.ORDERED}) + b"b")


def _every_dtype() -> Seed:
    def sample(dtype: str) -> Stored:
        raw = bytes(place % 2 for place in range(6 * dtypes.numpy_dtype(dtype).itemsize))
        return Stored(dtype, np.frombuffer(raw, dtypes.numpy_dtype(dtype)).reshape(2, 3))

    held = {dtype: sample(dtype) for dtype in (*torch_files.STORAGES, *torch_files.DTYPES)}
    records = {str(place): one.array.tobytes() for place, one in enumerate(held.values())}
    return _zip("every dtype", torch_files.state_dict(held), records)


def _script() -> Raw:
    state = {"weight": _FULL, "sizes": call("torch.jit._pickle", "build_intlist", [1, 2])}
    inner = glob("__torch__.net", "Conv1d") + b")\x81" + op(state) + b"b"
    return Raw(glob("__torch__.net", "Net") + b")\x81" + op({"conv": Raw(inner), "training": False}) + b"b")


def _quantized() -> dict[str, Raw]:
    held = stored("QInt8Storage", "0", 24)
    whole = (glob("torch", "per_tensor_affine"), 0.1, 3)
    vectors = (tensor(stored("DoubleStorage", "1", 4), (4,)), tensor(stored("LongStorage", "2", 4), (4,)))
    rows = (glob("torch", "per_channel_affine"), *vectors, 0)
    return {
        name: call("torch._utils", "_rebuild_qtensor", held, 0, (4, 6), (6, 1), scheme, False, {})
        for name, scheme in (("whole", whole), ("rows", rows))
    }


def _sparse() -> dict[str, Raw]:
    dense = (stored("FloatStorage", "0", 24), 0, (4, 6), (6, 1), False, torch_files.ORDERED)
    kind: tuple[Any, ...] = (glob("torch._utils", "_rebuild_tensor_v2"), glob("torch", "Tensor"), dense, {})
    layout = call("torch.serialization", "_get_layout", "torch.sparse_coo")
    return {
        "w": _FULL,
        "sparse": call("torch._utils", "_rebuild_sparse_tensor", layout, (_FULL, _FULL, call("torch", "Size", (50, 60)))),
        "rows": call("torch._utils", "_rebuild_sparse_tensor", glob("torch", "sparse_csr"), (_FULL, _FULL, _FULL, (9, 8))),
        "nested": call("torch._utils", "_rebuild_nested_tensor", _FULL, _FULL, _FULL, _FULL),
        "wrapper": call(
            "torch._utils", "_rebuild_wrapper_subclass", glob("torch", "Tensor"), glob("torch", "float32"), (4, 6), (6, 1)
        ),
        "meta": call("torch._utils", "_rebuild_meta_tensor_no_storage", glob("torch", "float32"), (10, 10), (10, 1), False),
        "typed": call("torch._tensor", "_rebuild_from_type_v2", *kind),
    }


def _array(fortran: bool) -> Raw:
    made = call("numpy.core.multiarray", "_reconstruct", glob("numpy", "ndarray"), (0,), b"b")
    dtype = Raw(call("numpy", "dtype", "f4", False, True) + op((3, "<", None, None, None, -1, -1, 0)) + b"b")
    text = call("_codecs", "encode", _VALUES.tobytes().decode("latin-1"), "latin1")
    return Raw(made + op((1, (4, 6), dtype, fortran, text)) + b"b")


def _module() -> Raw:
    def module(name: str, state: dict[str, Any]) -> Raw:
        return Raw(glob("torch.nn.modules." + name.lower(), name) + b")\x81" + op(state) + b"b")

    hooks = dict.fromkeys(("_buffers", "_forward_hooks", "_backward_hooks"), torch_files.ORDERED)
    parameter = call("torch._utils", "_rebuild_parameter", _FULL, True, torch_files.ORDERED)
    linear = module("Linear", {"training": True, "_parameters": {"weight": parameter, "bias": None}, "_modules": {}, **hooks})
    return module("Container", {"_parameters": {}, "_modules": {"0": linear}, **hooks})


def _containers() -> dict[str, Any]:
    pairs = (("w", _FULL), ("n", 1))
    return {
        "state_dict": call("collections", "OrderedDict", [["w", _FULL]]),
        "ema": call("collections", "defaultdict", glob("builtins", "list"), {"w": _FULL}),
        "counts": call("collections", "Counter", {"w": 2}),
        "module": call("builtins", "dict", pairs),
        "parts": call("builtins", "list", (_FULL, _FULL)),
        "names": call("builtins", "set", ["a", "b"]),
        "frozen": call("builtins", "frozenset", ("a",)),
        "bytes": call("builtins", "bytearray", b"abc"),
        "object": call("copyreg", "_reconstructor", glob("argparse", "Namespace"), glob("builtins", "object"), None),
        "number": call("builtins", "complex", 1.0, 2.0),
        "size": call("torch", "Size", (1, 2)),
        "device": call("torch", "device", "cpu"),
    }


def _view() -> Raw:
    return tensor(stored("FloatStorage", "0", 24, ("v", 6, 12)), (2, 6))


def _legacy(name: str, root: Any) -> Seed:
    head = torch_files.legacy({}, {})
    info = torch_files.pickled({"protocol_version": 1001, "little_endian": True})
    start = head[: head.index(info)]

    def build(parts: Parts) -> dict[str, bytes]:
        tail = struct.pack("<q", 24) + _VALUES.tobytes()
        return {"m.pth": start + parts["info"] + parts["object"] + parts["keys"] + tail}

    parts = {"info": info, "object": torch_files.pickled(root), "keys": torch_files.pickled(["0"])}
    return Seed(name, "m.pth", parts, build, dict.fromkeys(parts, "pickle"))


def _bare(name: str, root: Any) -> Seed:
    return Seed(name, "m.pkl", {"m.pkl": torch_files.pickled(root)}, forms={"m.pkl": "pickle"})
