"""From frames at any rate and channel count to what every source yields: 16 kHz, mono, finite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE, AudioBlock
from edge_sser.errors import SourceError

if TYPE_CHECKING:
    import soxr

MIN_RATE_HZ = 4_000  # below it hardly any speech is left
MAX_RATE_HZ = 384_000  # above it something other than sound is being read
# Samples beyond 120 dB over full scale are no sound (a float file read with the wrong coding, for example), and their
# power would overflow float32. What is between full scale and this passes: the level meter flags it as clipped.
MAX_MAGNITUDE = 1e6


class Resampler:
    """A streaming resampler to 16 kHz (soxr, quality HQ: flat to 7.2 kHz, aliases below -120 dB).

    How the audio is chunked changes nothing, to the last bit. At 16 kHz it hands on what it gets.
    """

    def __init__(self, rate_hz: int) -> None:
        """Starts a stream.

        Args:
            rate_hz: sample rate of what is pushed, Hz.
        """
        self._stream: soxr.ResampleStream | None = None
        if rate_hz != SAMPLE_RATE:
            import soxr

            self._stream = soxr.ResampleStream(rate_hz, SAMPLE_RATE, 1, dtype="float32", quality="HQ")

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """The samples at 16 kHz that became ready.

        Args:
            samples: float32 [n], mono, finite, at the stream's rate, any n.

        Returns:
            float32 [k], 16 kHz. The filter holds some samples back until more come or `finish` is called.
        """
        return samples if self._stream is None else self._resample(self._stream, samples, last=False)

    def finish(self) -> NDArray[np.float32]:
        """The samples that the filter held back, float32 [k]. In all, n pushed samples give round(n x 16000 / rate)."""
        nothing = np.empty(0, dtype=np.float32)
        return nothing if self._stream is None else self._resample(self._stream, nothing, last=True)

    @staticmethod
    def _resample(stream: soxr.ResampleStream, samples: NDArray[np.float32], *, last: bool) -> NDArray[np.float32]:
        ready: NDArray[np.float32] = stream.resample_chunk(samples, last=last)
        return ready


def mix(frames: NDArray[np.float32], channel: int | None) -> NDArray[np.float32]:
    """One channel of many.

    Args:
        frames: float32 [n, channels].
        channel: the one to take, from 0; None averages all.

    Returns:
        float32 [n].
    """
    if channel is not None or frames.shape[1] == 1:
        return np.ascontiguousarray(frames[:, channel or 0])
    # Channel by channel, not frames.mean(axis=1): the order of the additions must not depend on how many frames came.
    mono: NDArray[np.float32] = frames[:, 0].copy()
    with np.errstate(over="ignore", invalid="ignore"):
        for other in range(1, frames.shape[1]):
            mono += frames[:, other]
        mono /= np.float32(frames.shape[1])
    return mono


class InputConverter:
    """What stands between a device, file or pipe and the blocks of a source: mix, replace what is no number, resample.

    Attributes:
        replaced: samples so far, at the source's own rate, that were NaN, infinite or absurdly large, and became 0.
    """

    def __init__(self, *, rate_hz: int, channels: int, channel: int | None, thing: str) -> None:
        """Checks that the audio can be used.

        Args:
            rate_hz: sample rate of the frames, Hz.
            channels: channels in a frame.
            channel: the one to take, from 0; None averages all.
            thing: what the audio comes from, as the start of an error message.

        Raises:
            SourceError: the rate is outside `MIN_RATE_HZ`..`MAX_RATE_HZ`, or there is no such channel.
        """
        if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise SourceError(
                f"{thing} has a sample rate of {rate_hz} Hz, expected {MIN_RATE_HZ} to {MAX_RATE_HZ}: "
                "it is not a recording of sound, or its header is damaged"
            )
        if channel is not None and not 0 <= channel < channels:
            has = "1 channel, number 0" if channels == 1 else f"{channels} channels, numbered 0 to {channels - 1}"
            raise SourceError(f"{thing} has {has}: there is no channel {channel}, choose another or average all")
        self.replaced = 0
        self._rate_hz = rate_hz
        self._channel = channel
        self._resampler = Resampler(rate_hz)
        self._heard = 0  # frames at the source's rate that came or were lost
        self._accounted = 0  # samples at 16 kHz that were handed on or reported as dropped

    def push(self, frames: NDArray[np.float32], dropped: int = 0) -> AudioBlock:
        """The block that became ready.

        After a loss the resampler starts afresh: a filter that ran across the gap would smear two moments into each
        other. What it still held goes with the lost audio and is counted with it, so that samples handed on and samples
        reported as dropped always add up to the place in time where the block begins.

        Args:
            frames: float32 [n, channels] at the source's rate.
            dropped: frames that were lost immediately before these.
        """
        lost = 0
        if dropped:
            self._heard += dropped
            self._resampler = Resampler(self._rate_hz)
            lost = max(0, self._heard * SAMPLE_RATE // self._rate_hz - self._accounted)
        self._heard += frames.shape[0]
        samples = self._resampler.push(self._finite(mix(frames, self._channel)))
        self._accounted += lost + samples.size
        return AudioBlock(samples, lost)

    def finish(self) -> AudioBlock:
        """The last block: what the resampler held back."""
        samples = self._resampler.finish()
        self._accounted += samples.size
        return AudioBlock(samples)

    def _finite(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        with np.errstate(invalid="ignore"):  # a signalling NaN, which is found all the same
            usable = np.abs(samples) <= MAX_MAGNITUDE
        if usable.all():
            return samples
        self.replaced += int(samples.size - np.count_nonzero(usable))
        return np.where(usable, samples, np.float32(0.0))
