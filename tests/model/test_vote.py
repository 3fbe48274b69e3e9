"""The emotions vote in the stress logit where the card says so, and a card with a wrong vote is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models import changed_card, write_model

from edge_sser.model.card import Card
from edge_sser.model.model import Model
from edge_sser.model.vote import EmotionVote
from edge_sser.pipeline.features import FEATURES

VOTE = EmotionVote(share=0.25, stressed=("angry", "fearful"), unstressed=("calm",))
SOUND = np.linspace(-90.0, -20.0, FEATURES.frames * FEATURES.bands, dtype=np.float32).reshape(1, FEATURES.frames, -1)


def test_a_vote_is_the_mean_of_the_logit_and_the_log_odds_of_sums_of_probabilities() -> None:
    labels = ("calm", "angry", "fearful", "disgust")
    probabilities = np.array([[0.2, 0.3, 0.1, 0.4], [0.5, 0.25, 0.25, 0.0001]])
    emotions = np.log(probabilities).astype(np.float32) + 7.0  # logits have any offset
    assert VOTE.log_odds(emotions, labels) == pytest.approx(np.log([0.4 / 0.2, 0.5 / 0.5]), abs=1e-5)
    blended = VOTE.blend(np.array([2.0, -1.0], np.float32), emotions, labels)
    assert blended == pytest.approx([0.75 * 2.0 + 0.25 * np.log(2.0), -0.75], abs=1e-5)
    assert blended.dtype == np.float32


def test_readings_and_batches_have_the_vote(tmp_path: Path) -> None:
    plain = Model.load(write_model(tmp_path / "plain.onnx", card=changed_card()))
    labels = plain.card.emotions
    vote = EmotionVote(share=0.5, stressed=labels[:1], unstressed=labels[1:])
    voting = Model.load(write_model(tmp_path / "voting.onnx", card=changed_card(emotion_vote=vote)))
    stress, emotions = plain.logits(SOUND)
    expected = 0.5 * stress + 0.5 * vote.log_odds(emotions, labels)
    assert voting.logits(SOUND)[0] == pytest.approx(expected, abs=1e-5)
    assert voting.score(SOUND[0]).log_odds == pytest.approx(
        voting.card.calibration.log_odds(float(expected[0])), abs=1e-4
    )


def test_a_card_keeps_its_vote() -> None:
    card = Model.load(Path("sser-cnn")).card
    voting = replace(card, emotion_vote=VOTE)
    assert Card.from_json(voting.to_json()) == voting
    assert "emotion_vote" not in card.to_json()


@pytest.mark.parametrize(
    "wrong",
    [
        {"share": 1.5},
        {"share": -0.1},
        {"stressed": []},
        {"unstressed": []},
        {"stressed": ["nobody"]},
        {"stressed": ["calm"]},
        {"stressed": ["angry", "angry"]},
        {"share": "much"},
    ],
)
def test_a_wrong_vote_is_refused(wrong: dict[str, object]) -> None:
    values = json.loads(replace(Model.load().card, emotion_vote=VOTE).to_json())
    values["emotion_vote"] |= wrong
    with pytest.raises(ValueError, match="emotion_vote"):
        Card.from_json(json.dumps(values))
