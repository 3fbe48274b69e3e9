"""Out-of-fold predictions of utterances, and their files. Every score is computed from such a file."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from edge_sser.errors import TrainingError, short
from edge_sser.files import as_cell, atomic_replace, from_cell, write_file
from edge_sser.model.model import Model
from edge_sser.pipeline.features import log_mel
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.features import windows
from edge_sser.train.data.labels import EMOTIONS, LABELS, Preset, binary_label, emotion_name, read_preset

if TYPE_CHECKING:
    from torch import nn

_CLASSES = tuple(f"p_{name}" for name in EMOTIONS)
_FIRST_COLUMNS = ("path", "corpus", "speaker", "sex", "fold", "emotion", "intensity", *_CLASSES, "stress")
# Labels that were added later: a file has none of them, two or all, depending on its age.
_LATER_COLUMNS = ("given_stress", "votes", "arousal", "valence")
COLUMNS = (*_FIRST_COLUMNS, *_LATER_COLUMNS)
_KNOWN_COLUMNS = (_FIRST_COLUMNS, COLUMNS[: len(_FIRST_COLUMNS) + 2], COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Probabilities of one utterance, beside its labels.

    Attributes:
        path: last two parts of the recording's path, so that files are the same on every machine.
        emotion: one of labels.LABELS, or empty when unknown.
        emotions: probability of each of labels.EMOTIONS, 0..1.
        stress: probability of stress before calibration, 0..1.
        given: label: stress from the corpus, 0..1; None without one.
        soft: label: share of raters by emotion; empty without raters.
        arousal, valence: labels from the corpus, 0..1; None without one.
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
    given: float | None = None
    soft: Mapping[str, float] = field(default_factory=dict)
    arousal: float | None = None
    valence: float | None = None

    def label(self, preset: Preset) -> int | None:
        """Returns the binary label under a preset: 1 for stress of 0.5 or more, 0 for less, None when unknown."""
        return binary_label(preset.stress_from(self.emotion, self.soft, self.given, self.arousal, self.valence))


def scorable(utterances: Sequence[Utterance], preset: str) -> list[Utterance]:
    """Returns the utterances with a label to score: an emotion that the model knows, or stress.

    Raises:
        SettingsError: there is no such preset.
        TrainingError: no utterance has such a label.
    """
    decision = read_preset(preset).decision
    found = [clip for clip in utterances if clip.emotion in EMOTIONS or decision(clip) is not None]
    if not found:
        raise TrainingError(
            f"no clip has an emotion that the model knows, nor a label that is stress under the preset {preset}: label "
            "some, or give another table"
        )
    return found


def predict(
    model: Model | nn.Module,
    utterances: Sequence[Utterance],
    *,
    gain_db: float = 0.0,
    progress: Callable[[Utterance], None] = lambda utterance: None,
) -> list[Prediction]:
    """Predicts utterances: probabilities of the mean logits of a clip's windows.

    Args:
        model: a model, or a student in evaluation mode.
        utterances: clips to predict; their recordings are read.
        gain_db: applied to the audio first.
        progress: called after each utterance.

    Raises:
        SourceError: a recording cannot be read.
    """
    from edge_sser.train.students.backend import student_model

    gain = np.float32(10.0 ** (gain_db / 20.0))
    runnable = model if isinstance(model, Model) else student_model(model)
    out = []
    for utterance in utterances:
        out.append(predict_samples(runnable, utterance, read_audio(utterance.path) * gain))
        progress(utterance)
    return out


def predict_samples(model: Model, utterance: Utterance, samples: NDArray[np.float32]) -> Prediction:
    """Predicts an utterance from given samples.

    Args:
        model: the model.
        utterance: source of the labels.
        samples: float32 [n], mono, 16 kHz.
    """
    stress, emotions = model.logits(windows(log_mel(samples)))
    return prediction_from_logits(
        utterance, emotions.mean(axis=0, dtype=np.float64), float(stress.mean(dtype=np.float64)), model.card.emotions
    )


def prediction_from_logits(
    utterance: Utterance, emotions: NDArray[np.floating], stress: float, names: Sequence[str] = EMOTIONS
) -> Prediction:
    """Builds a prediction from logits.

    Args:
        utterance: source of the labels.
        emotions: logits, [classes] or [1, classes]: means over the windows.
        stress: logit, mean over the windows.
        names: of the classes.
    """
    mean = emotions.astype(np.float64).ravel()
    likely = np.exp(mean - mean.max())
    probabilities = np.zeros(len(EMOTIONS))
    for name, value in zip(names, likely / likely.sum(), strict=True):
        probabilities[EMOTIONS.index(emotion_name(name))] += value
    return make_prediction(utterance, emotions=probabilities, stress=float(1.0 / (1.0 + np.exp(-stress))))


def make_prediction(utterance: Utterance, *, emotions: NDArray[np.float64], stress: float) -> Prediction:
    """Builds a prediction from probabilities and an utterance's labels."""
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
        given=utterance.stress,
        soft=utterance.soft,
        arousal=utterance.arousal,
        valence=utterance.valence,
    )


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Writes predictions as CSV, probabilities with six digits; errors as for `files.atomic_replace`."""
    with atomic_replace(path, TrainingError) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for item in predictions:
            labels = (item.path, item.corpus, item.speaker, item.sex, item.fold, item.emotion, item.intensity)
            given, arousal, valence = (_format(value) for value in (item.given, item.arousal, item.valence))
            votes = json.dumps(dict(item.soft)) if item.soft else ""
            probabilities = (f"{value:.6f}" for value in (*item.emotions, item.stress))
            writer.writerow((*map(as_cell, labels), *probabilities, given, votes, arousal, valence))


def read_predictions(path: Path) -> list[Prediction]:
    """Reads predictions.

    Raises:
        TrainingError: the file is missing or malformed, or a speaker stands in two folds.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) not in _KNOWN_COLUMNS:
                raise TrainingError(f"predictions {path}: expected the columns {', '.join(COLUMNS)}")
            out = [_prediction(row) for row in reader]
    except (OSError, UnicodeDecodeError, ValueError, TypeError, AttributeError) as error:
        raise TrainingError(f"predictions {path}: {short(error)}: make them with edge-sser train evaluate") from None
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
    given, arousal, valence = (_parse(row.get(name)) for name in ("given_stress", "arousal", "valence"))
    soft = {str(name): float(share) for name, share in json.loads(row["votes"]).items()} if row.get("votes") else {}
    shares = {
        **dict(zip(_CLASSES, probabilities, strict=True)), "stress": stress, "given_stress": given, "arousal": arousal,
        "valence": valence, **{f"votes {name}": share for name, share in soft.items()},
    }  # fmt: skip
    for name, value in shares.items():
        if value is not None and not (math.isfinite(value) and 0.0 <= value <= 1.0):
            raise ValueError(f"{row['path']}: {name} is not within 0..1")
    if row["emotion"] not in (*LABELS, ""):
        raise ValueError(f"{row['path']}: unknown emotion {row['emotion']!r}")
    return Prediction(
        path=from_cell(row["path"]),
        corpus=from_cell(row["corpus"]),
        speaker=from_cell(row["speaker"]),
        sex=row["sex"],
        fold=int(row["fold"]),
        emotion=row["emotion"],
        intensity=row["intensity"],
        emotions=probabilities,
        stress=stress,
        given=given,
        soft=soft,
        arousal=arousal,
        valence=valence,
    )


