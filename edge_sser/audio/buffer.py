"""The bounded buffer between the capture callback and the reader. When full, it drops and counts the oldest audio."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
from numpy.typing import NDArray


class AudioBuffer:
    """A queue of frames from one thread to another.

    Frames are popped in order, or dropped, oldest first. Always: pushed = popped + dropped + held.
    """

    def __init__(self, capacity_frames: int) -> None:
        """Creates an empty buffer.

        Args:
            capacity_frames: largest number of frames held.
        """
        self._capacity = capacity_frames
        self._chunks: deque[NDArray[np.float32]] = deque()
        self._held = 0
        self._dropped = 0  # since the last pop
        self._changed = threading.Condition()

    def push(self, frames: NDArray[np.float32]) -> None:
        """Adds frames and returns at once. The array is kept, not copied.

        Args:
            frames: float32 [n, channels].
        """
        with self._changed:
            self._chunks.append(frames)
            self._held += frames.shape[0]
            while self._held > self._capacity:
                self._drop_oldest(self._held - self._capacity)
            self._changed.notify()

    def pop(self, timeout_seconds: float) -> tuple[int, NDArray[np.float32]] | None:
        """Removes and returns all frames held, as soon as there are some.

        Args:
            timeout_seconds: longest wait for the first frame.

        Returns:
            The number of frames dropped just before these, and the frames, float32 [n, channels]; None when none came.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._held > 0, timeout_seconds):
                return None
            frames = self._chunks[0] if len(self._chunks) == 1 else np.concatenate(self._chunks)
            dropped, self._dropped = self._dropped, 0
            self._chunks.clear()
            self._held = 0
        return dropped, frames

    def _drop_oldest(self, excess: int) -> None:
        oldest = self._chunks.popleft()
        if oldest.shape[0] > excess:
            self._chunks.appendleft(oldest[excess:])
        lost = min(excess, oldest.shape[0])
        self._held -= lost
        self._dropped += lost
