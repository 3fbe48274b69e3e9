"""Sliding windows over features, speech gate and level meter: what the model and the readings look at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.pipeline.features import FEATURES, LogMel
from edge_sser.pipeline.gate import FRAME_SAMPLES, SpeechGate
from edge_sser.pipeline.level import PIECE_SAMPLES, LevelMeter, dbfs
from edge_sser.settings.schema import GateSettings, WindowSettings

Row = TypeVar("Row", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Window:
    """One look at the stream.

    Times are samples at 16 kHz since the source was opened, lost audio included.

    Attributes:
        start: time of the window's first sample.
        end: time just after its last one. end - start exceeds the window's length by the audio lost inside it.
        dropped: samples lost since the source was opened, up to `end`.
        log_mel: float32 [frames, bands], contiguous, dB.
        speech_ratio: share of the 30 ms frames ending inside (start, end] that are speech, 0..1.
        dbfs: root mean square level, dB re full scale, at least -120.
        clipped: whether samples were cut flat at full scale.
    """

    start: int
    end: int
    dropped: int
    log_mel: NDArray[np.float32]
    speech_ratio: float
    dbfs: float
    clipped: bool


class Windower:
    """A window each hop, the first once 3.0 s were heard. Memory is bounded, and each frame is computed once.

    Samples wait until a window is complete, and then go through the stages at once: nothing can be said before, and ten
    small rounds a second through cold caches cost more than the work itself (0.75 against 0.45 % of a core on silence).
    Lost audio is a splice: the stages go on across it as if nothing were missing, only the time moves on by it.

    Attributes:
        processed: samples taken in so far.
        dropped: samples lost so far.
    """

    def __init__(self, *, window: WindowSettings, gate: GateSettings) -> None:
        self._hop = round(window.hop_seconds * SAMPLE_RATE)
        self._features = LogMel()
        self._gate = SpeechGate(gate)
        self._meter = LevelMeter()
        # One window of what each stage gave. Hops and windows are whole blocks of features and pieces of level, and a
        # window is a whole number of gate frames, so that wherever it ends, its frames are the last ones completed.
        self._log_mel = np.zeros((FEATURES.frames, FEATURES.bands), dtype=np.float32)
        self._speech = np.zeros(FEATURES.window_samples // FRAME_SAMPLES, dtype=np.bool_)
        self._energy = np.zeros(FEATURES.window_samples // PIECE_SAMPLES, dtype=np.float64)
        self._clipped = np.zeros(FEATURES.window_samples // PIECE_SAMPLES, dtype=np.bool_)
        self._waiting: list[NDArray[np.float32]] = []  # less than a hop, or than the first window
        self._until_window = FEATURES.window_samples
        self._splices: Counter[int] = Counter()  # samples processed before a loss inside the window -> samples lost
        self._dropped_before_window = 0
        self.processed = 0
        self.dropped = 0

    @property
    def now(self) -> int:
        """Stream time, samples: everything heard or lost so far."""
        return self.processed + self.dropped

    def push(self, samples: NDArray[np.float32], dropped: int = 0) -> list[Window]:
        """The windows completed by `samples`.

        Args:
            samples: float32 [n], mono, 16 kHz; any n.
            dropped: samples lost immediately before these.
        """
        if dropped:
            self.dropped += dropped
            self._splices[self.processed] += dropped
        windows = []
        while samples.size:
            part, samples = samples[: self._until_window], samples[self._until_window :]
            self._waiting.append(part)
            self.processed += part.size
            self._until_window -= part.size
            if self._until_window == 0:
                self._until_window = self._hop
                self._take(np.concatenate(self._waiting))
                self._waiting.clear()
                windows.append(self._window())
        return windows

    def _take(self, samples: NDArray[np.float32]) -> None:
        self._log_mel = _slide(self._log_mel, self._features.push(samples))
        self._speech = _slide(self._speech, self._gate.push(samples))
        pieces = self._meter.push(samples)
        self._energy = _slide(self._energy, pieces.energy)
        self._clipped = _slide(self._clipped, pieces.clipped)

    def _window(self) -> Window:
        first = self.processed - FEATURES.window_samples
        for place in [place for place in self._splices if place <= first]:
            self._dropped_before_window += self._splices.pop(place)
        return Window(
            start=first + self._dropped_before_window,
            end=self.now,
            dropped=self.dropped,
            log_mel=self._log_mel,
            speech_ratio=np.count_nonzero(self._speech) / self._speech.size,
            dbfs=dbfs(float(self._energy.sum()) / FEATURES.window_samples),
            clipped=bool(self._clipped.any()),
        )


def _slide(kept: NDArray[Row], new: NDArray[Row]) -> NDArray[Row]:
    """The last rows of both, as many as were kept. The arrays themselves never change: windows share them."""
    return np.concatenate((kept, new))[-len(kept) :] if len(new) else kept
