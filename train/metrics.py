"""The scores. Inputs are arrays of one value a clip."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def unweighted_accuracy(labels: Labels, decisions: Labels) -> float:
    """Mean of the classes' recalls (UA, also called UAR), 0..1, over the classes that occur in `labels`."""
    return float(np.mean([np.mean(decisions[labels == label] == label) for label in np.unique(labels)]))


def auroc(labels: Labels, scores: Floats) -> float:
    """Area under the ROC curve, 0..1; ties count half. NaN when only one of the two classes occurs.

    It is the Mann-Whitney statistic (Hanley and McNeil, Radiology, 1982), computed from ranks.
    """
    from scipy.stats import rankdata

    positives = int(labels.sum())
    negatives = labels.size - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    ranks = rankdata(scores)[labels == 1].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def expected_calibration_error(labels: Labels, probabilities: Floats, bins: int = 15) -> float:
    """Mean distance between probability and frequency, 0..1, over equal bins of probability (Guo et al., 2017)."""
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    error = 0.0
    for index in range(bins):
        inside = place == index
        if inside.any():
            error += abs(probabilities[inside].mean() - labels[inside].mean()) * inside.mean()
    return float(error)
