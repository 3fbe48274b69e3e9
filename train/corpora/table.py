"""The table of utterances that every reader fills and everything else reads."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from edge_sser.errors import TrainingError


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One labelled recording.

    Attributes:
        path: of the audio file.
        corpus: where it comes from.
        speaker: who speaks; unique within the corpus.
        sex: F, M or empty when unknown.
        emotion: one of labels.EMOTIONS.
        intensity: normal, strong, or empty when unknown.
        fold: from 1; speakers never stand in two folds of a corpus. 0 until assigned.
        duration_s: seconds.
        sha256: of the decoded samples as 16-bit PCM, so that a copy in another container is found.
    """

    path: str
    corpus: str
    speaker: str
    sex: str
    emotion: str
    intensity: str
    fold: int
    duration_s: float
    sha256: str


COLUMNS = tuple(field.name for field in fields(Utterance))


def write_table(path: Path, utterances: Iterable[Utterance]) -> None:
    """Writes the table as CSV, aside and then in place."""
    aside = path.with_name(path.name + ".part")
    with aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(utterance) for utterance in utterances)
    aside.replace(path)


def read_table(path: Path) -> Sequence[Utterance]:
    """Reads a table written by `write_table`.

    Raises:
        TrainingError: the file is missing, or not such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise TrainingError(
                    f"table {path}: expected the columns {', '.join(COLUMNS)}: make it with train index"
                )
            rows = [
                Utterance(
                    **{**row, "fold": int(row["fold"]), "duration_s": float(row["duration_s"])}  # type: ignore[arg-type]
                )
                for row in reader
            ]
    except (OSError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise TrainingError(f"table {path}: {error}: make it with edge-sser train index") from None
    if not rows:
        raise TrainingError(f"table {path}: it holds no utterance: make it with edge-sser train index")
    return rows
