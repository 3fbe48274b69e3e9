"""Makes a teacher for each fold of a table, trained on the training side alone, and stores its outputs for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from edge_sser.errors import TrainingError, UsageError
from edge_sser.train.corpora.folds import split
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.fit.checkpoint import MODEL_FILE, check_header, data_key, load_checkpoint, run_folder
from edge_sser.train.fit.loop import Epoch
from edge_sser.train.teachers.encoder import load_encoder
from edge_sser.train.teachers.ensemble import Ensemble
from edge_sser.train.teachers.hidden import HiddenStore
from edge_sser.train.teachers.hubert import fit_encoder_teacher
from edge_sser.train.teachers.lesson import MEMBER_FILE
from edge_sser.train.teachers.outputs import OUTPUTS_FILE, concatenate_outputs, write_outputs
from edge_sser.train.teachers.recipe import TeacherRecipe, TrainedPart
from edge_sser.train.teachers.teacher import Teacher


class ProgressBar(Protocol):
    """Factory of progress bars: tqdm, or a test double."""

    def __call__(self, *, total: int, unit: str, desc: str) -> Any:
        """Returns a new bar."""
        ...


TeacherCallback = Callable[[Teacher, Sequence[Utterance]], None]
"""Called with the teacher of each fold and the held-out clips."""


def ignore_teacher(teacher: Teacher, held_out: Sequence[Utterance]) -> None:
    """Does nothing; the default callback."""


def make_encoder_teachers(
    utterances: Sequence[Utterance],
    folds: Sequence[int | None],
    recipe: TeacherRecipe,
    out: Path,
    bar: ProgressBar,
    on_teacher: TeacherCallback = ignore_teacher,
) -> None:
    """Makes the teacher of each fold from a speech encoder; resumes an interrupted run.

    Args:
        utterances: the table.
        folds: to hold out; None: all speakers.
        recipe: of the teacher.
        out: folder of the teacher.
        bar: makes a progress bar.
        on_teacher: called after each fold.

    Raises:
        MissingComponentError: transformers is not installed.
        TrainingError: the encoder cannot be loaded, or as for `run.fit`.
        SourceError: a recording cannot be read.
    """
    settings = recipe.encoder
    encoder = load_encoder(settings.weights, settings.sha256)
    store = None
    if settings.trained is TrainedPart.HEAD:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with bar(total=len(utterances), unit=" recordings", desc="hidden states") as progress_bar:
            store = HiddenStore(
                encoder, utterances, out / "cache", device, lambda utterance: progress_bar.update() and None
            )
    for held_out in folds:
        training, test = split(utterances, held_out)
        folder = run_folder(out, held_out)
        if store is None:
            encoder = load_encoder(settings.weights, settings.sha256)
        with bar(total=recipe.optimisation.epochs, unit=" epochs", desc=f"{folder.name}, training") as progress_bar:

            def on_epoch(epoch: Epoch, progress_bar: Any = progress_bar) -> None:
                progress_bar.update(epoch.number - progress_bar.n)
                progress_bar.set_postfix(epoch.postfix())

            teacher = fit_encoder_teacher(training, recipe, encoder, store, folder, on_epoch)
        write_teacher_outputs(teacher, training, folder, bar)
        on_teacher(teacher, test)


def members_preset(runs: Sequence[Path], folds: Sequence[int | None]) -> str:
    """Returns the stress preset of the members of an ensemble.

    Args:
        runs: folders of `train fit`.
        folds: to hold out; None: all speakers.

    Raises:
        UsageError: the runs have different presets.
        TrainingError: a checkpoint is missing or damaged.
    """
    headers = [load_checkpoint(run_folder(run, fold) / MODEL_FILE).header for run in runs for fold in folds]
    presets = [header.get("preset", header["recipe"]["preset"]) for header in headers]
    if any(preset != presets[0] for preset in presets):
        raise UsageError("the runs were trained under different presets: an ensemble is made of runs under the same")
    preset: str = headers[0]["recipe"]["preset"]
    return preset


def make_ensembles(
    utterances: Sequence[Utterance],
    folds: Sequence[int | None],
    runs: Sequence[Path],
    out: Path,
    bar: ProgressBar,
    on_teacher: TeacherCallback = ignore_teacher,
) -> None:
    """Makes the teacher of each fold from the students of that fold.

    Args:
        utterances: the table that the runs were trained on.
        folds: to hold out; None: all speakers.
        runs: folders of `train fit`.
        out: folder of the teacher.
        bar: makes a progress bar.
        on_teacher: called after each fold.

    Raises:
        TrainingError: a member learnt from other recordings, or the folder holds another teacher.
        SourceError: a recording cannot be read.
    """
    for held_out in folds:
        training, test = split(utterances, held_out)
        members = [run_folder(run, held_out) / MODEL_FILE for run in runs]
        on_teacher(make_ensemble(training, members, run_folder(out, held_out), bar), test)


def make_ensemble(training: Sequence[Utterance], members: Sequence[Path], folder: Path, bar: ProgressBar) -> Ensemble:
    """Makes the teacher of a fold; keeps outputs that exist already.

    Args:
        training: the training side of the fold.
        members: checkpoints of the same fold.
        folder: of the fold; receives copies of the members, so that the teacher does not depend on their runs.
        bar: makes a progress bar.

    Raises:
        TrainingError: a member learnt from other recordings, or the folder holds another teacher.
        SourceError: a recording cannot be read.
    """
    teacher = open_members(training, members, folder)
    write_teacher_outputs(teacher, training, folder, bar)
    return teacher


def open_members(training: Sequence[Utterance], members: Sequence[Path], folder: Path) -> Ensemble:
    """Opens the teacher of a fold, and copies its members into the folder.

    Raises:
        TrainingError: a member learnt from other recordings, the folder holds another teacher, or cannot be written.
    """
    teacher = Ensemble(members, data_key(training))
    _check_folder(folder, training, teacher)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, path in enumerate(members, start=1):
            shutil.copyfile(path, folder / MEMBER_FILE.format(number))
    except OSError as error:
        raise TrainingError(f"{folder}: cannot be written ({error.strerror or error}): choose another --out") from None
    return teacher


def write_teacher_outputs(teacher: Teacher, training: Sequence[Utterance], folder: Path, bar: ProgressBar) -> None:
    """Writes a teacher's outputs, the mean over each utterance's windows, unless the file exists.

    Args:
        teacher: trained on nothing but this training side.
        training: the training side of a fold.
        folder: of the fold.
        bar: makes a progress bar.

    Raises:
        SourceError: a recording cannot be read.
        TrainingError: the folder holds another teacher's outputs, or cannot be written.
    """
    _check_folder(folder, training, teacher)
    path = folder / OUTPUTS_FILE
    if path.exists():
        return
    rows = []
    with bar(total=len(training), unit=" recordings", desc=f"{folder.name}, outputs") as progress_bar:
        for utterance in training:
            rows.append(teacher(utterance).mean())
            progress_bar.update()
    write_outputs(
        path, training, concatenate_outputs(rows), {"data": data_key(training), "teacher": teacher.describe()}
    )


def _check_folder(folder: Path, training: Sequence[Utterance], teacher: Teacher) -> None:
    path = folder / OUTPUTS_FILE
    if path.exists():
        check_header(path, load_checkpoint(path).header, {"data": data_key(training), "teacher": teacher.describe()})
