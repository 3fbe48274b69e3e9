"""Makes a student's teachers, opens their lessons, and refuses teachers and companions that do not fit the recipe."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from edge_sser.errors import UsageError
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.fit.checkpoint import custom_preset, data_key, run_folder
from edge_sser.train.recipe import Recipe
from edge_sser.train.teachers.lesson import Lesson, open_lessons
from edge_sser.train.teachers.make import make_encoder_teachers
from edge_sser.train.teachers.recipe import TRUNK_TEACHER, read_teacher_recipe, shipped_recipes
from edge_sser.train.teachers.trunk import make_trunk_teachers


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


def make_teachers(
    names: Sequence[str],
    folders: Sequence[Path],
    preset: str,
    utterances: Sequence[Utterance],
    folds: Sequence[int | None],
    cache: Path,
) -> None:
    """Makes the teachers that ship; the others exist. Resumes.

    Args:
        names: of teachers that ship, or folders.
        folders: of the teachers, in the same order.
        preset: of the student.
        utterances: the table.
        folds: to hold out; None: all speakers.
        cache: folder of features and embeddings.

    Raises:
        As `make_encoder_teachers`.
    """
    for name, folder in zip(names, folders, strict=True):
        if name == TRUNK_TEACHER:
            make_trunk_teachers(utterances, folds, preset, folder, cache, partial(tqdm, leave=False))
        elif name in shipped_recipes():
            recipe = read_teacher_recipe(name, [f"preset={json.dumps(preset)}"])
            make_encoder_teachers(utterances, folds, recipe, folder, partial(tqdm, leave=False))


def check_trunk(recipe: Recipe, *, companions: bool, tensorboard: bool) -> None:
    """Refuses options that a frozen trunk cannot use, and companions that are missing or have no place.

    Args:
        recipe: of the student.
        companions: True when the run of one is given.
        tensorboard: True when curves are asked for.

    Raises:
        UsageError: the message says what to do.
    """
    if companions is not recipe.student.companion:
        remedy = "leave --companion out"
        if not companions:
            remedy = "give --companion RUN, the run of a small student, or --set student.companion=false"
        value = str(recipe.student.companion).lower()
        raise UsageError(f"recipe {recipe.name} has student.companion = {value}: {remedy}")
    if tensorboard and recipe.trunk is not None:
        raise UsageError(f"recipe {recipe.name} has a frozen trunk, which has no epochs: leave --tensorboard out")
