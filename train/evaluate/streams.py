"""Streams with known change points: one speaker's clips, calm and stressed in turn, over background noise."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import SourceError, TrainingError, UsageError
from edge_sser.train.corpora.corpus import audio_files
from edge_sser.train.corpora.table import AUDIO_SUFFIXES, Utterance
from edge_sser.train.data.audio import content_hash, read_audio
from edge_sser.train.data.labels import Preset
from edge_sser.train.evaluate.distortions import Samples, piece, pink_noise, speech_power, trimmed

EVENT_SECONDS = 15.0  # least length of a stressed part
CALM_SECONDS = 30.0  # least length of a calm one
LEAD_SECONDS = 3.0  # of noise alone, before and after
PAUSE_SECONDS = (0.3, 0.8)  # between clips
SPEECH_DBFS = -26.0  # level of all clips: their own levels would give the stress away
SNR_DB = 20.0


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a stream, in samples at 16 kHz."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Stream:
    """Clips of one speaker, joined, and the spans of stress.

    Attributes:
        corpus: of the clips.
        speaker: of the clips.
        clip: one of the clips, to choose the model.
        samples: float32 [n], mono, 16 kHz.
        events: the stressed parts, in order.
    """

    corpus: str
    speaker: str
    clip: Utterance
    samples: Samples
    events: Sequence[Span]


def assemble_streams(utterances: Sequence[Utterance], preset: Preset, noise: Sequence[Samples]) -> Iterator[Stream]:
    """Yields a stream of each speaker with enough stressed and calm clips.

    Args:
        utterances: of any corpora.
        preset: turns labels into stress; clips without stress label are left out.
        noise: recordings behind the speech; pink noise when there are none.

    Raises:
        SourceError: a recording cannot be read.
    """
    of_speaker: dict[tuple[str, str], list[Utterance]] = {}
    for clip in utterances:
        of_speaker.setdefault((clip.corpus, clip.speaker), []).append(clip)
    for (corpus, speaker), clips in sorted(of_speaker.items()):
        random = np.random.default_rng(zlib.crc32(f"{corpus}/{speaker}".encode()))
        kinds: tuple[list[Samples], list[Samples]] = ([], [])
        for place in random.permutation(len(clips)):
            kind = preset.decision(clips[place])
            if kind is not None:
                # Cut to the speech: the silence at a clip's ends is the studio's; pauses are added below.
                kinds[kind].append(normalise_level(trimmed(read_audio(clips[place].path))))
        parts = _parts(*kinds)
        if parts:
            samples, events = join_clips(parts, random)
            samples += background_noise(samples.size, noise, random)
            yield Stream(corpus, speaker, clips[0], samples, events)


def calm_streams(utterances: Sequence[Utterance], preset: Preset, noise: Sequence[Samples]) -> Iterator[Stream]:
    """Yields a stream of each speaker of the corpora without stressed clips: every alarm in it is false.

    Args:
        utterances: of any corpora; those with stressed clips are left out.
        preset: turns labels into stress.
        noise: as for `assemble_streams`.

    Raises:
        SourceError: a recording cannot be read.
    """
    kinds: dict[str, set[int | None]] = {}
    for clip in utterances:
        kinds.setdefault(clip.corpus, set()).add(preset.decision(clip))
    of_speaker: dict[tuple[str, str], list[Utterance]] = {}
    for clip in utterances:
        if preset.decision(clip) == 0 and 1 not in kinds[clip.corpus]:
            of_speaker.setdefault((clip.corpus, clip.speaker), []).append(clip)
    for (corpus, speaker), clips in sorted(of_speaker.items()):
        random = np.random.default_rng(zlib.crc32(f"{corpus}/{speaker}".encode()))
        samples, _ = join_clips([[normalise_level(trimmed(read_audio(clip.path))) for clip in clips]], random)
        samples += background_noise(samples.size, noise, random)
        yield Stream(corpus, speaker, clips[0], samples, [])


def _parts(calm: Sequence[Samples], stressed: Sequence[Samples]) -> list[list[Samples]]:
    """Deals clips into parts: calm, stressed, calm, ..., calm; empty when there is too little of either."""
    calm_s, stressed_s = (
        sum(samples.size / SAMPLE_RATE + PAUSE_SECONDS[0] for samples in kind) for kind in (calm, stressed)
    )
    events = int(min(stressed_s // EVENT_SECONDS, calm_s // CALM_SECONDS - 1))
    events = min(events, len(stressed), len(calm) - 1)  # clips may be longer than a part
    if events < 1:
        return []
    parts: list[list[Samples]] = [[] for _ in range(2 * events + 1)]
    for place, samples in enumerate(calm):
        parts[2 * (place * (events + 1) // len(calm))].append(samples)
    for place, samples in enumerate(stressed):
        parts[2 * (place * events // len(stressed)) + 1].append(samples)
    return parts


def join_clips(parts: Sequence[Sequence[Samples]], random: np.random.Generator) -> tuple[Samples, list[Span]]:
    """Joins the clips of calm, stressed, calm ... parts with pauses; returns the samples and the stressed spans."""
    around = np.zeros(round(LEAD_SECONDS * SAMPLE_RATE), dtype=np.float32)
    out, length = [around], around.size
    events = []
    for number, part in enumerate(parts):
        start = end = length
        for samples in part:
            pause = np.zeros(round(random.uniform(*PAUSE_SECONDS) * SAMPLE_RATE), dtype=np.float32)
            out += [samples, pause]
            end = length + samples.size
            length = end + pause.size
        if number % 2:
            events.append(Span(start, end))
    return np.concatenate([*out, around]), events


def normalise_level(samples: Samples) -> Samples:
    """Scales speech to `SPEECH_DBFS`; digital silence stays as it is."""
    gain = np.sqrt(10.0 ** (SPEECH_DBFS / 10.0) / speech_power(samples))
    return np.asarray(samples * np.float32(min(gain, 1e4)), dtype=np.float32)


def background_noise(
    count: int, noise: Sequence[Samples], random: np.random.Generator, snr_db: float = SNR_DB
) -> Samples:
    """Background noise so far below levelled speech: a piece of a recording, or pink noise."""
    sound = piece(noise, count, random) if noise else pink_noise(count, random)
    rms = float(np.sqrt(np.mean(sound.astype(np.float64) ** 2)))
    return np.asarray(sound * (10.0 ** ((SPEECH_DBFS - snr_db) / 20.0) / max(rms, 1e-9)), dtype=np.float32)


class Sound(str, Enum):
    """Use of recordings given with --sound."""

    NOISE = "noise"
    MUSIC = "music"
    COUGH = "cough"
    ROOM = "room"
    CALM = "calm"


SoundFiles = Mapping[Sound, Mapping[str, Sequence[Path]]]
"""Paths by use, then by the name of the given file or folder."""


def parse_sounds(given: Sequence[str]) -> SoundFiles:
    """Parses KIND=PATH, where PATH is a recording or a folder of recordings.

    Raises:
        UsageError: the kind is unknown.
        SourceError: there is no such file or folder, or the folder holds no recording.
    """
    out: dict[Sound, dict[str, list[Path]]] = {}
    for text in given:
        kind, equals, place = text.partition("=")
        if not equals or kind not in list(Sound):
            raise UsageError(f"--sound {text}: expected KIND=PATH with KIND {', '.join(Sound)}")
        path = Path(place)
        if path.is_dir():
            files = sorted(audio_files(path))
            if not files:
                raise SourceError(
                    f"--sound {text}: the folder holds no recording ({', '.join(sorted(AUDIO_SUFFIXES))})"
                )
        elif path.is_file():
            files = [path]
        else:
            raise SourceError(f"--sound {text}: no such file or folder")
        out.setdefault(Sound(kind), {}).setdefault(path.stem, []).extend(files)
    return out


def check_not_trained_on(sounds: SoundFiles, fitted: Sequence[Utterance]) -> None:
    """Refuses calm speech from the table of a run: the model was trained on it.

    Args:
        sounds: recordings to check.
        fitted: the table of the run.

    Raises:
        TrainingError: a recording is in the table; the message names it.
        SourceError: a recording cannot be read.
    """
    known = {utterance.sha256: utterance for utterance in fitted}
    for paths in sounds.get(Sound.CALM, {}).values():
        for path in paths:
            twin = known.get(content_hash(read_audio(path)))
            if twin is not None:
                raise TrainingError(
                    f"--sound calm: {path} is a recording of {twin.corpus} in the run's table, so the model has heard "
                    "it: leave the option out; calm speakers of the table are played to the model of their fold"
                )


def read_recordings(groups: Mapping[str, Sequence[Path]]) -> list[Samples]:
    """Reads all recordings of a kind, float32 [n] each, mono, 16 kHz.

    Raises:
        SourceError: a recording cannot be read.
    """
    return [read_audio(path) for paths in groups.values() for path in paths]
