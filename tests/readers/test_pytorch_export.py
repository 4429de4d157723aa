"""Archives of torch.export: weights as their list says, strictly; the graph as evidence; pickles inside are never opened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import torch_files as tf
import ww_static
from torch_files import export_graph, exported, payload, zipped
from ww_static.errors import FormatError, LimitError, UnknownFormatError
from ww_static.protocol import Limits
from ww_static.seam import OpenCheckpoint, open_checkpoint
from ww_static.testing import ReaderSuite, Stored
from ww_static_readers import pytorch

VALUES = np.arange(24, dtype=np.float32)
HELD = {"weights/weight_0": VALUES.tobytes()}
EVIL = b"cposix\nsystem\n(X\x01\x00\x00\x00xtR."


class TestExport(ReaderSuite):
    """Archives as torch.export.save writes them, every dtype."""

    reader = pytorch
    dtypes = tuple(tf.SCALARS)
    claims = ("torch legacy", "zip", "pickle")

    def write(self, folder: Path, tensors: Mapping[str, Stored]) -> Path:
        weights = {name: payload(f"weight_{i}", one.dtype, one.array.shape) for i, (name, one) in enumerate(tensors.items())}
        records = {f"weights/weight_{i}": one.array.tobytes() for i, one in enumerate(tensors.values())}
        path = folder / "model.pt2"
        path.write_bytes(zipped(exported(weights, records)))
        return path


def _write(folder: Path, weights: Mapping[str, Any], records: Mapping[str, bytes] = HELD, **more: Any) -> Path:
    path = folder / "model.pt2"
    path.write_bytes(zipped(exported(weights, records, **more)))
    return path


def _opened(folder: Path, weights: Mapping[str, Any], records: Mapping[str, bytes] = HELD, **more: Any) -> OpenCheckpoint:
    return open_checkpoint(_write(folder, weights, records, **more))


def test_views_ties_and_constants_are_as_the_lists_say(tmp_path: Path) -> None:
    weights = {
        "turned": payload("weight_0", "F32", (6, 4), (1, 6)), "part": payload("weight_0", "F32", (2, 3), offset=10),
        "emb.weight": payload("weight_0", "F32", (4, 6)), "head.weight": payload("weight_0", "F32", (4, 6)),
    }  # fmt: skip
    constants = {"mask": payload("tensor_0", "I64", (3,)), "part": payload("tensor_0", "I64", (1,), offset=2)}
    records = {**HELD, "constants/tensor_0": np.array([7, 8, 9]).tobytes()}
    path = _write(tmp_path, weights, records, constants=constants)
    with open_checkpoint(path) as checkpoint:
        values = {spec.name: checkpoint.read(spec).tolist() for spec in checkpoint.tensors}
        assert checkpoint.findings == ()
    matrix = VALUES.reshape(4, 6)
    assert values == {
        "turned": matrix.T.tolist(), "part": [[10, 11, 12], [13, 14, 15]], "emb.weight": matrix.tolist(),
        "head.weight": matrix.tolist(), "mask": [7, 8, 9], "part#2": [9],
    }  # fmt: skip
    assert {row.name: row.tied_to for row in ww_static.describe(path)}["head.weight"] == "emb.weight"


def test_bytes_of_a_big_endian_machine_are_turned(tmp_path: Path) -> None:
    records = {"weights/weight_0": VALUES.astype(">f4").tobytes()}
    with _opened(tmp_path, {"w": payload("weight_0", "F32", (4, 6))}, records, order="big") as checkpoint:
        assert (checkpoint.read(checkpoint.spec("w")) == VALUES.reshape(4, 6)).all()


def test_the_graph_says_what_weights_are(tmp_path: Path) -> None:
    weights = {name: payload("weight_0", "F32", (3, 2, 2, 2)) for name in ("0.weight", "1.weight")}
    weights |= {name: payload("weight_0", "F32", (4, 6)) for name in ("table", "2.weight", "unused")}
    parameters = {"p_0": "0.weight", "p_1": "1.weight", "p_2": "2.weight", "p_t": "table"}
    nodes = [
        ("conv2d.default", "p_0"),
        ("conv_transpose2d.input", "p_1"),
        ("linear.default", "p_2"),
        ("embedding.default", "p_t"),
    ]
    path = _write(tmp_path, weights, graph=export_graph(parameters, [*nodes, ("add.Tensor", "p_2")]))
    assert {row.name: row.kind for row in ww_static.describe(path)} == {
        "0.weight": "conv2d", "1.weight": "conv_transpose", "2.weight": "dense", "table": "embedding", "unused": "dense",
    }  # fmt: skip
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.spec("unused").role is None


@pytest.mark.parametrize("graph", [[1], {"graph_module": 7}, {"graph_module": {"signature": {}}}, {"a": 1e999}])
def test_a_graph_that_is_none_costs_a_finding_and_no_weight(tmp_path: Path, graph: Any) -> None:
    with _opened(tmp_path, {"w": payload("weight_0", "F32", (4, 6))}, graph=graph) as checkpoint:
        assert [one.category for one in checkpoint.findings] == ["bad_config"]
        assert checkpoint.read(checkpoint.spec("w")).shape == (4, 6)


def test_several_models_of_one_archive_are_scopes(tmp_path: Path) -> None:
    weights = {"fc.weight": payload("weight_0", "F32", (4, 6))}
    members = exported(weights, HELD, graph=export_graph({"p": "fc.weight"}, [("linear.default", "p")]), model="a")
    members |= exported(weights, HELD, model="b")
    path = tmp_path / "model.pt2"
    path.write_bytes(zipped(members))
    with open_checkpoint(path) as checkpoint:
        assert [(spec.name, spec.role) for spec in checkpoint.tensors] == [("a.fc.weight", "dense"), ("b.fc.weight", None)]


def test_pickles_inside_are_never_opened(tmp_path: Path) -> None:
    records = {**HELD, "weights/weight_1": EVIL, "constants/custom_obj_0": EVIL, "sample_inputs/model.pt": EVIL}
    weights = {
        "w": payload("weight_0", "F32", (4, 6)), "packed": payload("weight_1", "F32", (8, 8), use_pickle=True),
    }  # fmt: skip
    constants = {"object": payload("custom_obj_0", "F32", (), use_pickle=True, tensor_meta=None)}
    path = _write(tmp_path, weights, records, constants=constants)
    result = ww_static.analyze(path)
    rows = {row.name: (row.status, row.reason) for row in result}
    assert rows["packed"] == ("skipped", "unsupported_layout")
    assert set(rows) == {"w", "packed"}
    assert [row.category for row in result.finding_rows].count("unsupported") == 2
    assert result.exit_code == 3


@pytest.mark.parametrize("name", ["archive/data.pkl", "archive/DATA.pkl", "data.pkl", "other/Data.Pkl"])
@pytest.mark.parametrize(
    ("pickle", "match"),
    [
        (
            b"\x80\x02" + EVIL,
            "unsafe_pickle: data.pkl: calls 'posix.system'.*; then corrupt_archive: is a torch.export archive",
        ),
        (b"\x80\x02" + EVIL[:-1] + b"\xff", "unsafe_pickle: data.pkl: calls 'posix.system'"),
        (
            b"\x80\x02}.",
            "corrupt_archive: zip: is a torch.export archive and has a data.pkl, .*: two programs could read two models",
        ),
        (b"no pickle", "corrupt_archive: zip: is a torch.export archive"),
    ],
)
def test_an_archive_that_is_also_a_pickle_is_refused_and_the_pickle_blamed(
    tmp_path: Path, name: str, pickle: bytes, match: str
) -> None:
    members = exported({"w": payload("weight_0", "F32", (4, 6))}, HELD)
    path = tmp_path / "model.pt"
    path.write_bytes(zipped({**members, name: pickle}))
    with pytest.raises(FormatError, match=match):
        open_checkpoint(path)


def test_weights_without_values_and_layouts_that_are_not_dense_are_rows_with_a_reason(tmp_path: Path) -> None:
    weights = {"fake": payload("weight_1", "F32", (8, 8)), "sparse": payload("weight_0", "F32", (4, 6))}
    weights["sparse"]["tensor_meta"]["layout"] = 1
    path = _write(tmp_path, weights, {**HELD, "weights/weight_1": b""})
    assert {row.name: row.reason for row in ww_static.analyze(path)} == {"fake": "no_data", "sparse": "unsupported_layout"}


def test_compiled_code_is_a_finding(tmp_path: Path) -> None:
    more = {"data/aotinductor/model/kernel.so": b"\x7fELF"}
    with _opened(tmp_path, {"w": payload("weight_0", "F32", (4, 6))}, more=more) as checkpoint:
        assert [one.category for one in checkpoint.findings] == ["embedded_code"]


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        (payload("weight_0", "F32", (5, 6)), "bad_offsets: tensor 'w': reaches byte 120 of a storage of 96"),
        (payload("weight_0", "F32", (4, 6), offset=1), "bad_offsets"),
        (payload("weight_0", "F64", (4, 6)), "bad_offsets"),
        (payload("weight_0", "F32", (4, 6), (6,)), "bad_header: tensor 'w': 1 strides for 2 dimensions"),
        (payload("weight_0", "F32", (4, 6), (6, -1)), "bad_header: tensor 'w': strides is not a list of counts"),
        (payload("weight_0", "F32", (4, 6), offset=-1), "bad_header: tensor 'w': storage_offset is not"),
        (payload("weight_0", "F32", (0, 2**62, 2**62)), "overflow"),
        (payload("weight_0", "F32", (2**40,), (0,)), "limit: tensor 'w': a view of"),
        (payload("weight_9", "F32", (4, 6)), "missing_part: tensor 'w': its storage 'weight_9' is missing"),
        (payload("../weights/weight_0", "F32", (4, 6)), "missing_part"),
        (payload("weight_0", "F32", (4, 6), path_name=None), "bad_header: tensor 'w': has no path_name"),
        (payload("weight_0", "F32", (4, 6), tensor_meta=None), "bad_header: tensor 'w': has no tensor_meta"),
        (payload("weight_0", "F32", (4, 6), tensor_meta={"dtype": 99}), "unknown_dtype: tensor 'w': scalar type 99"),
        (payload("weight_0", "F32", (4, 6), tensor_meta={"dtype": True}), "unknown_dtype: tensor 'w': scalar type True"),
        (payload("weight_0", "F32", (4, 6), tensor_meta={"dtype": 7, "sizes": [{"as_expr": "s0"}]}), "bad_header: tensor 'w': sizes"),
        (payload("weight_0", "F32", (1,) * 65), "limit: tensor 'w': 65 dimensions"),
        ("weight_0", "bad_header: .* config is not a map"),
    ],
)  # fmt: skip
def test_entries_that_do_not_fit_are_refused(tmp_path: Path, entry: Any, match: str) -> None:
    with pytest.raises(FormatError, match=match):
        _opened(tmp_path, {"w": entry})


@pytest.mark.parametrize(
    ("member", "content", "match"),
    [
        ("m/archive_format", b"pt3", "bad_header: archive_format: is not pt2"),
        ("m/byteorder", b"middle", "bad_header: byteorder"),
        ("m/data/weights/model_weights_config.json", b"[]", "bad_header: .* config is not a map"),
        ("m/data/weights/model_weights_config.json", b"{", "bad_header: .* are not JSON"),
        (
            "m/data/weights/model_weights_config.json",
            b'{"config": {"w": {}, "w": {}}}',
            "duplicate_name: .* name 'w' appears twice",
        ),
        ("m/data/weights/model_weights_config.json", b"\xff{}", "bad_header: .* is not UTF-8"),
    ],
)
def test_members_that_are_not_what_they_should_be_are_refused(tmp_path: Path, member: str, content: bytes, match: str) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(zipped({**exported({"w": payload("weight_0", "F32", (4, 6))}, HELD), member: content}))
    with pytest.raises(FormatError, match=match):
        open_checkpoint(path)


def test_an_archive_without_a_list_of_weights_is_refused_with_what_to_do(tmp_path: Path) -> None:
    members = exported({}, {})
    del members["m/data/weights/model_weights_config.json"]
    (tmp_path / "m.pt2").write_bytes(zipped(members))
    with pytest.raises(UnknownFormatError, match=r"unsupported: zip: an archive of torch\.export without a list of weights"):
        open_checkpoint(tmp_path / "m.pt2")


def test_limit_header_bytes_and_tensors_hold_for_lists(tmp_path: Path) -> None:
    weights = {str(number): payload("weight_0", "F32", (4, 6)) for number in range(30)}
    path = _write(tmp_path, weights)
    length = len(json.dumps({"config": weights}))
    open_checkpoint(path, Limits(header_bytes=length, tensors=30)).close()
    with pytest.raises(LimitError, match=rf"limit: .* {length} bytes, limit {length - 1}"):
        open_checkpoint(path, Limits(header_bytes=length - 1))
    with pytest.raises(LimitError, match=r"limit: .* 30 tensors, limit 29"):
        open_checkpoint(path, Limits(tensors=29))
