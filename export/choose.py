"""Chooses the method for ranges, and the nodes that stay in float, by the error of the logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_sser.commands.progress import Work, progress
from edge_sser.errors import UsageError
from edge_sser.export.calibration import CalibrationData, Method, find_range, observe
from edge_sser.export.quantize import Target, activations, quantise, slow_nodes, weighted_nodes
from edge_sser.export.smooth import correct_bias, observe_channels
from edge_sser.model.model import Card
from edge_sser.model.onnx_backend import cpu_session

MIN_AGREEMENT = 0.98  # share of tuning windows: a third of the way from the 97 % of levels that the gate wants to all
_BATCH = 32
_SWEPT = 128  # tuning windows that rank the nodes


@dataclass(frozen=True, slots=True)
class Choice:
    """Settings that a graph was quantised with, and their errors on the tuning windows.

    Attributes:
        error_by_method: root mean square difference of the logits from FP32, all nodes quantised that gain from it,
            before others go back to float.
        error_by_node: the same by node, that node alone quantised, on fewer windows; empty where enough windows agree
            without a node that goes back to float.
        error: the same, of the graph as chosen.
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


def choose(
    model: onnx.ModelProto, card: Card, target: Target, data: CalibrationData, keep_float: Sequence[str] = ()
) -> tuple[onnx.ModelProto, Choice]:
    """Quantises a graph with the settings that change its logits least.

    Nodes that are faster in float stay in float, and those of `keep_float`. The method with the least error is taken.
    Then other nodes go back to float, the one with the largest error first, while fewer than `MIN_AGREEMENT` of the
    windows keep their level or their likeliest emotion; a node that does not help stays quantised. After each the
    method is chosen anew: a node that 8 bits destroy hides what the others need.

    Raises:
        UsageError: `keep_float` names a node that has no weights to quantise.
    """
    nodes = weighted_nodes(model)
    unknown = [name for name in keep_float if name not in nodes]
    if unknown:
        raise UsageError(f"--float {unknown[0]}: no node of that name has weights: {', '.join(nodes)}")
    histograms = observe(model, activations(model), data.calibration)
    symmetric = target is Target.TENSORRT
    ranges = {
        method: {name: find_range(histogram, method, symmetric=symmetric) for name, histogram in histograms.items()}
        for method in Method
    }
    channels = observe_channels(model, data.calibration)
    expected = _logits(model, card, data.tuning)

    def attempt(
        work: Work, method: Method, keep_float: Sequence[str], count: int = len(data.tuning)
    ) -> tuple[onnx.ModelProto, float, float]:
        corrected = correct_bias(model, channels, {*nodes} - {*keep_float})
        quantised = quantise(corrected, target, ranges[method], keep_float)
        found = _logits(quantised, card, data.tuning[:count])
        work.advance()
        return quantised, _rms_error(expected[:count], found), _agreement(card, expected[:count], found)

    float_nodes = list(dict.fromkeys([*slow_nodes(model, target), *keep_float]))
    with progress(f"quantising for {target.value}", len(Method)) as work:
        attempts = {method: attempt(work, method, float_nodes) for method in Method}
    method = min(Method, key=lambda each: attempts[each][1])
    quantised, error, agreement = attempts[method]
    by_node: dict[str, float] = {}
    if agreement < MIN_AGREEMENT:
        with progress("ranking the nodes by their error", len(nodes)) as work:
            by_node = {
                node: attempt(work, method, [other for other in nodes if other != node], _SWEPT)[1] for node in nodes
            }
            for node in sorted(set(nodes) - set(float_nodes), key=lambda name: -by_node[name]):
                if agreement >= MIN_AGREEMENT:
                    break
                fewer = {each: attempt(work, each, [*float_nodes, node]) for each in Method}
                best = min(Method, key=lambda each: fewer[each][1])
                if fewer[best][1] < error:
                    method = best
                    quantised, error, agreement = fewer[best]
                    float_nodes.append(node)
    by_method = {each.value: attempts[each][1] for each in Method}
    choice = Choice(target, method, tuple(float_nodes), by_method, by_node, error, agreement, ranges[method])
    return quantised, choice


def compare(
    fp32: onnx.ModelProto, quantised: onnx.ModelProto, card: Card, windows: NDArray[np.float32]
) -> tuple[float, float]:
    """Returns the error and the agreement of a quantised graph with FP32, as in `Choice`."""
    expected, found = (_logits(model, card, windows) for model in (fp32, quantised))
    return _rms_error(expected, found), _agreement(card, expected, found)


def levels(card: Card, stress: NDArray[np.floating]) -> NDArray[np.int64]:
    """Returns the level of each window on its own, 0 low to 2 high, from its stress logit."""
    probabilities = [card.calibration.probability(float(value)) for value in stress]
    return np.digitize(probabilities, [card.elevated, card.high])


def _logits(model: onnx.ModelProto, card: Card, windows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns logits, float64 [windows, 1 + classes]: stress with the vote of the emotions, then these."""
    session = cpu_session(model.SerializeToString(), threads=0)
    parts = []
    for start in range(0, len(windows), _BATCH):
        stress, emotions = session.run(list(card.outputs), {card.input: windows[start : start + _BATCH]})
        if card.emotion_vote is not None:
            stress = card.emotion_vote.blend(stress, emotions, card.emotions)
        parts.append(np.column_stack([stress, emotions]).astype(np.float64))
    return np.concatenate(parts)


def _rms_error(expected: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean((expected - found) ** 2)))


def _agreement(card: Card, expected: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    same_level = levels(card, expected[:, 0]) == levels(card, found[:, 0])
    same_emotion = expected[:, 1:].argmax(axis=1) == found[:, 1:].argmax(axis=1)
    return float(min(same_level.mean(), same_emotion.mean()))
