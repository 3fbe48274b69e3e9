"""Checks a quantised graph against TensorRT 10.3 to 11, and writes half precision into it. Needs no TensorRT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_sser.errors import ModelError

OLDEST_OPSET = 13  # first opset in which Q/DQ take a scale per channel
HALF_OPSET = 19  # first opset in which Q/DQ take FP16 scales, and with them FP16 values
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
TYPES = frozenset(map(TensorProto.DataType.Value, ("FLOAT", "FLOAT16", "INT8", "INT32", "INT64", "BOOL")))
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_BIAS_INPUT = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}
# Operators between convolutions that FP16 does not harm. All others, such as sums over a window, exponentials,
# logarithms and norms, stay in FP32.
_HALF_OPERATORS = """
    Add AveragePool Clip Concat Flatten Gather GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish Identity LeakyRelu
    Max MaxPool Min Mul PRelu Relu Reshape Sigmoid Slice Split Squeeze Sub Tanh Transpose Unsqueeze
"""
HALF_OPERATORS = frozenset(_HALF_OPERATORS.split())
_SCALE_TOLERANCE = 2e-3  # relative error of a scale in FP16: four times the rounding error of a normal number


def check_tensorrt_graph(model: onnx.ModelProto) -> None:
    """Checks that TensorRT can read a quantised graph.

    Raises:
        ModelError: the graph has something that TensorRT does not take; the message names the node or tensor.
    """
    scale_types = [TensorProto.FLOAT, *([TensorProto.FLOAT16] if _checked_opset(model) >= HALF_OPSET else [])]
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.output):
        kind = value.type.tensor_type.elem_type
        if kind != TensorProto.FLOAT:
            raise _error(value.name, f"is {_type_name(kind)}, expected FLOAT for inputs and outputs")
    if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise _error("the graph", "holds no QuantizeLinear, so that nothing of it would run in 8 bits")
    producers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise _error(_node_name(node), f"TensorRT has no operator {name}")
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            _check_scale(node, constants, scale_types)
            _check_source(node, constants, producers)
        if node.op_type in WEIGHTED:
            _check_weighted(node, producers)
    for tensor in model.graph.initializer:
        if tensor.data_type not in TYPES:
            raise _error(f"constant {tensor.name}", f"is {_type_name(tensor.data_type)}, which TensorRT does not take")


def _checked_opset(model: onnx.ModelProto) -> int:
    opset = 0
    for entry in model.opset_import:
        if entry.domain not in ("", "ai.onnx"):
            raise _error("the graph", f"imports the operators of {entry.domain}, which TensorRT does not have")
        if not OLDEST_OPSET <= entry.version <= NEWEST_OPSET:
            raise _error("the graph", f"has opset {entry.version}, expected {OLDEST_OPSET} to {NEWEST_OPSET}")
        opset = entry.version
    return opset


def _check_scale(node: onnx.NodeProto, constants: Mapping[str, TensorProto], types: Sequence[int]) -> None:
    scale = constants.get(node.input[1])
    if scale is None or scale.data_type not in types:
        raise _error(_node_name(node), f"its scale is not a constant of type {' or '.join(map(_type_name, types))}")
    if not (numpy_helper.to_array(scale) > 0).all():
        raise _error(_node_name(node), "its scale is not above 0")
    zero = constants.get(node.input[2]) if len(node.input) > 2 else None
    if zero is None or zero.data_type != TensorProto.INT8:
        found = "none, which means unsigned" if zero is None else _type_name(zero.data_type)
        raise _error(_node_name(node), f"its zero point is {found}, expected a constant of type INT8")
    if numpy_helper.to_array(zero).any():
        raise _error(_node_name(node), "its zero point is not 0: TensorRT quantises symmetrically only")


def _check_source(
    node: onnx.NodeProto, constants: Mapping[str, TensorProto], producers: Mapping[str, onnx.NodeProto]
) -> None:
    source = constants.get(node.input[0])
    if node.op_type == "QuantizeLinear":
        if numpy_helper.to_array(constants[node.input[1]]).size > 1 and source is None:
            raise _error(_node_name(node), "it has a scale a channel for activations, TensorRT takes one a tensor")
        return
    producer = producers.get(node.input[0])
    if source is None and (producer is None or producer.op_type != "QuantizeLinear"):
        raise _error(_node_name(node), "it dequantises neither a constant nor the output of a QuantizeLinear")
    if source is not None and source.data_type != TensorProto.INT8:
        raise _error(_node_name(node), f"it dequantises {_type_name(source.data_type)}, expected INT8")


def _check_weighted(node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto]) -> None:
    def dequantised(index: int) -> bool:
        producer = producers.get(node.input[index]) if index < len(node.input) else None
        return producer is not None and producer.op_type == "DequantizeLinear"

    if dequantised(1) and not dequantised(0):
        reason = "its weights come through Q/DQ and its input does not: it would not run in 8 bits"
        raise _error(_node_name(node), reason)
    if dequantised(_BIAS_INPUT.get(node.op_type, len(node.input))):
        raise _error(_node_name(node), "its bias is quantised, TensorRT takes it in float")


def _node_name(node: onnx.NodeProto) -> str:
    return f"node {node.name or node.output[0]} ({node.op_type})"


def _type_name(kind: int) -> str:
    return str(TensorProto.DataType.Name(kind))


def _error(subject: str, reason: str) -> ModelError:
    return ModelError(f"TensorRT graph: {subject}: {reason}: change the student, or export with --target cpu")


def with_half_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the graph with FP16 where FP32 is not needed. Inputs and outputs stay FP32.

    A strongly typed network of TensorRT takes every type from the graph, so the types and the Casts between them are
    written into it. Convolutions and matrix products compute in FP16, except the last one before an output: its logits
    would move in steps. Operators of `HALF_OPERATORS` whose inputs are all FP16 compute in FP16 as well. So the front
    end, with its decibels, and pooling by softmax stay in FP32.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for entry in result.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = max(entry.version, HALF_OPSET)
    _HalfPrecision(result).apply()
    onnx.checker.check_model(result, full_check=True)
    return result


class _HalfPrecision:
    """Assigns FP16 or FP32 to the tensors of one graph, and inserts Casts."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._float_tensors = _float_tensors(model)
        self._consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._consumers.setdefault(name, []).append(node)
        self._producers = {name: node for node in model.graph.node for name in node.output}
        self._half_tensors: set[str] = set()

    def apply(self) -> None:
        """Decides on the types, and changes the graph."""
        weighted = {node.output[0] for node in self._graph.node if self._can_multiply_in_half(node)}
        in_half = []
        for node in self._graph.node:
            half = self._is_half(node, weighted)
            in_half.append(half)
            if half:
                self._half_tensors.update(name for name in node.output if name in self._float_tensors)
        nodes: list[onnx.NodeProto] = []
        casts: dict[tuple[str, bool], str] = {}
        for node, half in zip(self._graph.node, in_half, strict=True):
            for index, name in enumerate(node.input):
                if name in self._float_tensors and (name in self._half_tensors) is not half:
                    node.input[index] = self._cast_tensor(name, half, casts, nodes)
            nodes.append(node)
        self._restore_outputs(nodes)
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        used = {name for node in nodes for name in node.input}
        kept = [tensor for tensor in self._constants.values() if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)
        del self._graph.value_info[:]  # holds the old types

    def _can_multiply_in_half(self, node: onnx.NodeProto) -> bool:
        if node.op_type not in WEIGHTED or self._is_last_weighted(node):
            return False
        producers = [self._producers[name] for name in node.input if name in self._producers]
        return all(self._scale_fits(each) for each in producers if each.op_type == "DequantizeLinear")

    def _is_last_weighted(self, node: onnx.NodeProto) -> bool:
        """Returns True when no other multiplication stands between a node and the outputs."""
        waiting, seen = [node], set()
        while waiting:
            for name in waiting.pop().output:
                for consumer in self._consumers.get(name, []):
                    if consumer.op_type in WEIGHTED:
                        return False
                    if consumer.output[0] not in seen:
                        seen.add(consumer.output[0])
                        waiting.append(consumer)
        return True

    def _is_half(self, node: onnx.NodeProto, weighted: set[str]) -> bool:
        if node.op_type in WEIGHTED:
            return node.output[0] in weighted
        if node.op_type == "QuantizeLinear":
            return node.input[0] in self._half_tensors and self._scale_fits(node)
        if node.op_type == "DequantizeLinear":
            consumers = self._consumers.get(node.output[0], [])
            return any(each.output[0] in weighted for each in consumers) and self._scale_fits(node)
        variables = [name for name in node.input if name in self._float_tensors and name not in self._constants]
        in_half = all(name in self._half_tensors for name in variables)
        return node.op_type in HALF_OPERATORS and bool(variables) and in_half

    def _scale_fits(self, node: onnx.NodeProto) -> bool:
        scale = self._constants.get(node.input[1])
        if scale is None:
            return False
        values = numpy_helper.to_array(scale).astype(np.float64)
        return bool((np.abs(values.astype(np.float16) - values) <= _SCALE_TOLERANCE * values).all())

    def _cast_tensor(
        self, name: str, half: bool, casts: dict[tuple[str, bool], str], nodes: list[onnx.NodeProto]
    ) -> str:
        """Returns the name of a tensor in the other type; a Cast is added to `nodes` the first time."""
        key = (name, half)
        if key not in casts:
            casts[key] = f"{name}_{'half' if half else 'single'}"
            if name in self._constants:
                value = numpy_helper.to_array(self._constants[name]).astype(np.float16)
                self._constants[casts[key]] = numpy_helper.from_array(value, casts[key])
            else:
                nodes.append(_cast_node(name, casts[key], half))
        return casts[key]

    def _restore_outputs(self, nodes: list[onnx.NodeProto]) -> None:
        """Casts outputs of the graph that are FP16 back to FP32, under their old names."""
        for value in self._graph.output:
            if value.name in self._half_tensors:
                inner = f"{value.name}_before"
                for node in nodes:
                    for names in (node.input, node.output):
                        for index, name in enumerate(names):
                            if name == value.name:
                                names[index] = inner
                nodes.append(_cast_node(inner, value.name, False))


def _cast_node(name: str, cast: str, half: bool) -> onnx.NodeProto:
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    return helper.make_node("Cast", [name], [cast], name=f"{cast}_Cast", to=kind)


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    """Returns the names of the FP32 tensors."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.input, *graph.output, *graph.value_info)
    found = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return found | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
