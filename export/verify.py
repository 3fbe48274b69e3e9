"""The gate: an INT8 file must say of held-out speakers what the FP32 file says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sser.errors import TrainingError
from edge_sser.export.choose import levels
from edge_sser.model.model import Model
from edge_sser.pipeline.features import log_mel
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.features import windows
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.data.presets import read_preset
from edge_sser.train.evaluate.metrics import auroc, expected_calibration_error, unweighted_accuracy

LARGEST_AUROC_FALL = 0.005
LARGEST_UA_FALL = 0.01
LARGEST_DISAGREEMENT = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a file scores on the test side; fractions 0..1, means over the corpora that can tell.

    Attributes:
        ua: unweighted accuracy of emotions, clip by clip, over each corpus's own emotions; None where no clip has one.
        auroc: of stress, clip by clip, over the corpora that have both stressed clips and others.
        ece: expected calibration error of stress with the card's calibration.
        agreement: share of windows whose level is that of the FP32 file.
    """

    ua: float | None
    auroc: float
    ece: float
    agreement: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What INT8 may lose.

    Attributes:
        allowance: 1.0 for the documented limits; 2.0 allows twice the loss.
    """

    allowance: float = 1.0

    def broken(self, fp32: Scores, int8: Scores) -> list[str]:
        """What is over its limit, in words; empty when INT8 may pass."""
        losses = {
            "AUROC falls by {:.4f}, at most {:.4f}": (fp32.auroc - int8.auroc, LARGEST_AUROC_FALL),
            "UA falls by {:.4f}, at most {:.4f}": (_fall(fp32.ua, int8.ua), LARGEST_UA_FALL),
            "a share of {:.4f} of the level decisions differs, at most {:.4f}": (
                1.0 - int8.agreement,
                LARGEST_DISAGREEMENT,
            ),
        }
        # A hair of tolerance, since 1 - 0.97 is not 0.03.
        return [
            text.format(lost, limit * self.allowance)
            for text, (lost, limit) in losses.items()
            if not lost <= limit * self.allowance + 1e-9
        ]


def score(
    models: Mapping[str, Model],
    utterances: Sequence[Utterance],
    *,
    progress: Callable[[Utterance], None] = lambda utterance: None,
) -> dict[str, Scores]:
    """Scores files side by side on the same clips.

    Args:
        models: by name; the first is what agreement is measured against.
        utterances: of held-out speakers.
        progress: called after each clip.

    Raises:
        TrainingError: the clips hold no stress, or nothing but stress.
        SourceError: a recording cannot be read.
    """
    per_window: dict[str, list[NDArray[np.float32]]] = {name: [] for name in models}
    stress: dict[str, list[float]] = {name: [] for name in models}
    emotions: dict[str, list[NDArray[np.float32]]] = {name: [] for name in models}
    for utterance in utterances:
        batch = windows(log_mel(read_audio(utterance.path)))
        for name, model in models.items():
            clip_stress, clip_emotions = model.logits(batch)
            per_window[name].append(clip_stress)
            stress[name].append(float(clip_stress.mean()))
            emotions[name].append(clip_emotions.mean(axis=0))
        progress(utterance)
    first = next(iter(models))
    truth = levels(models[first].card, np.concatenate(per_window[first]))
    out = {}
    for name, model in models.items():
        found = levels(model.card, np.concatenate(per_window[name]))
        ua, area, ece = _clip_scores(model, utterances, np.array(stress[name]), np.stack(emotions[name]))
        out[name] = Scores(ua=ua, auroc=area, ece=ece, agreement=float(np.mean(found == truth)))
    return out


def _fall(before: float | None, after: float | None) -> float:
    return 0.0 if before is None or after is None else before - after


def _clip_scores(
    model: Model, utterances: Sequence[Utterance], stress: NDArray[np.float64], emotions: NDArray[np.float32]
) -> tuple[float | None, float, float]:
    preset = read_preset(model.card.stress_preset)
    mapped = [preset.stress(utterance) for utterance in utterances]
    judged = np.array([value is not None for value in mapped])
    labels = np.array([int((value or 0.0) >= 0.5) for value in mapped], dtype=np.int64)
    named = np.array([utterance.emotion in EMOTIONS for utterance in utterances])
    classes = np.array([EMOTIONS.index(each.emotion) if each.emotion in EMOTIONS else -1 for each in utterances])
    corpora = np.array([utterance.corpus for utterance in utterances])
    accuracies, areas = [], []
    for corpus in np.unique(corpora):
        inside = corpora == corpus
        known = inside & named
        if known.any():
            own = np.unique(classes[known])
            accuracies.append(unweighted_accuracy(classes[known], own[emotions[known][:, own].argmax(axis=1)]))
        if len(set(labels[inside & judged])) == 2:
            areas.append(auroc(labels[inside & judged], stress[inside & judged]))
    if not areas:
        raise TrainingError(
            "the held-out recordings of each corpus are all stressed, or none is: no AUROC can be computed: "
            "give others with --test or --held-out"
        )
    probabilities = np.array([model.card.calibration.probability(float(value)) for value in stress])
    ece = expected_calibration_error(labels[judged], probabilities[judged])
    return float(np.mean(accuracies)) if accuracies else None, float(np.mean(areas)), ece
