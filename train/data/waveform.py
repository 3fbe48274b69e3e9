"""Twins: copies of clips augmented as audio, by recorded noise, measured rooms, codecs, clipping, pitch and tempo.

The augmentations are those of audiomentations and of libsndfile's codecs. They cost some 20 ms a clip, thirty times
the cost of augment.py. So each clip has a few twins with stored features, and training draws among them before the
augmentation of augment.py; the recipe sets a share of clips that get a new twin instead. A twin is never an utterance
of the table: it belongs to its clip, and so to its clip's fold.
"""

from __future__ import annotations

import hashlib
import io
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import TrainingError, UsageError, need_package
from edge_sser.pipeline.features import FEATURES, log_mel
from edge_sser.train.corpora.corpus import audio_files
from edge_sser.train.corpora.table import AUDIO_SUFFIXES, Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.features import FeatureStore
from edge_sser.train.data.settings import Twins


def recordings(folder: Path) -> list[Path]:
    """Returns the audio files below a folder, sorted by name.

    Raises:
        TrainingError: the folder has none.
    """
    found = sorted(audio_files(folder))
    if not found:
        raise TrainingError(
            f"{folder}: no recording in it: give a folder with {', '.join(sorted(AUDIO_SUFFIXES))} files"
        )
    return found


def folder_key(folder: Path | None) -> str:
    """Returns a hash of the recordings in a folder; empty for None."""
    if folder is None:
        return ""
    key = hashlib.sha256()
    for path in recordings(folder):
        key.update(hashlib.sha256(path.read_bytes()).digest())
    return key.hexdigest()


