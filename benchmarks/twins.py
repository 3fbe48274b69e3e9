"""Detection rate of the leak gate on altered copies of recordings, and its false alarms.

Draws clips from a table of utterances, alters each in one way, and counts the copies that are found as twins of their
originals among all clips of the table. False alarms are pairs of unaltered clips of different speakers.
usage: python benchmarks/twins.py TABLE [NOISE-FOLDER [ROOM-FILE]]   -> a Markdown table on standard output
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soxr

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.pipeline.features import log_mel
from edge_sser.train.corpora.fingerprint import fingerprint, twins
from edge_sser.train.corpora.table import Utterance, read_table
from edge_sser.train.data.audio import read_audio
from edge_sser.train.evaluate.distortions import Samples, band, piece, reverberate, tilt

CLIPS = 400
SEED = 0
SHIFT_SAMPLES = 4_800  # 0.3 s

Alter = Callable[[Samples], Samples]


def add_noise(samples: Samples, noise: Samples, snr_db: float) -> Samples:
    """Adds noise at a signal-to-noise ratio over the whole clip."""
    power = np.mean(samples**2) / max(float(np.mean(noise**2)), 1e-20)
    return np.asarray(samples + noise * np.sqrt(power) * 10.0 ** (-snr_db / 20.0))


def alterations(noises: Sequence[Samples], rooms: Sequence[Samples]) -> dict[str, Alter]:
    """Returns the alterations by name; those with recorded noise and a room only where there are such recordings."""
    random = np.random.default_rng(SEED)

    def white_noise(samples: Samples, snr_db: float) -> Samples:
        return add_noise(samples, random.standard_normal(samples.size), snr_db)

    def recorded_noise(samples: Samples, snr_db: float) -> Samples:
        return add_noise(samples, piece(noises, samples.size, random), snr_db)

    def prepend(samples: Samples) -> Samples:
        return np.concatenate([1e-4 * random.standard_normal(random.integers(1, SHIFT_SAMPLES)), samples])

    def cut(samples: Samples) -> Samples:
        return samples[random.integers(1, SHIFT_SAMPLES) :]

    def equalise(samples: Samples) -> Samples:
        return tilt(samples, random, db_an_octave=2.0)

    with_noise: dict[str, Alter] = {
        "recorded noise at 20 dB": lambda samples: recorded_noise(samples, 20),
        "recorded noise at 10 dB": lambda samples: recorded_noise(samples, 10),
        "recorded noise at 5 dB": lambda samples: recorded_noise(samples, 5),
        "cut, tilt, recorded noise at 15 dB": lambda samples: recorded_noise(equalise(cut(samples)), 15),
    }
    with_room: dict[str, Alter] = {"room": lambda samples: reverberate(samples, random, responses=rooms)}
    return {
        "gain -12 dB": lambda samples: samples / 4,
        "gain +12 dB, clipped": lambda samples: np.clip(4 * samples, -1, 1),
        "white noise at 20 dB": lambda samples: white_noise(samples, 20),
        "white noise at 10 dB": lambda samples: white_noise(samples, 10),
        "later by up to 0.3 s": prepend,
        "cut at the start by up to 0.3 s": cut,
        "telephone band": lambda samples: band(samples, 300.0, 3_400.0),
        "equaliser tilt": equalise,
        "cut, white noise at 20 dB, gain -6 dB": lambda samples: white_noise(cut(samples), 20) / 2,
        **(with_noise if noises else {}),
        **(with_room if rooms else {}),
        "speed +5 %": lambda samples: soxr.resample(samples, SAMPLE_RATE, SAMPLE_RATE / 1.05),
    }


def main() -> None:
    """Measures and prints."""
    table = read_table(Path(sys.argv[1]))
    noises = [read_audio(path) for path in sorted(Path(sys.argv[2]).iterdir())] if sys.argv[2:] else []
    rooms = [read_audio(path) for path in sys.argv[3:4]]
    counts = Counter(row.voice for row in table)
    pairs = (len(table) ** 2 - sum(count**2 for count in counts.values())) // 2
    print(f"{len(twins(table))} false alarms in {pairs} pairs of clips by different speakers, {len(table)} clips\n")
    drawn = np.sort(np.random.default_rng(SEED).choice(len(table), CLIPS, replace=False))
    print(f"| copy of {CLIPS} clips | recognised |\n|---|---|")
    for name, alter in alterations(noises, rooms).items():
        copies = [_copy(table[place], number, alter) for number, place in enumerate(drawn)]
        found = set(twins([*table, *copies]))
        hits = sum((int(place), len(table) + number) in found for number, place in enumerate(drawn))
        print(f"| {name} | {100 * hits / CLIPS:.1f} % |", flush=True)


def _copy(row: Utterance, number: int, alter: Alter) -> Utterance:
    samples = alter(read_audio(row.path)).astype(np.float32)
    return replace(row, corpus="copy", speaker=str(number), fingerprint=fingerprint(log_mel(samples)))


if __name__ == "__main__":
    main()
