"""Pitch of a recording, simply: the autocorrelation of its frames, corrected for the window's own (Boersma, 1993)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE

FRAME_SAMPLES = 960  # 60 ms: three periods of the lowest pitch
HOP_SAMPLES = 320  # 20 ms
LOWEST_HZ, HIGHEST_HZ = 60.0, 600.0
VOICED = 0.5  # least autocorrelation of a voiced frame
RANGE_DB = 30.0  # a frame this far below the loudest one has no pitch
_OCTAVE_COST = 0.05  # what a halved pitch must be better by: multiples of a period correlate as well as the period


def pitch_hz(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Pitch of the voiced frames.

    Args:
        samples: float32 [n], mono, 16 kHz.

    Returns:
        Hz, float64 [voiced frames]; empty for a recording without a voice, or shorter than 60 ms.
    """
    if samples.size < FRAME_SAMPLES:
        return np.empty(0)
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), FRAME_SAMPLES)[::HOP_SAMPLES]
    power = frames.var(axis=1)
    frames = frames[power > max(float(power.max()), 1e-12) * 10.0 ** (-RANGE_DB / 10.0)]
    window = np.hanning(FRAME_SAMPLES)
    correlation = _autocorrelation((frames - frames.mean(axis=1, keepdims=True)) * window) / _autocorrelation(window)
    first, last = int(SAMPLE_RATE / HIGHEST_HZ), int(SAMPLE_RATE / LOWEST_HZ)
    before, here, after = (correlation[:, first + step : last + 1 + step] for step in (-1, 0, 1))
    peaks = (here >= before) & (here >= after)
    # A parabola through three lags: at 450 Hz a whole lag is 6 Hz, and the true peak lies between two.
    bend = np.where(peaks, np.maximum(2.0 * here - before - after, 1e-9), 1.0)
    offset = np.where(peaks, 0.5 * (after - before) / bend, 0.0)
    height = np.where(peaks, here + 0.25 * (after - before) * offset, -1.0)
    lags = np.arange(first, last + 1)
    row = np.arange(len(height))
    best = (height - _OCTAVE_COST * np.log2(lags / first)).argmax(axis=1)
    voiced = height[row, best] >= VOICED
    return np.asarray(SAMPLE_RATE / (lags[best] + offset[row, best])[voiced], dtype=np.float64)


def _autocorrelation(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each frame, 1 at lag 0: [..., lags]."""
    spectrum = np.abs(np.fft.rfft(frames, 2 * FRAME_SAMPLES)) ** 2
    lags = np.fft.irfft(spectrum)[..., : FRAME_SAMPLES // 2]
    return np.asarray(lags / np.maximum(lags[..., :1], 1e-20))