def noise_bank(folder: Path) -> Tensor:
    """Returns mel band powers of all recordings of a folder in a row: float32 [frames, bands], mean 1 in each.

    Frames of digital silence are left out.

    Raises:
        TrainingError: the folder has no recording, or all together are shorter than a window.
        SourceError: a recording cannot be read.
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


Sound = NDArray[np.float32]
# Codecs of telephones and messengers: container, coding, sample rate.
CODECS = (("WAV", "ULAW", 8_000), ("WAV", "ALAW", 8_000), ("WAV", "GSM610", 8_000), ("MP3", "MPEG_LAYER_III", 16_000))
_FLOOR = 10.0 ** (-80.0 / 20.0)  # of full scale: no microphone is quieter


@dataclass(frozen=True, slots=True)
class RecordingFolders:
    """Folders of recorded noise and of room impulse responses; None where there is none."""

    noise: Path | None = None
    rooms: Path | None = None


class WaveformAugmenter:
    """Makes twins; the same clip, number and settings give the same twin."""

    def __init__(self, settings: Twins, folders: RecordingFolders) -> None:
        """Sets up the augmentations.

        Args:
            settings: of the recipe.
            folders: of recorded noise and of impulse responses.

        Raises:
            MissingComponentError: audiomentations is not installed.
            UsageError: the settings need a folder that is not given.
            TrainingError: a folder holds no recording.
        """
        need_package("audiomentations", "augment", "A recipe with [twins]")
        import audiomentations as library

        for name, share, folder in (("noise", settings.noise, folders.noise), ("room", settings.room, folders.rooms)):
            if share and folder is None:
                option = "--noise" if name == "noise" else "--rooms"
                raise UsageError(f"the recipe has twins.{name}: give {option} FOLDER of recordings, or set it to 0")
        semitones, stretch, shift = settings.pitch_semitones, settings.stretch_by, settings.shift_s
        steps: list[Callable[..., Sound]] = [
            library.PitchShift(min_semitones=-semitones, max_semitones=semitones, p=settings.pitch),
            library.TimeStretch(
                min_rate=1 - stretch, max_rate=1 + stretch, leave_length_unchanged=False, p=settings.stretch
            ),
            library.Shift(min_shift=-shift, max_shift=shift, shift_unit="seconds", rollover=True, p=settings.shift),
        ]
        if settings.room and folders.rooms is not None:
            steps.append(library.ApplyImpulseResponse(recordings(folders.rooms), p=settings.room))
        if settings.noise and folders.noise is not None:
            low, high = settings.noise_snr_db
            noises = recordings(folders.noise)
            steps.append(library.AddBackgroundNoise(noises, min_snr_db=low, max_snr_db=high, p=settings.noise))
        steps.append(
            library.ClippingDistortion(max_percentile_threshold=settings.clipping_percent, p=settings.clipping)
        )
        self._steps = steps
        self._settings = settings
        kept = settings.model_dump_json(exclude={"fresh"})
        self.key = f"{kept} {folder_key(folders.noise)} {folder_key(folders.rooms)}"
        """Settings and hashes of the recordings, as the key of stored twins."""

    def __call__(self, samples: Sound, clip: Utterance, number: int) -> Sound:
        """Returns a twin of a clip.

        Args:
            samples: float32 [n], 16 kHz.
            clip: of the samples.
            number: of the twin, at least 0.

        Returns:
            float32 [n], longer or shorter after a stretch; digital silence becomes a faint hiss.
        """
        with seeded_random(f"{clip.sha256} {number}") as generator, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # audiomentations warns of resampled files and of silence
            for step in self._steps:
                samples = step(samples=samples, sample_rate=SAMPLE_RATE)
            if generator.random() < self._settings.codec:
                samples = apply_codec(samples, *CODECS[generator.integers(len(CODECS))])
            hiss = _FLOOR * generator.standard_normal(samples.size)
        return (samples + hiss).astype(np.float32)

    def features(self, clip: Utterance, number: int) -> NDArray[np.float32]:
        """Returns the features of a new twin of a recording: float32 [frames, bands], dB.

        Args:
            clip: of the recording.
            number: of the twin.

        Raises:
            SourceError: the recording cannot be read.
        """
        return log_mel(self(read_audio(clip.path), clip, number))


def twin_stores(
    utterances: Sequence[Utterance],
    augmenter: WaveformAugmenter,
    count: int,
    cache: Path,
    progress: Callable[[Utterance], None] = lambda utterance: None,
) -> list[FeatureStore]:
    """Opens the features of each set of twins; computes sets that are not in the cache yet.

    Args:
        utterances: all of a table.
        augmenter: makes the twins.
        count: number of sets.
        cache: folder of the features.
        progress: called after each utterance that is computed.

    Raises:
        As FeatureStore.
    """

    def store(number: int) -> FeatureStore:
        def transform(samples: Sound, clip: Utterance) -> Sound:
            return augmenter(samples, clip, number)

        return FeatureStore(utterances, cache, progress, kind=f"twin {number} {augmenter.key}", transform=transform)

    return [store(number) for number in range(1, count + 1)]


def apply_codec(samples: Sound, container: str, coding: str, rate: int) -> Sound:
    """Encodes and decodes samples with a codec of libsndfile: float32 [n] in and out."""
    file = io.BytesIO()
    loudest = max(1.0, float(np.abs(samples).max(initial=0.0)))
    sent = soxr.resample(samples / np.float32(loudest), SAMPLE_RATE, rate)
    soundfile.write(file, sent, rate, format=container, subtype=coding)
    file.seek(0)
    received, _ = soundfile.read(file, dtype="float32")
    out = np.zeros_like(samples)
    back = soxr.resample(received, rate, SAMPLE_RATE)[: samples.size]
    out[: back.size] = back * np.float32(loudest)
    return out


@contextmanager
def seeded_random(name: str) -> Iterator[np.random.Generator]:
    """Seeds the global generators and a new one with a name, and restores the global ones afterwards."""
    seed = np.random.SeedSequence(list(name.encode()))
    states = random.getstate(), np.random.get_state()
    random.seed(name)
    np.random.seed(seed.generate_state(4))
    try:
        yield np.random.default_rng(seed)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
