"""Raw PCM from a pipe: the output of `arecord -t raw`, ffmpeg or a network client on standard input."""

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
from edge_sser.audio.sniff import ALIGNMENT, ENOUGH_BYTES, MAGIC_BYTES, container, other_coding
from edge_sser.audio.source import AudioBlock, EndOfAudio, Source
from edge_sser.audio.watch import LASTING_LOOKS
from edge_sser.errors import SourceError, UsageError
from edge_sser.settings.schema import SampleFormat

MAX_READ_BYTES = 1 << 16  # capacity of a Linux pipe
LEAST_BYTES = 1 << 13  # of sound that says something of its coding
CHECKS = 30  # of so many seconds each; a stream may begin with hiss, which looks alike in every coding
CHECK_SECONDS = 2.0  # of sound in which another coding shows; less than a reading needs
# numpy's type, and the value of full scale
_CODINGS: dict[SampleFormat, tuple[np.dtype[Any], float]] = {
    SampleFormat.S16LE: (np.dtype("<i2"), 2.0**15),
    SampleFormat.S32LE: (np.dtype("<i4"), 2.0**31),
    SampleFormat.F32LE: (np.dtype("<f4"), 1.0),
}

logger = logging.getLogger(__name__)


class RawSource(Source):
    """Raw PCM from a pipe or a socket that a program writes to.

    Nothing is ever dropped: a late reader makes the writer wait, as pipes do. An invalid sample counts as silence, with
    one warning: a live stream must not end because of a glitch.
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
            stream: an open binary stream with a file descriptor, such as `sys.stdin.buffer`. `close` leaves it open.
            name: the source's name in events.
            rate_hz: sample rate, Hz.
            channels: interleaved channels.
            sample_format: coding of a sample.
            channel: the channel to take, from 0; None averages all while all are well, else takes the best.
            wall_clock: seconds since the epoch.
            clock: seconds on a clock that never goes back.

        Raises:
            UsageError: the stream is a terminal.
            SourceError: there is no such channel, or the rate is unusable.
        """
        self.name = name
        self._origin = "standard input" if stream.fileno() == 0 else "the raw stream"
        if stream.isatty():
            raise UsageError(
                f"{self._origin} is a terminal, expected raw PCM: pipe some in, for example "
                "arecord -t raw -f S16_LE -r 16000 -c 1 | edge-sser listen --source -"
            )
        self._converter = InputConverter(
            rate_hz=rate_hz, channels=channels, channel=channel, origin=self._origin, lasting=LASTING_LOOKS
        )
        self._fd = stream.fileno()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._format = sample_format
        self._channels = channels
        self._wall_clock = wall_clock
        self._clock = clock
        self.started_at = wall_clock()
        self._pending = b""  # an incomplete frame
        self._received = 0  # frames
        self._ended = False
        self._checks = CHECKS  # left
        self._head: bytes | None = b""  # of the stream, until it was checked

    def read(self, timeout_seconds: float) -> AudioBlock | None:
        """Returns the next block, or None when none came within the timeout."""
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
        """Returns the bytes that have arrived; empty at the end of the stream, None after the timeout."""
        if not self._poll.poll(timeout_seconds * 1000):
            return None
        try:
            return os.read(self._fd, MAX_READ_BYTES)
        except BlockingIOError:  # another reader of a shared, non-blocking descriptor was faster
            return None
        except OSError as error:
            raise SourceError(f"{self._origin} cannot be read: {error.strerror}. Pipe raw PCM into it") from None

    def _take(self, arrived: bytes) -> NDArray[np.float32]:
        self._pending += arrived
        if self._head is not None:
            self._head += arrived
            if self._received == 0 and len(self._head) < MAGIC_BYTES:
                return np.empty(0, dtype=np.float32)
            self._check(last=False)
        return self._decode_pending()

    def _decode_pending(self) -> NDArray[np.float32]:
        sample_type, full_scale = _CODINGS[self._format]
        whole = len(self._pending) - len(self._pending) % (sample_type.itemsize * self._channels)
        data, self._pending = self._pending[:whole], self._pending[whole:]
        values: NDArray[np.float32] = np.frombuffer(data, dtype=sample_type).astype(np.float32)
        with np.errstate(invalid="ignore"):  # numpy would warn of a signalling NaN, which the converter replaces
            frames = values.reshape(-1, self._channels) / np.float32(full_scale)
        if self._received == 0:
            self.started_at = self._wall_clock() - frames.shape[0] / self._converter.rate_hz
        self._received += frames.shape[0]
        replaced_before = self._converter.replaced
        samples = self._converter.push(frames).samples
        self.signal = self._converter.signal
        if self._converter.replaced and not replaced_before:
            logger.warning(
                "%s carries samples that are not numbers or are far beyond full scale; they count as silence. "
                "Check that it is coded as %s",
                self._origin,
                self._format.value,
            )
        return samples

    def _finish(self) -> NDArray[np.float32]:
        self._ended = True
        self._check(last=True)
        samples = self._decode_pending()
        if self._pending:
            logger.warning(
                "%s ended in the middle of a sample; its last %d bytes were left out", self._origin, len(self._pending)
            )
        if self._received == 0:
            raise SourceError(f"{self._origin} ended before any audio came: check the program that writes to it")
        return np.concatenate((samples, self._converter.finish().samples))

    def _check(self, *, last: bool) -> None:
        """Refuses a file, and PCM in another coding than the one that was given."""
        if self._head is None:
            return
        kind = container(self._head) if self._checks == CHECKS else None
        if kind is not None:
            raise SourceError(
                f"{self._origin} carries {'an' if kind[0] in 'AOM' else 'a'} {kind} file, expected raw PCM: give the "
                "file by its name, or convert it, for example with sox - -t raw -e signed -b 16 -r 16000 -c 1 -"
            )
        frame_bytes = _CODINGS[self._format][0].itemsize * self._channels
        step = ALIGNMENT * self._channels  # whole frames in every coding
        quiet = len(self._head) - len(self._head.lstrip(b"\0"))
        if quiet == len(self._head) and quiet > ENOUGH_BYTES:  # digital silence says nothing of its coding
            self._head = self._head[quiet - quiet % step - step :]
        sound = self._head[quiet - quiet % step :]
        enough = min(ENOUGH_BYTES, round(CHECK_SECONDS * self._converter.rate_hz) * frame_bytes)
        if len(sound) < enough and not last:
            return
        self._checks -= 1
        rest = len(sound) % step
        self._head = sound[len(sound) - rest :] if self._checks else None
        coding = other_coding(sound, self._format, self._channels) if len(sound) >= LEAST_BYTES else None
        if coding is not None:
            known = coding in list(SampleFormat)
            remedy = f"give --raw-format {coding}" if known else f"convert it from {coding} to s16le, as sox does"
            raise SourceError(
                f"{self._origin} is raw PCM coded as {coding}, not as {self._format.value}, in which it would be "
                f"noise: {remedy}"
            )
