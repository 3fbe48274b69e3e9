"""Windows for training the speech gate: features as the device computes them, and a label for each 100 ms block."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import TrainingError
from edge_sser.pipeline.features import FEATURES, log_mel
from edge_sser.pipeline.gate import BLOCKS
from edge_sser.pipeline.highpass import high_pass
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.waveform import recordings
from edge_sser.train.evaluate.distortions import band, reverberate, room, speech_power, trimmed
from edge_sser.train.evaluate.streams import SPEECH_DBFS
from edge_sser.train.gate.sounds import KINDS, synthesise
from edge_sser.train.gate.synthesis import Random, Sound, at_level, room_noise, silence

WINDOW = FEATURES.window_samples
HELD_OUT_FOLDS = (5, 6)
WORD_WEIGHT = 2.5  # of the speech in a window with a single word: there is little of it
SHARDS = 4  # parts of the windows, each with a generator and synthesised sounds of its own
MUTED = 0.08  # share of windows with digital silence in front or behind: a microphone is switched on or off
SPEECH, NOT_SPEECH, UNCERTAIN = 1, 0, -1
_BLOCK = WINDOW // BLOCKS
_SYNTHETIC_SECONDS = 12.0
_SYNTHETIC_SOUNDS = 10  # of each kind, in each shard
_FREQUENT = {"laugh": 1.5, "cry": 1.5, "cough": 1.5, "animal": 1.5, "music": 1.5}  # weights of kinds; else 1
_RECORDED_WEIGHT = 2.5  # of a folder of recordings


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows to train on.

    Attributes:
        log_mel: float16 [windows, frames, bands], dB.
        labels: int8 [windows, BLOCKS], `SPEECH`, `NOT_SPEECH` or `UNCERTAIN`.
        weights: float32 [windows], of the blocks that are speech.
    """

    log_mel: NDArray[np.float16]
    labels: NDArray[np.int8]
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class GateCorpus:
    """Recordings of one side of the split.

    Attributes:
        speech: utterances.
        words: corpora whose clips are single words recorded in the wild, with noise around them.
        nonspeech: recordings without speech by the name of their folder, float32 [n] each.
    """

    speech: Sequence[Utterance]
    words: frozenset[str]
    nonspeech: Mapping[str, Sequence[NDArray[np.float32]]]


def read_corpus(
    utterances: Sequence[Utterance], words: Sequence[str], folders: Sequence[Path], *, held_out: bool
) -> GateCorpus:
    """Returns the recordings to train on, or those held out: two folds of speakers, every second file of a folder.

    Raises:
        TrainingError: a folder has no recording, or one side of the table's folds is empty.
        SourceError: a recording cannot be read.
    """
    speech = [utterance for utterance in utterances if (utterance.fold in HELD_OUT_FOLDS) == held_out]
    if not speech:
        raise TrainingError(f"the table has no speaker {'in' if held_out else 'outside'} folds 5 and 6: index more")
    nonspeech = {}
    for folder in folders:
        sounds = [read_audio(path) for path in recordings(folder)[held_out::2]]
        nonspeech[folder.name] = [sound for sound in sounds if sound.any()]
    return GateCorpus(speech, frozenset(words), nonspeech)


