"""Generators of sounds that are not speech: machines, signals, music, and the noises of people and animals.

Each takes a random generator and a number of samples, and returns float64 [count], mono, 16 kHz, at any level.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.train.gate.calls import animal, cough, cry, laugh
from edge_sser.train.gate.synthesis import (
    Random,
    Sound,
    at_level,
    faded,
    gain,
    joined,
    mix_in,
    room_noise,
    sample_count,
    silence,
    times,
)

_DTMF_HZ = ((697, 770, 852, 941), (1209, 1336, 1477, 1633))  # ITU-T Q.23
_MAJOR, _MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
_HIGHEST_HZ = 7_800.0


def synthesise(
    kind: str, seed: object, seconds: float, *, dbfs: float | None = None, snr_db: float | None = None
) -> NDArray[np.float32]:
    """Returns one sound in the noise of a room; the same kind, seed and length give the same sound.

    Args:
        kind: one of `KINDS`.
        seed: anything with a text form.
        seconds: length.
        dbfs: level; random from -40 to -18 when None.
        snr_db: level above the room's noise, dB; random from 8 to 45 when None.
    """
    random = np.random.default_rng(zlib.crc32(f"{kind} {seed}".encode()))
    count = round(seconds * SAMPLE_RATE)
    sound = KINDS[kind](random, count)
    dbfs = random.uniform(-40.0, -18.0) if dbfs is None else dbfs
    snr_db = random.uniform(8.0, 45.0) if snr_db is None else snr_db
    sound = at_level(sound, dbfs) + room_noise(random, count, dbfs - snr_db)
    return (sound / max(1.0, float(np.abs(sound).max()))).astype(np.float32)


def hum(random: Random, count: int) -> Sound:
    """Mains hum or a motor: a steady fundamental with harmonics."""
    fundamental = random.choice([50.0, 60.0, 100.0, 120.0, 150.0, 180.0, 220.0, random.uniform(45.0, 400.0)])
    return _hum_at(random, count, fundamental)


def _hum_at(random: Random, count: int, fundamental_hz: float) -> Sound:
    time = times(count)
    fall_db = random.uniform(3.0, 12.0)
    sound = np.zeros(count)
    for harmonic in range(1, int(random.integers(2, 12))):
        factor = gain(-fall_db * (harmonic - 1) * random.uniform(0.5, 1.0))
        sound += factor * np.sin(2 * np.pi * fundamental_hz * harmonic * time + random.uniform(0, 6))
    if random.random() < 0.4:
        sound *= 1 + random.uniform(0, 0.5) * np.sin(2 * np.pi * random.uniform(0.2, 10) * time)
    return sound


def beeps(random: Random, count: int) -> Sound:
    """One tone, or two in turn, on and off."""
    hertz, on, off = random.uniform(300, 4000), random.uniform(0.05, 0.7), random.uniform(0.05, 1.0)
    second = 1.3 if random.random() < 0.3 else 1.0
    tones = (_tone(random, hertz * (second if number % 2 else 1.0), on) for number in itertools.count())
    return joined(count, ([tone, silence(off)] for tone in tones))


def _tone(random: Random, hertz: float, seconds: float) -> Sound:
    time = times(sample_count(seconds))
    sound = np.sin(2 * np.pi * hertz * time)
    for harmonic in range(2, int(random.integers(2, 5))):
        if hertz * harmonic < _HIGHEST_HZ:
            sound += gain(-random.uniform(5, 30)) * np.sin(2 * np.pi * hertz * harmonic * time)
    return faded(sound)


def dtmf(random: Random, count: int) -> Sound:
    """Keys of a telephone."""

    def key() -> list[Sound]:
        time = times(sample_count(random.uniform(0.05, 0.3)))
        pair = [random.choice(row) for row in _DTMF_HZ]
        return [
            faded(np.sum([np.sin(2 * np.pi * hertz * time) for hertz in pair], axis=0)),
            silence(random.uniform(0.05, 0.4)),
        ]

    return joined(count, (key() for _ in itertools.count()))


def chords(random: Random, count: int) -> Sound:
    """Three notes at once, of one instrument."""
    instrument = _instrument(random)

    def chord() -> list[Sound]:
        root, seconds = 110.0 * 2 ** (random.integers(0, 24) / 12), random.uniform(0.3, 3.0)
        steps = random.choice([0, 3, 4, 7, 10, 12], 3, replace=False)
        return [np.sum([instrument(root * 2 ** (step / 12), seconds) for step in steps], axis=0)]

    return joined(count, (chord() for _ in itertools.count()))


def music(random: Random, count: int) -> Sound:
    """Melodies in one scale, with or without a drum."""
    sound = np.zeros(count)
    beat_s = random.uniform(0.2, 0.6)
    scale, base_hz = (_MAJOR if random.random() < 0.5 else _MINOR), random.uniform(80, 330)
    for _ in range(int(random.integers(1, 4))):
        instrument, octave, loudness = _instrument(random), 2.0 ** random.integers(-1, 3), random.uniform(0.3, 1.0)
        at, step = 0.0, 0
        while at * SAMPLE_RATE < count:
            seconds = beat_s * random.choice([0.5, 1, 1, 2, 4])
            step = int(np.clip(step + random.integers(-2, 3), -7, 7))
            hertz = base_hz * octave * 2 ** ((scale[step % 7] + 12 * (step // 7)) / 12)
            if random.random() < 0.85:
                mix_in(sound, loudness * instrument(hertz, seconds * random.uniform(0.7, 1.2)), at)
            at += seconds
    if random.random() < 0.6:
        for number in range(int(count / SAMPLE_RATE / beat_s)):
            mix_in(sound, 0.6 * _drum(random), number * beat_s)
    return sound


def _instrument(random: Random) -> Callable[[float, float], Sound]:
    """Returns a function that plays a note: frequency in Hz and seconds in, samples out."""
    harmonics, fall = int(random.integers(1, 20)), random.uniform(0.3, 2.0)
    decay, vibrato = random.choice([0.0, 0.5, 2.0, 5.0]), 0.006 * (random.random() < 0.5)

    def note(hertz: float, seconds: float) -> Sound:
        time = times(sample_count(seconds))
        phase = 2 * np.pi * hertz * np.cumsum(1 + vibrato * np.sin(2 * np.pi * 5.5 * time)) / SAMPLE_RATE
        numbers = [number for number in range(1, harmonics + 1) if number == 1 or hertz * number < _HIGHEST_HZ]
        tones = [number**-fall * np.sin(number * phase + number) for number in numbers]
        return faded(np.sum(tones, axis=0) * np.exp(-time * decay), 160)

    return note


def _drum(random: Random) -> Sound:
    count = sample_count(random.uniform(0.03, 0.2))
    if random.random() < 0.4:
        return 3.0 * np.sin(2 * np.pi * 60 * times(count)) * np.exp(-np.arange(count) / (count / 4))
    return random.standard_normal(count) * np.exp(-np.arange(count) / (count / 5))


def sweep(random: Random, count: int) -> Sound:
    """A tone whose frequency rises, or rises and falls: sirens, test signals."""
    low, high = sorted(random.uniform(60, 6000, 2))
    time, period = times(count), random.uniform(0.3, 20.0)
    place = (time / period) % 1 if random.random() < 0.5 else 0.5 - 0.5 * np.cos(2 * np.pi * time / period)
    hertz = low * (high / low) ** place if random.random() < 0.5 else low + (high - low) * place
    phase = 2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE
    tones = [gain(-random.uniform(6, 20) * (n - 1)) * np.sin(n * phase) for n in range(1, int(random.integers(2, 4)))]
    return np.asarray(np.sum(tones, axis=0), dtype=np.float64)


def fan(random: Random, count: int) -> Sound:
    """Coloured noise with resonances that throbs, often with a hum."""
    hertz = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    colour = np.maximum(hertz, 20.0) ** -random.uniform(0.2, 1.2)
    for _ in range(int(random.integers(0, 5))):
        centre = random.uniform(100, 4000)
        width = centre * random.uniform(0.02, 0.3)
        colour *= 1 + random.uniform(1, 8) * np.exp(-(((hertz - centre) / width) ** 2))
    sound = np.fft.irfft(np.fft.rfft(random.standard_normal(count)) * colour, count)
    sound /= np.std(sound)
    sound *= 1 + random.uniform(0, 0.7) * np.sin(2 * np.pi * random.uniform(2, 40) * times(count))
    if random.random() < 0.6:
        sound += random.uniform(0.05, 0.6) * _hum_at(random, count, random.uniform(40, 300))
    return np.asarray(sound, dtype=np.float64)


def clicks(random: Random, count: int) -> Sound:
    """Knocks, keys, dishes: short decaying noises, some with inharmonic partials."""
    sound = np.zeros(count)
    for _ in range(int(count / SAMPLE_RATE * random.uniform(0.5, 8))):
        length = sample_count(random.uniform(0.005, 0.4))
        hertz, time = random.uniform(300, 6000), times(length)
        ring = np.sum([np.sin(2 * np.pi * hertz * ratio * time) for ratio in (1, 1.47, 2.09, 2.56)], axis=0)
        click = random.standard_normal(length) * random.uniform(0.2, 1) + random.random() * ring
        click *= random.uniform(0.1, 1) * np.exp(-np.arange(length) / (length / 6))
        mix_in(sound, click, random.uniform(0, count / SAMPLE_RATE))
    return sound


KINDS: dict[str, Callable[[Random, int], Sound]] = {
    "hum": hum,
    "beeps": beeps,
    "dtmf": dtmf,
    "chords": chords,
    "music": music,
    "sweep": sweep,
    "fan": fan,
    "clicks": clicks,
    "cough": cough,
    "laugh": laugh,
    "cry": cry,
    "animal": animal,
}
