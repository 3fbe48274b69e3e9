"""Calibration of a logit: from the number that a network gives to a probability."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Converts a logit to a probability: sigmoid(logit / temperature + bias)."""

    temperature: float
    bias: float

    def log_odds(self, logit: float) -> float:
        """Returns the calibrated log-odds."""
        return logit / self.temperature + self.bias

    def probability(self, logit: float) -> float:
        """Returns the calibrated probability, 0..1."""
        return sigmoid(self.log_odds(logit))


def check_calibration(calibration: Calibration) -> None:
    """Checks a calibration.

    Raises:
        ValueError: the temperature is not positive, or a value is not finite.
    """
    if not (0 < calibration.temperature < math.inf and math.isfinite(calibration.bias)):
        raise ValueError("calibration is not a positive temperature and a finite bias")


def sigmoid(log_odds: float) -> float:
    """Converts log-odds to a probability, 0..1, without overflow."""
    return 1.0 / (1.0 + math.exp(-log_odds)) if log_odds >= 0 else math.exp(log_odds) / (1.0 + math.exp(log_odds))
