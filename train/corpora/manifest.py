"""Any corpus, through a CSV file: path, speaker, emotion, optional sex, intensity and fold."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from edge_sser.errors import TrainingError

from ..labels import emotion_name
from .entry import Entry

REQUIRED = ("path", "speaker", "emotion")
_INTENSITIES = ("", "normal", "strong")


def read_manifest(path: Path) -> Iterator[Entry]:
    """Reads a manifest. Paths are relative to the manifest's folder and stay inside it; other columns are ignored.

    Raises:
        TrainingError: the file cannot be read, a required column is missing, or a row's value is not understood;
            the message names the file and the line.
    """
    root = path.parent.resolve()
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
            if missing:
                raise TrainingError(
                    f"manifest {path}: the column {missing[0]} is missing: the first line must name "
                    f"{', '.join(REQUIRED)} and may name sex, intensity, fold"
                )
            for row in reader:
                yield _entry(root, row, f"manifest {path}, line {reader.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(f"manifest {path}: cannot be read as CSV in UTF-8 ({error})") from None


def _entry(root: Path, row: dict[str, str | None], where: str) -> Entry:
    values = {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)}
    for name in REQUIRED:
        if not values[name]:
            raise TrainingError(f"{where}: {name} is empty")
    audio = (root / values["path"]).resolve()
    if not audio.is_relative_to(root):
        raise TrainingError(f"{where}: path {values['path']} leaves the manifest's folder: move the manifest up")
    try:
        emotion = emotion_name(values["emotion"])
    except ValueError as error:
        raise TrainingError(f"{where}: {error}") from None
    sex = values.get("sex", "").upper()[:1]
    if sex not in ("", "F", "M"):
        raise TrainingError(f"{where}: sex {values['sex']!r}, expected F, M or nothing")
    intensity = values.get("intensity", "").lower()
    if intensity not in _INTENSITIES:
        raise TrainingError(f"{where}: intensity {values['intensity']!r}, expected normal, strong or nothing")
    fold = values.get("fold", "")
    if fold and not (fold.isdigit() and int(fold) > 0):
        raise TrainingError(f"{where}: fold {fold!r}, expected a whole number from 1")
    return Entry(
        path=audio,
        speaker=values["speaker"],
        emotion=emotion,
        sex=sex,
        intensity=intensity,
        fold=int(fold or 0),
    )