def _format(value: float | None) -> str:
    return "" if value is None else f"{value:.17g}"  # all digits: a product of two values is compared with 0.5


def _parse(text: str | None) -> float | None:
    return float(text) if text else None


class Baseline(str, Enum):
    """Trivial systems, named by their input."""

    MAJORITY = "majority"
    LEVEL = "level-only"
    LEVEL_PITCH = "level-pitch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Origin of predictions: a small JSON file beside them, to tell scores apart later.

    Attributes:
        system: its name; the seeds of one system share it.
        seed: of the training; None for a deterministic system.
        trained_on: the corpora, in alphabetical order; None when unknown. Predictions of such a corpus are of other
            speakers of it.
        preset: of stress.
        baseline: True for a trivial system, for comparison.
        heard: corpora whose predicted speakers were in the training data. Their scores say nothing of strangers.
        reference: True for a reference system, also of a recipe that does not ship.
        emotion_share: share of the emotions' vote in the stress.
    """

    system: str
    seed: int | None = None
    trained_on: tuple[str, ...] | None = None
    preset: str = "quadrant"
    baseline: bool = False
    heard: tuple[str, ...] = ()
    reference: bool = False
    emotion_share: float = 0.0

    @property
    def label(self) -> str:
        """Name of the system with its seed."""
        return self.system if self.seed is None else f"{self.system} (seed {self.seed})"


def origin_path(predictions: Path) -> Path:
    """Returns the path of a prediction file's origin: NAME.json beside NAME.csv."""
    return predictions.with_suffix(".json")


def write_origin(predictions: Path, origin: Origin) -> None:
    """Writes the origin beside predictions; errors as for `files.write_file`."""
    values = TypeAdapter(Origin).dump_python(origin, mode="json")
    write_file(origin_path(predictions), json.dumps(values, indent=2) + "\n", TrainingError)


def read_origin(predictions: Path) -> Origin:
    """Reads the origin of predictions; without one, takes the system's name from the file's.

    Raises:
        TrainingError: the origin is malformed.
    """
    path = origin_path(predictions)
    try:
        return TypeAdapter(Origin).validate_json(path.read_bytes())
    except FileNotFoundError:
        return Origin(system=predictions.stem, baseline=predictions.stem in list(Baseline))
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise TrainingError(
            f"{path}: {reason}: expected the origin of {predictions.name}; remove it, or make both again with "
            "edge-sser train evaluate --out"
        ) from None
