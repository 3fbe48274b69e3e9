"""Streams of strangers for the operating points: calm, stressed and calm speech; calm alone; lively speech alone."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import SourceError
from edge_sser.pipeline.level import dbfs
from edge_sser.train.corpora.corpus import audio_files
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.labels import Emotion, Preset
from edge_sser.train.evaluate.distortions import Samples, speech_power, trimmed
from edge_sser.train.evaluate.streams import PAUSE_SECONDS, Span, background_noise, join_clips, normalise_level

BEFORE_SECONDS = 60.0  # least length of the calm part in front of a stressed one
STRESSED_SECONDS = 30.0  # length of a stressed part, to a clip
LEAST_STRESSED_SECONDS = 28.5  # of a speaker's last one
AFTER_SECONDS = 40.0  # least length of the calm part behind it
SNR_DB = 25.0
MOST_EVENTS = 4  # streams of one speaker with a stressed part
LEAST_CALM_SECONDS = 20.0  # of different calm clips for a stream with a stressed part
LEAST_ALONE_SECONDS = 8.0  # of calm clips for a stream without one
LEAST_LIVELY_CLIPS = 4
FOLDER_SECONDS = 300.0  # length of a stream of a folder's recordings
LEAST_PROMPT_SECONDS, LEAST_PROMPT_DBFS = 0.5, -55.0  # of a recording of a folder; shorter or fainter ones are left out
_PAUSE = sum(PAUSE_SECONDS) / 2.0
_CALM = frozenset({"", Emotion.NEUTRAL.value, Emotion.CALM.value})  # "": calm by its stress label alone

SETTINGS = {
    "before_s": BEFORE_SECONDS,
    "stressed_s": STRESSED_SECONDS,
    "after_s": AFTER_SECONDS,
    "snr_db": SNR_DB,
    "streams_with_stress_a_speaker": MOST_EVENTS,
    "folder_stream_s": FOLDER_SECONDS,
}
"""Settings of the streams, for the result file."""


class Kind(str, Enum):
    """Content of a stream."""

    EVENT = "event"
    """Calm, stressed, calm speech."""
    CALM = "calm"
    """Neutral and calm speech alone."""
    LIVELY = "lively"
    """Happy, sad and surprised speech alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StrangerStream:
    """A stream of one speaker.

    Attributes:
        corpus: of the clips, or the name of the recordings.
        speaker: of the clips.
        sex: F, M, or empty when unknown.
        kind: of the stream.
        clip: one of the clips, to choose the model; None for recordings that are in no table.
        samples: float32 [n], mono, 16 kHz.
        events: the stressed parts.
    """

    corpus: str
    speaker: str
    sex: str
    kind: Kind
    clip: Utterance | None
    samples: Samples
    events: Sequence[Span]


def speaker_streams(clips: Sequence[Utterance], preset: Preset) -> Iterator[StrangerStream]:
    """Yields the streams of one speaker, as many as the clips allow.

    All clips are cut to their speech and equally loud, with pauses, over pink noise. Stressed clips are heard once;
    calm ones are repeated in another order where a stream needs more of them.

    Args:
        clips: of one speaker.
        preset: turns labels into stress; clips without stress label are left out.

    Raises:
        SourceError: a recording cannot be read.
    """
    first = clips[0]
    random = np.random.default_rng(zlib.crc32(f"{first.corpus}/{first.speaker}".encode()))
    pools: dict[str, list[Samples]] = {"calm": [], "lively": [], "stressed": []}
    for place in random.permutation(len(clips)):
        clip = clips[place]
        decision = preset.decision(clip)
        if decision is not None:
            name = "stressed" if decision else "calm" if clip.emotion in _CALM else "lively"
            pools[name].append(normalise_level(trimmed(read_audio(clip.path))))

    def stream(kind: Kind, parts: Sequence[Sequence[Samples]]) -> StrangerStream:
        samples, events = join_clips(parts, random)
        samples += _noise(samples.size, random)
        return StrangerStream(
            corpus=first.corpus,
            speaker=first.speaker,
            sex=first.sex,
            kind=kind,
            clip=first,
            samples=samples,
            events=events,
        )

    calm, stressed = pools["calm"], pools["stressed"]
    if _seconds(calm) >= LEAST_CALM_SECONDS:
        endless = _repeat(calm, random)
        remaining = iter(stressed)
        for _ in range(MOST_EVENTS):
            part = _take(remaining, STRESSED_SECONDS)
            if _seconds(part) < LEAST_STRESSED_SECONDS:
                break
            yield stream(Kind.EVENT, [_take(endless, BEFORE_SECONDS), part, _take(endless, AFTER_SECONDS)])
    if _seconds(calm) >= LEAST_ALONE_SECONDS:
        yield stream(Kind.CALM, [calm])
    if len(pools["lively"]) >= LEAST_LIVELY_CLIPS:
        yield stream(Kind.LIVELY, [pools["lively"]])


def calm_recordings(path: Path) -> Iterator[StrangerStream]:
    """Yields streams of calm speech that is in no table.

    A file is played as it is. The recordings of a folder are taken for one speaker's clips: cut, levelled and joined
    as those of a table, in streams of five minutes; what is left over at the end is left out.

    Raises:
        SourceError: there is no such file or folder, it holds no recording, or one cannot be read.
    """
    if path.is_file():
        yield _calm(path.stem, read_audio(path))
        return
    files = sorted(audio_files(path)) if path.is_dir() else []
    if not files:
        raise SourceError(f"--calm {path}: no such file, or a folder without a recording")
    random = np.random.default_rng(zlib.crc32(path.name.encode()))
    waiting: list[Samples] = []
    for place in random.permutation(len(files)):
        if _is_empty(files[place]):
            continue
        speech = trimmed(read_audio(files[place]))
        if speech.size < LEAST_PROMPT_SECONDS * SAMPLE_RATE or dbfs(speech_power(speech)) < LEAST_PROMPT_DBFS:
            continue
        waiting.append(normalise_level(speech))
        if _seconds(waiting) >= FOLDER_SECONDS:
            samples, _ = join_clips([waiting], random)
            yield _calm(path.name, samples + _noise(samples.size, random))
            waiting = []


def _is_empty(path: Path) -> bool:
    """Returns True for a recording without samples, as collections of prompts have for words left blank."""
    import soundfile

    try:
        return bool(soundfile.info(path).frames == 0)
    except soundfile.LibsndfileError:  # a format of another reader, or damaged: the reader says so
        return False


def _calm(name: str, samples: Samples) -> StrangerStream:
    return StrangerStream(
        corpus=name, speaker=name, sex="", kind=Kind.CALM, clip=None, samples=samples, events=[]
    )  # fmt: skip


def _noise(count: int, random: np.random.Generator) -> Samples:
    """Pink noise; the transform of a prime number of samples would take longer than the model."""
    from scipy.fft import next_fast_len

    return background_noise(next_fast_len(count, real=True), [], random, SNR_DB)[:count]


def _seconds(clips: Sequence[Samples]) -> float:
    return sum(samples.size / SAMPLE_RATE + _PAUSE for samples in clips)


def _take(clips: Iterator[Samples], seconds: float) -> list[Samples]:
    """Takes clips until they last so long, or none is left."""
    taken: list[Samples] = []
    while _seconds(taken) < seconds and (samples := next(clips, None)) is not None:
        taken.append(samples)
    return taken


def _repeat(clips: Sequence[Samples], random: np.random.Generator) -> Iterator[Samples]:
    """Yields all clips again and again, each time in another order."""
    while True:
        for place in random.permutation(len(clips)):
            yield clips[place]
