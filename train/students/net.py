"""Base classes of the networks: input to embedding, embedding to logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Values further below the window's loudest are raised to this floor, which moves with the gain.
RANGE_DB = 60.0
# Divisor of the standardised input. The window's mean is subtracted, but its deviation does not divide: that costs
# accuracy on corpora that were not trained on.
UNIT_DB = 15.0


@dataclass(frozen=True, slots=True)
class Logits:
    """Output of a network for a batch.

    Attributes:
        stress: float32 [batch].
        emotions: float32 [batch, classes].
        intensity: float32 [batch], strong against normal acting; an auxiliary task, not exported.
    """

    stress: Tensor
    emotions: Tensor
    intensity: Tensor


class Net(nn.Module, ABC):
    """Network in two halves that training calls separately: the embedding of a sound, and its classification."""

    opset = 18
    """Version of ONNX's operators in an exported file."""
    dropout: nn.Dropout
    head: nn.Linear
    """Maps an embedding to stress, intensity and emotions, in this order."""

    @abstractmethod
    def embed(self, sound: Tensor) -> Tensor:
        """Returns embeddings: float32 [batch, embedding]."""

    def classify(self, embedded: Tensor) -> Logits:
        """Returns the logits of embeddings [batch, embedding]."""
        heads = self.head(self.dropout(embedded)).float()
        return Logits(stress=heads[:, 0], intensity=heads[:, 1], emotions=heads[:, 2:])

    def forward(self, sound: Tensor) -> Logits:
        """Returns the logits of a batch."""
        return self.classify(self.embed(sound))


class Student(Net):
    """Network small enough for a device; its input is log-mel windows, float32 [batch, frames, bands] in dB."""


def standardise(log_mel: Tensor) -> Tensor:
    """Removes the level from log-mel windows: float32 [batch, frames, bands] in dB, the same shape out."""
    loudest = log_mel.amax(dim=(1, 2), keepdim=True)
    limited = torch.maximum(log_mel, loudest - RANGE_DB)
    # Mean in two steps: ONNX Runtime sums 19,200 values in sequence, which costs the logits their fourth digit.
    mean = limited.mean(dim=2, keepdim=True).mean(dim=1, keepdim=True)
    return (limited - mean) / UNIT_DB
