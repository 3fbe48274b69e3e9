"""Files in 8 bits compute the same on every processor, with dot products of 8-bit numbers and without."""

from __future__ import annotations

from importlib import resources

import numpy as np
import onnxruntime
import pytest
import soundfile

from edge_sser.model.model import Model
from edge_sser.model.shipped import MODELS, ShippedModel
from edge_sser.pipeline.features import FEATURES, log_mel

FARTHEST = 0.05  # in logits; additions that overflow in 16 bits moved those of sser-plus by 0.28


@pytest.mark.parametrize("shipped", MODELS.values(), ids=lambda shipped: shipped.name)
def test_a_file_gives_the_logits_of_its_nodes_computed_one_by_one(shipped: ShippedModel) -> None:
    samples, _ = soundfile.read(str(resources.files("edge_sser") / "data" / "demo.flac"), dtype="float32")
    sound = log_mel(samples)
    windows = np.stack(
        [sound[start : start + FEATURES.frames] for start in range(0, len(sound) - FEATURES.frames, 100)]
    )
    model = Model.load(shipped.int8, runtime="cpu")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # in float, without overflow
    exact = onnxruntime.InferenceSession(str(shipped.int8), options, providers=["CPUExecutionProvider"])
    stress, emotions = exact.run(list(model.card.outputs), {model.card.input: windows})
    if model.card.emotion_vote is not None:
        stress = model.card.emotion_vote.blend(stress, emotions, model.card.emotions)
    found = model.logits(windows)
    assert len(windows) > 20
    np.testing.assert_allclose(found[0], stress, atol=FARTHEST)
    np.testing.assert_allclose(found[1], emotions, atol=FARTHEST)
