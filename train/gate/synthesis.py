"""Parts of synthesised sounds: levels, noise, events in a row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.train.evaluate.distortions import pink_noise

Sound = NDArray[np.float64]
Random = np.random.Generator


def at_level(sound: NDArray[np.floating], dbfs: float) -> Sound:
    """Scales a sound to a root mean square level."""
    power = float(np.mean(np.square(sound, dtype=np.float64)))
    return np.asarray(sound / np.sqrt(power + 1e-12) * 10.0 ** (dbfs / 20.0), dtype=np.float64)


def room_noise(random: Random, count: int, dbfs: float) -> Sound:
    """White, pink or brown noise."""
    kind = random.integers(3)
    noise: Sound = random.standard_normal(count) if kind == 0 else pink_noise(count, random).astype(np.float64)
    if kind == 2:
        noise = np.cumsum(noise)
        noise -= np.convolve(noise, np.full(400, 1 / 400), "same")
    return at_level(noise, dbfs)


def joined(count: int, events: Iterator[list[Sound]]) -> Sound:
    """Joins events until they are `count` samples long."""
    parts: list[Sound] = []
    total = 0
    while total < count:
        event = next(events)
        parts += event
        total += sum(part.size for part in event)
    return np.concatenate(parts)[:count]


def mix_in(sound: Sound, event: Sound, at_seconds: float) -> None:
    """Adds an event to a sound in place, as far as the sound reaches."""
    first = round(at_seconds * SAMPLE_RATE)
    room = max(0, sound.size - first)
    sound[first : first + event.size] += event[:room]


def faded(sound: Sound, samples: int = 80) -> Sound:
    """Fades a sound in and out, in place."""
    ramp = np.linspace(0, 1, min(samples, sound.size // 2))
    sound[: ramp.size] *= ramp
    sound[sound.size - ramp.size :] *= ramp[::-1]
    return sound


def gain(decibels: float) -> float:
    """Returns the factor of a change of level in dB."""
    return float(10.0 ** (decibels / 20.0))


def sample_count(seconds: float) -> int:
    """Returns the samples of a time span, at least 2."""
    return max(2, round(seconds * SAMPLE_RATE))


def silence(seconds: float) -> Sound:
    """Returns digital silence."""
    return np.zeros(sample_count(seconds))


def times(count: int) -> Sound:
    """Returns the time of each sample, seconds."""
    return np.arange(count) / SAMPLE_RATE
