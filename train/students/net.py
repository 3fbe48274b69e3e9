"""What the students share: log-mel windows in, an embedding, logits out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Bands quieter than this below the window's loudest are raised to it: a floor that moves with the gain knob.
RANGE_DB = 60.0
# A unit of the standardised input. The mean is taken from the window, the deviation is not: dividing by it costs
# accuracy on corpora that were not trained on.
UNIT_DB = 15.0


@dataclass(frozen=True, slots=True)
class Logits:
    """What a net says of a batch.

    Attributes:
        stress: float32 [batch].
        emotions: float32 [batch, classes].
        intensity: float32 [batch], of strong against normal acting; an auxiliary task, not exported.
    """

    stress: Tensor
    emotions: Tensor
    intensity: Tensor


class Net(nn.Module, ABC):
    """A net in two halves, which training needs apart: what turns sound into an embedding, and what decides on it."""

    dropout: nn.Dropout
    head: nn.Linear
    """From an embedding to stress, intensity and emotions, in this order."""

    @abstractmethod
    def embed(self, sound: Tensor) -> Tensor:
        """What is decided on: float32 [batch, embedding]."""

    def decide(self, embedded: Tensor) -> Logits:
        """Logits from embeddings [batch, embedding]."""
        heads = self.head(self.dropout(embedded)).float()
        return Logits(stress=heads[:, 0], intensity=heads[:, 1], emotions=heads[:, 2:])

    def forward(self, sound: Tensor) -> Logits:
        """Logits of a batch."""
        return self.decide(self.embed(sound))


class Student(Net):
    """A net small enough for a device: log-mel windows in, float32 [batch, frames, bands] in dB."""


def standardise(log_mel: Tensor) -> Tensor:
    """Takes the level out of log-mel windows: float32 [batch, frames, bands] in dB, the same shape out."""
    loudest = log_mel.amax(dim=(1, 2), keepdim=True)
    limited = torch.maximum(log_mel, loudest - RANGE_DB)
    # In two steps: ONNX Runtime adds 19,200 values up one after the other, which costs the logits their fourth digit.
    mean = limited.mean(dim=2, keepdim=True).mean(dim=1, keepdim=True)
    return (limited - mean) / UNIT_DB
