"""Bayesian filter of stress and calm level: from the log-odds of single windows to the probability of stress now."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_sser.pipeline.calm_level import CENTRE, DEVIATION, LEVELS, STRANGERS

STRESSED_ABOVE: Final = (1.0, 2.0, 3.0)  # log-odds of stressed speech above the speaker's calm level, equally likely
CLIP: Final = 5.0  # log-odds from `CENTRE` beyond which a window says no more
CALM_SECONDS: Final = 1200.0
STRESSED_SECONDS: Final = 60.0
CHANGE_SECONDS: Final = 120.0  # of silence, until another person speaks next
_TINY: Final = 1e-9  # distance of the probability from 0 and 1, so that its log-odds stay finite
_MEANS: Final = LEVELS + np.array((0.0, *STRESSED_ABOVE))[:, None]  # of log-odds: float64 [states, levels]


class StressFilter:
    """Forward algorithm of a hidden Markov model over the speaker's state and the speaker's calm level together.

    The states are calm, and stressed by 1, 2 or 3 log-odds. A calm speaker becomes stressed once in 1200 s on average
    and stays stressed for 60 s. The longer nobody speaks, the likelier it is another person who speaks next: once in
    120 s of silence. A window with the calibrated log-odds z and d seconds of speech, of a speaker in state k with the
    calm level m, has the likelihood

        exp(-d (z - m - above[k])^2 / (2 deviation^2)),   above = (0, 1, 2, 3)

    Speech that rises above what was heard before is stress, for as long as it lasts. Speech that is high from the start
    becomes the calm speech of a high voice by and by, unless it is higher than the calm speech of nearly all people.

    Rabiner, "A tutorial on hidden Markov models", 1989, section III A, on a grid of levels. The constants were chosen
    on streams of strangers: docs/results/decision.md has the figures.

    Attributes:
        value: probability of stress now, 0..1: `stress_rolling`. Silence returns it to `prior`.
        prior: probability of stress before any speech.
        learns: True when the calm level is learned of the speech; else each window is a new speaker's.
    """

    def __init__(
        self,
        calm: NDArray[np.float64] = STRANGERS,
        usual: NDArray[np.float64] = STRANGERS,
        *,
        learns: bool = True,
    ) -> None:
        """Starts at the prior.

        Args:
            calm: probabilities of the speaker's calm level, float64 [levels].
            usual: of another speaker's, to which silence returns.
            learns: see above.
        """
        self._rate = 1.0 / CALM_SECONDS + 1.0 / STRESSED_SECONDS
        self.prior = 1.0 / CALM_SECONDS / self._rate
        stressed = self.prior / len(STRESSED_ABOVE)
        self._states = np.array((1.0 - self.prior, *(stressed for _ in STRESSED_ABOVE)))[:, None]
        self._joint = self._states * calm
        self._calm, self._usual, self.learns = calm, usual, learns
        self.value = self.prior

    @property
    def calm(self) -> NDArray[np.float64]:
        """Probabilities of the speaker's calm level after what was heard: float64 [levels]."""
        return np.asarray(self._joint.sum(axis=0))

    def assume(self, calm: NDArray[np.float64], usual: NDArray[np.float64], *, learns: bool) -> None:
        """Replaces what is known of the speaker's calm level; the probability of stress stays."""
        self._calm, self._usual, self.learns = calm, usual, learns
        self._joint = self._joint.sum(axis=1, keepdims=True) * calm

    def pass_time(self, seconds: float, *, silent: bool) -> None:
        """Lets time pass: the value moves towards the prior. Two times after each other equal their sum.

        Args:
            seconds: since the last call, 0 or more.
            silent: True when nobody spoke, so that another person may speak next.
        """
        moved = -math.expm1(-seconds * self._rate)
        joint = self._joint + moved * (self._states * self._joint.sum(axis=0) - self._joint)
        if silent and self.learns:
            changed = -math.expm1(-seconds / CHANGE_SECONDS)
            joint += changed * (joint.sum(axis=1, keepdims=True) * self._usual - joint)
        self._joint = joint
        self._read()

    def push(self, log_odds: float, speech_seconds: float) -> float:
        """Takes in a scored window and returns the value.

        Args:
            log_odds: calibrated log-odds of stress.
            speech_seconds: speech in the window's hop: the hop times the window's share of speech.
        """
        heard = min(max(log_odds, CENTRE - CLIP), CENTRE + CLIP)
        log = np.square(heard - _MEANS) * (-0.5 * speech_seconds / DEVIATION**2)
        joint = self._joint * np.exp(log - log.max())
        self._joint = joint / joint.sum()
        if not self.learns:
            self._joint = self._joint.sum(axis=1, keepdims=True) * self._calm
        return self._read()

    def _read(self) -> float:
        self.value = min(max(float(self._joint[1:].sum()), _TINY), 1.0 - _TINY)
        return self.value
