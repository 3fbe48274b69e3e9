"""Synthetic voices for tests: harmonics in syllables, over faint noise."""

from __future__ import annotations

import numpy as np

RATE = 16_000


def voice(*, pitch_hz: float, syllables_hz: float, seconds: float, seed: int) -> np.ndarray:
    """A buzz with formant-like tilt, in syllables, over faint noise; float32, RMS 0.05."""
    random = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * pitch_hz * n * time + random.uniform(0, 6)) / n for n in range(1, 20))
    sound = tone * np.clip(np.sin(np.pi * syllables_hz * time), 0, None) + 0.02 * random.standard_normal(time.size)
    return (0.05 * sound / np.sqrt(np.mean(sound**2))).astype(np.float32)
