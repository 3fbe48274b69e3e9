"""Makes a manifest from the names of folders and files: guesses the emotion and the speaker of each recording."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_sser.errors import TrainingError, UsageError
from edge_sser.files import as_cell, write_file
from edge_sser.train.corpora.corpus import audio_files
from edge_sser.train.corpora.table import AUDIO_SUFFIXES
from edge_sser.train.data.labels import emotion_name

STRESS_WORDS = {"stressed": "1", "stress": "1", "unstressed": "0", "relaxed": "0", "baseline": "0"}
COLUMNS = ("path", "speaker", "emotion", "stress")
_WORD = re.compile(r"[a-z]+")
_PARTS = re.compile(r"[/_\-. ]+")


@dataclass(frozen=True, slots=True)
class Row:
    """A recording and what its name says.

    Attributes:
        path: relative to the folder, with slashes.
        emotion: empty when only stress is named.
        stress: 1, 0 or empty.
    """

    path: str
    speaker: str
    emotion: str = ""
    stress: str = ""


@dataclass(frozen=True, slots=True)
class Guess:
    """Rows of a manifest, and what was guessed.

    Attributes:
        rows: recordings that were understood.
        odd: paths of the others.
        how: where the speaker and the label were found, in words.
    """

    rows: Sequence[Row]
    odd: Sequence[str]
    how: str

    def lines(self) -> list[str]:
        """Returns the guess as lines for a person."""
        labels = Counter(row.emotion or ("stressed", "not stressed")[row.stress == "0"] for row in self.rows)
        speakers = sorted({row.speaker for row in self.rows})
        shown = ", ".join(speakers[:6]) + (", ..." if len(speakers) > 6 else "")
        lines = [
            f"{len(self.rows)} recordings; {self.how}",
            f"labels: {', '.join(f'{name} {count}' for name, count in sorted(labels.items()))}",
            f"speakers: {len(speakers)} ({shown})",
        ]
        if self.odd:
            lines.append(f"files left out, as they are not understood: {len(self.odd)}, for example {self.odd[0]}")
        return [*lines, "if this is wrong, give --pattern with the groups speaker and emotion"]


def make_manifest(folder: Path, out: Path, pattern: str | None = None) -> Guess:
    """Writes a manifest of a folder's recordings.

    Args:
        folder: of the recordings, with its subfolders.
        out: manifest to write (.csv), in the folder: its paths are relative to it.
        pattern: regular expression that is searched for in each path, with the groups speaker and emotion; None:
            both are guessed.

    Raises:
        UsageError: the pattern is none, or `out` lies outside.
        TrainingError: there is no recording, or none is understood.
    """
    if out.suffix.lower() != ".csv" or out.resolve().parent != folder.resolve():
        raise UsageError(
            f"--out {out}: expected a .csv in {folder}, whose recordings it names: {folder / 'manifest.csv'}"
        )
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    paths = sorted(path.relative_to(folder).as_posix() for path in audio_files(folder))
    if not paths:
        raise TrainingError(f"{folder}: no recordings in it, expected files that end in {', '.join(AUDIO_SUFFIXES)}")
    found = by_pattern(paths, pattern) if pattern is not None else guess(paths)
    if not found.rows:
        raise TrainingError(
            f"{folder}: none of the {len(paths)} names gives a speaker and an emotion, for example {paths[0]}: give "
            "--pattern with the groups speaker and emotion"
        )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in found.rows:
        path = row.path if as_cell(row.path) == row.path else f"./{row.path}"  # a path must stay one
        writer.writerow((path, as_cell(row.speaker), row.emotion, row.stress))
    write_file(out, text.getvalue(), TrainingError, "choose another --out")
    return found


def by_pattern(paths: Sequence[str], pattern: str) -> Guess:
    """Reads speaker and emotion from paths by a regular expression.

    Raises:
        UsageError: the pattern is no regular expression, or lacks a group.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--pattern {pattern}: not a regular expression ({error})") from None
    if not {"speaker", "emotion"} <= {*expression.groupindex}:
        raise UsageError(f"--pattern {pattern}: expected the groups (?P<speaker>...) and (?P<emotion>...)")
    rows, odd = [], []
    for path in paths:
        match = expression.search(path)
        label = _label(match["emotion"] or "") if match else None
        if match is None or label is None or not match["speaker"]:
            odd.append(path)
        else:
            rows.append(Row(path, match["speaker"], *label))
    return Guess(rows, odd, "speaker and emotion by --pattern")


def guess(paths: Sequence[str]) -> Guess:
    """Guesses the emotion by its name, and the speaker by the part of the path that is left.

    The speaker is the deepest folder that names no emotion and of which there are several; without one, the part of
    the file's name before the first separator.
    """
    found = {path: _find_label(path) for path in paths}
    labelled = [(path, label) for path, label in found.items() if label is not None]
    odd = [path for path, label in found.items() if label is None]
    level = _speaker_level([path for path, _ in labelled])
    rows = []
    for path, label in labelled:
        speaker = path.split("/")[level] if level is not None else _PARTS.split(Path(path).stem)[0]
        if not speaker or (level is None and _label(speaker) is not None):
            odd.append(path)
        else:
            rows.append(Row(path, speaker, *label))
    where = f"folder level {level + 1}" if level is not None else "the start of the file's name"
    return Guess(rows, sorted(odd), f"the label is a word of the path, the speaker is {where}")


def _speaker_level(paths: Sequence[str]) -> int | None:
    depths = {path.count("/") for path in paths}
    for level in reversed(range(min(depths, default=0))):
        names = {path.split("/")[level] for path in paths}
        if len(names) > 1 and all(_find_label(name) is None for name in names):
            return level
    return None


def _find_label(path: str) -> tuple[str, str] | None:
    """Returns emotion and stress of the first word of a path that names one; its last parts are looked at first."""
    for part in reversed(path.rsplit(".", 1)[0].split("/") if "." in path else path.split("/")):
        for word in _words(part):
            label = _label(word)
            if label is not None:
                return label
    return None


def _words(part: str) -> Iterator[str]:
    yield part
    yield from _PARTS.split(part)
    yield from _WORD.findall(part.lower())


def _label(word: str) -> tuple[str, str] | None:
    word = word.strip().lower()
    if word in STRESS_WORDS:
        return "", STRESS_WORDS[word]
    try:
        return emotion_name(word), ""
    except ValueError:
        return None
