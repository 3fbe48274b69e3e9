"""The scores. Inputs are arrays of one value a clip; matrices are [what was so, what was said]."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from edge_sser.model.model import Calibration

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
NAN = float("nan")


def unweighted_accuracy(labels: Labels, decisions: Labels) -> float:
    """Mean of the classes' recalls (UA, also called UAR), 0..1, over the classes that occur; NaN without clips."""
    if labels.size == 0:
        return NAN
    return float(np.mean([np.mean(decisions[labels == label] == label) for label in np.unique(labels)]))


def both_kinds(labels: Labels) -> bool:
    """Whether there are positives and negatives: without both nothing can be told apart."""
    return bool(0 < labels.sum() < labels.size)


def uar(labels: Labels, decisions: Labels) -> float:
    """Unweighted accuracy of yes or no, 0..1; NaN when only one of the two occurs in `labels`."""
    return unweighted_accuracy(labels, decisions) if both_kinds(labels) else NAN


def mean_known(values: Iterable[float]) -> float:
    """Mean of those that are not NaN; NaN when there are none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else NAN


def worst_known(values: Iterable[float]) -> float:
    """The least of those that are not NaN; NaN when there are none."""
    return min((value for value in values if not math.isnan(value)), default=NAN)


def confusion(labels: Labels, decisions: Labels, classes: int) -> Labels:
    """How often each class was taken for which: int64 [classes, classes], rows are the truth."""
    counts = np.bincount(labels * classes + decisions, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def recalls(matrix: Labels) -> Floats:
    """Share of each class that was found, 0..1; NaN for a class that does not occur."""
    return _share(np.diag(matrix), matrix.sum(axis=1))


def precisions(matrix: Labels) -> Floats:
    """Share of each class's decisions that were right, 0..1; NaN for a class that was never decided on."""
    return _share(np.diag(matrix), matrix.sum(axis=0))


def unweighted_precision(matrix: Labels) -> float:
    """Mean precision (UAP) of the classes that occur, 0..1; one that was never decided on counts 0; NaN without any."""
    present = matrix.sum(axis=1) > 0
    return float(np.nan_to_num(precisions(matrix))[present].mean()) if present.any() else NAN


def auroc(labels: Labels, scores: Floats) -> float:
    """Area under the ROC curve, 0..1; ties count half. NaN when only one of the two classes occurs.

    It is the Mann-Whitney statistic (Hanley and McNeil, Radiology, 1982), computed from ranks.
    """
    from scipy.stats import rankdata

    if not both_kinds(labels):
        return NAN
    positives = int(labels.sum())
    negatives = labels.size - positives
    ranks = rankdata(scores)[labels == 1].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def roc_curve(labels: Labels, scores: Floats) -> tuple[Floats, Floats]:
    """False alarm rate and recall at every threshold, from (0, 0) to (1, 1); empty unless both classes occur.

    Returns:
        float64 [k] and [k], both rising.
    """
    if not both_kinds(labels):
        return np.empty(0), np.empty(0)
    hits, alarms = _counts_above(labels, scores)
    false = alarms - hits
    return _share(false, np.full_like(false, false[-1])), _share(hits, np.full_like(hits, hits[-1]))


def precision_recall_curve(labels: Labels, scores: Floats) -> tuple[Floats, Floats]:
    """Recall and precision at every threshold, from the highest score down; empty unless both classes occur.

    Returns:
        float64 [k] and [k]; recall rises.
    """
    if not both_kinds(labels):
        return np.empty(0), np.empty(0)
    hits, alarms = (counts[1:] for counts in _counts_above(labels, scores))
    return _share(hits, np.full_like(hits, hits[-1])), _share(hits, alarms)


def average_precision(labels: Labels, scores: Floats) -> float:
    """Area under the precision-recall curve as a sum of steps (AUPRC), 0..1; NaN unless both classes occur.

    A score that says nothing reaches the share of positives.
    """
    if not both_kinds(labels):
        return NAN
    recall, precision = precision_recall_curve(labels, scores)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def threshold_at_recall(labels: Labels, scores: Floats, recall: float) -> float:
    """The highest threshold that at least this share of the positives reach.

    Args:
        labels: int64 [n], 0 or 1; at least one is 1.
        scores: float64 [n].
        recall: 0..1, more than 0.
    """
    positive = np.sort(scores[labels == 1])[::-1]
    return float(positive[int(np.ceil(recall * positive.size - 1e-9)) - 1])


def reliability(labels: Labels, probabilities: Floats, bins: int = 15) -> tuple[Floats, Floats, Labels]:
    """What was said and what was so, in equal bins of probability.

    Returns:
        Mean probability and frequency of the positives of each bin, float64 [bins], NaN where a bin is empty; and the
        clips in it, int64 [bins].
    """
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    clips = np.bincount(place, minlength=bins).astype(np.int64)
    said = np.bincount(place, weights=probabilities, minlength=bins)
    found = np.bincount(place, weights=labels, minlength=bins)
    return _share(said, clips), _share(found, clips), clips


