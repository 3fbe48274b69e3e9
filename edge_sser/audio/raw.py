"""Raw PCM from a pipe: what `arecord -t raw`, ffmpeg or a network client writes to standard input."""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.convert import InputConverter
from edge_sser.audio.source import AudioBlock, EndOfAudio, Source
from edge_sser.errors import SourceError, UsageError
from edge_sser.settings.schema import SampleFormat

MAX_READ_BYTES = 1 << 16  # what a Linux pipe holds
_CONTAINERS = {
    b"RIFF": "WAV",
    b"RF64": "WAV",
    b"fLaC": "FLAC",
    b"OggS": "Ogg",
    b"FORM": "AIFF",
    b"ID3\x03": "MP3",
    b"ID3\x04": "MP3",
}
_MAGIC_BYTES = 4
_CODINGS: dict[
    SampleFormat, tuple[np.dtype[Any], float]
] = {  # numpy's type, and what a sample is divided by to be in -1..1
    SampleFormat.S16LE: (np.dtype("<i2"), 2.0**15),
    SampleFormat.S32LE: (np.dtype("<i4"), 2.0**31),
    SampleFormat.F32LE: (np.dtype("<f4"), 1.0),
}

logger = logging.getLogger(__name__)


class RawSource(Source):
    """Raw PCM from a pipe, a socket or a file descriptor that a program writes to.

    Nothing is ever dropped: whoever reads late makes the writer wait, as pipes do. A sample that is no number counts as
    silence, with one warning: a stream that is live must not end because of a glitch.
    """

    live = True

    def __init__(
        self,
        stream: BinaryIO,
        *,
        name: str,
        rate_hz: int = 16_000,
        channels: int = 1,
        sample_format: SampleFormat = SampleFormat.S16LE,
        channel: int | None = None,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Takes over the stream's file descriptor, from which nothing may have been read.

        Args:
            stream: an open binary stream with a file descriptor, such as `sys.stdin.buffer`. It is not closed.
            name: the source's name in events.
            rate_hz: sample rate, Hz.
            channels: interleaved channels.
            sample_format: how a sample is coded.
            channel: the channel to take, from 0; None averages all.
            wall_clock: seconds since the epoch.
            clock: seconds on a clock that never goes back.

        Raises:
            UsageError: the stream is a terminal.
            SourceError: there is no such channel, or the rate cannot be used.
        """
        self.name = name
        self._thing = "standard input" if stream.fileno() == 0 else "the raw stream"
        if stream.isatty():
            raise UsageError(
                f"{self._thing} is a terminal, expected raw PCM: pipe some in, for example "
                "arecord -t raw -f S16_LE -r 16000 -c 1 | edge-sser listen --source -"
            )
        self._intake = InputConverter(rate_hz=rate_hz, channels=channels, channel=channel, thing=self._thing)
        self._fd = stream.fileno()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._format = sample_format
        self._type, self._full_scale = _CODINGS[sample_format]
        self._channels = channels
        self._rate_hz = rate_hz
        self._wall_clock = wall_clock
        self._clock = clock
        self.started_at = wall_clock()
        self._pending = b""  # the start of a frame whose rest has not come yet
        self._heard = 0  # frames
        self._ended = False

    def read(self, timeout_seconds: float) -> AudioBlock | None:
        """The next block, or None when none came within the timeout."""
        deadline = self._clock() + timeout_seconds
        while not self._ended:
            arrived = self._receive(max(0.0, deadline - self._clock()))
            if arrived is None:
                return None
            samples = self._take(arrived) if arrived else self._finish()
            if samples.size:
                return AudioBlock(samples)
        raise EndOfAudio

    def _receive(self, timeout_seconds: float) -> bytes | None:
        """What has arrived; nothing at the end of the stream, None when the timeout passed."""
        if not self._poll.poll(timeout_seconds * 1000):
            return None
        try:
            return os.read(self._fd, MAX_READ_BYTES)
        except BlockingIOError:  # another reader of a shared, non-blocking descriptor was faster
            return None
        except OSError as error:
            raise SourceError(f"{self._thing} cannot be read: {error.strerror}. Pipe raw PCM into it") from None

    def _take(self, arrived: bytes) -> NDArray[np.float32]:
        self._pending += arrived
        if self._heard == 0:
            if len(self._pending) < _MAGIC_BYTES:
                return np.empty(0, dtype=np.float32)
            self._refuse_container(self._pending)
        return self._decode_pending()

    def _decode_pending(self) -> NDArray[np.float32]:
        whole = len(self._pending) - len(self._pending) % (self._type.itemsize * self._channels)
        data, self._pending = self._pending[:whole], self._pending[whole:]
        values: NDArray[np.float32] = np.frombuffer(data, dtype=self._type).astype(np.float32)
        with np.errstate(invalid="ignore"):  # numpy would warn of a signalling NaN, which the intake replaces
            frames = values.reshape(-1, self._channels) / np.float32(self._full_scale)
        if self._heard == 0:
            self.started_at = self._wall_clock() - frames.shape[0] / self._rate_hz
        self._heard += frames.shape[0]
        replaced_before = self._intake.replaced
        samples = self._intake.push(frames).samples
        if self._intake.replaced and not replaced_before:
            logger.warning(
                "%s carries samples that are not numbers or are far beyond full scale; they count as silence. "
                "Check that it is coded as %s",
                self._thing,
                self._format.value,
            )
        return samples

    def _finish(self) -> NDArray[np.float32]:
        self._ended = True
        samples = self._decode_pending()
        if self._pending:
            logger.warning(
                "%s ended in the middle of a sample; its last %d bytes were left out", self._thing, len(self._pending)
            )
        if self._heard == 0:
            raise SourceError(f"{self._thing} ended before any audio came: check the program that writes to it")
        return np.concatenate((samples, self._intake.finish().samples))

    def _refuse_container(self, data: bytes) -> None:
        container = _CONTAINERS.get(data[:_MAGIC_BYTES])
        if container is not None:
            raise SourceError(
                f"{self._thing} carries a {container} file, expected raw PCM: give the file by its name, or convert "
                "it, for example with sox - -t raw -e signed -b 16 -r 16000 -c 1 -"
            )
