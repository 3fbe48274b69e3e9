"""Predictions as columns, with probabilities calibrated on the other folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sser.model.calibration import Calibration
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
        """Fits temperature and bias on some clips; None when no corpus has stressed and other clips among them."""
        chosen = chosen & self.judged
        return calibrate_by_corpus(self.corpus[chosen], self.logits[chosen], self.stress[chosen])

    def calibration_without(self, fold: int) -> Calibration | None:
        """Fits temperature and bias on the other folds; None as for `calibration`."""
        return self.calibration(self.fold != fold)


def calibrate_by_corpus(corpus: NDArray[np.str_], logits: Floats, labels: Labels) -> Calibration | None:
    """Fits temperature and bias on clips; None when no corpus has both classes.

    Each corpus with both classes weighs the same, whatever its size. A corpus of a single class is left out: it would
    only shift the bias, by its size.

    Args:
        corpus: str [n].
        logits: float64 [n].
        labels: int64 [n], 0 or 1.
    """
    names, place, sizes = np.unique(corpus, return_inverse=True, return_counts=True)
    both = np.array([has_both_classes(labels[corpus == name]) for name in names], dtype=bool)[place]
    if not both.any():
        return None
    return fit_calibration(logits[both], labels[both].astype(float), (1.0 / sizes[place])[both])
