"""The compact CNN: plain 3 x 3 convolutions with batch norm and ReLU, attention pooling over time.

Plain convolutions rather than depthwise ones: they are what the CPUs and boards in question compute fastest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edge_sser.features import FEATURES

# Bands quieter than this below the window's loudest are raised to it: a floor that moves with the gain knob.
RANGE_DB = 60.0
# A unit of the standardised input. The mean is taken from the window, the deviation is not: dividing by it costs
# accuracy on corpora that were not trained on.
UNIT_DB = 15.0


@dataclass(frozen=True, slots=True)
class Logits:
    """What a student says of a batch.

    Attributes:
        stress: float32 [batch].
        emotions: float32 [batch, classes].
        intensity: float32 [batch], of strong against normal acting; an auxiliary task, not exported.
    """

    stress: Tensor
    emotions: Tensor
    intensity: Tensor


def standardise(log_mel: Tensor) -> Tensor:
    """Takes the level out of log-mel windows: float32 [batch, frames, bands] in dB, the same shape out."""
    loudest = log_mel.amax(dim=(1, 2), keepdim=True)
    limited = torch.maximum(log_mel, loudest - RANGE_DB)
    return (limited - limited.mean(dim=(1, 2), keepdim=True)) / UNIT_DB


class CompactCnn(nn.Module):
    """Log-mel window in, logits out.

    Strides take 300 frames x 64 bands to 38 x 4; the 4 bands are folded into channels by a 1 x 1 convolution.
    """

    def __init__(self, *, width: int, emotions: int, dropout: float) -> None:
        """Makes the net.

        Args:
            width: channels of the stem; 12 gives 139 k parameters and 33 M multiplications a window.
            emotions: classes.
            dropout: share of the pooled features dropped in training, 0..1.
        """
        super().__init__()
        self.body = nn.Sequential(
            _convolution(1, width, kernel=5, stride=(2, 2)),
            _convolution(width, 2 * width, stride=(2, 2)),
            _convolution(2 * width, 2 * width),
            _convolution(2 * width, 4 * width, stride=(2, 2)),
            _convolution(4 * width, 4 * width),
            _convolution(4 * width, 6 * width, stride=(2, 1)),
            _convolution(6 * width, 6 * width),
        )
        folded = 6 * width * (FEATURES.bands // 16)
        self.fold = nn.Sequential(nn.Conv1d(folded, 6 * width, 1, bias=False), nn.BatchNorm1d(6 * width), nn.ReLU())
        self.attention = nn.Conv1d(6 * width, 1, 1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(6 * width, emotions + 2)

    def forward(self, log_mel: Tensor) -> Logits:
        """Logits of a batch.

        Args:
            log_mel: float32 [batch, frames, bands], dB.
        """
        planes = standardise(log_mel).transpose(1, 2).unsqueeze(1)  # [batch, 1, bands, frames]
        steps = self.fold(self.body(planes).flatten(1, 2))  # [batch, channels, time]
        weights = self.attention(steps).softmax(dim=-1)
        pooled = (steps * weights).sum(dim=-1)
        heads = self.head(self.dropout(pooled)).float()
        return Logits(stress=heads[:, 0], intensity=heads[:, 1], emotions=heads[:, 2:])


def _convolution(inputs: int, outputs: int, *, kernel: int = 3, stride: tuple[int, int] = (1, 1)) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
