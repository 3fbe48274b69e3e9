"""A trained student in the place of a model file, so that what runs on a device can run a checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_sser.features import FEATURES
from edge_sser.model import Calibration, Card, Model

from .labels import EMOTIONS

UNCALIBRATED = Calibration(temperature=1.0, bias=0.0)
ELEVATED, HIGH = 0.6, 0.8  # a checkpoint has no card that would say so


class StudentModel(Model):
    """A student with the face of a model file."""

    def __init__(
        self,
        student: nn.Module,
        *,
        name: str = "student",
        emotions: Sequence[str] = EMOTIONS,
        calibration: Calibration = UNCALIBRATED,
        path: Path = Path("memory"),
    ) -> None:
        """Dresses a student up.

        Args:
            student: in evaluation mode; gives what students give, `Logits`.
            name: of the model, as events carry it.
            emotions: labels of its emotion logits, in order.
            calibration: from logit to probability.
            path: of its checkpoint, for messages.
        """
        self._student = student
        self.path = path
        self.provider = "torch"
        self.sha256 = hashlib.sha256(str(path).encode()).hexdigest()
        self.card = Card(
            name=name,
            version="0",
            created="",
            architecture=type(student).__name__,
            features=FEATURES.as_dict(),
            input="log_mel",
            outputs=("stress_logit", "emotion_logits"),
            emotions=tuple(emotions),
            stress_preset="",
            calibration=calibration,
            elevated=ELEVATED,
            high=HIGH,
            precision="fp32",
            training=(),
            licence="",
            accuracy={},
            notice="",
        )

    def logits(self, log_mel: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Raw outputs for a batch; see `Model.logits`."""
        with torch.inference_mode():
            logits = self._student(torch.from_numpy(np.ascontiguousarray(log_mel)))
        return logits.stress.numpy(), logits.emotions.numpy()
