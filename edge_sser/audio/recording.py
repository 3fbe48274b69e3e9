"""Reader of recordings, for listening and training alike: all of the audio in a file, or an error.

libsndfile decodes; what it does not know goes to the program ffmpeg, if that is installed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edge_sser.audio import ffmpeg
from edge_sser.audio.alsa import silence_c_output
from edge_sser.audio.container import SLOPPY_BYTES, UNKNOWN_BYTES, Part, PartReader, parts
from edge_sser.errors import SourceError, short

if TYPE_CHECKING:
    import soundfile
    from numpy.typing import NDArray

SKIP_FRAMES = 1 << 18  # decoded at a time and thrown away
# With less than this missing at the end, the header is sloppy (an odd chunk, an encoder's padding), not the file
# truncated.
TORN_SECONDS = 0.1
FFMPEG_TORN_SECONDS = 1.0  # containers give the length of their longest stream, pictures included
LEFT_BYTES = 1 << 16  # more than this unread by a decoder is audio that it gave up
UNKNOWN_SECONDS = 1e9  # libsndfile gives a stream of unknown length 2^63 - 1 frames, a damaged Ogg any number
# libsndfile corrects a chunk that claims more bytes than the file has, and reports that in its log only.
_CORRECTED_SIZE = re.compile(r"(?:data|SSND|data size|riff size|riff)\s*:\s*(\d+) \(should be (\d+)\)", re.IGNORECASE)


class DecodeError(Exception):
    """Audio that ends before it should; the text says why, or is empty."""


class Decoder(Protocol):
    """A stream of frames out of a file; `frames` is its length by the header, None when unknown."""

    rate_hz: int
    channels: int
    frames: int | None

    def read(self, count: int) -> NDArray[np.float32]:
        """Returns the next frames, float32 [n, channels]; none at the end."""

    def complaint(self) -> str:
        """Returns the decoder's error; empty without one."""

    def close(self) -> None:
        """Releases the file."""


class Recording:
    """A recording, read forward.

    Attributes:
        rate_hz: sample rate, Hz.
        channels: in a frame.
        frames: length by the header; None when the header does not say.
        position: frames read so far.
    """

    def __init__(self, path: Path) -> None:
        """Opens a file that exists.

        Raises:
            SourceError: it is empty or not audio that can be decoded here.
        """
        silence_c_output()
        self._path = path
        try:
            self._parts = parts(path)
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror}") from None
        self._decoder: Decoder = _open(path, self._parts.pop(0))
        if isinstance(self._decoder, ffmpeg.FfmpegDecoder):  # it decodes the whole file
            self._parts.clear()
        self.rate_hz, self.channels = self._decoder.rate_hz, self._decoder.channels
        self.frames = None if self._parts else self._decoder.frames
        self.position = 0
        self._at_start = 0  # position at the first frame of the part

    def read(self, count: int) -> NDArray[np.float32]:
        """Returns the next frames, float32 [n, channels], n at most `count`; none at the end.

        Raises:
            SourceError: the file is truncated or damaged here, or goes on in another format.
        """
        while True:
            try:
                frames = self._decoder.read(count)
            except DecodeError as error:
                raise self._truncated(str(error)) from None
            if frames.shape[0]:
                self.position += frames.shape[0]
                return frames
            self._check_end()
            if not self._parts:
                return frames
            self._open_next()

    def skip(self, count: int) -> None:
        """Passes over frames; errors as for `read`."""
        if isinstance(self._decoder, _SndfileDecoder):
            passed = self._decoder.skip(self.position - self._at_start, count)
            self.position += passed
            count -= passed
        while count > 0 and (frames := self.read(min(count, SKIP_FRAMES))).shape[0]:
            count -= frames.shape[0]

    def close(self) -> None:
        """Closes the file."""
        self._decoder.close()

    def _check_end(self) -> None:
        reason = self._decoder.complaint()
        expected, slack = self._decoder.frames, TORN_SECONDS
        if isinstance(self._decoder, ffmpeg.FfmpegDecoder):
            slack = FFMPEG_TORN_SECONDS
        read = self.position - self._at_start
        if reason or (expected is not None and expected - read > slack * self.rate_hz):
            raise self._truncated(reason)

    def _open_next(self) -> None:
        self._decoder.close()
        self._decoder = _open(self._path, self._parts.pop(0))
        self._at_start = self.position
        if isinstance(self._decoder, ffmpeg.FfmpegDecoder):
            raise self._truncated("what follows is in another format")
        if (self._decoder.rate_hz, self._decoder.channels) != (self.rate_hz, self.channels):
            raise SourceError(
                f"{self._path} holds several recordings in different formats: after {self._seconds:.1f} s of "
                f"{self.rate_hz} Hz and {self.channels} channels there is one of {self._decoder.rate_hz} Hz and "
                f"{self._decoder.channels}. The audio before that was used; split the file, for example with ffmpeg"
            )

    @property
    def _seconds(self) -> float:
        return self.position / self.rate_hz

    def _truncated(self, reason: str) -> SourceError:
        reason = reason.rstrip(" .:")
        return SourceError(
            f"{self._path} is truncated or damaged: its audio ends after {self._seconds:.1f} s"
            f"{f' ({reason})' if reason else ''}. Copy or record it again; the audio before that was used"
        )


