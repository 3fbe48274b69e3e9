"""Predictions of utterances by models that never heard their speakers: the file that every score is computed from."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_sser.errors import TrainingError
from edge_sser.features import log_mel

from .audio import read_audio
from .corpora.table import Utterance
from .dataset import windows
from .labels import EMOTIONS
from .students.student import Student

_CLASSES = tuple(f"p_{name}" for name in EMOTIONS)
COLUMNS = ("path", "corpus", "speaker", "sex", "fold", "emotion", "intensity", *_CLASSES, "stress")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a model said of one utterance, beside its labels.

    Attributes:
        path: of the recording: its last two parts, so that the file says the same on every machine.
        emotions: probability of each of labels.EMOTIONS, 0..1.
        stress: probability of stress before calibration, 0..1.
    """

    path: str
    corpus: str
    speaker: str
    sex: str
    fold: int
    emotion: str
    intensity: str
    emotions: tuple[float, ...]
    stress: float


def predict(
    student: Student,
    utterances: Sequence[Utterance],
    *,
    gain_db: float = 0.0,
    progress: Callable[[Utterance], None] = lambda utterance: None,
) -> list[Prediction]:
    """Runs a student over utterances: the mean of the logits of a clip's windows, then probabilities.

    Args:
        student: in evaluation mode.
        utterances: to be scored; their recordings are read.
        gain_db: applied to the audio first.
        progress: called after each utterance.

    Raises:
        SourceError: a recording cannot be read.
    """
    gain = np.float32(10.0 ** (gain_db / 20.0))
    out = []
    for utterance in utterances:
        batch = torch.from_numpy(windows(log_mel(read_audio(utterance.path) * gain)))
        with torch.inference_mode():
            logits = student(batch)
        out.append(
            make_prediction(
                utterance,
                emotions=logits.emotions.mean(dim=0).softmax(dim=0).double().numpy(),
                stress=float(logits.stress.mean().sigmoid()),
            )
        )
        progress(utterance)
    return out


def make_prediction(utterance: Utterance, *, emotions: NDArray[np.float64], stress: float) -> Prediction:
    """Sets probabilities beside an utterance's labels."""
    return Prediction(
        path="/".join(Path(utterance.path).parts[-2:]),
        corpus=utterance.corpus,
        speaker=utterance.speaker,
        sex=utterance.sex,
        fold=utterance.fold,
        emotion=utterance.emotion,
        intensity=utterance.intensity,
        emotions=tuple(float(value) for value in emotions),
        stress=stress,
    )


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Writes predictions as CSV, aside and then in place; probabilities with six digits."""
    aside = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for item in predictions:
            labels = (item.path, item.corpus, item.speaker, item.sex, item.fold, item.emotion, item.intensity)
            writer.writerow((*labels, *(f"{value:.6f}" for value in (*item.emotions, item.stress))))
    aside.replace(path)


def read_predictions(path: Path) -> list[Prediction]:
    """Reads predictions.

    Raises:
        TrainingError: the file is missing or not such a file, or a speaker stands in two folds.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise TrainingError(f"predictions {path}: expected the columns {', '.join(COLUMNS)}")
            out = [_prediction(row) for row in reader]
    except (OSError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise TrainingError(f"predictions {path}: {error}: make them with edge-sser train evaluate") from None
    folds: dict[tuple[str, str], int] = {}
    for item in out:
        if folds.setdefault((item.corpus, item.speaker), item.fold) != item.fold:
            raise TrainingError(f"predictions {path}: speaker {item.speaker} of {item.corpus} stands in two folds")
    if not out:
        raise TrainingError(f"predictions {path}: it holds none: make them with edge-sser train evaluate")
    return out


def _prediction(row: dict[str, str]) -> Prediction:
    probabilities = tuple(float(row[name]) for name in _CLASSES)
    stress = float(row["stress"])
    if not all(math.isfinite(value) and 0.0 <= value <= 1.0 for value in (*probabilities, stress)):
        raise ValueError(f"{row['path']}: a probability is not within 0..1")
    return Prediction(
        path=row["path"],
        corpus=row["corpus"],
        speaker=row["speaker"],
        sex=row["sex"],
        fold=int(row["fold"]),
        emotion=row["emotion"],
        intensity=row["intensity"],
        emotions=probabilities,
        stress=stress,
    )
