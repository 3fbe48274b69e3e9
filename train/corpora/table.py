"""Table of utterances, as Parquet or CSV: written by the index, read by everything else."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sser.errors import TrainingError, short
from edge_sser.files import as_cell, atomic_replace, from_cell

# In order of preference, where a corpus has the same clip in several formats.
AUDIO_SUFFIXES = (".wav", ".flac", ".opus", ".ogg", ".mp3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Recording as its corpus describes it; see `Utterance` for the fields. Fold 0: not assigned.

    Attributes:
        corpus: name given by a manifest.
        clip: name within the corpus; two files of one name are one clip. Empty: the path.
        start_s: start in the file, seconds; None: the whole file.
        end_s: end in the file, seconds.
    """

    path: Path
    speaker: str
    corpus: str = ""
    clip: str = ""
    start_s: float | None = None
    end_s: float | None = None
    emotion: str = ""
    soft: Mapping[str, float] = field(default_factory=dict)
    sex: str = ""
    intensity: str = ""
    stress: float | None = None
    arousal: float | None = None
    valence: float | None = None
    fold: int = 0
    statement: str = ""

    @property
    def location(self) -> str:
        """Path and time span, as `audio.read_audio` reads them."""
        return str(self.path) if self.start_s is None else f"{self.path}#t={self.start_s:.3f},{self.end_s:.3f}"


if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """Recording with its labels and measurements.

    Attributes:
        path: of the audio file; `#t=1.500,4.250` behind it means that part of it, seconds (W3C media fragment).
        speaker: name, unique within the corpus.
        person: name across corpora; empty where no two speakers are declared one person.
        sex: F, M or empty when unknown.
        emotion: one of labels.LABELS, or empty when unknown.
        soft: share of raters by emotion, summing to 1; empty without raters.
        intensity: low, normal, strong, or empty when unknown.
        stress: 0..1, where the corpus gives it.
        arousal: 0..1, where the corpus gives it.
        valence: 0 (negative) to 1 (positive), where the corpus gives it.
        fold: from 1; persons never stand in two folds. 0 until assigned.
        level_dbfs: of the whole clip, dB re full scale; see pipeline.level.
        sha256: of the decoded samples as 16-bit PCM, so that a copy in another container is found.
        fingerprint: shared with altered copies, see fingerprint.py; empty in tables of older versions.
        statement: text or number of the sentence; empty when unknown.
    """

    path: str
    corpus: str
    speaker: str
    person: str = ""
    sex: str
    emotion: str
    soft: Mapping[str, float] = field(default_factory=dict)
    intensity: str
    stress: float | None = None
    arousal: float | None = None
    valence: float | None = None
    fold: int
    duration_s: float
    level_dbfs: float | None = None
    sha256: str
    fingerprint: bytes = b""
    statement: str = ""

    @property
    def voice(self) -> str:
        """Speaker across corpora: the person, or the speaker of this corpus."""
        return self.person or f"{self.corpus}/{self.speaker}"


COLUMNS = tuple(column.name for column in fields(Utterance))
_REQUIRED = tuple(
    column.name for column in fields(Utterance) if column.default is MISSING and column.default_factory is MISSING
)
_NUMBERS = ("stress", "arousal", "valence", "level_dbfs", "duration_s")
_REMEDY = "make it with edge-sser train index"


def write_table(path: Path, utterances: Iterable[Utterance]) -> None:
    """Writes a table atomically: as CSV when the name ends in .csv, else as Parquet.

    Raises:
        TrainingError: the file cannot be written.
    """
    rows = [asdict(utterance) for utterance in utterances]
    with atomic_replace(path, TrainingError) as temporary:
        if path.suffix.lower() == ".csv":
            _write_csv(temporary, rows)
        else:
            import pyarrow
            from pyarrow import parquet

            parquet.write_table(pyarrow.Table.from_pylist(rows, _schema()), temporary, compression="zstd")


def read_table(path: Path) -> Sequence[Utterance]:
    """Reads a table written by `write_table`, or by an older version with fewer columns.

    Raises:
        TrainingError: the file is missing, or not such a table.
    """
    try:
        rows = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
        utterances = [_utterance(path, row) for row in rows]
    except (OSError, ValueError, TypeError) as error:
        raise TrainingError(f"table {path}: {short(error)}: {_REMEDY}") from None
    if not utterances:
        raise TrainingError(f"table {path}: it holds no utterance: {_REMEDY}")
    return utterances


def _schema() -> pyarrow.Schema:
    import pyarrow

    types = {name: pyarrow.float64() for name in _NUMBERS}
    types |= {"fold": pyarrow.int32(), "fingerprint": pyarrow.binary()}
    types["soft"] = pyarrow.map_(pyarrow.string(), pyarrow.float64())
    return pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in COLUMNS])


def _write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            soft = json.dumps(row["soft"]) if row["soft"] else ""
            cells = {**row, "soft": soft, "fingerprint": row["fingerprint"].hex()}
            writer.writerow({name: as_cell(value) for name, value in cells.items()})


def _read_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        _check_columns(path, reader.fieldnames or ())
        rows: list[dict[str, Any]] = []
        for row in reader:
            values: dict[str, Any] = {name: from_cell(text) for name, text in row.items()}
            for name in _NUMBERS:
                values[name] = float(row[name]) if row.get(name) else None
            values["fold"] = int(row["fold"])
            values["soft"] = json.loads(row["soft"]) if row.get("soft") else {}
            values["fingerprint"] = bytes.fromhex(row.get("fingerprint") or "")
            rows.append(values)
    return rows


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    # Opened here, so that missing and damaged files raise the same errors as elsewhere.
    with path.open("rb") as file:
        try:
            table = parquet.read_table(file)
        except pyarrow.ArrowException as error:
            raise ValueError(f"not Parquet ({str(error).splitlines()[0]})") from None
    _check_columns(path, table.column_names)
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        row["soft"] = dict(row.get("soft") or {})
    return rows


def _check_columns(path: Path, found: Sequence[str]) -> None:
    if set(_REQUIRED) - set(found) or set(found) - set(COLUMNS):
        raise TrainingError(f"table {path}: expected the columns {', '.join(COLUMNS)}: {_REMEDY}")


def _utterance(path: Path, row: dict[str, Any]) -> Utterance:
    utterance = Utterance(**row)
    shares = (utterance.stress, utterance.arousal, utterance.valence, *utterance.soft.values())
    if any(share is not None and not (math.isfinite(share) and 0.0 <= share <= 1.0) for share in shares):
        raise TrainingError(f"table {path}: {utterance.path}: a label is not within 0..1: {_REMEDY}")
    return utterance
