"""What a teacher is to those who ask it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .outputs import Outputs


class Teacher(Protocol):
    """Trained without the test speakers of a fold, and asked about the others."""

    def __call__(self, samples: NDArray[np.float32]) -> Outputs:
        """What it says of the windows of a clip, one every half second; a shorter clip is repeated to fill one.

        Args:
            samples: float32 [n], mono, 16 kHz.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Plain values that name its weights and settings: equal ones mean equal outputs."""
        ...
