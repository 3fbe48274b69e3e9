"""What committed predictions alone can tell of a system, corpus by corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.evaluate.groups import Gaps, Rise, by_sex, by_speaker, ordinal
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
from edge_sser.train.evaluate.scores import FoldScores, Scores, evaluate_columns, fold_scores

STRESS_CLASSES = ("not stressed", "stressed")
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of calibrated probability, for the table of operating points


@dataclass(frozen=True, slots=True)
class Decisions:
    """What was taken for what. Rows of the matrix are the truth.

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
    """Of stress, over all thresholds; x and y of each curve, float64 [k]."""

    roc: tuple[Floats, Floats]
    precision_recall: tuple[Floats, Floats]


@dataclass(frozen=True, slots=True)
class Operating:
    """What a threshold of calibrated probability catches of whole clips; shares 0..1, NaN without such clips.

    Attributes:
        threshold: 0..1.
        found: of the stressed clips, those that reach it.
        false: of the others, those that do.
    """

    threshold: float
    found: float
    false: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """Said and found in 15 bins of probability; see metrics.reliability.

    Attributes:
        raw: as the model gives it.
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
    """Everything that predictions tell of a corpus; NaN and empty where its labels do not allow it.

    Attributes:
        scores: the headline.
        folds: each by itself.
        emotions: decisions among the corpus's emotions.
        stress: decisions at calibrated probability 0.5.
        prevalence: share of stressed clips, 0..1: what precision, and the area under its curve, are to be read against.
        auprc: area under the precision-recall curve of stress, all clips on one scale.
        intervals: over speakers.
        curves: over thresholds.
        operating: shares at some thresholds.
        reliability: of the probabilities.
        speakers: each against all.
        sexes: women against men; None when the corpus does not tell.
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
    operating: Sequence[Operating]
    reliability: Reliability
    speakers: Gaps
    sexes: Gaps | None
    ordinal: Sequence[Rise]


def measure(columns: ScoreTable, *, draws: int = DRAWS) -> dict[str, Measures]:
    """Everything, by corpus.

    Args:
        columns: of one system's predictions.
        draws: of the bootstrap.
    """
    return {scores.corpus: _measure(columns, scores, draws) for scores in evaluate_columns(columns).corpora}


def _measure(columns: ScoreTable, scores: Scores, draws: int) -> Measures:
    inside = columns.corpus == scores.corpus
    judged = inside & columns.judged
    labels, logits, probability = columns.stress[judged], columns.logits[judged], columns.probability[judged]
    return Measures(
        scores=scores,
        folds=fold_scores(columns, inside),
        emotions=_emotions(columns, inside & columns.named),
        stress=_decisions(STRESS_CLASSES, confusion(labels, columns.stressed[judged], len(STRESS_CLASSES))),
        prevalence=mean_known(labels.tolist()),
        auprc=average_precision(labels, logits),
        intervals=_intervals(columns, inside, draws),
        curves=Curves(roc_curve(labels, logits), precision_recall_curve(labels, logits)),
        operating=[
            Operating(
                threshold,
                found=mean_known((probability[labels == 1] >= threshold).astype(float).tolist()),
                false=mean_known((probability[labels == 0] >= threshold).astype(float).tolist()),
            )
            for threshold in THRESHOLDS
        ],
        reliability=Reliability(reliability(labels, columns.raw[judged]), reliability(labels, probability)),
        speakers=by_speaker(columns, inside),
        sexes=by_sex(columns, inside),
        ordinal=ordinal(columns, inside),
    )


def _emotions(columns: ScoreTable, named: Mask) -> Decisions:
    whole = confusion(columns.emotion[named], columns.decided[named], len(EMOTIONS))
    present = np.flatnonzero(whole.sum(axis=1))  # no decision is made for a class that the corpus lacks
    return _decisions([EMOTIONS[place] for place in present.tolist()], np.asarray(whole[np.ix_(present, present)]))


def _decisions(classes: Sequence[str], matrix: Labels) -> Decisions:
    complete = matrix.size > 0 and bool(matrix.sum(axis=1).all())  # else there is a class that nothing is known of
    return Decisions(
        classes=classes,
        matrix=matrix,
        recall=recalls(matrix),
        precision=precisions(matrix),
        ua=float(np.mean(recalls(matrix))) if complete else NAN,
        uap=unweighted_precision(matrix) if complete else NAN,
    )


def _intervals(columns: ScoreTable, inside: Mask, draws: int) -> Intervals:
    places = np.flatnonzero(inside)

    def statistics(drawn: NDArray[np.intp]) -> tuple[float, ...]:
        clips = places[drawn]
        judged, named = clips[columns.judged[clips]], clips[columns.named[clips]]
        stress, logits = columns.stress[judged], columns.logits[judged]
        return (
            unweighted_accuracy(columns.emotion[named], columns.decided[named]),
            auroc(stress, logits),
            average_precision(stress, logits),
            uar(stress, columns.stressed[judged]),
        )

    return Intervals(*bootstrap_speakers(statistics, columns.speaker[inside], draws=draws))
