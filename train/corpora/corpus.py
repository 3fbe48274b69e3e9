"""Description of a published corpus: its file names and its published counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_sser.errors import TrainingError
from edge_sser.train.corpora.report import Finding, FindingKind
from edge_sser.train.corpora.table import AUDIO_SUFFIXES, Entry

MAX_NAMES = 8  # names of a long list that are written out


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Description of a corpus, known before any file is read.

    Attributes:
        name: as in NAME=PATH, and in the table.
        title: as it is published.
        example: a file name.
        obtain: archive to unpack, for error messages.
        entry: parses a file name; None for a name of another form.
        emotions: number of clips by emotion, as published.
        speakers: published number.
        clip_names: expected names of all clips, where they follow a rule; takes the names found.
        tables: adds the content of tables beside the audio; returns the entries, and a line for each missing table.
    """

    name: str
    title: str
    example: str
    obtain: str
    entry: Callable[[Path], Entry | None]
    emotions: Mapping[str, int]
    speakers: Sequence[str]
    clip_names: Callable[[Sequence[str]], Sequence[str]] | None = None
    tables: Callable[[Path, Sequence[Entry]], tuple[Sequence[Entry], Sequence[str]]] | None = None

    @property
    def clips(self) -> int:
        """Published number of clips."""
        return sum(self.emotions.values())

    def read(self, folder: Path, findings: list[Finding]) -> Sequence[Entry]:
        """Returns the clips below a folder, each once, and findings: missing, duplicate or surplus clips."""
        by_clip: dict[str, Entry] = {}
        copies = []
        for path in audio_files(folder):
            entry = self.entry(path)
            if entry is None:
                continue
            first = by_clip.setdefault(entry.clip, replace(entry, path=path))
            if first.path != path:
                copies.append((path, first.path))
        if copies:
            copy, first_path = copies[0]
            text = f"{len(copies)} further files have the name of a clip already read, the first {copy} as {first_path}"
            findings.append(Finding(FindingKind.DOUBLE, self.name, text))
        entries: Sequence[Entry] = [by_clip[clip] for clip in sorted(by_clip)]
        findings += [Finding(FindingKind.MISSING, self.name, text) for text in self._missing(entries)]
        if len(entries) > self.clips:
            text = f"{len(entries)} clips, more than the published {self.clips}: is there another corpus in the folder?"
            findings.append(Finding(FindingKind.ODD, self.name, text))
        if self.tables is not None and entries:
            entries, absent = self.tables(folder, entries)
            findings += [Finding(FindingKind.MISSING, self.name, text) for text in absent]
        return entries

    def _missing(self, entries: Sequence[Entry]) -> list[str]:
        found = Counter(entry.emotion for entry in entries)
        lines = []
        absent = sorted(set(self.speakers) - {entry.speaker for entry in entries})
        if absent:
            lines.append(f"no clip of {len(absent)} of {len(self.speakers)} speakers: {_abbreviate(absent)}")
        names = {entry.clip for entry in entries}
        absent_clips = sorted(set(self.clip_names(sorted(names))) - names) if self.clip_names is not None else []
        if absent_clips:
            lines.append(f"{len(absent_clips)} clips are not there: {_abbreviate(absent_clips)}")
        short = {name: count - found[name] for name, count in self.emotions.items() if found[name] < count}
        if sum(short.values()) > len(absent_clips):  # more are missing than the names account for
            counts = ", ".join(f"{number} of {self.emotions[name]} {name}" for name, number in short.items())
            lines.append(f"clips are not there: {counts}")
        return lines


def audio_files(folder: Path) -> Sequence[Path]:
    """Returns the audio files below a folder, links followed, lossless containers first, without hidden files."""
    paths = [path for path in files_below(folder) if path.suffix.lower() in AUDIO_SUFFIXES]
    return sorted(paths, key=lambda path: (AUDIO_SUFFIXES.index(path.suffix.lower()), path))


def files_below(folder: Path) -> Iterator[Path]:
    """Yields the files below a folder, without hidden ones. Links are followed, and no folder is entered twice.

    Raises:
        TrainingError: a folder cannot be read.
    """
    entered: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            visible = [path for path in sorted(folder.iterdir()) if not path.name.startswith((".", "__MACOSX"))]
            waiting += [path for path in reversed(visible) if path.is_dir()]
            yield from (path for path in visible if path.is_file())
        except OSError as error:
            raise TrainingError(
                f"folder {folder}: cannot be read ({error.strerror}): change its owner or mode"
            ) from None


def _abbreviate(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
