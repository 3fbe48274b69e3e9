"""The scores. Inputs are arrays of one value a clip; matrices are [what was so, what was said]."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

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
