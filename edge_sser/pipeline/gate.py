"""The speech gate: tells speech from other sound, 30 ms at a time, by WebRTC's voice activity detector."""

from __future__ import annotations

import _webrtcvad as webrtcvad  # the C functions; the class webrtcvad.Vad adds a Python call for each frame
import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.pipeline.framing import Framer
from edge_sser.settings.schema import GateSettings

FRAME_SAMPLES = 480  # 30 ms, the longest frame the detector takes and its steadiest
_INT16_SCALE = 32_768.0


class SpeechGate:
    """Speech or not, frame by frame.

    The detector adapts to noise, so every frame passes through it in order, faint ones too.
    """

    def __init__(self, settings: GateSettings) -> None:
        self._detector = webrtcvad.create()
        webrtcvad.init(self._detector)
        webrtcvad.set_mode(self._detector, settings.aggressiveness)
        self._floor_power = 10.0 ** (settings.floor_dbfs / 10.0)
        self._framer = Framer(FRAME_SAMPLES)

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Classifies the frames completed by `samples`.

        Args:
            samples: float32 [n], mono, 16 kHz, nominally -1..1; any n.

        Returns:
            bool [k], True for each frame that is speech.
        """
        frames = self._framer.push(samples)
        detected = [
            webrtcvad.process(self._detector, SAMPLE_RATE, frame.tobytes(), FRAME_SAMPLES) for frame in to_int16(frames)
        ]
        # Squared first, summed after: a sum that converts as it goes is split where numpy's buffer ends, which would
        # make a frame's last bit depend on how many frames came at once.
        power = np.add.reduce(np.square(frames, dtype=np.float64), axis=1) / FRAME_SAMPLES
        speech: NDArray[np.bool_] = np.array(detected, dtype=np.bool_) & (power >= self._floor_power)
        return speech


def to_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Converts samples to 16-bit integers, rounded; samples beyond full scale saturate instead of wrapping round.

    Args:
        samples: float32, any shape, nominally -1..1.
    """
    scaled = np.rint(samples * np.float32(_INT16_SCALE))
    # Two ufuncs: np.clip takes several Python calls more.
    saturated: NDArray[np.float32] = np.maximum(np.minimum(scaled, _INT16_SCALE - 1), -_INT16_SCALE)
    return saturated.astype(np.int16)
