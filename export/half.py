"""Which tensors of a quantised graph are half precision: said by the graph itself, as strongly typed networks want it.

TensorRT takes every type of such a network from the graph. So this pass writes them down: what is worth it and can
stand it computes in FP16, everything else stays in FP32, and a Cast stands where one meets the other.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 19  # the first in which Q/DQ take scales in FP16, and with them values
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What goes between convolutions and loses nothing that matters in FP16. Whatever is not here, such as sums over a
# window, exponentials, logarithms and norms, stays in FP32.
_PASSING = """
    Add AveragePool Clip Concat Flatten Gather GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish Identity LeakyRelu
    Max MaxPool Min Mul PRelu Relu Reshape Sigmoid Slice Split Squeeze Sub Tanh Transpose Unsqueeze
"""
PASSING = frozenset(_PASSING.split())
_ROUNDING = 2e-3  # a scale in FP16 may be off by this part of it: four times what rounding a normal number costs


def with_half_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """Puts what need not be in FP32 into FP16. What goes in and out stays FP32.

    Convolutions and matrix products compute in FP16, but for the last one before an output: its logits would move in
    steps. What stands behind them does as well, as far as `PASSING` goes and nothing in FP32 flows in. So the front
    end, with its decibels, is FP32, and so is pooling by softmax.

    Args:
        model: FP32 with Q/DQ; unchanged.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for entry in made.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = max(entry.version, OPSET)
    _Typing(made).write()
    onnx.checker.check_model(made, full_check=True)
    return made


class _Typing:
    """The types of one graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._floats = _floats(model)
        self._users: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        self._maker = {name: node for node in model.graph.node for name in node.output}
        self._half: set[str] = set()  # tensors in FP16

    def write(self) -> None:
        """Decides, and changes the graph."""
        weighted = {node.output[0] for node in self._graph.node if self._can_multiply_in_half(node)}
        halves = []
        for node in self._graph.node:
            half = self._is_half(node, weighted)
            halves.append(half)
            if half:
                self._half.update(name for name in node.output if name in self._floats)
        nodes: list[onnx.NodeProto] = []
        casts: dict[tuple[str, bool], str] = {}
        for node, half in zip(self._graph.node, halves, strict=True):
            for place, name in enumerate(node.input):
                if name in self._floats and (name in self._half) is not half:
                    node.input[place] = self._in_type(name, half, casts, nodes)
            nodes.append(node)
        self._restore_outputs(nodes)
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        used = {name for node in nodes for name in node.input}
        kept = [tensor for tensor in self._constants.values() if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)
        del self._graph.value_info[:]  # types that are no more

    def _can_multiply_in_half(self, node: onnx.NodeProto) -> bool:
        if node.op_type not in WEIGHTED or self._is_last(node):
            return False
        makers = [self._maker[name] for name in node.input if name in self._maker]
        return all(self._scale_fits(maker) for maker in makers if maker.op_type == "DequantizeLinear")

    def _is_last(self, node: onnx.NodeProto) -> bool:
        """Whether no further multiplication stands between a node and the outputs."""
        waiting, seen = [node], set()
        while waiting:
            for name in waiting.pop().output:
                for user in self._users.get(name, []):
                    if user.op_type in WEIGHTED:
                        return False
                    if user.output[0] not in seen:
                        seen.add(user.output[0])
                        waiting.append(user)
        return True

    def _is_half(self, node: onnx.NodeProto, weighted: set[str]) -> bool:
        if node.op_type in WEIGHTED:
            return node.output[0] in weighted
        if node.op_type == "QuantizeLinear":
            return node.input[0] in self._half and self._scale_fits(node)
        if node.op_type == "DequantizeLinear":
            users = self._users.get(node.output[0], [])
            return any(user.output[0] in weighted for user in users) and self._scale_fits(node)
        flowing = [name for name in node.input if name in self._floats and name not in self._constants]
        return node.op_type in PASSING and bool(flowing) and all(name in self._half for name in flowing)

    def _scale_fits(self, node: onnx.NodeProto) -> bool:
        scale = self._constants.get(node.input[1])
        if scale is None:
            return False
        values = numpy_helper.to_array(scale).astype(np.float64)
        return bool((np.abs(values.astype(np.float16) - values) <= _ROUNDING * values).all())

    def _in_type(self, name: str, half: bool, casts: dict[tuple[str, bool], str], nodes: list[onnx.NodeProto]) -> str:
        """The name under which a tensor can be had in the other type."""
        key = (name, half)
        if key not in casts:
            casts[key] = f"{name}_{'half' if half else 'single'}"
            if name in self._constants:
                value = numpy_helper.to_array(self._constants[name]).astype(np.float16)
                self._constants[casts[key]] = numpy_helper.from_array(value, casts[key])
            else:
                nodes.append(_cast(name, casts[key], half))
        return casts[key]

    def _restore_outputs(self, nodes: list[onnx.NodeProto]) -> None:
        for value in self._graph.output:
            if value.name in self._half:
                inner = f"{value.name}_before"
                for node in nodes:
                    for names in (node.input, node.output):
                        for place, name in enumerate(names):
                            if name == value.name:
                                names[place] = inner
                nodes.append(_cast(inner, value.name, False))


def _cast(name: str, cast: str, half: bool) -> onnx.NodeProto:
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    return helper.make_node("Cast", [name], [cast], name=f"{cast}_Cast", to=kind)


def _floats(model: onnx.ModelProto) -> set[str]:
    """Names of the tensors in FP32."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.input, *graph.output, *graph.value_info)
    found = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return found | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
