"""Which method finds the ranges, and which nodes stay in float: chosen by what each does to the logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_sser.export.calibration import Drawn
from edge_sser.export.quantize import Target, activations, quantise, slow_nodes, weighted_nodes
from edge_sser.export.ranges import Method, find_range, observe
from edge_sser.model.model import Card
from edge_sser.model.runtime import onnx_runtime

ENOUGH = 0.985  # share of tuning windows that must agree: half way between the gate's 97 % of levels and all


@dataclass(frozen=True, slots=True)
class Choice:
    """How a graph was quantised, and what was measured on the way, on tuning windows.

    Attributes:
        target: what for.
        method: how ranges were found.
        float_nodes: nodes left in float, by name.
        error_by_method: root mean square difference of the logits from FP32, everything quantised that gains from it.
        error_by_node: the same, that node alone quantised.
        error: of the graph as chosen.
        agreement: share of windows with the same level, or with the same likeliest emotion: the lesser, 0..1.
        ranges: least and greatest value of each tensor that 8 bits cover.
    """

    target: Target
    method: Method
    float_nodes: Sequence[str]
    error_by_method: Mapping[str, float]
    error_by_node: Mapping[str, float]
    error: float
    agreement: float
    ranges: Mapping[str, tuple[float, float]]


def choose(model: onnx.ModelProto, card: Card, target: Target, drawn: Drawn) -> tuple[onnx.ModelProto, Choice]:
    """Quantises a graph the way that changes its logits least.

    Nodes that are faster in float stay there. The method is the one with the least error. Then other nodes go back to
    float, the most harmful first, for as long as fewer than `ENOUGH` of the windows keep their level or their likeliest
    emotion, and each helps.

    Args:
        model: FP32.
        card: its card.
        target: what for.
        drawn: windows of the training side.
    """
    nodes = weighted_nodes(model)
    seen = observe(model, activations(model), drawn.calibration)
    symmetric = target is Target.TENSORRT
    ranges = {
        method: {name: find_range(tensor, method, symmetric=symmetric) for name, tensor in seen.items()}
        for method in Method
    }
    truth = _logits(model, card, drawn.tuning)

    def tried(method: Method, keep_float: Sequence[str]) -> tuple[onnx.ModelProto, float, float]:
        made = quantise(model, target, ranges[method], keep_float)
        found = _logits(made, card, drawn.tuning)
        return made, _rms(truth, found), _agreement(card, truth, found)

    floats = slow_nodes(model, target)
    attempts = {method: tried(method, floats) for method in Method}
    method = min(Method, key=lambda each: attempts[each][1])
    by_node = {node: tried(method, [other for other in nodes if other != node])[1] for node in nodes}
    made, error, agreement = attempts[method]
    for node in sorted(set(nodes) - set(floats), key=lambda name: -by_node[name]):
        if agreement >= ENOUGH:
            break
        better = tried(method, [*floats, node])
        if better[1] < error:
            made, error, agreement = better
            floats.append(node)
    errors = {each.value: attempts[each][1] for each in Method}
    return made, Choice(target, method, tuple(floats), errors, by_node, error, agreement, ranges[method])


def judge(
    fp32: onnx.ModelProto, quantised: onnx.ModelProto, card: Card, windows: NDArray[np.float32]
) -> tuple[float, float]:
    """Root mean square difference of the logits from FP32, and the share of windows that agree as in `Choice`, 0..1."""
    truth, found = (_logits(model, card, windows) for model in (fp32, quantised))
    return _rms(truth, found), _agreement(card, truth, found)


def levels(card: Card, stress: NDArray[np.floating]) -> NDArray[np.int64]:
    """Level of each window on its own, 0 low to 2 high, from its stress logit."""
    probabilities = [card.calibration.probability(float(value)) for value in stress]
    return np.digitize(probabilities, [card.elevated, card.high])


def _logits(model: onnx.ModelProto, card: Card, windows: NDArray[np.float32]) -> NDArray[np.float64]:
    """float64 [windows, 1 + classes]: stress, then emotions."""
    session = onnx_runtime().InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    parts = []
    for start in range(0, len(windows), 32):
        stress, emotions = session.run(list(card.outputs), {card.input: windows[start : start + 32]})
        parts.append(np.column_stack([stress, emotions]).astype(np.float64))
    return np.concatenate(parts)


def _rms(truth: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean((truth - found) ** 2)))


def _agreement(card: Card, truth: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    same_level = levels(card, truth[:, 0]) == levels(card, found[:, 0])
    same_emotion = truth[:, 1:].argmax(axis=1) == found[:, 1:].argmax(axis=1)
    return float(min(same_level.mean(), same_emotion.mean()))
