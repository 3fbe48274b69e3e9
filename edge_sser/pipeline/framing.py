"""Cuts a stream into frames of one length, however the stream arrives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Framer:
    """Successive frames without overlap. Samples that do not fill a frame wait for the next ones."""

    def __init__(self, frame_samples: int) -> None:
        self._frame_samples = frame_samples
        self._waiting = np.empty(0, dtype=np.float32)

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the frames completed by `samples`.

        Args:
            samples: float32 [n], any n.

        Returns:
            float32 [k, frame_samples], k may be 0.
        """
        joined = np.concatenate((self._waiting, samples)) if self._waiting.size else samples
        whole = joined.size - joined.size % self._frame_samples
        self._waiting = joined[whole:].copy()  # a copy: a view would keep a whole block of the source alive
        return joined[:whole].reshape(-1, self._frame_samples)
