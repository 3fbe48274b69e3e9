"""Baseline of a source: the log-odds of its speech when calm, learned with bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

POPULATION: Final = -1.6  # mean calibrated log-odds of calm speech of strangers
PRIOR_SECONDS: Final = 6.0  # speech that the population counts for
MEMORY_SECONDS: Final = 300.0  # speech after which the mean becomes an exponential average of this length
LEARN_BELOW: Final = 0.2  # probability of stress from which on nothing is learned
MOST_UP: Final = 0.5  # largest shift towards stress from the anchor; less than from calm to stressed speech, about 1.6
MOST_DOWN: Final = 1.5  # largest shift towards calm, which is safe to learn
MOST_DECLARED: Final = 1.5  # largest shift of declared speech from the population, either way
COUNTED_BELOW, COUNTED_ABOVE = 3.0, 1.5  # distance from the anchor within which a window counts in full
CALM_LIMIT: Final = POPULATION + MOST_DECLARED  # mean log-odds; calm strangers have -2.7 to 0.1, stressed ones about 0
READY_SECONDS: Final = 30.0


class Baseline:
    """Running mean of calm log-odds, shrunk towards the population.

    A window with the log-odds z and d seconds of speech, at a probability p of stress below 0.2, moves the mean:

        w = d (1 - p);  heard += w;  value += w / (prior_seconds + heard) (clip(z) - value)

    This is the posterior mean of a normal distribution whose prior mean is the population's (shrinkage, as in Gelman et
    al., "Bayesian Data Analysis", section 2.5); `heard` stops at 300 s, from where on the past is forgotten slowly.

    A voice that sounds stressed when it is calm cannot be told from stress. Therefore the shift towards stress is at
    most 0.5, stress is not learned once the filter shows it, and neither ten minutes of steady stress nor a stressed
    start is taken for calm. `declare` takes speech that is known to be calm, whose shift may be larger.

    Attributes:
        value: log-odds of this source when calm.
        anchor: value around which learning is bounded: the population's, or what was declared.
        heard_seconds: calm speech learned, at most 300.
        declared: True when calm speech was declared.
    """

    def __init__(self) -> None:
        """Starts with the population's value."""
        self.value = self.anchor = POPULATION
        self.heard_seconds = 0.0
        self.declared = False

    @property
    def shift(self) -> float:
        """Log-odds to subtract from those of this source: its calm less the population's."""
        return self.value - POPULATION

    @property
    def ready(self) -> bool:
        """True when enough calm speech was heard or some was declared."""
        return self.declared or self.heard_seconds >= READY_SECONDS

    def declare(self, log_odds: Sequence[float], speech_seconds: Sequence[float]) -> None:
        """Replaces what was learned by speech that is known to be calm. Learning is bounded around it from then on.

        Args:
            log_odds: calibrated log-odds of each scored window.
            speech_seconds: speech in the hop of each of these windows.

        Raises:
            ValueError: there is no speech.
        """
        weight = sum(speech_seconds)
        if not weight > 0.0:
            raise ValueError("there is no speech to learn a baseline from")
        total = sum(one * seconds for one, seconds in zip(log_odds, speech_seconds, strict=True))
        mean = (PRIOR_SECONDS * POPULATION + total) / (PRIOR_SECONDS + weight)
        self.anchor = self.value = min(max(mean, POPULATION - MOST_DECLARED), POPULATION + MOST_DECLARED)
        self.heard_seconds = min(weight, MEMORY_SECONDS)
        self.declared = True

    def push(self, log_odds: float, speech_seconds: float, stress: float) -> None:
        """Learns from a window.

        Args:
            log_odds: calibrated log-odds, without any shift.
            speech_seconds: speech in the window's hop.
            stress: value of the `StressFilter` after this window.
        """
        if stress >= LEARN_BELOW:
            return
        weight = speech_seconds * (1.0 - stress)
        self.heard_seconds = min(self.heard_seconds + weight, MEMORY_SECONDS)
        counted = min(max(log_odds, self.anchor - COUNTED_BELOW), self.anchor + COUNTED_ABOVE)
        value = self.value + weight / (PRIOR_SECONDS + self.heard_seconds) * (counted - self.value)
        self.value = min(max(value, self.anchor - MOST_DOWN), self.anchor + MOST_UP)

    def to_dict(self) -> dict[str, Any]:
        """Returns the state as plain values; `from_dict` reads them."""
        return {
            "anchor": self.anchor,
            "value": self.value,
            "heard_seconds": self.heard_seconds,
            "declared": self.declared,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Baseline:
        """Returns the baseline of a state.

        Raises:
            ValueError: a value is missing, is not a number, or lies outside the bounds of learning.
        """
        baseline = cls()
        try:
            baseline.anchor, baseline.value = float(values["anchor"]), float(values["value"])
            baseline.heard_seconds = float(values["heard_seconds"])
            declared = values["declared"]
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"a value is missing or is not a number ({error})") from None
        if not isinstance(declared, bool):
            raise ValueError("declared is not true or false")
        baseline.declared = declared
        around = MOST_DECLARED if declared else 0.0
        slack = 1e-9  # of additions
        if not (
            math.isfinite(baseline.value)
            and abs(baseline.anchor - POPULATION) <= around + slack
            and -MOST_DOWN - slack <= baseline.value - baseline.anchor <= MOST_UP + slack
            and 0.0 <= baseline.heard_seconds <= MEMORY_SECONDS
        ):
            raise ValueError("a value lies outside the bounds of learning")
        return baseline