class _SndfileDecoder:
    """A part of a file, decoded by libsndfile."""

    def __init__(self, path: Path, part: Part) -> None:
        in_order = part.start == 0 and part.end == path.stat().st_size and not (part.patches or part.endless)
        self._reader = None if in_order else PartReader(path, part)
        # libsndfile calls back to read a part, and an exception inside such a call is lost. Python raises
        # KeyboardInterrupt in the main thread alone, so another thread decodes.
        self._thread = None if in_order else ThreadPoolExecutor(1, "edge-sser-decoder")
        try:
            self._file = self._call(_stream, os.fsencode(path) if self._reader is None else self._reader)
        except BaseException:
            self._release()
            raise
        self.rate_hz: int = self._file.samplerate
        self.channels: int = self._file.channels
        frames: int = part.frames or self._file.frames
        self.frames = None if frames / self.rate_hz >= UNKNOWN_SECONDS else frames
        self._sequential = part.sequential

    def read(self, count: int) -> NDArray[np.float32]:
        import soundfile

        try:
            frames: NDArray[np.float32] = self._call(self._file.read, count, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise DecodeError(str(error)) from None
        return frames

    def skip(self, position: int, count: int) -> int:
        """Passes over frames without decoding them; returns the number, 0 for a part that must be read in order.

        Args:
            position: frames read so far.
            count: to pass over.
        """
        if self._reader is not None or self.frames is None:
            return 0
        passed = max(0, min(count, self.frames - position))
        self._file.seek(position + passed)
        return passed

    def complaint(self) -> str:
        if self._reader is not None and self._reader.failure:
            return self._reader.failure
        for claimed, present in _CORRECTED_SIZE.findall(self._file.extra_info):
            if int(claimed) < UNKNOWN_BYTES and int(claimed) - int(present) > SLOPPY_BYTES:
                return f"{int(claimed) - int(present)} bytes of it are missing"
        if self._reader is not None and self._sequential and self._reader.unread_bytes > LEFT_BYTES:
            return f"{self._reader.unread_bytes} bytes after that are in another format, or damaged"
        return ""

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown()
        self._file.close()
        self._release()

    def _call(self, function: Callable[..., Any], *arguments: object, **options: object) -> Any:
        if self._thread is None:
            return function(*arguments, **options)
        return self._thread.submit(function, *arguments, **options).result()

    def _release(self) -> None:
        if self._thread is not None:
            self._thread.shutdown()
        if self._reader is not None:
            self._reader.close()


def _stream(file: PartReader | bytes) -> soundfile.SoundFile:
    import soundfile

    class Stream(soundfile.SoundFile):  # type: ignore[misc]
        """A file that is only read forward.

        soundfile seeks after every read of a seekable file. That makes an MP3 decoder stutter at every block border,
        and fails on a FLAC stream of unknown length.
        """

        def seekable(self) -> bool:
            return False

    return Stream(file)  # bytes for a path: a file name need not be valid UTF-8


def _open(path: Path, part: Part) -> Decoder:
    """Opens a part by libsndfile, else the file by ffmpeg.

    Raises:
        SourceError: neither can.
    """
    import soundfile

    if path.suffix.lower() == ".raw":
        raise SourceError(f"{path} is raw PCM by its name: pipe it in with --source - < {path}")
    try:
        return _not_empty(path, _SndfileDecoder(path, part))
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(" .")
    if not ffmpeg.is_installed():
        raise SourceError(
            f"{path} is not audio that libsndfile reads ({reason}): expected WAV, FLAC, Ogg, MP3 or AIFF, undamaged; "
            f"other formats must be converted first, or install the program ffmpeg, which reads {ffmpeg.FORMATS}"
        )
    try:
        return ffmpeg.FfmpegDecoder(path)
    except (ValueError, OSError) as error:
        raise SourceError(
            f"{path} is not audio that libsndfile reads ({reason}), or ffmpeg ({short(error)}): expected WAV, FLAC, "
            f"Ogg, MP3, AIFF, {ffmpeg.FORMATS}, undamaged; other formats must be converted first"
        ) from None


def _not_empty(path: Path, decoder: _SndfileDecoder) -> Decoder:
    if decoder.frames == 0:
        decoder.close()
        raise SourceError(f"{path} holds no audio (its header is there, its length is 0): record it again")
    return decoder
