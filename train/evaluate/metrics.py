"""Metrics, their limits, bootstrap intervals and calibration. Inputs are arrays of one value a clip."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from edge_sser.model.calibration import Calibration

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
NAN = float("nan")

# Limits that are the same wherever they apply; the limits of a distortion stand beside it.
UAR_GAP = 0.075
RECALL_GAP = 0.175
PRECISION_GAP = 0.075

DRAWS = 1000  # of a bootstrap

_SLOPES = (0.1, 10.0)  # range of 1 / temperature; the models here lie at 1 to 2
_BIASES = (-10.0, 10.0)


def unweighted_accuracy(labels: Labels, decisions: Labels) -> float:
    """Mean of the classes' recalls (UA, also called UAR), 0..1, over the classes that occur; NaN without clips."""
    if labels.size == 0:
        return NAN
    return float(np.mean([np.mean(decisions[labels == label] == label) for label in np.unique(labels)]))


def has_both_classes(labels: Labels) -> bool:
    """Returns True when there are positives and negatives."""
    return bool(0 < labels.sum() < labels.size)


def uar(labels: Labels, decisions: Labels) -> float:
    """Unweighted accuracy of a binary decision, 0..1; NaN unless both classes occur."""
    return unweighted_accuracy(labels, decisions) if has_both_classes(labels) else NAN


