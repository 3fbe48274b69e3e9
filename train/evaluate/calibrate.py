"""From raw logits to probabilities that mean what they say: temperature and bias (Platt, 1999; Guo et al., 2017)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_sser.model.model import Calibration

Array = NDArray[np.float64]

_SLOPES = (0.1, 10.0)  # 1 / temperature; the models here lie at 1 to 2
_BIASES = (-10.0, 10.0)


def logit(probability: Array) -> Array:
    """Inverse of the logistic function; probabilities are kept 1e-6 away from 0 and 1."""
    kept = probability.clip(1e-6, 1.0 - 1e-6)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def calibrated(logits: Array, calibration: Calibration) -> Array:
    """Probabilities, 0..1, of many logits at once: what `Calibration.probability` gives for each."""
    return np.asarray(1.0 / (1.0 + np.exp(-(logits / calibration.temperature + calibration.bias))))


def fit_calibration(logits: Array, labels: Array, weights: Array) -> Calibration:
    """The temperature and bias of the greatest likelihood.

    Where that lies at infinity, as when the logits part a few clips without a fault, or where they rank them the wrong
    way round, it is the greatest within `_SLOPES` and `_BIASES`.

    Args:
        logits: float64 [n].
        labels: float64 [n], 0 or 1.
        weights: float64 [n], of each clip in the likelihood.
    """
    from scipy.optimize import minimize

    def negative_log_likelihood(parameters: Array) -> float:
        z = logits * np.exp(parameters[0]) + parameters[1]
        return float(np.average(np.logaddexp(0.0, z) - labels * z, weights=weights))

    found = minimize(negative_log_likelihood, np.zeros(2), method="BFGS").x
    bounds = [tuple(math.log(slope) for slope in _SLOPES), _BIASES]
    if any(not low <= value <= high for value, (low, high) in zip(found, bounds, strict=True)):
        found = minimize(negative_log_likelihood, np.zeros(2), method="L-BFGS-B", bounds=bounds).x
    return Calibration(temperature=float(np.exp(-found[0])), bias=float(found[1]))
