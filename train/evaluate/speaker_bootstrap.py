"""Bootstrap intervals over speakers for many systems: the draws of `metrics.bootstrap_speakers`, as matrix products."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_sser.train.evaluate.metrics import DRAWS, Floats, Interval, Labels, auroc, interval, unweighted_accuracy


def ua_interval(speakers: NDArray[np.str_], labels: Labels, decisions: Labels, *, draws: int = DRAWS) -> Interval:
    """Bootstrap interval of the unweighted accuracy over speakers.

    Args:
        speakers: of each clip, [n].
        labels: class of each clip, [n].
        decisions: decided class of each clip, [n].
        draws: number of resamplings.
    """
    value = unweighted_accuracy(labels, decisions)
    names, speaker = np.unique(speakers, return_inverse=True)
    if names.size < 2:
        return interval(value, np.empty(0))
    weights = _draws(names.size, draws)
    recalls = []
    for label in np.unique(labels):
        inside = labels == label
        clips = np.bincount(speaker[inside], minlength=names.size)
        hits = np.bincount(speaker[inside & (decisions == label)], minlength=names.size)
        recalls.append(_ratio(weights @ hits, weights @ clips))
    present = [~np.isnan(recall) for recall in recalls]  # a class that a draw lacks does not count in it
    return interval(value, _ratio(np.nan_to_num(recalls).sum(axis=0), np.sum(present, axis=0)))


def auroc_interval(speakers: NDArray[np.str_], labels: Labels, scores: Floats, *, draws: int = DRAWS) -> Interval:
    """Bootstrap interval of the area under the ROC curve over speakers.

    The Mann-Whitney statistic is a sum over pairs of speakers, so that a draw is a product with their wins.

    Args:
        speakers: of each clip, [n].
        labels: 1 or 0, [n].
        scores: of each clip, [n].
        draws: number of resamplings.
    """
    value = auroc(labels, scores)
    names, speaker = np.unique(speakers, return_inverse=True)
    positive = labels == 1
    if names.size < 2 or np.isnan(value):
        return interval(value, np.empty(0))
    weights = _draws(names.size, draws)
    wins = np.zeros((names.size, names.size))  # of the positives of a row's speaker over the negatives of a column's
    for place in range(names.size):
        against = np.sort(scores[~positive & (speaker == place)])
        below = np.searchsorted(against, scores[positive], "left") + np.searchsorted(against, scores[positive], "right")
        wins[:, place] = np.bincount(speaker[positive], weights=below / 2.0, minlength=names.size)
    positives, negatives = (np.bincount(speaker[kind], minlength=names.size) for kind in (positive, ~positive))
    return interval(
        value, _ratio(((weights @ wins) * weights).sum(axis=1), (weights @ positives) * (weights @ negatives))
    )


@lru_cache
def _draws(speakers: int, draws: int, seed: int = 0) -> Labels:
    """Returns how often each speaker is in each draw, int64 [draws, speakers]."""
    random = np.random.default_rng(seed)
    drawn = (random.integers(speakers, size=speakers) for _ in range(draws))
    return np.array([np.bincount(each, minlength=speakers) for each in drawn], dtype=np.int64)


def _ratio(part: NDArray[np.generic], whole: NDArray[np.generic]) -> Floats:
    out = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=out, where=whole > 0)  # type: ignore[operator]
    return out
