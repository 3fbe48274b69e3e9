"""What the model asks of whatever computes it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Logits = tuple[NDArray[np.float32], NDArray[np.float32]]


class Backend(Protocol):
    """A loaded graph.

    Attributes:
        provider: what computes, as status events carry it.
    """

    provider: str

    def run(self, log_mel: NDArray[np.float32], *, limit_seconds: float | None = None) -> Logits:
        """Computes a batch.

        Args:
            log_mel: float32 [batch, frames, bands].
            limit_seconds: to give up after, where the graph could go on for ever.

        Returns:
            stress logits float32 [batch] and emotion logits float32 [batch, classes].

        Raises:
            Exception: of several unrelated classes.
        """

    def close(self) -> None:
        """Gives back what it holds; it must not be run any more."""
