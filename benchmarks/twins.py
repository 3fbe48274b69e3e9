"""How often the leak gate recognises an altered copy of a recording, and how often it takes strangers for copies.

Draws clips from a table of utterances, alters each in one way, and counts how many of the copies are twins of their
originals among all the clips of the table. The false alarms are pairs of different speakers' untouched clips.
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


def mixed(samples: Samples, noise: Samples, snr_db: float) -> Samples:
    """With noise at a signal-to-noise ratio over the whole clip."""
    power = np.mean(samples**2) / max(float(np.mean(noise**2)), 1e-20)
    return np.asarray(samples + noise * np.sqrt(power) * 10.0 ** (-snr_db / 20.0))


def white(random: np.random.Generator, snr_db: float) -> Alter:
    """White noise."""
    return lambda samples: mixed(samples, random.standard_normal(samples.size), snr_db)


def recorded(random: np.random.Generator, noises: Sequence[Samples], snr_db: float) -> Alter:
    """A random piece of a recorded noise."""

    def alter(samples: Samples) -> Samples:
        noise = noises[int(random.integers(len(noises)))]
        start = random.integers(max(1, noise.size - samples.size))
        return mixed(samples, np.resize(noise[start : start + samples.size], samples.size), snr_db)

    return alter


def later(random: np.random.Generator) -> Alter:
    """Up to 0.3 s of faint noise before it; frames fall elsewhere."""
    return lambda samples: np.concatenate([1e-4 * random.standard_normal(random.integers(1, 4_800)), samples])


def earlier(random: np.random.Generator) -> Alter:
    """Up to 0.3 s of its start cut away; frames fall elsewhere."""
    return lambda samples: samples[random.integers(1, 4_800) :]


def telephone(samples: Samples) -> Samples:
    """300 to 3400 Hz."""
    return np.asarray(signal.sosfilt(signal.butter(4, (300, 3_400), "bandpass", fs=RATE, output="sos"), samples))


def tilt(samples: Samples) -> Samples:
    """An equaliser that rises by 2 dB an octave."""
    hertz = np.fft.rfftfreq(samples.size, 1 / RATE)
    gain = 10.0 ** (2.0 * np.log2(np.maximum(hertz, 50.0) / 1_000.0) / 20.0)
    return np.asarray(np.fft.irfft(np.fft.rfft(samples) * gain, samples.size))


def alterations(noises: Sequence[Samples], room: Samples | None) -> Mapping[str, Alter]:
    """What is done to the copies, by name."""
    random = np.random.default_rng(SEED)
    shift = earlier(random)
    out: dict[str, Alter] = {
        "gain -12 dB": lambda samples: samples / 4,
        "gain +12 dB, clipped": lambda samples: np.clip(4 * samples, -1, 1),
        "white noise at 20 dB": white(random, 20),
        "white noise at 10 dB": white(random, 10),
        "later by up to 0.3 s": later(random),
        "cut at the start by up to 0.3 s": shift,
        "telephone band": telephone,
        "equaliser tilt": tilt,
        "cut, white noise at 20 dB, gain -6 dB": lambda samples: white(random, 20)(shift(samples)) / 2,
    }
    for snr in (20, 10, 5) if noises else ():
        out[f"recorded noise at {snr} dB"] = recorded(random, noises, snr)
    if noises:
        heard = recorded(random, noises, 15)
        out["cut, tilt, recorded noise at 15 dB"] = lambda samples: heard(tilt(shift(samples)))
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
