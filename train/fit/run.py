"""`train fit`: trains a student for each fold and one for all speakers, from labels and from teachers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from edge_sser.errors import TrainingError, UsageError, need_package
from edge_sser.train.corpora.folds import chosen_folds, split
from edge_sser.train.corpora.table import Utterance, read_table
from edge_sser.train.data.features import FeatureStore
from edge_sser.train.data.labels import EMOTIONS, read_preset
from edge_sser.train.data.mixing import NO_AUGMENTATION_SOURCES, AugmentationSources, open_training_data
from edge_sser.train.fit.checkpoint import (
    MODEL_FILE,
    check_header,
    custom_preset,
    data_key,
    describe_corpora,
    load_checkpoint,
    run_folder,
    upgrade_header,
)
from edge_sser.train.fit.loop import Epoch, TensorBoardWriter, seed_everything, train
from edge_sser.train.fit.parallel import World, join_world
from edge_sser.train.fit.task import StudentTask
from edge_sser.train.recipe import Recipe, read_recipe
from edge_sser.train.teachers.lesson import Lesson, check_teacher_input, open_lessons
from edge_sser.train.teachers.make import make_encoder_teachers
from edge_sser.train.teachers.recipe import read_teacher_recipe, shipped_recipes


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRequest:
    """Options of `train fit`; options that do not go together are refused.

    Attributes:
        table: file of utterances.
        out: folder of the run.
        recipe: name or file.
        changes: KEY=VALUE instead of the recipe's.
        folds: to hold out; empty for all.
        final: True to train on all speakers, too.
        teachers: folders, or names of shipped recipes of teachers to make first.
        noise: folder of recorded noise.
        rooms: folder of impulse responses.
        cache: folder of features; below `out` when None.
        tensorboard: True to write curves.
        threads: of the CPU.
        plan: the recipe as read; without distillation where there is no teacher.
        labels_only: True where that was taken out.

    Raises:
        SettingsError: the recipe or its preset cannot be used.
        UsageError: the recipe and the teachers do not go together.
        MissingComponentError: tensorboard is not installed.
    """

    table: Path
    out: Path
    recipe: str
    changes: Sequence[str] = ()
    folds: Sequence[int] = ()
    final: bool = True
    teachers: Sequence[str] = ()
    noise: Path | None = None
    rooms: Path | None = None
    cache: Path | None = None
    tensorboard: bool = False
    threads: int = 2
    plan: Recipe = field(init=False)
    labels_only: bool = field(init=False)

    def __post_init__(self) -> None:
        if self.tensorboard:
            need_package("tensorboard", "tensorboard", "--tensorboard")
        plan = read_recipe(self.recipe, self.changes)
        labels_only = plan.distillation is not None and not self.teachers
        if labels_only:
            plan = plan.model_copy(update={"distillation": None})
        check_teacher(plan, bool(self.teachers))
        if plan.distillation:
            check_teacher_input(len(self.teachers), plan.distillation.teacher_hears)
        read_preset(plan.preset)
        object.__setattr__(self, "plan", plan)
        object.__setattr__(self, "labels_only", labels_only)

    @property
    def teacher_folders(self) -> list[Path]:
        """Folder of each teacher; a teacher still to be made gets one in the run."""
        return [self.out / "teacher" / name if name in shipped_recipes() else Path(name) for name in self.teachers]


def run(request: FitRequest, warn: Callable[[str], None]) -> None:
    """Trains the students of a request, with a progress bar; prints the file of each. Resumes where it stopped.

    Args:
        request: the options.
        warn: prints a line to standard error.

    Raises:
        EdgeSserError: an input cannot be used, or as for `fit`.
    """
    plan = request.plan
    utterances = read_table(request.table)
    folds = chosen_folds(utterances, request.folds, request.final)
    sides = [(fold, split(utterances, fold)[0]) for fold in folds]
    existing = [Path(name) for name in request.teachers if name not in shipped_recipes()]
    for fold, training in sides if existing else ():  # a wrong teacher must not be found after hours of work
        load_lessons(existing, plan, training, fold)
    torch.set_num_threads(request.threads)
    world = join_world()
    if request.labels_only and world.first:
        warn(f"no --teacher: {request.recipe} learns from labels alone")
    with world.main_process_first():
        store, sources = open_training_data(
            plan,
            utterances,
            request.cache or request.out / "cache",
            noise=request.noise,
            rooms=request.rooms,
            silent=not world.first,
        )
    with world.main_process_first():
        for name, folder in zip(request.teachers, request.teacher_folders, strict=True):
            if name in shipped_recipes() and world.first:
                teacher_recipe = read_teacher_recipe(name, [f"preset={json.dumps(plan.preset)}"])
                make_encoder_teachers(utterances, folds, teacher_recipe, folder, partial(tqdm, leave=False))
    epochs = plan.optimisation.epochs
    with tqdm(total=len(folds) * epochs, unit=" epochs", disable=world.rank > 0) as bar:
        for done, (fold, training) in enumerate(sides):
            bar.set_description("all speakers" if fold is None else f"fold {fold}")
            folder = run_folder(request.out, fold)
            curves = TensorBoardWriter(folder) if request.tensorboard and world.first else None
            lesson = load_lessons(request.teacher_folders, plan, training, fold)
            on_epoch = partial(_show, bar, done * epochs, curves)
            path = fit(training, plan, store, folder, on_epoch, lesson=lesson, sources=sources, world=world)
            bar.update((done + 1) * epochs - bar.n)
            if world.first:
                tqdm.write(str(path))
    world.close()


def _show(bar: Any, done: int, curves: TensorBoardWriter | None, epoch: Epoch) -> None:
    if curves is not None:
        curves.add(epoch)
    bar.update(done + epoch.number - bar.n)
    bar.set_postfix(epoch.postfix())


def fit(
    training: Sequence[Utterance],
    recipe: Recipe,
    store: FeatureStore,
    folder: Path,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    *,
    lesson: Lesson | None = None,
    sources: AugmentationSources = NO_AUGMENTATION_SOURCES,
    world: World | None = None,
) -> Path:
    """Trains one student and returns the file of its averaged weights.

    A finished run is returned as it is. An interrupted run resumes at its last whole epoch and ends with the same
    weights as an uninterrupted one (same machine, same number of threads).

    Args:
        training: utterances to learn from.
        recipe: settings.
        store: features of at least these utterances.
        folder: of this run; made where it does not exist.
        on_epoch: called after each epoch.
        lesson: the teacher's outputs for these utterances, for a recipe that distils.
        sources: twins and noise that the recipe mixes in.
        world: the processes that train together.

    Raises:
        UsageError: the recipe distils and there is no teacher, or the other way round.
        TrainingError: the labels give nothing to learn, the folder holds a run of another recipe or data, the loss is
            not finite, or a checkpoint cannot be written.
        SourceError: the recording of a new twin cannot be read.
    """
    check_teacher(recipe, lesson is not None)
    check_labels(training, recipe, has_teacher=lesson is not None)
    header: dict[str, Any] = {
        "recipe": recipe.model_dump(mode="json"),
        "emotions": list(EMOTIONS),
        "corpora": describe_corpora(training),
        "data": data_key(training),
        **custom_preset(recipe.preset),
        **sources.describe(recipe),
    }
    if lesson is not None:
        header["teacher"] = lesson.description
    model_path = folder / MODEL_FILE
    if model_path.exists():
        check_header(model_path, upgrade_header(load_checkpoint(model_path).header), header)
        return model_path
    device = seed_everything(recipe.optimisation)
    task = StudentTask(training, recipe, store, sources, lesson, world or World(), device)
    return train(
        task, recipe.optimisation, folder, header, validation=recipe.validation, world=world, on_epoch=on_epoch
    )


def check_teacher(recipe: Recipe, given: bool) -> None:
    """Refuses a teacher for a recipe that learns from labels alone, and a recipe that distils without a teacher.

    Raises:
        UsageError: the message says what to do.
    """
    if recipe.distillation and not given:
        raise UsageError(f"recipe {recipe.name} distils: give --teacher FOLDER, made with edge-sser train teacher")
    if given and not recipe.distillation:
        raise UsageError(f"recipe {recipe.name} has no [distillation], so a teacher is of no use: leave --teacher out")


def load_lessons(
    teachers: Sequence[Path], recipe: Recipe, training: Sequence[Utterance], fold: int | None
) -> Lesson | None:
    """Loads the teachers' outputs for a training side; None for a recipe that learns from labels alone.

    Args:
        teachers: their folders.
        recipe: of the student.
        training: the training side.
        fold: the fold that is held out; None for all speakers.

    Raises:
        UsageError: the teachers learnt another stress preset, or cannot take the input that the recipe gives them.
        TrainingError: a file is missing or damaged, or of other recordings.
    """
    if recipe.distillation is None:
        return None
    folders = [run_folder(teacher, fold) for teacher in teachers]
    lesson = open_lessons(folders, training, data_key(training), recipe.distillation.teacher_hears)
    check_preset(recipe, lesson.description)
    return lesson


def check_preset(recipe: Recipe, teacher: Mapping[str, Any]) -> None:
    """Refuses to distil stress from a teacher of another stress preset.

    Args:
        recipe: of the student.
        teacher: Lesson.description.

    Raises:
        UsageError: the message says what to do.
    """
    if recipe.distillation is None or not (recipe.distillation.stress or recipe.distillation.concordance):
        return
    own = custom_preset(recipe.preset).get("preset", recipe.preset)
    for preset in _presets(teacher):
        if preset != own:
            name = preset if isinstance(preset, str) else "of another .toml file"
            raise UsageError(
                f"the teacher was trained on stress under the preset {name}, and the student's is {recipe.preset}: "
                f"make one with train teacher --set preset={recipe.preset}, or do not distil stress "
                "(--set distillation.stress=0 --set distillation.concordance=0)"
            )


def _presets(teacher: Mapping[str, Any]) -> Iterator[str | Mapping[str, int | None]]:
    """Yields the stress presets of a teacher and its members: a name, or a user's table of emotions."""
    for member in teacher.get("members", ()):
        yield from _presets(member)
    if "preset" in teacher:
        yield teacher["preset"]
    elif "recipe" in teacher:
        yield teacher["recipe"]["preset"]


def check_labels(training: Sequence[Utterance], recipe: Recipe, *, has_teacher: bool) -> None:
    """Refuses a training side with stress labels of one kind: its student would give everybody the same score.

    Args:
        training: the training side.
        recipe: its preset turns labels into stress.
        has_teacher: True where a teacher adds to the labels.

    Raises:
        TrainingError: there are no utterances, or all labels mean the same.
    """
    if not training:
        raise TrainingError(
            "all speakers stand in one fold, so that nobody is left to train on: record at least two "
            "speakers, and let train index deal them into folds"
        )
    stress = read_preset(recipe.preset).stress
    values = {stress(utterance) for utterance in training} - {None}
    if len(values) < 2 and not has_teacher:
        found = f"is {values.pop():g} for all clips that say" if values else "is not known for any clip"
        raise TrainingError(
            f"under the preset {recipe.preset} stress {found}, so that there is nothing to tell apart: add recordings "
            "with another label, or give another preset (--set preset=NAME)"
        )
