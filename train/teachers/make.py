"""Asks a teacher once about all clips of a fold's training side, and keeps what it says."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_sser.errors import TrainingError

from ..audio import read_audio
from ..checkpoint import load_checkpoint
from ..corpora.table import Utterance
from ..fit import data_key
from ..loop import check_same
from .ensemble import Ensemble
from .lesson import MEMBER_FILE
from .outputs import OUTPUTS_FILE, join, write_outputs
from .teacher import Teacher

Progress = Callable[[Utterance], None]


def make_ensemble(
    training: Sequence[Utterance], members: Sequence[Path], folder: Path, progress: Progress = lambda utterance: None
) -> None:
    """Makes the teacher of a fold from runs of `train fit`; what is there already is left as it is.

    Args:
        training: the training side of the fold.
        members: checkpoints of the same fold.
        folder: of the fold; the members are copied there, so that the teacher stays whole when their runs are gone.
        progress: called after each utterance.

    Raises:
        TrainingError: a member learnt from other recordings, or the folder holds another teacher.
        SourceError: a recording cannot be read.
    """
    teacher = Ensemble(members, data_key(training))
    _check_room(folder, training, teacher)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, path in enumerate(members, start=1):
            shutil.copyfile(path, folder / MEMBER_FILE.format(number))
    except OSError as error:
        raise TrainingError(f"{folder}: cannot be written ({error.strerror or error}): choose another --out") from None
    ask(teacher, training, folder, progress)


def ask(teacher: Teacher, training: Sequence[Utterance], folder: Path, progress: Progress) -> None:
    """Writes what a teacher says of each utterance, the mean over its windows, unless it has been done.

    Args:
        teacher: has heard nobody but the training side.
        training: of a fold.
        folder: of the fold.
        progress: called after each utterance.

    Raises:
        SourceError: a recording cannot be read.
        TrainingError: the folder holds another teacher's outputs, or cannot be written.
    """
    _check_room(folder, training, teacher)
    path = folder / OUTPUTS_FILE
    if path.exists():
        return
    rows = []
    for utterance in training:
        rows.append(teacher(read_audio(utterance.path)).mean())
        progress(utterance)
    write_outputs(path, training, join(rows), {"data": data_key(training), "teacher": teacher.describe()})


def _check_room(folder: Path, training: Sequence[Utterance], teacher: Teacher) -> None:
    path = folder / OUTPUTS_FILE
    if path.exists():
        check_same(path, load_checkpoint(path).header, {"data": data_key(training), "teacher": teacher.describe()})
