"""Detection rate of the leak gate on altered copies of recordings, and its false alarms.

Draws clips from a table of utterances, alters each in one way, and counts the copies that are found as twins of their
originals among all clips of the table. False alarms are pairs of unaltered clips of different speakers.
usage: python benchmarks/twins.py TABLE [NOISE-FOLDER [ROOM-FILE]]   -> a Markdown table on standard output
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy import signal

from edge_sser.pipeline.features import log_mel
from edge_sser.train.corpora.fingerprint import fingerprint, twins
from edge_sser.train.corpora.table import Utterance, read_table
from edge_sser.train.data.audio import read_audio

RATE = 16_000
CLIPS = 400
SEED = 0

Samples = NDArray[np.float64]
Alter = Callable[[Samples], Samples]


def add_noise(samples: Samples, noise: Samples, snr_db: float) -> Samples:
    """Adds noise at a signal-to-noise ratio over the whole clip."""
    power = np.mean(samples**2) / max(float(np.mean(noise**2)), 1e-20)
    return np.asarray(samples + noise * np.sqrt(power) * 10.0 ** (-snr_db / 20.0))


def white_noise(random: np.random.Generator, snr_db: float) -> Alter:
    """Returns a function that adds white_noise noise."""
    return lambda samples: add_noise(samples, random.standard_normal(samples.size), snr_db)


def recorded_noise(random: np.random.Generator, noises: Sequence[Samples], snr_db: float) -> Alter:
    """Returns a function that adds a random piece of a recorded noise."""

    def alter(samples: Samples) -> Samples:
        noise = noises[int(random.integers(len(noises)))]
        start = random.integers(max(1, noise.size - samples.size))
        return add_noise(samples, np.resize(noise[start : start + samples.size], samples.size), snr_db)

    return alter


def prepend_noise(random: np.random.Generator) -> Alter:
    """Returns a function that prepends up to 0.3 s of faint noise, which shifts the frames."""
    return lambda samples: np.concatenate([1e-4 * random.standard_normal(random.integers(1, 4_800)), samples])


def cut_start(random: np.random.Generator) -> Alter:
    """Returns a function that cuts up to 0.3 s of the start, which shifts the frames."""
    return lambda samples: samples[random.integers(1, 4_800) :]


def telephone(samples: Samples) -> Samples:
    """Limits the band to 300 to 3400 Hz."""
    return np.asarray(signal.sosfilt(signal.butter(4, (300, 3_400), "bandpass", fs=RATE, output="sos"), samples))


def tilt(samples: Samples) -> Samples:
    """Applies an equaliser that rises by 2 dB an octave."""
    hertz = np.fft.rfftfreq(samples.size, 1 / RATE)
    gain = 10.0 ** (2.0 * np.log2(np.maximum(hertz, 50.0) / 1_000.0) / 20.0)
    return np.asarray(np.fft.irfft(np.fft.rfft(samples) * gain, samples.size))


def alterations(noises: Sequence[Samples], room: Samples | None) -> Mapping[str, Alter]:
    """Returns the alterations by name."""
    random = np.random.default_rng(SEED)
    shift = cut_start(random)
    out: dict[str, Alter] = {
        "gain -12 dB": lambda samples: samples / 4,
        "gain +12 dB, clipped": lambda samples: np.clip(4 * samples, -1, 1),
        "white noise at 20 dB": white_noise(random, 20),
        "white noise at 10 dB": white_noise(random, 10),
        "later by up to 0.3 s": prepend_noise(random),
        "cut at the start by up to 0.3 s": shift,
        "telephone band": telephone,
        "equaliser tilt": tilt,
        "cut, white noise at 20 dB, gain -6 dB": lambda samples: white_noise(random, 20)(shift(samples)) / 2,
    }
    for snr in (20, 10, 5) if noises else ():
        out[f"recorded noise at {snr} dB"] = recorded_noise(random, noises, snr)
    if noises:
        noisy = recorded_noise(random, noises, 15)
        out["cut, tilt, recorded noise at 15 dB"] = lambda samples: noisy(tilt(shift(samples)))
    if room is not None:
        out["room"] = lambda samples: signal.fftconvolve(samples, room)[: samples.size]
    out["speed +5 %"] = lambda samples: soxr.resample(samples, RATE, RATE / 1.05)
    return out


def main() -> None:
    """Measures and prints."""
    table = read_table(Path(sys.argv[1]))
    noises = (
        [read_audio(path).astype(np.float64) for path in sorted(Path(sys.argv[2]).iterdir())] if sys.argv[2:] else []
    )
    room = read_audio(sys.argv[3]).astype(np.float64) if sys.argv[3:] else None
    counts = Counter(row.voice for row in table)
    pairs = (len(table) ** 2 - sum(count**2 for count in counts.values())) // 2
    print(f"{len(twins(table))} false alarms in {pairs} pairs of clips by different speakers, {len(table)} clips\n")
    drawn = np.sort(np.random.default_rng(SEED).choice(len(table), CLIPS, replace=False))
    print(f"| copy of {CLIPS} clips | recognised |\n|---|---|")
    for name, alter in alterations(noises, room).items():
        copies = [_copy(table[place], number, alter) for number, place in enumerate(drawn)]
        found = set(twins([*table, *copies]))
        hits = sum((int(place), len(table) + number) in found for number, place in enumerate(drawn))
        print(f"| {name} | {100 * hits / CLIPS:.1f} % |", flush=True)


def _copy(row: Utterance, number: int, alter: Alter) -> Utterance:
    samples = alter(read_audio(row.path).astype(np.float64)).astype(np.float32)
    return replace(row, corpus="copy", speaker=str(number), fingerprint=fingerprint(log_mel(samples)))


if __name__ == "__main__":
    main()
