"""Decoding by the program ffmpeg: what phones and video calls record, such as M4A, WMA, WebM and AMR."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sser.errors import short

FORMATS = "M4A, AAC, WMA, WebM, AMR, MP4, 3GP"
# Containers that hold their own sound. Playlists and the like, which name other files, are left out.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,asf,matroska,webm,aac,amr,amrnb,amrwb,ac3,eac3,avi,flv,mp3,mpegts,mpeg,ogg,oga,wav,w64,aiff,"
    "caf,au,flac,ape,wv,tta,dsf,dts,qcp,voc,rm,iff"
)
_HEADER_BYTES = 24  # of AU
_MAX_BOXES = 10_000  # looked at in an MP4
_FLOAT = 6  # AU's number for 32 bit floats
_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)")
_ERROR = re.compile(r"^\[.*?\[(?:error|fatal)\] (.*)|^\[(?:error|fatal)\] (.*)", re.MULTILINE)


def is_installed() -> bool:
    """Returns True when the program is on the PATH."""
    return shutil.which("ffmpeg") is not None


class FfmpegDecoder:
    """The first audio stream of a file, decoded by the program ffmpeg.

    Attributes:
        rate_hz: sample rate, Hz.
        channels: in a frame.
        frames: length by the file's header; None when it does not say.
    """

    def __init__(self, path: Path) -> None:
        """Starts the program.

        Raises:
            ValueError: it cannot decode the file; the text says why.
        """
        self._is_joined = _is_joined_mp4(path)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        command: list[str | bytes] = ["ffmpeg", "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info"]
        command += ["-protocol_whitelist", "file,pipe"]
        command += ["-format_whitelist", _CONTAINERS, "-i", b"file:" + os.fsencode(path), "-map", "0:a:0", "-vn"]
        command += ["-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._said)
        assert self._process.stdout is not None
        self._out = self._process.stdout
        header = self._out.read(_HEADER_BYTES)
        if len(header) < _HEADER_BYTES or header[:4] != b".snd":
            self._process.wait()
            self._is_joined = False
            reason = self.complaint() or "no audio in it"
            self.close()
            raise ValueError(reason)
        offset, _, coding, self.rate_hz, self.channels = struct.unpack(">IIIII", header[4:])
        assert coding == _FLOAT
        self._out.read(offset - _HEADER_BYTES)
        duration = _DURATION.search(self._text())
        self.frames: int | None = None
        if duration is not None:
            seconds = 3600 * int(duration[1]) + 60 * int(duration[2]) + float(duration[3])
            self.frames = round(seconds * self.rate_hz)

    def read(self, count: int) -> NDArray[np.float32]:
        """Returns the next frames, float32 [n, channels]; fewer than `count` at the end only."""
        frame_bytes = 4 * self.channels
        data = self._out.read(count * frame_bytes)
        whole = len(data) - len(data) % frame_bytes
        return np.frombuffer(data[:whole], dtype=">f4").astype(np.float32).reshape(-1, self.channels)

    def complaint(self) -> str:
        """Returns the program's last error in words; empty without one."""
        if self._is_joined:
            return "a second recording follows in the file: split it"
        found = [first or second for first, second in _ERROR.findall(self._text())]
        reasons = [text for text in found if not text.startswith(("Error opening input", "Error opening output"))]
        return short(reasons[-1]) if reasons else short(found[-1]) if found else ""

    def close(self) -> None:
        """Ends the program. Safe to call twice."""
        self._out.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._said.close()

    def _text(self) -> str:
        return os.pread(self._said.fileno(), 1 << 16, 0).decode("utf-8", errors="replace")


def _is_joined_mp4(path: Path) -> bool:
    """Returns True for several MP4 files behind one another, of which ffmpeg reads the first alone."""
    with path.open("rb") as file:
        end, place = file.seek(0, os.SEEK_END), 0
        for number in range(_MAX_BOXES):
            file.seek(place)
            head = file.read(16)
            if len(head) < 8 or place >= end or (number == 0 and head[4:8] != b"ftyp"):
                return False
            if number and head[4:8] == b"ftyp":
                return True
            size = int.from_bytes(head[:4], "big")
            size = int.from_bytes(head[8:], "big") if size == 1 else size
            if size < 8:  # to the end of the file
                return False
            place += size
    return False
