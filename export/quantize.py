"""An FP32 graph in 8 bits: Q/DQ pairs for ONNX Runtime on a CPU, or for TensorRT."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from enum import Enum
from importlib import import_module

import numpy as np
import onnx

from edge_sser.model.runtime import onnx_runtime

WEIGHTED = ("Conv", "Gemm", "MatMul")
FEW = 4  # input channels
PASSING = ("Relu", "Reshape")  # stay in 8 bits between two weighted nodes


class Target(str, Enum):
    """What an 8-bit file is made for."""

    CPU = "cpu"
    """ONNX Runtime: activations unsigned with a zero point, weights signed with a scale a channel, bias 32-bit."""
    TENSORRT = "tensorrt"
    """Everything signed, zero points 0, bias in float, Q/DQ on the inputs of weighted nodes only."""


def weighted_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that can be quantised: those that multiply by constant weights."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type in WEIGHTED and node.input[1] in constants]


def slow_nodes(model: onnx.ModelProto, target: Target) -> list[str]:
    """Names of the nodes that are faster in float: on a CPU, convolutions of a few input channels.

    ONNX Runtime's 8-bit convolution walks over channels: a 5 x 5 stem of one channel took 0.16 ms in 8 bits and 0.04 in
    float, and another 0.07 for bringing its input into that order.
    """
    if target is not Target.CPU:
        return []
    channels = {tensor.name: tensor.dims[1] for tensor in model.graph.initializer if len(tensor.dims) > 2}
    return [node.name for node in model.graph.node if node.op_type == "Conv" and channels.get(node.input[1], FEW) < FEW]


def activations(model: onnx.ModelProto) -> set[str]:
    """Tensors that quantising may need the range of."""
    constants = {tensor.name for tensor in model.graph.initializer}
    kept = [node for node in model.graph.node if node.op_type in (*WEIGHTED, *PASSING)]
    return {name for node in kept for name in (node.input[0], *node.output) if name and name not in constants}


def quantise(
    model: onnx.ModelProto,
    target: Target,
    ranges: Mapping[str, tuple[float, float]],
    keep_float: Collection[str] = (),
) -> onnx.ModelProto:
    """Puts a graph into 8 bits.

    Args:
        model: FP32, with named nodes; unchanged.
        target: what it is for.
        ranges: of the tensors that `activations` names, least and greatest.
        keep_float: names of nodes to be left alone.
    """
    onnx_runtime()  # first, with its telemetry off
    library = import_module("onnxruntime.quantization")
    quantizer_module = import_module("onnxruntime.quantization.qdq_quantizer")
    calibrate = import_module("onnxruntime.quantization.calibrate")
    wide = calibrate.TensorsData(
        library.CalibrationMethod.MinMax,
        {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()},
    )
    symmetric = target is Target.TENSORRT
    can = set(weighted_nodes(model))
    excluded = [
        node.name
        for node in model.graph.node
        if node.name in keep_float or (node.op_type in WEIGHTED and node.name not in can)
    ]
    whole = onnx.shape_inference.infer_shapes(model)
    types = [*WEIGHTED] if symmetric else [*WEIGHTED, *PASSING]
    quantizer = quantizer_module.QDQQuantizer(
        whole,
        per_channel=True,
        reduce_range=False,
        weight_qType=library.QuantType.QInt8,
        activation_qType=library.QuantType.QInt8 if symmetric else library.QuantType.QUInt8,
        tensors_range=wide,
        nodes_to_quantize=[],
        nodes_to_exclude=excluded,
        op_types_to_quantize=types,
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
    made: onnx.ModelProto = quantizer.model.model
    domains = {node.domain for node in made.graph.node}
    imports = [entry for entry in made.opset_import if entry.domain in domains]
    del made.opset_import[:]
    made.opset_import.extend(imports)
    del made.graph.value_info[:]  # names that are no more
    made.producer_name, made.producer_version = "edge-sser", ""
    onnx.checker.check_model(made, full_check=True)
    return made
