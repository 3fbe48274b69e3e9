"""Reads recordings for training, whole or the part that a table names."""

from __future__ import annotations

import hashlib
import re
from contextlib import closing
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from edge_sser.audio.channels import ChannelWatch
from edge_sser.audio.recording import Recording
from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import SourceError, short

_PART = re.compile(r"(?P<path>.+)#t=(?P<start>[0-9.]+),(?P<end>[0-9.]+)")
_BLOCK_FRAMES = 1 << 20
_ALL_FRAMES = 1 << 62
_LFS = b"version https://git-lfs"


def read_audio(path: Path | str) -> NDArray[np.float32]:
    """Reads a recording; `#t=1.500,4.250` behind its path selects that part of it, in seconds.

    Returns:
        float32 [n], mono (channels averaged, or the loudest where they cancel), 16 kHz.

    Raises:
        SourceError: the file is missing, is not audio, is truncated, ends before the part does, or holds NaN or
            infinite samples.
    """
    file, start, end = split_part(path)
    with closing(_open(file)) as recording:
        rate = recording.rate_hz
        if end is None:
            samples = _read(recording, None)
        else:
            first, last = round(start * rate), round(end * rate)
            recording.skip(first)
            samples = _read(recording, last - first)
            if recording.position < last:
                raise SourceError(f"{path}: the recording ends at {recording.position / rate:.2f} s: check its end")
    watch = ChannelWatch()
    if samples.shape[1] > 1:
        watch.push(samples)
    channel = watch.instead_of_mean()
    mono = samples.mean(axis=1) if channel is None else samples[:, channel]
    if not np.isfinite(mono).all():
        raise SourceError(f"{path}: holds samples that are not numbers: convert it again")
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    return np.ascontiguousarray(mono, dtype=np.float32)


def content_hash(samples: NDArray[np.float32]) -> str:
    """Returns the SHA-256 of samples as 16-bit PCM; a copy in another lossless container has the same."""
    return hashlib.sha256(as_pcm(samples).tobytes()).hexdigest()


def as_pcm(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Converts samples of -1 to 1 to 16-bit integers, little-endian."""
    return np.asarray((samples.clip(-1.0, 1.0) * 32767.0).round(), dtype="<i2")


def duration_s(path: Path | str) -> float:
    """Returns the duration of a recording, or of the part of it, in seconds; from the header where that says it.

    Raises:
        SourceError: the file is missing or is not audio.
    """
    file, start, end = split_part(path)
    if end is not None:
        return end - start
    with closing(_open(file)) as recording:
        if recording.frames is None:
            recording.skip(_ALL_FRAMES)
        return (recording.frames or recording.position) / recording.rate_hz


def split_part(path: Path | str) -> tuple[str, float, float | None]:
    """Splits a table's path into file, start and end in seconds; end None: the whole file."""
    match = _PART.fullmatch(str(path))
    if match is None or Path(path).exists():
        return str(path), 0.0, None
    return match["path"], float(match["start"]), float(match["end"])


def _open(file: str) -> Recording:
    try:
        with open(file, "rb") as opened:
            is_pointer = opened.read(len(_LFS)) == _LFS
        if not is_pointer:
            return Recording(Path(file))
    except (OSError, SourceError) as error:
        raise SourceError(f"{file}: cannot be read as audio ({short(error)}): check the file") from None
    raise SourceError(f"{file}: is a pointer of Git LFS, not audio: run git lfs pull in the clone")


def _read(recording: Recording, count: int | None) -> NDArray[np.float32]:
    blocks = []
    left = _ALL_FRAMES if count is None else count
    while left > 0 and (frames := recording.read(min(left, _BLOCK_FRAMES))).shape[0]:
        blocks.append(frames)
        left -= frames.shape[0]
    return np.concatenate(blocks) if blocks else np.empty((0, recording.channels), np.float32)
