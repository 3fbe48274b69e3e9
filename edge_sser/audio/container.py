"""Layout of a recording's file: the recordings in it, one behind another, and size fields that are wrong.

libsndfile believes a header. It decodes nothing where a recorder lost power before it wrote the size, stops an MP3 at a
length guessed from its first frames, and ends after the first of several recordings that were joined. The layout tells
it the truth: a part of the file for each recording, with corrected bytes in the header.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import BinaryIO

# Programs that stream WAV into a pipe write a size that means "unknown": 2^32 - 1, 2^31 - 1, or sox's 0x7ffff000.
UNKNOWN_BYTES = 0x7FFF_0000
SLOPPY_BYTES = 64  # less than this behind the audio is padding
TAG_MARGIN_BYTES = 4096  # by which an MP3 may be longer than its length tag says
ENDLESS_BYTES = 1 << 50  # size reported for a stream whose length shall not be guessed from its size
_TAIL_BYTES = 1 << 17  # at the end of an endless stream, where decoders look for tags
_SCAN_BYTES = 1 << 20
MAX_PARTS = 10_000
_MAX_CHUNKS = 1000  # looked at in one recording
_MAX_FIRST_FRAME_BYTES = 256  # holds the length tag of an MP3
_FLAC_STARTS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")
_TAGS = (b"ID3", b"TAG", b"APE", b"LYR")
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


@dataclass(frozen=True, slots=True)
class Part:
    """One recording in a file.

    Attributes:
        start: its first byte.
        end: the byte behind its last.
        patches: bytes to put over those of the file, by place from `start`.
        endless: True for a stream whose length nothing says; decoders are told of a huge size.
        frames: length by its header, where `patches` hide that from the decoder; None where they do not.
        sequential: True for a coding that a decoder reads to its last byte.
    """

    start: int
    end: int
    patches: tuple[tuple[int, bytes], ...] = ()
    endless: bool = False
    frames: int | None = None
    sequential: bool = False


class PartReader(io.RawIOBase):
    """A part of a file, as a file of its own.

    Attributes:
        failure: reason for which the disk gave no more; empty without one. A decoder sees the end of the file.
    """

    def __init__(self, path: Path, part: Part) -> None:
        """Opens the file.

        Raises:
            OSError: the file cannot be opened.
        """
        self._file = path.open("rb", buffering=0)
        self._part = part
        self._size = part.end - part.start
        self._place = 0
        self.failure = ""

    @property
    def unread_bytes(self) -> int:
        """Bytes between the place and the end."""
        return self._size - self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves the place; returns it."""
        end = ENDLESS_BYTES if self._part.endless else self._size
        self._place = max(0, offset + (0, self._place, end)[whence])
        return self._place

    def tell(self) -> int:
        """Returns the place."""
        return self._place

    def readinto(self, buffer: memoryview | bytearray) -> int:  # type: ignore[override]
        """Reads into a buffer; returns the number of bytes."""
        wanted = len(buffer)
        if self._place >= self._size:
            if not self._part.endless or self._place < ENDLESS_BYTES - _TAIL_BYTES:
                return 0
            count = min(wanted, ENDLESS_BYTES - self._place)  # a tag is looked for: there is none
            buffer[:count] = bytes(count)
            self._place += count
            return count
        try:
            self._file.seek(self._part.start + self._place)
            data = bytearray(self._file.read(min(wanted, self._size - self._place)))
        except OSError as error:
            self.failure = error.strerror or str(error)
            return 0
        for place, patch in self._part.patches:
            first, last = max(place, self._place), min(place + len(patch), self._place + len(data))
            if first < last:
                data[first - self._place : last - self._place] = patch[first - place : last - place]
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        super().close()


