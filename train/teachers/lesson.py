"""What a student is handed of a teacher: its outputs for the training clips, or the teacher itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_sser.errors import UsageError
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.fit.parallel import World
from edge_sser.train.recipe import Hears
from edge_sser.train.teachers.ensemble import Ensemble
from edge_sser.train.teachers.outputs import OUTPUTS_FILE, Outputs, read_outputs, together

MEMBER_FILE = "member-{}.safetensors"


@dataclass(frozen=True, slots=True)
class Lesson:
    """A teacher's part in a run.

    Attributes:
        outputs: for the clips of the training side, one row a clip, in their order.
        description: what the teacher is: plain values.
        ensemble: the teacher itself where it is to hear what the student hears.
    """

    outputs: Outputs
    description: Mapping[str, Any]
    ensemble: Ensemble | None = None

    def select(self, places: Tensor, device: torch.device) -> Lesson:
        """Of some of the clips, on a device."""
        ensemble = self.ensemble.to(device) if self.ensemble else None
        return replace(self, outputs=self.outputs[places].to(device), ensemble=ensemble)

    def of(self, places: Tensor, windows: Tensor, world: World) -> Outputs:
        """What the teacher says of a batch.

        Args:
            places: int64 [batch], of its clips.
            windows: float32 [rows, frames, bands], dB: what the student hears, this process's rows of the batch.
            world: the processes that train together.
        """
        if self.ensemble is None:
            return self.outputs[places.to(self.outputs.stress.device)]
        said = self.ensemble.of_windows(windows)
        batch = places.numel()
        return Outputs(*(world.gather(part, batch) for part in (said.features, said.emotions, said.stress)))


def open_lessons(folders: Sequence[Path], training: Sequence[Utterance], data: str, hears: Hears) -> Lesson:
    """Opens what one or several teachers say of the same clips: together their logits' mean, and all their features.

    Arguments and errors as for `open_lesson` and `check_hearing`.
    """
    check_hearing(len(folders), hears)
    lessons = [open_lesson(folder, training, data, hears) for folder in folders]
    if len(lessons) == 1:
        return lessons[0]
    said = together([lesson.outputs for lesson in lessons])
    return Lesson(said, {"kind": "several", "members": [lesson.description for lesson in lessons]})


def check_hearing(teachers: int, hears: Hears) -> None:
    """Refuses several teachers that are to hear what the student hears, before they are made.

    Raises:
        UsageError: the message says what to do.
    """
    if teachers > 1 and hears is Hears.STUDENT:
        raise UsageError(
            'with distillation.teacher_hears = "student" give one --teacher, made with several --ensemble if need be'
        )


def open_lesson(folder: Path, training: Sequence[Utterance], data: str, hears: Hears) -> Lesson:
    """Opens what `train teacher` left in the folder of a fold.

    Args:
        folder: of the fold.
        training: its training side.
        data: its fit.data_key.
        hears: what the recipe asks the teacher about.

    Raises:
        UsageError: the teacher cannot hear what the student hears.
        TrainingError: a file is missing or damaged, or of other recordings.
    """
    outputs, header = read_outputs(folder / OUTPUTS_FILE, training, data)
    description = header["teacher"]
    if hears is Hears.CLEAN:
        return Lesson(outputs, description)
    members = sorted(folder.glob(MEMBER_FILE.format("*")))
    if not members:
        raise UsageError(
            f"teacher {folder}: it does not listen to log-mel windows, so it cannot hear what the student hears: "
            'set distillation.teacher_hears = "clean" in the recipe'
        )
    return Lesson(outputs, description, Ensemble(members, data))
