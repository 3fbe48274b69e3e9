"""Adapter that runs a trained student through the device code in place of a model file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_sser.errors import SettingsError
from edge_sser.model.backend import Logits
from edge_sser.model.calibration import Calibration
from edge_sser.model.model import Card, Model
from edge_sser.model.vote import EmotionVote
from edge_sser.pipeline.features import FEATURES
from edge_sser.train.data.labels import EMOTIONS, Preset, read_preset
from edge_sser.train.recipe import Recipe

UNCALIBRATED = Calibration(temperature=1.0, bias=0.0)
ELEVATED, HIGH = 0.6, 0.8  # default levels: a checkpoint has no card with its own


class StudentBackend:
    """Computes a student with torch. See `Backend`."""

    provider = "torch"

    def __init__(self, student: nn.Module) -> None:
        """Wraps a student in evaluation mode whose output is `students.net.Logits`."""
        self._student = student

    def run(self, log_mel: NDArray[np.float32], *, limit_seconds: float | None = None) -> Logits:
        """Computes a batch; see `Backend.run`. The limit is ignored: a student has no loop that could run on."""
        with torch.inference_mode():
            logits = self._student(torch.from_numpy(np.ascontiguousarray(log_mel)))
        return logits.stress.numpy(), logits.emotions.numpy()

    def close(self) -> None:
        """Does nothing: the student belongs to the caller."""


def emotion_vote(recipe: Recipe, emotions: Mapping[str, int | None] | None = None) -> EmotionVote | None:
    """Returns the emotions' vote in the stress logit of a recipe's network; None for a recipe without one.

    Args:
        recipe: of the network.
        emotions: of a user's preset, from the header of a checkpoint, since files change; None: read the preset.

    Raises:
        SettingsError: there is no such preset, or it does not map emotions to both sides.
    """
    if not recipe.emotion_share:
        return None
    preset = read_preset(recipe.preset) if emotions is None else Preset(recipe.preset, emotions)
    yes, no = preset.emotions_with(1), preset.emotions_with(0)
    if not yes or not no:
        raise SettingsError(
            f"recipe {recipe.name}: its preset {recipe.preset} maps no emotions to stress and to none: set "
            "emotion_share to 0"
        )
    return EmotionVote(share=recipe.emotion_share, stressed=yes, unstressed=no)


def student_model(
    student: nn.Module,
    *,
    name: str = "student",
    emotions: Sequence[str] = EMOTIONS,
    path: Path = Path("memory"),
    vote: EmotionVote | None = None,
) -> Model:
    """Returns a student as an uncalibrated model.

    Args:
        student: in evaluation mode.
        name: of the model in events.
        emotions: labels of its emotion logits, in order.
        path: of its checkpoint, for messages.
        vote: of the emotions, from `emotion_vote`.
    """
    card = Card(
        name=name,
        version="0",
        created="",
        architecture=type(student).__name__,
        features=FEATURES.as_dict(),
        input="log_mel",
        outputs=("stress_logit", "emotion_logits"),
        emotions=tuple(emotions),
        stress_preset="",
        calibration=UNCALIBRATED,
        elevated=ELEVATED,
        high=HIGH,
        precision="fp32",
        training=(),
        licence="",
        accuracy={},
        notice="",
        emotion_vote=vote,
    )
    return Model(StudentBackend(student), card, path=path, sha256=hashlib.sha256(str(path).encode()).hexdigest())
