"""Targets and losses of a student: from labels, and from a teacher (distillation).

A clip has one set of teacher outputs: the mean over its windows, as a clip's score is the mean of its windows' logits.
The student gets a random piece of the clip, faster or slower, in noise. Its target is the teacher's output for the
whole clip, just as the label is. The window nearest to the piece would be closer in time. But clips are hardly longer
than a window, a warped or looped piece has no nearest one, and a clip's windows differ mostly by the teacher's noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_sser.errors import TrainingError
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.labels import EMOTIONS, read_preset
from edge_sser.train.recipe import Distillation, Losses, Recipe
from edge_sser.train.students.net import Logits
from edge_sser.train.teachers.outputs import Outputs


@dataclass(frozen=True, slots=True)
class Targets:
    """Labels of utterances.

    Attributes:
        emotion: float32 [n, classes], share of each of EMOTIONS: 1 for a named emotion, or the raters' shares; all 0
            where unknown.
        allowed: bool [n, classes], the classes of the utterance's corpus. Other classes are no wrong answers: no clip
            of the corpus could have them. All, where a corpus has no label of any kind.
        stress: float32 [n], 0..1; NaN where the preset gives none.
        intensity: float32 [n], 0 normal, 1 strong; NaN where unknown.
    """

    emotion: Tensor
    allowed: Tensor
    stress: Tensor
    intensity: Tensor

    def __getitem__(self, places: Tensor) -> Targets:
        return Targets(self.emotion[places], self.allowed[places], self.stress[places], self.intensity[places])

    def to(self, device: torch.device) -> Targets:
        """Returns the labels on a device."""
        return Targets(
            self.emotion.to(device), self.allowed.to(device), self.stress.to(device), self.intensity.to(device)
        )


def make_targets(utterances: Sequence[Utterance], preset: str) -> Targets:
    """Builds the targets of utterances under a stress preset.

    Raises:
        SettingsError: there is no such preset.
    """
    classes: dict[str, set[str]] = {}
    for utterance in utterances:
        classes.setdefault(utterance.corpus, set()).update({utterance.emotion, *utterance.soft} & {*EMOTIONS})
    stress = read_preset(preset)
    # A corpus with stress alone teaches stress alone, as for the models that ship.
    judged = {utterance.corpus for utterance in utterances if stress.stress(utterance) is not None}
    classes = {corpus: found if found or corpus in judged else {*EMOTIONS} for corpus, found in classes.items()}
    intensity = {"normal": 0.0, "strong": 1.0}

    def known(value: float | None) -> float:
        return float("nan") if value is None else float(value)

    return Targets(
        emotion=torch.tensor([_shares(utterance) for utterance in utterances]),
        allowed=torch.tensor([[name in classes[utterance.corpus] for name in EMOTIONS] for utterance in utterances]),
        stress=torch.tensor([known(stress.stress(utterance)) for utterance in utterances]),
        intensity=torch.tensor([intensity.get(utterance.intensity, float("nan")) for utterance in utterances]),
    )


def _shares(utterance: Utterance) -> list[float]:
    """Returns the emotion as shares of EMOTIONS. Raters' votes take precedence over the acted emotion."""
    shares = [utterance.soft.get(name, 0.0) for name in EMOTIONS]
    if not any(shares):
        return [float(name == utterance.emotion) for name in EMOTIONS]
    return [share / sum(shares) for share in shares]


def check_labels(training: Sequence[Utterance], recipe: Recipe, *, has_teacher: bool) -> None:
    """Refuses a training side with stress labels of one kind: its student would give everybody the same score.

    Args:
        training: the training side.
        recipe: its preset turns labels into stress.
        has_teacher: True where a teacher adds to the labels.

    Raises:
        TrainingError: there are no utterances, or all labels mean the same.
    """
    if not training:
        raise TrainingError(
            "all speakers stand in one fold, so that nobody is left to train on: record at least two "
            "speakers, and let train index deal them into folds"
        )
    stress = read_preset(recipe.preset).stress
    values = {stress(utterance) for utterance in training} - {None}
    if len(values) < 2 and not has_teacher:
        found = f"is {values.pop():g} for all clips that say" if values else "is not known for any clip"
        raise TrainingError(
            f"under the preset {recipe.preset} stress {found}, so that there is nothing to tell apart: add recordings "
            "with another label, or give another preset (--set preset=NAME)"
        )


def label_losses(logits: Logits, targets: Targets, weights: Losses, label_smoothing: float) -> dict[str, Tensor]:
    """Returns the weighted losses from labels by name, each the mean over the clips whose label is known.

    Args:
        logits: of a batch.
        targets: labels of the batch.
        weights: of the losses.
        label_smoothing: 0..1.
    """
    log_probability = logits.emotions.masked_fill(~targets.allowed, -1e4).log_softmax(dim=1)
    even = targets.allowed / targets.allowed.sum(dim=1, keepdim=True).clamp(min=1)
    goal = torch.lerp(targets.emotion, even, label_smoothing)
    known = targets.emotion.any(dim=1)
    emotion = -(goal * log_probability).sum(dim=1)[known].mean() if known.any() else logits.emotions.sum() * 0.0
    stress = _binary_cross_entropy(logits.stress, targets.stress, label_smoothing)
    intensity = _binary_cross_entropy(logits.intensity, targets.intensity, label_smoothing)
    return {
        "emotion": weights.emotion * emotion,
        "stress": weights.stress * stress,
        "intensity": weights.intensity * intensity,
    }


