"""A recording: any file that libsndfile reads, at any rate and channel count, streamed block by block."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_sser.audio.alsa import silence_c_output
from edge_sser.audio.convert import InputConverter
from edge_sser.audio.source import SAMPLE_RATE, AudioBlock, EndOfAudio, Source
from edge_sser.errors import SourceError

if TYPE_CHECKING:
    import soundfile
    from numpy.typing import NDArray

BLOCK_SECONDS = 1.0  # decoded at a time
MAX_BLOCK_VALUES = 1 << 20  # frames x channels decoded at a time: bounds memory for a file of a thousand channels
PACED_SAMPLES = SAMPLE_RATE // 5  # in a block of a paced recording
# With less than this missing at the end, the header is sloppy (an odd chunk, an encoder's padding), not the file
# truncated.
TORN_SECONDS = 0.1
TORN_BYTES = 64
# Programs that stream WAV into a pipe write a size that means "unknown": 2^32 - 1, 2^31 - 1, or sox's 0x7ffff000.
UNKNOWN_BYTES = 0x7FFF_0000
UNKNOWN_SECONDS = 1e9  # libsndfile gives a FLAC stream of unknown length 2^63 - 1 frames, a damaged Ogg any number
# libsndfile corrects a chunk that claims more bytes than the file has, and reports that in its log only.
_CORRECTED_SIZE = re.compile(r"(?:data|SSND|data size|riff size|riff)\s*:\s*(\d+) \(should be (\d+)\)", re.IGNORECASE)


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
        silence_c_output()
        self._file = _open(path)
        rate_hz, channels, frames = self._file.samplerate, self._file.channels, self._file.frames
        try:
            if frames == 0:
                raise SourceError(f"{path} holds no audio (its header is there, its length is 0): record it again")
            self._converter = InputConverter(rate_hz=rate_hz, channels=channels, channel=channel, origin=str(path))
        except SourceError:
            self._file.close()
            raise
        self._frames = frames if frames / rate_hz < UNKNOWN_SECONDS else None
        self.started_at = modified - (self._frames or 0) / rate_hz
        self._block_frames = min(int(rate_hz * BLOCK_SECONDS), MAX_BLOCK_VALUES // channels)
        self._read_frames = 0
        self._decoded = np.empty(0, dtype=np.float32)  # 16 kHz, for the next blocks
        self._finished = False

    @property
    def duration_seconds(self) -> float | None:
        """Length of the recording by its header, seconds; None when the header does not say."""
        return None if self._frames is None else self._frames / self._converter.rate_hz

    @property
    def _read_seconds(self) -> float:
        return self._read_frames / self._converter.rate_hz

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
        self._file.close()

    def _decode(self) -> NDArray[np.float32]:
        while not self._finished:
            frames = self._read()
            self._read_frames += frames.shape[0]
            self._finished = frames.shape[0] == 0
            block = self._converter.finish() if self._finished else self._converter.push(frames)
            if self._converter.replaced:
                raise SourceError(
                    f"{self._path} holds samples that are not numbers, or far beyond full scale, before "
                    f"{self._read_seconds:.1f} s: export it again from the program that made it"
                )
            if block.samples.size:
                return block.samples
        self._refuse_truncated()
        raise EndOfAudio

    def _read(self) -> NDArray[np.float32]:
        import soundfile

        try:
            frames: NDArray[np.float32] = self._file.read(self._block_frames, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise self._truncated(error) from None
        return frames

    def _refuse_truncated(self) -> None:
        if self._frames is not None and self._frames - self._read_frames > TORN_SECONDS * self._converter.rate_hz:
            raise self._truncated(None)
        for claimed, present in _CORRECTED_SIZE.findall(self._file.extra_info):
            if int(claimed) < UNKNOWN_BYTES and int(claimed) - int(present) > TORN_BYTES:
                raise self._truncated(None)

    def _truncated(self, error: Exception | None) -> SourceError:
        reason = str(error).rstrip(" .:") if error is not None else ""
        return SourceError(
            f"{self._path} is truncated or damaged: its audio ends after {self._read_seconds:.1f} s"
            f"{f' ({reason})' if reason else ''}. Copy or record it again; the audio before that was used"
        )


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


def _modification_time(path: Path) -> float:
    """Returns the modification time of a file with content, in seconds since the epoch.

    Raises:
        SourceError: the path is missing, unreadable, empty, or not a regular file.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise SourceError(f"{path} is a directory: name the audio files in it")
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(f"{path} is not a regular file: pipe raw PCM into --source - instead")
        if not os.access(path, os.R_OK):
            raise PermissionError
    except FileNotFoundError:
        raise SourceError(f"{path} does not exist: check the path (an audio file was expected)") from None
    except PermissionError:
        raise SourceError(f"{path} may not be read by this user: change its owner or mode") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise SourceError(f"{path} cannot be opened: {error}") from None
    if status.st_size == 0:
        raise SourceError(f"{path} is empty (0 bytes): record or copy it again")
    return status.st_mtime


def _open(path: Path) -> soundfile.SoundFile:
    import soundfile

    class Stream(soundfile.SoundFile):  # type: ignore[misc]
        """A file that is only read forward.

        soundfile seeks after every read of a seekable file. That makes an MP3 decoder stutter at every block border,
        and fails on a FLAC stream of unknown length.
        """

        def seekable(self) -> bool:
            return False

    try:
        return Stream(os.fsencode(path))  # bytes: a file name need not be valid UTF-8
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(" .")
    except TypeError:  # soundfile needs the coding of a file with the suffix .raw, which has no header
        raise SourceError(f"{path} is raw PCM by its name: pipe it in with --source - < {path}") from None
    raise SourceError(
        f"{path} is not audio that libsndfile reads ({reason}): expected WAV, FLAC, Ogg, MP3 or AIFF, "
        "undamaged; other formats must be converted first, for example with ffmpeg"
    )
