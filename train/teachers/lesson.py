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
        outputs: of the teachers for the clips of the training side as recorded, one row a clip, in their order.
        description: of the teachers, in plain values.
        hearing: the teachers that hear the student's own windows.
        others: outputs of each teacher that does not, for the clips as recorded; empty where none hears windows.
    """

    outputs: Outputs
    description: Mapping[str, Any]
    hearing: tuple[Ensemble, ...] = ()
    others: tuple[Outputs, ...] = ()

    def select(self, places: Tensor, device: torch.device) -> Lesson:
        """Returns the lesson of some of the clips on a device."""
        return replace(
            self,
            outputs=self.outputs[places].to(device),
            hearing=tuple(teacher.to(device) for teacher in self.hearing),
            others=tuple(outputs[places].to(device) for outputs in self.others),
        )

    def answers(self, places: Tensor, windows: Tensor) -> Outputs:
        """Returns the teachers' outputs for windows: the mean of their logits, and all features.

        Args:
            places: int64 [batch], indices of the clips.
            windows: float32 [batch, frames, bands], dB: the student's input, made of these clips.
        """
        places = places.to(self.outputs.stress.device)
        if not self.hearing:
            return self.outputs[places]
        found = [teacher.predict_windows(windows) for teacher in self.hearing]
        return average_outputs([*found, *(outputs[places] for outputs in self.others)])

    def outputs_for(self, places: Tensor, windows: Tensor, world: World) -> Outputs:
        """Returns the teachers' outputs for a batch.

        Args:
            places: int64 [batch], indices of the clips.
            windows: float32 [rows, frames, bands], dB: the student's input, this process's rows of the batch.
            world: the processes that train together.
        """
        if not self.hearing:
            return self.answers(places, windows)
        batch = places.numel()
        own = self.answers(places[world.rows(batch)], windows)
        return Outputs(*(world.gather(part, batch) for part in (own.features, own.emotions, own.stress)))


def open_lessons(
    folders: Sequence[Path], training: Sequence[Utterance], data: str, teacher_input: TeacherInput
) -> Lesson:
    """Opens the lesson of one or several teachers: the mean of their logits, and all features.

    Args:
        folders: of the fold, of each teacher.
        training: its training side.
        data: checkpoint.data_key of the training side.
        teacher_input: of the recipe. Teachers that cannot hear the student's windows are asked about the clean clip.

    Raises:
        UsageError: no teacher can hear the student's windows, as it should.
        TrainingError: a file is missing or damaged, or of other recordings.
    """
    lessons = [open_lesson(folder, training, data, teacher_input) for folder in folders]
    hearing = tuple(teacher for lesson in lessons for teacher in lesson.hearing)
    if teacher_input is TeacherInput.STUDENT and not hearing:
        raise UsageError(
            f"teacher {folders[0]}: it does not listen to log-mel windows, so it cannot hear what the student hears: "
            'set distillation.teacher_hears = "clean" in the recipe'
        )
    if len(lessons) == 1:
        return lessons[0]
    ordered = sorted(lessons, key=lambda lesson: not lesson.hearing)  # features stand in the order of `answers`
    return Lesson(
        average_outputs([lesson.outputs for lesson in ordered]),
        {"kind": "several", "members": [lesson.description for lesson in lessons]},
        hearing,
        tuple(lesson.outputs for lesson in ordered if hearing and not lesson.hearing),
    )


def open_lesson(folder: Path, training: Sequence[Utterance], data: str, teacher_input: TeacherInput) -> Lesson:
    """Opens the outputs that `train teacher` wrote for a fold.

    Args:
        folder: of the fold.
        training: its training side.
        data: checkpoint.data_key of the training side.
        teacher_input: of the recipe.

    Raises:
        TrainingError: a file is missing or damaged, or of other recordings.
    """
    outputs, header = read_outputs(folder / OUTPUTS_FILE, training, data)
    members = sorted(folder.glob(MEMBER_FILE.format("*"))) if teacher_input is TeacherInput.STUDENT else []
    return Lesson(outputs, header["teacher"], (Ensemble(members, data),) if members else ())
