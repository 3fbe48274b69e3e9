"""The speech gate: the share of a window that is speech, by a small network or by WebRTC's voice activity detector."""

from __future__ import annotations

import functools
import math
import zipfile
import zlib
from collections import deque
from importlib import resources
from pathlib import Path
from typing import Protocol

import _webrtcvad as webrtcvad  # the C functions; the class webrtcvad.Vad adds a Python call for each frame
import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import ModelError, short
from edge_sser.pipeline.features import BLOCK_FRAMES, FEATURES
from edge_sser.pipeline.framing import Framer
from edge_sser.settings.schema import Detector, GateSettings

FRAME_SAMPLES = 480  # 30 ms, the longest frame WebRTC's detector takes and its steadiest
WEIGHTS_FILE = "speech-net.npz"
BLOCKS = FEATURES.frames // BLOCK_FRAMES  # of 100 ms in a window
UNITS = 32  # of each hidden layer
TAPS = 7  # blocks that a convolution spans
RANGE_DB = np.float32(70.0)  # what lies further below a window's maximum is raised to that
SCALE_DB = np.float32(15.0)
NETWORK_LEAST_RATIO = 0.13  # of speech in a window that is scored: 4 blocks, 0.4 s; single words are about that long
LEAST_PROBABILITY = (0.3, 0.4, 0.5, 0.7)  # of speech, by aggressiveness
SHAPES = {
    "input_weight": (BLOCK_FRAMES * FEATURES.bands, UNITS),
    "input_bias": (UNITS,),
    "hidden1_weight": (TAPS * UNITS, UNITS),  # [tap and input, output]
    "hidden1_bias": (UNITS,),
    "hidden2_weight": (TAPS * UNITS, UNITS),
    "hidden2_bias": (UNITS,),
    "output_weight": (UNITS,),
    "output_bias": (1,),
}
"""Arrays of a file of weights: float32, by name."""
_INT16_SCALE = 32_768.0


