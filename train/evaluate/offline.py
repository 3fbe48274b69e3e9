"""Measures of a system from predictions alone, corpus by corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.evaluate.groups import Gaps, Rise, by_sex, by_speaker, intensity_rises
from edge_sser.train.evaluate.metrics import (
    DRAWS,
    NAN,
    Floats,
    Interval,
    Labels,
    auroc,
    average_precision,
    bootstrap_speakers,
    confusion,
    mean_known,
    precision_recall_curve,
    precisions,
    recalls,
    reliability,
    roc_curve,
    uar,
    unweighted_accuracy,
    unweighted_precision,
)
from edge_sser.train.evaluate.score_table import Mask, ScoreTable
from edge_sser.train.evaluate.scores import FoldScores, Scores, evaluate_table, fold_scores

STRESS_CLASSES = ("not stressed", "stressed")
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of calibrated probability, for the table of operating points


@dataclass(frozen=True, slots=True)
class Decisions:
    """Confusion matrix of a decision, and scores from it. Rows are labels, columns decisions.

    Attributes:
        classes: their names.
        matrix: clips, int64 [classes, classes].
        recall: of each class, 0..1; NaN for one that does not occur.
        precision: of each class, 0..1; NaN for one that was never decided on.
        ua: mean recall (UA, UAR).
        uap: mean precision; a class that was never decided on counts 0.
    """

    classes: Sequence[str]
    matrix: Labels
    recall: Floats
    precision: Floats
    ua: float
    uap: float


@dataclass(frozen=True, slots=True)
class Curves:
    """Curves of stress over all thresholds; x and y of each, float64 [k]."""

    roc: tuple[Floats, Floats]
    precision_recall: tuple[Floats, Floats]


@dataclass(frozen=True, slots=True)
class ThresholdRates:
    """Recall and false positive rate of clips at a threshold of calibrated probability; 0..1, NaN without clips.

    Attributes:
        threshold: 0..1.
        found: share of the stressed clips that reach the threshold.
        false: share of the other clips that reach it.
    """

    threshold: float
    found: float
    false: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """Reliability diagrams with 15 bins; see metrics.reliability.

    Attributes:
        raw: of the model's own probabilities.
        calibrated: after temperature and bias from the other folds.
    """

    raw: tuple[Floats, Floats, Labels]
    calibrated: tuple[Floats, Floats, Labels]


@dataclass(frozen=True, slots=True)
class Intervals:
    """Scores over all clips of a corpus with their 95 % bootstrap intervals over speakers."""

    ua: Interval
    auroc: Interval
    auprc: Interval
    uar: Interval


@dataclass(frozen=True, slots=True)
class Measures:
    """All measures of a system on a corpus; NaN or empty where the labels do not allow one.

    Attributes:
        scores: the headline.
        folds: scores of each fold.
        emotions: decisions among the corpus's emotions.
        stress: decisions at calibrated probability 0.5.
        prevalence: share of stressed clips, 0..1, which precision and the area under its curve reach by chance.
        auprc: area under the precision-recall curve of stress, all clips on one scale.
        intervals: over speakers.
        curves: over thresholds.
        operating: recall and false positive rate at some thresholds.
        reliability: of the probabilities.
        speakers: each compared with all.
        sexes: women compared with men; None unless the corpus has both.
        ordinal: stress by intensity; empty when the corpus has one only.
    """

    scores: Scores
    folds: Sequence[FoldScores]
    emotions: Decisions
    stress: Decisions
    prevalence: float
    auprc: float
    intervals: Intervals
    curves: Curves
    operating: Sequence[ThresholdRates]
    reliability: Reliability
    speakers: Gaps
    sexes: Gaps | None
    ordinal: Sequence[Rise]


def measure(table: ScoreTable, *, draws: int = DRAWS) -> dict[str, Measures]:
    """Computes all measures, by corpus.

    Args:
        table: predictions of one system.
        draws: of the bootstrap.
    """
    return {scores.corpus: _measure(table, scores, draws) for scores in evaluate_table(table).corpora}


def _measure(table: ScoreTable, scores: Scores, draws: int) -> Measures:
    inside = table.corpus == scores.corpus
    judged = inside & table.judged
    labels, logits, probability = table.stress[judged], table.logits[judged], table.probability[judged]
    return Measures(
        scores=scores,
        folds=fold_scores(table, inside),
        emotions=_emotions(table, inside & table.named),
        stress=_decisions(STRESS_CLASSES, confusion(labels, table.stressed[judged], len(STRESS_CLASSES))),
        prevalence=mean_known(labels.tolist()),
        auprc=average_precision(labels, logits),
        intervals=_intervals(table, inside, draws),
        curves=Curves(roc_curve(labels, logits), precision_recall_curve(labels, logits)),
        operating=[
            ThresholdRates(
                threshold,
                found=mean_known((probability[labels == 1] >= threshold).astype(float).tolist()),
                false=mean_known((probability[labels == 0] >= threshold).astype(float).tolist()),
            )
            for threshold in THRESHOLDS
        ],
        reliability=Reliability(reliability(labels, table.raw[judged]), reliability(labels, probability)),
        speakers=by_speaker(table, inside),
        sexes=by_sex(table, inside),
        ordinal=intensity_rises(table, inside),
    )


def _emotions(table: ScoreTable, named: Mask) -> Decisions:
    matrix = confusion(table.emotion[named], table.decided[named], len(EMOTIONS))
    present = np.flatnonzero(matrix.sum(axis=1))  # a class that the corpus lacks is never decided on
    return _decisions([EMOTIONS[place] for place in present.tolist()], np.asarray(matrix[np.ix_(present, present)]))


def _decisions(classes: Sequence[str], matrix: Labels) -> Decisions:
    complete = matrix.size > 0 and bool(matrix.sum(axis=1).all())  # False where a class has no clip
    return Decisions(
        classes=classes,
        matrix=matrix,
        recall=recalls(matrix),
        precision=precisions(matrix),
        ua=float(np.mean(recalls(matrix))) if complete else NAN,
        uap=unweighted_precision(matrix) if complete else NAN,
    )


def _intervals(table: ScoreTable, inside: Mask, draws: int) -> Intervals:
    places = np.flatnonzero(inside)

    def statistics(drawn: NDArray[np.intp]) -> tuple[float, ...]:
        clips = places[drawn]
        judged, named = clips[table.judged[clips]], clips[table.named[clips]]
        stress, logits = table.stress[judged], table.logits[judged]
        return (
            unweighted_accuracy(table.emotion[named], table.decided[named]),
            auroc(stress, logits),
            average_precision(stress, logits),
            uar(stress, table.stressed[judged]),
        )

    return Intervals(*bootstrap_speakers(statistics, table.speaker[inside], draws=draws))
