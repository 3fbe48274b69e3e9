"""Student with a variable shape, for benchmarks/shapes.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from edge_sser.pipeline.features import FEATURES
from edge_sser.train.students.net import Student, standardise


class Pool(str, Enum):
    """Downsampling of the planes: by the stride of the convolutions, or by pooling."""

    NONE = "stride"
    AVERAGE = "average"
    MAX = "max"


class Head(str, Enum):
    """Layers from the planes to the embedding."""

    ATTENTION = "fold + attention"
    """Bands folded into channels, attention over time: the student that ships."""
    MEAN = "mean"
    """Mean over bands and frames."""
    FLATTEN = "fold + flatten"
    """Bands folded into channels, one set of weights per frame."""


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "ReLU": nn.ReLU,
    "ReLU6": nn.ReLU6,
    "SiLU": nn.SiLU,
    "hard-swish": nn.Hardswish,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Shape of a student; the defaults are those of the student that ships.

    Attributes:
        channels: channels of the stem, and of the three stages after it.
        stem: side of the first convolution's kernel.
        stem_stride: stride of the first convolution: bands, frames.
        group: channels in a group of the 3 x 3 convolutions; 0: all, 1: depthwise with a 1 x 1 behind it.
        pool: downsampling of the planes.
        activation: activation after each convolution.
        head: layers from the planes to the embedding.
    """

    channels: tuple[int, int, int, int] = (12, 24, 48, 72)
    stem: int = 5
    stem_stride: tuple[int, int] = (2, 2)
    group: int = 0
    pool: Pool = Pool.NONE
    activation: str = "ReLU"
    head: Head = Head.ATTENTION


class Shaped(Student):
    """Student with a given shape."""

    def __init__(self, shape: Shape, emotions: int) -> None:
        """Makes the net with fresh weights."""
        super().__init__()
        stem, first, second, third = shape.channels
        pooled = shape.pool is not Pool.NONE
        layers: list[nn.Module] = [nn.Conv2d(1, stem, shape.stem, shape.stem_stride, shape.stem // 2, bias=False)]
        layers += [nn.BatchNorm2d(stem), ACTIVATIONS[shape.activation]()]
        plan = [
            (stem, first, (2, 2)),
            (first, first, (1, 1)),
            (first, second, (2, 2)),
            (second, second, (1, 1)),
            (second, third, (2, 1)),
            (third, third, (1, 1)),
        ]
        for inputs, outputs, stride in plan:
            layers += _convolution(shape, inputs, outputs, (1, 1) if pooled else stride)
            if pooled and stride != (1, 1):
                layers.append(nn.AvgPool2d(stride) if shape.pool is Pool.AVERAGE else nn.MaxPool2d(stride))
        self.body = nn.Sequential(*layers)
        self.kind = shape.head
        bands, frames = self.body(torch.zeros(1, 1, FEATURES.bands, FEATURES.frames)).shape[2:]
        if shape.head is not Head.MEAN:
            folded = nn.Conv1d(third * bands, third, 1, bias=False)
            self.fold = nn.Sequential(folded, nn.BatchNorm1d(third), ACTIVATIONS[shape.activation]())
        self.attention = nn.Conv1d(third, 1, 1) if shape.head is Head.ATTENTION else None
        self.dropout = nn.Dropout(0.0)
        self.head = nn.Linear(third * (frames if shape.head is Head.FLATTEN else 1), emotions + 2)

    def embed(self, sound: Tensor) -> Tensor:
        """Returns embeddings, float32 [batch, embedding], of log-mel windows [batch, frames, bands] in dB."""
        planes = self.body(standardise(sound).transpose(1, 2).unsqueeze(1))
        if self.kind is Head.MEAN:
            mean: Tensor = planes.mean(dim=(2, 3))
            return mean
        steps = self.fold(planes.flatten(1, 2))
        if self.attention is None:
            flat: Tensor = steps.flatten(1)
            return flat
        pooled: Tensor = (steps * self.attention(steps).softmax(dim=-1)).sum(dim=-1)
        return pooled


def _convolution(shape: Shape, inputs: int, outputs: int, stride: tuple[int, int]) -> list[nn.Module]:
    active = ACTIVATIONS[shape.activation]
    if shape.group == 1:
        return [
            nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            active(),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            active(),
        ]
    groups = inputs // shape.group if shape.group else 1
    return [nn.Conv2d(inputs, outputs, 3, stride, 1, groups=groups, bias=False), nn.BatchNorm2d(outputs), active()]
