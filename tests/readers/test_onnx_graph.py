"""Names and scopes of ONNX constants, and what operators say of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import ww_static
from onnx_support import (
    floats,
    model_of,
    named,
    opened,
    rows_of,
    save,
)
from ww_static.errors import FormatError

# names and scopes


def _branch(name: str, array: Any) -> Any:
    node = helper.make_node("MatMul", ["x", "W"], [f"y_{name}"])
    return helper.make_graph([node], name, [], [], [named("W", array)])


def test_names_in_branches_are_scoped_and_keep_their_own_values(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("If", ["c"], ["y"], then_branch=_branch("t", np.eye(3)), else_branch=_branch("e", 2 * np.eye(3))),
        helper.make_node("If", ["c"], ["z"], name="gate", then_branch=_branch("t", 3 * np.eye(3)), else_branch=_branch("e", np.eye(2))),
    ]  # fmt: skip
    with opened(tmp_path, model_of(nodes, [named("W", 4 * np.eye(3))])) as checkpoint:
        held = {spec.name: checkpoint.read(spec)[0, 0] for spec in checkpoint.tensors}
        assert held == {
            "W": 4, "If_0/then_branch/W": 1, "If_0/else_branch/W": 2, "gate/then_branch/W": 3, "gate/else_branch/W": 1,
        }  # fmt: skip
        spec = checkpoint.spec("gate/then_branch/W")
        assert (spec.role, spec.axes, spec.op_path) == ("dense", ("in", "out"), "gate/then_branch/MatMul_0")
        assert checkpoint.spec("W").role is None


def test_an_inner_graph_uses_outer_names(tmp_path: Path) -> None:
    inner = helper.make_graph([helper.make_node("MatMul", ["x", "W"], ["y"])], "b", [], [])
    node = helper.make_node("Loop", ["n", "c"], ["y"], name="loop", body=inner)
    with opened(tmp_path, model_of([node], [named("W", floats(3, 4))])) as checkpoint:
        assert checkpoint.spec("W").op_path == "loop/body/MatMul_0"


def test_constants_of_functions_attributes_and_floats_are_listed(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["W"], value=named("", floats(3, 4)))
    function = helper.make_function("local", "F", ["x"], ["y"], [constant, helper.make_node("MatMul", ["x", "W"], ["y"])], [])
    nodes = [
        helper.make_node("Constant", [], ["one"], value_float=1.5),
        helper.make_node("Constant", [], ["many"], value_floats=[1.0, 2.0]),
        helper.make_node("Constant", [], ["text"], value_string="x"),
        helper.make_node("ConstantOfShape", ["s"], ["filled"], value=named("v", np.zeros(1, np.float32))),
    ]
    with opened(tmp_path, model_of(nodes, [], [function])) as checkpoint:
        held = {spec.name: checkpoint.read(spec).tolist() for spec in checkpoint.tensors if spec.name != "local:F/W"}
        assert held == {"one": 1.5, "many": [1.0, 2.0], "ConstantOfShape_3/value": [0.0]}
        assert checkpoint.spec("local:F/W").axes == ("in", "out")


def test_tensors_without_a_name_are_listed_by_their_place_and_found(tmp_path: Path) -> None:
    with opened(tmp_path, model_of([], [named("", floats(3, 4)), named("w", floats(2, 2))])) as checkpoint:
        assert [spec.name for spec in checkpoint.tensors] == ["initializer_0", "w"]
        assert [(one.category, one.tensor) for one in checkpoint.findings] == [("unnamed", "initializer_0")]


def test_a_name_that_comes_twice_in_one_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="duplicate_name: tensor 'w'"):
        opened(tmp_path, model_of([], [named("w", floats(3, 4)), named("w", floats(2, 2))]))


def test_equal_paths_of_different_scopes_are_told_apart(tmp_path: Path) -> None:
    node = helper.make_node("If", ["c"], ["y"], name="n", then_branch=_branch("t", np.eye(3)))
    with opened(tmp_path, model_of([node], [named("n/then_branch/W", np.eye(2))])) as checkpoint:
        assert [spec.name for spec in checkpoint.tensors] == ["n/then_branch/W", "n/then_branch/W#2"]


def test_sparse_initializers_are_listed_and_not_read(tmp_path: Path) -> None:
    model = model_of([], [named("w", floats(9, 9))])
    values = named("s", np.ones(2, np.float32))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, named("i", np.array([1, 5])), [6, 7]))
    with opened(tmp_path, model) as checkpoint:
        spec = checkpoint.spec("s")
        assert (spec.shape, spec.reason) == ((6, 7), "unsupported_layout")
        with pytest.raises(FormatError, match="unsupported_layout: tensor 's': is sparse"):
            checkpoint.read(spec)
    result = ww_static.analyze(tmp_path / "m.onnx")
    assert {row.name: row.reason for row in result}["s"] == "unsupported_layout"
    assert result.exit_code == 3


# what operators say


_ROLES: list[tuple[list[Any], tuple[int, ...], str, str, str | None]] = [
    ([helper.make_node("MatMul", ["x", "w"], ["y"])], (9, 8), "dense", "in,out", "MatMul_0"),
    ([helper.make_node("MatMul", ["w", "x"], ["y"])], (9, 8), "dense", "out,in", "MatMul_0"),
    ([helper.make_node("Gemm", ["x", "w"], ["y"], transB=1, name="fc")], (9, 8), "dense", "out,in", "fc"),
    ([helper.make_node("Gemm", ["x", "w"], ["y"])], (9, 8), "dense", "in,out", "Gemm_0"),
    ([helper.make_node("Gather", ["w", "i"], ["y"])], (9, 8), "embedding", "rows,features", "Gather_0"),
    ([helper.make_node("Conv", ["x", "w"], ["y"])], (9, 8, 3), "conv1d", "OIW", "Conv_0"),
    ([helper.make_node("Conv", ["x", "w"], ["y"])], (9, 8, 3, 3), "conv2d", "OIHW", "Conv_0"),
    ([helper.make_node("ConvTranspose", ["x", "w"], ["y"])], (9, 8, 3, 3), "conv_transpose", "IOHW", "ConvTranspose_0"),
    (
        [helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]), helper.make_node("MatMul", ["x", "t"], ["y"])],
        (9, 8), "dense", "out,in", "MatMul_1",
    ),
    (
        [helper.make_node("Transpose", ["w"], ["t"], perm=[3, 2, 0, 1]), helper.make_node("Conv", ["x", "t"], ["y"])],
        (3, 3, 8, 9), "conv2d", "HWIO", "Conv_1",
    ),
    (
        [helper.make_node("Cast", ["w"], ["c"], to=1), helper.make_node("Identity", ["c"], ["i"]), helper.make_node("Transpose", ["i"], ["t"]),
         helper.make_node("Gemm", ["x", "t"], ["y"], transB=1)],
        (9, 8), "dense", "in,out", "Gemm_3",
    ),
    (
        [helper.make_node("Unsqueeze", ["w", "axes"], ["u"]), helper.make_node("Conv", ["x", "u"], ["y"])],
        (9, 8, 3), "conv1d", "OIW", "Conv_1",
    ),
    ([helper.make_node("Relu", ["w"], ["y"])], (9, 8), "dense", "ambiguous", "Relu_0"),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "shape", "kind", "orientation", "path"), _ROLES)
def test_operators_say_kind_and_axes(
    tmp_path: Path, nodes: list[Any], shape: tuple[int, ...], kind: str, orientation: str, path: str | None
) -> None:
    save(tmp_path / "m.onnx", model_of(nodes, [named("w", floats(*shape))]))
    (row,) = ww_static.analyze(tmp_path / "m.onnx")
    assert (row.kind, row.orientation, row.op_path) == (kind, orientation, path)
    assert row.kind_source == ("graph" if path != "Relu_0" else "shape")
    assert row.status == "success"


def test_attention_is_fused_in_one_of_two_domains_and_gather_an_embedding_on_its_first_axis(tmp_path: Path) -> None:
    for node, role in (
        (helper.make_node("Attention", ["x", "w", "b"], ["y"], domain="com.microsoft"), "fused_qkv"),
        (helper.make_node("Attention", ["x", "w", "v"], ["y"]), None),
        (helper.make_node("Gather", ["w", "i"], ["y"], axis=1), None),
        (helper.make_node("MatMul", ["x", "w"], ["y"], domain="somebody.else"), None),
    ):
        with opened(tmp_path, model_of([node], [named("w", floats(9, 27))])) as checkpoint:
            assert checkpoint.spec("w").role == role


@pytest.mark.parametrize(("operator", "gates"), [("LSTM", "iofc"), ("GRU", "zrh")])
def test_gates_of_recurrent_operators_are_rows(tmp_path: Path, operator: str, gates: str) -> None:
    weight, recurrent = floats(1, len(gates) * 9, 12), floats(2, len(gates) * 9, 9, seed=1)
    nodes = [helper.make_node(operator, ["x", "W", "R"], ["y"], hidden_size=9)]
    save(tmp_path / "m.onnx", model_of(nodes, [named("W", weight), named("R", recurrent)]))
    rows = {(row.name, row.part): row for row in ww_static.analyze(tmp_path / "m.onnx")}
    assert [part for name, part in rows if name == "W"] == ["whole", *(f"gate_{gate}" for gate in gates)]
    both = [f"{way}.gate_{gate}" for way in ("forward", "backward") for gate in gates]
    assert [part for name, part in rows if name == "R"] == both
    for number, gate in enumerate(gates):
        cut = slice(number * 9, number * 9 + 9)
        for row, matrix in (
            (rows["W", f"gate_{gate}"], weight[0, cut]),
            (rows["R", f"backward.gate_{gate}"], recurrent[1, cut]),
        ):
            assert (row.kind, row.kind_source) == ("recurrent", "graph")
            assert row.sv_max == pytest.approx(np.linalg.norm(matrix.astype(float), 2), rel=1e-12)


def test_recurrent_weights_that_get_their_third_axis_later_or_are_parts(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["W", "a"], ["w"]), helper.make_node("Concat", ["A", "B"], ["r"], axis=1),
        helper.make_node("LSTM", ["x", "w", "r"], ["y"]),
    ]  # fmt: skip
    tensors = [named("W", floats(36, 12)), named("A", floats(1, 18, 9)), named("B", floats(1, 18, 9, seed=1))]
    rows = ww_static.analyze(save(tmp_path / "m.onnx", model_of(nodes, tensors)))
    assert [(row.name, row.part) for row in rows] == [
        ("A", None), ("B", None), ("W", "whole"), *(("W", f"gate_{gate}") for gate in "iofc"),
    ]  # fmt: skip
    assert {row.kind for row in rows} == {"recurrent"}
    assert {row.status for row in rows} == {"success"}


def test_vectors_with_unit_axes_and_index_constants_are_no_findings(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Add", ["y", "b"], ["z"]),
        helper.make_node("Reshape", ["z", "s"], ["r"]),
    ]  # fmt: skip
    tensors = [named("w", floats(9, 8)), named("b", floats(1, 8, 1)), named("s", np.array([1, -1]))]
    save(tmp_path / "m.onnx", model_of(nodes, tensors))
    result = ww_static.analyze(tmp_path / "m.onnx")
    assert {row.name: row.reason for row in result if row.name != "w"} == {"b": "one_dimensional", "s": "buffer"}
    assert (result.finding_rows, result.exit_code) == ((), 0)


def test_concatenations_of_themselves_cost_nothing(tmp_path: Path) -> None:
    nodes = [helper.make_node("Concat", [f"w{n}", f"w{n}"], [f"w{n + 1}"], axis=0) for n in range(60)]
    nodes.append(helper.make_node("LSTM", ["x", "w60", "w60"], ["y"]))
    with opened(tmp_path, model_of(nodes, [named("w0", floats(9, 8))])) as checkpoint:
        assert checkpoint.spec("w0").role == "recurrent"


def call(name: str, inputs: list[str], domain: str = "local", label: str = "") -> onnx.NodeProto:
    return helper.make_node(name, inputs, ["out"], domain=domain, name=label)


def function(name: str, inputs: list[str], *nodes: onnx.NodeProto) -> onnx.FunctionProto:
    return helper.make_function("local", name, inputs, ["y"], list(nodes), [])


def test_arguments_of_local_functions_are_followed_to_the_operator_that_uses_them(tmp_path: Path) -> None:
    body = function("F", ["x", "w", "b"], helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="inner", transB=1))
    tensors = [named("W", floats(3, 4)), named("B", floats(3)), named("V", floats(3, 4, seed=1))]
    nodes = [call("F", ["x", "W", "B"], label="a"), call("F", ["x", "V"], label="b")]
    with opened(tmp_path, model_of(nodes, tensors, [body])) as checkpoint:
        for name in ("W", "V"):
            spec = checkpoint.spec(name)
            assert (spec.role, spec.axes, spec.op_path) == ("dense", ("out", "in"), "local:F/inner")
        assert (checkpoint.spec("B").role, checkpoint.spec("B").op_path) == (None, "local:F/inner")


def test_arguments_are_followed_through_calls_in_functions_and_branches(tmp_path: Path) -> None:
    """The function that is called last stands first in the file."""
    last = function("Last", ["x", "w"], helper.make_node("MatMul", ["x", "w"], ["y"], name="m"))
    turned = helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0])
    first = function("First", ["x", "w"], turned, helper.make_node("Last", ["x", "t"], ["y"], domain="local"))
    branch = helper.make_graph([call("First", ["x", "W"])], "b", [], [], [named("W", floats(3, 4))])
    node = helper.make_node("If", ["c"], ["y"], name="gate", then_branch=branch)
    with opened(tmp_path, model_of([node], [], [last, first])) as checkpoint:
        spec = checkpoint.spec("gate/then_branch/W")
        assert (spec.role, spec.axes, spec.op_path) == ("dense", ("out", "in"), "local:Last/m")


def test_functions_that_call_themselves_or_share_a_name_end(tmp_path: Path) -> None:
    own = function("Own", ["w"], call("Own", ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"], name="m"))
    ping, pong = (function(a, ["w"], call(b, ["w"])) for a, b in (("Ping", "Pong"), ("Pong", "Ping")))
    twins = [function("Twin", ["w"], helper.make_node("MatMul", ["x", "w"], ["y"])) for _ in range(2)]
    tensors = [named("A", floats(3, 4)), named("B", floats(3, 4)), named("C", floats(3, 4))]
    nodes = [call("Own", ["A"]), call("Ping", ["B"]), call("Twin", ["C"]), call("Nowhere", ["C"])]
    with opened(tmp_path, model_of(nodes, tensors, [own, ping, pong, *twins])) as checkpoint:
        assert [checkpoint.spec(name).role for name in "ABC"] == ["dense", None, None]


def test_many_calls_hand_on_a_bounded_number_of_constants(tmp_path: Path) -> None:
    body = function("F", ["x", "w"], helper.make_node("MatMul", ["x", "w"], ["y"]))
    tensors = [named(f"W{number}", floats(2, 3)) for number in range(80)]
    nodes = [call("F", ["x", f"W{number}"]) for number in range(80)]
    with opened(tmp_path, model_of(nodes, tensors, [body])) as checkpoint:
        roles = [checkpoint.spec(f"W{number}").role for number in range(80)]
        assert roles == ["dense"] * 64 + [None] * 16


def one_hot_nodes(form: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    if form == "operator":
        made = [helper.make_node("OneHot", ["i", "depth", "values"], ["hot"])]
        return made, [named("depth", np.int64(9)), named("values", np.array([0, 1], np.float32))]
    made = [helper.make_node("Equal", ["i", "range"], ["same"]), helper.make_node("Cast", ["same"], ["hot"], to=1)]
    return made, [named("range", np.arange(9).reshape(1, 9))]


@pytest.mark.parametrize("form", ["operator", "comparison"])
def test_a_weight_behind_one_hot_values_says_so(tmp_path: Path, form: str) -> None:
    nodes, tensors = one_hot_nodes(form)
    nodes += [
        helper.make_node("Reshape", ["hot", "s"], ["flat"]),
        helper.make_node("MatMul", ["flat", "W"], ["y"]),
        helper.make_node("MatMul", ["y", "V"], ["z"]),
    ]
    tensors += [named("W", floats(9, 12)), named("V", floats(12, 9, seed=2))]
    found = rows_of(save(tmp_path / "m.onnx", model_of(nodes, tensors)))
    assert (found["W"].kind, found["W"].kind_source, found["W"].orientation) == ("dense", "graph", "in,out")
    assert "one_hot_input" in found["W"].warning_codes
    assert "one_hot_input" not in found["V"].warning_codes


def test_other_comparisons_are_no_one_hot_values(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Equal", ["i", "pad"], ["same"]),
        helper.make_node("Cast", ["same"], ["mask"], to=1),
        helper.make_node("MatMul", ["mask", "W"], ["y"]),
    ]
    found = rows_of(save(tmp_path / "m.onnx", model_of(nodes, [named("pad", np.int64(0)), named("W", floats(9, 12))])))
    assert "one_hot_input" not in found["W"].warning_codes


def test_a_tied_weight_has_its_own_notes(tmp_path: Path) -> None:
    nodes, tensors = one_hot_nodes("operator")
    nodes += [helper.make_node("MatMul", ["hot", "W"], ["y"]), helper.make_node("MatMul", ["x", "A"], ["z"])]
    tensors += [named("W", floats(9, 12)), named("A", floats(9, 12))]
    found = rows_of(save(tmp_path / "m.onnx", model_of(nodes, tensors)))
    assert found["W"].tied_to == "A"
    assert ["one_hot_input" in found[name].warning_codes for name in "AW"] == [False, True]
