"""Folders of recordings that are mixed into training: noises, and the impulse responses of rooms."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from edge_sser.errors import TrainingError
from edge_sser.pipeline.features import FEATURES, log_mel
from edge_sser.train.corpora.entry import AUDIO_SUFFIXES
from edge_sser.train.data.audio import read_audio


def recordings(folder: Path) -> list[Path]:
    """The recordings below a folder, in order of their names.

    Raises:
        TrainingError: there is none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    if not found:
        raise TrainingError(
            f"{folder}: no recording in it: give a folder with {', '.join(sorted(AUDIO_SUFFIXES))} files"
        )
    return found


def content_key(folder: Path | None) -> str:
    """A name for what a folder holds: the same recordings give the same. Empty for no folder."""
    if folder is None:
        return ""
    key = hashlib.sha256()
    for path in recordings(folder):
        key.update(hashlib.sha256(path.read_bytes()).digest())
    return key.hexdigest()


def noise_bank(folder: Path) -> Tensor:
    """Mel band powers of all recordings of a folder, one after the other: float32 [frames, bands], mean 1 in each.

    Digital silence is left out.

    Raises:
        TrainingError: there is none, or they are shorter than a window together.
        SourceError: one cannot be read.
    """
    parts = []
    for path in recordings(folder):
        frames = log_mel(read_audio(path))
        power = 10.0 ** (torch.from_numpy(frames[frames.max(axis=1) > FEATURES.floor_db]) / 10.0)
        if power.shape[0]:
            parts.append(power / power.mean())
    bank = torch.cat(parts) if parts else torch.empty(0, FEATURES.bands)
    if bank.shape[0] <= FEATURES.frames:
        raise TrainingError(f"{folder}: its recordings are shorter than a window together: give more noise")
    return bank
