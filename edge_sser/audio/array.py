"""Samples of other Python programs, checked and made frames."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sser.errors import AudioInputError, short

MAX_CHANNELS: Final = 64
MAX_AMPLITUDE: Final = 8.0  # of floats: 18 dB over full scale; beyond it they are integers that nobody divided


def as_frames(samples: ArrayLike) -> NDArray[np.float32]:
    """Returns samples as float32 [n, channels].

    Raises:
        AudioInputError: they are not audio.
    """
    try:
        values = np.asarray(samples)
    except (ValueError, TypeError) as error:
        raise AudioInputError(
            f"samples cannot be made an array ({short(error)}): pass numpy float32 or int16"
        ) from None
    frames: NDArray[np.float32]
    if values.dtype == np.int16:
        frames = values.astype(np.float32) / np.float32(32_768.0)
    elif values.dtype in (np.float32, np.float64) or not values.size:
        with np.errstate(over="ignore"):  # beyond float32 is infinite, which is refused below
            frames = values.astype(np.float32, copy=False)
    else:
        raise AudioInputError(f"samples are {values.dtype}, expected floats from -1 to 1, or int16: {_hint(values)}")
    if frames.ndim == 1:
        frames = frames[:, np.newaxis]
    if frames.ndim != 2 or not 1 <= frames.shape[1] <= MAX_CHANNELS:
        hint = "pass samples.T" if frames.ndim == 2 and frames.shape[1] else "pass one stream of audio"
        raise AudioInputError(f"samples have the shape {values.shape}, expected [n] or [n, channels]: {hint}")
    if not np.isfinite(frames).all():
        raise AudioInputError("samples hold NaN or infinity: replace them, for example by numpy.nan_to_num(samples)")
    if frames.size and (peak := float(np.abs(frames).max())) > MAX_AMPLITUDE:
        raise AudioInputError(
            f"float samples reach {peak:.0f}, expected -1 to 1: divide them by 32768 if they were int16"
        )
    return frames


def _hint(values: NDArray[Any]) -> str:
    if values.dtype.kind in "SV":
        return "turn bytes into samples by numpy.frombuffer(data, dtype=numpy.int16)"
    if values.dtype.kind in "iu":
        return "divide integers by their full scale, for example int32 by 2**31"
    return "convert them by samples.astype(numpy.float32)"
