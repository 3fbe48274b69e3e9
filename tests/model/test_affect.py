"""Arousal and valence of a model: from its emotions, through the card, to a reading."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import CARD, EMOTIONS, write_model

from edge_sser.model.affect import EmotionAxis, check_axis
from edge_sser.model.calibration import Calibration
from edge_sser.model.card import Card
from edge_sser.model.model import Model
from edge_sser.pipeline.features import FEATURES

PLAIN = Calibration(temperature=1.0, bias=0.0)
AXIS = EmotionAxis(high=("anger", "happiness"), low=("calm", "sadness"), calibration=PLAIN)


def test_an_axis_is_the_share_of_its_upper_end_among_both() -> None:
    shares = dict(zip(EMOTIONS, (0.3, 0.05, 0.1, 0.05, 0.2, 0.1, 0.1, 0.1), strict=True))
    logits = np.log(np.array([*shares.values()], np.float32)) + 7.0
    assert AXIS.probability(logits, EMOTIONS) == pytest.approx(0.3 / 0.4, abs=1e-6)
    warm = replace(AXIS, calibration=Calibration(temperature=2.0, bias=0.5))
    assert warm.probability(logits, EMOTIONS) == pytest.approx(1 / (1 + np.exp(-(np.log(3.0) / 2 + 0.5))), abs=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"high": ()},
        {"low": ()},
        {"high": ("anger", "calm")},
        {"high": ("rage",)},
        {"calibration": Calibration(temperature=0.0, bias=0.0)},
        {"calibration": Calibration(temperature=1.0, bias=float("inf"))},
    ],
)
def test_an_axis_that_cannot_be_computed_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"arousal or valence|calibration"):
        check_axis(replace(AXIS, **change), EMOTIONS)


def test_a_card_keeps_its_axes_and_is_refused_with_a_broken_one() -> None:
    card = replace(CARD, arousal=AXIS)
    assert Card.from_json(card.to_json()) == card
    values = json.loads(card.to_json())
    assert "valence" not in values
    values["arousal"]["high"] = ["rage"]
    with pytest.raises(ValueError, match="its labels are not emotions of the model"):
        Card.from_json(json.dumps(values))


def test_a_model_scores_the_axes_of_its_card_and_no_other(tmp_path: Path) -> None:
    with_arousal = Model.load(write_model(tmp_path / "one.onnx", card=replace(CARD, arousal=AXIS)))
    without = Model.load(write_model(tmp_path / "two.onnx"))
    window = np.random.default_rng(1).uniform(-60.0, 0.0, (FEATURES.frames, FEATURES.bands)).astype(np.float32)
    score = with_arousal.score(window)
    assert score.arousal == pytest.approx(AXIS.probability(score.emotion_logits, EMOTIONS))
    assert 0.0 < score.arousal < 1.0
    assert score.valence is None
    assert (without.score(window).arousal, without.score(window).valence) == (None, None)