def mean_known(values: Iterable[float]) -> float:
    """Mean of the values that are not NaN; NaN when there are none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else NAN


def worst_known(values: Iterable[float]) -> float:
    """Least of the values that are not NaN; NaN when there are none."""
    return min((value for value in values if not math.isnan(value)), default=NAN)


def confusion(labels: Labels, decisions: Labels, classes: int) -> Labels:
    """Confusion matrix: clips by label (rows) and decision (columns), int64 [classes, classes]."""
    from sklearn.metrics import confusion_matrix

    if labels.size == 0:
        return np.zeros((classes, classes), dtype=np.int64)
    return np.asarray(confusion_matrix(labels, decisions, labels=range(classes)), dtype=np.int64)


def recalls(matrix: Labels) -> Floats:
    """Recall of each class of a confusion matrix, 0..1; NaN for a class that does not occur."""
    return _share(np.diag(matrix), matrix.sum(axis=1))


def precisions(matrix: Labels) -> Floats:
    """Precision of each class of a confusion matrix, 0..1; NaN for a class that was never decided on."""
    return _share(np.diag(matrix), matrix.sum(axis=0))


def unweighted_precision(matrix: Labels) -> float:
    """Mean precision (UAP) of the classes that occur, 0..1; one that was never decided on counts 0; NaN without any."""
    present = matrix.sum(axis=1) > 0
    return float(np.nan_to_num(precisions(matrix))[present].mean()) if present.any() else NAN


def macro_f1(labels: Labels, decisions: Labels) -> float:
    """Mean F1 of the classes that occur, 0..1; NaN without clips."""
    labelled = [(labels == name, decisions == name) for name in np.unique(labels)]
    return mean_known(
        float(2.0 * (label & decided).sum() / (label.sum() + decided.sum())) for label, decided in labelled
    )


def auroc(labels: Labels, scores: Floats) -> float:
    """Area under the ROC curve, 0..1; ties count half. NaN unless both classes occur.

    The Mann-Whitney statistic (Hanley and McNeil, Radiology, 1982), computed from ranks.
    """
    from scipy.stats import rankdata

    if not has_both_classes(labels):
        return NAN
    positives = int(labels.sum())
    negatives = labels.size - positives
    ranks = rankdata(scores)[labels == 1].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def roc_curve(labels: Labels, scores: Floats) -> tuple[Floats, Floats]:
    """False positive rate and recall at every threshold, from (0, 0) to (1, 1); empty unless both classes occur.

    Returns:
        float64 [k] and [k], both rising.
    """
    from sklearn import metrics

    if not has_both_classes(labels):
        return np.empty(0), np.empty(0)
    false_positive_rate, recall, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    return false_positive_rate, recall


def macro_roc_curve(labels: Labels, probabilities: Floats) -> tuple[Floats, Floats]:
    """ROC curve of each class against the others, the mean of the recalls at each false positive rate.

    Args:
        labels: places of classes, [n].
        probabilities: of all classes, [n, classes].

    Returns:
        float64 [101] and [101], both rising.
    """
    rates = np.linspace(0.0, 1.0, 101)
    classes = [((labels == label).astype(np.int64), probabilities[:, label]) for label in np.unique(labels)]
    recalls = [np.interp(rates, *roc_curve(inside, scores)) for inside, scores in classes]
    return rates, np.mean(recalls, axis=0)


def precision_recall_curve(labels: Labels, scores: Floats) -> tuple[Floats, Floats]:
    """Recall and precision at every threshold, from the highest score down; empty unless both classes occur.

    Returns:
        float64 [k] and [k]; recall rises.
    """
    from sklearn import metrics

    if not has_both_classes(labels):
        return np.empty(0), np.empty(0)
    precision, recall, _ = metrics.precision_recall_curve(labels, scores)
    return recall[-2::-1], precision[-2::-1]  # without scikit-learn's last point, recall 0 and precision 1


def average_precision(labels: Labels, scores: Floats) -> float:
    """Area under the precision-recall curve as a sum of steps (AUPRC), 0..1; NaN unless both classes occur.

    Scores without information reach the share of positives. Not from scikit-learn, which takes four times as long: a
    bootstrap computes it a thousand times.
    """
    if not has_both_classes(labels):
        return NAN
    order = np.argsort(-scores, kind="stable")
    thresholds = np.append(np.flatnonzero(np.diff(scores[order])), labels.size - 1)  # clips of one score count together
    hits = np.cumsum(labels[order])[thresholds]
    return float(np.sum(np.diff(hits / hits[-1], prepend=0.0) * (hits / (thresholds + 1.0))))


def reliability(labels: Labels, probabilities: Floats, bins: int = 15) -> tuple[Floats, Floats, Labels]:
    """Reliability diagram: predicted and observed frequency of the positives in equal bins of probability.

    Returns:
        Mean probability and frequency of the positives of each bin, float64 [bins], NaN where a bin is empty; and the
        clips in it, int64 [bins].
    """
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    clips = np.bincount(place, minlength=bins).astype(np.int64)
    predicted = np.bincount(place, weights=probabilities, minlength=bins)
    observed = np.bincount(place, weights=labels, minlength=bins)
    return _share(predicted, clips), _share(observed, clips), clips


def expected_calibration_error(labels: Labels, probabilities: Floats, bins: int = 15) -> float:
    """Mean distance between probability and frequency, 0..1, over equal bins of probability (Guo et al., 2017).

    NaN without clips.
    """
    if labels.size == 0:
        return NAN
    predicted, observed, clips = reliability(labels, probabilities, bins)
    return float(np.nansum(np.abs(predicted - observed) * clips) / labels.size)


def _share(part: NDArray[np.generic], whole: NDArray[np.generic]) -> Floats:
    out = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=out, where=whole > 0)  # type: ignore[operator]
    return out


class Sense(str, Enum):
    """Side of its limit on which a figure should be."""

    AT_LEAST = "at least"
    AT_MOST = "at most"


@dataclass(frozen=True, slots=True)
class Check:
    """A figure and its limit.

    Attributes:
        name: of the figure.
        value: NaN when it could not be measured.
        sense: side of the limit on which the value should be.
        limit: in the unit of the value.
    """

    name: str
    value: float
    sense: Sense
    limit: float

    @property
    def passed(self) -> bool | None:
        """True when the value keeps its limit; None when it could not be measured."""
        if math.isnan(self.value):
            return None
        if self.sense is Sense.AT_LEAST:
            return self.value >= self.limit
        return self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Interval:
    """A score with its 95 % bootstrap interval.

    Attributes:
        value: over all clips.
        low: the 2.5th percentile of the draws; NaN with a single speaker.
        high: the 97.5th.
    """

    value: float
    low: float
    high: float


def bootstrap_speakers(
    statistics: Callable[[NDArray[np.intp]], tuple[float, ...]],
    speakers: NDArray[np.str_],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[Interval, ...]:
    """Bootstrap intervals of statistics: speakers are drawn with replacement, with all their clips (Efron, 1979).

    A draw in which a statistic is NaN (all its clips are of one class) is left out.

    Args:
        statistics: returns scores of the clips with some indices, which may repeat.
        speakers: of each clip, [n].
        draws: number of resamplings, each of as many speakers as there are.
        seed: of the draws.
    """
    values = statistics(np.arange(speakers.size))
    _, speaker = np.unique(speakers, return_inverse=True)
    count = int(speaker.max()) + 1
    if count < 2:
        return tuple(Interval(value, NAN, NAN) for value in values)
    clips = [np.flatnonzero(speaker == place) for place in range(count)]
    random = np.random.default_rng(seed)
    drawn = np.array(
        [
            statistics(np.concatenate([clips[place] for place in random.integers(count, size=count)]))
            for _ in range(draws)
        ]
    )
    return tuple(interval(value, column) for value, column in zip(values, drawn.T, strict=True))


def interval(value: float, drawn: Floats) -> Interval:
    """Interval of a score from the scores of its draws; those that are NaN are left out."""
    drawn = drawn[~np.isnan(drawn)]
    if drawn.size == 0:
        return Interval(value, NAN, NAN)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def logit(probability: Floats) -> Floats:
    """Inverse of the logistic function; probabilities are kept 1e-6 away from 0 and 1."""
    kept = probability.clip(1e-6, 1.0 - 1e-6)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def calibrated(logits: Floats, calibration: Calibration) -> Floats:
    """Probabilities of logits, 0..1: `Calibration.probability` for an array."""
    return np.asarray(1.0 / (1.0 + np.exp(-(logits / calibration.temperature + calibration.bias))))


def fit_calibration(logits: Floats, labels: Floats, weights: Floats) -> Calibration:
    """Fits temperature and bias by maximum likelihood (Platt, 1999; Guo et al., 2017).

    The maximum lies at infinity when the logits separate a few clips perfectly, or rank them the wrong way round. Then
    it is searched for within `_SLOPES` and `_BIASES`.

    Args:
        logits: float64 [n].
        labels: float64 [n], 0 or 1.
        weights: float64 [n], of each clip in the likelihood.
    """
    from scipy.optimize import minimize

    def negative_log_likelihood(parameters: Floats) -> float:
        z = logits * np.exp(parameters[0]) + parameters[1]
        return float(np.average(np.logaddexp(0.0, z) - labels * z, weights=weights))

    found = minimize(negative_log_likelihood, np.zeros(2), method="BFGS").x
    bounds = [tuple(math.log(slope) for slope in _SLOPES), _BIASES]
    if any(not low <= value <= high for value, (low, high) in zip(found, bounds, strict=True)):
        found = minimize(negative_log_likelihood, np.zeros(2), method="L-BFGS-B", bounds=bounds).x
    return Calibration(temperature=float(np.exp(-found[0])), bias=float(found[1]))
