"""Networks of the features study on CREMA-D: zero-crossing rate, energy and mel bands in, logits out.

The originals flatten the last feature map, so nearly all of their 114, 41 and 62 million parameters lie in the first
linear layer, which ties each weight to an instant of the clip. Here the map is averaged over time by default. The study
gives neither the length nor the linear layers of dummynet and exponet: at 641 frames (5.12 s), which explain rezonet's
total, their widths are chosen so that the totals round to the published ones.
"""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor, nn

FLATTEN_FRAMES = 641
_DROPOUT = 0.3


class Pooling(str, Enum):
    """Step between the convolutions and the linear layers."""

    MEAN = "mean"
    """Average over time: any number of frames."""
    FLATTEN = "flatten"
    """The original's: a weight for each value of the map, at a fixed number of frames."""


class FeatureCnn(nn.Module):
    """Convolutions, pooling over time and linear layers: features float32 [batch, rows, frames] to logits."""

    def __init__(self, convolutions: nn.Module, pooled: nn.Module, linear: nn.Module) -> None:
        super().__init__()
        self.convolutions = convolutions
        self.pooled = pooled
        self.linear = linear
        for module in convolutions.modules():
            if isinstance(module, (nn.Conv1d, nn.Conv2d)):  # without it eight layers of few channels do not learn
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, features: Tensor) -> Tensor:
        """Returns logits: float32 [batch, classes]."""
        out: Tensor = self.linear(self.pooled(self.convolutions(features)))
        return out


class _MeanOverTime(nn.Module):
    def forward(self, planes: Tensor) -> Tensor:
        return planes.mean(dim=-1).flatten(1)


def _pool(pooling: Pooling) -> nn.Module:
    return _MeanOverTime() if pooling is Pooling.MEAN else nn.Flatten()


def _temporal(rows: int, layers: tuple[tuple[int, int], ...]) -> nn.Sequential:
    """Returns convolutions along time over all rows, each followed by ReLU; layers: (channels, kernel)."""
    modules: list[nn.Module] = []
    for channels, kernel in layers:
        modules += [nn.Conv1d(rows, channels, kernel, padding="same"), nn.ReLU()]
        rows = channels
    return nn.Sequential(*modules)


def make_dummynet(*, rows: int, classes: int, pooling: Pooling) -> FeatureCnn:
    """Builds three convolutions 512-512-128 of five frames: 1.7 M parameters, or 114 M with the flatten."""
    inputs, hidden = (128, 128) if pooling is Pooling.MEAN else (128 * FLATTEN_FRAMES, 1368)
    linear = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(_DROPOUT), nn.Linear(hidden, classes))
    return FeatureCnn(_temporal(rows, ((512, 5), (512, 5), (128, 5))), _pool(pooling), linear)


def make_exponet(*, rows: int, classes: int, pooling: Pooling) -> FeatureCnn:
    """Builds five convolutions 512-512-256-256-128: 2.4 M parameters, or 62 M with the flatten."""
    inputs, hidden = (128, 128) if pooling is Pooling.MEAN else (128 * FLATTEN_FRAMES, 728)
    linear = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(_DROPOUT), nn.Linear(hidden, classes))
    layers = ((512, 5), (512, 5), (256, 5), (256, 3), (128, 3))
    return FeatureCnn(_temporal(rows, layers), _pool(pooling), linear)


def make_rezonet(*, rows: int, classes: int, pooling: Pooling) -> FeatureCnn:
    """Builds convolutions along time alone, the same for every row, then linear layers of 80 and 30.

    0.3 M parameters on 40 rows, or 41 M with the flatten.
    """
    modules: list[nn.Module] = [nn.Unflatten(1, (1, rows))]  # [batch, 1, rows, frames]
    inputs = 1
    for group in (((10, 9), (10, 5), (10, 3)), ((20, 3), (20, 3)), ((40, 13), (40, 1), (80, 1))):
        for channels, kernel in group:
            modules += [nn.Conv2d(inputs, channels, (1, kernel), padding=(0, kernel // 2)), nn.ReLU()]
            inputs = channels
        if channels < 80:
            modules.append(nn.MaxPool2d((1, 2)))
    size = 80 * rows * (1 if pooling is Pooling.MEAN else FLATTEN_FRAMES // 4)
    linear = nn.Sequential(
        nn.Linear(size, 80), nn.ReLU(), nn.Dropout(_DROPOUT), nn.Linear(80, 30), nn.ReLU(), nn.Linear(30, classes)
    )
    convolutions = nn.Sequential(*modules).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return FeatureCnn(convolutions, _pool(pooling), linear)
