"""A real ONNX model that tells the agitated toy voices from the calm ones by their pitch, at any level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from models import EMOTIONS, changed_card, save_graph
from onnx import helper, numpy_helper

from edge_sser.pipeline.features import FEATURES, hertz_to_mel


def write_pitch_model(path: Path, *, slope: float = 0.4, trained_on: tuple[str, ...] = ()) -> Path:
    """Stress logit = slope x (level of the band at 240 Hz - level of the band at 120 Hz - 6 dB).

    Only the calm voice, at 120 Hz, has sound at 120 Hz. Angry gets the same difference, calm its opposite.

    Args:
        path: to be written.
        slope: logits per dB.
        trained_on: corpora that the card names.
    """
    low, high = (_band(hertz) for hertz in (120.0, 240.0))
    stress = np.zeros((FEATURES.bands, 1), dtype=np.float32)
    stress[high], stress[low] = slope, -slope
    emotions = np.zeros((FEATURES.bands, len(EMOTIONS)), dtype=np.float32)
    emotions[:, EMOTIONS.index("anger")] = stress[:, 0]
    emotions[:, EMOTIONS.index("calm")] = -stress[:, 0]
    constants = [
        numpy_helper.from_array(stress, "stress"),
        numpy_helper.from_array(emotions, "emotions"),
        numpy_helper.from_array(np.array(-6.0 * slope, dtype=np.float32), "offset"),
        numpy_helper.from_array(np.array([1], dtype=np.int64), "time"),
        numpy_helper.from_array(np.array([-1], dtype=np.int64), "flat"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["log_mel", "time"], ["bands"], keepdims=0),
        helper.make_node("MatMul", ["bands", "stress"], ["column"]),
        helper.make_node("Reshape", ["column", "flat"], ["raw"]),
        helper.make_node("Add", ["raw", "offset"], ["stress_logit"]),
        helper.make_node("MatMul", ["bands", "emotions"], ["emotion_logits"]),
    ]
    training = tuple({"name": name, "licence": "none", "speakers": 1, "utterances": 1} for name in trained_on)
    return save_graph(path, nodes, constants, card=changed_card(name="pitch", training=training))


def _band(hertz: float) -> int:
    edges = np.linspace(hertz_to_mel(FEATURES.low_hz), hertz_to_mel(FEATURES.high_hz), FEATURES.bands + 2)
    return int(np.abs(edges[1:-1] - hertz_to_mel(hertz)).argmin())
