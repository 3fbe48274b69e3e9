"""What TensorRT 10.3 to 11 can read, checked on the graph alone: no TensorRT is needed to be told what it lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import TensorProto, numpy_helper

from edge_sser.errors import ModelError

OLDEST_OPSET = 13  # Q/DQ with a scale a channel
NEWEST_OPSET = 20  # TensorRT 10.3
# Of the operators that TensorRT's ONNX parser reads, those that a student is likely to have.
_OPERATORS = """
    Abs Add And AveragePool BatchNormalization Cast Clip Concat Constant ConstantOfShape Conv ConvTranspose
    DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand Flatten Floor GRU Gather Gelu Gemm
    GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity
    InstanceNormalization LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max
    MaxPool Min Mul Neg Not Or PRelu Pad Pow QuantizeLinear Range Reciprocal ReduceL2 ReduceMax ReduceMean
    ReduceMin ReduceSum Relu Reshape Resize Shape Sigmoid Slice Softmax Softplus Split Sqrt Squeeze Sub Sum
    Tanh Tile Transpose Unsqueeze Where
"""
OPERATORS = frozenset(_OPERATORS.split())
HALF_SCALES = 19  # opset in which scales in FP16 came
TYPES = frozenset(
    {
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.INT8,
        TensorProto.INT32,
        TensorProto.INT64,
        TensorProto.BOOL,
    }
)
_BIASED = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}  # which input is the bias
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def check_tensorrt_graph(model: onnx.ModelProto) -> None:
    """Checks a quantised graph against what TensorRT takes.

    Raises:
        ModelError: it has something that TensorRT does not take; the message names the node or tensor.
    """
    scales = [TensorProto.FLOAT, *([TensorProto.FLOAT16] if _checked_opset(model) >= HALF_SCALES else [])]
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.output):
        kind = value.type.tensor_type.elem_type
        if kind != TensorProto.FLOAT:
            raise _refused(f"{value.name}", f"is {_type(kind)}, expected FLOAT for what goes in and out")
    if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise _refused("the graph", "holds no QuantizeLinear, so that nothing of it would run in 8 bits")
    made_by = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise _refused(_node(node), f"TensorRT has no operator {name}")
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            _check_scaling(node, constants, made_by, scales)
        if node.op_type in _WEIGHTED:
            _check_weighted(node, made_by)
    for tensor in model.graph.initializer:
        if tensor.data_type not in TYPES:
            raise _refused(f"constant {tensor.name}", f"is {_type(tensor.data_type)}, which TensorRT does not take")


def _checked_opset(model: onnx.ModelProto) -> int:
    opset = 0
    for entry in model.opset_import:
        if entry.domain not in ("", "ai.onnx"):
            raise _refused("the graph", f"imports the operators of {entry.domain}, which TensorRT does not have")
        if not OLDEST_OPSET <= entry.version <= NEWEST_OPSET:
            raise _refused("the graph", f"has opset {entry.version}, expected {OLDEST_OPSET} to {NEWEST_OPSET}")
        opset = entry.version
    return opset


def _check_scaling(
    node: onnx.NodeProto,
    constants: Mapping[str, TensorProto],
    made_by: Mapping[str, onnx.NodeProto],
    scales: Sequence[int],
) -> None:
    scale = constants.get(node.input[1])
    if scale is None or scale.data_type not in scales:
        raise _refused(_node(node), f"its scale is not a constant of type {' or '.join(map(_type, scales))}")
    values = numpy_helper.to_array(scale)
    if not (values > 0).all():
        raise _refused(_node(node), "its scale is not above 0")
    zero = constants.get(node.input[2]) if len(node.input) > 2 else None
    if zero is None or zero.data_type != TensorProto.INT8:
        found = "none, which means unsigned" if zero is None else _type(zero.data_type)
        raise _refused(_node(node), f"its zero point is {found}, expected a constant of type INT8")
    if numpy_helper.to_array(zero).any():
        raise _refused(_node(node), "its zero point is not 0: TensorRT quantises symmetrically only")
    source = constants.get(node.input[0])
    if node.op_type == "QuantizeLinear":
        if values.size > 1 and source is None:
            raise _refused(_node(node), "it has a scale a channel for activations, TensorRT takes one a tensor")
        return
    quantised = made_by.get(node.input[0])
    if source is None and (quantised is None or quantised.op_type != "QuantizeLinear"):
        raise _refused(_node(node), "it dequantises neither a constant nor what QuantizeLinear gave")
    if source is not None and source.data_type != TensorProto.INT8:
        raise _refused(_node(node), f"it dequantises {_type(source.data_type)}, expected INT8")


def _check_weighted(node: onnx.NodeProto, made_by: Mapping[str, onnx.NodeProto]) -> None:
    def dequantised(place: int) -> bool:
        maker = made_by.get(node.input[place]) if place < len(node.input) else None
        return maker is not None and maker.op_type == "DequantizeLinear"

    if dequantised(1) and not dequantised(0):
        raise _refused(_node(node), "its weights come through Q/DQ and its input does not: it would not run in 8 bits")
    if dequantised(_BIASED.get(node.op_type, len(node.input))):
        raise _refused(_node(node), "its bias is quantised, TensorRT takes it in float")


def _node(node: onnx.NodeProto) -> str:
    return f"node {node.name or node.output[0]} ({node.op_type})"


def _type(kind: int) -> str:
    return str(TensorProto.DataType.Name(kind))


def _refused(what: str, why: str) -> ModelError:
    return ModelError(f"TensorRT graph: {what}: {why}: change the student, or export with --target cpu")
