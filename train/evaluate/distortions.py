"""Distortions of speech: noise, babble, telephones, filters, rooms, gain.

Each takes samples and a random generator and returns as many samples: float32 [n], mono, 16 kHz.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE

Samples = NDArray[np.float32]

_FRAME = 320  # 20 ms
_SPEECH_RANGE_DB = 30.0  # frames within this of the loudest count as speech


def speech_power(samples: Samples) -> float:
    """Mean power of the loud 20 ms frames, so that pauses do not count; at least 1e-12."""
    count = max(1, samples.size // _FRAME)
    frames = np.array_split(samples.astype(np.float64), count)
    power = np.array([np.mean(frame**2) if frame.size else 0.0 for frame in frames])
    loud = power[power >= power.max() * 10.0 ** (-_SPEECH_RANGE_DB / 10.0)]
    return max(float(loud.mean()), 1e-12)


def trimmed(samples: Samples) -> Samples:
    """Cuts a recording to the span from its first to its last loud 20 ms frame; one without any stays as it is."""
    count = samples.size // _FRAME
    power = np.square(samples[: count * _FRAME], dtype=np.float64).reshape(count, _FRAME).mean(axis=1)
    loud = np.flatnonzero(power > power.max(initial=0.0) * 10.0 ** (-_SPEECH_RANGE_DB / 10.0))
    return samples[loud[0] * _FRAME : (loud[-1] + 1) * _FRAME] if loud.size else samples


def add_noise(samples: Samples, noise: Samples, snr_db: float) -> Samples:
    """Adds noise at a signal-to-noise ratio in dB; digital silence has no level and is not added."""
    power = float(np.mean(noise.astype(np.float64) ** 2))
    if power == 0.0:
        return samples
    gain = np.sqrt(speech_power(samples) / power * 10.0 ** (-snr_db / 10.0))
    return np.asarray(samples + np.float32(gain) * noise, dtype=np.float32)


def white_noise(samples: Samples, random: np.random.Generator, *, snr_db: float) -> Samples:
    """Adds white noise."""
    return add_noise(samples, random.standard_normal(samples.size).astype(np.float32), snr_db)


def pink_noise(count: int, random: np.random.Generator) -> Samples:
    """Pink noise: falls by 3 dB an octave above 20 Hz, RMS 1."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    hertz = np.fft.rfftfreq(count, 1.0 / SAMPLE_RATE)
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(hertz, 20.0)), count)
    return np.asarray(noise / max(float(np.sqrt(np.mean(noise**2))), 1e-12), dtype=np.float32)


def recorded(samples: Samples, random: np.random.Generator, *, sounds: Sequence[Samples], snr_db: float) -> Samples:
    """Adds a random piece of a random recording behind the whole clip; a short recording is repeated."""
    return add_noise(samples, piece(sounds, samples.size, random), snr_db)


def babble(
    samples: Samples, random: np.random.Generator, *, voices: Sequence[Samples], talkers: int, snr_db: float
) -> Samples:
    """Adds other people who talk at once, each equally loud."""
    noise = np.zeros(samples.size, dtype=np.float32)
    for place in random.choice(len(voices), min(talkers, len(voices)), replace=False):
        voice = piece([voices[place]], samples.size, random)
        noise += voice / np.float32(np.sqrt(speech_power(voice)))
    return add_noise(samples, noise, snr_db)


def event(samples: Samples, random: np.random.Generator, *, sounds: Sequence[Samples], snr_db: float) -> Samples:
    """Adds one short sound (a cough) at a random place of the clip, with the speech `snr_db` above it."""
    sound = sounds[int(random.integers(len(sounds)))][: samples.size]
    start = int(random.integers(samples.size - sound.size + 1))
    gain = np.sqrt(speech_power(samples) / speech_power(sound) * 10.0 ** (-snr_db / 10.0))
    out = samples.copy()
    out[start : start + sound.size] += np.float32(gain) * sound
    return np.asarray(out, dtype=np.float32)


