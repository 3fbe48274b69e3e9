"""A stream through the device's own monitor, and through the model alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.block import SAMPLE_RATE, AudioBlock
from edge_sser.events import Reading
from edge_sser.features import FEATURES, log_mel
from edge_sser.model import Card, Model, Score
from edge_sser.monitor import Monitor
from edge_sser.settings import Settings

from .sounds import Samples

BLOCK_SAMPLES = 1_600  # 100 ms, as a microphone brings them


@dataclass(frozen=True, slots=True)
class Heard:
    """What the monitor said of a stream.

    Attributes:
        readings: every hop.
        scores: stress of each window that was scored, not rounded.
    """

    readings: Sequence[Reading]
    scores: Sequence[float]


class _Recorder(Model):
    """A model that remembers what it said."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.card: Card = model.card
        self.path = model.path
        self.sha256 = model.sha256
        self.provider = model.provider
        self.said: list[float] = []

    def score(self, log_mel: NDArray[np.float32]) -> Score:
        """Scores one window; see `Model.score`."""
        score = self._model.score(log_mel)
        self.said.append(score.stress)
        return score


def listen(samples: Samples, model: Model, settings: Settings) -> Heard:
    """Plays a stream to a fresh monitor, in blocks as they come from a microphone.

    Args:
        samples: float32 [n], mono, 16 kHz.
        model: calibrated.
        settings: of gate, window, rolling stress and episodes.
    """
    recorder = _Recorder(model)
    monitor = Monitor(
        node="evaluation", source_name="stream", started_at=0.0, live=False, model=recorder, settings=settings
    )
    events = []
    for start in range(0, samples.size, BLOCK_SAMPLES):
        events += monitor.push(AudioBlock(samples[start : start + BLOCK_SAMPLES]))
    return Heard([event for event in events if isinstance(event, Reading)], recorder.said)


def differing(samples: Samples, model: Model, settings: Settings, heard: Heard) -> tuple[int, int]:
    """Compares streaming with offline, bit by bit.

    The features of the whole recording are computed at once, cut into the same windows, and scored one by one.

    Returns:
        Windows compared, and those whose score differs in any bit.
    """
    features = log_mel(samples)
    hop = round(settings.window.hop_seconds * SAMPLE_RATE) // FEATURES.hop_samples
    scored = [place for place, reading in enumerate(heard.readings) if reading.stress is not None]
    offline = [
        model.score(np.ascontiguousarray(features[place * hop : place * hop + FEATURES.frames])).stress
        for place in scored
    ]
    return len(scored), sum(one != other for one, other in zip(offline, heard.scores, strict=True))
