"""Torch module of a quantised graph, with the logits of its file and trainable weights and ranges.

The module runs the nodes of the quantised graph, so that the placement of Q/DQ, folded operators and the treatment of a
ReLU are those of the file. Q/DQ pairs are computed in float, with a straight-through gradient for the rounding (Bengio
et al., 2013). The ranges of activations learn from that gradient (Esser et al., ICLR 2020); torch's own fake_quantize,
whose ranges do not learn, serves for the weights alone.
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

_QUANTISED = "_quantized"  # suffix of constants, from ONNX Runtime's quantiser
_SCALE = "_scale"
_MIN_RANGE = 1e-8


class GraphNet(Student):
    """Quantised student, computed in float with gradients."""

    def __init__(
        self,
        fp32: onnx.ModelProto,
        quantised: onnx.ModelProto,
        ranges: Mapping[str, tuple[float, float]],
        outputs: Sequence[str],
    ) -> None:
        """Reads the graphs.

        Args:
            fp32: the graph that was quantised; gives the weights.
            quantised: the graph that `quantise` returned.
            ranges: ranges that it was quantised with, least and greatest value by tensor.
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
        # A constant without a dimension belongs to the architecture; trained weights have at least one.
        trainable = [
            tensor
            for tensor in fp32.graph.initializer
            if tensor.name in used and tensor.data_type == TensorProto.FLOAT and tensor.dims
        ]
        self.weight_names = tuple(tensor.name for tensor in trainable)
        self.weights = nn.ParameterList(nn.Parameter(_tensor(tensor)) for tensor in trainable)
        names = {node.input[1].removesuffix(_SCALE) for node in self._nodes if node.op_type == "QuantizeLinear"}
        self.range_names = tuple(sorted(names))
        self._range_index = {name: index for index, name in enumerate(self.range_names)}
        self.start: Tensor
        self.register_buffer("start", torch.tensor([ranges[name] for name in self.range_names]).reshape(-1, 2))
        # Logarithms of a factor on each end: a range changes by shares of itself, and zero stays within it.
        self.stretch = nn.Parameter(torch.zeros(len(self.range_names), 2))
        self._signed = {
            node.input[1].removesuffix(_SCALE)
            for node in self._nodes
            if node.op_type == "QuantizeLinear" and self._stored[node.input[2]].data_type == TensorProto.INT8
        }

    def embed(self, sound: Tensor) -> Tensor:
        """Returns the logits of log-mel windows, float32 [batch, 1 + classes]: stress, then emotions."""
        values: dict[str, Any] = dict(zip(self.weight_names, self.weights, strict=True))
        values[self._input] = sound
        for node in self._nodes:
            if node.op_type == "QuantizeLinear":
                out: Any = self._quantise_dequantise(values[node.input[0]], node.input[1].removesuffix(_SCALE))
            elif node.op_type == "DequantizeLinear":
                out = self._dequantise(node, values)
            else:
                inputs = [self._value(name, values) if name else None for name in node.input]
                out = _OPERATORS[node.op_type](inputs, _attributes(node))
            values[node.output[0]] = out
        stress, emotions = (values[name] for name in self._outputs)
        return torch.cat([stress[:, None], emotions], dim=1)

    def classify(self, embedded: Tensor) -> Logits:
        """Names the logits; the auxiliary task is not in the graph."""
        return Logits(stress=embedded[:, 0], emotions=embedded[:, 1:], intensity=torch.zeros_like(embedded[:, 0]))

    def trained_weights(self) -> Mapping[str, np.ndarray[Any, np.dtype[np.float32]]]:
        """Returns the current weights by the names of their constants in the FP32 graph."""
        return {name: value.detach().cpu().numpy() for name, value in zip(self.weight_names, self.weights, strict=True)}

    def trained_ranges(self) -> Mapping[str, tuple[float, float]]:
        """Returns the current ranges of the activations by tensor."""
        with torch.no_grad():
            ends = {name: self._ends(name) for name in self.range_names}
        return {name: (float(low), float(high)) for name, (low, high) in ends.items()}

    def _value(self, name: str, values: Mapping[str, Any]) -> Any:
        """Returns a computed tensor, a weight, or a constant: a numpy array for indices, a tensor for floats."""
        if name in values:
            return values[name]
        constant = self._stored[name]
        return _tensor(constant) if constant.data_type == TensorProto.FLOAT else numpy_helper.to_array(constant)

    def _ends(self, name: str) -> tuple[Tensor, Tensor]:
        index = self._range_index[name]
        if name in self._signed:
            high = self.start[index, 1] * self.stretch[index, 1].exp()
            return -high, high
        low, high = self.start[index] * self.stretch[index].exp()
        return low, high

    def _quantise_dequantise(self, value: Tensor, name: str) -> Tensor:
        """Applies Q and DQ as ONNX defines them: halves round to even, values outside the range are clipped."""
        low, high = self._ends(name)
        if name in self._signed:
            scale = high.clamp(min=_MIN_RANGE) / 127.0
            return _round_straight_through(value / scale).clamp(-128.0, 127.0) * scale
        scale = (high - low).clamp(min=_MIN_RANGE) / 255.0
        zero = _round_straight_through(-low / scale)
        return ((_round_straight_through(value / scale) + zero).clamp(0.0, 255.0) - zero) * scale

    def _dequantise(self, node: onnx.NodeProto, values: Mapping[str, Any]) -> Tensor:
        constant = self._stored.get(node.input[0])
        if constant is None:  # an activation: QuantizeLinear has applied both
            out: Tensor = values[node.input[0]]
            return out
        weight: Tensor = values[node.input[0].removesuffix(_QUANTISED)]
        if constant.data_type == TensorProto.INT32:
            return weight  # a bias, whose steps are far below those of the sum that it is added to
        axis = int(_attributes(node).get("axis", 1))
        if not self._stored[node.input[1]].dims:
            scale = weight.detach().abs().amax().clamp(min=_MIN_RANGE) / 127.0
            return torch.fake_quantize_per_tensor_affine(weight, float(scale), 0, -127, 127)
        others = [each for each in range(weight.dim()) if each != axis]
        scale = weight.detach().abs().amax(dim=others).clamp(min=_MIN_RANGE) / 127.0
        zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, axis, -127, 127)


