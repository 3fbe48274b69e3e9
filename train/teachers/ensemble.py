"""Ensemble of students, or of wider networks of their kind, as a teacher."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_sser.errors import TrainingError
from edge_sser.model.vote import EmotionVote
from edge_sser.pipeline.features import log_mel
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.features import windows
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.fit.checkpoint import load_student
from edge_sser.train.students.backend import emotion_vote
from edge_sser.train.students.net import Student
from edge_sser.train.teachers.outputs import Outputs, average_outputs


class Ensemble:
    """Teacher of several networks: their embeddings are concatenated, their logits averaged, stress with its vote."""

    def __init__(self, paths: Sequence[Path], data: str) -> None:
        """Loads the members.

        Args:
            paths: checkpoints of finished runs of `train fit`, all of one fold.
            data: checkpoint.data_key of the training side that every member must have learnt from, so that no member
                has heard the fold's test speakers.

        Raises:
            TrainingError: a checkpoint cannot be used, or learnt from other recordings.
        """
        self._members: list[tuple[Student, EmotionVote | None]] = []
        self._descriptions = []
        for path in paths:
            student, recipe, header = load_student(path)
            if header["data"] != data or tuple(header["emotions"]) != EMOTIONS:
                raise TrainingError(
                    f"{path} was trained on other recordings than this table leaves for its fold: an ensemble is made "
                    "of runs of the same table"
                )
            # Channels last, as in fit: in bfloat16 a window takes a fraction of the time.
            frozen = student.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._members.append((frozen, emotion_vote(recipe, header.get("preset"))))
            self._descriptions.append(
                {
                    "name": recipe.name,
                    "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                    "preset": header.get("preset", recipe.preset),
                    **({"emotion_share": recipe.emotion_share} if recipe.emotion_share else {}),
                }
            )

    def __call__(self, clip: Utterance) -> Outputs:
        """See Teacher."""
        return self.predict_windows(torch.from_numpy(windows(log_mel(read_audio(clip.path)))))

    def describe(self) -> dict[str, Any]:
        """See Teacher."""
        return {"kind": "ensemble", "members": self._descriptions}

    def to(self, device: torch.device) -> Ensemble:
        """Moves the members to a device."""
        for member, _ in self._members:
            member.to(device)
        return self

    def predict_windows(self, log_mel: Tensor) -> Outputs:
        """Returns outputs for log-mel windows, float32 [batch, frames, bands] in dB, without gradients."""
        with torch.no_grad():
            return average_outputs(
                [member_outputs(member, vote, member.embed(log_mel)) for member, vote in self._members]
            )


def member_outputs(member: Student, vote: EmotionVote | None, embedded: Tensor) -> Outputs:
    """Returns the outputs of a member for embeddings [batch, embedding]: with the vote, as it would on a device."""
    logits = member.classify(embedded)
    stress = logits.stress
    if vote is not None:
        blended = vote.blend(stress.cpu().numpy(), logits.emotions.cpu().numpy(), EMOTIONS)
        stress = torch.from_numpy(blended).to(stress.device)
    return Outputs(embedded.float(), logits.emotions, stress)
