"""Lessons of a student: the teacher's outputs for the training clips, or the teacher itself."""

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
from edge_sser.train.recipe import TeacherInput
from edge_sser.train.teachers.ensemble import Ensemble
from edge_sser.train.teachers.outputs import OUTPUTS_FILE, Outputs, average_outputs, read_outputs

MEMBER_FILE = "member-{}.safetensors"


@dataclass(frozen=True, slots=True)
class Lesson:
    """Targets of a distillation.

    Attributes:
        outputs: for the clips of the training side, one row a clip, in their order.
        description: of the teacher, in plain values.
        ensemble: the teacher itself, where its input is that of the student; else None.
    """

    outputs: Outputs
    description: Mapping[str, Any]
    ensemble: Ensemble | None = None

    def select(self, places: Tensor, device: torch.device) -> Lesson:
        """Returns the lesson of some of the clips on a device."""
        ensemble = self.ensemble.to(device) if self.ensemble else None
        return replace(self, outputs=self.outputs[places].to(device), ensemble=ensemble)

    def outputs_for(self, places: Tensor, windows: Tensor, world: World) -> Outputs:
        """Returns the teacher's outputs for a batch.

        Args:
            places: int64 [batch], indices of the clips.
            windows: float32 [rows, frames, bands], dB: the student's input, this process's rows of the batch.
            world: the processes that train together.
        """
        if self.ensemble is None:
            return self.outputs[places.to(self.outputs.stress.device)]
        outputs = self.ensemble.predict_windows(windows)
        batch = places.numel()
        return Outputs(*(world.gather(part, batch) for part in (outputs.features, outputs.emotions, outputs.stress)))


def open_lessons(
    folders: Sequence[Path], training: Sequence[Utterance], data: str, teacher_input: TeacherInput
) -> Lesson:
    """Opens the lesson of one or several teachers: the mean of their logits, and all features.

    Arguments and errors as for `open_lesson` and `check_teacher_input`.
    """
    check_teacher_input(len(folders), teacher_input)
    lessons = [open_lesson(folder, training, data, teacher_input) for folder in folders]
    if len(lessons) == 1:
        return lessons[0]
    outputs = average_outputs([lesson.outputs for lesson in lessons])
    return Lesson(outputs, {"kind": "several", "members": [lesson.description for lesson in lessons]})


def check_teacher_input(teachers: int, teacher_input: TeacherInput) -> None:
    """Refuses several teachers for a recipe in which the teacher hears the student's input.

    Raises:
        UsageError: the message says what to do.
    """
    if teachers > 1 and teacher_input is TeacherInput.STUDENT:
        raise UsageError(
            'with distillation.teacher_hears = "student" give one --teacher, made with several --ensemble if need be'
        )


def open_lesson(folder: Path, training: Sequence[Utterance], data: str, teacher_input: TeacherInput) -> Lesson:
    """Opens the outputs that `train teacher` wrote for a fold.

    Args:
        folder: of the fold.
        training: its training side.
        data: checkpoint.data_key of the training side.
        teacher_input: of the recipe.

    Raises:
        UsageError: the teacher cannot take the student's input.
        TrainingError: a file is missing or damaged, or of other recordings.
    """
    outputs, header = read_outputs(folder / OUTPUTS_FILE, training, data)
    description = header["teacher"]
    if teacher_input is TeacherInput.CLEAN:
        return Lesson(outputs, description)
    members = sorted(folder.glob(MEMBER_FILE.format("*")))
    if not members:
        raise UsageError(
            f"teacher {folder}: it does not listen to log-mel windows, so it cannot hear what the student hears: "
            'set distillation.teacher_hears = "clean" in the recipe'
        )
    return Lesson(outputs, description, Ensemble(members, data))
