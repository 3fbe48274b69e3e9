"""A stream through the device's own monitor, and through the model alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE, AudioBlock
from edge_sser.events import Reading
from edge_sser.model.backend import Backend, Logits
from edge_sser.model.model import Model
from edge_sser.monitor import Monitor
from edge_sser.pipeline.features import FEATURES, log_mel
from edge_sser.settings.schema import Settings
from edge_sser.train.evaluate.sounds import Samples

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


class _Recorder:
    """A backend that keeps the stress logits of another. See `Backend`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.provider = backend.provider
        self.logits: list[float] = []

    def run(self, log_mel: NDArray[np.float32], *, limit_seconds: float | None = None) -> Logits:
        """Computes a batch; see `Backend.run`."""
        stress, emotions = self._backend.run(log_mel, limit_seconds=limit_seconds)
        self.logits += map(float, stress)
        return stress, emotions

    def close(self) -> None:
        """Does nothing: the other backend belongs to its model."""


def listen(samples: Samples, model: Model, settings: Settings) -> Heard:
    """Plays a stream to a fresh monitor, in blocks as they come from a microphone.

    Args:
        samples: float32 [n], mono, 16 kHz.
        model: calibrated.
        settings: of gate, window, rolling stress and episodes.
    """
    recorder = _Recorder(model.backend)
    recorded = Model(recorder, model.card, path=model.path, sha256=model.sha256)
    monitor = Monitor(
        node="evaluation", source_name="stream", started_at=0.0, live=False, model=recorded, settings=settings
    )
    events = []
    for start in range(0, samples.size, BLOCK_SAMPLES):
        events += monitor.push(AudioBlock(samples[start : start + BLOCK_SAMPLES]))
    scores = [model.card.calibration.probability(logit) for logit in recorder.logits]
    return Heard([event for event in events if isinstance(event, Reading)], scores)


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
