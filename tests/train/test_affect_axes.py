"""Axes of arousal and valence, fitted on out-of-fold predictions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.evaluate.affect import AROUSAL, VALENCE, fit_axis, judge_axis
from edge_sser.train.evaluate.predictions import Prediction


def clips(emotions: tuple[str, ...], *, slope: float, corpus: str = "toy", count: int = 400) -> list[Prediction]:
    """Clips whose arousal is drawn from log-odds, of which the model states `slope` times as much."""
    random = np.random.default_rng(3)
    out = []
    for number in range(count):
        log_odds = random.normal(0.0, 2.0)
        aroused = random.random() < 1.0 / (1.0 + np.exp(-log_odds))
        emotion = emotions[0] if aroused else emotions[1]
        stated = 1.0 / (1.0 + np.exp(-slope * log_odds))
        shares = np.zeros(len(EMOTIONS))
        shares[EMOTIONS.index("happy")], shares[EMOTIONS.index("sad")] = stated, 1.0 - stated
        out.append(
            Prediction(
                path=f"{corpus}/{number}.wav", corpus=corpus, speaker=str(number % 7), sex="F", fold=1 + number % 3,
                emotion=emotion, intensity="", emotions=tuple(shares.tolist()), stress=0.5,
            )
        )  # fmt: skip
    return out


def test_an_axis_undoes_the_models_overconfidence() -> None:
    axis = fit_axis(clips(("happy", "sad"), slope=3.0, count=4000), AROUSAL)
    assert axis is not None
    assert axis.calibration.temperature == pytest.approx(3.0, rel=0.15)
    assert axis.calibration.bias == pytest.approx(0.0, abs=0.15)
    assert ({*axis.high}, {*axis.low}) == ({"happy", "angry", "fearful", "surprised"}, {"neutral", "calm", "sad"})


def test_a_corpus_of_one_end_plays_no_part_and_alone_gives_no_axis() -> None:
    both = clips(("happy", "sad"), slope=1.0)
    aroused = [replace(each, corpus="shouts", emotion="angry") for each in clips(("angry", "angry"), slope=1.0)]
    assert fit_axis(both + aroused, AROUSAL) == fit_axis(both, AROUSAL)
    assert fit_axis(aroused, AROUSAL) is None
    assert fit_axis([], VALENCE) is None


def test_emotions_in_the_middle_of_an_axis_are_left_out() -> None:
    found, labels, log_odds = judge_axis(
        [
            replace(each, emotion=emotion)
            for emotion in EMOTIONS
            for each in clips(("happy", "sad"), slope=1.0, count=1)
        ],
        VALENCE,
    )
    assert [each.emotion for each in found] == ["happy", "sad", "angry", "fearful", "disgust"]
    assert labels.tolist() == [1, 0, 0, 0, 0]
    assert np.isfinite(log_odds).all()
