"""Tiny model files for tests: real ONNX graphs with a valid card, that respond to the audio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_sser.model.model import CARD_KEY, Calibration, Card
from edge_sser.pipeline.features import FEATURES

EMOTIONS = ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
CARD = Card(
    name="tiny",
    version="1",
    created="2026-01-02T03:04:05Z",
    architecture="how far the loudest band stands above the mean",
    features=FEATURES.as_dict(),
    input="log_mel",
    outputs=("stress_logit", "emotion_logits"),
    emotions=EMOTIONS,
    stress_preset="quadrant",
    calibration=Calibration(temperature=1.0, bias=0.0),
    elevated=0.5,
    high=0.75,
    precision="fp32",
    training=({"name": "none", "licence": "none", "speakers": 0, "utterances": 0},),
    licence="Apache-2.0",
    accuracy={},
    notice="It is for tests and knows nothing of stress.",
)


def write_model(path: Path, *, card: Card | str | None = CARD, slope: float = 0.25, centre_db: float = 45.0) -> Path:
    """Writes a model file: stress_logit = slope * (max - mean - centre_db), emotions from means of groups of bands.

    Args:
        path: to be written.
        card: a card, the text in its place, or None for a file without one.
        slope: logits per dB; NaN makes a model that gives no numbers.
        centre_db: where the logit is 0.
    """
    axes = {name: numpy_helper.from_array(np.array(values, dtype=np.int64), name) for name, values in _AXES.items()}
    constants = [
        numpy_helper.from_array(np.array(slope, dtype=np.float32), "slope"),
        numpy_helper.from_array(np.array(centre_db, dtype=np.float32), "centre_db"),
    ]
    nodes = [
        helper.make_node("ReduceMax", ["log_mel", "all"], ["loudest"], keepdims=0),
        helper.make_node("ReduceMean", ["log_mel", "all"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["loudest", "mean"], ["contrast_db"]),
        helper.make_node("Sub", ["contrast_db", "centre_db"], ["centred"]),
        helper.make_node("Mul", ["centred", "slope"], ["stress_logit"]),
        helper.make_node("Reshape", ["log_mel", "groups"], ["grouped"]),
        helper.make_node("ReduceMean", ["grouped", "within_group"], ["emotion_logits"], keepdims=0),
    ]
    return save_graph(path, nodes, [*axes.values(), *constants], card=card)


def save_graph(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto],
    *,
    card: Card | str | None = CARD,
    frames: int = FEATURES.frames,
    input_type: int = TensorProto.FLOAT,
    classes: int = len(EMOTIONS),
) -> Path:
    """Writes a graph with the inputs and outputs of a model file."""
    shape: list[Any] = ["batch", frames, FEATURES.bands]
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info("log_mel", input_type, shape)],
        [
            helper.make_tensor_value_info("stress_logit", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("emotion_logits", TensorProto.FLOAT, ["batch", classes]),
        ],
        initializer=list(constants),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if card is not None:
        text = card if isinstance(card, str) else card.to_json()
        model.metadata_props.add(key=CARD_KEY, value=text)
    path.write_bytes(model.SerializeToString())
    return path


def changed_card(**changes: Any) -> Card:
    """The card of `write_model` with other values."""
    return replace(CARD, **changes)


_AXES = {
    "all": [1, 2],
    "groups": [0, FEATURES.frames, len(EMOTIONS), FEATURES.bands // len(EMOTIONS)],
    "within_group": [1, 3],
}
