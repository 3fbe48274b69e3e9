"""An FP32 graph in 8 bits: Q/DQ pairs for ONNX Runtime on a CPU, or for TensorRT."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping
from enum import Enum
from importlib import import_module

import numpy as np
import onnx

from edge_sser.model.onnx_backend import onnx_runtime

WEIGHTED = ("Conv", "Gemm", "MatMul")
PASSING = ("Relu", "Reshape")  # stay in 8 bits between two weighted nodes
MIN_CHANNELS = 4  # of the input of a convolution that gains from 8 bits on a CPU
MIN_WEIGHTS = 8192  # of a matrix product that gains from them: less time than quantising its input


class Target(str, Enum):
    """Runtimes that an 8-bit file can be made for."""

    CPU = "cpu"
    """ONNX Runtime: activations unsigned with a zero point, weights signed with a scale a channel, bias 32-bit."""
    TENSORRT = "tensorrt"
    """Everything signed, zero points 0, bias in float, Q/DQ on the inputs of weighted nodes only."""


def weighted_nodes(model: onnx.ModelProto) -> list[str]:
    """Returns the names of the nodes that multiply by constant weights, and so can be quantised."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type in WEIGHTED and node.input[1] in constants]


def slow_nodes(model: onnx.ModelProto, target: Target) -> list[str]:
    """Returns the names of the nodes that are faster in float: on a CPU, small products and few input channels.

    ONNX Runtime's 8-bit convolution walks over channels. A 5 x 5 stem of one channel took 0.16 ms in 8 bits, and 0.07
    more to reorder its input; in float it took 0.04. The heads (Gemm), which read one row a window, cost nothing
    either way.
    """
    if target is not Target.CPU:
        return []
    dims = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if (node.op_type == "Conv" and node.input[1] in dims and dims[node.input[1]][1] < MIN_CHANNELS)
        or (node.op_type == "MatMul" and node.input[1] in dims and math.prod(dims[node.input[1]]) < MIN_WEIGHTS)
    ]


def activations(model: onnx.ModelProto) -> set[str]:
    """Returns the names of the tensors whose range quantising may need."""
    constants = {tensor.name for tensor in model.graph.initializer}
    kept = [node for node in model.graph.node if node.op_type in (*WEIGHTED, *PASSING)]
    return {name for node in kept for name in (node.input[0], *node.output) if name and name not in constants}


def quantise(
    model: onnx.ModelProto,
    target: Target,
    ranges: Mapping[str, tuple[float, float]],
    keep_float: Collection[str] = (),
) -> onnx.ModelProto:
    """Returns an FP32 graph in 8 bits, except for the nodes of `keep_float`.

    `ranges` has the least and greatest value of each tensor that `activations` names.
    """
    onnx_runtime()  # first, with its telemetry off
    library = import_module("onnxruntime.quantization")
    quantizer_module = import_module("onnxruntime.quantization.qdq_quantizer")
    calibrate = import_module("onnxruntime.quantization.calibrate")
    tensors_range = calibrate.TensorsData(
        library.CalibrationMethod.MinMax,
        {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()},
    )
    symmetric = target is Target.TENSORRT
    quantisable = set(weighted_nodes(model))
    excluded = [
        node.name
        for node in model.graph.node
        if node.name in keep_float or (node.op_type in WEIGHTED and node.name not in quantisable)
    ]
    quantizer = quantizer_module.QDQQuantizer(
        onnx.shape_inference.infer_shapes(model),
        per_channel=True,
        reduce_range=False,
        weight_qType=library.QuantType.QInt8,
        activation_qType=library.QuantType.QInt8 if symmetric else library.QuantType.QUInt8,
        tensors_range=tensors_range,
        nodes_to_quantize=[],
        nodes_to_exclude=excluded,
        op_types_to_quantize=[*WEIGHTED] if symmetric else [*WEIGHTED, *PASSING],
        extra_options={
            "ActivationSymmetric": symmetric,
            "WeightSymmetric": True,
            "QuantizeBias": not symmetric,
            "DedicatedQDQPair": symmetric,
            # A logit in 8 bits would move in steps; TensorRT fuses a convolution with what follows only without Q/DQ
            # between them.
            "OpTypesToExcludeOutputQuantization": [*WEIGHTED] if symmetric else ["Gemm", "MatMul"],
        },
    )
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # the library writes to the root logger
    try:
        quantizer.quantize_model()
    finally:
        logging.getLogger().setLevel(level)
    quantizer.model.topological_sort()
    return _cleaned(quantizer.model.model)


def _cleaned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Removes unused operator sets and stale shapes from a quantised graph, and checks it."""
    domains = {node.domain for node in model.graph.node}
    imports = [entry for entry in model.opset_import if entry.domain in domains]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    del model.graph.value_info[:]  # names tensors that are gone
    model.producer_name, model.producer_version = "edge-sser", ""
    onnx.checker.check_model(model, full_check=True)
    return model
