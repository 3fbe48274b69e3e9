"""Converts frames at any rate and channel count to 16 kHz, mono, finite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.look import MAX_MAGNITUDE
from edge_sser.audio.signal import CLEAR, Signal
from edge_sser.audio.source import SAMPLE_RATE, AudioBlock
from edge_sser.audio.watch import SignalWatch
from edge_sser.errors import SourceError

if TYPE_CHECKING:
    import soxr

MIN_RATE_HZ = 4_000  # below it hardly any speech is left
MAX_RATE_HZ = 384_000  # above it the data is something other than sound


class Resampler:
    """A streaming resampler to 16 kHz (soxr, quality HQ: flat to 7.2 kHz, aliases below -120 dB).

    How the audio is chunked changes nothing, to the last bit. Audio at 16 kHz passes unchanged.
    """

    def __init__(self, rate_hz: int) -> None:
        """Starts a stream.

        Args:
            rate_hz: sample rate of the input, Hz.
        """
        self._stream: soxr.ResampleStream | None = None
        if rate_hz != SAMPLE_RATE:
            import soxr

            self._stream = soxr.ResampleStream(rate_hz, SAMPLE_RATE, 1, dtype="float32", quality="HQ")

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the samples at 16 kHz that became ready.

        Args:
            samples: float32 [n], mono, finite, at the stream's rate, any n.

        Returns:
            float32 [k], 16 kHz. The filter holds some samples back until more come or `finish` is called.
        """
        return samples if self._stream is None else self._resample(self._stream, samples, last=False)

    def finish(self) -> NDArray[np.float32]:
        """Returns the samples held back by the filter, float32 [k]: n pushed give round(n x 16000 / rate) in all."""
        empty = np.empty(0, dtype=np.float32)
        return empty if self._stream is None else self._resample(self._stream, empty, last=True)

    @staticmethod
    def _resample(stream: soxr.ResampleStream, samples: NDArray[np.float32], *, last: bool) -> NDArray[np.float32]:
        ready: NDArray[np.float32] = stream.resample_chunk(samples, last=last)
        return ready


def mix(frames: NDArray[np.float32], channel: int | None) -> NDArray[np.float32]:
    """Mixes channels down to one, or takes one of them.

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
    """Makes blocks from the frames of a device, file or pipe: mixes, replaces invalid samples, resamples.

    Attributes:
        rate_hz: sample rate of the frames, Hz.
        replaced: samples so far, at the source's own rate, that were NaN, infinite or absurdly large, and became 0.
    """

    def __init__(
        self, *, rate_hz: int, channels: int, channel: int | None, origin: str, lasting: int | None = None
    ) -> None:
        """Checks the format.

        Args:
            rate_hz: sample rate of the frames, Hz.
            channels: channels in a frame.
            channel: the one to take, from 0; None averages all.
            origin: name of the device, file or pipe, as the start of an error message.
            lasting: seconds of a fault of the signal before it counts; None to look for no faults.

        Raises:
            SourceError: the rate is outside `MIN_RATE_HZ`..`MAX_RATE_HZ`, or there is no such channel.
        """
        if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise SourceError(
                f"{origin} has a sample rate of {rate_hz} Hz, expected {MIN_RATE_HZ} to {MAX_RATE_HZ}: "
                "it is not a recording of sound, or its header is damaged"
            )
        if channel is not None and not 0 <= channel < channels:
            has = "1 channel, number 0" if channels == 1 else f"{channels} channels, numbered 0 to {channels - 1}"
            raise SourceError(f"{origin} has {has}: there is no channel {channel}, choose another or average all")
        self.replaced = 0
        self.rate_hz = rate_hz
        self._channel = channel
        self._watch: SignalWatch | None = None
        if lasting is not None:
            self._watch = SignalWatch(rate_hz=rate_hz, channels=channels, channel=channel, lasting=lasting)
        self._resampler = Resampler(rate_hz)
        self._received = 0  # frames at the source's rate, lost ones included
        self._accounted = 0  # samples at 16 kHz in blocks, dropped ones included

    @property
    def signal(self) -> Signal:
        """Faults of the signal so far."""
        return CLEAR if self._watch is None else self._watch.signal

    def push(self, frames: NDArray[np.float32], dropped: int = 0) -> AudioBlock:
        """Returns the block that became ready.

        After a loss the resampler is restarted: a filter across the gap would smear two moments into each other. The
        samples that it held back count as lost, so that delivered and dropped samples always add up to the stream time
        at which the block begins.

        Args:
            frames: float32 [n, channels] at the source's rate.
            dropped: frames lost immediately before these.
        """
        lost = 0
        if dropped:
            self._received += dropped
            self._resampler = Resampler(self.rate_hz)
            lost = max(0, self._received * SAMPLE_RATE // self.rate_hz - self._accounted)
        self._received += frames.shape[0]
        samples = self._resampler.push(self._finite(self._mono(frames)))
        self._accounted += lost + samples.size
        return AudioBlock(samples, lost)

    def finish(self) -> AudioBlock:
        """Returns the last block: the samples that the resampler held back."""
        samples = self._resampler.finish()
        self._accounted += samples.size
        return AudioBlock(samples)

    def _mono(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._watch is None:
            return mix(frames, self._channel)
        parts = [mix(part, self._watch.channel) for part in self._watch.parts(frames)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _finite(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        with np.errstate(invalid="ignore"):  # of a signalling NaN, which the comparison finds anyway
            usable = np.abs(samples) <= MAX_MAGNITUDE
        if usable.all():
            return samples
        self.replaced += int(samples.size - np.count_nonzero(usable))
        return np.where(usable, samples, np.float32(0.0))
