"""Generators of the noises of people and animals: coughs, laughter, crying, calls. `sounds` says what they return."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.train.gate.synthesis import Random, Sound, joined, sample_count, silence, times

_VOWELS_HZ = ((700, 1200, 2600), (500, 1700, 2500), (450, 800, 2400), (350, 2200, 2900), (600, 1000, 2500))


def cough(random: Random, count: int) -> Sound:
    """Coughs in bouts: a burst, often a voiced tail."""

    def bout() -> Iterator[Sound]:
        for _ in range(int(random.integers(1, 4))):
            time = times(sample_count(random.uniform(0.15, 0.45)))
            second = np.exp(-(((time - random.uniform(0.08, 0.25)) / 0.04) ** 2))
            envelope = np.exp(-time / random.uniform(0.03, 0.1)) + 0.35 * second * (random.random() < 0.7)
            sound = random.standard_normal(time.size)
            if random.random() < 0.6:
                phase = 2 * np.pi * random.uniform(150, 450) * time * (1 + random.uniform(-0.3, 0.1) * time)
                sound = 0.6 * sound + 2 * random.uniform(0.1, 0.8) * np.sign(np.sin(phase)) * (time > 0.04)
            throat = (random.uniform(400, 900), random.uniform(1000, 2000), random.uniform(2300, 3500))
            sound = _formants(sound * envelope, throat, (200, 300, 500))
            yield sound / np.abs(sound).max() * random.uniform(0.4, 1)
            yield silence(random.uniform(0.03, 0.25))
        yield silence(random.uniform(0.3, 2.0))

    return joined(count, (list(bout()) for _ in itertools.count()))


def laugh(random: Random, count: int) -> Sound:
    """Laughter: runs of one vowel, three to fourteen times, with breath between, falling in pitch and loudness."""
    pitch_hz, rate, breath = random.uniform(110, 600), random.uniform(2.8, 7.0), random.choice([0.04, 0.08, 0.3])
    vowel = np.array(_VOWELS_HZ[random.integers(len(_VOWELS_HZ))]) * random.uniform(0.9, 1.2)
    voiced = random.uniform(0.25, 0.65)  # share of a beat
    glide = random.uniform(-0.4, 0.25)  # of pitch, over a run

    def run() -> Iterator[Sound]:
        beats = int(random.integers(3, 15))
        pitch = pitch_hz * random.uniform(0.8, 1.5)
        for beat in range(beats):
            count = int(SAMPLE_RATE / rate * random.uniform(0.88, 1.12))
            length = int(count * voiced * random.uniform(0.8, 1.2))
            place = np.arange(length) / length
            hertz = pitch * (1 + glide * beat / beats) * (1 + random.uniform(0.05, 0.25) * np.sin(np.pi * place))
            sound = np.zeros(count)
            sound[:length] = _glottal(hertz) * np.sin(np.pi * place)
            sound += breath * random.standard_normal(count) * np.exp(-(((np.arange(count) - length) / count * 3) ** 2))
            yield _formants(sound, vowel, (120, 180, 300)) * (1 - 0.6 * beat / beats)
        inhaled = sample_count(random.uniform(0.2, 0.8))
        yield 0.03 * random.random() * random.standard_normal(inhaled) * np.hanning(inhaled)
        yield silence(random.uniform(0, 1))

    return joined(count, (list(run()) for _ in itertools.count()))


def cry(random: Random, count: int) -> Sound:
    """Crying of infants and adults: long vowels whose pitch rises and falls."""
    base_hz = random.uniform(300, 650)
    vowel = np.array(((800, 1400, 2900), (900, 1700, 3200), (600, 1900, 3000))[random.integers(3)])
    vowel = vowel * random.uniform(0.9, 1.3)

    def wail() -> list[Sound]:
        length = sample_count(random.uniform(0.4, 1.8))
        place = np.arange(length) / length
        tremor = 1 + 0.01 * np.sin(2 * np.pi * random.uniform(4, 8) * times(length))
        hertz = base_hz * (1 + 0.25 * np.sin(np.pi * place) ** 0.7 - 0.1 * place) * tremor
        hertz = hertz * (1.8 if random.random() < 0.2 else 1.0)
        source = _glottal(hertz) + random.standard_normal(length) * random.uniform(0.02, 0.2)
        return [
            _formants(source, vowel, (150, 250, 400)) * np.sin(np.pi * place) ** 0.4,
            silence(random.uniform(0.1, 0.8)),
        ]

    return joined(count, (wail() for _ in itertools.count()))


def animal(random: Random, count: int) -> Sound:
    """Calls of one animal: barks, miaows, lowing, crowing, chirps. Pitch and throat glide within a call."""
    low_hz, high_hz = ((250, 900), (350, 1000), (70, 220), (150, 600), (1500, 5000))[random.integers(5)]
    pitch_hz, rough = random.uniform(low_hz, high_hz), random.uniform(0.05, 0.6)
    shortest, longest = sorted(random.uniform(0.08, 1.6, 2))
    rise, fall = random.uniform(-0.4, 0.8), random.uniform(0.0, 0.5)
    throat = (random.uniform(400, 1200), random.uniform(1200, 2500), 3000.0)

    def call() -> list[Sound]:
        length = sample_count(random.uniform(shortest, longest))
        place = np.arange(length) / length
        hertz = pitch_hz * random.uniform(0.9, 1.1) * (1 + rise * np.sin(np.pi * place) - fall * place)
        source = _glottal(np.clip(hertz, 60, 6000)) + rough * random.standard_normal(length)
        source *= 1 + rough * np.sin(2 * np.pi * random.uniform(20, 70) * times(length))
        opened = random.uniform(1.0, 1.8)  # the mouth opens: the formants of the call's end
        shut, wide = (_formants(source, [factor * hz for hz in throat], (200, 300, 500)) for factor in (1.0, opened))
        return [
            (shut * (1 - place) + wide * place) * np.sin(np.pi * place) ** 0.5,
            silence(random.uniform(0.1, 1.5)),
        ]

    return joined(count, (call() for _ in itertools.count()))


def _glottal(hertz: Sound) -> Sound:
    """Pulses of a voice: half sines, open for 40 % of each period."""
    phase = np.cumsum(hertz) / SAMPLE_RATE % 1
    return np.asarray((phase < 0.4) * np.sin(np.pi * phase / 0.4) - 0.25, dtype=np.float64)


def _formants(source: Sound, centres_hz: Sequence[float] | Sound, widths_hz: Sequence[float]) -> Sound:
    """Applies resonances of 0, -4 and -10 dB."""
    hertz = np.fft.rfftfreq(source.size, 1 / SAMPLE_RATE)
    response = np.full(hertz.size, 0.01)
    for centre, width, peak in zip(centres_hz, widths_hz, (1.0, 0.6, 0.3), strict=True):
        response += peak / (1 + ((hertz - centre) / width) ** 2)
    return np.asarray(np.fft.irfft(np.fft.rfft(source) * response, source.size), dtype=np.float64)
