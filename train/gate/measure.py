"""Measures the speech gate on speakers and sounds that its network never heard: shares of windows that are scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.pipeline.features import FEATURES, log_mel
from edge_sser.pipeline.gate import NETWORK_LEAST_RATIO, SpeechNet
from edge_sser.pipeline.highpass import high_pass
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.features import windows
from edge_sser.train.evaluate.distortions import Samples, add_noise, pink_noise, speech_power, trimmed
from edge_sser.train.evaluate.streams import SPEECH_DBFS
from edge_sser.train.gate.data import GateCorpus
from edge_sser.train.gate.sounds import KINDS, synthesise
from edge_sser.train.gate.synthesis import at_level

GAINS_DB = (0.0, -12.0, -24.0)
CLIPS = 300  # of a corpus, as they were recorded
STREAMS = 4
STREAM_SECONDS = 40.0
MICROPHONE_DBFS = -70.0  # noise of the microphone, which its gain does not change
SNR_DB = 10.0
CALM = ("calm", "neutral", "")


@dataclass(frozen=True, slots=True)
class Row:
    """Shares of one kind of sound.

    Attributes:
        sound: its name.
        windows: number of windows at each gain.
        scored: share of them with enough speech to be scored, by gain in dB.
    """

    sound: str
    windows: int
    scored: Mapping[float, float]


@dataclass(slots=True)
class _Counts:
    windows: int = 0
    scored: dict[float, int] = field(default_factory=dict)

    def row(self, sound: str) -> Row:
        return Row(sound, self.windows, {gain: count / self.windows for gain, count in self.scored.items()})


def measure(net: SpeechNet, corpus: GateCorpus) -> list[Row]:
    """Returns the rows of speech, then those of other sounds.

    Args:
        net: to measure.
        corpus: held-out recordings.

    Raises:
        SourceError: a recording cannot be read.
    """
    random = np.random.default_rng(0)
    rows = []
    for name in sorted({clip.corpus for clip in corpus.speech}):
        clips = [clip for clip in corpus.speech if clip.corpus == name]
        chosen = [clips[place] for place in random.permutation(len(clips))[:CLIPS]]
        rows.append(_row(net, f"{name}: clips as recorded", map(_padded, chosen), GAINS_DB))
        calm = [clip for clip in clips if clip.emotion in CALM]
        if not calm:
            continue
        rows.append(_row(net, f"{name}: calm clips as recorded", map(_padded, calm[:CLIPS]), GAINS_DB))
        if name not in corpus.words:
            streams = [_stream(calm, random) for _ in range(STREAMS)]
            rows.append(_row(net, f"{name}: calm streams at -26 dBFS", streams, GAINS_DB, MICROPHONE_DBFS))
            noisy = [
                add_noise(stream, _noise(number, stream.size, random), SNR_DB) for number, stream in enumerate(streams)
            ]
            rows.append(_row(net, f"{name}: the same in noise at 10 dB SNR", noisy))
    for kind in KINDS:
        rows.append(_row(net, kind, (synthesise(kind, f"test {seed}", STREAM_SECONDS) for seed in range(STREAMS))))
    for name, sounds in corpus.nonspeech.items():
        rows.append(_row(net, f"recorded {name}", [_joined(sounds)], (0.0,), MICROPHONE_DBFS))
    return rows


def table(rows: Sequence[Row]) -> str:
    """Formats rows as a Markdown table, in per cent."""
    head = "".join(f" {gain:g} dB |" for gain in GAINS_DB)
    lines = [f"| sound | windows |{head}", "|---|---|" + "---|" * len(GAINS_DB)]
    for row in rows:
        shares = (f" {100 * row.scored[gain]:.1f} |" if gain in row.scored else "  |" for gain in GAINS_DB)
        lines.append(f"| {row.sound} | {row.windows} |{''.join(shares)}")
    return "\n".join(lines)


def _row(
    net: SpeechNet,
    sound: str,
    recordings: Iterator[Samples] | Sequence[Samples],
    gains_db: Sequence[float] = (0.0,),
    microphone_dbfs: float = -120.0,
) -> Row:
    counts = _Counts()
    random = np.random.default_rng(0)
    for samples in recordings:
        hiss = 10 ** (microphone_dbfs / 20) * random.standard_normal(samples.size)
        for gain in gains_db:
            captured = (samples * 10 ** (gain / 20) + hiss).astype(np.float32)
            scored = [_scored(net, window) for window in windows(log_mel(high_pass(captured)))]
            counts.scored[gain] = counts.scored.get(gain, 0) + sum(scored)
        counts.windows += len(scored)
    return counts.row(sound)


def _scored(net: SpeechNet, window: NDArray[np.float32]) -> bool:
    return bool(np.mean(net.log_odds(window) > 0.0) >= NETWORK_LEAST_RATIO)


def _padded(clip: Utterance) -> Samples:
    samples = read_audio(clip.path)
    return np.pad(samples, (0, max(0, FEATURES.window_samples - samples.size)))


def _stream(clips: Sequence[Utterance], random: np.random.Generator) -> Samples:
    """Returns clips in a row, each at the same level, with pauses."""
    parts: list[Samples] = []
    while sum(part.size for part in parts) < STREAM_SECONDS * SAMPLE_RATE:
        speech = trimmed(read_audio(clips[int(random.integers(len(clips)))].path))
        speech = speech * np.float32(10 ** (SPEECH_DBFS / 20) / np.sqrt(speech_power(speech)))
        parts += [speech, np.zeros(round(random.uniform(0.3, 0.8) * SAMPLE_RATE), dtype=np.float32)]
    return np.concatenate(parts)


def _noise(number: int, count: int, random: np.random.Generator) -> Samples:
    return pink_noise(count, random) if number % 2 else random.standard_normal(count).astype(np.float32)


def _joined(sounds: Sequence[Samples]) -> Samples:
    """Returns sounds in a row, each at the same level, with pauses."""
    pause = np.zeros(SAMPLE_RATE // 2)
    joined = np.concatenate([part for sound in sounds for part in (at_level(sound, SPEECH_DBFS), pause)])
    return np.pad(joined, (0, max(0, FEATURES.window_samples - joined.size))).astype(np.float32)
