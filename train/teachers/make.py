"""Makes the teachers of a table's folds: each hears one training side and is asked once about it."""

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
from edge_sser.train.teachers.hubert import fit_hubert
from edge_sser.train.teachers.lesson import MEMBER_FILE
from edge_sser.train.teachers.outputs import OUTPUTS_FILE, join, write_outputs
from edge_sser.train.teachers.recipe import TeacherRecipe, Trained
from edge_sser.train.teachers.teacher import Teacher


class Bar(Protocol):
    """What is told how far the work is: a tqdm."""

    def __call__(self, *, total: int, unit: str, desc: str) -> Any:
        """A new one."""
        ...


HeldOut = Callable[[Teacher, Sequence[Utterance]], None]
"""Told of each fold's teacher and of the clips that it never heard."""


def ignore(teacher: Teacher, held_out: Sequence[Utterance]) -> None:
    """Does nothing with them."""


def make_hubert(
    utterances: Sequence[Utterance],
    folds: Sequence[int | None],
    recipe: TeacherRecipe,
    out: Path,
    bar: Bar,
    on_teacher: HeldOut = ignore,
) -> None:
    """Makes the teacher of each fold from a speech encoder; takes up what was interrupted.

    Args:
        utterances: the table.
        folds: held out one after the other; None: all speakers.
        recipe: how.
        out: folder of the teacher.
        bar: makes a progress bar.
        on_teacher: called after each.

    Raises:
        MissingComponentError: transformers is not installed.
        TrainingError: the encoder cannot be had, or as for `fit.fit`.
        SourceError: a recording cannot be read.
    """
    settings = recipe.encoder
    encoder = load_encoder(settings.weights, settings.sha256)
    store = None
    if settings.trained is Trained.HEAD:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with bar(total=len(utterances), unit=" recordings", desc="hidden states") as shown:
            store = HiddenStore(encoder, utterances, out / "cache", device, lambda utterance: shown.update() and None)
    for held_out in folds:
        training, test = split(utterances, held_out)
        folder = run_folder(out, held_out)
        if store is None:
            encoder = load_encoder(settings.weights, settings.sha256)
        with bar(total=recipe.optimisation.epochs, unit=" epochs", desc=f"{folder.name}, training") as shown:

            def on_epoch(epoch: Epoch, shown: Any = shown) -> None:
                shown.update(epoch.number - shown.n)
                shown.set_postfix(epoch.postfix())

            teacher = fit_hubert(training, recipe, encoder, store, folder, on_epoch)
        ask(teacher, training, folder, bar)
        on_teacher(teacher, test)


def members_preset(runs: Sequence[Path], folds: Sequence[int | None]) -> str:
    """What stress means to the students that become an ensemble.

    Args:
        runs: folders of `train fit`.
        folds: held out one after the other; None: all speakers.

    Raises:
        UsageError: they do not mean the same by it.
        TrainingError: a checkpoint is missing or damaged.
    """
    headers = [load_checkpoint(run_folder(run, fold) / MODEL_FILE).header for run in runs for fold in folds]
    meanings = [header.get("preset", header["recipe"]["preset"]) for header in headers]
    if any(meaning != meanings[0] for meaning in meanings):
        raise UsageError("the runs were trained under different presets: an ensemble is made of runs under the same")
    preset: str = headers[0]["recipe"]["preset"]
    return preset


def make_ensembles(
    utterances: Sequence[Utterance],
    folds: Sequence[int | None],
    runs: Sequence[Path],
    out: Path,
    bar: Bar,
    on_teacher: HeldOut = ignore,
) -> None:
    """Makes the teacher of each fold from the students of that fold; arguments as for `make_hubert`.

    Args:
        utterances: the table that the runs were trained on.
        folds: held out one after the other; None: all speakers.
        runs: folders of `train fit`.
        out: folder of the teacher.
        bar: makes a progress bar.
        on_teacher: called after each.

    Raises:
        TrainingError: a member learnt from other recordings, or the folder holds another teacher.
        SourceError: a recording cannot be read.
    """
    for held_out in folds:
        training, test = split(utterances, held_out)
        members = [run_folder(run, held_out) / MODEL_FILE for run in runs]
        on_teacher(make_ensemble(training, members, run_folder(out, held_out), bar), test)


def make_ensemble(training: Sequence[Utterance], members: Sequence[Path], folder: Path, bar: Bar) -> Ensemble:
    """Makes the teacher of a fold; what is there already is left as it is.

    Args:
        training: the training side of the fold.
        members: checkpoints of the same fold.
        folder: of the fold; the members are copied there, so that the teacher stays whole when their runs are gone.
        bar: makes a progress bar.

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
    ask(teacher, training, folder, bar)
    return teacher


def ask(teacher: Teacher, training: Sequence[Utterance], folder: Path, bar: Bar) -> None:
    """Writes what a teacher says of each utterance, the mean over its windows, unless it has been done.

    Args:
        teacher: has heard nobody but the training side.
        training: of a fold.
        folder: of the fold.
        bar: makes a progress bar.

    Raises:
        SourceError: a recording cannot be read.
        TrainingError: the folder holds another teacher's outputs, or cannot be written.
    """
    _check_room(folder, training, teacher)
    path = folder / OUTPUTS_FILE
    if path.exists():
        return
    rows = []
    with bar(total=len(training), unit=" recordings", desc=f"{folder.name}, asking") as shown:
        for utterance in training:
            rows.append(teacher(utterance).mean())
            shown.update()
    write_outputs(path, training, join(rows), {"data": data_key(training), "teacher": teacher.describe()})


def _check_room(folder: Path, training: Sequence[Utterance], teacher: Teacher) -> None:
    path = folder / OUTPUTS_FILE
    if path.exists():
        check_header(path, load_checkpoint(path).header, {"data": data_key(training), "teacher": teacher.describe()})
