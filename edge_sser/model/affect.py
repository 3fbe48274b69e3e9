"""Arousal and valence: the two axes of Russell's circumplex (1980), from the emotions that a model hears.

Stress is high arousal with negative valence. The axes tell happy from angry speech, which stress alone calls calm, and
sad from fearful speech. Arousal carries over to strangers better than stress does (docs/results/groups.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_sser.model.calibration import Calibration, check_calibration
from edge_sser.model.vote import Logits, check_groups, group_log_odds


@dataclass(frozen=True, slots=True, kw_only=True)
class EmotionAxis:
    """Two groups of emotions, and how likely the first of them is.

    Attributes:
        high: labels of the emotions at the upper end: aroused, or positive.
        low: labels of those at the lower end. The others are left out.
        calibration: of the log-odds that the emotion logits give.
    """

    high: tuple[str, ...]
    low: tuple[str, ...]
    calibration: Calibration

    def probability(self, emotions: Logits, labels: Sequence[str]) -> float:
        """Returns the calibrated probability of the upper end, 0..1.

        Args:
            emotions: logits of one window, [classes].
            labels: of the classes.
        """
        return self.calibration.probability(float(group_log_odds(emotions, labels, self.high, self.low)))


def check_axis(axis: EmotionAxis, labels: Sequence[str]) -> None:
    """Checks an axis.

    Raises:
        ValueError: as for `check_groups`, or the calibration is not finite.
    """
    check_groups(axis.high, axis.low, labels, "arousal or valence")
    check_calibration(axis.calibration)
