"""Quantisation-aware training: a few more epochs of a student, computed as its INT8 file computes.

Training starts from the result of post-training quantisation: the same graph, ranges and nodes in float. It uses the
training speakers alone, with the recipe's losses and augmentation, and the student of the checkpoint as a teacher: the
file must decide as the checkpoint does.
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

from edge_sser.export.calibration import CalibrationData, SpeakerSplit
from edge_sser.export.choose import Choice, compare
from edge_sser.export.graph_net import GraphNet
from edge_sser.export.quantize import quantise
from edge_sser.model.model import Card
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.features import FeatureStore
from edge_sser.train.data.mixing import NO_AUGMENTATION_SOURCES
from edge_sser.train.fit.checkpoint import load_checkpoint
from edge_sser.train.fit.device import seed_everything
from edge_sser.train.fit.loop import Epoch, train
from edge_sser.train.fit.parallel import World
from edge_sser.train.fit.task import StudentTask
from edge_sser.train.recipe import Recipe
from edge_sser.train.students.net import Logits, Student
from edge_sser.train.teachers.outputs import Outputs

RATE = 0.1  # factor on the recipe's learning rate: the student has learnt its task already
RANGE_RATE = 100.0  # factor on RATE for the ranges: they change by shares of themselves
# Weight of the mean squared distance from the checkpoint's logits. With 1, the labels change its decisions.
CHECKPOINT_WEIGHT = 10.0


@dataclass(frozen=True, slots=True)
class Qat:
    """Quantisation-aware training of one checkpoint.

    Attributes:
        student: network of the checkpoint, in evaluation mode.
        training: utterances of the training speakers.
        store: features of at least these utterances.
    """

    student: Student
    recipe: Recipe
    training: Sequence[Utterance]
    store: FeatureStore
    epochs: int

    def describe(self) -> dict[str, Any]:
        """Plain values for the card."""
        return {"epochs": self.epochs, "seed": self.recipe.optimisation.seed}

    def train(
        self, fp32: onnx.ModelProto, card: Card, quantised: onnx.ModelProto, choice: Choice, data: CalibrationData
    ) -> tuple[onnx.ModelProto, Choice]:
        """Trains the graph and the choice that `choose` returned; the tuning windows of `data` measure the result.

        Returns:
            The graph with trained weights and ranges, and the choice with its new figures.

        Raises:
            TrainingError: the loss is not a finite number.
            ModelError: the graph has an operator that cannot be trained.
        """
        settings = self.recipe.optimisation.model_copy(
            update={
                "epochs": self.epochs,
                "learning_rate": RATE * self.recipe.optimisation.learning_rate,
                "average": 0.0,  # the learning rate falls to zero, so the last weights need no average
                "precision": "float32",  # Q/DQ must do all the rounding
            }
        )
        device = seed_everything(settings)
        net = GraphNet(fp32, quantised, choice.ranges, card.outputs)
        task = _Task(net, self.student, self.training, self.recipe, self.store, device)
        with tempfile.TemporaryDirectory() as folder, tqdm(total=self.epochs, unit=" epochs", desc="in 8 bits") as bar:
            path = train(task, settings, Path(folder), {}, on_epoch=partial(_update, bar))
            net.load_state_dict(dict(load_checkpoint(path).tensors))
        self.student.cpu()
        trained = onnx.ModelProto()
        trained.CopyFrom(fp32)
        weights = net.trained_weights()
        for tensor in trained.graph.initializer:
            if tensor.name in weights:
                tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
        ranges = {**choice.ranges, **net.trained_ranges()}
        quantised = quantise(trained, choice.target, ranges, choice.float_nodes)
        error, agreement = compare(fp32, quantised, card, data.tuning)
        return quantised, replace(choice, ranges=ranges, error=error, agreement=agreement)


@contextmanager
def open_qat(
    epochs: int | None,
    student: Student,
    recipe: Recipe,
    table: Sequence[Utterance],
    speakers: SpeakerSplit,
    cache: Path | None,
) -> Iterator[Qat | None]:
    """Yields quantisation-aware training with its features, or None without `epochs`.

    The features are those that `train fit` kept in `cache`; without it they are computed into a temporary folder.

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
        yield Qat(student, recipe, speakers.training, store, epochs)


class _Task(StudentTask):
    """The student's own task, computed in 8 bits, with the checkpoint's student as a teacher."""

    def __init__(
        self,
        net: GraphNet,
        student: Student,
        training: Sequence[Utterance],
        recipe: Recipe,
        store: FeatureStore,
        device: torch.device,
    ) -> None:
        # Twins, recorded noise, a teacher and validation speakers need data that a checkpoint does not have.
        plain = recipe.model_copy(
            update={
                "twins": None,
                "initial": None,
                "distillation": None,
                "validation": None,
                "augmentation": recipe.augmentation.model_copy(update={"recorded_noise": 0.0}),
                "losses": recipe.losses.model_copy(update={"intensity": 0.0}),  # the file has no such output
            }
        )
        super().__init__(training, plain, store, NO_AUGMENTATION_SOURCES, None, World(), device)
        self.net = net.to(device)
        # A bare callable, so that the checkpoint's parameters are not trained.
        self._checkpoint: Callable[[Tensor], Logits] = student.to(device).__call__

    def rate(self, name: str) -> float:
        return RANGE_RATE if name == "net.stretch" else 1.0

    def losses_for(
        self, windows: Tensor, embedded: Tensor, logits: Logits, places: Tensor, teacher: Outputs | None = None
    ) -> dict[str, Tensor]:
        with torch.no_grad():
            expected = self._checkpoint(windows)
        distance = F.mse_loss(logits.stress, expected.stress) + F.mse_loss(logits.emotions, expected.emotions)
        parts = super().losses_for(windows, embedded, logits, places, teacher)
        return {**parts, "as before": CHECKPOINT_WEIGHT * distance}


def _update(bar: Any, epoch: Epoch) -> None:
    bar.update(epoch.number - bar.n)
    bar.set_postfix({name: f"{value:.3f}" for name, value in {"loss": epoch.loss, **epoch.parts}.items()})
