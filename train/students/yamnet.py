"""The first layers of YAMNet, fine-tuned: a MobileNet v1 that learned the sounds of AudioSet (Plakal and Ellis, 2020).

A network that has heard thousands of hours of anything carries over to strangers better than one from random weights
(docs/results/networks.md). The lowest layers stay as they are: they cost half of the training time and change least.
Strides over time are twice YAMNet's in the first layer, which halves the cost of a window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_sser.pipeline.features import FEATURES
from edge_sser.train.students.net import UNIT_DB, Student, standardise

CHANNELS: Final = (32, 64, 128, 128, 256, 256, 512, 512)
STRIDES: Final = (2, 1, 2, 1, 2, 1, 2, 1)
FIRST_STRIDE: Final = (2, 4)  # over bands and frames; YAMNet's own is (2, 2)
# YAMNet takes the natural logarithm of magnitudes, ours are powers in dB: on 59 clips of RMS 0.1, the mean of the loud
# frames of the standardised window stands this far above YAMNet's.
OFFSET: Final = -2.37
FLOOR: Final = math.log(0.001)  # YAMNet adds .001 to each magnitude
_NEPERS: Final = UNIT_DB * math.log(10.0) / 20.0
_EPSILON: Final = 1e-5  # of batch norm


class Yamnet(Student):
    """YAMNet's first layers, attention pooling over time, and a head."""

    def __init__(self, *, width: int, layers: int, frozen: int, emotions: int, dropout: float) -> None:
        """Builds the network with random weights; `load_initial` fills its layers.

        Args:
            width: of the embedding; 72 gives 282 k parameters with six layers.
            layers: of YAMNet that are kept, from the first, 1 to 8.
            frozen: layers that keep their weights, from the first; at most `layers`.
            emotions: number of classes.
            dropout: share of the pooled features dropped in training, 0..1.
        """
        super().__init__()
        parts = _layers(layers)
        fixed = sum(1 if layer == 1 else 2 for layer in range(1, frozen + 1))
        self.frozen = nn.Sequential(*(_Fixed(*part) for part in parts[:fixed]))
        self.body = nn.Sequential(*(_Convolution(*part) for part in parts[fixed:]))
        bands = FEATURES.bands
        for stride in (FIRST_STRIDE[0], *STRIDES[1:layers]):
            bands //= stride
        folded = CHANNELS[layers - 1] * bands
        self.fold = nn.Sequential(nn.Conv1d(folded, width, 1, bias=False), nn.BatchNorm1d(width), nn.ReLU())
        self.attention = nn.Conv1d(width, 1, 1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, emotions + 2)

    def embed(self, sound: Tensor) -> Tensor:
        """Returns embeddings, float32 [batch, width], of log-mel windows [batch, frames, bands] in dB."""
        steps = self.fold(self.body(self.frozen_planes(sound)).flatten(1, 2))  # [batch, channels, time]
        weights = self.attention(steps).softmax(dim=-1)
        pooled: Tensor = (steps * weights).sum(dim=-1)
        return pooled

    def frozen_planes(self, sound: Tensor) -> Tensor:
        """Returns the output of the frozen layers: [batch, channels, bands, frames]."""
        magnitudes = (standardise(sound) * _NEPERS + OFFSET).clamp(min=FLOOR)
        planes: Tensor = self.frozen(magnitudes.transpose(1, 2).unsqueeze(1))
        return planes

    @torch.no_grad()
    def load_initial(self, weights: Mapping[str, Tensor], windows: Tensor) -> None:
        """Fills the layers with YAMNet's weights, and the batch norms so that they change nothing on some windows.

        Args:
            weights: by name, `NN.pw.w`, `NN.pw.b`, `NN.dw.w` and `NN.dw.b` of layer NN from 01, with YAMNet's batch
                norms folded in; [out, in, frames, bands].
            windows: log-mel, float32 [n, frames, bands] in dB.

        Raises:
            KeyError: a weight is missing.
            RuntimeError: a weight has another shape.
        """
        names = [f"{layer:02d}.{part}" for layer in range(1, len(CHANNELS) + 1) for part in ("dw", "pw")][1:]
        for part, name in zip(self.frozen, names, strict=False):
            assert isinstance(part, _Fixed)
            part.weight.copy_(_turned(weights[f"{name}.w"]))
            part.bias.copy_(weights[f"{name}.b"])
        planes = self.frozen_planes(windows)
        for part, name in zip(self.body, names[len(self.frozen) :], strict=False):
            assert isinstance(part, _Convolution)
            planes = part.load(weights[f"{name}.w"], weights[f"{name}.b"].float(), planes)


def _turned(weight: Tensor) -> Tensor:
    """Returns a kernel over bands and frames for one over frames and bands."""
    return weight.transpose(2, 3).float()


Part = tuple[int, int, int, tuple[int, int], int]  # inputs, outputs, kernel, stride, groups


def _layers(layers: int) -> Sequence[Part]:
    """Returns the convolutions of the first layers: one for the first, then a depthwise and a pointwise one each."""
    parts: list[Part] = [(1, CHANNELS[0], 3, FIRST_STRIDE, 1)]
    for layer in range(1, layers):
        inputs, stride = CHANNELS[layer - 1], STRIDES[layer]
        parts += [(inputs, inputs, 3, (stride, stride), inputs), (inputs, CHANNELS[layer], 1, (1, 1), 1)]
    return parts


class _Convolution(nn.Module):
    """Convolution with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: tuple[int, int], groups: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=_EPSILON)

    def forward(self, planes: Tensor) -> Tensor:
        """Returns the output of the layer, [batch, outputs, bands, frames]."""
        return F.relu(self.norm(self.convolution(planes)), inplace=True)

    def load(self, weight: Tensor, bias: Tensor, planes: Tensor) -> Tensor:
        """Sets the weights, and the batch norm so that on some planes it adds the bias alone; returns the output."""
        self.convolution.weight.copy_(_turned(weight))
        found = self.convolution(planes)
        mean, variance = found.mean(dim=(0, 2, 3)), found.var(dim=(0, 2, 3))
        for own, value in ((self.norm.running_mean, mean), (self.norm.running_var, variance)):
            assert own is not None
            own.copy_(value)
        self.norm.weight.copy_((variance + _EPSILON).sqrt())
        self.norm.bias.copy_(mean + bias)
        return F.relu(found + bias[:, None, None])


class _Fixed(nn.Module):
    """Convolution with ReLU whose weights are not trained. Buffers, so that a checkpoint keeps them."""

    weight: Tensor
    bias: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: tuple[int, int], groups: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(outputs, inputs // groups, kernel, kernel))
        self.register_buffer("bias", torch.zeros(outputs))
        self.stride, self.padding, self.groups = stride, kernel // 2, groups

    def forward(self, planes: Tensor) -> Tensor:
        """Returns the output of the layer, [batch, outputs, bands, frames]."""
        return F.relu(F.conv2d(planes, self.weight, self.bias, self.stride, self.padding, groups=self.groups))