def parts(path: Path) -> list[Part]:
    """Returns the recordings in a file; the whole file as one where its format is unknown or in order.

    Raises:
        OSError: the file cannot be read, or holds more than `MAX_PARTS` recordings.
    """
    with path.open("rb") as file:
        end = file.seek(0, io.SEEK_END)
        start = _after_id3(file, 0)
        head = _at(file, start, 12)
        if head[:4] == b"fLaC":
            return _bounded(_flac(file, start, end))
        if head[:4] == b"OggS":
            return _bounded(_ogg(file, start, end))
        if len(head) >= 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x06:
            return [_mp3(file, start, end)]
        if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:] == b"WAVE":
            return _bounded(_chunked(file, start, end))
        if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
            return _bounded(_chunked(file, start, end))
        if head[:4] in (b".snd", b"caff", b"riff"):
            return [_one_size(file, end)]
        return [Part(0, end)]


def _bounded(found: Iterator[Part]) -> list[Part]:
    several = list(islice(found, MAX_PARTS + 1))
    if len(several) > MAX_PARTS:
        raise OSError(None, f"more than {MAX_PARTS} recordings in one file: split it")
    return several


def _at(file: BinaryIO, place: int, size: int) -> bytes:
    file.seek(place)
    return file.read(size)


def _after_id3(file: BinaryIO, place: int) -> int:
    """Returns the first byte behind tags of ID3v2, of which there may be several."""
    while (head := _at(file, place, 10))[:3] == b"ID3" and len(head) == 10:
        place += 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    return place


def _mp3(file: BinaryIO, start: int, end: int) -> Part:
    """A stream of MPEG frames; its length tag counts only where it fits the file."""
    head = _at(file, start, _MAX_FIRST_FRAME_BYTES)
    places = [place for name in (b"Xing", b"Info", b"VBRI") if 0 < (place := head.find(name)) < 64]
    if not places or len(head) < places[0] + 18:  # no tag, or one that is cut
        return Part(0, end, endless=True, sequential=True)
    place = places[0]
    frames = claimed = 0
    if head[place : place + 4] == b"VBRI":
        claimed, frames = struct.unpack(">II", head[place + 10 : place + 18])
    else:
        flags = head[place + 7]
        fields = [int.from_bytes(head[at : at + 4], "big") for at in (place + 8, place + 12)]
        if flags & 3 == 3:
            frames, claimed = fields
    if frames and end - _tail_tags(file, end) - start <= claimed * 1.01 + TAG_MARGIN_BYTES:
        return Part(0, end, sequential=True)
    return Part(0, end, patches=((start + place, bytes(4)),), endless=True, sequential=True)


def _tail_tags(file: BinaryIO, end: int) -> int:
    """Returns the size of tags (ID3v1, APE) at the end of an MP3, bytes."""
    size = 128 if end >= 128 and _at(file, end - 128, 3) == b"TAG" else 0
    footer = _at(file, max(0, end - size - 32), 32)
    if footer[:8] == b"APETAGEX":
        size += int.from_bytes(footer[12:16], "little") + 32
    return size


def _flac(file: BinaryIO, start: int, end: int) -> Iterator[Part]:
    """Streams behind one another. Of several, the numbers of samples are hidden: joining may have spoilt them."""
    places = [start, *islice(_find(file, start + 8, _FLAC_STARTS), MAX_PARTS), end]
    if len(places) == 2:
        yield Part(start, end, sequential=True)
        return
    for place, following in pairwise(places):
        info = _at(file, place + 21, 5)
        frames = int.from_bytes(info, "big") & 0xF_FFFF_FFFF
        patches = ((21, bytes((info[0] & 0xF0, 0, 0, 0, 0))),) if len(info) == 5 else ()
        yield Part(place, following, patches=patches, frames=frames or None, sequential=True)


def _find(file: BinaryIO, start: int, needles: tuple[bytes, ...]) -> Iterator[int]:
    overlap = len(needles[0]) - 1
    while chunk := _at(file, start, _SCAN_BYTES + overlap):
        for needle in needles:
            place = chunk.find(needle)
            while place >= 0:
                yield start + place
                place = chunk.find(needle, place + 1)
        start += _SCAN_BYTES


def _ogg(file: BinaryIO, start: int, end: int) -> Iterator[Part]:
    """Chained streams: a page that begins a stream, behind pages that do not."""
    first, place, begun = start, start, False
    while len(page := _at(file, place, 27)) == 27 and page[:4] == b"OggS":
        begins = bool(page[5] & 2)
        if begins and begun:
            yield Part(first, place, sequential=True)
            first, begun = place, False
        begun |= not begins
        place += 27 + page[26] + sum(_at(file, place + 27, page[26]))
    yield Part(first, end, sequential=True)