def _round_straight_through(value: Tensor) -> Tensor:
    """Rounds a tensor, with the gradient of the identity."""
    return value + (value.round() - value).detach()


def _tensor(constant: TensorProto) -> Tensor:
    return torch.from_numpy(numpy_helper.to_array(constant).copy())


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}


def _convolve(inputs: list[Any], attrs: dict[str, Any]) -> Tensor:
    x, weight, bias = (*inputs, None)[:3]
    sides = len(attrs["pads"]) // 2
    # F.pad counts from the last axis, and takes both ends of an axis together.
    pads = [attrs["pads"][index] for axis in reversed(range(sides)) for index in (axis, axis + sides)]
    convolve: Callable[..., Tensor] = F.conv1d if sides == 1 else F.conv2d
    settings = {"stride": attrs["strides"], "dilation": attrs["dilations"], "groups": attrs["group"]}
    if attrs["pads"][:sides] == attrs["pads"][sides:]:
        return convolve(x, weight, bias, padding=attrs["pads"][:sides], **settings)
    return convolve(F.pad(x, pads), weight, bias, **settings)


def _gemm(inputs: list[Any], attrs: dict[str, Any]) -> Tensor:
    x, weight, bias = inputs
    out: Tensor = F.linear(x, weight if attrs.get("transB") else weight.T, bias)
    return out


def _reshape(inputs: list[Any], attrs: dict[str, Any]) -> Tensor:
    x, shape = inputs
    keep_zeros = bool(attrs.get("allowzero"))  # without it, a zero means the length of the input
    new_shape = [x.shape[axis] if not size and not keep_zeros else int(size) for axis, size in enumerate(shape)]
    out: Tensor = x.reshape(new_shape)
    return out


def _slice(inputs: list[Any], attrs: dict[str, Any]) -> Tensor:
    x, starts, ends, axes = inputs[:4]
    steps = inputs[4] if len(inputs) > 4 else np.ones_like(starts)
    slices: list[slice] = [slice(None)] * x.dim()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        slices[int(axis)] = slice(int(start), int(end), int(step))
    out: Tensor = x[tuple(slices)]
    return out


def _gather(inputs: list[Any], attrs: dict[str, Any]) -> Tensor:
    x, index = inputs
    axis = int(attrs.get("axis", 0))
    chosen: Tensor = x.index_select(axis, torch.tensor(np.atleast_1d(index), device=x.device))
    return chosen.squeeze(axis) if not np.ndim(index) else chosen


def _unsqueeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    for axis in sorted(axes):
        x = x.unsqueeze(int(axis))
    return x


def _axes(inputs: list[Any]) -> list[int]:
    return [int(axis) for axis in inputs[1]]


_OPERATORS: Mapping[str, Callable[[list[Any], dict[str, Any]], Any]] = {
    "Add": lambda inputs, attrs: inputs[0] + inputs[1],
    "Sub": lambda inputs, attrs: inputs[0] - inputs[1],
    "Mul": lambda inputs, attrs: inputs[0] * inputs[1],
    "Div": lambda inputs, attrs: inputs[0] / inputs[1],
    "Max": lambda inputs, attrs: torch.maximum(inputs[0], inputs[1]),
    "Relu": lambda inputs, attrs: inputs[0].relu(),
    "Conv": _convolve,
    "Gemm": _gemm,
    "MatMul": lambda inputs, attrs: inputs[0] @ inputs[1],
    "Reshape": _reshape,
    "Transpose": lambda inputs, attrs: inputs[0].permute(attrs["perm"]),
    "Unsqueeze": lambda inputs, attrs: _unsqueeze(inputs[0], inputs[1]),
    "Squeeze": lambda inputs, attrs: inputs[0].squeeze(_axes(inputs)),
    "Slice": _slice,
    "Gather": _gather,
    "Softmax": lambda inputs, attrs: inputs[0].softmax(dim=attrs["axis"]),
    "ReduceMax": lambda inputs, attrs: inputs[0].amax(dim=_axes(inputs), keepdim=bool(attrs.get("keepdims", 1))),
    "ReduceMean": lambda inputs, attrs: inputs[0].mean(dim=_axes(inputs), keepdim=bool(attrs.get("keepdims", 1))),
    "ReduceSum": lambda inputs, attrs: inputs[0].sum(dim=_axes(inputs), keepdim=bool(attrs.get("keepdims", 1))),
    "LayerNormalization": lambda inputs, attrs: F.layer_norm(
        inputs[0], inputs[0].shape[-1:], inputs[1], inputs[2], attrs["epsilon"]
    ),
}
