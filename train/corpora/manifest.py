"""Manifest of any corpus in CSV or Parquet, one row a recording."""

from __future__ import annotations

import csv
import math
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edge_sser.errors import TrainingError, short
from edge_sser.train.corpora.table import Entry
from edge_sser.train.data.labels import LABELS, emotion_name

SUFFIXES = (".csv", ".parquet")
REQUIRED = ("path", "speaker")
UNLABELLED = "unlabelled"  # emotion of a recording for teachers alone
LEVELS: Mapping[str, float] = {"low": 0.0, "medium": 0.5, "high": 1.0}

_SHARE = "p_"
_SEPARATORS = (",", ";", "\t")
_INTENSITIES = ("", "low", "normal", "strong")
_LABELS = f"emotion, stress, arousal and valence, or {_SHARE}angry, {_SHARE}neutral ..."


def read_manifest(path: Path) -> Iterator[Entry]:
    """Reads a manifest, as programs and spreadsheets write it.

    Paths are relative to the manifest's folder and stay inside it; unknown columns are ignored.

    Columns: path, speaker, and at least one label: emotion; stress (0..1, or low, medium, high); arousal and valence
    (0..1); p_NAME for the share or number of raters that heard an emotion. Optional: corpus, sex, intensity, fold,
    statement; start_s and end_s for a part of a recording.

    Raises:
        TrainingError: the file cannot be read, a required column is missing, or a row's value is not understood;
            the message names the file and the line.
    """
    root = path.parent.resolve()
    for line, row in _rows(path):
        yield _Row(f"manifest {path}, line {line}", row).entry(root)


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yields line number and values as text from CSV or Parquet; the first row of Parquet is line 1."""
    if path.suffix.lower() == ".parquet":
        yield from enumerate(_parquet_rows(path), start=1)
        return
    try:
        lines = _text(path).splitlines(keepends=True)
        skipped = next((number for number, line in enumerate(lines) if line.strip()), 0)
        if lines[skipped:] and lines[skipped].lower().startswith("sep="):  # a word from Excel to itself
            skipped += 1
        reader = csv.reader(lines[skipped:], delimiter=_separator("".join(lines[skipped : skipped + 1])), strict=False)
        columns = _column_names(path, next(reader, []))
        for cells in reader:
            row = dict(zip(columns, (cell.strip() for cell in cells), strict=False))
            if any(row.values()):  # spreadsheets write empty rows at the end
                yield skipped + reader.line_num, dict.fromkeys(columns, "") | row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(
            f"manifest {path}: cannot be read as CSV in UTF-8 ({short(error)}): write it again"
        ) from None


def _text(path: Path) -> str:
    """Returns the text of a file in UTF-8, or in UTF-16 with its mark, as spreadsheets write it."""
    content = path.read_bytes()
    return content.decode("utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig")


def _separator(header: str) -> str:
    return max(_SEPARATORS, key=header.count)


def _column_names(path: Path, given: Sequence[str]) -> list[str]:
    """Returns the names of columns in small letters, without spaces around.

    Raises:
        TrainingError: two are the same, or a required one is missing.
    """
    names = [name.strip().lower() for name in given]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise TrainingError(f"manifest {path}: there are two columns {twice}: rename or delete one")
    _check_columns(path, names)
    return names


def _parquet_rows(path: Path) -> Iterator[Mapping[str, str]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with path.open("rb") as file:
            table = parquet.read_table(file)
    except (OSError, pyarrow.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"manifest {path}: cannot be read as Parquet ({reason}): write it again") from None
    table = table.rename_columns(_column_names(path, table.column_names))
    for row in table.to_pylist():
        missing = [value is None or (isinstance(value, float) and math.isnan(value)) for value in row.values()]
        values = zip(row.items(), missing, strict=True)
        yield {name: "" if absent else str(value).strip() for (name, value), absent in values}


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    missing = [name for name in REQUIRED if name not in columns]
    labels = {"emotion", "stress", "arousal", *(_SHARE + label for label in LABELS)}
    if not missing and not labels & set(columns):
        missing = ["emotion"]
    if missing:
        raise TrainingError(
            f"manifest {path}: the column {missing[0]} is missing: there must be {', '.join(REQUIRED)} and a label "
            f"({_LABELS}), and there may be corpus, sex, intensity, fold, statement, start_s and end_s. The first line "
            "names the columns, separated by comma, semicolon or tab"
        )


class _Row:
    """Parser of one row; errors name the line and the value."""

    def __init__(self, where: str, values: Mapping[str, str]) -> None:
        self.where = where
        self.values = values

    def entry(self, root: Path) -> Entry:
        for name in REQUIRED:
            if not self.values[name]:
                raise TrainingError(f"{self.where}: {name} is empty")
        emotion = self.values.get("emotion", "")
        start, end = self._part()
        entry = Entry(
            path=self._path(root),
            speaker=self.values["speaker"],
            corpus=self.values.get("corpus", "").lower(),
            start_s=start,
            end_s=end,
            emotion="" if emotion.lower() in ("", UNLABELLED) else self._emotion(emotion),
            soft=self._soft(),
            sex=self._choice("sex", self.values.get("sex", "").upper()[:1], ("", "F", "M")),
            intensity=self._choice("intensity", self.values.get("intensity", "").lower(), _INTENSITIES),
            stress=self._stress(),
            arousal=self._share("arousal"),
            valence=self._share("valence"),
            fold=self._fold(),
            statement=self.values.get("statement", ""),
        )
        if (entry.arousal is None) != (entry.valence is None):
            raise TrainingError(f"{self.where}: arousal and valence go together: give both or neither")
        known = entry.emotion or entry.soft or entry.stress is not None or entry.arousal is not None
        if not known and emotion.lower() != UNLABELLED:
            raise TrainingError(
                f"{self.where}: it has no label ({_LABELS}): give one, or {UNLABELLED} as the emotion of a recording "
                "that only a teacher hears"
            )
        return entry

    def _path(self, root: Path) -> Path:
        given = self.values["path"]
        if "\\" in given and not (root / given).exists():  # written on Windows
            given = given.replace("\\", "/")
        audio = (root / given).resolve()
        if not audio.is_relative_to(root):
            raise TrainingError(
                f"{self.where}: path {self.values['path']} leaves the manifest's folder: move the manifest up"
            )
        return audio

    def _emotion(self, text: str) -> str:
        try:
            return emotion_name(text)
        except ValueError as error:
            raise TrainingError(f"{self.where}: {error}") from None

    def _soft(self) -> Mapping[str, float]:
        votes = {
            self._emotion(name.removeprefix(_SHARE)): self._number(name)
            for name in self.values
            if name.startswith(_SHARE) and self.values[name]
        }
        total = sum(votes.values())
        return {emotion: votes[emotion] / total for emotion in votes if votes[emotion]} if total else {}

    def _stress(self) -> float | None:
        level = LEVELS.get(self.values.get("stress", "").lower())
        return self._share("stress", " or low, medium, high") if level is None else level

    def _share(self, name: str, also: str = "") -> float | None:
        if not self.values.get(name):
            return None
        value = self._number(name, also)
        if value > 1.0:
            raise TrainingError(f"{self.where}: {name} {self.values[name]!r}, expected 0 to 1{also}")
        return value

    def _number(self, name: str, also: str = "") -> float:
        text = self.values[name]
        try:
            value = float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0.0):
            raise TrainingError(f"{self.where}: {name} {text!r}, expected a number from 0{also}")
        return value

    def _part(self) -> tuple[float | None, float | None]:
        if not self.values.get("start_s") and not self.values.get("end_s"):
            return None, None
        if not self.values.get("start_s") or not self.values.get("end_s"):
            raise TrainingError(f"{self.where}: start_s and end_s go together: give both or neither")
        start, end = self._number("start_s"), self._number("end_s")
        if end <= start:
            raise TrainingError(f"{self.where}: end_s {end:g} is not after start_s {start:g}")
        return start, end

    def _choice(self, name: str, value: str, allowed: Sequence[str]) -> str:
        if value not in allowed:
            expected = ", ".join(allowed[1:])
            raise TrainingError(f"{self.where}: {name} {self.values[name]!r}, expected {expected} or nothing")
        return value

    def _fold(self) -> int:
        text = self.values.get("fold", "")
        if text and not (text.isdigit() and int(text) > 0):
            raise TrainingError(f"{self.where}: fold {text!r}, expected a whole number from 1")
        return int(text or 0)
