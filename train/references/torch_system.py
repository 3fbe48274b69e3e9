"""Reference system that is a torch network over a fixed front end, and its training loop."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import TrainingError
from edge_sser.settings.section import Positive, Ratio, Section
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.evaluate.metrics import unweighted_accuracy
from edge_sser.train.fit.device import has_bfloat16
from edge_sser.train.references.system import Clip, Report, Samples, System

FrontEnd = Callable[[Samples], Tensor]
"""Computes the network's input from the samples of a window: float32 of a fixed shape, without the batch."""
FeatureAugment = Callable[[Tensor, torch.Generator], Tensor]
"""Alters a batch of inputs, as SpecAugment does; the same shape out."""

PREDICTED = 64  # windows in a batch of the evaluation


class Windows(Section):
    """Windows of a clip. A system trains on all of them; a clip's logits are the mean of theirs."""

    seconds: Positive
    hop_seconds: float = Field(default=0.0, ge=0.0)
    """Between two windows; 0: the first window alone."""
    fill: Literal["repeat", "zeros"] = "repeat"
    """Content behind a clip that is shorter than a window: itself again, or digital silence."""

    def cut(self, samples: Samples) -> list[Samples]:
        """Cuts the samples of a clip into windows; the last one ends with the clip."""
        size = round(self.seconds * SAMPLE_RATE)
        if samples.size <= size:
            return [np.resize(samples, size) if self.fill == "repeat" else np.pad(samples, (0, size - samples.size))]
        if not self.hop_seconds:
            return [samples[:size]]
        starts = [*range(0, samples.size - size, round(self.hop_seconds * SAMPLE_RATE)), samples.size - size]
        return [samples[start : start + size] for start in starts]


class Training(Section):
    """Optimiser and schedule."""

    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: Positive = 1e-3
    momentum: Ratio = 0.9
    """sgd alone."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    epochs: int = Field(default=50, ge=1)
    batch: int = Field(default=32, ge=2)
    drawn: Literal["one", "all"] = "one"
    """Windows of a clip in an epoch: one drawn at random, or all."""
    step_epochs: int = Field(default=0, ge=0)
    """Epochs after which the learning rate is multiplied by `step_factor`; 0: never."""
    step_factor: Positive = 0.5
    patience: int = Field(default=0, ge=0)
    """Epochs without a better validation score after which training ends; 0: never. The best epoch is kept."""
    doubled_softmax: bool = False
    """Softmax before cross-entropy, which has one of its own: a common fault, to see what it costs."""
    precision: Literal["auto", "float32"] = "auto"
    """auto: bfloat16 where the processor multiplies it in hardware."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Inputs of some clips: float32 [windows, ...], and the number of windows of each clip."""

    windows: Tensor
    counts: Tensor


