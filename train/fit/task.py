"""What the student is asked for, and the loss when part of it is not known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.data.presets import read_preset
from edge_sser.train.recipe import Losses
from edge_sser.train.students.net import Logits


@dataclass(frozen=True, slots=True)
class Targets:
    """Labels of utterances.

    Attributes:
        emotion: float32 [n, classes], share of each of EMOTIONS: 1 for the one that is named, or the raters' shares;
            all 0 where unknown.
        allowed: bool [n, classes], the classes that the utterance's corpus has: the others are not wrong answers,
            they were never asked.
        stress: float32 [n], 0..1; NaN where the labels do not say under the preset.
        intensity: float32 [n], 0 normal, 1 strong; NaN where unknown.
    """

    emotion: Tensor
    allowed: Tensor
    stress: Tensor
    intensity: Tensor

    def __getitem__(self, places: Tensor) -> Targets:
        return Targets(self.emotion[places], self.allowed[places], self.stress[places], self.intensity[places])

    def to(self, device: torch.device) -> Targets:
        """The same labels on another device."""
        return Targets(
            self.emotion.to(device), self.allowed.to(device), self.stress.to(device), self.intensity.to(device)
        )


def make_targets(utterances: Sequence[Utterance], preset: str) -> Targets:
    """Labels of a table's utterances under a stress preset.

    Raises:
        SettingsError: there is no such preset.
    """
    classes: dict[str, set[str]] = {}
    for utterance in utterances:
        classes.setdefault(utterance.corpus, set()).update({utterance.emotion, *utterance.soft})
    stress = read_preset(preset)
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
    """The emotion as shares of EMOTIONS; those of raters come before what the speaker was asked to act."""
    shares = [utterance.soft.get(name, 0.0) for name in EMOTIONS]
    if not any(shares):
        return [float(name == utterance.emotion) for name in EMOTIONS]
    return [share / sum(shares) for share in shares]


def label_losses(logits: Logits, targets: Targets, weights: Losses, label_smoothing: float) -> dict[str, Tensor]:
    """The weighted parts of the loss, each averaged over the clips whose label is known."""
    log_probability = logits.emotions.masked_fill(~targets.allowed, -1e4).log_softmax(dim=1)
    even = targets.allowed / targets.allowed.sum(dim=1, keepdim=True).clamp(min=1)
    goal = torch.lerp(targets.emotion, even, label_smoothing)
    known = targets.emotion.any(dim=1)
    emotion = -(goal * log_probability).sum(dim=1)[known].mean() if known.any() else logits.emotions.sum() * 0.0
    stress = _binary(logits.stress, targets.stress, label_smoothing)
    intensity = _binary(logits.intensity, targets.intensity, label_smoothing)
    return {
        "emotion": weights.emotion * emotion,
        "stress": weights.stress * stress,
        "intensity": weights.intensity * intensity,
    }


class Tally:
    """Counts what is told rightly over the batches of an epoch."""

    def __init__(self) -> None:
        self._counts: dict[str, list[Tensor]] = {}

    def add(self, logits: Logits, targets: Targets) -> None:
        """Counts a batch: the emotion that leads among those that its corpus has, and which side of a half stress is.

        Args:
            logits: what the net said.
            targets: the labels.
        """
        said = logits.emotions.detach().masked_fill(~targets.allowed, -math.inf).argmax(dim=1)
        parts = {
            "emotion": (said == targets.emotion.argmax(dim=1))[targets.emotion.any(dim=1)],
            "stress": ((logits.stress.detach() >= 0.0) == (targets.stress >= 0.5))[~targets.stress.isnan()],
        }
        for name, right in parts.items():
            self._counts.setdefault(name, []).append(right)

    def take(self) -> dict[str, float]:
        """The shares since the last time, 0..1, of what had labels."""
        counts = {name: torch.cat(parts) for name, parts in self._counts.items()}
        self._counts = {}
        return {name: float(right.float().mean()) for name, right in counts.items() if right.numel()}


def _binary(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    known = ~labels.isnan()
    if not known.any():
        return logits.sum() * 0.0
    goal = labels[known] * (1.0 - label_smoothing) + 0.5 * label_smoothing
    return F.binary_cross_entropy_with_logits(logits[known], goal)
