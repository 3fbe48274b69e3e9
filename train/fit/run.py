"""`train fit`: trains a student for each fold and one for all speakers, from labels and from teachers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from edge_sser.errors import UsageError, need_package
from edge_sser.train.corpora.folds import chosen_folds, split
from edge_sser.train.corpora.table import Utterance, read_table
from edge_sser.train.data.features import FeatureStore
from edge_sser.train.data.labels import read_preset
from edge_sser.train.data.mixing import NO_AUGMENTATION_SOURCES, AugmentationSources, open_training_data
from edge_sser.train.fit.checkpoint import (
    MODEL_FILE,
    check_header,
    data_key,
    describe_run,
    load_checkpoint,
    run_folder,
    upgrade_header,
)
from edge_sser.train.fit.device import seed_everything
from edge_sser.train.fit.frozen import (
    EmbeddingStore,
    keep_or_fit_head,
    load_companions,
    load_trunk,
)
from edge_sser.train.fit.initial import read_initial
from edge_sser.train.fit.loop import Epoch, TensorBoardWriter, train
from edge_sser.train.fit.losses import check_labels
from edge_sser.train.fit.parallel import World, join_world
from edge_sser.train.fit.task import StudentTask
from edge_sser.train.fit.teaching import check_trunk, load_lessons, make_teachers
from edge_sser.train.fit.threads import choose_threads
from edge_sser.train.recipe import Recipe, read_recipe
from edge_sser.train.students.backend import emotion_vote
from edge_sser.train.teachers.lesson import Lesson
from edge_sser.train.teachers.recipe import check_teacher_input, check_teacher_names, shipped_teachers

# A bar that moves inside an epoch, so that it shows the time left from the first seconds.
_BAR = "{l_bar}{bar}| {n:.1f}/{total} epochs [{elapsed}<{remaining}{postfix}]"


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
        companions: runs of small students that stand beside a frozen trunk.
        teachers: folders, or names of teachers that ship, to make first.
        noise: folder of recorded noise.
        rooms: folder of impulse responses.
        cache: folder of features; below `out` when None.
        tensorboard: True to write curves.
        threads: of the CPU; None: as many as are fastest at the start.
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
    companions: Sequence[Path] = ()
    teachers: Sequence[str] = ()
    noise: Path | None = None
    rooms: Path | None = None
    cache: Path | None = None
    tensorboard: bool = False
    threads: int | None = None
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
        check_teacher_names(self.teachers)
        if plan.distillation:
            check_teacher_input(self.teachers, plan.distillation.teacher_hears)
        read_preset(plan.preset)
        emotion_vote(plan)  # refuses a preset without emotions before hours of training
        check_trunk(plan, companions=bool(self.companions), tensorboard=self.tensorboard)
        if plan.initial is not None:
            read_initial(plan.initial)  # a missing file must not be found after hours of work
        object.__setattr__(self, "plan", plan)
        object.__setattr__(self, "labels_only", labels_only)

    @property
    def teacher_folders(self) -> list[Path]:
        """Folder of each teacher; a teacher still to be made gets one in the run."""
        return [self.out / "teacher" / name if name in shipped_teachers() else Path(name) for name in self.teachers]


def run(request: FitRequest, warn: Callable[[str], None]) -> None:
    """Trains the students of a request, with a progress bar; prints the file of each. Resumes where it stopped.

    Args:
        request: the options.
        warn: prints a line to standard error.

    Raises:
        EdgeSserError: an input cannot be used, or as for `fit`.
    """
    utterances = read_table(request.table)
    fit_all(request, utterances, chosen_folds(utterances, request.folds, request.final), warn)


def fit_all(
    request: FitRequest, utterances: Sequence[Utterance], folds: Sequence[int | None], warn: Callable[[str], None]
) -> None:
    """Trains the student of each fold; arguments and errors as for `run`.

    Args:
        request: the options; its table and folds are not used.
        utterances: the table.
        folds: to hold out; None: all speakers.
        warn: prints a line to standard error.
    """
    plan = request.plan
    sides = [(fold, split(utterances, fold)[0]) for fold in folds]
    existing = [Path(name) for name in request.teachers if name not in shipped_teachers()]
    for fold, training in sides if existing else ():  # a wrong teacher must not be found after hours of work
        load_lessons(existing, plan, training, fold)
    world = join_world()
    choose_threads(request.threads, warn if world.first else lambda line: None)
    if request.labels_only and world.first:
        warn(f"no --teacher: {request.recipe} learns from labels alone")
    cache = request.cache or request.out / "cache"
    with world.main_process_first():
        store, sources = open_training_data(
            plan,
            utterances,
            cache,
            noise=request.noise,
            rooms=request.rooms,
            silent=not world.first,
        )
    with world.main_process_first():
        if world.first:
            make_teachers(request.teachers, request.teacher_folders, plan.preset, utterances, folds, cache)
    if plan.trunk is not None:
        if world.first:
            _run_trunk(request, utterances, sides, store)
        world.wait()
        world.close()
        return
    epochs = plan.optimisation.epochs
    with tqdm(total=len(folds) * epochs, bar_format=_BAR, disable=world.rank > 0) as bar:
        for done, (fold, training) in enumerate(sides):
            bar.set_description("all speakers" if fold is None else f"fold {fold}")
            folder = run_folder(request.out, fold)
            curves = TensorBoardWriter(folder) if request.tensorboard and world.first else None
            lesson = load_lessons(request.teacher_folders, plan, training, fold)
            on_epoch = partial(_show, bar, done * epochs, curves)
            path = fit(
                training, plan, store, folder, on_epoch, partial(_advance, bar, done * epochs),
                lesson=lesson, sources=sources, world=world,
            )  # fmt: skip
            bar.update((done + 1) * epochs - bar.n)
            if world.first:
                tqdm.write(str(path))
    world.close()


def _run_trunk(
    request: FitRequest,
    utterances: Sequence[Utterance],
    sides: Sequence[tuple[int | None, Sequence[Utterance]]],
    store: FeatureStore,
) -> None:
    """Fits the head of a frozen trunk for each fold; prints the files."""
    plan = request.plan
    trunk = load_trunk(plan)
    beside = [load_companions(request.companions, fold, plan, data_key(training)) for fold, training in sides]
    cache = request.cache or request.out / "cache"
    with tqdm(total=len(utterances), unit=" recordings", desc="embeddings") as bar:
        embeddings = EmbeddingStore(trunk, plan, utterances, store, cache, lambda utterance: bar.update() and None)
        bar.update(len(utterances) - bar.n)
    for (fold, training), (companions, described) in zip(sides, beside, strict=True):
        path = run_folder(request.out, fold) / MODEL_FILE
        keep_or_fit_head(path, trunk, training, plan, embeddings, companions, described)
        tqdm.write(str(path))


def _show(bar: Any, done: int, curves: TensorBoardWriter | None, epoch: Epoch) -> None:
    if curves is not None:
        curves.add(epoch)
    _advance(bar, done, epoch.number)
    bar.set_postfix(epoch.postfix())


def _advance(bar: Any, done: int, epochs: float) -> None:
    bar.update(done + epochs - bar.n)


def fit(
    training: Sequence[Utterance],
    recipe: Recipe,
    store: FeatureStore,
    folder: Path,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_step: Callable[[float], None] = lambda epochs: None,
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
        on_step: called after each step with the epochs done so far, of which the last is a fraction.
        lesson: the teacher's outputs for these utterances, for a recipe that distils.
        sources: twins and noise that the recipe mixes in.
        world: the processes that train together.

    Raises:
        UsageError: the recipe distils and there is no teacher, or the other way round.
        TrainingError: the labels give nothing to learn, the folder holds a run of another recipe or data, the loss is
            not finite, or a checkpoint cannot be written.
        SourceError: the recording of a new twin cannot be read.
    """
    if recipe.trunk is not None:
        raise UsageError(f"recipe {recipe.name} has a frozen trunk: train it with edge-sser train fit")
    check_teacher(recipe, lesson is not None)
    check_labels(training, recipe, has_teacher=lesson is not None)
    header = {**describe_run(training, recipe), **sources.describe(recipe)}
    if lesson is not None:
        header["teacher"] = lesson.description
    model_path = folder / MODEL_FILE
    if model_path.exists():
        check_header(model_path, upgrade_header(load_checkpoint(model_path).header), header)
        return model_path
    device = seed_everything(recipe.optimisation)
    task = StudentTask(training, recipe, store, sources, lesson, world or World(), device)
    return train(
        task, recipe.optimisation, folder, header, validation=recipe.validation, world=world, on_epoch=on_epoch,
        on_step=on_step,
    )  # fmt: skip


def check_teacher(recipe: Recipe, given: bool) -> None:
    """Refuses a teacher for a recipe that learns from labels alone, and a recipe that distils without a teacher.

    Raises:
        UsageError: the message says what to do.
    """
    if recipe.distillation and not given:
        raise UsageError(f"recipe {recipe.name} distils: give --teacher FOLDER, made with edge-sser train teacher")
    if given and not recipe.distillation:
        raise UsageError(f"recipe {recipe.name} has no [distillation], so a teacher is of no use: leave --teacher out")
