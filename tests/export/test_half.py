"""Half precision in the graph: what computes in it, what must not, and that the logits hardly move."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from quantised import fp32, int8, logits, spoken

from edge_sser.export.quantize import Target
from edge_sser.export.tensorrt import check_tensorrt_graph, with_half_precision
from edge_sser.model.model import Card


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[onnx.ModelProto, Card]:
    return fp32(tmp_path_factory.mktemp("half"))


@pytest.fixture(scope="module")
def single(network: tuple[onnx.ModelProto, Card]) -> onnx.ModelProto:
    return int8(network[0], Target.TENSORRT)


@pytest.fixture(scope="module")
def half(single: onnx.ModelProto) -> onnx.ModelProto:
    return with_half_precision(single)


def types(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values} | {
        tensor.name: tensor.data_type for tensor in graph.initializer
    }


def test_the_logits_are_those_of_the_graph_without_it(
    network: tuple[onnx.ModelProto, Card], single: onnx.ModelProto, half: onnx.ModelProto, tmp_path: Path
) -> None:
    windows = np.concatenate([spoken(24, seed=900), spoken(4) - 60.0, np.full((1, 300, 64), -120.0, dtype=np.float32)])
    before, after = (logits(_with_card(model, network[1]), network[1], windows, tmp_path) for model in (single, half))
    full = logits(_with_card(network[0], network[1]), network[1], windows, tmp_path)
    assert 0.0 < np.abs(after - before).max() < 0.1
    # FP16 moves them less than INT8 did.
    assert np.sqrt(np.mean((after - before) ** 2)) < np.sqrt(np.mean((before - full) ** 2))


def test_convolutions_are_half_and_the_front_end_the_pooling_and_the_head_are_not(half: onnx.ModelProto) -> None:
    found = types(half)
    by_operator: dict[str, set[int]] = {}
    for node in half.graph.node:
        by_operator.setdefault(node.op_type, set()).update(found[name] for name in node.output)
    assert by_operator["Conv"] == by_operator["Relu"] == {TensorProto.FLOAT16}
    for single in ("ReduceMax", "Sub", "Div", "ReduceMean", "Softmax", "Mul", "ReduceSum", "Gemm"):
        assert by_operator[single] == {TensorProto.FLOAT}
    assert [found[value.name] for value in (*half.graph.input, *half.graph.output)] == [TensorProto.FLOAT] * 3


def test_every_scale_has_the_type_of_what_it_scales(half: onnx.ModelProto) -> None:
    found = types(half)
    for node in half.graph.node:
        if node.op_type == "QuantizeLinear":
            assert found[node.input[0]] == found[node.input[1]]
        if node.op_type == "DequantizeLinear":
            assert found[node.output[0]] == found[node.input[1]]
    check_tensorrt_graph(half)
    assert half.opset_import[0].version == 19


def test_it_is_smaller_and_changes_nothing_that_is_done(single: onnx.ModelProto, half: onnx.ModelProto) -> None:
    assert len(half.SerializeToString()) < 1.05 * len(single.SerializeToString())
    again = with_half_precision(half)
    assert again.SerializeToString() == half.SerializeToString()


def test_a_scale_too_small_for_half_precision_keeps_its_convolution_in_single(single: onnx.ModelProto) -> None:
    fine = onnx.ModelProto()
    fine.CopyFrom(single)
    convolution = [node for node in fine.graph.node if node.op_type == "Conv"][2]
    weights = next(node for node in fine.graph.node if node.output[0] == convolution.input[1])
    scale = next(tensor for tensor in fine.graph.initializer if tensor.name == weights.input[1])
    values = numpy_helper.to_array(scale).copy()
    values[0] = 1e-7
    scale.CopyFrom(numpy_helper.from_array(values, scale.name))
    made = with_half_precision(fine)
    found = types(made)
    kinds = [found[node.output[0]] for node in made.graph.node if node.op_type == "Conv"]
    assert kinds[2] == TensorProto.FLOAT
    assert {*kinds[:2], *kinds[3:]} == {TensorProto.FLOAT16}


def test_what_goes_out_is_single_even_where_it_was_made_in_half() -> None:
    weights = [numpy_helper.from_array(np.ones((4, 4), dtype=np.float32), name) for name in ("first", "second")]
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["between"], name="one"),
        helper.make_node("Relu", ["between"], ["seen"], name="two"),
        helper.make_node("MatMul", ["seen", "second"], ["y"], name="three"),
    ]
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4]) for name in ("x", "seen", "y")}
    graph = helper.make_graph(nodes, "open", [values["x"]], [values["seen"], values["y"]], weights)
    made = with_half_precision(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9))
    found = types(made)
    assert found["between"] == TensorProto.FLOAT16
    assert found["seen"] == found["y"] == TensorProto.FLOAT


def _with_card(model: onnx.ModelProto, card: Card) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.metadata_props[:]
    made.metadata_props.add(key="edge_sser.card", value=card.to_json())
    return made
