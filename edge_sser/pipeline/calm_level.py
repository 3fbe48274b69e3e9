"""Calm level of a speaker: the log-odds that the speaker's calm speech has, as probabilities on a grid."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

CENTRE: Final = -1.5  # of the calm levels of strangers, calibrated log-odds
SPREAD: Final = 1.1  # standard deviation of their calm levels
HIGHEST: Final = 0.1  # of the grid: a voice that is calm above it cannot be told from stress, and counts as stressed
LEVELS: Final[NDArray[np.float64]] = np.linspace(-4.6, HIGHEST, 48)
_NARROWEST: Final = 0.1  # deviation that the distance of the levels can show


def normal(mean: float, deviation: float) -> NDArray[np.float64]:
    """Returns the probabilities of `LEVELS`, float64 [levels], of a normal distribution that ends with them.

    Args:
        mean: log-odds.
        deviation: 0 or more; at least the distance of two levels counts.
    """
    log = -0.5 * np.square((LEVELS - mean) / max(deviation, _NARROWEST))
    weights = np.exp(log - log.max())
    return np.asarray(weights / weights.sum())


def moments(probabilities: NDArray[np.float64]) -> tuple[float, float]:
    """Returns mean and deviation of probabilities of `LEVELS`, float64 [levels]."""
    mean = min(max(float(probabilities @ LEVELS), float(LEVELS[0])), float(LEVELS[-1]))  # they sum to about 1
    return mean, float(np.sqrt(probabilities @ np.square(LEVELS - mean)))


STRANGERS: Final = normal(CENTRE, SPREAD)
POPULATION: Final = moments(STRANGERS)[0]
"""Mean calm level of strangers."""
