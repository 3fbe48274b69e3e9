"""A quantised graph as a torch module: it computes what the file computes, and its weights and ranges can be trained.

The module runs the nodes of the quantised graph itself, so there is no second opinion on where 8 bits begin and end, on
what was folded into what, or on what a target does with a ReLU. Q/DQ pairs are done in float with rounding whose
gradient is passed straight through (Bengio et al., 2013); the ranges of activations learn from that gradient (Esser et
al., ICLR 2020), which is why torch's own fake_quantize, whose ranges do not learn, serves for the weights alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from edge_sser.errors import ModelError
from edge_sser.train.students.net import Logits, Student

_QUANTISED = "_quantized"  # what ONNX Runtime's quantiser puts behind a constant's name
_SCALE = "_scale"
_LEAST_RANGE = 1e-8


class GraphNet(Student):
    """What a quantised student computes, in float and with gradients."""

    def __init__(
        self,
        fp32: onnx.ModelProto,
        quantised: onnx.ModelProto,
        ranges: Mapping[str, tuple[float, float]],
        outputs: Sequence[str],
    ) -> None:
        """Reads the graphs.

        Args:
            fp32: the graph that was quantised: the weights come from it.
            quantised: what `quantise` made of it.
            ranges: it was quantised with, least and greatest value by tensor.
            outputs: names of the stress logit and of the emotion logits.

        Raises:
            ModelError: the graph has an operator that cannot be trained here.
        """
        super().__init__()
        self._nodes = list(quantised.graph.node)
        for node in self._nodes:
            if node.op_type not in (*_OPERATORS, "QuantizeLinear", "DequantizeLinear"):
                raise ModelError(f"node {node.name} ({node.op_type}) cannot be trained in 8 bits: export without --qat")
        self._input = quantised.graph.input[0].name
        self._outputs = tuple(outputs)
        self._stored = {tensor.name: tensor for tensor in quantised.graph.initializer}
        used = {name.removesuffix(_QUANTISED) for name in self._stored}
        # A constant without a dimension belongs to the architecture; what was learnt has at least one.
        learnt = [
            tensor
            for tensor in fp32.graph.initializer
            if tensor.name in used and tensor.data_type == TensorProto.FLOAT and tensor.dims
        ]
        self.weight_names = tuple(tensor.name for tensor in learnt)
        self.weights = nn.ParameterList(nn.Parameter(_tensor(tensor)) for tensor in learnt)
        names = {node.input[1].removesuffix(_SCALE) for node in self._nodes if node.op_type == "QuantizeLinear"}
        self.range_names = tuple(sorted(names))
        self._place = {name: place for place, name in enumerate(self.range_names)}
        self.start: Tensor
        self.register_buffer("start", torch.tensor([ranges[name] for name in self.range_names]).reshape(-1, 2))
        # Logarithms of what either end is multiplied by: a range moves by shares of itself, and zero stays within it.
        self.stretch = nn.Parameter(torch.zeros(len(self.range_names), 2))
        self._signed = {
            node.input[1].removesuffix(_SCALE)
            for node in self._nodes
            if node.op_type == "QuantizeLinear" and self._stored[node.input[2]].data_type == TensorProto.INT8
        }

    def embed(self, sound: Tensor) -> Tensor:
        """Logits of log-mel windows, float32 [batch, 1 + classes], stress first: nothing is left to decide."""
        values: dict[str, Any] = dict(zip(self.weight_names, self.weights, strict=True))
        values[self._input] = sound
        for node in self._nodes:
            if node.op_type == "QuantizeLinear":
                out: Any = self._rounded(values[node.input[0]], node.input[1].removesuffix(_SCALE))
            elif node.op_type == "DequantizeLinear":
                out = self._dequantised(node, values)
            else:
                given = [self._value(name, values) if name else None for name in node.input]
                out = _OPERATORS[node.op_type](given, _attributes(node))
            values[node.output[0]] = out
        stress, emotions = (values[name] for name in self._outputs)
        return torch.cat([stress[:, None], emotions], dim=1)

    def decide(self, embedded: Tensor) -> Logits:
        """The logits by their names; the auxiliary task is not in the graph."""
        return Logits(stress=embedded[:, 0], emotions=embedded[:, 1:], intensity=torch.zeros_like(embedded[:, 0]))

    def learnt_weights(self) -> Mapping[str, np.ndarray[Any, np.dtype[np.float32]]]:
        """The constants of the FP32 graph as they are now, by name."""
        return {name: value.detach().cpu().numpy() for name, value in zip(self.weight_names, self.weights, strict=True)}

    def learnt_ranges(self) -> Mapping[str, tuple[float, float]]:
        """The ranges of the activations as they are now, by tensor."""
        with torch.no_grad():
            ends = {name: self._ends(name) for name in self.range_names}
        return {name: (float(low), float(high)) for name, (low, high) in ends.items()}

    def _value(self, name: str, values: Mapping[str, Any]) -> Any:
        """A tensor computed or learnt; constants as numpy arrays where they are indices, as tensors where float."""
        if name in values:
            return values[name]
        constant = self._stored[name]
        return _tensor(constant) if constant.data_type == TensorProto.FLOAT else numpy_helper.to_array(constant)

    def _ends(self, name: str) -> tuple[Tensor, Tensor]:
        place = self._place[name]
        if name in self._signed:
            high = self.start[place, 1] * self.stretch[place, 1].exp()
            return -high, high
        low, high = self.start[place] * self.stretch[place].exp()
        return low, high

    def _rounded(self, value: Tensor, name: str) -> Tensor:
        """Through Q and DQ, as ONNX defines them: halves to the even side, what is outside clipped."""
        low, high = self._ends(name)
        if name in self._signed:
            scale = high.clamp(min=_LEAST_RANGE) / 127.0
            return _passed_through(value / scale).clamp(-128.0, 127.0) * scale
        scale = (high - low).clamp(min=_LEAST_RANGE) / 255.0
        zero = _passed_through(-low / scale)
        return ((_passed_through(value / scale) + zero).clamp(0.0, 255.0) - zero) * scale

    def _dequantised(self, node: onnx.NodeProto, values: Mapping[str, Any]) -> Tensor:
        constant = self._stored.get(node.input[0])
        if constant is None:  # an activation: Q has done both already
            out: Tensor = values[node.input[0]]
            return out
        weight: Tensor = values[node.input[0].removesuffix(_QUANTISED)]
        if constant.data_type == TensorProto.INT32:
            return weight  # a bias in steps far below those of what it is added to
        axis = int(_attributes(node).get("axis", 1))
        if not self._stored[node.input[1]].dims:
            scale = weight.detach().abs().amax().clamp(min=_LEAST_RANGE) / 127.0
            return torch.fake_quantize_per_tensor_affine(weight, float(scale), 0, -127, 127)
        others = [each for each in range(weight.dim()) if each != axis]
        scale = weight.detach().abs().amax(dim=others).clamp(min=_LEAST_RANGE) / 127.0
        zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, axis, -127, 127)


def _passed_through(value: Tensor) -> Tensor:
    """Rounded, with the gradient of what is not."""
    return value + (value.round() - value).detach()


def _tensor(constant: TensorProto) -> Tensor:
    return torch.from_numpy(numpy_helper.to_array(constant).copy())


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}


def _convolve(given: list[Any], how: dict[str, Any]) -> Tensor:
    x, weight, bias = (*given, None)[:3]
    sides = len(how["pads"]) // 2
    # F.pad counts from the last axis, and takes both ends of an axis together.
    pads = [how["pads"][place] for axis in reversed(range(sides)) for place in (axis, axis + sides)]
    convolve: Callable[..., Tensor] = F.conv1d if sides == 1 else F.conv2d
    settings = {"stride": how["strides"], "dilation": how["dilations"], "groups": how["group"]}
    if how["pads"][:sides] == how["pads"][sides:]:
        return convolve(x, weight, bias, padding=how["pads"][:sides], **settings)
    return convolve(F.pad(x, pads), weight, bias, **settings)


def _gemm(given: list[Any], how: dict[str, Any]) -> Tensor:
    x, weight, bias = given
    out: Tensor = F.linear(x, weight if how.get("transB") else weight.T, bias)
    return out


def _reshape(given: list[Any], how: dict[str, Any]) -> Tensor:
    x, shape = given
    copied = 0 if how.get("allowzero") else 1  # without it, a zero means the length that was there
    wanted = [x.shape[place] if copied and not size else int(size) for place, size in enumerate(shape)]
    out: Tensor = x.reshape(wanted)
    return out


def _slice(given: list[Any], how: dict[str, Any]) -> Tensor:
    x, starts, ends, axes = given[:4]
    steps = given[4] if len(given) > 4 else np.ones_like(starts)
    place: list[slice] = [slice(None)] * x.dim()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        place[int(axis)] = slice(int(start), int(end), int(step))
    out: Tensor = x[tuple(place)]
    return out


def _gather(given: list[Any], how: dict[str, Any]) -> Tensor:
    x, index = given
    axis = int(how.get("axis", 0))
    chosen: Tensor = x.index_select(axis, torch.tensor(np.atleast_1d(index), device=x.device))
    return chosen.squeeze(axis) if not np.ndim(index) else chosen


def _unsqueeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    for axis in sorted(axes):
        x = x.unsqueeze(int(axis))
    return x


def _axes(given: list[Any]) -> list[int]:
    return [int(axis) for axis in given[1]]


_OPERATORS: Mapping[str, Callable[[list[Any], dict[str, Any]], Any]] = {
    "Add": lambda given, how: given[0] + given[1],
    "Sub": lambda given, how: given[0] - given[1],
    "Mul": lambda given, how: given[0] * given[1],
    "Div": lambda given, how: given[0] / given[1],
    "Max": lambda given, how: torch.maximum(given[0], given[1]),
    "Relu": lambda given, how: given[0].relu(),
    "Conv": _convolve,
    "Gemm": _gemm,
    "MatMul": lambda given, how: given[0] @ given[1],
    "Reshape": _reshape,
    "Transpose": lambda given, how: given[0].permute(how["perm"]),
    "Unsqueeze": lambda given, how: _unsqueeze(given[0], given[1]),
    "Squeeze": lambda given, how: given[0].squeeze(_axes(given)),
    "Slice": _slice,
    "Gather": _gather,
    "Softmax": lambda given, how: given[0].softmax(dim=how["axis"]),
    "ReduceMax": lambda given, how: given[0].amax(dim=_axes(given), keepdim=bool(how.get("keepdims", 1))),
    "ReduceMean": lambda given, how: given[0].mean(dim=_axes(given), keepdim=bool(how.get("keepdims", 1))),
    "ReduceSum": lambda given, how: given[0].sum(dim=_axes(given), keepdim=bool(how.get("keepdims", 1))),
    "LayerNormalization": lambda given, how: F.layer_norm(
        given[0], given[0].shape[-1:], given[1], given[2], how["epsilon"]
    ),
}
