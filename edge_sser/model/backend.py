"""The interface between a model and its backends."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Logits = tuple[NDArray[np.float32], NDArray[np.float32]]


class Backend(Protocol):
    """A loaded graph.

    Attributes:
        provider: name of the backend, as status events carry it.
    """

    provider: str

    def run(self, log_mel: NDArray[np.float32], *, limit_seconds: float | None = None) -> Logits:
        """Computes a batch.

        Args:
            log_mel: float32 [batch, frames, bands].
            limit_seconds: timeout, where the graph could loop for ever.

        Returns:
            stress logits float32 [batch] and emotion logits float32 [batch, classes].

        Raises:
            Exception: of several unrelated classes, when the backend fails.
        """

    def close(self) -> None:
        """Releases memory and handles. The backend must not be run afterwards."""
