"""Axes of arousal and valence for a model's card, fitted on predictions for speakers that it never heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_sser.model.affect import EmotionAxis
from edge_sser.model.vote import group_log_odds
from edge_sser.train.data.labels import EMOTIONS, Emotion
from edge_sser.train.evaluate.metrics import Floats, Labels
from edge_sser.train.evaluate.predictions import Prediction
from edge_sser.train.evaluate.score_table import calibrate_by_corpus

_LEAST: Final = 1e-9  # probability of an emotion in a prediction, which has six digits


@dataclass(frozen=True, slots=True)
class EmotionGroups:
    """Emotions at either end of an axis; those in the middle, or that authors place differently, are left out."""

    high: tuple[str, ...]
    low: tuple[str, ...]


# Russell, J. Personality and Social Psychology 39 (1980): the circumplex.
AROUSAL: Final = EmotionGroups(
    (Emotion.HAPPY.value, Emotion.ANGRY.value, Emotion.FEARFUL.value, Emotion.SURPRISED.value),
    (Emotion.NEUTRAL.value, Emotion.CALM.value, Emotion.SAD.value),
)
VALENCE: Final = EmotionGroups(
    (Emotion.HAPPY.value,),
    (Emotion.SAD.value, Emotion.ANGRY.value, Emotion.FEARFUL.value, Emotion.DISGUST.value),
)


def judge_axis(predictions: Sequence[Prediction], groups: EmotionGroups) -> tuple[list[Prediction], Labels, Floats]:
    """Returns the clips of either end, with their labels and what the model says.

    Returns:
        The clips; int64 [n], 1 at the upper end; and log-odds before calibration, float64 [n].
    """
    chosen = [each for each in predictions if each.emotion in (*groups.high, *groups.low)]
    labels = np.array([int(each.emotion in groups.high) for each in chosen], dtype=np.int64)
    logits = np.log(np.maximum([each.emotions for each in chosen], _LEAST)) if chosen else np.zeros((0, len(EMOTIONS)))
    return chosen, labels, np.asarray(group_log_odds(logits, EMOTIONS, groups.high, groups.low), np.float64)


def fit_axis(predictions: Sequence[Prediction], groups: EmotionGroups) -> EmotionAxis | None:
    """Fits an axis for a model's card; None where no corpus has clips of both ends.

    Args:
        predictions: out of fold.
        groups: the ends.
    """
    chosen, labels, log_odds = judge_axis(predictions, groups)
    calibration = calibrate_by_corpus(np.array([each.corpus for each in chosen], dtype=str), log_odds, labels)
    return None if calibration is None else EmotionAxis(high=groups.high, low=groups.low, calibration=calibration)
