"""Scores from predictions, for each corpus, on speakers that the model never heard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edge_sser.errors import TrainingError
from edge_sser.model import Calibration

from .calibrate import calibrated, fit_calibration, logit
from .labels import EMOTIONS, PRESETS
from .metrics import Floats, Labels, auroc, expected_calibration_error, unweighted_accuracy
from .predictions import Prediction

PROTOCOL = (
    "speaker-disjoint folds; each clip scored by the model that heard no clip of its fold; mean of the logits of the "
    "clip's 3 s windows every 0.5 s; clips shorter than a window are repeated; mean over folds"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores of one corpus; fractions 0..1.

    Attributes:
        corpus: its name.
        clips: how many.
        speakers: how many.
        folds: how many.
        classes: emotions that occur.
        ua: unweighted accuracy over the corpus's own emotions, mean over folds.
        ua_worst: of the worst fold.
        auroc: of stress, mean over folds.
        auroc_worst: of the worst fold.
        auroc_pooled: of stress, all clips on one scale.
        uar: unweighted accuracy of the stress decision at calibrated probability 0.5, mean over folds.
        ece_raw: expected calibration error of stress before calibration, pooled.
        ece: after it; temperature and bias of a fold come from the other folds.
    """

    corpus: str
    clips: int
    speakers: int
    folds: int
    classes: int
    ua: float
    ua_worst: float
    auroc: float
    auroc_worst: float
    auroc_pooled: float
    uar: float
    ece_raw: float
    ece: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of all corpora, and the calibration that all out-of-fold predictions together give."""

    corpora: Sequence[Scores]
    calibration: Calibration

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON and the model card."""
        return {
            "protocol": PROTOCOL,
            "calibration": {
                "temperature": round(self.calibration.temperature, 4),
                "bias": round(self.calibration.bias, 4),
            },
            "corpora": [
                {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(scores).items()}
                for scores in self.corpora
            ],
        }


def evaluate(predictions: Sequence[Prediction], preset: str = "quadrant") -> Evaluation:
    """Scores out-of-fold predictions.

    Raises:
        TrainingError: a corpus has clips of stress or of no stress only.
    """
    arrays = _Arrays(predictions, PRESETS[preset])
    probability = np.full(len(predictions), np.nan)
    for fold in np.unique(arrays.fold):
        others = arrays.judged & (arrays.fold != fold)
        if others.any():
            probability[arrays.fold == fold] = calibrated(
                arrays.logits[arrays.fold == fold], arrays.fit_calibration(others)
            )
    corpora = []
    for corpus in sorted({item.corpus for item in predictions}):
        inside = arrays.corpus == corpus
        labels = arrays.stress[inside & arrays.judged]
        if labels.min(initial=1) == labels.max(initial=0):
            raise TrainingError(f"corpus {corpus}: all its clips are stressed, or none is: no score can be computed")
        corpora.append(_score(corpus, arrays, inside, probability))
    return Evaluation(corpora, arrays.fit_calibration(arrays.judged))


class _Arrays:
    """Predictions as columns."""

    def __init__(self, predictions: Sequence[Prediction], preset: Mapping[str, int | None]) -> None:
        self.corpus = np.array([item.corpus for item in predictions])
        self.speaker = np.array([item.speaker for item in predictions])
        self.fold = np.array([item.fold for item in predictions])
        self.emotion: Labels = np.array([EMOTIONS.index(item.emotion) for item in predictions])
        self.emotions: Floats = np.array([item.emotions for item in predictions])
        self.logits = logit(np.array([item.stress for item in predictions]))
        mapped = [preset[item.emotion] for item in predictions]
        self.judged = np.array([value is not None for value in mapped])
        self.stress: Labels = np.array([value or 0 for value in mapped])

    def fit_calibration(self, chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> Calibration:
        # Each corpus weighs the same, whatever its size.
        _, place, sizes = np.unique(self.corpus[chosen], return_inverse=True, return_counts=True)
        return fit_calibration(self.logits[chosen], self.stress[chosen].astype(float), 1.0 / sizes[place])


def _score(corpus: str, arrays: _Arrays, inside: np.ndarray[Any, np.dtype[np.bool_]], probability: Floats) -> Scores:
    classes = np.unique(arrays.emotion[inside])
    decisions = classes[arrays.emotions[:, classes].argmax(axis=1)]
    judged = inside & arrays.judged
    accuracies, areas, recalls = [], [], []
    for fold in np.unique(arrays.fold[inside]):
        clips = inside & (arrays.fold == fold)
        accuracies.append(unweighted_accuracy(arrays.emotion[clips], decisions[clips]))
        clips &= arrays.judged
        areas.append(auroc(arrays.stress[clips], arrays.logits[clips]))
        recalls.append(unweighted_accuracy(arrays.stress[clips], (probability[clips] >= 0.5).astype(np.int64)))
    raw = calibrated(arrays.logits, Calibration(temperature=1.0, bias=0.0))
    return Scores(
        corpus=corpus,
        clips=int(inside.sum()),
        speakers=len(set(arrays.speaker[inside])),
        folds=len(accuracies),
        classes=classes.size,
        ua=float(np.mean(accuracies)),
        ua_worst=min(accuracies),
        auroc=float(np.nanmean(areas)),
        auroc_worst=float(np.nanmin(areas)),
        auroc_pooled=auroc(arrays.stress[judged], arrays.logits[judged]),
        uar=float(np.mean(recalls)),
        ece_raw=expected_calibration_error(arrays.stress[judged], raw[judged]),
        ece=expected_calibration_error(arrays.stress[judged], probability[judged]),
    )


def table(evaluations: Mapping[str, Evaluation]) -> str:
    """Scores of one or more systems as a Markdown table, the systems of a corpus beside each other."""
    lines = [
        "| corpus | clips / speakers / folds | system | UA % (worst fold) | stress AUROC (worst fold) | pooled | "
        "stress UAR % | ECE raw -> calibrated |",
        "|---|---|---|---|---|---|---|---|",
    ]
    names = sorted({scores.corpus for evaluation in evaluations.values() for scores in evaluation.corpora})
    for corpus in names:
        for system, evaluation in evaluations.items():
            for scores in evaluation.corpora:
                if scores.corpus != corpus:
                    continue
                lines.append(
                    f"| {corpus} | {scores.clips} / {scores.speakers} / {scores.folds} | {system} "
                    f"| {100 * scores.ua:.1f} ({100 * scores.ua_worst:.1f}), {scores.classes} classes "
                    f"| {scores.auroc:.3f} ({scores.auroc_worst:.3f}) | {scores.auroc_pooled:.3f} "
                    f"| {100 * scores.uar:.1f} | {scores.ece_raw:.3f} -> {scores.ece:.3f} |"
                )
    return "\n".join(lines)
