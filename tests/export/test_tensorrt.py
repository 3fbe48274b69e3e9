"""The checker for TensorRT takes good graphs and names what is wrong in bad ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from quantised import fp32, int8

from edge_sser.errors import ModelError
from edge_sser.export.quantize import Target
from edge_sser.export.tensorrt import check_tensorrt_graph


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    model, _ = fp32(tmp_path_factory.mktemp("graph"))
    return model


@pytest.fixture(scope="module")
def good(network: onnx.ModelProto) -> onnx.ModelProto:
    return int8(network, Target.TENSORRT)


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(each for each in model.graph.node if each.name == name)


def convolution(model: onnx.ModelProto, place: int) -> onnx.NodeProto:
    """A convolution by its place: the exporter numbers names as it likes."""
    return [each for each in model.graph.node if each.op_type == "Conv"][place]


def replace_constant(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    found = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    found.CopyFrom(numpy_helper.from_array(value, name))


def add_constant(model: onnx.ModelProto, name: str, value: np.ndarray) -> str:
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def newer(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 21


def older(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 12


def foreign(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def unknown_operator(model: onnx.ModelProto) -> None:
    node(model, "node_softmax").op_type = "Hardmax"


def foreign_operator(model: onnx.ModelProto) -> None:
    node(model, "node_linear").domain = "com.microsoft"


def unsigned(model: onnx.ModelProto) -> None:
    replace_constant(model, "relu_1_zero_point", np.array(0, dtype=np.uint8))


def off_zero(model: onnx.ModelProto) -> None:
    replace_constant(model, "relu_2_zero_point", np.array(-3, dtype=np.int8))


def no_zero_point(model: onnx.ModelProto) -> None:
    del node(model, "relu_3_QuantizeLinear").input[2]


def no_step(model: onnx.ModelProto) -> None:
    replace_constant(model, "relu_scale", np.array(0.0, dtype=np.float32))


def half_scale(model: onnx.ModelProto) -> None:
    replace_constant(model, "relu_scale", np.array(0.1, dtype=np.float16))


def a_scale_a_channel(model: onnx.ModelProto) -> None:
    replace_constant(model, "relu_scale", np.full(4, 0.1, dtype=np.float32))


def doubles(model: onnx.ModelProto) -> None:
    add_constant(model, "precise", np.array(1.0))


def unsigned_weights(model: onnx.ModelProto) -> None:
    name = node(model, "student.body.1.0.weight_DequantizeLinear").input[0]
    value = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    replace_constant(model, name, numpy_helper.to_array(value).astype(np.int32))


def from_nowhere(model: onnx.ModelProto) -> None:
    node(model, "relu_4_DequantizeLinear").input[0] = "relu_4"


def quantised_bias(model: onnx.ModelProto) -> None:
    bias = add_constant(model, "bias_quantised", np.zeros(8, dtype=np.int8))
    scale = add_constant(model, "bias_scale", np.array(0.1, dtype=np.float32))
    zero = add_constant(model, "bias_zero", np.array(0, dtype=np.int8))
    made = helper.make_node("DequantizeLinear", [bias, scale, zero], ["bias"], name="bias_dequantised")
    model.graph.node.insert(0, made)
    convolution(model, 1).input[2] = "bias"


def weights_only(model: onnx.ModelProto) -> None:
    convolution(model, 2).input[0] = "relu_1"


def half_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16


def test_a_graph_made_for_tensorrt_passes(good: onnx.ModelProto) -> None:
    check_tensorrt_graph(good)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (newer, "opset 21, expected 13 to 20"),
        (older, "opset 12"),
        (foreign, "com.microsoft"),
        (unknown_operator, "node node_softmax (Hardmax): TensorRT has no operator Hardmax"),
        (foreign_operator, "node node_linear (Gemm): TensorRT has no operator com.microsoft.Gemm"),
        (unsigned, "relu_1_QuantizeLinear (QuantizeLinear): its zero point is UINT8"),
        (off_zero, "relu_2_QuantizeLinear (QuantizeLinear): its zero point is not 0"),
        (no_zero_point, "relu_3_QuantizeLinear (QuantizeLinear): its zero point is none"),
        (no_step, "relu_QuantizeLinear (QuantizeLinear): its scale is not above 0"),
        (half_scale, "relu_QuantizeLinear (QuantizeLinear): its scale is not a constant of type FLOAT"),
        (a_scale_a_channel, "relu_QuantizeLinear (QuantizeLinear): it has a scale a channel for activations"),
        (doubles, "constant precise: is DOUBLE"),
        (unsigned_weights, "student.body.1.0.weight_DequantizeLinear (DequantizeLinear): it dequantises INT32"),
        (from_nowhere, "relu_4_DequantizeLinear (DequantizeLinear): it dequantises neither"),
        (quantised_bias, "(Conv): its bias is quantised"),
        (weights_only, "(Conv): its weights come through Q/DQ and its input does not"),
        (half_input, "log_mel: is FLOAT16"),
    ],
)
def test_what_tensorrt_does_not_take_is_named(
    good: onnx.ModelProto, spoil: Callable[[onnx.ModelProto], None], named: str
) -> None:
    bad = onnx.ModelProto()
    bad.CopyFrom(good)
    spoil(bad)
    with pytest.raises(ModelError) as caught:
        check_tensorrt_graph(bad)
    message = str(caught.value)
    assert named in message
    assert len(message.splitlines()) == 1


def test_the_files_for_other_runtimes_are_not_taken(network: onnx.ModelProto, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected a constant of type INT8"):
        check_tensorrt_graph(int8(network, Target.CPU))
    with pytest.raises(ModelError, match="holds no QuantizeLinear"):
        check_tensorrt_graph(network)