def make_windows(corpus: GateCorpus, *, speech: int, nonspeech: int, seed: int, jobs: int = 1) -> Windows:
    """Returns augmented windows; the same recordings, numbers and seed give the same ones.

    Args:
        corpus: recordings to draw from.
        speech: windows with speech, as many of each corpus; a multiple of `SHARDS`.
        nonspeech: windows without; a multiple of `SHARDS`.
        seed: of everything that is random.
        jobs: processes at once.

    Raises:
        SourceError: a recording cannot be read.
    """
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        counts = (speech // SHARDS, nonspeech // SHARDS)
        futures = [pool.submit(_make_shard, corpus, *counts, (seed, number)) for number in range(SHARDS)]
        shards = [future.result() for future in futures]
    return Windows(
        np.concatenate([shard.log_mel for shard in shards]),
        np.concatenate([shard.labels for shard in shards]),
        np.concatenate([shard.weights for shard in shards]),
    )


def _make_shard(corpus: GateCorpus, speech: int, nonspeech: int, seed: tuple[int, int]) -> Windows:
    random = np.random.default_rng(seed)
    total = speech + nonspeech
    features = np.empty((total, FEATURES.frames, FEATURES.bands), dtype=np.float16)
    labels = np.zeros((total, BLOCKS), dtype=np.int8)
    weights = np.ones(total, dtype=np.float32)
    sounds = NonSpeech(corpus.nonspeech, seed)
    by_corpus: dict[str, list[Utterance]] = {}
    by_voice: dict[str, list[Utterance]] = {}
    for utterance in corpus.speech:
        by_corpus.setdefault(utterance.corpus, []).append(utterance)
        by_voice.setdefault(utterance.voice, []).append(utterance)
    names = sorted(by_corpus)
    read = functools.cache(read_audio)  # each clip comes several times
    for index in range(total):
        if index < speech:
            clips = by_corpus[names[index % len(names)]]
            clip = clips[int(random.integers(len(clips)))]
            word = clip.corpus in corpus.words
            clean, labels[index] = _speech_window(clip, by_voice[clip.voice], word, read, random)
            sound = _add_noise(_augmented(clean, random), sounds, random)
            weights[index] = WORD_WEIGHT if word else 1.0
        else:
            sound = sounds.window(random)
        samples = _recorded(sound, random)
        if random.random() < MUTED:
            muted = _muted_blocks(random)
            samples.reshape(BLOCKS, -1)[muted], labels[index, muted] = 0.0, NOT_SPEECH
        features[index] = log_mel(high_pass(samples))
    return Windows(features, labels, weights)


class NonSpeech:
    """Sounds that are not speech, synthesised and recorded."""

    def __init__(self, recorded: Mapping[str, Sequence[NDArray[np.float32]]], seed: tuple[int, int]) -> None:
        pools: dict[str, Sequence[NDArray[np.float32]]] = {
            kind: [synthesise(kind, f"{seed} {number}", _SYNTHETIC_SECONDS) for number in range(_SYNTHETIC_SOUNDS)]
            for kind in KINDS
        }
        shares = [_FREQUENT.get(kind, 1.0) for kind in KINDS] + [_RECORDED_WEIGHT] * len(recorded)
        pools |= {f"recorded {name}": sounds for name, sounds in recorded.items()}
        self._pools = list(pools.values())
        self._shares = np.array(shares) / sum(shares)
        self._behind_speech = [
            sound
            for name, pool in pools.items()
            for sound in pool
            if name in ("fan", "music", "hum", "clicks") or (name not in KINDS and sound.size > SAMPLE_RATE)
        ]

    def window(self, random: Random) -> Sound:
        """Returns a window of one sound in the noise of a room; one in twenty is the room alone."""
        if random.random() < 0.05:
            return room_noise(random, WINDOW, -40.0)
        pool = self._pools[random.choice(len(self._pools), p=self._shares)]
        sound = at_level(pool[int(random.integers(len(pool)))], SPEECH_DBFS)
        if random.random() < 0.4:  # another speed: other pitch and tempo
            sound = np.interp(np.arange(0, sound.size - 1, random.uniform(0.8, 1.25)), np.arange(sound.size), sound)
        if sound.size < WINDOW:
            times = int(random.integers(1, 4))
            sound = np.concatenate([part for _ in range(times) for part in (sound, silence(random.uniform(0.1, 1.0)))])
        samples = _cut(sound, random)
        if random.random() < 0.5:
            samples = _augmented(samples, random)
        power = float(np.mean(np.square(samples)))
        return samples + room_noise(random, WINDOW, 10 * np.log10(power + 1e-12) - random.uniform(5, 45))

    def behind_speech(self, random: Random) -> Sound:
        """Returns a window of a sound that people talk over."""
        sound = self._behind_speech[int(random.integers(len(self._behind_speech)))].astype(np.float64)
        return np.resize(_cut(sound, random) if sound.size > WINDOW else sound, WINDOW)


def label_blocks(clean: Sound, *, word: bool) -> NDArray[np.int8]:
    """Labels the blocks of a clean recording by their energy, below its loudest block.

    Within 25 dB is speech, from 38 dB on is not, between is uncertain. A word recorded in the wild has noise around it:
    within 15 dB is speech, and nothing but silence is not.
    """
    power = np.square(clean[: WINDOW - WINDOW % _BLOCK].reshape(-1, _BLOCK)).mean(axis=1)
    level = 10 * np.log10(power + 1e-12)
    loudest = level.max()
    if loudest < -60.0:
        return np.zeros(level.size, dtype=np.int8)
    speech, silent = (loudest - 15.0, -70.0) if word else (loudest - 25.0, loudest - 38.0)
    return np.where(level > speech, SPEECH, np.where(level < silent, NOT_SPEECH, UNCERTAIN)).astype(np.int8)


def _speech_window(
    clip: Utterance,
    others: Sequence[Utterance],
    word: bool,
    read: Callable[[str], NDArray[np.float32]],
    random: Random,
) -> tuple[Sound, NDArray[np.int8]]:
    """Returns a window of clean speech and its labels: one clip in silence, or several of a speaker with pauses."""
    alone = word or random.random() < 0.3
    begins_inside = alone or random.random() < 0.3
    at = int(random.uniform(0, 1.5) * SAMPLE_RATE) if begins_inside else -int(random.uniform(0, 1) * SAMPLE_RATE)
    clean = np.zeros(WINDOW)
    while at < WINDOW:
        speech = trimmed(read(clip.path))
        level = 10 ** ((SPEECH_DBFS + random.uniform(-4, 4)) / 20)
        speech = (speech / np.sqrt(speech_power(speech)) * level)[max(0, -at) :]
        first = max(0, at)
        clean[first : first + speech.size] += speech[: WINDOW - first]
        at = first + speech.size + int(random.uniform(0.2, 1.0) * SAMPLE_RATE)
        if alone:
            break
        clip = others[int(random.integers(len(others)))]
    return clean, label_blocks(clean, word=word)


def _add_noise(speech: Sound, sounds: NonSpeech, random: Random) -> Sound:
    """Adds the noise of a room, 3 to 45 dB below the speech, or another sound, at least 5 or 10 dB below."""
    snr_db, kind = random.uniform(3, 45), random.random()
    if kind < 0.5:
        noise = room_noise(random, WINDOW, 0.0)
    else:
        noise = sounds.behind_speech(random)
        snr_db = max(snr_db, 5.0 if kind < 0.75 else 10.0)
    return speech + at_level(noise, SPEECH_DBFS - snr_db)


def _augmented(samples: Sound, random: Random) -> Sound:
    """Applies a room to a third of the sounds and a band limit to a quarter."""
    sound = samples.astype(np.float32)
    if random.random() < 0.35:
        response = room(random.uniform(0.15, 0.8), random)
        response[1:] *= np.float32(10 ** (-random.uniform(0, 12) / 20))
        sound = reverberate(sound, random, responses=[response])
    if random.random() < 0.25:
        sound = band(sound, random.uniform(60, 400), random.uniform(2500, 7000), order=2)
    return sound.astype(np.float64)


def _recorded(samples: Sound, random: Random) -> NDArray[np.float32]:
    """Returns samples as a microphone of unknown gain records them, with its own noise."""
    samples = samples * 10 ** (random.uniform(-30, 6) / 20)
    samples /= max(1.0, float(np.abs(samples).max()))
    samples += 10 ** (-random.uniform(70, 95) / 20) * random.standard_normal(samples.size)
    return samples.astype(np.float32)


def _muted_blocks(random: Random) -> slice:
    place = int(random.integers(1, BLOCKS))
    return slice(place) if random.random() < 0.5 else slice(place, None)


def _cut(sound: Sound, random: Random) -> Sound:
    """Returns a random window of a sound; a shorter sound lies somewhere in silence."""
    if sound.size >= WINDOW:
        first = int(random.integers(sound.size - WINDOW + 1))
        return sound[first : first + WINDOW]
    samples = np.zeros(WINDOW)
    first = int(random.integers(WINDOW - sound.size + 1))
    samples[first : first + sound.size] = sound
    return samples
