"""Channels of a source, looked at before they are averaged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Power of the mean by the mean power of the channels: 1 for equal channels, 1/2 for two that are unrelated, 0 for two
# of opposite polarity.
CANCELLED_RATIO = 0.1


class ChannelWatch:
    """Sums of the power of each channel and of their mean, without offsets."""

    def __init__(self) -> None:
        """Starts with no frames."""
        self._frames = 0
        self._sums = self._squares = np.zeros(0)
        self._mean_squares = 0.0

    def push(self, frames: NDArray[np.float32]) -> None:
        """Adds frames, float32 [n, channels]; samples that are not numbers count as 0."""
        values = np.nan_to_num(frames.astype(np.float64), posinf=0.0, neginf=0.0)
        if not self._frames:
            self._sums = self._squares = np.zeros(values.shape[1])
        self._frames += values.shape[0]
        with np.errstate(over="ignore", invalid="ignore"):
            self._sums = self._sums + values.sum(axis=0)
            self._squares = self._squares + (values**2).sum(axis=0)
            self._mean_squares += float((values.mean(axis=1) ** 2).sum())

    def instead_of_mean(self) -> int | None:
        """Returns the loudest channel where the mean cancels the channels; None where the mean can be heard."""
        if not self._frames:
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            offsets = self._sums / self._frames
            powers = self._squares / self._frames - offsets**2
            power_of_mean = self._mean_squares / self._frames - float(offsets.mean()) ** 2
        if not np.isfinite(powers).all() or powers.max() <= 0.0 or powers.size < 2:
            return None
        # Powers of the two loudest: further channels that are silent do not hide that these cancel.
        limit = CANCELLED_RATIO * float(np.sort(powers)[-2:].sum()) * 2 / powers.size**2
        return int(powers.argmax()) if power_of_mean < limit else None
