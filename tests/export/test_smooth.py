"""Graphs are made ready for 8 bits: the same function with smaller outliers, and biases that keep the means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from quantised import exported, fp32, spoken

from edge_sser.export.quantize import Target, slow_nodes, weighted_nodes
from edge_sser.export.smooth import by_channel, correct_bias, observe_channels, smooth
from edge_sser.model.onnx_backend import onnx_runtime
from edge_sser.train.students.cnn import CompactCnn
from edge_sser.train.students.whisper_trunk import WhisperTrunk

OUTLIER = 40.0


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """A transformer on a stem of convolutions, both with a channel that is far larger than the others."""
    torch.manual_seed(0)
    cnn = CompactCnn(width=4, emotions=8, dropout=0.0)
    net = WhisperTrunk(width=64, layers=1, companions=[cnn], emotions=8, dropout=0.0)
    with torch.no_grad():
        net.bands.abs_()
        for layer in net.layers:
            layer.norm.weight[5] *= OUTLIER
        net.convolutions[0].weight[7] *= OUTLIER
        net(torch.from_numpy(spoken(8)))
    model, _ = exported(net, tmp_path_factory.mktemp("trunk"))
    return model


def logits(model: onnx.ModelProto) -> list[np.ndarray]:
    session = onnx_runtime().InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {model.graph.input[0].name: spoken(4, seed=900)}))


def unevenness(model: onnx.ModelProto, reads: str) -> float:
    """Largest channel over the median one in the input of the node that reads some weights."""
    node = next(node for node in model.graph.node if reads in node.input)
    largest = observe_channels(model, spoken(8))[node.input[0]].largest
    return float(largest.max() / np.median(largest))


def test_smoothing_changes_no_logit_and_takes_outliers_from_activations(trunk: onnx.ModelProto) -> None:
    before = trunk.SerializeToString()
    smoothed = smooth(trunk, observe_channels(trunk, spoken(8)))
    assert trunk.SerializeToString() == before
    for one, other in zip(*(logits(each) for each in (trunk, smoothed)), strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    for weights in ("student.layers.0.wide.weight", "student.convolutions.1.weight"):
        assert unevenness(smoothed, weights) < 0.5 * unevenness(trunk, weights)


def test_smoothing_adds_a_mul_to_convolutions_over_time_only(trunk: onnx.ModelProto, tmp_path: Path) -> None:
    def kinds(model: onnx.ModelProto) -> list[str]:
        return [node.op_type for node in model.graph.node]

    smoothed = smooth(trunk, observe_channels(trunk, spoken(8)))
    assert kinds(smoothed).count("Mul") - kinds(trunk).count("Mul") == 2
    cnn, _ = fp32(tmp_path)
    assert smooth(cnn, observe_channels(cnn, spoken(8))).SerializeToString() == cnn.SerializeToString()


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_corrected_bias_keeps_the_means_of_outputs(transposed: int) -> None:
    random = np.random.default_rng(0)
    weights = random.standard_normal((6, 64)).astype(np.float32)
    weights[:, 0] = 30.0  # leaves the others few levels
    stored = weights if transposed else np.ascontiguousarray(weights.T)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="product", transB=transposed)],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 6])],
        [numpy_helper.from_array(stored, "w"), numpy_helper.from_array(np.zeros(6, np.float32), "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    rows = (3.0 + random.standard_normal((200, 64))).astype(np.float32)
    made = correct_bias(model, observe_channels(model, rows), ["product"])
    bias = next(numpy_helper.to_array(each) for each in made.graph.initializer if each.name == "b")
    rounded = np.round(weights / (30.0 / 127.0)) * (30.0 / 127.0)
    missed = (rows @ rounded.T - rows @ weights.T).mean(axis=0)
    assert np.abs(missed).max() > 0.5
    assert bias == pytest.approx(-missed, abs=1e-2)


def test_a_corrected_bias_knows_the_groups_of_a_convolution(tmp_path: Path) -> None:
    model, _ = fp32(tmp_path)
    channels = observe_channels(model, spoken(8))
    made = correct_bias(model, channels, weighted_nodes(model))
    constants = [{tensor.name: tensor for tensor in each.graph.initializer} for each in (model, made)]
    moved: list[float] = []
    for node in model.graph.node:
        if node.name in weighted_nodes(model) and len(node.input) > 2:
            one, other = (numpy_helper.to_array(each[node.input[2]]) for each in constants)
            inputs = by_channel(node, constants[0][node.input[1]]).shape[1]
            assert channels[node.input[0]].mean.size % inputs == 0
            moved.append(float(np.abs(one - other).max()))
    assert 0.0 < max(moved) < 0.1
    assert correct_bias(model, channels, []).SerializeToString() == model.SerializeToString()


def test_small_products_stay_in_float_on_a_cpu(trunk: onnx.ModelProto) -> None:
    nodes = {node.name: node for node in trunk.graph.node}
    slow = [nodes[name] for name in slow_nodes(trunk, Target.CPU)]
    assert {node.input[1] for node in slow if node.op_type == "MatMul"} >= {"student.bands"}
    assert not any(node.op_type == "Gemm" for node in slow)
    assert slow_nodes(trunk, Target.TENSORRT) == []
