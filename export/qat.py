"""Quantisation-aware training: a student trained on for a few epochs as its INT8 file computes.

It starts where post-training quantisation ended: the same graph, the same ranges, the same nodes in float. It hears the
training side alone, with the recipe's own losses and augmentation, and is also taught by the student that it was: what
counts is that the file decides as the checkpoint does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from edge_sser.export.calibration import Drawn, Sides
from edge_sser.export.choose import Choice, judge
from edge_sser.export.graph_net import GraphNet
from edge_sser.export.quantize import quantise
from edge_sser.model.model import Card
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.features import FeatureStore
from edge_sser.train.data.mixing import NOTHING_MIXED
from edge_sser.train.fit.checkpoint import load_checkpoint
from edge_sser.train.fit.loop import Epoch, run, seed
from edge_sser.train.fit.parallel import World
from edge_sser.train.fit.run import StudentTask
from edge_sser.train.recipe import Recipe
from edge_sser.train.students.net import Logits, Student

RATE = 0.1  # of the recipe's learning rate: the student has learnt its task already
RANGE_RATE = 100.0  # of that, for the ranges: they move by shares of themselves
KEEPING = 10.0  # weight of the mean squared distance from the checkpoint's logits; at 1 the labels move what it decides


@dataclass(frozen=True, slots=True)
class Qat:
    """What training on needs.

    Attributes:
        student: of the checkpoint, in evaluation mode.
        recipe: it was trained with.
        training: utterances of the training side.
        store: features of at least these.
        epochs: of the recipe's length.
    """

    student: Student
    recipe: Recipe
    training: Sequence[Utterance]
    store: FeatureStore
    epochs: int

    def describe(self) -> dict[str, Any]:
        """Plain values for the card."""
        return {"epochs": self.epochs, "seed": self.recipe.optimisation.seed}

    def __call__(
        self, fp32: onnx.ModelProto, card: Card, quantised: onnx.ModelProto, choice: Choice, drawn: Drawn
    ) -> tuple[onnx.ModelProto, Choice]:
        """Trains a quantised graph on.

        Args:
            fp32: the graph that was quantised.
            card: its card.
            quantised: what `choose` made of it.
            choice: how.
            drawn: windows of the training side, to measure what came of it.

        Returns:
            The graph with the weights and ranges that were learnt, and the choice with its new figures.

        Raises:
            TrainingError: the loss is no number any more.
            ModelError: the graph has an operator that cannot be trained.
        """
        settings = self.recipe.optimisation.model_copy(
            update={
                "epochs": self.epochs,
                "learning_rate": RATE * self.recipe.optimisation.learning_rate,
                "average": 0.0,  # the learning rate comes to rest at zero, and so do the weights
                "precision": "float32",  # what is rounded on purpose must not be rounded otherwise
            }
        )
        device = seed(settings)
        net = GraphNet(fp32, quantised, choice.ranges, card.outputs)
        task = _Task(net, self.student, self.training, self.recipe, self.store, device)
        with tempfile.TemporaryDirectory() as folder, tqdm(total=self.epochs, unit=" epochs", desc="in 8 bits") as bar:
            path = run(task, settings, Path(folder), {}, on_epoch=partial(_shown, bar))
            net.load_state_dict(dict(load_checkpoint(path).tensors))
        self.student.cpu()
        learnt = onnx.ModelProto()
        learnt.CopyFrom(fp32)
        weights = net.learnt_weights()
        for tensor in learnt.graph.initializer:
            if tensor.name in weights:
                tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
        ranges = {**choice.ranges, **net.learnt_ranges()}
        made = quantise(learnt, choice.target, ranges, choice.float_nodes)
        error, agreement = judge(fp32, made, card, drawn.tuning)
        return made, replace(choice, ranges=ranges, error=error, agreement=agreement)


@contextmanager
def open_qat(
    epochs: int | None,
    student: Student,
    recipe: Recipe,
    table: Sequence[Utterance],
    sides: Sides,
    cache: Path | None,
) -> Iterator[Qat | None]:
    """What training on needs, or None where it is not asked for; features that nobody kept are computed and forgotten.

    Args:
        epochs: to train on for.
        student: of the checkpoint.
        recipe: it was trained with.
        table: all utterances of the run.
        sides: of the table.
        cache: folder of the features that `train fit` kept.

    Raises:
        SourceError: a recording cannot be read.
        TrainingError: the features cannot be written.
    """
    if epochs is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        with tqdm(total=len(table), unit=" recordings", desc="features") as bar:
            store = FeatureStore(table, cache or Path(folder), lambda utterance: bar.update() and None)
            bar.update(len(table) - bar.n)
        yield Qat(student, recipe, sides.training, store, epochs)


class _Task(StudentTask):
    """The student's own task, computed in 8 bits, with the student as a teacher."""

    def __init__(
        self,
        net: GraphNet,
        student: Student,
        training: Sequence[Utterance],
        recipe: Recipe,
        store: FeatureStore,
        device: torch.device,
    ) -> None:
        # Twins, recorded noise, a teacher and speakers kept aside need what a checkpoint does not carry.
        plain = recipe.model_copy(
            update={
                "twins": None,
                "distillation": None,
                "validation": None,
                "augmentation": recipe.augmentation.model_copy(update={"recorded_noise": 0.0}),
                "losses": recipe.losses.model_copy(update={"intensity": 0.0}),  # not in the file
            }
        )
        super().__init__(training, plain, store, NOTHING_MIXED, None, World(), device)
        self.net = net.to(device)
        self._before: Callable[[Tensor], Logits] = student.to(device).__call__  # no part of what is trained

    def rate(self, name: str) -> float:
        return RANGE_RATE if name == "net.stretch" else 1.0

    def _parts(self, windows: Tensor, embedded: Tensor, logits: Logits, places: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            before = self._before(windows)
        distance = F.mse_loss(logits.stress, before.stress) + F.mse_loss(logits.emotions, before.emotions)
        parts = super()._parts(windows, embedded, logits, places)
        return {**parts, "as before": KEEPING * distance}


def _shown(bar: Any, epoch: Epoch) -> None:
    bar.update(epoch.number - bar.n)
    bar.set_postfix({name: f"{value:.3f}" for name, value in {"loss": epoch.loss, **epoch.parts}.items()})