class TorchSystem(System):
    """A network over a front end, trained with cross-entropy.

    Subclasses may override `loss`, or `fit` for training in stages.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        make_net: Callable[[], nn.Module],
        training: Training,
        seed: int,
        *,
        windows: Windows | None = None,
        augment: FeatureAugment | None = None,
    ) -> None:
        """Makes an untrained system.

        Args:
            front_end: computed once a window and kept.
            make_net: makes the network; its output is logits, [batch, 8].
            training: optimiser and schedule.
            seed: of weights and order.
            windows: None: the front end takes a whole clip.
            augment: applied to the batches of training.
        """
        self.front_end, self.make_net, self.training, self.seed = front_end, make_net, training, seed
        self.windows, self.augment = windows, augment
        self.epochs = training.epochs
        self.window_seconds = windows.seconds if windows else None
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.bfloat16 = training.precision == "auto" and has_bfloat16(self.device)
        self._kept: dict[bytes, Tensor] = {}
        self.net = self._new_net()

    @property
    def parameters(self) -> int:
        """Number of the network's parameters."""
        return sum(value.numel() for value in self.net.parameters())

    def network(self) -> tuple[nn.Module, Tensor]:
        """Returns the network on the CPU and the input of a window of faint noise; see `System.network`."""
        size = round((self.window_seconds or 3.0) * SAMPLE_RATE)
        noise = 1e-3 * np.random.default_rng(0).standard_normal(size, dtype=np.float32)
        return self.net.eval().cpu(), self.front_end(noise)[None]

    def front_end_window(self, samples: Samples) -> Tensor:
        """Computes the network's input of one window."""
        return self.front_end(samples)

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss of a batch: inputs [batch, ...], labels int64 [batch]."""
        logits = self.net(inputs).float()
        return F.cross_entropy(logits.softmax(dim=1) if self.training.doubled_softmax else logits, labels)

    def fit(self, training: Sequence[Clip], validation: Sequence[Clip], report: Report) -> None:
        """Trains anew and keeps the best epoch on the validation clips, or the last without any."""
        self.net = self._new_net()
        parts = [self.inputs(clip.samples) for clip in training]
        labels = torch.tensor([clip.label for clip in training])
        held = self._batch([clip.samples for clip in validation]) if validation else None
        held_labels = np.array([clip.label for clip in validation])
        optimiser = self._optimiser()
        generator = torch.Generator().manual_seed(self.seed)
        best, best_score, best_epoch = None, (-1.0, 0.0), 0
        for epoch in range(1, self.training.epochs + 1):
            if self.training.step_epochs and epoch > 1 and (epoch - 1) % self.training.step_epochs == 0:
                for group in optimiser.param_groups:
                    group["lr"] *= self.training.step_factor
            figures = {"loss": self._epoch(parts, labels, optimiser, generator, epoch)}
            if held is not None:
                figures |= self._validate(held, held_labels)
                score = (figures["ua"], -figures["validation_loss"])
                if score > best_score:
                    best, best_score, best_epoch = deepcopy(self.net.state_dict()), score, epoch
            report(figures)
            if self.training.patience and held is not None and epoch - best_epoch >= self.training.patience:
                break
        if best is not None:
            self.net.load_state_dict(best)

    def probabilities(self, clips: Sequence[Samples]) -> NDArray[np.float64]:
        """Returns the softmax of the mean logits of each clip's windows: [clips, 8]."""
        return self._logits(self._batch(clips)).softmax(dim=1).numpy()

    def inputs(self, samples: Samples) -> Tensor:
        """Returns the network's inputs of a clip's windows: float32 [windows, ...]; computed once."""
        key = hashlib.blake2b(samples.tobytes(), digest_size=16).digest()
        if key not in self._kept:
            cuts = self.windows.cut(samples) if self.windows else [samples]
            self._kept[key] = torch.stack([self.front_end(cut) for cut in cuts])
        return self._kept[key]

    def _new_net(self) -> nn.Module:
        torch.manual_seed(self.seed)
        return self.make_net().to(self.device)

    def _optimiser(self) -> torch.optim.Optimizer:
        settings, values = self.training, [value for value in self.net.parameters() if value.requires_grad]
        rate, decay = settings.learning_rate, settings.weight_decay
        if settings.optimiser == "sgd":
            return torch.optim.SGD(values, rate, momentum=settings.momentum, weight_decay=decay)
        kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
        return kind(values, rate, weight_decay=decay)

    def _epoch(
        self,
        parts: Sequence[Tensor],
        labels: Tensor,
        optimiser: torch.optim.Optimizer,
        generator: torch.Generator,
        epoch: int,
    ) -> float:
        """Trains an epoch on the windows of each clip; returns the mean loss."""
        counts = torch.tensor([len(part) for part in parts])
        clip = torch.arange(len(parts))
        if self.training.drawn == "one":
            window = (torch.rand(len(parts), generator=generator) * counts).long().clamp(max=counts - 1)
        else:
            clip = clip.repeat_interleave(counts)
            window = torch.cat([torch.arange(len(part)) for part in parts])
        self.net.train()
        total, batches = 0.0, list(torch.split(torch.randperm(len(clip), generator=generator), self.training.batch))
        if len(batches) > 1 and len(batches[-1]) < 2:  # batch norm cannot take a single window
            batches.pop()
        for places in batches:
            batch = torch.stack([parts[int(clip[place])][window[place]] for place in places])
            if self.augment is not None:
                batch = self.augment(batch, generator)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
                loss = self.loss(batch.to(self.device), labels[clip[places]].to(self.device))
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss.item()} in epoch {epoch}: lower settings.training.learning_rate with --set"
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += loss.item() / len(batches)
        return total

    def _validate(self, held: _Batch, labels: NDArray[np.int64]) -> dict[str, float]:
        logits = self._logits(held)
        return {
            "ua": unweighted_accuracy(labels, logits.argmax(dim=1).numpy()),
            "validation_loss": F.cross_entropy(logits, torch.from_numpy(labels)).item(),
        }

    def _batch(self, clips: Sequence[Samples]) -> _Batch:
        parts = [self.inputs(samples) for samples in clips]
        return _Batch(torch.cat(parts), torch.tensor([len(part) for part in parts]))

    def _logits(self, batch: _Batch) -> Tensor:
        """Returns the mean logits of each clip's windows: float64 [clips, 8]."""
        self.net.to(self.device).eval()
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            found = [self.net(part.to(self.device)).double().cpu() for part in torch.split(batch.windows, PREDICTED)]
        clip = torch.repeat_interleave(torch.arange(len(batch.counts)), batch.counts)
        total = torch.zeros(len(batch.counts), len(EMOTIONS), dtype=torch.float64)
        return total.index_add_(0, clip, torch.cat(found)) / batch.counts[:, None]
