"""Log-mel features, computed once a frame as audio arrives. Training and the device use this one definition.

A frame is causal: frame i holds samples [160 i - 240, 160 i + 160), so that 3.0 s of audio are exactly 300 frames and
the last frame of a window ends with the window's last sample. The 240 samples before a stream's start count as zeros.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class FeatureParams:
    """Parameters of the features. A model's card carries them; a runtime refuses a model made for others.

    Attributes:
        sample_rate: Hz.
        frame_samples: length of the Hann window (25 ms).
        hop_samples: step between frames (10 ms).
        n_fft: FFT length, samples; the frame is zero-padded to it.
        bands: triangular mel bands, HTK scale, peak 1.
        low_hz: lower edge of the first band.
        high_hz: upper edge of the last band.
        floor_db: power below this is raised to it, dB re a full-scale sine.
        frames: frames in one window of the model.
    """

    sample_rate: int = 16_000
    frame_samples: int = 400
    hop_samples: int = 160
    n_fft: int = 512
    bands: int = 64
    low_hz: float = 60.0
    high_hz: float = 7_600.0
    floor_db: float = -120.0
    frames: int = 300

    @property
    def window_samples(self) -> int:
        """Samples in one model window."""
        return self.frames * self.hop_samples

    def as_dict(self) -> dict[str, int | float]:
        """Returns the parameters by name, as the model card holds them."""
        return asdict(self)


FEATURES = FeatureParams()
BLOCK_FRAMES = 10  # frames in a block (100 ms): a fixed shape, so that chunking cannot change a bit
BLOCKS_AT_ONCE = 10  # bounds the memory for long chunks to what a core's cache holds


def hertz_to_mel(hertz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Converts Hz to mel, HTK: 2595 log10(1 + f / 700) (O'Shaughnessy, Speech Communication, 1987)."""
    return np.asarray(2595.0 * np.log10(1.0 + np.asarray(hertz) / 700.0), dtype=np.float64)


def mel_to_hertz(mel: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Converts mel to Hz; the inverse of `hertz_to_mel`."""
    return np.asarray(700.0 * (10.0 ** (np.asarray(mel) / 2595.0) - 1.0), dtype=np.float64)


def mel_filters(params: FeatureParams = FEATURES) -> NDArray[np.float32]:
    """Returns triangular filters, float32 [n_fft // 2 + 1, bands], each with peak 1 at its centre frequency."""
    bins = np.arange(params.n_fft // 2 + 1) * (params.sample_rate / params.n_fft)
    edges = mel_to_hertz(np.linspace(hertz_to_mel(params.low_hz), hertz_to_mel(params.high_hz), params.bands + 2))
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - left) / (centre - left)
    falling = (right - bins[:, None]) / (right - centre)
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


class LogMel:
    """Log-mel frames of a stream, each computed once.

    `push` takes any number of samples and returns the frames that became ready, in blocks of `BLOCK_FRAMES`: how the
    audio is chunked changes nothing, to the last bit.
    """

    def __init__(self, params: FeatureParams = FEATURES) -> None:
        self.params = params
        self._filters = mel_filters(params)
        window = np.hanning(params.frame_samples + 1)[:-1]  # periodic
        # A full-scale sine of amplitude 1 at a bin's centre has |X| = sum(window) / 2: scaled to 0 dB.
        self._window = (window * (2.0 / window.sum())).astype(np.float32)
        self._floor = np.float32(10.0 ** (params.floor_db / 10.0))
        self._overlap = params.frame_samples - params.hop_samples
        self._block_samples = BLOCK_FRAMES * params.hop_samples
        self._pending = np.zeros(self._overlap, dtype=np.float32)
        self._spectrum = np.empty((BLOCKS_AT_ONCE * BLOCK_FRAMES, params.n_fft // 2 + 1), dtype=np.complex64)

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the frames completed by `samples`.

        Args:
            samples: float32 [n], mono, at `params.sample_rate`, any n.

        Returns:
            float32 [k, bands], dB re a full-scale sine, k a multiple of `BLOCK_FRAMES` (0 when none is complete).
        """
        pending = np.concatenate((self._pending, samples))
        blocks = (pending.size - self._overlap) // self._block_samples
        mel = np.empty((blocks * BLOCK_FRAMES, self.params.bands), dtype=np.float32)
        for first in range(0, blocks, BLOCKS_AT_ONCE):
            count = min(BLOCKS_AT_ONCE, blocks - first)
            # Overlapping rows of the same samples. sliding_window_view gives the same in four times the time.
            frames: NDArray[np.float32] = np.ndarray(
                (count * BLOCK_FRAMES, self.params.frame_samples),
                dtype=np.float32,
                buffer=pending,
                offset=first * self._block_samples * pending.itemsize,
                strides=(self.params.hop_samples * pending.itemsize, pending.itemsize),
            )
            spectrum = self._spectrum[: len(frames)]
            np.fft.rfft(frames * self._window, self.params.n_fft, out=spectrum)  # type: ignore[arg-type]  # complex64
            power = spectrum.real**2 + spectrum.imag**2
            # Each block by itself: the summation order of a matrix product depends on the shapes.
            energy = (power.reshape(count, BLOCK_FRAMES, -1) @ self._filters).reshape(-1, self.params.bands)
            rows = slice(first * BLOCK_FRAMES, (first + count) * BLOCK_FRAMES)
            mel[rows] = np.float32(10.0) * np.log10(np.maximum(energy, self._floor))
        self._pending = pending[blocks * self._block_samples :].copy()
        return mel


def log_mel(samples: NDArray[np.float32], params: FeatureParams = FEATURES) -> NDArray[np.float32]:
    """Returns log-mel frames of a whole recording: the output of `LogMel`, with the tail padded to a whole block.

    Args:
        samples: float32 [n], mono, at `params.sample_rate`.
        params: of the features.

    Returns:
        float32 [n // hop_samples, bands], dB re a full-scale sine.
    """
    block = BLOCK_FRAMES * params.hop_samples
    padded = np.pad(samples, (0, -samples.size % block))
    return LogMel(params).push(padded)[: samples.size // params.hop_samples]