def _chunked(file: BinaryIO, start: int, end: int) -> Iterator[Part]:
    """WAV and AIFF files behind one another, each with the size of its audio corrected where it is wrong."""
    while True:
        magic = _at(file, start, 4)
        order = ">" if magic in (b"RIFX", b"FORM") else "<"
        patches: tuple[tuple[int, bytes], ...] = ()
        place, following, long_size = start + 12, end, 0
        for _ in range(_MAX_CHUNKS):
            if len(head := _at(file, place, 8)) < 8:
                break
            name, size = head[:4], struct.unpack(f"{order}I", head[4:])[0]
            body = place + 8
            if name == b"ds64":
                long_size = body + 8
            if name in (b"data", b"SSND"):
                if name == b"data" and size == 0xFFFF_FFFF and long_size:
                    size = int.from_bytes(_at(file, long_size, 8), "little")
                if not _audio_ends(file, body, size, end):
                    patches = _corrections(place - start, end - body, order, long_size and long_size - start)
                    break
            place = body + size + (size & 1)
            if place < end and _begins_file(_at(file, place, 12)):
                following = place
                break
        yield Part(start, following, patches=patches)
        if following == end:
            return
        start = following


def _corrections(place: int, audio_bytes: int, order: str, long_size: int) -> tuple[tuple[int, bytes], ...]:
    if long_size:
        return ((long_size, audio_bytes.to_bytes(8, "little")),)
    size = 0xFFFF_FFFF if order == "<" else min(audio_bytes, 0xFFFF_FFFF)
    whole = struct.pack(f"{order}I", min(place + audio_bytes, 0xFFFF_FFFF))
    return ((4, whole), (place + 4, struct.pack(f"{order}I", size)))


def _audio_ends(file: BinaryIO, body: int, size: int, end: int) -> bool:
    """Returns True where the audio ends at its size: at the file's end, or at something that is no audio."""
    rest = end - body - size
    if rest < SLOPPY_BYTES or size >= UNKNOWN_BYTES > end:
        return True
    behind = _at(file, body + size, 13)
    return any(_is_chunk(behind[odd : odd + 12], rest - odd) for odd in (0, 1))


def _is_chunk(head: bytes, rest: int) -> bool:
    if head[:3] in _TAGS or _begins_file(head):
        return True
    printable = head[:1].isalnum() and all(0x20 <= byte < 0x7F for byte in head[:4])
    sizes = (int.from_bytes(head[4:8], "little"), int.from_bytes(head[4:8], "big"))
    return printable and min(sizes) <= rest - 8 + SLOPPY_BYTES


def _begins_file(head: bytes) -> bool:
    return (head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE") or (
        head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC")
    )


def _one_size(file: BinaryIO, end: int) -> Part:
    """AU, CAF and W64: audio of size 0 with bytes behind it was never finished; CAF has -1 while it is written."""
    head = _at(file, 0, 1 << 16)
    if head[:4] == b".snd" and len(head) >= 24:
        body, size = struct.unpack(">II", head[4:12])
        wrong = size < UNKNOWN_BYTES and end - body - size >= SLOPPY_BYTES
        return Part(0, end, patches=((8, b"\xff\xff\xff\xff"),) if wrong else ())
    place = head.find(b"data") if head[:4] == b"caff" else -1
    if place > 0 and head[place + 4 : place + 12] in (bytes(8), b"\xff" * 8):  # -1: to the end; libsndfile refuses it
        return Part(0, end, patches=((place + 4, struct.pack(">Q", end - place - 12)),))
    place = head.find(_W64_DATA) if head[:4] == b"riff" else -1
    if place > 0 and int.from_bytes(head[place + 16 : place + 24], "little") <= 24:
        return Part(0, end, patches=((16, struct.pack("<Q", end)), (place + 16, struct.pack("<Q", end - place))))
    return Part(0, end)
