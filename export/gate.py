"""Gate for quantised files: on held-out speakers, they must agree with the FP32 file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sser.commands.progress import progress
from edge_sser.errors import ModelError, TrainingError
from edge_sser.export.choose import levels
from edge_sser.model.model import Model
from edge_sser.pipeline.features import log_mel
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.features import windows
from edge_sser.train.data.labels import EMOTIONS, read_preset
from edge_sser.train.evaluate.metrics import auroc, expected_calibration_error, unweighted_accuracy

MAX_AUROC_LOSS = 0.005
MAX_UA_LOSS = 0.01
MAX_DISAGREEMENT = 0.03
_ROUNDING = 1e-9  # 1 - 0.97 is not 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores of a file on the test speakers; fractions 0..1, means over the corpora that have them.

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
    """Limits on the loss of INT8.

    Attributes:
        allowance: factor on the documented limits; 2.0 allows twice the loss.
    """

    allowance: float = 1.0

    def violations(self, fp32: Scores, int8: Scores) -> list[str]:
        """Returns each loss over its limit, in words; an empty list when INT8 passes."""
        losses = {
            "AUROC falls by {:.4f}, at most {:.4f}": (fp32.auroc - int8.auroc, MAX_AUROC_LOSS),
            "UA falls by {:.4f}, at most {:.4f}": (_loss(fp32.ua, int8.ua), MAX_UA_LOSS),
            "a share of {:.4f} of the level decisions differs, at most {:.4f}": (
                1.0 - int8.agreement,
                MAX_DISAGREEMENT,
            ),
        }
        return [
            text.format(loss, limit * self.allowance)
            for text, (loss, limit) in losses.items()
            if not loss <= limit * self.allowance + _ROUNDING
        ]


class RefusedError(ModelError):
    """A quantised file lost too much.

    Attributes:
        report: its scores, for standard output.
    """

    def __init__(self, message: str, report: str) -> None:
        super().__init__(message)
        self.report = report


def score_models(models: Mapping[str, Model], utterances: Sequence[Utterance]) -> dict[str, Scores]:
    """Scores models side by side on the same clips of held-out speakers; agreement is measured against the first model.

    Raises:
        TrainingError: no clip is stressed, or all are.
        SourceError: a recording cannot be read.
    """
    per_window: dict[str, list[NDArray[np.float32]]] = {name: [] for name in models}
    stress: dict[str, list[float]] = {name: [] for name in models}
    emotions: dict[str, list[NDArray[np.float32]]] = {name: [] for name in models}
    with progress("scoring", len(utterances)) as work:
        for utterance in utterances:
            batch = windows(log_mel(read_audio(utterance.path)))
            for name, model in models.items():
                clip_stress, clip_emotions = model.logits(batch)
                per_window[name].append(clip_stress)
                stress[name].append(float(clip_stress.mean()))
                emotions[name].append(clip_emotions.mean(axis=0))
            work.advance()
    first = next(iter(models))
    expected = levels(models[first].card, np.concatenate(per_window[first]))
    scores = {}
    for name, model in models.items():
        found = levels(model.card, np.concatenate(per_window[name]))
        ua, area, ece = _clip_scores(model, utterances, np.array(stress[name]), np.stack(emotions[name]))
        scores[name] = Scores(ua=ua, auroc=area, ece=ece, agreement=float(np.mean(found == expected)))
    return scores


def judge_engine(fp32: Path, graph: Path, engine: Path, *, test: Sequence[Utterance], limits: Limits) -> str:
    """Checks an engine as the graph that it was built from was checked, and returns its scores in words.

    An engine that does not pass is removed.

    Raises:
        RefusedError: the engine loses more than the limits allow.
    """
    models = {
        "fp32": Model.load(fp32, runtime="cpu"),
        "engine": Model.load(graph, runtime="engine", engines=engine.parent),
    }
    scores = score_models(models, test)
    own = scores["engine"]
    report = (
        f"{engine.name}: UA {'-' if own.ua is None else format(100 * own.ua, '.2f')} %, stress AUROC {own.auroc:.4f}, "
        f"ECE {own.ece:.4f}, {100 * own.agreement:.2f} % of the levels agree with FP32"
    )
    violations = limits.violations(scores["fp32"], own)
    if violations:
        engine.unlink(missing_ok=True)
        raise RefusedError(
            f"the engine is not what FP32 is: {'; '.join(violations)}: it was removed, the model files stand; please "
            "report it with the board and the version of TensorRT",
            report,
        )
    return report


def _loss(before: float | None, after: float | None) -> float:
    return 0.0 if before is None or after is None else before - after


def _clip_scores(
    model: Model, utterances: Sequence[Utterance], stress: NDArray[np.float64], emotions: NDArray[np.float32]
) -> tuple[float | None, float, float]:
    """Returns UA, AUROC and ECE of the clips."""
    preset = read_preset(model.card.stress_preset)
    targets = [preset.stress(utterance) for utterance in utterances]
    has_target = np.array([value is not None for value in targets])
    labels = np.array([int((value or 0.0) >= 0.5) for value in targets], dtype=np.int64)
    has_emotion = np.array([utterance.emotion in EMOTIONS for utterance in utterances])
    classes = np.array([EMOTIONS.index(each.emotion) if each.emotion in EMOTIONS else -1 for each in utterances])
    corpora = np.array([utterance.corpus for utterance in utterances])
    accuracies, areas = [], []
    for corpus in np.unique(corpora):
        inside = corpora == corpus
        known = inside & has_emotion
        if known.any():
            own = np.unique(classes[known])
            accuracies.append(unweighted_accuracy(classes[known], own[emotions[known][:, own].argmax(axis=1)]))
        if len(set(labels[inside & has_target])) == 2:
            areas.append(auroc(labels[inside & has_target], stress[inside & has_target]))
    if not areas:
        raise TrainingError(
            "the held-out recordings of each corpus are all stressed, or none is: no AUROC can be computed: "
            "give others with --test or --held-out"
        )
    probabilities = np.array([model.card.calibration.probability(float(value)) for value in stress])
    ece = expected_calibration_error(labels[has_target], probabilities[has_target])
    return float(np.mean(accuracies)) if accuracies else None, float(np.mean(areas)), ece
