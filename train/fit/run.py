"""Training a student: one fold, or all speakers; from labels alone, or from a teacher as well."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_sser.errors import TrainingError, UsageError
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.augment import Augmenter, babble_bank
from edge_sser.train.data.features import FeatureStore
from edge_sser.train.data.labels import EMOTIONS, PRESETS
from edge_sser.train.data.mixing import NOTHING_MIXED, Mixed
from edge_sser.train.data.presets import AROUSAL_VALENCE, read_preset
from edge_sser.train.data.sampling import Sampler
from edge_sser.train.fit.checkpoint import load_checkpoint, make_student
from edge_sser.train.fit.loop import Epoch, Task, check_same, run, seed
from edge_sser.train.fit.losses import Distiller, blend
from edge_sser.train.fit.parallel import World, share_batch_norm
from edge_sser.train.fit.runs import MODEL_FILE, run_folder
from edge_sser.train.fit.task import label_losses, make_targets
from edge_sser.train.fit.validation import Validator, set_aside
from edge_sser.train.recipe import Recipe
from edge_sser.train.students.net import Logits, Student
from edge_sser.train.teachers.lesson import Lesson, open_lessons

__all__ = ["Epoch", "check_teacher", "data_key", "describe", "fit"]


def fit(
    training: Sequence[Utterance],
    recipe: Recipe,
    store: FeatureStore,
    folder: Path,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    *,
    lesson: Lesson | None = None,
    mixed: Mixed = NOTHING_MIXED,
    world: World | None = None,
) -> Path:
    """Trains a student and returns the file of its averaged weights.

    A finished run is returned as it is; an interrupted one goes on at its last whole epoch and ends with the same
    weights as if it had not been interrupted (same machine, same number of threads).

    Args:
        training: the utterances to learn from.
        recipe: how.
        store: features of at least these utterances.
        folder: of this run; made if need be.
        on_epoch: called after each epoch.
        lesson: what a teacher says of these utterances, for a recipe that distils.
        mixed: what the recipe mixes in.
        world: the processes that train together.

    Raises:
        UsageError: the recipe distils and there is no teacher, or the other way round.
        TrainingError: there is nothing to learn from, the folder holds a run of another recipe or data, the loss is no
            number any more, or a checkpoint cannot be written.
        SourceError: a recording that a new twin is to be made of cannot be read.
    """
    check_teacher(recipe, lesson is not None)
    check_labels(training, recipe, taught=lesson is not None)
    header: dict[str, Any] = {
        "recipe": recipe.model_dump(mode="json"),
        "emotions": list(EMOTIONS),
        "corpora": describe(training),
        "data": data_key(training),
        **own_preset(recipe.preset),
        **mixed.describe(recipe),
    }
    if lesson is not None:
        header["teacher"] = lesson.description
    model_path = folder / MODEL_FILE
    if model_path.exists():
        check_same(model_path, _of_this_version(load_checkpoint(model_path).header), header)
        return model_path
    device = seed(recipe.optimisation)
    task = StudentTask(training, recipe, store, mixed, lesson, world or World(), device)
    return run(
        task,
        recipe.optimisation,
        folder,
        header,
        validation=recipe.validation,
        world=world,
        on_epoch=on_epoch,
        renew=_of_this_version,
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


def taught(
    teachers: Sequence[Path], recipe: Recipe, training: Sequence[Utterance], held_out: int | None
) -> Lesson | None:
    """What teachers say of a training side; None for a recipe that learns from labels alone.

    Args:
        teachers: their folders.
        recipe: of the student.
        training: the training side.
        held_out: its fold; None: all speakers.

    Raises:
        UsageError: they were taught another stress, or cannot hear what the recipe wants them to.
        TrainingError: a file is missing or damaged, or of other recordings.
    """
    if recipe.distillation is None:
        return None
    folders = [run_folder(teacher, held_out) for teacher in teachers]
    lesson = open_lessons(folders, training, data_key(training), recipe.distillation.teacher_hears)
    check_preset(recipe, lesson.description)
    return lesson


def check_preset(recipe: Recipe, teacher: Mapping[str, Any]) -> None:
    """Refuses to be taught stress by a teacher for whom the word means something else.

    Args:
        recipe: of the student.
        teacher: what it says of itself, Lesson.description.

    Raises:
        UsageError: the message says what to do.
    """
    asked = recipe.distillation is not None and (recipe.distillation.stress or recipe.distillation.concordance)
    if not asked:
        return
    own = own_preset(recipe.preset).get("preset", recipe.preset)
    for preset in _presets(teacher):
        if preset != own:
            name = preset if isinstance(preset, str) else "of another .toml file"
            raise UsageError(
                f"the teacher was taught stress under the preset {name}, and the student's is {recipe.preset}: "
                f"make one with train teacher --set preset={recipe.preset}, or ask it for no stress "
                "(--set distillation.stress=0 --set distillation.concordance=0)"
            )


def _presets(teacher: Mapping[str, Any]) -> Iterator[str | Mapping[str, int | None]]:
    """What stress means for a teacher and its members: a preset's name, or what a user's table makes of emotions."""
    for member in teacher.get("members", ()):
        yield from _presets(member)
    if "preset" in teacher:
        yield teacher["preset"]
    elif "recipe" in teacher:
        yield teacher["recipe"]["preset"]


def check_labels(training: Sequence[Utterance], recipe: Recipe, *, taught: bool) -> None:
    """Refuses a training side from which stress cannot be learnt: a student of it would say the same of everybody.

    Args:
        training: the training side.
        recipe: its preset says what the labels mean.
        taught: whether a teacher says more than the labels do.

    Raises:
        TrainingError: nobody is there, or all labels mean the same.
    """
    if not training:
        raise TrainingError(
            "all speakers stand in one fold, so that nobody is left to train on: record at least two "
            "speakers, and let train index deal them into folds"
        )
    stress = read_preset(recipe.preset).stress
    values = {stress(utterance) for utterance in training} - {None}
    if len(values) < 2 and not taught:
        said = f"is {values.pop():g} for all clips that say" if values else "is not known for any clip"
        raise TrainingError(
            f"under the preset {recipe.preset} stress {said}, so that there is nothing to tell apart: add recordings "
            "with another label, or give another preset (--set preset=NAME)"
        )


class StudentTask(Task):
    """A student and what it hears."""

    net: Student

    def __init__(
        self,
        training: Sequence[Utterance],
        recipe: Recipe,
        store: FeatureStore,
        mixed: Mixed,
        lesson: Lesson | None,
        world: World,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.device = device
        # Channels last: in bfloat16 a step takes two thirds of the time, on one thread.
        self.net = make_student(recipe, len(EMOTIONS)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._recipe = recipe
        self._world = world
        share_batch_norm(self.net, world)
        self._lesson: Lesson | None = None
        self._validator: Validator | None = None
        self.distiller: Distiller | None = None
        kept = list(range(len(training)))
        if recipe.validation is not None:
            kept, aside = set_aside(training, recipe.validation.share)
            self._validator = Validator([training[place] for place in aside], recipe.preset, store)
        if recipe.distillation is not None and lesson is not None:
            self._lesson = lesson.select(torch.tensor(kept), device)
            self.distiller = Distiller(recipe.distillation, self.net.head.in_features, self._lesson.outputs)
        training = [training[place] for place in kept]
        self._sampler = Sampler(training, recipe.sampling.shares, recipe.optimisation.clips_per_epoch)
        stores = [store, *(mixed.twins if recipe.twins else ())]
        self._clips = [[torch.from_numpy(store[clip].copy()) for store in stores] for clip in training]
        babble = babble_bank([clip[0] for clip in self._clips], seed=0) if recipe.augmentation.babble else None
        self._augmenter = Augmenter(recipe.augmentation, mixed.noise, babble)
        self._training = training
        self._fresh = mixed.fresh if recipe.twins else None
        self._targets = make_targets(training, recipe.preset)
        self.to(device)

    def order(self, random: np.random.Generator) -> NDArray[np.int64]:
        return self._sampler.epoch(random)

    def losses(self, places: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        batch = places.numel()
        windows = self._augmenter(self.draw(places, generator), generator, self._world.rows(batch)).to(self.device)
        mixup = self._recipe.augmentation.mixup
        share = _share(mixup, generator) if mixup else 1.0
        if mixup:
            windows = share * windows + (1.0 - share) * windows.flip(0)  # row n with row batch - 1 - n
        embedded = self._world.gather(self.net.embed(windows).float(), batch)
        logits = self.net.decide(embedded)
        parts = self._parts(windows, embedded, logits, places)
        return blend(parts, self._parts(windows, embedded, logits, places.flip(0)), share) if mixup else parts

    def draw(self, places: Tensor, generator: torch.Generator) -> list[Tensor]:
        """What is heard of a batch before its augmentation: each clip, or a twin of it, float [frames, bands] in dB.

        A new twin is made in the process whose row it is; in the others the clip stands there.
        """
        batch = places.numel()
        drawn = [0.0] * batch
        if len(self._clips[0]) > 1:
            drawn = torch.rand(batch, generator=generator).tolist()
        clips = [
            variants[int(chance * len(variants))]
            for variants, chance in zip((self._clips[place] for place in places.tolist()), drawn, strict=True)
        ]
        if self._recipe.twins and self._fresh is not None:
            asked = torch.rand(batch, generator=generator) < self._recipe.twins.fresh
            numbers = torch.randint(1 << 62, (batch,), generator=generator)
            rows = self._world.rows(batch)
            for row in rows[asked[rows]].tolist():
                clip = self._training[int(places[row])]
                clips[row] = torch.from_numpy(self._fresh.features(clip, int(numbers[row])))
        return clips

    def _parts(self, windows: Tensor, embedded: Tensor, logits: Logits, places: Tensor) -> dict[str, Tensor]:
        targets = self._targets[places].to(self.device)
        if not self._recipe.augmentation.mixup:  # of two voices in one window, which would be right?
            self.tally.add(logits, targets)
        parts = label_losses(logits, targets, self._recipe.losses, self._recipe.optimisation.label_smoothing)
        if self.distiller is not None and self._lesson is not None:
            taught = self._lesson.of(places, windows, self._world)
            parts |= self.distiller.losses(logits, embedded, taught, targets.allowed)
        return parts

    def scores(self) -> dict[str, float]:
        return self._validator(self.net, self.device) if self._validator else {}


def _share(mixup: float, generator: torch.Generator) -> float:
    """Drawn from Beta(mixup, mixup): the first clip's share of a mixed window."""
    random = np.random.default_rng(int(torch.randint(1 << 62, (), generator=generator)))
    return float(random.beta(mixup, mixup))


