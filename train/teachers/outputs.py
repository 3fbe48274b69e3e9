"""Outputs of a teacher, and the file that keeps them for all students of a fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_sser.errors import TrainingError
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.fit.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

OUTPUTS_FILE = "outputs.safetensors"
_REMEDY = "make it with edge-sser train teacher"


@dataclass(frozen=True, slots=True)
class Outputs:
    """Outputs of a teacher, one row for each clip or window.

    Attributes:
        features: float32 [n, dims], embeddings; each teacher has its own dims and scale.
        emotions: float32 [n, classes], logits in the order of labels.EMOTIONS.
        stress: float32 [n], logits.
    """

    features: Tensor
    emotions: Tensor
    stress: Tensor

    def __getitem__(self, indices: Tensor) -> Outputs:
        return Outputs(self.features[indices], self.emotions[indices], self.stress[indices])

    def to(self, device: torch.device) -> Outputs:
        """Returns a copy on another device."""
        return Outputs(self.features.to(device), self.emotions.to(device), self.stress.to(device))

    def mean(self) -> Outputs:
        """Returns the mean of all rows as one row; the score of a clip is the mean of its windows' logits."""
        return Outputs(self.features.mean(0, True), self.emotions.mean(0, True), self.stress.mean(0, True))


def concatenate_outputs(rows: Sequence[Outputs]) -> Outputs:
    """Concatenates rows."""
    return Outputs(
        torch.cat([row.features for row in rows]),
        torch.cat([row.emotions for row in rows]),
        torch.cat([row.stress for row in rows]),
    )


def average_outputs(outputs: Sequence[Outputs]) -> Outputs:
    """Averages the logits of several teachers for the same clips, and concatenates their features."""
    return Outputs(
        features=torch.cat([one.features for one in outputs], dim=1),
        emotions=torch.stack([one.emotions for one in outputs]).mean(dim=0),
        stress=torch.stack([one.stress for one in outputs]).mean(dim=0),
    )


def write_outputs(path: Path, clips: Sequence[Utterance], outputs: Outputs, header: Mapping[str, Any]) -> None:
    """Writes a teacher's outputs atomically.

    Raises:
        TrainingError: the file cannot be written.
    """
    tensors = {"features": outputs.features.half(), "emotions": outputs.emotions, "stress": outputs.stress}
    save_checkpoint(path, Checkpoint(tensors, {**header, "clips": [clip.sha256 for clip in clips]}))


def read_outputs(path: Path, clips: Sequence[Utterance], data: str) -> tuple[Outputs, Mapping[str, Any]]:
    """Reads a teacher's outputs for the training side of a fold, in the order of `clips`, and the file's header.

    Args:
        path: written by `write_outputs`.
        clips: whose outputs to return.
        data: checkpoint.data_key of the training side; a teacher of another may have heard the test speakers.

    Raises:
        TrainingError: the file is missing or damaged, or of other recordings.
    """
    found = load_checkpoint(path, _REMEDY)
    header = found.header
    if header.get("data") != data:
        raise TrainingError(
            f"{path}: this teacher learnt from other recordings than the student is to, perhaps from its test "
            "speakers: make it with edge-sser train teacher from the same table"
        )
    try:
        indices = {digest: index for index, digest in enumerate(header["clips"])}
        rows = torch.tensor([indices[clip.sha256] for clip in clips])
        outputs = Outputs(*(found.tensors[name].float() for name in ("features", "emotions", "stress")))
        return outputs[rows], {name: value for name, value in header.items() if name != "clips"}
    except (KeyError, IndexError) as error:
        raise TrainingError(f"{path}: {error} is missing: {_REMEDY}") from None
