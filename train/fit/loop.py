"""Training loop for any task. Resumes after an interruption; the same seed gives the same weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edge_sser.errors import TrainingError
from edge_sser.train.fit.checkpoint import (
    MODEL_FILE,
    Checkpoint,
    check_header,
    load_checkpoint,
    save_checkpoint,
    upgrade_header,
)
from edge_sser.train.fit.device import uses_bfloat16
from edge_sser.train.fit.parallel import World
from edge_sser.train.fit.schedule import average_decay, learning_rate
from edge_sser.train.fit.task import Task
from edge_sser.train.recipe import Optimisation, Validation

BEST_FILE = "best.safetensors"
LAST_FILE = "last.safetensors"


@dataclass(frozen=True, slots=True)
class Epoch:
    """Figures of one epoch.

    Attributes:
        number: from 1.
        loss: mean over its batches.
        parts: weighted losses by name.
        scores: of the averaged weights on the validation speakers, 0..1; empty when it was not validated.
        right: accuracy of emotion and stress on the augmented training windows, 0..1. Shows that the network learns,
            not how it does on strangers. Empty with mixup.
    """

    number: int
    loss: float
    parts: Mapping[str, float]
    scores: Mapping[str, float]
    right: Mapping[str, float] = field(default_factory=dict)

    def postfix(self) -> dict[str, str]:
        """Returns the figures that a progress bar shows."""
        right = {f"{name} right": value for name, value in self.right.items()}
        return {name: f"{value:.3f}" for name, value in {"loss": self.loss, **right, **self.scores}.items()}


def train(
    task: Task,
    settings: Optimisation,
    folder: Path,
    header: Mapping[str, Any],
    *,
    validation: Validation | None = None,
    world: World | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_step: Callable[[float], None] = lambda epochs: None,
) -> Path:
    """Trains to the end and returns the file of the averaged weights: of the best epoch with validation, or the last.

    An interrupted run resumes at its last whole epoch and ends with the same weights as an uninterrupted one (same
    machine, same number of threads and processes).

    Args:
        task: made after `seed_everything`.
        settings: of the recipe.
        folder: of this run.
        header: of the checkpoint; a folder whose checkpoint has another header is refused.
        validation: how often to validate, and when to stop.
        world: the processes that train together.
        on_epoch: called after each epoch.
        on_step: called after each step with the epochs done so far, of which the last is a fraction.

    Raises:
        TrainingError: the folder holds another run, the loss is not finite, or a checkpoint cannot be written.
    """
    trainer = _Trainer(task, settings, header, world or World(), on_step)
    last_path, best_path, path = folder / LAST_FILE, folder / BEST_FILE, folder / MODEL_FILE
    if last_path.exists():
        trainer.load(last_path)
    while not trainer.ended(validation):
        epoch = trainer.epoch(validation)
        if trainer.best_epoch == epoch.number:
            trainer.save_model(best_path)
        trainer.save_state(last_path)
        on_epoch(epoch)
    if trainer.world.first:
        trainer.save_model(path, load_checkpoint(best_path).tensors if trainer.best_epoch else None)
        best_path.unlink(missing_ok=True)
        last_path.unlink()
    trainer.world.wait()
    return path


class _Trainer:
    """State of a run: weights, their running average, optimiser, history."""

    def __init__(
        self,
        task: Task,
        settings: Optimisation,
        header: Mapping[str, Any],
        world: World,
        on_step: Callable[[float], None],
    ) -> None:
        self.task = task
        self.settings = settings
        self.header = header
        self.world = world
        self.on_step = on_step
        self.history: list[Epoch] = []
        self.best_epoch = 0
        self.steps = 0
        named = [(name, value) for name, value in task.named_parameters() if value.requires_grad]
        self.parameters = [value for _, value in named]
        groups: dict[float, list[nn.Parameter]] = {}
        for name, value in named:
            groups.setdefault(task.rate(name), []).append(value)
        self.optimiser = torch.optim.AdamW(
            [{"params": values, "share": share} for share, values in groups.items()],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        self.trained_names = {name for name, _ in named} | {name for name, _ in task.named_buffers()}
        self.averaged = {name: value.clone() for name, value in self._state().items()}
        self.bfloat16 = uses_bfloat16(settings, task.device)

    def _state(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.task.state_dict().items() if name in self.trained_names}

    def ended(self, validation: Validation | None) -> bool:
        """Returns True after the last epoch, or when validation has not improved for the recipe's patience."""
        done = len(self.history)
        patience = validation.patience if validation else 0
        waited = done - self.best_epoch if self.best_epoch else 0
        return done >= self.settings.epochs or bool(patience and waited >= patience)

    def epoch(self, validation: Validation | None) -> Epoch:
        """Trains one epoch. Its random draws depend on the seed and its number alone, so that it can be repeated."""
        settings = self.settings
        number = len(self.history) + 1
        seed = settings.seed * 100_000 + number
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        order = self.task.order(np.random.default_rng(seed))
        batches = [order[start : start + settings.batch] for start in range(0, order.size, settings.batch)]
        if len(batches) > 1 and batches[-1].size < 2:  # batch norm cannot take a single clip
            batches.pop()
        self.task.train()
        totals: dict[str, float] = {}
        for index, batch in enumerate(batches):
            rate = learning_rate(settings, (number - 1 + index / len(batches)) / settings.epochs)
            for group in self.optimiser.param_groups:
                group["lr"] = rate * group["share"]
            for name, value in self._step(torch.from_numpy(batch), generator, f"epoch {number}, batch {index + 1}"):
                totals[name] = totals.get(name, 0.0) + value / len(batches)
            self.on_step(number - 1 + (index + 1) / len(batches))
        scores: dict[str, float] = {}
        if validation and (number % validation.every == 0 or number == settings.epochs):
            scores = self._validate()
            if self._is_better(scores):
                self.best_epoch = number
        epoch = Epoch(number, sum(totals.values()), totals, scores, self.task.accuracy.pop())
        self.history.append(epoch)
        return epoch

    def _step(self, places: Tensor, generator: torch.Generator, where: str) -> list[tuple[str, float]]:
        with torch.autocast(self.task.device.type, torch.bfloat16, enabled=self.bfloat16):
            parts = self.task.losses(places, generator)
        whole = torch.stack(list(parts.values()))
        values = list(zip(parts, whole.detach().tolist(), strict=True))
        for name, value in values:
            if not math.isfinite(value):
                raise _diverged(f"loss ({name})", value, where)
        self.optimiser.zero_grad(set_to_none=True)
        whole.sum().backward()  # type: ignore[no-untyped-call]
        self.world.average_gradients(self.parameters)
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_gradient))
        if not math.isfinite(norm):
            raise _diverged("norm of the gradient", norm, where)
        self.optimiser.step()
        decay = average_decay(self.settings.average, self.steps)
        self.steps += 1
        for name, tensor in self._state().items():
            if tensor.is_floating_point():
                self.averaged[name].lerp_(tensor, 1.0 - decay)
            else:
                self.averaged[name].copy_(tensor)
        return values

    def _validate(self) -> dict[str, float]:
        weights = {name: value.clone() for name, value in self._state().items()}
        self.task.load_state_dict(self.averaged, strict=False)
        self.task.eval()
        with torch.inference_mode():
            scores = self.task.validate()
        self.task.load_state_dict(weights, strict=False)
        return scores

    def _is_better(self, scores: Mapping[str, float]) -> bool:
        if not scores:
            return False
        best = self.history[self.best_epoch - 1].scores if self.best_epoch else {}
        return not best or sum(scores.values()) > sum(best.values())

    def save_model(self, path: Path, tensors: Mapping[str, Tensor] | None = None) -> None:
        """Writes the averaged weights of the network, or other tensors."""
        if self.world.first:
            if tensors is None:
                averaged = self.averaged.items()
                tensors = {name.removeprefix("net."): value for name, value in averaged if name.startswith("net.")}
            header = {**self.header, "history": [asdict(epoch) for epoch in self.history]}
            save_checkpoint(path, Checkpoint(tensors, header))

    def save_state(self, path: Path) -> None:
        """Writes all that a resumed run needs."""
        if not self.world.first:
            return
        tensors = {f"weights/{name}": value for name, value in self._state().items()}
        tensors |= {f"averaged/{name}": value for name, value in self.averaged.items()}
        for place, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{place}/{name}": value for name, value in state.items()}
        history = [asdict(epoch) for epoch in self.history]
        progress = {"history": history, "best": self.best_epoch, "steps": self.steps}
        save_checkpoint(path, Checkpoint(tensors, {**self.header, "progress": progress}))

    def load(self, path: Path) -> None:
        """Resumes a run from its state."""
        checkpoint = load_checkpoint(path)
        check_header(path, upgrade_header(checkpoint.header), self.header)
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "averaged": {}, "optimiser": {}}
        try:
            for name, tensor in checkpoint.tensors.items():
                part, _, rest = name.partition("/")
                parts[part][rest] = tensor
            self.task.load_state_dict(parts["weights"], strict=False)
            self.averaged = {name: parts["averaged"][name].to(self.task.device) for name in self.averaged}
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in parts["optimiser"].items():
                place, _, key = name.partition("/")
                state.setdefault(int(place), {})[key] = tensor
            self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})
            progress = checkpoint.header["progress"]
            self.history = [Epoch(**epoch) for epoch in progress["history"]]
            self.best_epoch = int(progress["best"])
            self.steps = int(progress["steps"])
        except (KeyError, ValueError, RuntimeError, TypeError):
            raise TrainingError(
                f"{path} was written by another version: remove the folder to start again, or go on with that version"
            ) from None


def _diverged(quantity: str, value: float, where: str) -> TrainingError:
    return TrainingError(
        f"the {quantity} is {value} in {where}: lower optimisation.learning_rate; the last good epoch is kept"
    )


class TensorBoardWriter:
    """Writes the losses and scores of each epoch for `tensorboard --logdir`, beside the checkpoints in a folder."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def add(self, epoch: Epoch) -> None:
        """Adds an epoch and makes it visible."""
        values = {"loss/sum": epoch.loss}
        for group, figures in (("loss", epoch.parts), ("right", epoch.right), ("validation", epoch.scores)):
            values |= {f"{group}/{name}": value for name, value in figures.items()}
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch.number)
        self._writer.flush()