def codec(samples: Samples, random: np.random.Generator, *, subtype: str) -> Samples:
    """Applies a telephone: 300 to 3400 Hz, 8 kHz, and a codec of libsndfile (`ULAW` is G.711, `GSM610` GSM full rate).

    The clip is scaled to a peak of 0.5 for the codec, as by a telephone's gain control, and back.
    """
    import soundfile
    import soxr

    peak = max(float(np.abs(samples).max()), 1e-6)
    narrow = soxr.resample(band(samples / np.float32(2.0 * peak), 300.0, 3400.0), SAMPLE_RATE, 8_000)
    buffer = io.BytesIO()
    soundfile.write(buffer, narrow, 8_000, format="WAV", subtype=subtype)
    buffer.seek(0)
    coded, _ = soundfile.read(buffer, dtype="float32")
    wide = soxr.resample(coded, 8_000, SAMPLE_RATE)[: samples.size]
    return np.asarray(np.pad(wide, (0, samples.size - wide.size)) * np.float32(2.0 * peak), dtype=np.float32)


def band(samples: Samples, low_hz: float, high_hz: float, order: int = 4) -> Samples:
    """Applies a Butterworth band-pass."""
    from scipy.signal import butter, sosfilt

    sections = butter(order, [low_hz, high_hz], "bandpass", fs=SAMPLE_RATE, output="sos")
    return np.asarray(sosfilt(sections, samples), dtype=np.float32)


def narrow(samples: Samples, random: np.random.Generator, *, low_hz: float, high_hz: float, order: int = 4) -> Samples:
    """Applies a microphone that records a part of the spectrum."""
    return band(samples, low_hz, high_hz, order)


def tilt(samples: Samples, random: np.random.Generator, *, db_an_octave: float) -> Samples:
    """Tilts the spectrum evenly from 100 Hz to 8 kHz, with 0 dB at 1 kHz."""
    hertz = np.fft.rfftfreq(samples.size, 1.0 / SAMPLE_RATE)
    octaves = np.log2(np.clip(hertz, 100.0, 8_000.0) / 1_000.0)
    spectrum = np.fft.rfft(samples) * 10.0 ** (db_an_octave * octaves / 20.0)
    return np.asarray(np.fft.irfft(spectrum, samples.size), dtype=np.float32)


def reverberate(samples: Samples, random: np.random.Generator, *, responses: Sequence[Samples]) -> Samples:
    """Applies a room by one of its impulse responses; the direct sound stays in place."""
    from scipy.signal import fftconvolve

    response = responses[int(random.integers(len(responses)))]
    response = response[int(np.abs(response).argmax()) :]
    wet = fftconvolve(samples, response)[: samples.size]
    return np.asarray(wet / max(float(np.abs(response).max()), 1e-12), dtype=np.float32)


def room(rt60_s: float, random: np.random.Generator) -> Samples:
    """Makes an impulse response of noise that decays by 60 dB in `rt60_s`, as strong as the direct sound (0 dB)."""
    time = np.arange(int(rt60_s * SAMPLE_RATE)) / SAMPLE_RATE
    tail = random.standard_normal(time.size) * 10.0 ** (-3.0 * time / rt60_s)
    tail[: int(0.002 * SAMPLE_RATE)] = 0.0
    tail /= np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return np.asarray(tail, dtype=np.float32)


def gain(samples: Samples, random: np.random.Generator, *, db: float) -> Samples:
    """Changes the level, without clipping."""
    return np.asarray(samples * np.float32(10.0 ** (db / 20.0)), dtype=np.float32)


def shift(samples: Samples, random: np.random.Generator, *, by: int) -> Samples:
    """Shifts a clip by some samples; its start moves to the end."""
    return np.roll(samples, -by)


def piece(sounds: Sequence[Samples], count: int, random: np.random.Generator) -> Samples:
    """Returns a random piece of a random recording, `count` samples; a shorter recording is repeated."""
    sound = sounds[int(random.integers(len(sounds)))]
    if sound.size < count:
        return np.resize(sound, count)
    start = int(random.integers(sound.size - count + 1))
    return sound[start : start + count]
