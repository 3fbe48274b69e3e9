"""Training tasks: a network, its batches and its losses. `StudentTask` trains a student on windows of features."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.augment import Augmenter, babble_bank
from edge_sser.train.data.features import FeatureStore
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.data.mixing import AugmentationSources
from edge_sser.train.data.sampling import Sampler, epoch_size
from edge_sser.train.fit.checkpoint import make_student
from edge_sser.train.fit.device import uses_bfloat16
from edge_sser.train.fit.initial import load_initial
from edge_sser.train.fit.losses import Distiller, Targets, blend, label_losses, make_targets
from edge_sser.train.fit.parallel import World, share_batch_norm
from edge_sser.train.fit.validation import Validator, split_validation
from edge_sser.train.fit.views import SharedViews, make_views
from edge_sser.train.recipe import Recipe
from edge_sser.train.students.net import Logits, Student
from edge_sser.train.students.yamnet import Yamnet
from edge_sser.train.teachers.lesson import Lesson
from edge_sser.train.teachers.outputs import Outputs

INITIAL_WINDOWS = 256  # that set the batch norms of initial weights


class RunningAccuracy:
    """Accuracy on the training windows, accumulated over the batches of an epoch."""

    def __init__(self) -> None:
        self._correct: dict[str, list[Tensor]] = {}

    def add(self, logits: Logits, targets: Targets) -> None:
        """Counts a batch. An emotion is decided among the classes of the clip's corpus, stress at probability 0.5.

        Args:
            logits: of the network.
            targets: labels of the batch.
        """
        decided = logits.emotions.detach().masked_fill(~targets.allowed, -math.inf).argmax(dim=1)
        parts = {
            "emotion": (decided == targets.emotion.argmax(dim=1))[targets.emotion.any(dim=1)],
            "stress": ((logits.stress.detach() >= 0.0) == (targets.stress >= 0.5))[~targets.stress.isnan()],
        }
        for name, correct in parts.items():
            self._correct.setdefault(name, []).append(correct)

    def pop(self) -> dict[str, float]:
        """Returns the accuracies since the last call, 0..1, of the labelled windows, and starts again."""
        correct = {name: torch.cat(parts) for name, parts in self._correct.items()}
        self._correct = {}
        return {name: float(values.float().mean()) for name, values in correct.items() if values.numel()}


class Task(nn.Module, ABC):
    """A network, other modules that are trained with it, and the loss."""

    net: nn.Module
    """The network that the checkpoint keeps."""
    device: torch.device

    def __init__(self) -> None:
        super().__init__()
        self.accuracy = RunningAccuracy()
        """To be updated by `losses` with each batch."""

    @abstractmethod
    def order(self, random: np.random.Generator) -> NDArray[np.int64]:
        """Draws the clips of an epoch, as indices into the training side."""

    @abstractmethod
    def losses(self, places: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Returns the weighted losses of a batch by name.

        Args:
            places: int64 [batch], indices of the clips; the same in all processes.
            generator: the only source of randomness beside torch's own.
        """

    def validate(self) -> dict[str, float]:
        """Scores `net` on the validation speakers: 0..1 each, more is better. Empty when there are none."""
        return {}

    def rate(self, name: str) -> float:
        """Returns the share of the learning rate for a parameter."""
        return 1.0


