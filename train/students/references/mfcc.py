"""Small networks over mel-frequency cepstral coefficients (MFCC)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MfccCnn1d(nn.Module):
    """Convolutions over time with the coefficients as channels, and a mean over time.

    77,633 parameters with one output. The third convolution has no batch norm: with three the count would be another.
    """

    def __init__(self, coefficients: int = 16, outputs: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(coefficients, 64, 3), nn.BatchNorm1d(64), nn.ReLU(),
            nn.Conv1d(64, 128, 3), nn.BatchNorm1d(128), nn.ReLU(),
            nn.Conv1d(128, 128, 3), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(128, outputs)

    def forward(self, mfcc: Tensor) -> Tensor:
        """Returns logits [batch, outputs] of coefficients [batch, coefficients, frames]."""
        logits: Tensor = self.head(self.layers(mfcc).mean(dim=2))
        return logits


class MfccCnn2d(nn.Module):
    """Convolutions over time and coefficients, and a mean over both. 222,722 parameters with two outputs."""

    def __init__(self, outputs: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 64, 3), nn.BatchNorm2d(64), nn.ReLU(),
            nn.Conv2d(64, 128, 3), nn.BatchNorm2d(128), nn.ReLU(),
            nn.Conv2d(128, 128, 3), nn.ReLU(),
        )  # fmt: skip
        self.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # four times as fast in bfloat16
        self.head = nn.Linear(128, outputs)

    def forward(self, mfcc: Tensor) -> Tensor:
        """Returns logits [batch, outputs] of coefficients [batch, coefficients, frames]."""
        logits: Tensor = self.head(self.layers(mfcc[:, None]).mean(dim=(2, 3)))
        return logits


class MfccRnn(nn.Module):
    """Four layers of LSTM over the frames, and the mean of their outputs. 48,681 parameters with one output."""

    def __init__(self, coefficients: int = 16, outputs: int = 8) -> None:
        super().__init__()
        self.lstm = nn.LSTM(coefficients, 40, num_layers=4, batch_first=True)
        self.head = nn.Linear(40, outputs)

    def forward(self, mfcc: Tensor) -> Tensor:
        """Returns logits [batch, outputs] of coefficients [batch, coefficients, frames]."""
        states, _ = self.lstm(mfcc.transpose(1, 2))
        logits: Tensor = self.head(states.mean(dim=1))
        return logits


class MfccTransformer(nn.Module):
    """Four transformer layers over the frames, a token each, and the mean of their outputs."""

    def __init__(self, coefficients: int = 16, outputs: int = 8) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(coefficients, nhead=4, dim_feedforward=512, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=4, enable_nested_tensor=False)
        self.head = nn.Linear(coefficients, outputs)

    def forward(self, mfcc: Tensor) -> Tensor:
        """Returns logits [batch, outputs] of coefficients [batch, coefficients, frames]."""
        logits: Tensor = self.head(self.encoder(mfcc.transpose(1, 2)).mean(dim=1))
        return logits


class MeanMfccLstm(nn.Module):
    """LSTM that reads the coefficients' means over time one after another, and dense layers.

    71,780 parameters with eight outputs. The LSTM's one bias is the weight of a constant second input: torch's own has
    two, where the study's library has one.
    """

    def __init__(self, outputs: int = 8) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 123, batch_first=True, bias=False)
        self.head = nn.Sequential(
            nn.Linear(123, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, outputs)
        )  # fmt: skip

    def forward(self, means: Tensor) -> Tensor:
        """Returns logits [batch, outputs] of mean coefficients [batch, coefficients]."""
        states, _ = self.lstm(torch.stack([means, torch.ones_like(means)], dim=2))
        logits: Tensor = self.head(states[:, -1])
        return logits