def _binary_cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    known = ~labels.isnan()
    if not known.any():
        return logits.sum() * 0.0
    goal = labels[known] * (1.0 - label_smoothing) + 0.5 * label_smoothing
    return F.binary_cross_entropy_with_logits(logits[known], goal)


class Distiller(nn.Module):
    """Distillation losses, with a projection of embeddings onto the teacher's features; dropped after training."""

    def __init__(self, settings: Distillation, embedding: int, outputs: Outputs) -> None:
        """Makes the projection.

        Args:
            settings: weights of the losses.
            embedding: size of the student's embedding.
            outputs: of the teacher for all training clips; they give the scale of its features.
        """
        super().__init__()
        self.settings = settings
        self._mean = outputs.features.mean(dim=0)
        self._deviation = outputs.features.std(dim=0, correction=0) + 1e-3 * outputs.features.std(correction=0) + 1e-6
        self.project = nn.Linear(embedding, outputs.features.shape[1])

    def losses(self, logits: Logits, embedded: Tensor, teacher: Outputs, allowed: Tensor) -> dict[str, Tensor]:
        """Returns the weighted losses that are switched on by name, each the mean over the batch.

        Args:
            logits: of the student.
            embedded: embeddings of the student, float [batch, embedding].
            teacher: outputs of the teacher, one row a clip.
            allowed: bool [batch, classes], the classes that the clip's corpus has; only these are compared.
        """
        settings = self.settings
        features = (teacher.features - self._mean.to(embedded.device)) / self._deviation.to(embedded.device)
        parts: dict[str, tuple[float, Callable[[], Tensor]]] = {
            "taught emotion": (settings.emotion, lambda: self._emotion(logits.emotions, teacher.emotions, allowed)),
            "taught stress": (settings.stress, lambda: self._stress(logits.stress, teacher.stress)),
            "concordance": (
                settings.concordance,
                lambda: 1.0 - concordance(logits.stress.sigmoid(), teacher.stress.sigmoid()),
            ),
            "features": (settings.features, lambda: feature_distance(self.project(embedded), features)),
            "similarity": (settings.similarity, lambda: similarity_difference(embedded, features)),
        }
        return {name: weight * value() for name, (weight, value) in parts.items() if weight > 0.0}

    def _emotion(self, student: Tensor, teacher: Tensor, allowed: Tensor) -> Tensor:
        """Returns KL at the temperature, times its square, which keeps the gradients' size (Hinton et al., 2015)."""
        temperature = self.settings.temperature
        log_student, log_teacher = (
            (values / temperature).masked_fill(~allowed, -1e4).log_softmax(dim=1) for values in (student, teacher)
        )
        return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * temperature**2

    def _stress(self, student: Tensor, teacher: Tensor) -> Tensor:
        temperature = self.settings.temperature
        log_student, log_teacher = (
            torch.stack((F.logsigmoid(values / temperature), F.logsigmoid(-values / temperature)), dim=1)
            for values in (student, teacher)
        )
        return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * temperature**2


def concordance(first: Tensor, second: Tensor) -> Tensor:
    """Concordance correlation coefficient of two float [n] (Lin, Biometrics, 1989): -1..1, 1 where they are equal."""
    one, two = first - first.mean(), second - second.mean()
    shift = (first.mean() - second.mean()).square()
    return 2.0 * (one * two).mean() / (one.square().mean() + two.square().mean() + shift + 1e-6)


def feature_distance(projected: Tensor, features: Tensor) -> Tensor:
    """L1 and cosine distance of float [batch, dims], as for DistilHuBERT (Chang et al., ICASSP 2022)."""
    cosine = F.cosine_similarity(projected, features, dim=1)
    return F.l1_loss(projected, features) + (1.0 - cosine).mean()


def similarity_difference(embedded: Tensor, features: Tensor) -> Tensor:
    """Mean squared difference of the cosines between all pairs of a batch (after Tung and Mori, ICCV 2019).

    The student's embeddings are centred over the batch, as the teacher's features are over the corpus: all values are
    positive, so that all cosines would be near 1 otherwise.
    """
    student, teacher = (F.normalize(values, dim=1) for values in (embedded - embedded.mean(dim=0), features))
    difference = student @ student.T - teacher @ teacher.T
    return difference.square().mean()


def blend(first: Mapping[str, Tensor], second: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Returns the losses of a mixed batch: `share` of the first, the rest from the second."""
    return {name: share * value + (1.0 - share) * second[name] for name, value in first.items()}
