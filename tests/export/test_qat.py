"""Training on in 8 bits: the module computes what the file computes, and mends what quantising broke."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from quantised import exported, fp32, logits, spoken

from edge_sser.export.calibration import Method, find_range, observe
from edge_sser.export.graph_net import GraphNet
from edge_sser.export.quantize import Target, activations, quantise, weighted_nodes
from edge_sser.train.students.vit import ColumnVit


def net_and_file(model, card, target: Target, keep_float: tuple[str, ...] = ()):
    seen = observe(model, activations(model), spoken(24))
    ranges = {
        name: find_range(tensor, Method.MINMAX, symmetric=target is Target.TENSORRT) for name, tensor in seen.items()
    }
    made = quantise(model, target, ranges, keep_float)
    return GraphNet(model, made, ranges, card.outputs), made


def as_written(made, card, windows: np.ndarray) -> np.ndarray:
    """Logits of the file with each Q and DQ node computed on its own."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    stress, emotions = session.run(list(card.outputs), {card.input: windows})
    return np.column_stack([stress, emotions])


def computed(net: GraphNet, windows: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return net.embed(torch.from_numpy(windows)).numpy()


def transformer(folder: Path):
    """A small network of columns, exported."""
    torch.manual_seed(0)
    return exported(ColumnVit(width=24, token_frames=2, emotions=8, dropout=0.1), folder)


@pytest.mark.parametrize("target", Target)
@pytest.mark.parametrize("network", [fp32, transformer])
def test_node_by_node_the_module_computes_what_the_file_says(tmp_path: Path, network, target: Target) -> None:
    model, card = network(tmp_path)
    windows = spoken(8, seed=900)
    plain = logits(model, card, windows, tmp_path)
    nodes = weighted_nodes(model)
    for node in nodes:
        net, made = net_and_file(model, card, target, tuple(other for other in nodes if other != node))
        found, said = computed(net, windows), as_written(made, card, windows)
        # All but the few values that fall on the edge of a step.
        assert np.square(said - found).mean() < 0.1**2 * np.square(said - plain).mean(), node


@pytest.mark.parametrize("target", Target)
def test_the_whole_file_gives_the_modules_logits(tmp_path: Path, target: Target) -> None:
    model, card = fp32(tmp_path)
    windows = spoken(16, seed=900)
    net, made = net_and_file(model, card, target)
    file = logits(made, card, windows, tmp_path)
    # A value on the edge of a step can fall to its other side, and each layer passes more of that on.
    assert np.sqrt(np.mean((file - computed(net, windows)) ** 2)) < 0.02 * file.std()


def test_a_transformers_graph_can_be_trained_too(tmp_path: Path) -> None:
    model, card = transformer(tmp_path)
    net, made = net_and_file(model, card, Target.TENSORRT)
    windows = spoken(16, seed=900)
    file = as_written(made, card, windows)
    distance = np.abs(file - computed(net, windows))
    # One value on the edge of a step, which depends on the processor, moves all logits of its window.
    assert np.median(distance.max(axis=1)) < 1e-5 * file.std()
    assert np.sqrt(np.mean(distance**2)) < 0.02 * file.std()
    net.embed(torch.from_numpy(windows)).square().sum().backward()
    learning = dict(zip(net.weight_names, net.weights, strict=True))
    assert learning["student.position"].grad is not None
    assert net.stretch.grad is not None


def test_constants_of_the_architecture_are_not_trained(tmp_path: Path) -> None:
    model, card = fp32(tmp_path)
    net, _ = net_and_file(model, card, Target.CPU)
    assert all(name.startswith("student.") for name in net.weight_names)
    assert len(net.weight_names) == 2 * len(weighted_nodes(model))  # of each a weight and a bias
