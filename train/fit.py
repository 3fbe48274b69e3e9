"""The training loop: one fold, or all speakers. Resumes after an interruption; one seed gives one result."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edge_sser.errors import TrainingError

from .augment import Augmenter
from .checkpoint import Checkpoint, load_checkpoint, make_student, save_checkpoint
from .corpora.table import Utterance
from .dataset import FeatureStore
from .labels import EMOTIONS
from .recipe import Optimisation, Recipe
from .sampling import Sampler
from .targets import loss, make_targets

MODEL_FILE = "model.safetensors"
_STATE_FILE = "last.safetensors"


def fit(
    training: Sequence[Utterance],
    recipe: Recipe,
    store: FeatureStore,
    folder: Path,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> Path:
    """Trains a student and returns the file of its averaged weights.

    A finished run is returned as it is; an interrupted one goes on at its last whole epoch and ends with the same
    weights as if it had not been interrupted (same machine, same number of threads).

    Args:
        training: the utterances to learn from.
        recipe: how.
        store: features of at least these utterances.
        folder: of this run; made if need be.
        on_epoch: called after each epoch with its number, from 1, and its mean loss.

    Raises:
        TrainingError: the folder holds a run of another recipe or data, the loss is no number any more, or a
            checkpoint cannot be written.
    """
    header: dict[str, Any] = {
        "recipe": recipe.model_dump(mode="json"),
        "emotions": list(EMOTIONS),
        "corpora": _describe(training),
        "data": data_key(training),
    }
    model_path = folder / MODEL_FILE
    if model_path.exists():
        _check_same(model_path, load_checkpoint(model_path).header, header)
        return model_path
    run = _Run(training, recipe, store)
    state_path = folder / _STATE_FILE
    done = run.load(state_path, header) if state_path.exists() else 0
    for epoch in range(done + 1, recipe.optimisation.epochs + 1):
        mean = run.epoch(epoch)
        run.save(state_path, header, epoch)
        on_epoch(epoch, mean)
    save_checkpoint(model_path, Checkpoint(run.averaged, header))
    state_path.unlink()
    return model_path


class _Run:
    """The state of one training run."""

    def __init__(self, training: Sequence[Utterance], recipe: Recipe, store: FeatureStore) -> None:
        settings = recipe.optimisation
        torch.manual_seed(settings.seed)
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # a debugging aid that costs a fifth of the time
        self.recipe = recipe
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.student = make_student(recipe, len(EMOTIONS)).to(self.device)
        self.averaged = {name: value.clone() for name, value in self.student.state_dict().items()}
        self.optimiser = torch.optim.AdamW(
            self.student.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.sampler = Sampler(training, recipe.sampling.shares, settings.clips_per_epoch)
        self.augmenter = Augmenter(recipe.augmentation)
        self.clips = [torch.from_numpy(store[utterance].copy()) for utterance in training]
        self.targets = make_targets(training, recipe.preset)
        self.low_precision = _low_precision(settings, self.device)

    def epoch(self, epoch: int) -> float:
        """One epoch; its chance depends on the seed and its number alone, so that it can be repeated."""
        settings = self.recipe.optimisation
        seed = settings.seed * 100_000 + epoch
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        order = self.sampler.epoch(np.random.default_rng(seed))
        batches = [order[start : start + settings.batch] for start in range(0, order.size, settings.batch)]
        if len(batches) > 1 and batches[-1].size < 2:  # batch norm cannot take a single clip
            batches.pop()
        self.student.train()
        total = 0.0
        for number, batch in enumerate(batches):
            rate = _learning_rate(settings, (epoch - 1 + number / len(batches)) / settings.epochs)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            value = self._step(torch.from_numpy(batch), generator)
            if not math.isfinite(value):
                raise TrainingError(
                    f"the loss is {value} in epoch {epoch}, batch {number + 1}: lower optimisation.learning_rate; "
                    "the last good epoch is kept"
                )
            total += value
        return total / len(batches)

    def _step(self, places: Tensor, generator: torch.Generator) -> float:
        settings = self.recipe.optimisation
        windows = self.augmenter([self.clips[place] for place in places.tolist()], generator).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low_precision):
            logits = self.student(windows)
        value: Tensor = loss(logits, self.targets[places].to(self.device), self.recipe.losses, settings.label_smoothing)
        self.optimiser.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.student.parameters(), settings.clip_gradient)
        self.optimiser.step()
        for name, tensor in self.student.state_dict().items():
            if tensor.is_floating_point():
                self.averaged[name].lerp_(tensor, 1.0 - settings.average)
            else:
                self.averaged[name].copy_(tensor)
        return float(value.detach())

    def save(self, path: Path, header: dict[str, Any], epoch: int) -> None:
        tensors = {f"student.{name}": value for name, value in self.student.state_dict().items()}
        tensors |= {f"averaged.{name}": value for name, value in self.averaged.items()}
        for place, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{place}.{name}": value for name, value in state.items()}
        save_checkpoint(path, Checkpoint(tensors, {**header, "epoch": epoch}))

    def load(self, path: Path, header: dict[str, Any]) -> int:
        """Takes up a run where it stopped; returns the number of epochs done."""
        checkpoint = load_checkpoint(path)
        epoch = int(checkpoint.header["epoch"])
        _check_same(path, {key: value for key, value in checkpoint.header.items() if key != "epoch"}, header)
        parts: dict[str, dict[str, Tensor]] = {"student": {}, "averaged": {}, "optimiser": {}}
        for name, tensor in checkpoint.tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self.student.load_state_dict(parts["student"])
        self.averaged = {name: value.to(self.device) for name, value in parts["averaged"].items()}
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimiser"].items():
            place, _, key = name.partition(".")
            state.setdefault(int(place), {})[key] = tensor
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})
        return epoch


def _learning_rate(settings: Optimisation, progress: float) -> float:
    """Cosine with a linear rise; progress 0..1 of the run."""
    if progress < settings.warmup:
        return settings.learning_rate * (progress + 1e-3) / (settings.warmup + 1e-3)
    rest = (progress - settings.warmup) / (1.0 - settings.warmup)
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * rest))


def _low_precision(settings: Optimisation, device: torch.device) -> bool:
    if settings.precision != "auto":
        return settings.precision == "bfloat16"
    # Without matrix units for it, bfloat16 is slower than float32.
    return device.type == "cuda" or "amx_bf16" in Path("/proc/cpuinfo").read_text("utf-8")


def data_key(training: Sequence[Utterance]) -> str:
    """A name for what a run learns from: the same recordings and labels give the same."""
    key = hashlib.sha256()
    for utterance in training:
        key.update(f"{utterance.sha256} {utterance.corpus} {utterance.emotion} {utterance.intensity}\n".encode())
    return key.hexdigest()


def _describe(training: Sequence[Utterance]) -> list[dict[str, Any]]:
    names = sorted({utterance.corpus for utterance in training})
    return [
        {
            "name": name,
            "utterances": sum(utterance.corpus == name for utterance in training),
            "speakers": len({utterance.speaker for utterance in training if utterance.corpus == name}),
        }
        for name in names
    ]


def _check_same(path: Path, found: Any, expected: dict[str, Any]) -> None:
    if dict(found) != expected:
        raise TrainingError(
            f"{path} comes from another recipe or other data: choose another --out, or remove the folder to start anew"
        )