class SpeechNet:
    """Network that finds the speech in a window, block by block of 100 ms. It reads the features of the model.

    A window is judged by itself: neither chunking nor lost audio nor the time since the start changes a result. The
    window's mean is subtracted, and only the upper `RANGE_DB` are looked at, so that gain plays no part.

    A block (10 frames by 64 bands) goes to 32 units, two convolutions over 7 blocks follow, and one unit gives the
    log-odds of speech; ReLU between layers; 35 thousand parameters. `edge-sser train gate` trains the weights.
    """

    def __init__(self, path: Path) -> None:
        """Reads the weights.

        Raises:
            ModelError: the file is missing or damaged, or holds other arrays than `SHAPES`.
        """
        weights = _read_weights(path)
        self._input, self._input_bias = weights["input_weight"], weights["input_bias"]
        self._hidden = [(weights[f"{name}_weight"], weights[f"{name}_bias"]) for name in ("hidden1", "hidden2")]
        self._output, self._output_bias = weights["output_weight"], weights["output_bias"]

    def log_odds(self, log_mel: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the log-odds of speech of each block of a window.

        Args:
            log_mel: float32 [frames, bands], contiguous, dB.

        Returns:
            float32 [BLOCKS].
        """
        raised = np.maximum(log_mel, np.maximum.reduce(log_mel, axis=None) - RANGE_DB)
        raised -= np.add.reduce(raised, axis=None) / np.float32(raised.size)
        blocks = (raised / SCALE_DB).reshape(BLOCKS, -1)
        hidden = np.maximum(blocks @ self._input + self._input_bias, 0.0)
        for weight, bias in self._hidden:
            padded = np.zeros((BLOCKS + TAPS - 1, UNITS), dtype=np.float32)
            padded[TAPS // 2 : TAPS // 2 + BLOCKS] = hidden
            # Rows of 7 blocks each, overlapping; copied, because BLAS takes no overlapping rows.
            rows: NDArray[np.float32] = np.ndarray(
                (BLOCKS, TAPS * UNITS), np.float32, buffer=padded, strides=padded.strides
            )
            hidden = np.maximum(rows.copy() @ weight + bias, 0.0)
        log_odds: NDArray[np.float32] = hidden @ self._output + self._output_bias
        return log_odds


class SpeechDetector(Protocol):
    """Finds speech in the windows of a stream."""

    def ratio(self, samples: NDArray[np.float32], log_mel: NDArray[np.float32], dbfs: float) -> float:
        """Returns the share of a window that is speech, 0..1.

        Args:
            samples: float32 [n], mono, 16 kHz, those since the window before: each passes once, in order.
            log_mel: float32 [frames, bands], contiguous, dB: features of the window.
            dbfs: level of the window.
        """
        ...


class NetworkDetector:
    """Detector by `SpeechNet`: the share of a window's blocks whose probability of speech is high enough."""

    def __init__(self, settings: GateSettings) -> None:
        probability = LEAST_PROBABILITY[settings.aggressiveness]
        self._net = shipped_net()
        self._least_log_odds = math.log(probability / (1.0 - probability))
        self._floor_dbfs = settings.floor_dbfs

    def ratio(self, samples: NDArray[np.float32], log_mel: NDArray[np.float32], dbfs: float) -> float:
        """Returns the share of a window that is speech; none of one below the floor."""
        if dbfs < self._floor_dbfs:
            return 0.0
        return int(np.add.reduce(self._net.log_odds(log_mel) > self._least_log_odds)) / BLOCKS


class WebRtcDetector:
    """Detector by WebRTC: the share of a window's 30 ms frames that are speech.

    WebRTC adapts to noise, so every frame passes through it in order, faint ones too.
    """

    def __init__(self, settings: GateSettings) -> None:
        self._detector = webrtcvad.create()
        webrtcvad.init(self._detector)
        webrtcvad.set_mode(self._detector, settings.aggressiveness)
        self._floor_power = 10.0 ** (settings.floor_dbfs / 10.0)
        self._framer = Framer(FRAME_SAMPLES)
        # A window is a whole number of frames: wherever it ends, its frames are the last ones completed.
        self._speech: deque[bool] = deque(maxlen=FEATURES.window_samples // FRAME_SAMPLES)

    def ratio(self, samples: NDArray[np.float32], log_mel: NDArray[np.float32], dbfs: float) -> float:
        """Returns the share of the frames ending inside the window that are speech."""
        self._speech.extend(self.push(samples).tolist())
        return sum(self._speech) / len(self._speech)

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


def speech_detector(settings: GateSettings) -> SpeechDetector:
    """Returns a detector for one stream.

    Raises:
        ModelError: the file of weights is missing or damaged.
    """
    return WebRtcDetector(settings) if settings.detector is Detector.WEBRTC else NetworkDetector(settings)


@functools.cache
def shipped_net() -> SpeechNet:
    """Returns the network that ships, read once and shared by all sources.

    Raises:
        ModelError: its file is missing or damaged.
    """
    return SpeechNet(Path(str(resources.files("edge_sser") / "data" / "models" / WEIGHTS_FILE)))


def to_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Converts samples to 16-bit integers, rounded; samples beyond full scale saturate instead of wrapping round.

    Args:
        samples: float32, any shape, nominally -1..1.
    """
    scaled = np.rint(samples * np.float32(_INT16_SCALE))
    # Two ufuncs: np.clip takes several Python calls more.
    saturated: NDArray[np.float32] = np.maximum(np.minimum(scaled, _INT16_SCALE - 1), -_INT16_SCALE)
    return saturated.astype(np.int16)


def _read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            weights = {name: file[name] for name in SHAPES}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(f"speech gate {path}: cannot be read ({short(error)}): install edge-sser again") from None
    for name, shape in SHAPES.items():
        array = weights[name]
        if array.shape != shape or array.dtype != np.float32 or not np.isfinite(array).all():
            raise ModelError(
                f"speech gate {path}: {name} is {array.dtype} {array.shape}, expected finite float32 {shape}: "
                "install edge-sser again"
            )
    return weights