def expected_calibration_error(labels: Labels, probabilities: Floats, bins: int = 15) -> float:
    """Mean distance between probability and frequency, 0..1, over equal bins of probability (Guo et al., 2017).

    NaN without clips.
    """
    if labels.size == 0:
        return NAN
    said, found, clips = reliability(labels, probabilities, bins)
    return float(np.nansum(np.abs(said - found) * clips) / labels.size)


def _counts_above(labels: Labels, scores: Floats) -> tuple[Floats, Floats]:
    """Positives and clips at or above each threshold, from none to all; clips of one score come together."""
    order = np.argsort(-scores, kind="stable")
    last_of_score = np.append(np.flatnonzero(np.diff(scores[order])), labels.size - 1)
    hits = np.cumsum(labels[order])[last_of_score].astype(np.float64)
    return np.append(0.0, hits), np.append(0.0, last_of_score + 1.0)


def _share(part: NDArray[np.generic], whole: NDArray[np.generic]) -> Floats:
    out = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=out, where=whole > 0)  # type: ignore[operator]
    return out


class Sense(str, Enum):
    """On which side of its limit a figure should be."""

    AT_LEAST = "at least"
    AT_MOST = "at most"


@dataclass(frozen=True, slots=True)
class Check:
    """A figure and its limit.

    Attributes:
        name: what was measured.
        value: NaN when it could not be.
        sense: on which side it should be.
        limit: in the unit of the value.
    """

    name: str
    value: float
    sense: Sense
    limit: float

    @property
    def passed(self) -> bool | None:
        """Whether the figure keeps its limit; None when it could not be measured."""
        if math.isnan(self.value):
            return None
        if self.sense is Sense.AT_LEAST:
            return self.value >= self.limit
        return self.value <= self.limit


# Limits that are the same wherever they apply; those of a distortion stand beside it.
UAR_GAP = 0.075
RECALL_GAP = 0.175
PRECISION_GAP = 0.075


DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Interval:
    """A score and where 95 % of the draws lie.

    Attributes:
        value: over all clips.
        low: the 2.5th percentile; NaN with a single speaker, who says nothing of others.
        high: the 97.5th.
    """

    value: float
    low: float
    high: float


def over_speakers(
    statistics: Callable[[NDArray[np.intp]], tuple[float, ...]],
    speakers: NDArray[np.str_],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[Interval, ...]:
    """Intervals of statistics when speakers, with all their clips, are drawn with replacement.

    A draw in which a statistic has no value (all its clips are of one class) is left out.

    Args:
        statistics: from the places of clips, which may repeat, to scores.
        speakers: of each clip, [n].
        draws: how many times as many speakers are drawn as there are.
        seed: of the draws: the same gives the same intervals.
    """
    everything = np.arange(speakers.size)
    values = statistics(everything)
    _, speaker = np.unique(speakers, return_inverse=True)
    count = int(speaker.max()) + 1
    if count < 2:
        return tuple(Interval(value, float("nan"), float("nan")) for value in values)
    clips = [np.flatnonzero(speaker == place) for place in range(count)]
    random = np.random.default_rng(seed)
    drawn = np.array(
        [
            statistics(np.concatenate([clips[place] for place in random.integers(count, size=count)]))
            for _ in range(draws)
        ]
    )
    return tuple(_interval(value, column[~np.isnan(column)]) for value, column in zip(values, drawn.T, strict=True))


def _interval(value: float, drawn: NDArray[np.float64]) -> Interval:
    if drawn.size == 0:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(value, float(low), float(high))


Array = NDArray[np.float64]

_SLOPES = (0.1, 10.0)  # 1 / temperature; the models here lie at 1 to 2
_BIASES = (-10.0, 10.0)


def logit(probability: Array) -> Array:
    """Inverse of the logistic function; probabilities are kept 1e-6 away from 0 and 1."""
    kept = probability.clip(1e-6, 1.0 - 1e-6)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def calibrated(logits: Array, calibration: Calibration) -> Array:
    """Probabilities, 0..1, of many logits at once: what `Calibration.probability` gives for each."""
    return np.asarray(1.0 / (1.0 + np.exp(-(logits / calibration.temperature + calibration.bias))))


def fit_calibration(logits: Array, labels: Array, weights: Array) -> Calibration:
    """The temperature and bias of the greatest likelihood.

    Where that lies at infinity, as when the logits part a few clips without a fault, or where they rank them the wrong
    way round, it is the greatest within `_SLOPES` and `_BIASES`.

    Args:
        logits: float64 [n].
        labels: float64 [n], 0 or 1.
        weights: float64 [n], of each clip in the likelihood.
    """
    from scipy.optimize import minimize

    def negative_log_likelihood(parameters: Array) -> float:
        z = logits * np.exp(parameters[0]) + parameters[1]
        return float(np.average(np.logaddexp(0.0, z) - labels * z, weights=weights))

    found = minimize(negative_log_likelihood, np.zeros(2), method="BFGS").x
    bounds = [tuple(math.log(slope) for slope in _SLOPES), _BIASES]
    if any(not low <= value <= high for value, (low, high) in zip(found, bounds, strict=True)):
        found = minimize(negative_log_likelihood, np.zeros(2), method="L-BFGS-B", bounds=bounds).x
    return Calibration(temperature=float(np.exp(-found[0])), bias=float(found[1]))
