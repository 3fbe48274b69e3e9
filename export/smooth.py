"""Prepares an FP32 graph for 8 bits: evens out the channels of activations, and keeps the means of outputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edge_sser.export.quantize import PASSING, weighted_nodes
from edge_sser.model.onnx_backend import cpu_session

STRENGTH = 0.5  # 0: all outliers stay in the activations, 1: all go into the weights; as in the paper
_BATCH = 32
_LEAST = 1e-4  # of a channel's largest value: a channel that is always 0 has no scale


@dataclass(frozen=True, slots=True)
class Channels:
    """Statistics of each channel of a tensor.

    Attributes:
        largest: float64 [channels], of the absolute values.
        mean: float64 [channels].
    """

    largest: NDArray[np.float64]
    mean: NDArray[np.float64]


def observe_channels(model: onnx.ModelProto, windows: NDArray[np.float32]) -> Mapping[str, Channels]:
    """Returns statistics of the input of each weighted node, over windows, float32 [n, frames, bands]."""
    weighted = {*weighted_nodes(model)}
    axes = {node.input[0]: 1 if node.op_type == "Conv" else -1 for node in model.graph.node if node.name in weighted}
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    known = {value.name for value in (*model.graph.input, *model.graph.output)}
    probed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in axes if name not in known)
    session = cpu_session(probed.SerializeToString(), threads=0)
    key = model.graph.input[0].name
    names = [name for name in axes if name != key]
    largest: dict[str, NDArray[np.float64]] = {}
    total: dict[str, NDArray[np.float64]] = {}
    for start in range(0, len(windows), _BATCH):
        batch = windows[start : start + _BATCH]
        values = session.run(names, {key: batch}) if names else []  # of no names it would run all
        for name, value in zip((key, *names), (batch, *values), strict=True):
            if name not in axes:
                continue
            rows = np.moveaxis(value, axes[name], -1).reshape(-1, value.shape[axes[name]])
            largest[name] = np.maximum(largest.get(name, 0.0), np.abs(rows).max(axis=0).astype(np.float64))
            total[name] = total.get(name, 0.0) + len(batch) * rows.mean(axis=0, dtype=np.float64)
    return {name: Channels(largest[name], total[name] / len(windows)) for name in largest}


def smooth(model: onnx.ModelProto, channels: Mapping[str, Channels]) -> onnx.ModelProto:
    """Returns a graph that computes the same with smaller outliers in the inputs of weighted nodes.

    One scale serves all channels of an activation, and a channel with large values leaves few of the 256 levels to the
    others. So each channel is divided by a factor, and the weights that read it are multiplied by it (SmoothQuant, Xiao
    et al., 2023). The factors go into the layer normalisation in front; a convolution over time that follows anything
    but a ReLU gets a Mul.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    weighted = {*weighted_nodes(model)}
    made = {name: node for node in model.graph.node for name in node.output}
    for name, found in channels.items():
        readers = [node for node in graph.node if name in node.input]
        if not all(node.name in weighted and node.input[0] == name for node in readers):
            continue
        source = made.get(name)
        normed = source is not None and source.op_type == "LayerNormalization"
        convolved = len(readers) == 1 and _is_over_time(readers[0], constants)
        if source is None or not (normed or (convolved and source.op_type not in PASSING)):
            continue
        weights = [by_channel(node, constants[node.input[1]]) for node in readers]
        largest = np.max([np.abs(each).max(axis=(0, 2)) for each in weights], axis=0)
        factors = np.maximum(found.largest, _LEAST) ** STRENGTH / np.maximum(largest, _LEAST) ** (1.0 - STRENGTH)
        for node in readers:
            shape = [1] * len(constants[node.input[1]].dims)
            shape[_input_axis(node)] = -1
            _multiply(constants[node.input[1]], factors.reshape(shape))
        if normed:
            for constant in source.input[1:]:
                _multiply(constants[constant], 1.0 / factors)
        else:
            _insert_mul(graph, readers[0], 1.0 / factors)
    onnx.checker.check_model(result, full_check=True)
    return result


def correct_bias(model: onnx.ModelProto, channels: Mapping[str, Channels], nodes: Collection[str]) -> onnx.ModelProto:
    """Returns a graph whose biases make up for what rounding the weights of some nodes to 8 bits adds on average.

    Rounded weights move the mean of an output by (rounded - weights) . mean of the input (Nagel et al., 2019).
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in result.graph.initializer}
    for node in result.graph.node:
        if node.name not in nodes or len(node.input) < 3 or node.input[2] not in constants:
            continue
        weights = by_channel(node, constants[node.input[1]])
        scale = np.maximum(np.abs(weights).max(axis=(1, 2), keepdims=True), _LEAST**2) / 127.0
        error = (np.round(weights / scale) * scale - weights).sum(axis=2)
        outputs, inputs = error.shape
        mean = channels[node.input[0]].mean.reshape(-1, inputs)  # a row for each group of a convolution
        moved = (error * np.repeat(mean, outputs // len(mean), axis=0)).sum(axis=1)
        bias = numpy_helper.to_array(constants[node.input[2]]) - moved
        constants[node.input[2]].CopyFrom(numpy_helper.from_array(bias.astype(np.float32), node.input[2]))
    return result


def by_channel(node: onnx.NodeProto, tensor: onnx.TensorProto) -> NDArray[np.float64]:
    """Returns the weights of a weighted node, float64 [outputs, inputs, taps]."""
    weights = numpy_helper.to_array(tensor).astype(np.float64)
    if node.op_type != "Conv":
        return (weights if _input_axis(node) else weights.T)[:, :, np.newaxis]
    return weights.reshape(*weights.shape[:2], -1)


def _input_axis(node: onnx.NodeProto) -> int:
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 1 if node.op_type == "Conv" or transposed else 0


def _is_over_time(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> bool:
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    return node.op_type == "Conv" and groups == 1 and len(constants[node.input[1]].dims) == 3


def _multiply(tensor: onnx.TensorProto, factors: NDArray[np.float64]) -> None:
    values = (numpy_helper.to_array(tensor) * factors).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _insert_mul(graph: onnx.GraphProto, node: onnx.NodeProto, factors: NDArray[np.float64]) -> None:
    """Multiplies the channels of a convolution's input, [batch, channels, steps]."""
    name = f"{node.input[0]}_smooth"
    values = factors.astype(np.float32).reshape(1, -1, 1)
    graph.initializer.append(numpy_helper.from_array(values, f"{name}_factors"))
    mul = helper.make_node("Mul", [node.input[0], f"{name}_factors"], [name], name=f"{node.name}_smooth")
    node.input[0] = name
    graph.node.insert(next(place for place, each in enumerate(graph.node) if each.name == node.name), mul)
