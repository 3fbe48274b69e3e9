"""Log-mel features of utterances, computed once and kept on disk, and their windows for scoring."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sser.errors import TrainingError
from edge_sser.files import atomic_replace
from edge_sser.pipeline.features import FEATURES, log_mel
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio

HOP_FRAMES = 50  # between the windows of a clip whose scores are averaged; 0.5 s, as on the device


class FeatureStore:
    """Features of many utterances in one array on disk, mapped into memory.

    The features are float16: its steps are at most 0.06 dB, less than frames fluctuate.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        folder: Path,
        progress: Callable[[Utterance], None] = lambda utterance: None,
        *,
        kind: str = "",
        transform: Callable[[NDArray[np.float32], Utterance], NDArray[np.float32]] = lambda samples, utterance: samples,
    ) -> None:
        """Opens the store; computes it where these utterances and features have none yet.

        Args:
            utterances: all of a table.
            folder: of the stores; the file name is a hash of the input.
            progress: called after each utterance that is computed.
            kind: name of the transform, part of the hash; empty without one.
            transform: applied to a recording's samples first.

        Raises:
            SourceError: a recording cannot be read.
            TrainingError: the features cannot be written.
        """
        key = hashlib.sha256((repr(FEATURES) + kind).encode())
        for utterance in utterances:
            key.update(utterance.sha256.encode())
        self.key = key.hexdigest()[:16]
        """Hash of the recordings, the feature settings and the transform."""
        path = folder / f"features-{self.key}.npy"
        counts = folder / f"features-{self.key}.frames.npy"
        if not (path.exists() and counts.exists()):
            parts = []
            for utterance in utterances:
                parts.append(log_mel(transform(read_audio(utterance.path), utterance)).astype(np.float16))
                progress(utterance)
            save_array(counts, np.array([part.shape[0] for part in parts], dtype=np.int64))
            save_array(path, np.concatenate(parts))
        ends = np.cumsum(load_array(counts))
        self._frames: NDArray[np.float16] = load_array(path, mapped=True)
        self._span = {
            utterance.sha256: (int(start), int(end))
            for utterance, start, end in zip(utterances, (0, *ends[:-1]), ends, strict=True)
        }

    def __getitem__(self, utterance: Utterance) -> NDArray[np.float16]:
        """Returns the features of an utterance: float16 [frames, bands], dB."""
        start, end = self._span[utterance.sha256]
        return self._frames[start:end]


def windows(features: NDArray[np.floating]) -> NDArray[np.float32]:
    """Returns the windows of a clip, one every half second; a shorter clip is repeated to fill a window.

    Args:
        features: [frames, bands], dB.

    Returns:
        float32 [windows, FEATURES.frames, bands].
    """
    if features.shape[0] < FEATURES.frames:
        repeated = features[np.arange(FEATURES.frames) % features.shape[0]]
        return np.asarray(repeated[np.newaxis], dtype=np.float32)
    starts = range(0, features.shape[0] - FEATURES.frames + 1, HOP_FRAMES)
    return np.asarray([features[start : start + FEATURES.frames] for start in starts], dtype=np.float32)


def save_array(path: Path, array: NDArray[np.generic]) -> None:
    """Writes an array atomically.

    Raises:
        TrainingError: the disk is full or the folder cannot be written.
    """
    with atomic_replace(path, TrainingError) as temporary, temporary.open("wb") as file:
        np.save(file, array)


def load_array(path: Path, *, mapped: bool = False) -> NDArray[Any]:
    """Reads an array written by `save_array`, or maps it into memory.

    Raises:
        TrainingError: the file is damaged.
    """
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None)
    except (OSError, ValueError, EOFError) as error:
        raise TrainingError(f"{path}: damaged ({error}): remove it, and it is made again") from None
    return array
