"""How far a score would move with other speakers: intervals from resampled speakers (Efron, 1979)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
