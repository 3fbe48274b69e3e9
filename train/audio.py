"""Whole recordings for training, read through the device's own sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from edge_sser.audio.block import SAMPLE_RATE
from edge_sser.errors import SourceError


def read_audio(path: Path | str) -> NDArray[np.float32]:
    """A whole recording.

    Returns:
        float32 [n], mono (channels averaged), 16 kHz.

    Raises:
        SourceError: the file is missing, is not audio, or holds NaN or infinite samples.
    """
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise SourceError(f"{path}: cannot be read as audio ({error}): check the file") from None
    mono = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
    if not np.isfinite(mono).all():
        raise SourceError(f"{path}: holds samples that are not numbers: convert it again")
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    return np.ascontiguousarray(mono, dtype=np.float32)
