"""Bayesian filter of stress and calm level: from the log-odds of single windows to the probability of stress now."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_sser.pipeline.calm_level import CENTRE, LEVELS, STRANGERS

WEIGHT: Final = 0.35  # of a second of speech: windows of 3 s overlap, so that their evidence is not independent
WEIGHT_OF_STRANGERS: Final = 1.0  # the same where nothing is known of the calm level, so that a window says less
CLIP: Final = 5.0  # log-odds from `CENTRE` beyond which a window says no more
STATE_SECONDS: Final = 60.0  # until a speaker's state is drawn anew
CHANGE_SECONDS: Final = 120.0  # of silence, until another person speaks next
CALM: Final = 0  # row of `SHARES`, `MEANS` and `DEVIATIONS`
STRESSED: Final = 2  # first row of the stressed states
SHARES: Final = np.array((0.8, 0.15, 0.025, 0.025))[:, None]  # of the states, float64 [states, 1]
MEANS: Final = np.stack(  # log-odds of each state by calm level, float64 [states, levels]
    (
        LEVELS,  # calm
        np.maximum(0.37 * LEVELS - 0.5, LEVELS + 0.3),  # lively: happy, sad, surprised
        np.maximum(0.3 * (LEVELS - CENTRE) - 0.1, LEVELS + 0.7),  # stressed a little
        np.maximum(0.3 * (LEVELS - CENTRE) + 1.3, LEVELS + 0.7),  # stressed
    )
)
DEVIATIONS: Final = np.array((0.72, 1.2, 1.05, 1.05))[:, None]  # of windows from these means, float64 [states, 1]
_TINY: Final = 1e-9  # distance of the probability from 0 and 1, so that its log-odds stay finite


class StressFilter:
    """Forward algorithm of a hidden Markov model over the speaker's state and the speaker's calm level together.

    A speaker is calm, lively (happy, sad, surprised) or stressed, in two strengths. Once in 60 s on average the state
    is drawn anew, of `SHARES`. A window with d seconds of speech and the calibrated log-odds z, of a speaker in state k
    whose calm level is m, has the likelihood

        N(z; MEANS[k, m], DEVIATIONS[k]^2) ^ (weight d)

    The calm levels of strangers differ by more than 1; stressed speech lies near +0.6, nearly whatever the calm level,
    and lively speech between. So speech that rises far above what was heard before is stress, for as long as it lasts.
    Speech that is high from the start becomes the calm speech of a high voice by and by, unless nearly nobody is calm
    there. The longer nobody speaks, the likelier it is another person who speaks next.

    Rabiner, "A tutorial on hidden Markov models", 1989, section III A, on a grid of levels. The constants are means and
    deviations of strangers' speech, and a few were chosen on streams of them: docs/results/decision.md.

    Attributes:
        value: probability of stress now, 0..1: `stress_rolling`. Silence returns it to `prior`.
        prior: probability of stress before any speech.
        learns: True when the calm level is learned of the speech; else each window is judged by `calm` alone.
    """

    prior: Final = float(SHARES[STRESSED:].sum())

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
        self._joint = SHARES.copy()
        self.value = self.prior
        self.assume(calm, usual, learns=learns)

    @property
    def calm(self) -> NDArray[np.float64]:
        """Probabilities of the speaker's calm level after what was heard: float64 [levels]."""
        return np.asarray(self._joint.sum(axis=0))

    def assume(self, calm: NDArray[np.float64], usual: NDArray[np.float64], *, learns: bool) -> None:
        """Replaces what is known of the speaker's calm level; the probability of stress stays."""
        self._calm, self._usual, self.learns = calm, usual, learns
        self._weight = WEIGHT_OF_STRANGERS if calm is STRANGERS and not learns else WEIGHT
        self._joint = self._joint.sum(axis=1, keepdims=True) * calm

    def pass_time(self, seconds: float, *, silent: bool) -> None:
        """Lets time pass: the value moves towards the prior. Two times after each other equal their sum.

        Args:
            seconds: since the last call, 0 or more.
            silent: True when nobody spoke, so that another person may speak next.
        """
        moved = -math.expm1(-seconds / STATE_SECONDS)
        joint = self._joint + moved * (SHARES * self._joint.sum(axis=0) - self._joint)
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
        weight = self._weight * speech_seconds
        log = -weight * (0.5 * np.square((heard - MEANS) / DEVIATIONS) + _LOG_DEVIATIONS)
        joint = self._joint * np.exp(log - log.max())
        self._joint = joint / joint.sum()
        if not self.learns:
            self._joint = self._joint.sum(axis=1, keepdims=True) * self._calm
        return self._read()

    def _read(self) -> float:
        self.value = min(max(float(self._joint[STRESSED:].sum()), _TINY), 1.0 - _TINY)
        return self.value


_LOG_DEVIATIONS: Final = np.log(DEVIATIONS)
