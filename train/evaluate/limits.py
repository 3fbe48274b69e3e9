"""Figures with the limits beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum


class Sense(str, Enum):
    """On which side of its limit a figure should be."""

    AT_LEAST = "at least"
    AT_MOST = "at most"


@dataclass(frozen=True, slots=True)
class Check:
    """A figure and its limit.

    Attributes:
        name: what was measured.
        value: NaN when it could not be.
        sense: on which side it should be.
        limit: in the unit of the value.
    """

    name: str
    value: float
    sense: Sense
    limit: float

    @property
    def passed(self) -> bool | None:
        """Whether the figure keeps its limit; None when it could not be measured."""
        if math.isnan(self.value):
            return None
        if self.sense is Sense.AT_LEAST:
            return self.value >= self.limit
        return self.value <= self.limit


# Limits that are the same wherever they apply; those of a distortion stand beside it.
UAR_GAP = 0.075
RECALL_GAP = 0.175
PRECISION_GAP = 0.075
