"""Values of a network that NVIDIA's parser made, computed in NumPy and torch: no GPU runs it here."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch


def evaluate(trt: Any, network: Any, outputs: tuple[str, ...], **inputs: np.ndarray) -> list[np.ndarray]:
    """Returns the values of tensors, given those of the network's inputs; knows the layers of the CNN."""
    producers = {}
    for layer in map(network.get_layer, range(network.num_layers)):
        producers[layer.get_output(0).name] = layer

    @cache
    def value(name: str) -> np.ndarray:
        if name in inputs:
            return inputs[name]
        layer = producers[name]
        kind = layer.type.name
        layer.__class__ = getattr(trt, CLASSES[kind])  # `get_layer` gives the base class
        given = [layer.get_input(place) for place in range(layer.num_inputs)]
        return compute(trt, kind, layer, [value(tensor.name) for tensor in given if tensor is not None])

    return [value(name) for name in outputs]


CLASSES = {
    "ACTIVATION": "IActivationLayer",
    "CAST": "ICastLayer",
    "CONSTANT": "IConstantLayer",
    "CONVOLUTION": "IConvolutionLayer",
    "ELEMENTWISE": "IElementWiseLayer",
    "GATHER": "IGatherLayer",
    "MATRIX_MULTIPLY": "IMatrixMultiplyLayer",
    "REDUCE": "IReduceLayer",
    "SHAPE": "IShapeLayer",
    "SHUFFLE": "IShuffleLayer",
    "SLICE": "ISliceLayer",
    "SOFTMAX": "ISoftMaxLayer",
    "SQUEEZE": "ISqueezeLayer",
    "UNSQUEEZE": "IUnsqueezeLayer",
}
BINARY = {
    "SUM": np.add,
    "SUB": np.subtract,
    "PROD": np.multiply,
    "DIV": np.divide,
    "MAX": np.maximum,
    "MIN": np.minimum,
}
REDUCTIONS = {"SUM": np.sum, "AVG": np.mean, "MAX": np.max}


def shuffle(layer: Any, first: np.ndarray, shape: Any) -> np.ndarray:
    """Transposes, reshapes and transposes."""
    turned = first.transpose(list(layer.first_transpose)[: first.ndim])
    if shape is None:
        return turned
    sizes = [first.shape[place] if size == 0 else int(size) for place, size in enumerate(shape)]
    return turned.reshape(sizes).transpose(list(layer.second_transpose)[: len(sizes)])


def convolve(layer: Any, first: np.ndarray) -> np.ndarray:
    """Convolves over two axes."""
    outputs, sizes = layer.num_output_maps, tuple(layer.kernel_size_nd)
    kernel = np.asarray(layer.kernel).reshape(outputs, first.shape[1] // layer.num_groups, *sizes)
    tensors = [torch.from_numpy(np.array(each)) for each in (first, kernel, layer.bias)]
    assert tuple(layer.pre_padding) == tuple(layer.post_padding)
    options = {"stride": tuple(layer.stride_nd), "padding": tuple(layer.pre_padding), "groups": layer.num_groups}
    return torch.nn.functional.conv2d(*tensors, **options).numpy()


def compute(trt: Any, kind: str, layer: Any, given: list[np.ndarray]) -> np.ndarray:
    """Returns the output of a layer."""
    if kind == "CONSTANT":
        return np.asarray(layer.weights).reshape(tuple(layer.shape))
    first = given[0]
    if kind == "ELEMENTWISE":
        return BINARY[layer.op.name](*given)
    if kind == "REDUCE":
        axes = tuple(axis for axis in range(first.ndim) if layer.axes >> axis & 1)
        return REDUCTIONS[layer.op.name](first, axis=axes, keepdims=layer.keep_dims)
    if kind == "SHUFFLE":
        return shuffle(layer, first, given[1] if len(given) > 1 else layer.reshape_dims)
    if kind == "UNSQUEEZE":
        return np.expand_dims(first, tuple(int(axis) for axis in given[1]))
    if kind == "SQUEEZE":
        return np.squeeze(first, tuple(int(axis) for axis in given[1]))
    if kind == "CONVOLUTION":
        return convolve(layer, first)
    if kind == "ACTIVATION":
        assert layer.type == trt.ActivationType.RELU
        return np.maximum(first, 0)
    if kind == "SOFTMAX":
        powers = np.exp(first - first.max())
        return powers / powers.sum(axis=int(np.log2(layer.axes)), keepdims=True)
    if kind in ("SHAPE", "CAST"):
        return np.array(first.shape) if kind == "SHAPE" else first
    if kind == "MATRIX_MULTIPLY":
        one, other = (
            each.T if op == trt.MatrixOperation.TRANSPOSE else each
            for each, op in zip(given, (layer.op0, layer.op1), strict=True)
        )
        return one @ other
    if kind == "GATHER":
        return np.take(first, given[1], axis=layer.axis)
    start, size = (int(each[-1]) for each in given[1:3])
    return first[..., start : start + size]
