"""How far a window's score can be trusted by the seconds of speech in it: a curve that a model's card may carry."""

from __future__ import annotations

import itertools
from typing import TypeAlias

import numpy as np

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.pipeline.features import FEATURES

Curve: TypeAlias = tuple[tuple[float, float], ...]
"""Points (seconds of speech, trust): 0 where scores are as good as chance, 1 where they are as good as they get."""

WINDOW_SECONDS = FEATURES.window_samples / SAMPLE_RATE
DEFAULT_LEAST_RATIO = 0.25  # of a model that does not say
LOWEST_RATIO, HIGHEST_RATIO = 0.1, 0.5  # what a curve may ask for: a few syllables at least, half the window at most
_ENOUGH_TRUST = 0.5


def check_curve(curve: Curve) -> None:
    """Refuses what is no curve of trust.

    Raises:
        ValueError: the seconds do not rise within 0..3, or trust falls, leaves 0..1, or does not end with 1.
    """
    seconds = [0.0, *(at for at, _ in curve)]
    values = [0.0, *(value for _, value in curve)]
    if not (all(one < other for one, other in itertools.pairwise(seconds)) and seconds[-1] <= WINDOW_SECONDS):
        raise ValueError(f"speech_trust: its seconds do not rise within 0..{WINDOW_SECONDS:g}")
    if not (all(one <= other for one, other in itertools.pairwise(values)) and values[-1] == 1.0):
        raise ValueError("speech_trust: its trust does not rise from 0 or more to 1")


def trust(curve: Curve | None, speech_seconds: float) -> float:
    """Trust in the score of a window, 0..1: linear between the curve's points, level outside; 1 without a curve.

    Args:
        curve: of the model.
        speech_seconds: in the window, 0..3.
    """
    if curve is None:
        return 1.0
    seconds, values = zip(*curve, strict=True)
    return float(np.interp(speech_seconds, seconds, values))


def least_speech_ratio(curve: Curve | None) -> float:
    """Share of a window that must be speech for it to be scored: where trust reaches a half, within 0.1..0.5.

    Less than the curve's first point is never enough. 0.25 without a curve.
    """
    if curve is None:
        return DEFAULT_LEAST_RATIO
    enough = next(place for place, (_, value) in enumerate(curve) if value >= _ENOUGH_TRUST)
    seconds, value = curve[enough]
    if enough:
        before, below = curve[enough - 1]
        seconds = before + (seconds - before) * (_ENOUGH_TRUST - below) / (value - below)
    return min(max(seconds / WINDOW_SECONDS, LOWEST_RATIO), HIGHEST_RATIO)
