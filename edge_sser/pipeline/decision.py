"""Two-state Bayesian filter: turns the log-odds of single windows into the probability of stress now."""

from __future__ import annotations

import math
from typing import Final

WEIGHT: Final = 0.5  # of a second of speech: windows of 3 s overlap, so that their evidence is not independent
MIDDLE: Final = -0.8  # log-odds at which calm and stressed speech of strangers are equally likely
CLIP: Final = 3.0  # log-odds from the middle beyond which a window says no more
CALM_SECONDS: Final = 600.0
STRESSED_SECONDS: Final = 30.0
_TINY: Final = 1e-9  # distance of the probability from 0 and 1, so that its log-odds stay finite


class StressFilter:
    """Forward algorithm of a hidden Markov model with the states calm and stressed.

    A calm speaker becomes stressed once in `calm_seconds` on average and stays stressed for `stressed_seconds`. With
    the rates a = 1 / calm_seconds and b = 1 / stressed_seconds, and the probability p of stress:

        each hop of t seconds, with or without speech:  p += (1 - exp(-t (a + b))) (prior - p),  prior = a / (a + b)
        each scored window with d seconds of speech:    logit p += weight d clip(z - middle, -clip, clip)

    z is the calibrated log-odds of the window, less the shift of the baseline. Rabiner, "A tutorial on hidden Markov
    models", 1989, section III A. The first line is the exact transition of the two-state chain in continuous time. The
    constants were chosen on streams of strangers: docs/results has the figures.

    Attributes:
        value: probability of stress now, 0..1: `stress_rolling`. Silence returns it to `prior`.
        prior: probability of stress before any speech.
    """

    def __init__(
        self,
        *,
        weight: float = WEIGHT,
        middle: float = MIDDLE,
        calm_seconds: float = CALM_SECONDS,
        stressed_seconds: float = STRESSED_SECONDS,
        clip: float = CLIP,
    ) -> None:
        """Starts at the prior.

        Args:
            weight: evidence of a second of speech, log-odds for each log-odds of a window.
            middle: log-odds of a window that says nothing.
            calm_seconds: mean length of calm.
            stressed_seconds: mean length of stress.
            clip: greatest distance from the middle that counts, log-odds.
        """
        self._weight, self._middle, self._clip = weight, middle, clip
        self._rate = 1.0 / calm_seconds + 1.0 / stressed_seconds
        self.prior = 1.0 / calm_seconds / self._rate
        self.value = self.prior

    def pass_time(self, seconds: float) -> None:
        """Lets time pass: the value moves towards the prior. Two times after each other equal their sum.

        Args:
            seconds: since the last call, 0 or more.
        """
        self.value -= math.expm1(-seconds * self._rate) * (self.prior - self.value)

    def push(self, log_odds: float, speech_seconds: float) -> float:
        """Takes in a scored window and returns the value.

        Args:
            log_odds: calibrated log-odds of stress, less the baseline's shift.
            speech_seconds: speech in the window's hop: the hop times the window's share of speech.
        """
        evidence = min(max(log_odds - self._middle, -self._clip), self._clip)
        odds = math.log(self.value / (1.0 - self.value)) + self._weight * speech_seconds * evidence
        self.value = min(max(1.0 / (1.0 + math.exp(-odds)), _TINY), 1.0 - _TINY)
        return self.value
