"""Baseline of a source: what was learned or declared of the log-odds of its calm speech."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_sser.pipeline.calm_level import CENTRE, HIGHEST, LEVELS, POPULATION, SPREAD, STRANGERS, moments, normal
from edge_sser.pipeline.decision import CALM, DEVIATIONS, WEIGHT

MEMORY_SECONDS: Final = 300.0  # of speech, beyond which it is not counted
READY_SECONDS: Final = 30.0
DECLARED_DEVIATION: Final = 0.25  # of the calm level of the speaker whose calm speech was declared, on another day
CALM_LIMIT: Final = HIGHEST  # mean log-odds of speech that can be declared calm; stressed strangers have about 0.6


class Baseline:
    """Calm level of a source: a normal distribution over log-odds, within the levels of `calm_level`.

    While it is learned, the `StressFilter` judges calm level and stress together, and `follow` takes over what it
    found. Speech that is known to be calm has the posterior of a normal distribution with the strangers' as its prior
    (Gelman et al., "Bayesian Data Analysis", section 2.5).

    Attributes:
        value: mean of the calm level, log-odds; the population's before any speech.
        deviation: of the calm level, log-odds: how much is not known of it.
        anchor: mean of what was declared; the population's when nothing was.
        heard_seconds: speech without stress that was learned of, at most 300.
        declared: True when calm speech was declared.
    """

    def __init__(self) -> None:
        """Starts with what is known of strangers."""
        self.anchor = POPULATION
        self.value, self.deviation = moments(STRANGERS)
        self.heard_seconds = 0.0
        self.declared = False

    @property
    def calm(self) -> NDArray[np.float64]:
        """Probabilities of the calm level, the strangers' before any speech: float64 [levels]."""
        known = self.declared or self.heard_seconds > 0.0
        return normal(self.value, self.deviation) if known else STRANGERS

    @property
    def usual(self) -> NDArray[np.float64]:
        """Probabilities of the calm level of whoever speaks next: who declared, or a stranger. float64 [levels]."""
        return normal(self.anchor, DECLARED_DEVIATION) if self.declared else STRANGERS

    @property
    def shift(self) -> float:
        """Log-odds by which calm speech of this source lies above the population's."""
        return self.value - POPULATION

    @property
    def ready(self) -> bool:
        """True when enough calm speech was heard or some was declared."""
        return self.declared or self.heard_seconds >= READY_SECONDS

    def declare(self, log_odds: Sequence[float], speech_seconds: Sequence[float]) -> None:
        """Replaces what was learned by speech that is known to be calm.

        Args:
            log_odds: calibrated log-odds of each scored window.
            speech_seconds: speech in the hop of each of these windows.

        Raises:
            ValueError: there is no speech.
        """
        weight = sum(speech_seconds)
        if not weight > 0.0:
            raise ValueError("there is no speech to learn a baseline from")
        mean = sum(one * seconds for one, seconds in zip(log_odds, speech_seconds, strict=True)) / weight
        prior, evidence = 1.0 / SPREAD**2, WEIGHT * weight / float(DEVIATIONS[CALM, 0]) ** 2
        posterior = normal((prior * CENTRE + evidence * mean) / (prior + evidence), (prior + evidence) ** -0.5)
        self.value, self.deviation = moments(posterior)
        self.anchor = self.value
        self.heard_seconds = min(weight, MEMORY_SECONDS)
        self.declared = True

    def follow(self, calm: NDArray[np.float64], speech_seconds: float, stress: float) -> None:
        """Takes over what the filter found after a window.

        Args:
            calm: probabilities of the calm level, float64 [levels].
            speech_seconds: speech in the window's hop.
            stress: value of the `StressFilter` after this window.
        """
        self.heard_seconds = min(self.heard_seconds + speech_seconds * (1.0 - stress), MEMORY_SECONDS)
        self.value, self.deviation = moments(calm)

    def to_dict(self) -> dict[str, Any]:
        """Returns the state as plain values; `from_dict` reads them."""
        return {
            "anchor": self.anchor,
            "value": self.value,
            "deviation": self.deviation,
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
            baseline.deviation = float(values["deviation"])
            baseline.heard_seconds = float(values["heard_seconds"])
            declared = values["declared"]
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"a value is missing or is not a number ({error})") from None
        if not isinstance(declared, bool):
            raise ValueError("declared is not true or false")
        baseline.declared = declared
        lowest, highest = float(LEVELS[0]), float(LEVELS[-1])
        if not (
            all(lowest <= level <= highest for level in (baseline.anchor, baseline.value))
            and 0.0 <= baseline.deviation <= highest - lowest
            and 0.0 <= baseline.heard_seconds <= MEMORY_SECONDS
            and (declared or math.isclose(baseline.anchor, POPULATION))
        ):
            raise ValueError("a value lies outside the bounds of learning")
        return baseline
