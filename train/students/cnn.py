"""The compact CNN: plain 3 x 3 convolutions with batch norm and ReLU, attention pooling over time.

Plain convolutions rather than depthwise ones: the CPUs and boards of this project compute them fastest.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_sser.pipeline.features import FEATURES
from edge_sser.train.students.net import Student, standardise


class CompactCnn(Student):
    """Compact CNN: log-mel windows in, logits out.

    Strides take 300 frames x 64 bands to 38 x 4; the 4 bands are folded into channels by a 1 x 1 convolution.
    """

    def __init__(self, *, width: int, emotions: int, dropout: float) -> None:
        """Builds the network.

        Args:
            width: channels of the stem; 12 gives 139 k parameters and 33 M multiplications a window, 7 gives 48 k,
                23 gives 507 k.
            emotions: number of classes.
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

    def embed(self, sound: Tensor) -> Tensor:
        """Returns embeddings, float32 [batch, 6 width], of log-mel windows [batch, frames, bands] in dB."""
        planes = standardise(sound).transpose(1, 2).unsqueeze(1)  # [batch, 1, bands, frames]
        planes = planes.contiguous(memory_format=torch.channels_last)  # a CPU trains a fifth faster
        steps = self.fold(self.body(planes).flatten(1, 2))  # [batch, channels, time]
        weights = self.attention(steps).softmax(dim=-1)
        pooled: Tensor = (steps * weights).sum(dim=-1)
        return pooled


def _convolution(inputs: int, outputs: int, *, kernel: int = 3, stride: tuple[int, int] = (1, 1)) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