def data_key(training: Sequence[Utterance]) -> str:
    """A name for what a run learns from: the same recordings and labels give the same."""
    key = hashlib.sha256()
    for utterance in training:
        given = (utterance.stress, utterance.arousal, utterance.valence, sorted(utterance.soft.items()))
        if given != (None, None, None, []):
            key.update(repr(given).encode())
        key.update(f"{utterance.sha256} {utterance.corpus} {utterance.emotion} {utterance.intensity}\n".encode())
    return key.hexdigest()


def own_preset(name: str) -> dict[str, Any]:
    """For a checkpoint's header, what a user's table makes of emotions: the file may be changed after the run."""
    shipped = name in (*PRESETS, AROUSAL_VALENCE)
    return {} if shipped else {"preset": dict(read_preset(name).emotions)}


def describe(training: Sequence[Utterance]) -> list[dict[str, Any]]:
    """The corpora of a training side, for a checkpoint's header."""
    names = sorted({utterance.corpus for utterance in training})
    return [
        {
            "name": name,
            "utterances": sum(utterance.corpus == name for utterance in training),
            "speakers": len({utterance.speaker for utterance in training if utterance.corpus == name}),
        }
        for name in names
    ]


def _of_this_version(header: Mapping[str, Any]) -> Mapping[str, Any]:
    """The header with the settings that recipes have got since, at the values that change nothing."""
    try:
        return {**header, "recipe": Recipe.model_validate(header["recipe"]).model_dump(mode="json")}
    except (KeyError, ValueError):
        return header
