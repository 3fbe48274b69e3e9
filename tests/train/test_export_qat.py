"""Training on in 8 bits: the module computes what the file computes, and mends what quantising broke."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from quantised import drawn, exported, fp32, logits, spoken

from edge_sser.export import choose as choosing
from edge_sser.export.choose import choose
from edge_sser.export.graph_net import GraphNet
from edge_sser.export.quantize import Target, activations, quantise
from edge_sser.export.ranges import Method, find_range, observe
from edge_sser.train.students.vit import ColumnVit


def net_and_file(model, card, target: Target, keep_float: tuple[str, ...] = ()):
    seen = observe(model, activations(model), spoken(24))
    ranges = {
        name: find_range(tensor, Method.MINMAX, symmetric=target is Target.TENSORRT) for name, tensor in seen.items()
    }
    made = quantise(model, target, ranges, keep_float)
    return GraphNet(model, made, ranges, card.outputs), made


def as_written(made, card, windows: np.ndarray) -> np.ndarray:
    """What the file's Q and DQ nodes say, each computed on its own."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    stress, emotions = session.run(list(card.outputs), {card.input: windows})
    return np.column_stack([stress, emotions])


@pytest.mark.parametrize("kept", [0, 2])
@pytest.mark.parametrize("target", Target)
def test_the_module_computes_what_the_file_computes(tmp_path: Path, target: Target, kept: int) -> None:
    model, card = fp32(tmp_path)
    nodes = choosing.weighted_nodes(model)[1 : 1 + kept]
    net, made = net_and_file(model, card, target, tuple(nodes))
    windows = spoken(16, seed=900)
    with torch.no_grad():
        found = net.embed(torch.from_numpy(windows)).numpy()
    plain = logits(model, card, windows, tmp_path)
    rounding = np.abs(plain - found).max()
    assert np.abs(as_written(made, card, windows) - found).max() < 0.05 * rounding
    # Fused into 8-bit operators, a value that falls on the edge of a step can fall to the other side.
    assert np.abs(logits(made, card, windows, tmp_path) - found).max() < 0.5 * rounding
