"""A recording as a source, at any rate and channel count, streamed block by block."""

from __future__ import annotations

import logging
import os
import re
import stat
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_sser.audio.channels import ChannelWatch
from edge_sser.audio.convert import InputConverter
from edge_sser.audio.recording import Recording
from edge_sser.audio.source import SAMPLE_RATE, AudioBlock, EndOfAudio, Source
from edge_sser.errors import SourceError, short

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOOKED_AT_SECONDS = 30.0  # of a recording's channels, before their mean is taken
BLOCK_SECONDS = 1.0  # decoded at a time
MAX_BLOCK_VALUES = 1 << 20  # frames x channels decoded at a time: bounds memory for a file of a thousand channels
# Modification times, in seconds since the epoch, that leave years for a recording within the years 1 to 9999.
OLDEST, LATEST = -62e9, 253e9
PACED_SAMPLES = SAMPLE_RATE // 5  # in a block of a paced recording
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # of which a path has one slash left

logger = logging.getLogger(__name__)


class FileSource(Source):
    """A recording as a source. Memory does not grow with its length.

    A truncated file yields its audio, and then the error.
    """

    live = False

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        channel: int | None = None,
        paced: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Opens the file.

        Args:
            path: the file.
            name: the source's name in events.
            channel: the channel to take, from 0; None averages all.
            paced: play the audio in real time, as a microphone would, instead of as fast as it can be read.
            clock: seconds on a clock that never goes back.
            sleep: waits for seconds on `clock`.

        Raises:
            SourceError: the file is missing, unreadable, empty, or not audio.
        """
        self.name = name
        self._path = path
        self._pacer = _Pacer(clock, sleep) if paced else None
        modified = _modification_time(path)
        self._recording = Recording(path)
        rate_hz, channels, self._frames = self._recording.rate_hz, self._recording.channels, self._recording.frames
        try:
            if channel is None and channels > 1:
                channel = _audible_channel(path)
            self._converter = InputConverter(rate_hz=rate_hz, channels=channels, channel=channel, origin=str(path))
        except SourceError:
            self._recording.close()
            raise
        self.started_at = modified - (self._frames or 0) / rate_hz
        self._block_frames = min(int(rate_hz * BLOCK_SECONDS), MAX_BLOCK_VALUES // channels)
        self._decoded = np.empty(0, dtype=np.float32)  # 16 kHz, for the next blocks
        self._finished = False

    @property
    def duration_seconds(self) -> float | None:
        """Length of the recording by its header, seconds; None when the header does not say."""
        return None if self._frames is None else self._frames / self._converter.rate_hz

    def read(self, timeout_seconds: float) -> AudioBlock | None:
        """Returns the next block, or None when a paced recording has no block within the timeout."""
        if self._decoded.size == 0:
            self._decoded = self._decode()
        size = self._decoded.size
        if self._pacer is not None:
            size = min(PACED_SAMPLES, size)
            if not self._pacer.wait(size, timeout_seconds):
                return None
        samples, self._decoded = self._decoded[:size], self._decoded[size:]
        return AudioBlock(samples)

    def close(self) -> None:
        """Closes the file."""
        self._recording.close()

    def _decode(self) -> NDArray[np.float32]:
        while not self._finished:
            frames = self._recording.read(self._block_frames)
            self._finished = frames.shape[0] == 0
            block = self._converter.finish() if self._finished else self._converter.push(frames)
            if self._converter.replaced:
                raise SourceError(
                    f"{self._path} holds samples that are not numbers, or far beyond full scale, before "
                    f"{self._recording.position / self._recording.rate_hz:.1f} s: export it again from the program "
                    "that made it"
                )
            if block.samples.size:
                return block.samples
        raise EndOfAudio


class _Pacer:
    """Releases samples in real time, counted from the first call."""

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._clock = clock
        self._sleep = sleep
        self._origin: float | None = None  # clock at the first sample
        self._released = 0

    def wait(self, samples: int, timeout_seconds: float) -> bool:
        """Waits until the next samples are due. Returns False when they are not due within the timeout."""
        if self._origin is None:
            self._origin = self._clock()
        wait = self._origin + (self._released + samples) / SAMPLE_RATE - self._clock()
        if wait > 0:
            self._sleep(min(wait, timeout_seconds))
        if wait > timeout_seconds:
            return False
        self._released += samples
        return True


def _audible_channel(path: Path) -> int | None:
    """Returns None where the mean of a recording's channels can be heard; the loudest channel where they cancel."""
    watch = ChannelWatch()
    with closing(Recording(path)) as recording:
        count = min(recording.rate_hz, MAX_BLOCK_VALUES // recording.channels)
        try:
            while recording.position < LOOKED_AT_SECONDS * recording.rate_hz:
                frames = recording.read(count)
                if not frames.shape[0]:
                    break
                watch.push(frames)
        except SourceError:  # damaged: told when it is read
            pass
    channel = watch.instead_of_mean()
    if channel is not None:
        logger.warning(
            "%s: its channels cancel each other out, as those of a balanced microphone do; channel %d alone is used. "
            "Choose another with --channel",
            path,
            channel,
        )
    return channel


def _modification_time(path: Path) -> float:
    """Returns the modification time of a file with content, in seconds since the epoch.

    Raises:
        SourceError: the path is missing, unreadable, empty, not a regular file, or dated where no calendar goes.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise SourceError(
                f"{path} is a directory: name the audio files in it, or use analyze --out, which takes folders"
            )
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(f"{path} is not a regular file: pipe raw PCM into --source - instead")
        if not os.access(path, os.R_OK):
            raise PermissionError
    except FileNotFoundError:
        if _URL.match(str(path)):
            raise SourceError("a URL is not opened here: save its recording as a file, for example by curl") from None
        what = "matches no file" if "*" in str(path) else "does not exist"
        raise SourceError(f"{path} {what}: check the path (an audio file was expected)") from None
    except PermissionError:
        raise SourceError(f"{path} may not be read by this user: change its owner or mode") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise SourceError(f"{path} cannot be opened: {short(error)}") from None
    if status.st_size == 0:
        raise SourceError(f"{path} is empty (0 bytes): record or copy it again")
    if not OLDEST < status.st_mtime < LATEST:
        raise SourceError(f"{path} has a modification time beyond any calendar: set it with touch, or copy the file")
    return status.st_mtime
