"""Whether stress rises with intensity: the same emotion acted more strongly must not sound calmer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.evaluate.score_table import Mask, ScoreTable


@dataclass(frozen=True, slots=True)
class Rise:
    """Mean calibrated stress, 0..1, at either intensity.

    Attributes:
        emotion: its name, or `all` for the mean over emotions that have both intensities.
        normal: of clips acted with normal intensity.
        strong: of clips acted strongly.
        speakers: share of the speakers whose own mean rises, 0..1.
    """

    emotion: str
    normal: float
    strong: float
    speakers: float

    @property
    def passed(self) -> bool:
        """Whether it rises."""
        return self.strong > self.normal


def ordinal(columns: ScoreTable, inside: Mask) -> Sequence[Rise]:
    """All emotions together, then each; empty when the corpus has no two intensities."""
    normal, strong = (inside & (columns.intensity == name) for name in ("normal", "strong"))
    both = [place for place in range(len(EMOTIONS)) if _of(columns, normal, place) and _of(columns, strong, place)]
    if not both:
        return []
    rises = [_rise(EMOTIONS[place], columns, normal, strong, columns.emotion == place) for place in both]
    # An emotion that is acted at one intensity only (neutral) would tip the balance.
    return [_rise("all", columns, normal, strong, np.isin(columns.emotion, both)), *rises]


def _rise(emotion: str, columns: ScoreTable, normal: Mask, strong: Mask, chosen: Mask) -> Rise:
    stress = columns.probability
    speakers = [columns.speaker == name for name in np.unique(columns.speaker[chosen & (normal | strong)])]
    rising = [
        float(stress[chosen & strong & own].mean() > stress[chosen & normal & own].mean())
        for own in speakers
        if (chosen & strong & own).any() and (chosen & normal & own).any()
    ]
    return Rise(
        emotion,
        normal=float(stress[chosen & normal].mean()),
        strong=float(stress[chosen & strong].mean()),
        speakers=float(np.mean(rising)) if rising else float("nan"),
    )


def _of(columns: ScoreTable, mask: Mask, place: int) -> bool:
    return bool((columns.emotion[mask] == place).any())
