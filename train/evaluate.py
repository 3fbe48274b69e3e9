"""Scores from predictions, for each corpus, on speakers that the model never heard."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edge_sser.errors import TrainingError, UsageError
from edge_sser.model import Calibration

from .columns import Columns, Mask
from .metrics import NAN, auroc, expected_calibration_error, unweighted_accuracy
from .predictions import Prediction
from .presets import AROUSAL_VALENCE, read_preset

DEFAULT_PRESET = "quadrant"

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
        one_class_folds: folds whose clips are all stressed or all not: they have no AUROC and no UAR, and are left out
            of those means.
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
    one_class_folds: tuple[int, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As plain values; `one_class_folds` only where there are any."""
        values = {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}
        if not self.one_class_folds:
            del values["one_class_folds"]
        return values


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
            "corpora": [scores.as_dict() for scores in self.corpora],
        }


def evaluate(predictions: Sequence[Prediction], preset: str = DEFAULT_PRESET) -> Evaluation:
    """Scores out-of-fold predictions.

    Args:
        predictions: of any corpora.
        preset: how emotions become stress; see presets.py.

    Raises:
        UsageError: there is no such preset.
        TrainingError: a corpus has clips of stress or of no stress only.
    """
    return evaluate_columns(Columns(predictions, stress_preset(preset)))


def evaluate_columns(columns: Columns) -> Evaluation:
    """Scores predictions that are columns already; see `evaluate`."""
    corpora = []
    for corpus in sorted(set(columns.corpus.tolist())):
        inside = columns.corpus == corpus
        labels = columns.stress[inside & columns.judged]
        if labels.min(initial=1) == labels.max(initial=0):
            raise TrainingError(f"corpus {corpus}: all its clips are stressed, or none is: no score can be computed")
        corpora.append(_score(corpus, columns, inside))
    return Evaluation(corpora, columns.calibration(columns.judged))


def stress_preset(name: str) -> Mapping[str, int | None]:
    """The table of a preset that maps emotions: one that ships, or a user's.

    Raises:
        UsageError: there is none of this name, or it maps no emotions.
    """
    if name == AROUSAL_VALENCE:
        raise UsageError(f"preset {name}: scores are of emotions: give --preset quadrant, sssr or a .toml file")
    return read_preset(name).emotions


def _score(corpus: str, columns: Columns, inside: Mask) -> Scores:
    folds = fold_scores(columns, inside)
    areas = [fold.auroc for fold in folds if not math.isnan(fold.auroc)]
    judged = inside & columns.judged
    if not areas:
        raise TrainingError(f"corpus {corpus}: each fold has stressed clips only, or none: no score can be computed")
    return Scores(
        corpus=corpus,
        clips=int(inside.sum()),
        speakers=len(set(columns.speaker[inside])),
        folds=len(folds),
        classes=len(set(columns.emotion[inside].tolist())),
        ua=float(np.mean([fold.ua for fold in folds])),
        ua_worst=min(fold.ua for fold in folds),
        auroc=float(np.mean(areas)),
        auroc_worst=min(areas),
        auroc_pooled=auroc(columns.stress[judged], columns.logits[judged]),
        uar=float(np.nanmean([fold.uar for fold in folds])),
        ece_raw=expected_calibration_error(columns.stress[judged], columns.raw[judged]),
        ece=expected_calibration_error(columns.stress[judged], columns.probability[judged]),
        one_class_folds=tuple(fold.fold for fold in folds if math.isnan(fold.auroc)),
    )


@dataclass(frozen=True, slots=True)
class FoldScores:
    """Scores of one fold of a corpus; fractions 0..1, NaN where its clips are of one class only.

    Attributes:
        fold: its number.
        speakers: how many.
        clips: how many.
        ua: unweighted accuracy of the emotions.
        auroc: of stress.
        uar: unweighted accuracy of the stress decision.
    """

    fold: int
    speakers: int
    clips: int
    ua: float
    auroc: float
    uar: float


def fold_scores(columns: Columns, inside: Mask) -> list[FoldScores]:
    """Scores of each fold of the clips inside, in the order of the folds."""
    out = []
    for fold in np.unique(columns.fold[inside]):
        clips = inside & (columns.fold == fold)
        judged = clips & columns.judged
        stress = columns.stress[judged]
        both = 0 < stress.sum() < stress.size
        out.append(
            FoldScores(
                fold=int(fold),
                speakers=len(set(columns.speaker[clips])),
                clips=int(clips.sum()),
                ua=unweighted_accuracy(columns.emotion[clips], columns.decided[clips]),
                auroc=auroc(stress, columns.logits[judged]),
                uar=unweighted_accuracy(stress, columns.stressed[judged]) if both else NAN,
            )
        )
    return out


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
    for corpus in names:
        for system, evaluation in evaluations.items():
            for scores in evaluation.corpora:
                if scores.corpus == corpus and scores.one_class_folds:
                    folds = ", ".join(map(str, scores.one_class_folds))
                    lines.append(
                        f"\n{corpus}, {system}: fold {folds} has clips of one stress class only, so AUROC and UAR are "
                        "means without it"
                    )
    return "\n".join(lines)
