"""Clips of real speech for tests: the demo recording, faster and higher where it is called stressed."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from edge_sser.commands.bench import demo_samples

RATE = 16_000
PART = (30, 52)  # seconds of the recording whose voice is still speech to the gate when it is faster


def speech_clip(
    random: np.random.Generator, *, speaker: int, stressed: bool, seconds: float = 3.5
) -> NDArray[np.float32]:
    """A piece of the recording, which the speech gate takes for speech.

    Args:
        random: chooses the piece.
        speaker: number; changes the speed a little.
        stressed: 1.4 times as fast.
        seconds: of the clip.
    """
    speed = (1.4 if stressed else 1.0) * (0.9 + 0.04 * speaker)
    speech = demo_samples()
    length = round(seconds * speed * RATE)
    begin = int(random.integers(PART[0] * RATE, PART[1] * RATE - length))
    return np.asarray(soxr.resample(speech[begin : begin + length], RATE * speed, RATE), dtype=np.float32)
