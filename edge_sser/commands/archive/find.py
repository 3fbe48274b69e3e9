"""Recordings in folders, cut into batches of work."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_sser.errors import SourceError, UsageError

_NAMES: Final = (
    "3gp aac aif aifc aiff amr au caf flac m4a mka mp3 mp4 oga ogg opus rf64 snd w64 wav webm wma wv"  # without a dot
)
SUFFIXES: Final = frozenset(f".{name}" for name in _NAMES.split(" "))
BATCH_FILES: Final = 32
BATCH_BYTES: Final = 32 * 2**20  # about 17 minutes of 16 kHz WAV: seconds of one core


@dataclass(frozen=True, slots=True)
class Item:
    """A recording of an archive.

    Attributes:
        path: absolute.
        size: bytes.
        modified: unix seconds.
    """

    path: str
    size: int
    modified: float

    @property
    def name(self) -> str:
        """The path as text for tables: bytes that are not UTF-8 are written as escapes."""
        return os.fsencode(self.path).decode("utf-8", "backslashreplace")


def find_recordings(places: Sequence[Path], *, recursive: bool) -> list[Item]:
    """Returns the recordings among files and in folders, each once, the largest first.

    A file that is named is taken whatever its name; of a folder, those with the suffix of a recording. Large ones come
    first, so that no process is left with one at the end.

    Args:
        places: files and folders.
        recursive: also the folders in folders. Links to folders are not followed.

    Raises:
        UsageError: there is no such place, or no recording in any.
        SourceError: a folder cannot be read.
    """
    found: dict[str, Item] = {}
    for place in places:
        for path in _files(place, recursive):
            try:
                status = os.stat(path)
            except OSError:  # a link that leads nowhere: the analysis tells it
                found[path] = Item(path, 0, 0.0)
            else:
                found[path] = Item(path, status.st_size, status.st_mtime)
    if not found:
        hint = "" if recursive else ": --recursive searches the folders in it, too"
        raise UsageError(f"{', '.join(map(str, places))}: there is no recording{hint}")
    return sorted(found.values(), key=lambda item: (-item.size, item.path))


def batches(items: Iterable[Item]) -> Iterator[tuple[Item, ...]]:
    """Yields recordings in batches of up to `BATCH_FILES` files and about `BATCH_BYTES`."""
    batch: list[Item] = []
    size = 0
    for item in items:
        if batch and (len(batch) == BATCH_FILES or size + item.size > BATCH_BYTES):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(item)
        size += item.size
    if batch:
        yield tuple(batch)


def _files(place: Path, recursive: bool) -> Iterator[str]:
    path = os.path.abspath(place)
    if not os.path.lexists(path):
        raise UsageError(f"{place}: there is no such file or folder")
    if not os.path.isdir(path):
        yield path
        return

    def fail(error: OSError) -> None:
        raise SourceError(f"{error.filename}: cannot be searched ({error.strerror}): check its permissions") from None

    for folder, inner, names in os.walk(path, onerror=fail):
        if not recursive:
            inner.clear()
        inner.sort()
        for name in names:
            if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith("."):
                yield os.path.join(folder, name)
