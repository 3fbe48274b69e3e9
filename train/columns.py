"""Predictions as columns, with the probabilities that the speakers of other folds give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_sser.model import Calibration

from .calibrate import calibrated, fit_calibration, logit
from .labels import EMOTIONS
from .metrics import Floats, Labels
from .predictions import Prediction

Mask = np.ndarray[Any, np.dtype[np.bool_]]


class Columns:
    """One value a clip in each column.

    Attributes:
        corpus, speaker, sex, intensity: str [n].
        fold: int64 [n].
        emotion: int64 [n], place in EMOTIONS.
        emotions: float64 [n, len(EMOTIONS)], probabilities.
        decided: int64 [n], the likeliest of the emotions that the clip's corpus has, as a place in EMOTIONS.
        logits: float64 [n], of stress.
        judged: bool [n], whether the preset says if the clip is stressed.
        stress: int64 [n], 1 stressed; 0 also where it is not judged.
        raw: float64 [n], probability of stress as the model gives it.
        probability: float64 [n], after temperature and bias from the other folds; raw where these cannot give any.
        stressed: int64 [n], 1 where that probability is 0.5 or more.
    """

    def __init__(self, predictions: Sequence[Prediction], preset: Mapping[str, int | None]) -> None:
        self.corpus = np.array([item.corpus for item in predictions])
        self.speaker = np.array([item.speaker for item in predictions])
        self.sex = np.array([item.sex for item in predictions])
        self.intensity = np.array([item.intensity for item in predictions])
        self.fold: Labels = np.array([item.fold for item in predictions])
        self.emotion: Labels = np.array([EMOTIONS.index(item.emotion) for item in predictions])
        self.emotions: Floats = np.array([item.emotions for item in predictions])
        self.decided: Labels = np.empty(len(predictions), dtype=np.int64)
        for corpus in np.unique(self.corpus):
            inside = self.corpus == corpus
            classes = np.unique(self.emotion[inside])
            self.decided[inside] = classes[self.emotions[inside][:, classes].argmax(axis=1)]
        self.logits = logit(np.array([item.stress for item in predictions]))
        mapped = [preset[item.emotion] for item in predictions]
        self.judged: Mask = np.array([value is not None for value in mapped])
        self.stress: Labels = np.array([value or 0 for value in mapped])
        self.raw = calibrated(self.logits, Calibration(temperature=1.0, bias=0.0))
        self.probability = self.raw.copy()
        for fold in np.unique(self.fold):
            calibration = self.calibration_without(int(fold))
            if calibration is not None:
                inside = self.fold == fold
                self.probability[inside] = calibrated(self.logits[inside], calibration)
        self.stressed: Labels = (self.probability >= 0.5).astype(np.int64)

    def calibration(self, chosen: Mask) -> Calibration:
        """Temperature and bias from some clips; each corpus weighs the same, whatever its size."""
        _, place, sizes = np.unique(self.corpus[chosen], return_inverse=True, return_counts=True)
        return fit_calibration(self.logits[chosen], self.stress[chosen].astype(float), 1.0 / sizes[place])

    def calibration_without(self, fold: int) -> Calibration | None:
        """Temperature and bias from the other folds; None when these do not hold clips of both kinds."""
        others = self.judged & (self.fold != fold)
        return self.calibration(others) if len(set(self.stress[others].tolist())) == 2 else None
