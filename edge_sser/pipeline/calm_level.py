"""What is known of a speaker's calm level: a distribution over the log-odds that calm speech of the speaker has."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

CENTRE: Final = -1.6  # of the calm levels of strangers, calibrated log-odds
SPREAD: Final = 1.0  # standard deviation of their calm levels
DEVIATION: Final = 1.25  # of a second of speech from the level: its windows overlap, and say less than they count
HIGHEST: Final = CENTRE + 1.5  # a voice that is calm above it cannot be told from stress, and is taken for that
LEVELS: Final[NDArray[np.float64]] = CENTRE + np.linspace(-3.0, HIGHEST - CENTRE, 46)
_NARROWEST: Final = 0.1  # deviation that the distance of the levels can show


def normal(mean: float, deviation: float) -> NDArray[np.float64]:
    """Returns the probabilities of `LEVELS`, float64 [levels], of a normal distribution that ends with them.

    Args:
        mean: log-odds.
        deviation: more than 0; less than the distance of two levels is taken for that.
    """
    log = -0.5 * np.square((LEVELS - mean) / max(deviation, _NARROWEST))
    weights = np.exp(log - log.max())
    return np.asarray(weights / weights.sum())


def moments(probabilities: NDArray[np.float64]) -> tuple[float, float]:
    """Returns mean and deviation of probabilities of `LEVELS`, float64 [levels]."""
    mean = float(probabilities @ LEVELS)
    return mean, float(np.sqrt(probabilities @ np.square(LEVELS - mean)))


STRANGERS: Final = normal(CENTRE, SPREAD)
POPULATION: Final = moments(STRANGERS)[0]
"""Mean calm level of strangers; the highest and lowest levels are left out of it."""
