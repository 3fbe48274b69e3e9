"""Predictions of utterances by models that never heard their speakers: the file that every score is computed from."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_sser.errors import TrainingError
from edge_sser.features import log_mel
from edge_sser.model import Model

from .audio import read_audio
from .corpora.table import Utterance
from .dataset import windows
from .labels import EMOTIONS, emotion_name

if TYPE_CHECKING:
    from torch import nn

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
    model: Model | nn.Module,
    utterances: Sequence[Utterance],
    *,
    gain_db: float = 0.0,
    progress: Callable[[Utterance], None] = lambda utterance: None,
) -> list[Prediction]:
    """Scores utterances: the mean of the logits of a clip's windows, then probabilities.

    Args:
        model: a model, or a student in evaluation mode.
        utterances: to be scored; their recordings are read.
        gain_db: applied to the audio first.
        progress: called after each utterance.

    Raises:
        SourceError: a recording cannot be read.
    """
    from .student_model import StudentModel

    gain = np.float32(10.0 ** (gain_db / 20.0))
    heard = model if isinstance(model, Model) else StudentModel(model)
    out = []
    for utterance in utterances:
        out.append(predict_samples(heard, utterance, read_audio(utterance.path) * gain))
        progress(utterance)
    return out


def predict_samples(model: Model, utterance: Utterance, samples: NDArray[np.float32]) -> Prediction:
    """What a model says of an utterance when it sounds like this.

    Args:
        model: gives the logits.
        utterance: its labels stand beside what the model says.
        samples: float32 [n], mono, 16 kHz.
    """
    stress, emotions = model.logits(windows(log_mel(samples)))
    mean = emotions.mean(axis=0, dtype=np.float64)
    likely = np.exp(mean - mean.max())
    probabilities = np.zeros(len(EMOTIONS))
    for name, value in zip(model.card.emotions, likely / likely.sum(), strict=True):
        probabilities[EMOTIONS.index(emotion_name(name))] += value
    return make_prediction(
        utterance, emotions=probabilities, stress=float(1.0 / (1.0 + np.exp(-stress.mean(dtype=np.float64))))
    )


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
    if row["emotion"] not in EMOTIONS:
        raise ValueError(f"{row['path']}: unknown emotion {row['emotion']!r}")
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
