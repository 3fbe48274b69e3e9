"""Predictions as columns, with probabilities calibrated on the other folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_sser.model.model import Calibration
from edge_sser.train.data.labels import EMOTIONS, Preset
from edge_sser.train.evaluate.metrics import Floats, Labels, calibrated, fit_calibration, has_both_classes, logit
from edge_sser.train.evaluate.predictions import Prediction

Mask = np.ndarray[Any, np.dtype[np.bool_]]

_PLACES = {name: place for place, name in enumerate(EMOTIONS)}


class ScoreTable:
    """One value a clip in each column.

    Attributes:
        corpus, speaker, sex, intensity: str [n].
        fold: int64 [n].
        named: bool [n], True where the emotion is scored: the model has it, and the corpus has another one, too.
        emotion: int64 [n], place in EMOTIONS; -1 where it is not scored.
        emotions: float64 [n, len(EMOTIONS)], probabilities.
        decided: int64 [n], the likeliest of the emotions that the clip's corpus has, as a place in EMOTIONS; or -1.
        logits: float64 [n], of stress.
        judged: bool [n], True where the labels give stress under the preset.
        stress: int64 [n], 1 stressed; 0 also where it is not judged.
        raw: float64 [n], the model's own probability of stress.
        probability: float64 [n], calibrated on the other folds; raw where these do not allow it.
    """

    def __init__(self, predictions: Sequence[Prediction], preset: Preset) -> None:
        self.corpus = np.array([item.corpus for item in predictions])
        self.speaker = np.array([item.speaker for item in predictions])
        self.sex = np.array([item.sex for item in predictions])
        self.intensity = np.array([item.intensity for item in predictions])
        self.fold: Labels = np.array([item.fold for item in predictions])
        self.emotion: Labels = np.array([_PLACES.get(item.emotion, -1) for item in predictions], dtype=np.int64)
        self.emotions: Floats = np.array([item.emotions for item in predictions])
        self.decided: Labels = np.full(len(predictions), -1, dtype=np.int64)
        for corpus in np.unique(self.corpus):
            inside = (self.corpus == corpus) & (self.emotion >= 0)
            classes = np.unique(self.emotion[inside])
            if classes.size > 1:
                self.decided[inside] = classes[self.emotions[inside][:, classes].argmax(axis=1)]
            else:  # no decision without a second class
                self.emotion[inside] = -1
        self.named: Mask = self.emotion >= 0
        self.logits = logit(np.array([item.stress for item in predictions]))
        mapped = [item.label(preset) for item in predictions]
        self.judged: Mask = np.array([value is not None for value in mapped])
        self.stress: Labels = np.array([value or 0 for value in mapped])
        self.raw = calibrated(self.logits, Calibration(temperature=1.0, bias=0.0))
        self.probability = self.raw.copy()
        for fold in np.unique(self.fold):
            calibration = self.calibration_without(int(fold))
            if calibration is not None:
                inside = self.fold == fold
                self.probability[inside] = calibrated(self.logits[inside], calibration)

    @property
    def stressed(self) -> Labels:
        """int64 [n], 1 where the probability is 0.5 or more."""
        return np.asarray(self.probability >= 0.5, dtype=np.int64)

    def calibration(self, chosen: Mask) -> Calibration | None:
        """Fits temperature and bias on some clips; None when no corpus has stressed and other clips among them.

        Each corpus with both classes weighs the same, whatever its size. A corpus of a single class is left out: it
        would only shift the bias, by its size.
        """
        chosen = chosen & self.judged
        for corpus in np.unique(self.corpus[chosen]):
            inside = chosen & (self.corpus == corpus)
            if not has_both_classes(self.stress[inside]):
                chosen = chosen & ~inside
        if not chosen.any():
            return None
        _, place, sizes = np.unique(self.corpus[chosen], return_inverse=True, return_counts=True)
        return fit_calibration(self.logits[chosen], self.stress[chosen].astype(float), 1.0 / sizes[place])

    def calibration_without(self, fold: int) -> Calibration | None:
        """Fits temperature and bias on the other folds; None as for `calibration`."""
        return self.calibration(self.fold != fold)