class StudentTask(Task):
    """Trains a student on augmented windows, from labels and, where there is a lesson, from a teacher."""

    net: Student

    def __init__(
        self,
        training: Sequence[Utterance],
        recipe: Recipe,
        store: FeatureStore,
        sources: AugmentationSources,
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
            kept, validation = split_validation(training, recipe.validation.share)
            self._validator = Validator([training[place] for place in validation], recipe.preset, store)
        if recipe.distillation is not None and lesson is not None:
            self._lesson = lesson.select(torch.tensor(kept), device)
            self.distiller = Distiller(recipe.distillation, self.net.head.in_features, self._lesson.outputs)
        self._training = [training[place] for place in kept]
        clips = epoch_size(recipe.optimisation.clips_per_epoch, len(self._training))
        self._sampler = Sampler(self._training, recipe.sampling.shares, clips)
        stores = [store, *(sources.twins if recipe.twins else ())]
        self._clips = [[torch.from_numpy(store[clip].copy()) for store in stores] for clip in self._training]
        babble = babble_bank([clip[0] for clip in self._clips], seed=0) if recipe.augmentation.babble else None
        self._augmenter = Augmenter(recipe.augmentation, sources.noise, babble)
        self._fresh = sources.fresh if recipe.twins else None
        self._targets = make_targets(self._training, recipe.preset)
        if recipe.initial is not None and isinstance(self.net, Yamnet):
            load_initial(self.net, recipe.initial, self._initial_windows(recipe.optimisation.seed))
        self.views: SharedViews | None = None
        self.to(device)
        if self._lesson is not None and recipe.distillation is not None and recipe.distillation.views:
            self.views = self._make_views(recipe.distillation.views, self._lesson)

    def order(self, random: np.random.Generator) -> NDArray[np.int64]:
        """Draws an epoch; see `Task`."""
        return self._sampler.epoch(random)

    def losses(self, places: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Computes the losses of a batch; see `Task`."""
        batch = places.numel()
        rows = self._world.rows(batch)
        teacher = None
        if self.views is None:
            windows = self._augmenter(self.draw(places, generator), generator, rows).to(self.device)
        else:
            windows, teacher = self.views.draw(places, generator)
            windows = windows[rows].to(self.device)
        mixup = self._recipe.augmentation.mixup
        share = _mixup_share(mixup, generator) if mixup else 1.0
        if mixup:
            windows = share * windows + (1.0 - share) * windows.flip(0)  # row n with row batch - 1 - n
        embedded = self._world.gather(self.net.embed(windows).float(), batch)
        logits = self.net.classify(embedded)
        parts = self.losses_for(windows, embedded, logits, places, teacher)
        return blend(parts, self.losses_for(windows, embedded, logits, places.flip(0)), share) if mixup else parts

    def draw(self, places: Tensor, generator: torch.Generator, rows: Tensor | None = None) -> list[Tensor]:
        """Draws a variant of each clip of a batch, the clip itself or a twin: float [frames, bands] in dB.

        Args:
            places: int64 [batch], indices of the clips.
            generator: the only source of randomness.
            rows: of the batch for which new twins are made; None: those of this process.
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
            renewed = torch.rand(batch, generator=generator) < self._recipe.twins.fresh
            numbers = torch.randint(1 << 62, (batch,), generator=generator)
            rows = self._world.rows(batch) if rows is None else rows
            for row in rows[renewed[rows]].tolist():
                clip = self._training[int(places[row])]
                clips[row] = torch.from_numpy(self._fresh.features(clip, int(numbers[row])))
        return clips

    def losses_for(
        self, windows: Tensor, embedded: Tensor, logits: Logits, places: Tensor, teacher: Outputs | None = None
    ) -> dict[str, Tensor]:
        """Returns the losses against the targets of some clips: with mixup, those of either half of a window."""
        targets = self._targets[places].to(self.device)
        if not self._recipe.augmentation.mixup:  # a window of two voices has no single correct answer
            self.accuracy.add(logits, targets)
        parts = label_losses(logits, targets, self._recipe.losses, self._recipe.optimisation.label_smoothing)
        if self.distiller is not None and self._lesson is not None:
            if teacher is None:
                teacher = self._lesson.outputs_for(places, windows, self._world)
            parts |= self.distiller.losses(logits, embedded, teacher, targets.allowed)
        return parts

    def rate(self, name: str) -> float:
        """Returns the share of the learning rate for a parameter: less for weights that were learned elsewhere."""
        initial = self._recipe.initial
        return initial.rate if initial is not None and name.startswith("net.body.") else 1.0

    def _initial_windows(self, seed: int) -> Tensor:
        """Draws augmented windows of random clips: float32 [INITIAL_WINDOWS, frames, bands] in dB."""
        generator = torch.Generator().manual_seed(seed)
        places = torch.randint(len(self._training), (INITIAL_WINDOWS,), generator=generator)
        return self._augmenter(self.draw(places, generator, torch.arange(0)), generator)

    def _make_views(self, views: int, lesson: Lesson) -> SharedViews:
        """Makes the windows that teacher and student share; the seed of the recipe decides which."""
        generator = torch.Generator().manual_seed(self._recipe.optimisation.seed)
        bfloat16 = uses_bfloat16(self._recipe.optimisation, self.device)
        total = views * len(self._training)
        with tqdm(total=total, unit=" windows", desc="teacher", leave=False, disable=not self._world.first) as bar:
            return make_views(
                lambda places: self._augmenter(self.draw(places, generator, torch.arange(len(places))), generator),
                lesson.answers, len(self._training), views, self.device, bfloat16, bar.update,
            )  # fmt: skip

    def validate(self) -> dict[str, float]:
        """Scores the student on the validation speakers; see `Task`."""
        return self._validator(self.net, self.device) if self._validator else {}


def _mixup_share(mixup: float, generator: torch.Generator) -> float:
    """Draws the first clip's share of a mixed window from Beta(mixup, mixup)."""
    random = np.random.default_rng(int(torch.randint(1 << 62, (), generator=generator)))
    return float(random.beta(mixup, mixup))
